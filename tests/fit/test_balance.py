"""Balanced weights: where a balance exists it is found, where not the end is told; refits from stored factors agree."""

from __future__ import annotations

import math

import numpy as np
import pytest

from parmlip.errors import DataError
from parmlip.fit.balance import BAND, Balance, balanced, relative_errors
from parmlip.fit.prediction import Prediction


def law_of_errors(energy, force, virial=None):
    """Errors as functions of the weights, in the place of fits."""
    return lambda weights: Balance(energy(weights), force(weights), virial(weights) if virial else None, log_size=1.4)


@pytest.mark.parametrize("start", [1e-6, 1.0, 1e8])
def test_the_weight_of_energies_is_found_where_more_of_it_lowers_their_error(start):
    errors = law_of_errors(lambda w: 1e-2 / math.sqrt(w["energy"]), lambda w: 1e-2)
    _, steps, best = balanced({"energy": start, "force": 1.0}, lambda w: dict(w), errors)
    assert steps[best].balance.distance <= math.log(BAND)
    assert steps[best].weights["energy"] == pytest.approx(1e4, rel=BAND**2)
    assert steps[best].weights["force"] == 1.0


def test_three_errors_are_balanced_together():
    errors = law_of_errors(
        lambda w: 1e-2 / math.sqrt(w["energy"]), lambda w: 1e-2, lambda w: 1e-2 / math.sqrt(w["cauchy_born_2"])
    )
    _, steps, best = balanced({"energy": 1.0, "force": 1.0, "cauchy_born_2": 1e-5}, lambda w: dict(w), errors)
    assert 1 / BAND <= steps[best].balance.energy_ratio <= BAND
    assert 1 / BAND <= steps[best].balance.virial_ratio <= BAND


def test_an_error_that_no_weight_lowers_ends_the_search_at_the_last_weight_that_helped():
    errors = law_of_errors(lambda w: max(1e-3, 1e-2 / math.sqrt(w["energy"])), lambda w: 1e-2)
    solution, steps, best = balanced({"energy": 1.0, "force": 1.0}, lambda w: dict(w), errors)
    assert steps[best].balance.energy_ratio == pytest.approx(10.0)
    assert solution == steps[best].weights
    assert len(steps) <= best + 5


def test_relative_errors_do_not_depend_on_units():
    rng = np.random.default_rng(1)

    def errors(scale, length):
        e, f = rng_e * scale, rng_f * scale / length
        return relative_errors(
            Prediction(e, 1.01 * e, np.full(8, 5), f, 1.02 * f, np.zeros(0), np.zeros(0), 0, ("a",) * 4 + ("b",) * 4)
        )

    rng_e, rng_f = rng.standard_normal(8), rng.standard_normal(30)
    one, other = errors(1.0, 1.0), errors(27.2, 0.53)
    assert one.energy_ratio == pytest.approx(other.energy_ratio)
    assert one.force == pytest.approx(0.02)


def test_a_validation_set_of_equal_energies_is_refused():
    one = np.ones(3)
    same = Prediction(one, one, np.full(3, 5), one, one, np.zeros(0), np.zeros(0), 0, ("a",) * 3)
    with pytest.raises(DataError, match="different energies and forces"):
        relative_errors(same)
