"""Energy, forces and Hessian of distributed supercells."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConfigError, GeometryError
from parmlip.mechanics import domain, hessian
from parmlip.mechanics.energy import Energy
from parmlip.potentials.eam import builtin


def tungsten(repeats: int, vacancies: int = 1):
    """bcc W with vacancies on the body diagonal."""
    perfect = build_supercell(LATTICES["bcc"], 3.165, (repeats,) * 3, ("W",))
    return apply_defects(perfect, [Vacancy(at=(2 * i, 2 * i, 2 * i)) for i in range(vacancies)])


def triangular():
    """2D W with a vacancy."""
    perfect = build_supercell(LATTICES["triangular"], 2.727, (5, 6, 1), ("W",))
    return apply_defects(perfect, [Vacancy(at=(0, 0, 0))])


CELLS = {"4x4x4": tungsten(4), "one cell, smaller than the cutoff": tungsten(1, 0), "triangular": triangular()}


def displaced(energy: Energy, amplitude: float = 0.05, seed: int = 3) -> np.ndarray:
    """Random displacements that depend on the global site only."""
    shape = (energy.supercell.n_sites, energy.dimension)
    return energy.sites.restrict(np.random.default_rng(seed).uniform(-amplitude, amplitude, shape))


@pytest.fixture(scope="module")
def law():
    """Smooth control of POTENTIALS.md, tapered so that lists are short."""
    return builtin("W-Zhou", taper=(5.0, 6.0))


def order_of(errors: list[float], steps: list[float]) -> float:
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_forces_are_the_gradient_to_second_order(law, cell):
    energy = Energy(law, CELLS[cell], comm=MPI.COMM_SELF)
    u = displaced(energy)
    v = displaced(energy, 1.0, seed=4)
    exact = -np.sum(energy.difference_and_forces(u)[1] * v)
    steps = [4e-3, 2e-3, 1e-3]
    errors = [abs((energy.difference(u + h * v) - energy.difference(u - h * v)) / (2 * h) - exact) for h in steps]
    assert order_of(errors, steps) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("cell", CELLS)
def test_hessian_is_the_derivative_of_the_forces_to_second_order(law, cell):
    energy = Energy(law, CELLS[cell], comm=MPI.COMM_SELF)
    u = displaced(energy)
    v = displaced(energy, 1.0, seed=4)
    matrix = hessian.assembled(energy, u)
    x, y = matrix.createVecs()
    x.setArray(v.reshape(-1))
    matrix.mult(x, y)
    exact = y.getArray().reshape(-1, energy.dimension)
    steps = [4e-3, 2e-3, 1e-3]
    forces = [[energy.difference_and_forces(u + s * h * v)[1] for s in (1, -1)] for h in steps]
    errors = [np.linalg.norm((b - a) / (2 * h) - exact) for (a, b), h in zip(forces, steps, strict=True)]
    assert order_of(errors, steps) == pytest.approx(2.0, abs=0.1)


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_distributed_energy_forces_and_virial_equal_the_serial_ones(law, comm, cell):
    serial = Energy(law, CELLS[cell], comm=MPI.COMM_SELF)
    whole = Energy(law, CELLS[cell], comm=comm)
    e_serial, f_serial = serial.difference_and_forces(displaced(serial))
    e_whole, f_whole = whole.difference_and_forces(displaced(whole))
    scale = np.abs(f_serial).max()
    worst = np.abs(f_whole - f_serial[whole.sites.global_n]).max(initial=0.0)
    assert e_whole == pytest.approx(e_serial, rel=1e-10)
    assert comm.allreduce(worst, MPI.MAX) < 1e-10 * scale
    np.testing.assert_allclose(whole.virial(displaced(whole)), serial.virial(displaced(serial)), atol=1e-10)


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_assembled_and_matrix_free_hessian_agree_on_any_number_of_ranks(law, comm, cell):
    serial = Energy(law, CELLS[cell], comm=MPI.COMM_SELF)
    dense = hessian.assembled(serial, displaced(serial)).convert("dense").getDenseArray()
    assert np.abs(dense - dense.T).max() < 1e-12 * np.abs(dense).max()
    v = np.random.default_rng(8).normal(size=(serial.sites.n_sites, serial.dimension))
    expected = (dense @ v.reshape(-1)).reshape(v.shape)
    energy = Energy(law, CELLS[cell], comm=comm)
    u = displaced(energy)
    for matrix in (hessian.assembled(energy, u), hessian.operator(energy, u)):
        x, y = matrix.createVecs()
        x.getArray()[:] = energy.sites.restrict(v).reshape(-1)
        matrix.mult(x, y)
        got = y.getArray().reshape(-1, energy.dimension)
        worst = np.abs(got - expected[energy.sites.global_n]).max(initial=0.0)
        assert comm.allreduce(worst, MPI.MAX) < 1e-10 * np.abs(expected).max()
        assert matrix.getBlockSize() == energy.dimension


@pytest.mark.mpi
def test_translations_are_the_null_space(law, comm):
    energy = Energy(law, CELLS["4x4x4"], comm=comm)
    matrix = hessian.assembled(energy, displaced(energy))
    assert matrix.getNullSpace().test(matrix)
    assert matrix.getType() in (PETSc.Mat.Type.SEQAIJ, PETSc.Mat.Type.MPIAIJ)


@pytest.mark.mpi
def test_pattern_is_reused_until_the_pair_lists_change(law, comm):
    energy = Energy(law, CELLS["4x4x4"], comm=comm, margin=0.1)
    pattern = hessian.HessianPattern(energy)
    u = displaced(energy, 0.4)
    fresh = hessian.assembled(energy, u)
    stale = hessian.assembled(energy, u, pattern)
    assert pattern.builds != energy.builds
    fresh.axpy(-1.0, stale)
    assert fresh.norm() < 1e-12 * stale.norm()


@pytest.mark.mpi
def test_large_displacements_renew_the_pair_lists(law, comm):
    narrow = Energy(law, CELLS["4x4x4"], comm=comm, margin=0.05)
    wide = Energy(law, CELLS["4x4x4"], comm=comm, margin=2.0)
    u = displaced(narrow, 0.3)
    assert narrow.difference(u) == pytest.approx(wide.difference(u), rel=1e-12)
    assert narrow.builds == 2
    assert wide.builds == 1


@pytest.mark.mpi
@pytest.mark.parametrize("cell", CELLS)
def test_lists_made_piece_by_piece_are_those_made_at_once(law, comm, cell, monkeypatch):
    once = Energy(law, CELLS[cell], comm=comm)
    u = displaced(once, 0.3)  # renews the lists
    e, f = once.difference_and_forces(u)
    monkeypatch.setattr(domain, "_SITES_OF_PIECE", 7)
    monkeypatch.setattr(domain, "_PIECES", 1000)
    monkeypatch.setattr(domain, "_PAIRS_TO_NUMBER", 100)
    monkeypatch.setattr(domain, "_SPARE", 1.0)  # lists are lengthened more than once
    pieces = Energy(law, CELLS[cell], comm=comm)
    assert pieces.difference_and_forces(u)[0] == pytest.approx(e, rel=1e-12)
    np.testing.assert_allclose(pieces.difference_and_forces(u)[1], f, atol=1e-11)
    for name in ("first_n", "site_p", "bond_pc"):
        np.testing.assert_array_equal(getattr(pieces.domain, name), getattr(once.domain, name))
    np.testing.assert_array_equal(pieces.domain.halo.global_m, once.domain.halo.global_m)


@pytest.mark.mpi
@pytest.mark.parametrize("shape", ["long", "oblique"])
def test_a_rank_that_looks_near_its_own_sites_alone_finds_the_same(law, comm, shape):
    """Cells that are longer than a rank's share and its surroundings, also where sites have left the cell."""
    cell = build_supercell(LATTICES["bcc"], 3.165, (13, 2, 3), ("W",))
    if shape == "oblique":
        tilt = np.array([[1.0, 0.0, 0.0], [0.2, 1.0, 0.0], [-0.1, 0.3, 1.0]])
        cell = replace(cell, cell_cc=cell.cell_cc @ tilt, positions_ac=cell.positions_ac @ tilt, grid=None)
    alone, shared = Energy(law, cell, comm=MPI.COMM_SELF), Energy(law, cell, comm=comm)
    u = np.random.default_rng(5).uniform(-0.4, 0.4, (cell.n_sites, 3)) - [1.5, 0.0, 0.0]
    e, f = alone.difference_and_forces(u)
    e_shared, f_shared = shared.difference_and_forces(shared.sites.restrict(u))
    assert shared.builds == 2
    assert e_shared == pytest.approx(e, rel=1e-11)
    np.testing.assert_allclose(f_shared, f[shared.sites.global_n], atol=1e-10)
    looked = domain._near(cell, cell.positions_ac, 6.5, shared.sites.global_n)
    assert (looked is None) == (comm.size == 1)
    assert comm.size < 3 or len(looked[0]) < cell.n_sites


