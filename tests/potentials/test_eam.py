"""Embedded-atom laws: derivatives, invariances, edges (values of other programs: `test_oracles_values`)."""

import numpy as np
import pytest

from parmlip.errors import ConfigError
from parmlip.potentials.base import Environments, complex_step
from parmlip.potentials.eam import EAM, builtin
from parmlip.potentials.kernels.eam_forms import embedding
from tests.potentials.eam_cells import BCC, FCC, Cell, alloy, crystal, radial

NAMES = ["W-EAM4", "W-Zhou", "Cu-Mishin2001"]

# The third derivatives of EAM4 jump at its knots, so its distances are kept between them; the F''' of copper jumps at
# rho = 1, which the perfect crystal has, so copper is compressed.
CELLS = {
    "W-EAM4": lambda: crystal(builtin("W-EAM4"), BCC, 3.2, rattle=0.005),
    "W-Zhou": lambda: crystal(builtin("W-Zhou", (5.0, 6.0)), BCC, 3.16, rattle=0.1),
    "Cu-Mishin2001": lambda: crystal(builtin("Cu-Mishin2001"), FCC, 3.45, rattle=0.05),
    "alloy": lambda: crystal(alloy(False), BCC, 3.2, rattle=0.1, species_b=[0, 1]),
    "Finnis-Sinclair alloy": lambda: crystal(alloy(True), BCC, 3.2, rattle=0.1, species_b=[0, 1]),
}


def direction(cell, seed=7):
    v_ac = np.random.default_rng(seed).normal(size=cell.positions_ac.shape)
    return v_ac / np.abs(v_ac).max()


def order(function, derivative, steps):
    """Fitted order of the error of central differences of `function` of one number against its derivative at 0."""
    errors = [np.linalg.norm((function(h) - function(-h)) / (2 * h) - derivative) for h in steps]
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


# -- derivatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_differences_of_energy_gradient_and_hessian_converge_to_their_derivatives_with_order_two(name):
    cell = CELLS[name]()
    v_ac = direction(cell)
    steps = np.array([4e-3, 2e-3, 1e-3] if name == "W-EAM4" else [1.6e-2, 8e-3, 4e-3])
    gradient = cell.gradient()
    hessian_v = cell.hessian_times(np.zeros_like(v_ac), v_ac)
    third_vv = cell.hessian_times(1e-20j * v_ac, v_ac).imag / 1e-20
    assert order(lambda h: cell.energy(h * v_ac), np.sum(gradient * v_ac), steps) == pytest.approx(2.0, abs=0.1)
    assert order(lambda h: cell.gradient(h * v_ac), hessian_v, steps) == pytest.approx(2.0, abs=0.1)
    assert order(lambda h: cell.hessian_times(h * v_ac, v_ac), third_vv, steps) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("name", CELLS)
def test_the_factored_tangent_is_the_complex_step_of_the_gradient(name):
    cell = CELLS[name]()
    dr_pc = np.random.default_rng(3).normal(size=(cell.pairs.n_pairs, 3))
    exact = complex_step(cell.law, cell.environments())(dr_pc)
    np.testing.assert_allclose(
        cell.law.linearised(cell.environments())(dr_pc), exact, rtol=0, atol=1e-12 * abs(exact).max()
    )


@pytest.mark.parametrize("name", CELLS)
def test_radial_and_embedding_derivatives_are_those_of_their_complex_steps(name):
    law = CELLS[name]().law
    for s in range(len(law.species)):
        for t in range(len(law.species)):
            r_k = np.linspace(2.07, law.cutoff - 1e-3, 97)
            real, tilted = radial(law, s, t, r_k), radial(law, s, t, r_k + 1e-20j).imag / 1e-20
            np.testing.assert_allclose(real[:, [1, 2, 4, 5]], tilted[:, [0, 1, 3, 4]], rtol=1e-11, atol=1e-12)
        for rho in np.linspace(0.3, 2.0, 41) * (37.234847 if law.forms.embedding_form_s[s] == 2 else 1.0):
            real, tilted = embedding(law.forms, s, rho), embedding(law.forms, s, rho + 1e-20j)
            np.testing.assert_allclose(real[1:], np.imag(tilted[:2]) / 1e-20, rtol=1e-11)


def test_third_derivatives_of_eam4_jump_at_its_knots_and_those_of_zhou_do_not():
    # which is why studies that need third derivatives take Zhou
    knot, h = 2.6946925, 1e-7

    def jumps(law):
        below, above = radial(law, 0, 0, np.array([knot - h, knot + h]) + 1e-20j)
        return (above[2] - below[2]).real, (above[2] - below[2]).imag / 1e-20

    second, third = jumps(builtin("W-EAM4"))
    assert abs(second) < 2e-3
    assert third == pytest.approx(6 * 93.0215233148983, rel=1e-6)
    assert np.abs(jumps(builtin("W-Zhou"))).max() < 1e-3


# -- invariance --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("determinant", [1.0, -1.0])
def test_site_energies_stay_and_gradients_turn_with_the_frame(name, determinant):
    cell = CELLS[name]()
    q_cc, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    q_cc *= determinant * np.linalg.det(q_cc)
    environments = cell.environments()
    energies, g_pc = cell.law.site_gradients(environments)
    turned_energies, turned_g_pc = cell.law.site_gradients(environments.with_vectors(environments.r_pc @ q_cc))
    np.testing.assert_allclose(turned_energies, energies, rtol=1e-13)
    np.testing.assert_allclose(turned_g_pc, g_pc @ q_cc, atol=1e-12 * abs(g_pc).max())


