"""Structures on mirror planes: real matrices in place of complex ones, and the same answers."""

import numpy as np
import pytest
import scipy.linalg

from parmlip.errors import ParmlipError
from parmlip.potentials import tight_binding
from parmlip.potentials.tight_binding_mirror import PLANAR, gauged, real_gauge
from tests.potentials.tight_binding_cells import evaluate, silicon

A = 5.43
PERIOD = A / np.sqrt(2.0)


def strip(normal=2, shift=0.0):
    """Eight sites of silicon in a cell one period thick along [1-10], which is axis `normal`; moved within planes."""
    b = A / np.sqrt(2.0)
    basis_ac = np.array([[0, 0, 0], [0, 0.25 * A, 0.5 * b], [0.5 * b, 0.5 * A, 0.5 * b], [0.5 * b, 0.75 * A, b]])
    positions_ac = np.concatenate([basis_ac, basis_ac + [b, 0.0, 0.0]])
    positions_ac[:, :2] += np.random.default_rng(4).uniform(-0.1, 0.1, (8, 2))
    positions_ac[:, 2] += shift
    order = {2: [0, 1, 2], 0: [2, 0, 1], 1: [0, 2, 1]}[normal]
    cell_cc = np.diag([2.0 * b, A, PERIOD])
    return cell_cc[np.ix_(order, order)], positions_ac[:, order]


def mesh(normal, n=5):
    return tuple(n if c == normal else 1 for c in range(3))


@pytest.mark.parametrize("normal", [0, 1, 2])
@pytest.mark.parametrize("shift", [0.0, 0.37])
def test_matrices_of_sites_on_mirror_planes_are_real_in_their_gauge(normal, shift):
    cell_cc, positions_ac = strip(normal, shift)
    k_c = np.where(np.arange(3) == normal, 0.2, 0.0)
    matrices = silicon().matrices(cell_cc, (True, True, True), positions_ac, k_c)
    gauge_x = real_gauge(cell_cc, positions_ac, k_c)
    for matrix_xy in matrices:
        assert np.abs(matrix_xy.imag).max() > 0.01
        turned_xy = gauge_x.conj()[:, None] * matrix_xy * gauge_x
        assert np.abs(turned_xy.imag).max() < 1e-13 * np.abs(matrix_xy).max() * len(matrix_xy)
        np.testing.assert_array_equal(gauged(matrix_xy, gauge_x), turned_xy.real)


@pytest.mark.parametrize("normal", [0, 2])
def test_energies_forces_and_virials_are_those_of_complex_matrices(monkeypatch, normal):
    cell_cc, positions_ac = strip(normal, 0.2)
    law = silicon(electronic_temperature=0.2, fermi_level=5.9, k_points=mesh(normal), k_scheme="gamma_centred")
    real = evaluate(law, cell_cc, positions_ac)
    gauges = law.states(cell_cc, (True, True, True), positions_ac).gauge_k
    assert [g is None for g in gauges] == [True, False, False]
    monkeypatch.setattr(tight_binding, "real_gauge", lambda *_: None)
    plain = evaluate(law, cell_cc, positions_ac)
    assert real.energy == pytest.approx(plain.energy, rel=1e-13)
    assert np.abs(plain.forces_ac).max() > 0.5
    for name in ("forces_ac", "virial_cc", "site_energies_a"):
        np.testing.assert_allclose(getattr(real, name), getattr(plain, name), rtol=0, atol=1e-11)


def test_forces_of_sites_just_off_their_planes_are_within_a_millionth_of_their_own(monkeypatch):
    cell_cc, positions_ac = strip()
    positions_ac[:, 2] += 0.9 * PLANAR * np.array([0, 1, -1, 1, -1, 1, -1, 1]) / 2.0
    law = silicon(electronic_temperature=0.2, k_points=(1, 1, 3), k_scheme="gamma_centred")
    real = evaluate(law, cell_cc, positions_ac)
    monkeypatch.setattr(tight_binding, "real_gauge", lambda *_: None)
    plain = evaluate(law, cell_cc, positions_ac)
    assert 0.0 < np.abs(real.forces_ac - plain.forces_ac).max() < 1e-6


def test_there_is_no_gauge_off_the_planes_in_skewed_cells_and_at_general_points():
    cell_cc, positions_ac = strip()
    k_c = np.array([0.0, 0.0, 0.25])
    assert real_gauge(cell_cc, positions_ac, k_c) is not None
    off_ac = positions_ac.copy()
    off_ac[3, 2] += 1e-5
    assert real_gauge(cell_cc, off_ac, k_c) is None
    assert real_gauge(cell_cc, positions_ac, np.array([0.25, 0.0, 0.25])) is None
    for i, j in ((2, 0), (0, 2)):
        skew_cc = cell_cc.copy()
        skew_cc[i, j] = 0.1
        assert real_gauge(skew_cc, positions_ac, k_c) is None


@pytest.mark.mpi
def test_ranks_share_the_k_points(comm):
    cell_cc, positions_ac = strip()
    for skew in (0.0, 0.1):  # with the gauge, and without
        cell_cc[2, 0] = skew
        law = silicon(electronic_temperature=0.2, k_points=(1, 1, 5), k_scheme="gamma_centred")
        alone, shared = (evaluate(one, cell_cc, positions_ac) for one in (law, law.shared(comm)))
        n_points = [v_xs.size > 0 for v_xs in law.shared(comm).states(cell_cc, (True, True, True), positions_ac).real_k]
        assert sum(n_points) in {3 // comm.size, -(-3 // comm.size)}
        assert comm.allreduce(sum(n_points)) == 3
        assert shared.energy == pytest.approx(alone.energy, rel=1e-13)
        for name in ("forces_ac", "virial_cc", "site_energies_a"):
            np.testing.assert_allclose(getattr(shared, name), getattr(alone, name), rtol=0, atol=1e-11)


@pytest.mark.mpi
def test_a_rank_that_fails_at_its_k_point_ends_the_work_of_all(comm, monkeypatch):
    cell_cc, positions_ac = strip()
    law = silicon(electronic_temperature=0.2, k_points=(1, 1, 5), k_scheme="gamma_centred").shared(comm)
    solve = scipy.linalg.eigh

    def failing(*args, **options):
        if comm.rank == 0:
            raise np.linalg.LinAlgError("not positive definite")
        return solve(*args, **options)

    monkeypatch.setattr(scipy.linalg, "eigh", failing)
    with pytest.raises(ParmlipError, match="not positive definite"):
        evaluate(law, cell_cc, positions_ac)
