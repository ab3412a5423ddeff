"""Local density matrices of tight binding against the dense evaluator."""

import re

import numpy as np
import pytest

from parmlip.config import loads
from parmlip.construct import total_law
from parmlip.errors import ConfigError, DataError
from parmlip.potentials.tight_binding import NRLTightBinding, builtin
from parmlip.potentials.tight_binding_contour import ContourTightBinding, cluster_of

PERIODIC = (True, True, True)
WARM = {"electronic_temperature": 0.3}


def silicon(n, rattle=0.05, seed=0):
    """Cell and positions of n x n x n cubic cells, rattled."""
    basis_bc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    basis_bc = np.vstack([basis_bc, basis_bc + 0.25])
    cells_xc = np.array(list(np.ndindex(n, n, n)))
    positions_ac = 5.43 * (cells_xc[:, None] + basis_bc).reshape(-1, 3)
    return n * 5.43 * np.eye(3), positions_ac + np.random.default_rng(seed).uniform(-rattle, rattle, positions_ac.shape)


def evaluate(law, cell_cc, positions_ac):
    return law.evaluate(cell_cc, PERIODIC, positions_ac, ["Si"] * len(positions_ac))


@pytest.mark.parametrize("options", [{}, {"fermi_level": 5.9}, {"charge": 1.0}], ids=["canonical", "fixed", "charged"])
@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_contour_on_the_whole_cell_is_the_dense_evaluator(options, temperature):
    cell_cc, positions_ac = silicon(2)
    law = builtin("Si-NRLTB", electronic_temperature=temperature, **options)
    dense, contour = evaluate(law, cell_cc, positions_ac), evaluate(ContourTightBinding(law), cell_cc, positions_ac)
    assert abs(dense.energy - contour.energy) / 64 < 1e-8
    np.testing.assert_allclose(contour.site_energies_a, dense.site_energies_a, rtol=0, atol=1e-8)
    np.testing.assert_allclose(contour.forces_ac, dense.forces_ac, rtol=0, atol=1e-8)
    np.testing.assert_allclose(contour.virial_cc, dense.virial_cc, rtol=0, atol=1e-6)


def test_contour_takes_the_laws_k_points():
    cell_cc, positions_ac = silicon(1)
    law = builtin("Si-NRLTB", k_points=(2, 3, 1), **WARM)
    dense, contour = evaluate(law, cell_cc, positions_ac), evaluate(ContourTightBinding(law), cell_cc, positions_ac)
    np.testing.assert_allclose(contour.site_energies_a, dense.site_energies_a, rtol=0, atol=1e-8)
    np.testing.assert_allclose(contour.forces_ac, dense.forces_ac, rtol=0, atol=1e-8)


def test_nodes_and_states_of_a_cluster_give_the_same_columns():
    cell_cc, positions_ac = silicon(2)
    law = builtin("Si-NRLTB", fermi_level=5.9, **WARM)
    cluster = cluster_of(law.blocks(cell_cc, PERIODIC, positions_ac), 3, 7.0)
    laws = [ContourTightBinding(law, 7.0, method) for method in ("eigen", "contour")]
    eigen, contour = (x.columns(cluster, x._functions(5.9), 5.9) for x in laws)
    for a, b in zip(eigen, contour, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-8)


def test_the_matrices_of_a_cluster_are_principal_submatrices_of_the_structure():
    cell_cc, positions_ac = silicon(3)
    law = builtin("Si-NRLTB")
    blocks = law.blocks(cell_cc, (False, False, False), positions_ac)
    cluster = cluster_of(blocks, 11, 9.0)
    row = (4 * cluster.site_m[:, None] + np.arange(4)).ravel()
    assert 4 < len(cluster.site_m) < len(positions_ac)
    for mine, whole in zip((cluster.hopping, cluster.overlap), blocks.matrices(), strict=True):
        np.testing.assert_allclose(mine.toarray(), whole[np.ix_(row, row)], rtol=0, atol=1e-14)


def test_energies_and_forces_of_clusters_converge_exponentially_to_the_dense_ones():
    cell_cc = 0.5 * 5.43 * (np.ones((3, 3)) - np.eye(3))
    positions_ac = np.array([[0.0, 0.0, 0.0], [1.45, 1.30, 1.40]])
    law = builtin("Si-NRLTB", fermi_level=5.9, k_points=(7, 7, 7), k_scheme="gamma_centred", electronic_temperature=1.0)
    dense = evaluate(law, cell_cc, positions_ac)
    radii = [6.7, 8.5, 10.3, 12.1]
    clusters = [evaluate(ContourTightBinding(law, r), cell_cc, positions_ac) for r in radii]
    energy_r = [np.abs(c.site_energies_a - dense.site_energies_a).max() for c in clusters]
    force_r = [np.abs(c.forces_ac - dense.forces_ac).max() for c in clusters]
    # decay per angstrom: measured 0.88 and 0.55
    assert -np.polyfit(radii, np.log(energy_r), 1)[0] > 0.7
    assert -np.polyfit(radii, np.log(force_r), 1)[0] > 0.4
    assert energy_r[-1] < 1e-4
    assert force_r[-1] < 1e-3
    assert max(np.abs(c.forces_ac.sum(axis=0)).max() for c in clusters) < 1e-11


