"""The exponential of compiled kernels."""

import numpy as np
import pytest
from numba import njit

from parmlip.potentials.kernels.exponential import exponential


@njit
def exponentials(x_i):
    y_i = np.empty_like(x_i)
    for i in range(len(x_i)):
        y_i[i] = exponential(x_i[i])
    return y_i


def test_it_is_the_exponential_to_two_units_in_the_last_place():
    x_i = np.concatenate([np.linspace(-708.0, 709.0, 200_001), np.linspace(-1.0, 1.0, 100_001)])
    assert np.abs(exponentials(x_i) / np.exp(x_i) - 1.0).max() < 2.0 * np.finfo(float).eps


def test_not_a_number_stays_and_arguments_beyond_the_ends_give_the_ends():
    y_i = exponentials(np.array([np.nan, -1e4, -np.inf, 1e4, np.inf, 0.0]))
    assert np.isnan(y_i[0])
    assert y_i[1:] == pytest.approx([np.exp(-708.0)] * 2 + [np.exp(709.0)] * 2 + [1.0], rel=1e-14)


def test_its_complex_step_is_its_derivative():
    x_i = np.linspace(-30.0, 5.0, 101)
    assert exponentials(x_i + 1e-20j).imag / 1e-20 == pytest.approx(exponentials(x_i), rel=1e-14)
