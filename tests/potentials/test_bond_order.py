"""Bond-order laws against LAMMPS, and the properties of their derivatives."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.lattices import LATTICES
from parmlip.errors import ConfigError, GeometryError
from parmlip.mechanics.bulk import bulk_properties
from parmlip.potentials.base import BlockPattern, Environments, complex_step
from parmlip.potentials.bond_order import SI_PPM2017, SI_TERSOFF1989, bond_order, builtin
from parmlip.units import GPA_PER_EV_A3
from tests.potentials.eam_cells import crystal, full_pattern
from tests.potentials.silicon_cells import ACCURATE, DIAMOND, ORACLES, orders, relabelled, stored, turned, vacancy

# Tersoff, Phys. Rev. B 37, 6991 (1988): with the exponential and other angles.
TERSOFF1988 = replace(
    SI_TERSOFF1989, A=3264.7, B=95.373, lambda1=3.2394, lambda2=1.3258, beta=0.33675, eta=22.956, delta=0.5 / 22.956,
    alpha=1.3258, R=3.0, D=0.2, angular=(0.0, 1.0, 4.8381, 2.0417, 0.0, 0.0),
)  # fmt: skip
# Kumagai et al., Comput. Mater. Sci. 39, 457 (2007): first power in the exponential.
KUMAGAI2007 = replace(
    SI_PPM2017, A=3281.5905, B=121.00047, lambda1=3.2300135, lambda2=1.345797, eta=1.0, delta=0.5 / 0.93810551,
    alpha=2.3890327, m=1, R=3.0, D=0.3, shift=0.0, angular=(-0.365, 0.20173476, 730418.72, 1e6, 1.0, 26.0),
)  # fmt: skip
LAWS = {
    "Si-PPM2017": lambda: builtin("Si-PPM2017"),
    "Si-Tersoff1989": lambda: builtin("Si-Tersoff1989"),
    "Si-Tersoff1988": lambda: bond_order(TERSOFF1988),
    "Si-Kumagai2007": lambda: bond_order(KUMAGAI2007),
}


def dense(name, repeats=2, seed=1):
    """A compressed cell: the second shell is in the range of the cutoff function."""
    return crystal(LAWS[name](), DIAMOND, 4.6, repeats=repeats, rattle=0.1, seed=seed)


def test_energy_forces_and_virial_agree_with_lammps_on_a_rattled_cell():
    data, cell = stored(builtin("Si-PPM2017"), "Si-PPM2017", "rattled")
    assert cell.energy() == pytest.approx(data["energy_eV"], rel=1e-9)
    np.testing.assert_allclose(-cell.gradient(), data["forces_eV_A"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(cell.virial(), data["virial_eV"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", LAWS)
def test_energy_and_forces_agree_with_lammps_where_the_cutoff_function_acts(name):
    data, cell = stored(LAWS[name](), name, "dense")
    assert cell.energy() == pytest.approx(data["energy_eV"], rel=1e-9)
    np.testing.assert_allclose(-cell.gradient(), data["forces_eV_A"], rtol=0, atol=1e-7)


def test_lattice_constant_energy_and_elastic_constants_are_those_of_lammps():
    data = ORACLES["Si-PPM2017"]
    bulk = bulk_properties(builtin("Si-PPM2017"), LATTICES["diamond"], ("Si",))
    assert bulk.lattice_constant == pytest.approx(data["lattice_constant_A"], rel=1e-9)
    assert bulk.energy_per_site == pytest.approx(data["energy_per_atom_eV"], rel=1e-9)
    for vv, key in ((bulk.clamped_vv, "C_GPa_clamped"), (bulk.relaxed_vv, "C_GPa_relaxed")):
        c11, c12, c44 = GPA_PER_EV_A3 * vv[[0, 0, 3], [0, 1, 3]]
        assert (c11, c12, c44) == pytest.approx([data[key][c] for c in ("C11", "C12", "C44")], abs=1e-3)


def test_the_relaxed_vacancy_has_the_formation_energy_of_lammps():
    _, after, equilibrium = vacancy(builtin("Si-PPM2017"), MPI.COMM_SELF)
    assert equilibrium.converged
    assert after == pytest.approx(ORACLES["Si-PPM2017"]["vacancy"]["Ef_relaxed_eV"], abs=5e-6)


@pytest.mark.mpi(2, 3)
def test_the_vacancy_is_the_same_on_any_number_of_ranks_and_with_an_assembled_hessian(comm):
    law = builtin("Si-PPM2017")
    expected = vacancy(law, MPI.COMM_SELF, repeats=3)[:2]
    for hessian in ("matrix_free", "assembled"):
        settings = replace(ACCURATE, hessian=hessian)
        assert vacancy(law, comm, repeats=3, settings=settings)[:2] == pytest.approx(expected, abs=1e-10)


def test_the_two_readings_of_the_exponent_differ_where_bonds_differ_in_length_only():
    lammps, published = builtin("Si-PPM2017"), builtin("Si-PPM2017", "published")
    bonds = np.array([[2.35, 0.0, 0.0], [-0.8, 2.2, 0.0]])
    bonds[1] *= 2.35 / np.linalg.norm(bonds[1])

    def energy(law, factor):
        r_pc = bonds * [[1.0], [factor]]
        return law.site_energies(Environments(np.array([0, 2]), r_pc, np.zeros(1, int), np.zeros(2, int)))[0]

    assert energy(lammps, 1.0) == pytest.approx(energy(published, 1.0), rel=1e-14)
    difference = energy(lammps, 1.0 + 0.08 / 2.35) - energy(published, 1.0 + 0.08 / 2.35)
    assert 1e-6 < abs(difference) < 1e-4


# -- derivatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Si-PPM2017", "Si-Kumagai2007"])
def test_differences_of_energy_gradient_and_hessian_converge_to_their_derivatives_with_order_two(name):
    assert orders(dense(name), np.array([4e-4, 2e-4, 1e-4])) == pytest.approx([2.0, 2.0, 2.0], abs=0.1)


@pytest.mark.parametrize("name", ["Si-Tersoff1989", "Si-Tersoff1988"])
def test_within_its_cutoff_ranges_tersoffs_form_has_order_two(name):
    # his cutoff function has a jump in the second derivative, so no distance may cross its ends
    cell = crystal(LAWS[name](), DIAMOND, 5.3, rattle=0.05)
    assert orders(cell, np.array([4e-3, 2e-3, 1e-3])) == pytest.approx([2.0, 2.0, 2.0], abs=0.1)


@pytest.mark.parametrize("name", LAWS)
def test_the_tangent_is_the_complex_step_of_the_gradient_and_the_hessian_its_assembly(name):
    cell = dense(name)
    environments = cell.environments()
    dr_pc = np.random.default_rng(3).normal(size=environments.r_pc.shape)
    exact = complex_step(cell.law, environments)(dr_pc)
    np.testing.assert_allclose(cell.law.linearised(environments)(dr_pc), exact, rtol=0, atol=1e-11 * abs(exact).max())
    hessian = cell.hessian()
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12 * abs(hessian).max())
    v_ac = np.random.default_rng(2).normal(size=cell.positions_ac.shape)
    expected = cell.hessian_times(np.zeros_like(v_ac), v_ac).ravel()
    np.testing.assert_allclose(hessian @ v_ac.ravel(), expected, atol=1e-11 * abs(expected).max())


def test_complex_vectors_give_the_third_derivative():
    cell = dense("Si-PPM2017")
    v_ac = np.random.default_rng(4).normal(size=cell.positions_ac.shape)

    def blocks(u_ac):
        return cell.law.hessian_blocks(cell.environments(u_ac), cell.site_p, full_pattern(len(v_ac)))

    exact = blocks(1e-20j * v_ac).imag / 1e-20
    difference = (blocks(1e-6 * v_ac) - blocks(-1e-6 * v_ac)) / 2e-6
    np.testing.assert_allclose(difference, exact, atol=1e-5 * abs(exact).max())


# -- invariance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("determinant", [1.0, -1.0])
def test_site_energies_stay_and_gradients_turn_with_the_frame(name, determinant):
    cell = dense(name)
    energies, g_pc = cell.law.site_gradients(cell.environments())
    q_cc, other = turned(cell.environments(), determinant)
    turned_energies, turned_g_pc = cell.law.site_gradients(other)
    np.testing.assert_allclose(turned_energies, energies, rtol=1e-11)
    np.testing.assert_allclose(turned_g_pc, g_pc @ q_cc, atol=1e-11 * abs(g_pc).max())
    np.testing.assert_allclose(cell.law.site_energies(cell.environments()), energies, rtol=1e-13)


@pytest.mark.parametrize("name", LAWS)
def test_relabelled_sites_have_the_same_energy_forces_and_hessian(name):
    cell = dense(name, repeats=1)
    order_a, other = relabelled(cell)
    assert other.energy() == pytest.approx(cell.energy(), rel=1e-12)
    np.testing.assert_allclose(other.gradient(), cell.gradient()[order_a], atol=1e-11 * abs(cell.gradient()).max())
    rows = (3 * order_a[:, None] + np.arange(3)).ravel()
    expected = cell.hessian()[np.ix_(rows, rows)]
    np.testing.assert_allclose(other.hessian(), expected, atol=1e-12 * abs(expected).max())


# -- edges -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAWS)
def test_a_dimer_has_the_bond_order_one(name):
    law = LAWS[name]()
    pair = Environments(np.array([0, 1]), np.array([[2.2, 0.0, 0.0]]), np.zeros(1, int), np.zeros(1, int))
    c = law.constants
    expected = 0.5 * (c.a * np.exp(-2.2 * c.lambda1) + c.shift - c.b * np.exp(-2.2 * c.lambda2))
    assert law.site_energies(pair)[0] == pytest.approx(expected, rel=1e-13)
    assert np.isfinite(law.linearised(pair)(np.ones((1, 3)))).all()


def test_no_site_an_isolated_site_and_a_position_that_is_not_a_number():
    law = builtin("Si-PPM2017")
    none = np.zeros(0, np.int64)
    alone = Environments(np.zeros(2, np.int64), np.zeros((0, 3)), np.zeros(1, np.int64), none)
    assert law.site_gradients(alone)[0][0] == 0.0
    empty = Environments(np.zeros(1, np.int64), np.zeros((0, 3)), none, none)
    assert len(law.site_energies(empty)) == 0
    assert law.linearised(empty)(np.zeros((0, 3))).shape == (0, 3)
    environments = dense("Si-PPM2017").environments()
    environments.r_pc[3, 1] = np.nan
    energies, g_pc = law.site_gradients(environments)
    assert np.isnan(energies[0])
    assert np.isnan(law.site_energies(environments)[0])
    assert np.isnan(g_pc[3]).any()


def test_a_pattern_without_a_needed_block_is_an_error_that_names_the_remedy():
    cell = dense("Si-PPM2017")
    n = len(cell.positions_ac)
    with pytest.raises(GeometryError, match="Si-PPM2017: .* twice the cutoff, 6.41"):
        cell.law.hessian_blocks(cell.environments(), cell.site_p, BlockPattern(np.arange(n + 1), np.arange(n)))


def test_impossible_constants_are_refused():
    with pytest.raises(ConfigError, match="m = 2: must be 1 or 3"):
        bond_order(replace(SI_PPM2017, m=2))
    with pytest.raises(ConfigError, match="D = 4: must be greater than 0 and less than R"):
        bond_order(replace(SI_PPM2017, D=4.0))
    with pytest.raises(ConfigError, match="beta, eta and delta"):
        bond_order(replace(SI_PPM2017, eta=0.0))
    with pytest.raises(ConfigError, match="'other'.*lammps, published"):
        builtin("Si-PPM2017", "other")
    with pytest.raises(ConfigError, match="'Si-PPM'.*Si-PPM2017"):
        builtin("Si-PPM")