def test_the_centres_of_the_clusters_hold_the_electrons_of_the_structure():
    cell_cc, positions_ac = silicon(1)
    law = ContourTightBinding(builtin("Si-NRLTB", charge=0.5, **WARM), 7.0)
    blocks = law.law.blocks(cell_cc, PERIODIC, positions_ac)
    level = law.fermi_level(blocks)
    clusters = [cluster_of(blocks, a, 7.0) for a in range(8)]
    columns = [law.columns(c, law._functions(level)[:1], level)[0] for c in clusters]
    charge = sum(2.0 * np.sum(c.overlap[:4].toarray() * x.T) for c, x in zip(clusters, columns, strict=True))
    assert charge == pytest.approx(8 * 4 - 0.5, abs=1e-9)


def test_site_energies_are_invariant_under_rotation_and_relabelling():
    cell_cc, positions_ac = silicon(1, rattle=0.1)
    law = ContourTightBinding(builtin("Si-NRLTB", fermi_level=5.9, **WARM), 7.0)
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    order = np.random.default_rng(2).permutation(8)
    one = evaluate(law, cell_cc, positions_ac)
    other = evaluate(law, cell_cc @ turn, positions_ac[order] @ turn)
    np.testing.assert_allclose(other.site_energies_a, one.site_energies_a[order], rtol=0, atol=1e-10)
    np.testing.assert_allclose(other.forces_ac, one.forces_ac[order] @ turn, rtol=0, atol=1e-10)


@pytest.mark.mpi
@pytest.mark.parametrize("radius", [None, 7.0], ids=["whole cell", "clusters"])
def test_results_do_not_depend_on_the_number_of_ranks(radius, comm):
    cell_cc, positions_ac = silicon(1)
    positions_ac = np.delete(positions_ac, [1, 2, 4, 5, 7], axis=0)  # three sites: the fourth rank has none
    law = builtin("Si-NRLTB", **WARM)
    alone = evaluate(ContourTightBinding(law, radius), cell_cc, positions_ac)
    shared = evaluate(ContourTightBinding(law, radius, comm=comm), cell_cc, positions_ac)
    assert shared.energy == pytest.approx(alone.energy, rel=1e-11)
    np.testing.assert_allclose(shared.forces_ac, alone.forces_ac, rtol=0, atol=1e-10)
    np.testing.assert_allclose(shared.site_energies_a, alone.site_energies_a, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "law_options", "message"),
    [
        ({}, {"electronic_temperature": 0.0}, "electronic_temperature = 0"),
        ({}, {"convention": "band_energy"}, 'convention = "band_energy"'),
        ({"cluster_radius": 5.0}, {}, r"cluster_radius = 5 must be at least the law's cutoff, 6.615 A"),
        ({"method": "fast"}, {}, "method = 'fast' is unknown"),
    ],
)
def test_what_has_no_meaning_is_refused(options, law_options, message):
    with pytest.raises(ConfigError, match=message):
        ContourTightBinding(builtin("Si-NRLTB", **law_options), **options)


def test_bad_structures_are_refused():
    cell_cc, positions_ac = silicon(1)
    law = ContourTightBinding(builtin("Si-NRLTB"), 7.0)
    with pytest.raises(ConfigError, match="no parameters for C"):
        law.evaluate(cell_cc, PERIODIC, positions_ac, ["C"] * 8)
    with pytest.raises(DataError, match="without sites"):
        law.evaluate(cell_cc, PERIODIC, np.zeros((0, 3)), [])
    with pytest.raises(DataError, match="100 electrons do not fit"):
        evaluate(ContourTightBinding(builtin("Si-NRLTB", charge=-68.0), 7.0), cell_cc, positions_ac)


INPUT = """
[run]
stages = ["build"]
[crystal]
lattice = "diamond"
species = ["Si"]
lattice_constant = 5.43
[simulation]
cell = [1, 1, 1]
[reference]
kind = "tight_binding"
parameters = "Si-NRLTB"
"""


def test_the_input_chooses_the_evaluator():
    assert isinstance(total_law(loads(INPUT)), NRLTightBinding)
    law = total_law(loads(INPUT + 'evaluator = "contour"\ncluster_radius = 7.5\nfermi_level = 5.9\n'))
    assert isinstance(law, ContourTightBinding)
    assert (law.cluster_radius, law.law.electrons.fermi_level) == (7.5, 5.9)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("cluster_radius = 7.5", '[reference] cluster_radius = 7.5: is for evaluator = "contour", not "dense"'),
        (
            'evaluator = "contour"\nelectronic_temperature = 0.0',
            "[reference] electronic_temperature = 0.0: must be above",
        ),
        ('evaluator = "contour"\nconvention = "band_energy"', '[reference] convention = "band_energy": evaluator'),
    ],
)
def test_the_input_is_checked_before_any_work(lines, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        loads(INPUT + lines + "\n")
