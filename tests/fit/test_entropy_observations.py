"""Rows of entropies: linear, gradients of each other, sites adding up to the whole."""

from dataclasses import replace

import numpy as np
import pytest

from parmlip.fit.entropy_observations import SiteEntropy, SiteEntropyGradient
from parmlip.fit.hessian_observations import HessianDirections, chosen_sites
from parmlip.fit.observations import Configuration, Energy, Evaluation, Force, site_energies
from parmlip.potentials.ace import ACE, ACEBasis

BASIS = ACEBasis(("W",), correlation_order=3, total_degree=5, cutoff=4.2, r0=2.7)
LAW = ACE(BASIS, np.random.default_rng(0).standard_normal(BASIS.n_basis))


def state(vacancy=False, amplitude=0.1):
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    lattice = 3.16 * np.concatenate([grid, grid + 0.5])[int(vacancy) :]
    sites = lattice + np.random.default_rng(2).uniform(-amplitude, amplitude, lattice.shape)
    return Configuration(6.32 * np.eye(3), (True,) * 3, sites, ("W",) * len(sites), reference_positions_ac=lattice)


def test_rows_times_coefficients_are_the_entropies_of_the_law():
    here, c = state(), LAW.coefficients
    of = Evaluation(BASIS, here)
    site_a = site_energies(LAW, here)
    np.testing.assert_allclose(SiteEntropy().rows(of) @ c, site_a, rtol=1e-11)
    np.testing.assert_allclose(SiteEntropy((3, 1)).rows(of) @ c, site_a[[3, 1]], rtol=1e-11)
    total = site_a.sum() - site_energies(LAW, here.reference).sum()
    np.testing.assert_allclose(Energy().rows(of) @ c, [total], rtol=1e-10)


def test_gradients_of_sites_add_up_to_that_of_the_whole():
    of = Evaluation(BASIS, state())
    whole = -Force().rows(of)
    sites = SiteEntropyGradient(tuple(range(16))).rows(of).reshape(16, *whole.shape)
    np.testing.assert_allclose(sites.sum(axis=0), whole, atol=1e-12 * np.abs(whole).max())


@pytest.mark.parametrize("gradient", ["whole", "site"])
def test_gradients_are_the_derivatives_of_the_entropies(gradient):
    here, c, v_ac = state(), LAW.coefficients, np.random.default_rng(5).standard_normal((16, 3)) * 0.2
    of = Evaluation(BASIS, here)
    rows = -Force().rows(of) if gradient == "whole" else SiteEntropyGradient((4,)).rows(of)
    exact = (rows @ c) @ v_ac.ravel()

    def value(h):
        site_a = site_energies(LAW, replace(here, positions_ac=here.positions_ac + h * v_ac))
        return site_a.sum() if gradient == "whole" else site_a[4]

    steps = np.array([4e-3, 2e-3, 1e-3])
    errors = [abs((value(h) - value(-h)) / (2 * h) - exact) for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(("kind", "n"), [("local", 2), ("columns", 6), ("random", 2)])
def test_hessian_rows_of_every_kind_are_linear(kind, n):
    here, observation = state(vacancy=True), HessianDirections(2, kind=kind)
    assert len(observation.directions(here)) == n
    values = observation.values(LAW, here)
    assert np.abs(observation.rows(BASIS, here) @ LAW.coefficients - values).max() < 1e-10 * np.abs(values).max()


def test_sites_of_hessian_columns_are_one_of_each_kind_the_rarest_first():
    assert chosen_sites(state(), 2) == [0, 1]  # the perfect lattice has one kind
    of_vacancy = chosen_sites(state(vacancy=True), 15)
    assert sorted(of_vacancy) == list(range(15))
    distance = np.linalg.norm(state(vacancy=True).reference_positions_ac[of_vacancy[0]] - 3.16)
    assert distance < 1e-9  # the one site opposite to the vacancy in the periodic cell