@pytest.mark.mpi
def test_an_energy_whose_lists_could_not_be_renewed_makes_them_at_the_next_call(law, comm, monkeypatch):
    energy = Energy(law, CELLS["4x4x4"], comm=comm, margin=0.05)
    u = displaced(energy, 0.3)

    def fails(*_, **__):
        raise GeometryError("sites coincide")

    with monkeypatch.context() as patch:
        patch.setattr(domain, "find_pairs", fails)
        with pytest.raises(GeometryError):
            energy.difference(u)
    assert energy.difference(0.0 * u) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.mpi
def test_forces_sum_to_zero_and_translations_cost_nothing(law, comm):
    energy = Energy(law, CELLS["4x4x4"], comm=comm)
    u = displaced(energy)
    e, f = energy.difference_and_forces(u)
    assert np.abs(comm.allreduce(f.sum(axis=0))).max() < 1e-12
    assert energy.difference(u + 0.2) == pytest.approx(e, rel=1e-11)


@pytest.mark.mpi
def test_nan_and_colliding_sites_end_on_every_rank_with_a_name(comm):
    energy = Energy(builtin("W-EAM4"), CELLS["4x4x4"], comm=comm)
    u = displaced(energy)
    if comm.rank == comm.size - 1:
        u[0, 0] = np.nan
    with pytest.raises(GeometryError, match="not finite"):
        energy.difference(u)
    everything = np.zeros((energy.supercell.n_sites, 3))
    everything[7] = energy.supercell.positions_ac[11] - energy.supercell.positions_ac[7] + 0.1
    with pytest.raises(GeometryError, match=r"sites (7 and 11|11 and 7) are 0\.17"):
        energy.difference(energy.sites.restrict(everything))


def test_law_without_parameters_for_a_species_is_refused(law):
    copper = build_supercell(LATTICES["fcc"], 3.6, (2, 2, 2), ("Cu",))
    with pytest.raises(ConfigError, match="no parameters for species 'Cu'"):
        Energy(law, copper, comm=MPI.COMM_SELF)
