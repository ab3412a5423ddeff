"""Stillinger-Weber laws against LAMMPS and matscipy, and the properties of their derivatives."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.lattices import LATTICES
from parmlip.errors import ConfigError, GeometryError
from parmlip.mechanics.bulk import bulk_properties
from parmlip.potentials.base import BlockPattern, Environments, complex_step
from parmlip.potentials.stillinger_weber import EPSILON, SILICON, builtin, stillinger_weber
from parmlip.units import GPA_PER_EV_A3
from tests.potentials.eam_cells import crystal, full_pattern
from tests.potentials.silicon_cells import DIAMOND, ORACLES, orders, relabelled, stored, turned, vacancy

NAMES = ["Si-SW", "Si-SW-2.1675"]


def two_species():
    """An invented law of two elements, with a gamma that depends on the centre and a power that is not whole."""
    si = SILICON
    carbon = replace(si, sigma=1.8, epsilon=3.0, p=4.5)
    pair = {("Si", "Si"): si, ("C", "C"): carbon, ("Si", "C"): replace(si, sigma=1.9)}
    pair["C", "Si"] = replace(pair["Si", "C"], gamma=1.0)
    triplets = {}
    for s in ("Si", "C"):
        for t in ("Si", "C"):
            for u in ("Si", "C"):
                triplets[s, t, u] = pair[s, t] if t == u else replace(si, strength=15.0, cosine=-0.2)
    return stillinger_weber(("Si", "C"), triplets)


# Beside the four neighbours the second shell is within the cutoff in a compressed cell.
CELLS = {
    "silicon": lambda: crystal(builtin("Si-SW"), DIAMOND, 5.0, rattle=0.1),
    "images of the centre": lambda: crystal(builtin("Si-SW"), DIAMOND, 4.6, repeats=1, rattle=0.05),
    "two elements": lambda: crystal(two_species(), DIAMOND, 4.9, rattle=0.1, species_b=4 * [0] + 4 * [1]),
}


@pytest.mark.parametrize(("name", "part"), [("Si-SW", "rattled"), ("Si-SW-2.1675", "rattled"), ("Si-SW", "dense")])
def test_energy_forces_and_virial_agree_with_lammps(name, part):
    data, cell = stored(builtin(name), name, part)
    assert cell.energy() == pytest.approx(data["energy_eV"], rel=1e-9)
    np.testing.assert_allclose(-cell.gradient(), data["forces_eV_A"], rtol=0, atol=1e-7)
    if part == "rattled":
        np.testing.assert_allclose(cell.virial(), data["virial_eV"], rtol=0, atol=1e-7)


def test_the_hessian_agrees_with_matscipy():
    data, cell = stored(builtin("Si-SW-2.1675"), "Si-SW-2.1675", "hessian")
    assert cell.energy() == pytest.approx(data["energy_eV"], rel=1e-9)
    np.testing.assert_allclose(cell.hessian(), data["hessian_eV_A2"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_lattice_constant_energy_and_elastic_constants_are_those_of_lammps(name):
    data = ORACLES[name]
    bulk = bulk_properties(builtin(name), LATTICES["diamond"], ("Si",))
    assert bulk.lattice_constant == pytest.approx(data["lattice_constant_A"], rel=1e-9)
    assert bulk.energy_per_site == pytest.approx(data["energy_per_atom_eV"], rel=1e-9)
    for vv, key in ((bulk.clamped_vv, "C_GPa_clamped"), (bulk.relaxed_vv, "C_GPa_relaxed")):
        c11, c12, c44 = GPA_PER_EV_A3 * vv[[0, 0, 3], [0, 1, 3]]
        assert (c11, c12, c44) == pytest.approx([data[key][c] for c in ("C11", "C12", "C44")], abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_symmetric_vacancy_costs_the_cohesive_energy_and_stays(name):
    before, after, equilibrium = vacancy(builtin(name), MPI.COMM_SELF)
    data = ORACLES[name]["vacancy"]
    assert before == pytest.approx(data["Ef_unrelaxed_eV"], rel=1e-9)
    assert after == pytest.approx(data["Ef_relaxed_eV"], rel=1e-9)
    assert np.abs(equilibrium.u_nd).max() < 1e-8


def test_four_neighbours_pushed_inward_reach_the_lower_minimum():
    data = ORACLES["Si-SW-2.1675"]["inward_vacancy"]
    _, after, _ = vacancy(builtin("Si-SW-2.1675"), MPI.COMM_SELF, data["a"], repeats=2, inward=0.5)
    assert after == pytest.approx(data["Ef_eV"], abs=1e-8)


# -- derivatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_differences_of_energy_gradient_and_hessian_converge_to_their_derivatives_with_order_two(name):
    assert orders(CELLS[name](), np.array([4e-3, 2e-3, 1e-3])) == pytest.approx([2.0, 2.0, 2.0], abs=0.1)


@pytest.mark.parametrize("name", CELLS)
def test_the_tangent_is_the_complex_step_of_the_gradient_and_the_hessian_its_assembly(name):
    cell = CELLS[name]()
    environments = cell.environments()
    dr_pc = np.random.default_rng(3).normal(size=environments.r_pc.shape)
    exact = complex_step(cell.law, environments)(dr_pc)
    np.testing.assert_allclose(cell.law.linearised(environments)(dr_pc), exact, rtol=0, atol=1e-12 * abs(exact).max())
    hessian = cell.hessian()
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12 * abs(hessian).max())
    v_ac = np.random.default_rng(2).normal(size=cell.positions_ac.shape)
    expected = cell.hessian_times(np.zeros_like(v_ac), v_ac).ravel()
    np.testing.assert_allclose(hessian @ v_ac.ravel(), expected, atol=1e-11 * abs(expected).max())


def test_complex_vectors_give_the_third_derivative():
    cell = CELLS["silicon"]()
    v_ac = np.random.default_rng(4).normal(size=cell.positions_ac.shape)

    def blocks(u_ac):
        return cell.law.hessian_blocks(cell.environments(u_ac), cell.site_p, full_pattern(len(v_ac)))

    exact = blocks(1e-20j * v_ac).imag / 1e-20
    difference = (blocks(1e-5 * v_ac) - blocks(-1e-5 * v_ac)) / 2e-5
    np.testing.assert_allclose(difference, exact, atol=1e-6 * abs(exact).max())


def test_the_law_and_its_derivatives_go_to_zero_at_the_cutoff_without_overflow():
    law = builtin("Si-SW")
    for gap in (1e-2, 1e-3, 1e-6, 1e-12, 0.0):
        r = law.cutoff - gap
        near = np.array([[r, 0, 0], [0, r, 0], [2.35, 0.1, 0]])
        environments = Environments(np.array([0, 3]), near, np.zeros(1, int), np.zeros(3, int))
        _, g_pc = law.site_gradients(environments)
        assert np.abs(g_pc[:2]).max() < 1e-60
        assert np.isfinite(law.linearised(environments)(np.ones((3, 3)))).all()


# -- invariance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("determinant", [1.0, -1.0])
def test_site_energies_stay_and_gradients_turn_with_the_frame(name, determinant):
    cell = CELLS[name]()
    energies, g_pc = cell.law.site_gradients(cell.environments())
    q_cc, other = turned(cell.environments(), determinant)
    turned_energies, turned_g_pc = cell.law.site_gradients(other)
    np.testing.assert_allclose(turned_energies, energies, rtol=1e-12)
    np.testing.assert_allclose(turned_g_pc, g_pc @ q_cc, atol=1e-12 * abs(g_pc).max())
    np.testing.assert_allclose(cell.law.site_energies(cell.environments()), energies, rtol=1e-13)


@pytest.mark.parametrize("name", CELLS)
def test_relabelled_sites_have_the_same_energy_forces_and_hessian(name):
    cell = CELLS[name]()
    order_a, other = relabelled(cell)
    assert other.energy() == pytest.approx(cell.energy(), rel=1e-13)
    np.testing.assert_allclose(other.gradient(), cell.gradient()[order_a], atol=1e-11)
    rows = (3 * order_a[:, None] + np.arange(3)).ravel()
    np.testing.assert_allclose(other.hessian(), cell.hessian()[np.ix_(rows, rows)], atol=1e-10)


def test_two_species_with_the_constants_of_silicon_are_silicon():
    triplets = {(s, t, u): SILICON for s in ("Si", "Ge") for t in ("Si", "Ge") for u in ("Si", "Ge")}
    both = stillinger_weber(("Si", "Ge"), triplets)
    cell = crystal(both, DIAMOND, 5.0, rattle=0.1, species_b=4 * [0] + 4 * [1])
    np.testing.assert_array_equal(cell.gradient(), CELLS["silicon"]().gradient())


# -- edges -------------------------------------------------------------------------------------------------------------


def test_no_site_an_isolated_site_and_a_position_that_is_not_a_number():
    law = builtin("Si-SW")
    none = np.zeros(0, np.int64)
    alone = Environments(np.zeros(2, np.int64), np.zeros((0, 3)), np.zeros(1, np.int64), none)
    assert law.site_gradients(alone)[0][0] == 0.0
    empty = Environments(np.zeros(1, np.int64), np.zeros((0, 3)), none, none)
    assert len(law.site_energies(empty)) == 0
    assert law.linearised(empty)(np.zeros((0, 3))).shape == (0, 3)
    cell = CELLS["silicon"]()
    environments = cell.environments()
    environments.r_pc[3, 1] = np.nan
    energies, g_pc = law.site_gradients(environments)
    assert np.isnan(energies[0])
    assert np.isnan(law.site_energies(environments)[0])
    assert np.isnan(g_pc[3]).any()


def test_a_pattern_without_a_needed_block_is_an_error_that_names_the_remedy():
    cell = CELLS["silicon"]()
    n = len(cell.positions_ac)
    with pytest.raises(GeometryError, match="Si-SW: .* twice the cutoff, 7.54"):
        cell.law.hessian_blocks(cell.environments(), cell.site_p, BlockPattern(np.arange(n + 1), np.arange(n)))


def test_impossible_constants_are_refused():
    one = {("Si", "Si", "Si"): SILICON}
    with pytest.raises(ConfigError, match="triplet Si Si C"):
        stillinger_weber(("Si", "C"), one)
    with pytest.raises(ConfigError, match="sigma, a must be greater"):
        stillinger_weber(("Si",), {("Si", "Si", "Si"): replace(SILICON, sigma=0.0)})
    triplets = {(s, t, u): SILICON for s in ("Si", "C") for t in ("Si", "C") for u in ("Si", "C")}
    with pytest.raises(ConfigError, match="constants of Si Si C and Si C Si differ"):
        stillinger_weber(("Si", "C"), triplets | {("Si", "Si", "C"): replace(SILICON, cosine=0.0)})
    with pytest.raises(ConfigError, match="pair constants of Si C C and C Si Si differ"):
        stillinger_weber(("Si", "C"), triplets | {("Si", "C", "C"): replace(SILICON, A=6.0)})
    with pytest.raises(ConfigError, match="'Si'.*Si-SW"):
        builtin("Si")


def test_the_built_in_laws_differ_by_epsilon_alone():
    energies = [crystal(builtin(name), DIAMOND, 5.43, repeats=1).energy() / e for name, e in EPSILON.items()]
    assert energies == pytest.approx([energies[0]] * 3, rel=1e-14)
    assert builtin("Si-SW").cutoff == pytest.approx(1.8 * 2.0951)