@pytest.mark.parametrize("name", CELLS)
def test_relabelled_sites_have_the_same_energy_forces_and_hessian(name):
    cell = CELLS[name]()
    n = len(cell.positions_ac)
    order_a = np.random.default_rng(6).permutation(n)
    other = Cell(cell.law, cell.cell_cc, cell.positions_ac[order_a], cell.species_a[order_a])
    assert other.energy() == pytest.approx(cell.energy(), rel=1e-13)
    np.testing.assert_allclose(other.gradient(), cell.gradient()[order_a], atol=1e-12)
    rows = (3 * order_a[:, None] + np.arange(3)).ravel()
    np.testing.assert_allclose(other.hessian(), cell.hessian()[np.ix_(rows, rows)], atol=1e-11)


@pytest.mark.parametrize("name", CELLS)
def test_a_doubled_cell_has_twice_the_energy_and_the_same_forces(name):
    cell = CELLS[name]()
    doubled_cell = cell.cell_cc * [[2], [1], [1]]
    positions = np.concatenate([cell.positions_ac, cell.positions_ac + cell.cell_cc[0]])
    doubled = Cell(cell.law, doubled_cell, positions, np.tile(cell.species_a, 2))
    assert doubled.energy() == pytest.approx(2 * cell.energy(), rel=1e-13)
    np.testing.assert_allclose(doubled.gradient(), np.tile(cell.gradient(), (2, 1)), atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_pairs_beyond_the_cutoff_change_nothing(name):
    cell = CELLS[name]()
    wide = Cell(cell.law, cell.cell_cc, cell.positions_ac, cell.species_a, margin=2.0)
    assert wide.energy() == pytest.approx(cell.energy(), rel=1e-14)
    np.testing.assert_allclose(wide.gradient(), cell.gradient(), atol=1e-13)
    np.testing.assert_allclose(wide.hessian(), cell.hessian(), atol=1e-12)


def test_the_gradient_gives_the_site_energies_too():
    for make in CELLS.values():
        cell = make()
        energies, _ = cell.law.site_gradients(cell.environments())
        np.testing.assert_allclose(energies, cell.law.site_energies(cell.environments()), rtol=1e-14)


# -- edges -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_isolated_site_and_no_site_at_all_are_fine(name):
    law = builtin(name)
    none = np.zeros(0, np.int64)
    alone = Environments(np.zeros(2, np.int64), np.zeros((0, 3)), np.zeros(1, np.int64), none)
    energies, g_pc = law.site_gradients(alone)
    assert energies[0] == law.site_energies(alone)[0] == embedding(law.forms, 0, 0.0)[0]
    assert g_pc.shape == (0, 3)
    empty = Environments(np.zeros(1, np.int64), np.zeros((0, 3)), none, none)
    assert len(law.site_energies(empty)) == len(law.site_gradients(empty)[0]) == 0
    assert law.linearised(empty)(np.zeros((0, 3))).shape == (0, 3)


def test_a_pair_outside_the_density_of_eam4_has_a_finite_gradient():
    law = builtin("W-EAM4")  # at 5.2 A phi acts, and rho is zero, where F' is infinite
    pair = Environments(np.array([0, 1]), np.array([[5.2, 0, 0]]), np.zeros(1, np.int64), np.zeros(1, np.int64))
    _, g_pc = law.site_gradients(pair)
    assert g_pc[0, 0] == pytest.approx(0.5 * radial(law, 0, 0, [5.2])[0, 1])
    assert np.isfinite(law.linearised(pair)(np.ones((1, 3)))).all()


@pytest.mark.parametrize("name", CELLS)
def test_a_position_that_is_not_a_number_is_not_lost(name):
    cell = CELLS[name]()
    environments = cell.environments()
    environments.r_pc[3, 1] = np.nan
    energies, g_pc = cell.law.site_gradients(environments)
    assert np.isnan(energies[0])
    assert np.isnan(cell.law.site_energies(environments)[0])
    assert np.isnan(g_pc[3]).any()


def test_a_taper_brings_functions_and_two_derivatives_to_zero_and_leaves_the_inside_alone():
    law, full = builtin("W-Zhou", (5.0, 6.0)), builtin("W-Zhou")
    assert law.cutoff == 6.0
    np.testing.assert_allclose(radial(law, 0, 0, [6.0 - 1e-4])[0], 0.0, atol=1e-9)
    np.testing.assert_array_equal(radial(law, 0, 0, [4.99]), radial(full, 0, 0, [4.99]))
    np.testing.assert_allclose(
        radial(law, 0, 0, [5.5])[0, [0, 3]], 0.5 * radial(full, 0, 0, [5.5])[0, [0, 3]], rtol=1e-14
    )


@pytest.mark.parametrize("taper", [(6.0, 5.0), (5.0, 9.0), (0.0, 5.0), (5.0, 5.0)])
def test_an_impossible_taper_is_refused(taper):
    with pytest.raises(ConfigError, match="taper = .* must rise"):
        builtin("W-Zhou", taper)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="'W-Zou'.*W-Zhou"):
        builtin("W-Zou")


def test_a_law_is_plain_data():
    law = builtin("W-Zhou")
    assert isinstance(law, EAM)
    assert (law.species, law.cutoff, law.closest) == (("W",), 8.0, 0.0)
    assert "Zhou" in law.citation
