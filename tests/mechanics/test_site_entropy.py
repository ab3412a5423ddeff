"""Site entropies and their derivatives: against dense algebra of an independent program, identities, failures."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import Relax
from parmlip.crystal.defects import Interstitial, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConfigError, ConvergenceError
from parmlip.mechanics.dense_entropy import embedded, inverse_root, log_modes
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.entropy_gradient import total_entropy_gradient
from parmlip.mechanics.relax import relax
from parmlip.mechanics.site_entropy import absolute_site_entropies, site_entropies, site_entropy_gradient, truncated
from tests.mechanics.entropy_cells import ORACLE, at_state, chain, defect, site64, square


def whole(law, cell, u_ad, comm):
    """Dense Hessian of a displaced cell."""
    energy, relative, _ = at_state(law, cell, u_ad, comm)
    order = (3 * energy.sites.number_a[:, None] + np.arange(3)).ravel()
    return relative.matrix[:, :][np.ix_(order, order)]


@pytest.mark.mpi(2, 3)
@pytest.mark.parametrize("key", ["Si_vac_n2", "Cu_vac_n3"])
def test_all_site_entropies_of_a_vacancy_by_contour_and_by_ritz_values(key, comm):
    law, cell, u_ad, order = defect(key)
    _, relative, _ = at_state(law, cell, u_ad, comm)
    expected = np.array(ORACLE["defects"][key]["S_site_FHF"])[order]
    grid = -1 - np.arange(len(expected))
    found = site_entropies(relative, grid)
    # the oracle's copper is a spline of tables, whose second derivatives differ by 1e-6
    atol = 1e-10 if key[:2] == "Si" else 2e-6
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=atol)
    assert found.difference < 1e-10
    assert found.steps <= 10
    ritz = site_entropies(relative, grid[:7], method="ritz", batch=5)
    np.testing.assert_allclose(ritz.values, found.values[:7], rtol=0, atol=1e-10)
    by_number = site_entropies(relative, np.arange(6))
    np.testing.assert_allclose(by_number.values, found.values[cell.grid.number_a[:6]], rtol=0, atol=1e-10)


def test_an_extra_site_and_the_sum_of_all_are_those_of_dense_algebra(comm):
    law, perfect, _, _ = site64()
    cell = apply_defects(perfect, [Interstitial("Si", position=(0.5, 0.5, 0.5))])
    energy = Energy(law, cell, comm=comm)
    start_nd = energy.sites.restrict(0.02 * np.random.default_rng(1).standard_normal((65, 3)))
    u_ad = energy.sites.gather_to_all(relax(energy, start_nd, Relax()).u_nd)
    h_xx, hom_xx = whole(law, cell, u_ad, comm), whole(law, perfect, np.zeros((64, 3)), comm)
    full_xx, place_a = embedded(h_xx, cell.grid.number_a, 64, 3)
    root_xx = inverse_root(hom_xx, 3, 1)
    modes = log_modes(full_xx, 3, 3, root_xx)
    _, relative, _ = at_state(law, cell, u_ad, comm)
    found = site_entropies(relative, np.arange(65), tolerance=1e-12)
    np.testing.assert_allclose(found.values, modes.site_values[place_a], rtol=0, atol=1e-9)
    assert found.values.sum() == pytest.approx(modes.total, abs=1e-8)


@pytest.mark.mpi(2)
@pytest.mark.parametrize("delta", [0.0, 0.1, 0.5])
def test_chain_of_800_sites(delta, comm):
    law, cell, u_ad = chain(delta)
    energy, relative, third = at_state(law, cell, u_ad, comm)
    given = ORACLE["toy1d"]["res"][str(delta)]
    found = site_entropies(relative, np.array([0, 400]))
    np.testing.assert_allclose(found.values, [given["l0"]["S_l"], given["l400"]["S_l"]], rtol=0, atol=1e-10)
    for site in (0, 400):
        gradient = site_entropy_gradient(relative, third, site)
        g_ad = energy.sites.gather_to_all(gradient.gradient_nd)
        expected = given[f"l{site}"]["dS_n_offset"]
        got = [g_ad[(site + int(offset)) % 800, 0] for offset in expected]
        np.testing.assert_allclose(got, list(expected.values()), rtol=0, atol=1e-11)
        assert gradient.value == pytest.approx(given[f"l{site}"]["S_l"], abs=1e-12)


@pytest.mark.mpi(2)
def test_square_lattice_its_truncated_entropies_and_derivatives(comm):
    law, cell, u_ad, place = square(0.5)
    energy, relative, third = at_state(law, cell, u_ad, comm)
    given = ORACLE["toy2d"]["res"]["0.5"]
    at = {(x, y): a for a, (x, y) in enumerate(place.tolist())}
    site = at[22, 22]
    value = site_entropies(relative, np.array([site])).component_sc[0, 0]
    assert value == pytest.approx(given["S_l"], abs=1e-11)
    gradient = site_entropy_gradient(relative, third, site, components=(0,))
    g_ad = energy.sites.gather_to_all(gradient.gradient_nd)
    for offset, expected in given["g"].items():
        x, y = (int(i) for i in offset.split(","))
        assert g_ad[at[(22 + x) % 45, (22 + y) % 45], 0] == pytest.approx(expected, abs=1e-12)
    for radius, expected in given["trunc_err"].items():
        cut_ad = truncated(cell, u_ad, site, float(radius) + 1e-9)
        _, relative, _ = at_state(law, cell, cut_ad, comm)
        cut = site_entropies(relative, np.array([site])).component_sc[0, 0]
        assert abs(cut - value) == pytest.approx(expected, abs=1e-11)


@pytest.mark.mpi(3)
@pytest.mark.parametrize("key", ["Si_vac_n2", "Cu_vac_n3"])
def test_site_entropies_of_log_h_by_lanczos_spaces_are_those_of_dense_algebra(key, comm):
    law, cell, u_ad, _ = defect(key)
    modes = log_modes(whole(law, cell, u_ad, MPI.COMM_SELF), 3, 3)
    _, relative, _ = at_state(law, cell, u_ad, comm)
    chosen = np.array([0, 7, cell.n_sites - 1])
    found = absolute_site_entropies(relative, chosen, batch=4)
    np.testing.assert_allclose(found.values, modes.site_values[chosen], rtol=0, atol=1e-9)
    assert 15 < found.steps < 40


@pytest.mark.mpi
def test_derivatives_of_a_site_entropy_of_silicon_by_ritz_data_and_by_the_contour(comm):
    law, cell, u_ad, order = site64()
    energy, relative, third = at_state(law, cell, u_ad, comm)
    given = ORACLE["gradients"]["site64"]
    site = int(np.flatnonzero(order == given["site"])[0])
    for method in ("ritz", "contour"):
        found = site_entropy_gradient(relative, third, site, method=method)
        assert found.value == pytest.approx(given["S_l"], abs=1e-12)
        g_ad = energy.sites.gather_to_all(found.gradient_nd)
        np.testing.assert_allclose(g_ad, np.array(given["grad"])[order], rtol=0, atol=1e-11)


@pytest.mark.mpi(2)
def test_the_derivatives_of_all_sites_add_up_to_that_of_the_total(comm):
    law, cell, u_ad, _ = defect("Si_vac_n2")
    energy, relative, third = at_state(law, cell, u_ad, comm)
    total = total_entropy_gradient(relative, third)
    parts = sum(site_entropy_gradient(relative, third, -1 - g).gradient_nd for g in range(64))
    difference = energy.sites.gather_to_all(parts - total.gradient_nd)
    assert np.abs(difference).max() < 1e-11
    assert np.abs(energy.sites.gather_to_all(total.gradient_nd)).max() > 0.1
    assert total.iterations < 15


@pytest.mark.mpi(2)
@pytest.mark.parametrize("key", ["Si_vac_n2", "Cu_vac_n3"])
def test_derivatives_by_chosen_sites_are_those_of_the_whole_with_fewer_columns(key, comm):
    law, cell, u_ad, _ = defect(key)
    energy, relative, third = at_state(law, cell, u_ad, comm)
    whole_ad = energy.sites.gather_to_all(total_entropy_gradient(relative, third).gradient_nd)
    chosen = np.array([2, 40])
    part = total_entropy_gradient(relative, third, sites=chosen)
    part_ad = energy.sites.gather_to_all(part.gradient_nd)
    np.testing.assert_allclose(part_ad[chosen], whole_ad[chosen], rtol=0, atol=1e-11 * np.abs(whole_ad).max())
    assert not np.delete(part_ad, chosen, axis=0).any()
    assert part.n_columns < 3 * cell.n_sites or key[:2] == "Cu"  # whose small cell is within reach of every site


def test_site_entropies_of_the_perfect_crystal_are_zero(comm):
    law, cell, u_ad, _ = site64()
    _, relative, third = at_state(law, cell, 0.0 * u_ad, comm)
    found = site_entropies(relative, np.array([0, 9]))
    np.testing.assert_allclose(found.values, 0.0, atol=1e-10)
    assert site_entropy_gradient(relative, third, 3).value == pytest.approx(0.0, abs=1e-12)


def test_what_does_not_converge_and_an_unknown_method_are_errors(comm):
    law, cell, u_ad, _ = site64()
    _, relative, third = at_state(law, cell, u_ad, comm)
    with pytest.raises(ConvergenceError, match="has not converged to 1e-10 in 4 Lanczos steps") as caught:
        site_entropy_gradient(relative, third, 0, max_steps=4)
    assert caught.value.result.tail > 1e-10
    with pytest.raises(ConfigError, match='write "contour" or "ritz"'):
        site_entropies(relative, np.array([0]), method="lanczos")


def test_decomposition_of_log_h_of_the_chain():
    law, cell, u_ad = chain(0.5)
    _, relative, _ = at_state(law, cell, u_ad, MPI.COMM_SELF)
    modes = log_modes(relative.matrix[:, :], 1, 1)
    given = ORACLE["toy1d"]["res"]["0.5"]
    assert modes.site_values[0] == pytest.approx(given["l0"]["S_l_logH"], abs=1e-9)
    assert modes.site_values[400] == pytest.approx(given["l400"]["S_l_logH"], abs=1e-9)
    assert modes.site_values.sum() == pytest.approx(modes.total, rel=1e-12)
    root_xx = inverse_root(whole_bulk(law), 1)
    relative_modes = log_modes(relative.matrix[:, :], 1, 1, root_xx)
    assert relative_modes.total == pytest.approx(given["S_total"], abs=1e-8)


def test_site_entropies_of_log_h_of_the_chain_by_lanczos_spaces_are_those_of_dense_algebra():
    law, cell, u_ad = chain(0.5, 160)
    _, relative, _ = at_state(law, cell, u_ad, MPI.COMM_SELF)
    modes = log_modes(relative.matrix[:, :], 1, 1)
    found = absolute_site_entropies(relative, np.array([0, 80]), tolerance=1e-11)
    np.testing.assert_allclose(found.values, modes.site_values[[0, 80]], rtol=0, atol=1e-8)
    assert found.steps > 60  # without the perfect crystal's Green's function they grow with the chain


def whole_bulk(law):
    """H_hom of the chain by dense algebra."""
    perfect = build_supercell(LATTICES["chain"], 1.0, (800, 1, 1), ("H",))
    return at_state(law, perfect, np.zeros((800, 1)), MPI.COMM_SELF)[1].matrix[:, :]
