"""The estimate of a coupled equilibrium's error from reference forces on a sample of sites."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.analysis.sampled_residual import Estimate, draw_sample, estimated, importance
from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.supercell import build_supercell
from parmlip.mechanics.domain import partitioned
from parmlip.mechanics.stencil_space import StencilSpace

CELL = build_supercell(lattice_named("triangular"), 1.0, (12, 12), ["W"])
DISTANCE = np.linalg.norm(CELL.positions_ac - CELL.positions_ac.mean(axis=0), axis=1)
RADIUS = np.full(CELL.n_sites, 2.0)
ASKED = DISTANCE > 2.0
SHARE = importance(DISTANCE, RADIUS, ASKED, 2, None)


def forces():
    f_ad = np.random.default_rng(5).normal(size=(CELL.n_sites, 2)) * (2.0 / np.maximum(DISTANCE, 2.0))[:, None] ** 3
    return np.where(ASKED[:, None], f_ad, 0.0)


def test_samples_have_the_size_asked_for_in_the_mean_and_lie_near_the_interface():
    samples = [draw_sample(SHARE, 30, seed) for seed in range(400)]
    sizes = np.array([np.count_nonzero(s.chosen_a) for s in samples])
    assert sizes.mean() == pytest.approx(30.0, abs=4.0 * sizes.std() / 20.0)
    assert not any((s.chosen_a & ~ASKED).any() for s in samples)
    probability_a = samples[0].probability_a
    order = np.argsort(DISTANCE[ASKED])
    assert (np.diff(probability_a[ASKED][order]) <= 1e-12).all()
    assert probability_a[ASKED].min() > 0.0


def test_a_number_of_sites_that_is_not_there_is_all_of_them():
    for number in (None, CELL.n_sites):
        sample = draw_sample(SHARE, number, 1)
        assert sample.is_whole
        np.testing.assert_array_equal(sample.chosen_a, ASKED)


def test_no_draw_is_empty_however_few_sites_are_asked_for():
    """Such a draw would say that there is no error: of 2 sites in the mean every third has none."""
    samples = [draw_sample(SHARE, 2, seed) for seed in range(200)]
    assert all(s.drawn_ka.any(axis=1).all() for s in samples)
    assert np.mean([np.count_nonzero(s.chosen_a) for s in samples]) < 4.0


def estimates(solve, number, seeds):
    sites = partitioned(CELL, comm=MPI.COMM_SELF)
    f_nd = sites.restrict(forces())
    with StencilSpace(CELL, sites) as space:
        exact = space.norm(solve(f_nd))
        found = [estimated(f_nd, draw_sample(SHARE, number, s), sites, space, solve) for s in seeds]
    return exact, found


def test_with_all_sites_the_estimate_is_the_norm_of_the_solution_without_noise():
    exact, (found,) = estimates(lambda x_nd: 0.3 * x_nd, None, [1])
    assert found.geometry == pytest.approx(exact, rel=1e-14)
    assert found.noise == 0.0
    assert found.upper == found.geometry
    assert found.largest_force == pytest.approx(np.abs(forces()).max(), rel=1e-15)


def test_the_mean_over_samples_is_the_square_of_the_norm_and_the_noise_is_that_of_the_solutions():
    exact, found = estimates(lambda x_nd: x_nd, 40, range(600))
    square = np.array([e.square for e in found])
    assert square.mean() == pytest.approx(exact**2, abs=4.0 * square.std() / np.sqrt(len(square)))
    assert square.std() / np.sqrt(len(square)) < 0.05 * exact**2  # so that the line above says something
    above = np.array([e.square + 2.0 * e.noise**2 for e in found])  # what one draw's norm would give: biased
    assert above.mean() > 1.3 * exact**2


def test_shares_follow_the_square_of_the_strain_and_leave_no_site_out():
    strain = np.where(DISTANCE > 0.0, np.maximum(DISTANCE, 1.0) ** -2.0, 1.0) * (1.0 + (CELL.positions_ac[:, 0] > 6.0))
    share = importance(DISTANCE, RADIUS, ASKED, 2, strain)
    assert share.sum() == pytest.approx(1.0, rel=1e-14)
    assert (share[~ASKED] == 0.0).all()
    spread = np.where(ASKED, (2.0 / np.maximum(DISTANCE, 2.0)) ** 2, 0.0)
    assert (share >= 0.2 * spread / spread.sum() * (1.0 - 1e-12)).all()
    likely = share - 0.2 * spread / spread.sum()
    expected = np.where(ASKED, strain**2 / np.maximum(DISTANCE, 2.0), 0.0)
    np.testing.assert_allclose(likely[ASKED], 0.8 * expected[ASKED] / expected.sum(), rtol=1e-10)
    unstrained = importance(DISTANCE, RADIUS, ASKED, 2, np.zeros(CELL.n_sites))
    assert unstrained[ASKED].min() > 0.0
    assert unstrained.sum() == pytest.approx(1.0, rel=1e-14)
    assert (importance(DISTANCE, RADIUS, np.zeros_like(ASKED), 2, strain) == 0.0).all()


def test_a_larger_sample_has_the_sites_of_a_smaller_one():
    """So that answers that are kept are not asked for again."""
    small, large = (draw_sample(SHARE, n, 3) for n in (20, 40))
    assert not (small.drawn_ka & ~large.drawn_ka).any()
    assert np.count_nonzero(large.chosen_a) > np.count_nonzero(small.chosen_a)


def test_sites_drawn_as_their_forces_are_large_make_the_least_noise():
    """Forces that fall with the fifth power, drawn by it, by the third power and evenly."""
    steep = (2.0 / np.maximum(DISTANCE, 2.0)) ** 5
    f_ad = np.where(ASKED[:, None], steep[:, None] * np.random.default_rng(5).normal(size=(CELL.n_sites, 2)), 0.0)
    sites = partitioned(CELL, comm=MPI.COMM_SELF)
    spreads = []
    with StencilSpace(CELL, sites) as space:
        for share in (importance(DISTANCE, RADIUS, ASKED, 2, np.sqrt(steep * np.maximum(DISTANCE, 2.0))), SHARE,
                      ASKED / ASKED.sum()):  # fmt: skip
            found = [estimated(f_ad, draw_sample(share, 40, s), sites, space, lambda x: x).square for s in range(200)]
            spreads.append(np.std(found))
    assert spreads[0] < 0.8 * spreads[1] < 0.8 * 0.8 * spreads[2]


def test_an_estimate_that_noise_hides_tells_nothing():
    assert not Estimate(1e-8, 2e-4, 1.0).is_told
    assert not Estimate(-1e-8, 1e-9, 1.0).is_told
    assert Estimate(1e-8, 0.5e-4, 1.0).is_told
    assert Estimate(1e-8, 0.5e-4, 1.0).upper == pytest.approx(1.5e-4)
    assert Estimate(0.0, 0.0, 0.0).is_told
