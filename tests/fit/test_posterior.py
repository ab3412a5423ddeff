"""Posterior predictions: draws have the covariance and its standard deviations, and hang on the seed alone."""

import numpy as np
import pytest

from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import DataError
from parmlip.fit.observations import Evaluation, label
from parmlip.fit.posterior import deviations, draws
from parmlip.fit.sampling import sample
from parmlip.potentials.ace import ACE, ACEBasis

BASIS = ACEBasis(("W",), correlation_order=2, total_degree=5, cutoff=5.0, r0=2.74)


def test_deviations_are_those_of_laws_with_drawn_coefficients():
    cell = build_supercell(LATTICES["bcc"], 3.14, (2, 2, 2), ("W",))
    state = sample(cell, cell.positions_ac, 1, 0.2, "uniform", name="bulk", seed=1, index=(0,))[-1]
    rng = np.random.default_rng(2)
    mean, factor = rng.standard_normal(BASIS.n_basis), 0.1 * rng.standard_normal((BASIS.n_basis, 4))
    energy, forces_ac = deviations(Evaluation(BASIS, state), factor)
    drawn = [label(ACE(BASIS, c), state) for c in draws(mean, factor, 600, seed=3)]
    assert np.std([of.energy for of in drawn]) == pytest.approx(energy, rel=0.1)
    assert np.allclose(np.std([of.forces_ac for of in drawn], axis=0), forces_ac, rtol=0.15)


def test_draws_hang_on_the_seed_and_their_number_alone():
    factor = np.random.default_rng(0).standard_normal((6, 3))
    assert np.array_equal(draws(np.ones(6), factor, 5, 1)[:3], draws(np.ones(6), factor, 3, 1))
    assert not np.array_equal(draws(np.ones(6), factor, 3, 1), draws(np.ones(6), factor, 3, 2))
    with pytest.raises(DataError, match="for 5 coefficients"):
        draws(np.ones(5), factor, 1, 1)
