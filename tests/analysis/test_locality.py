"""Envelopes of what decays, and their slopes."""

import numpy as np
import pytest

from parmlip.analysis.locality import envelope, slope_between


def test_the_envelope_of_a_power_law_with_scatter_below_it_has_its_slope():
    rng = np.random.default_rng(1)
    r = np.arange(1.0, 401.0)
    value = r**-2.0 * rng.uniform(0.05, 1.0, 400)
    value[::2] = r[::2] ** -2.0
    found = envelope(np.concatenate([[0.0], r]), np.concatenate([[9.0], value]), 3, (8.0, 100.0))
    assert found.slope.slope == pytest.approx(-2.0, abs=0.05)
    assert (found.value_b <= found.distance_b**-2.0 * (1.0 + 1e-12)).all()
    assert (np.diff(found.distance_b) > 0.0).all()


def test_bins_hold_one_point_each_and_too_few_have_no_slope():
    r = np.array([2.0, 2.1, 5.0, 30.0])
    found = envelope(r, np.array([1.0, 3.0, 0.5, 0.0]), 2, (1.0, 100.0))
    np.testing.assert_allclose(found.distance_b, [2.1, 5.0])
    assert found.slope is None
    assert slope_between(r, r**-3.0, (2.0, 30.0)).slope == pytest.approx(-3.0)
