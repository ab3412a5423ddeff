"""Rows and values of the Hessian times random vectors."""

from dataclasses import replace

import numpy as np
import pytest

from parmlip.fit.hessian_observations import HessianDirections
from parmlip.fit.observations import Configuration, label
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam import builtin

BASIS = ACEBasis(("W",), correlation_order=3, total_degree=5, cutoff=4.6, r0=2.7)
RANDOM_ACE = ACE(BASIS, np.random.default_rng(0).standard_normal(BASIS.n_basis))


def rattled(dimension=3):
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    sites = 3.16 * np.concatenate([grid, grid + 0.5])
    sites[:, :dimension] += np.random.default_rng(2).uniform(-0.1, 0.1, (len(sites), dimension))
    return Configuration(6.32 * np.eye(3), (True, True, True), sites, ("W",) * len(sites), dimension)


@pytest.mark.parametrize("dimension", [2, 3])
def test_rows_times_coefficients_are_the_values_of_the_law(dimension):
    observation, state = HessianDirections(3), rattled(dimension)
    values = observation.values(RANDOM_ACE, state)
    rows = observation.rows(BASIS, state)
    assert rows.shape == (3 * 16 * dimension, BASIS.n_basis)
    assert np.abs(rows @ RANDOM_ACE.coefficients - values).max() < 1e-10 * np.abs(values).max()


@pytest.mark.parametrize("law", [builtin("W-Zhou", (3.8, 5.0)), RANDOM_ACE], ids=["eam", "ace"])
def test_values_are_the_derivative_of_the_forces(law):
    observation, state = HessianDirections(1), rattled()
    v_ac, exact = observation.directions(state)[0], observation.values(law, state)

    def forces(h):
        return label(law, replace(state, positions_ac=state.positions_ac + h * v_ac)).forces_ac.ravel()

    # A pair is 0.0012 A from the cutoff of the ACE law, where its Hessian jumps: no step may take it across.
    steps = np.array([2e-3, 1e-3, 5e-4])
    errors = [np.abs((forces(h) - forces(-h)) / (2 * h) - exact).max() for h in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)


def test_directions_are_unit_vectors_that_only_seed_and_configuration_choose():
    state = rattled()
    first, again, other = (HessianDirections(2, seed).directions(state) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(first.reshape(2, -1), axis=1), 1.0, rtol=1e-14)
