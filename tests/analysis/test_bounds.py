"""The theorem's bound: its terms decay as told, the constant is that of the smaller cells, the others are tested."""

import numpy as np
import pytest

from parmlip.analysis.bounds import calibrate, theorem_terms

LENGTH = np.array([4.0, 4.0, 6.0, 6.0, 8.0, 8.0])
FORM = np.array([1.0, 0.5, 0.8, 0.4, 0.6, 0.3])
ALL = np.ones(6, dtype=bool)


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_terms_decay_with_the_powers_of_the_theorem(dimension):
    one, two = (theorem_terms(dimension, 2, length, 0.3, 0.2) for length in (5.0, 10.0))
    assert two.force == one.force == pytest.approx(2**0.5 * 0.3)
    assert one.force_constants / two.force_constants == pytest.approx(2.0 ** (dimension / 2))
    assert one.cell_size / two.cell_size == pytest.approx(2.0 ** (1.5 * dimension))
    assert one.total == pytest.approx(one.force + one.force_constants + one.cell_size)


def test_errors_grow_as_the_root_of_the_number_of_defects():
    one, four = (theorem_terms(2, n, 6.0, 0.3, 0.2).total for n in (1, 4))
    assert four == pytest.approx(2.0 * one)


def test_the_constant_is_the_least_that_bounds_the_smaller_half_of_the_sizes():
    found = calibrate(3.0 * FORM * [0.5, 1.0, 0.2, 0.9, 1.2, 0.4], FORM, LENGTH, ALL)
    assert found.constant == pytest.approx(3.0)
    assert found.calibrated.tolist() == [True, True, False, False, False, False]
    assert (found.obeyed, int(found.held_out.sum())) == (3, 4)  # one of them has 1.2 times the bound
    assert found.spread == pytest.approx((0.2, 0.7, 1.2))


def test_with_one_size_every_second_point_calibrates_from_the_largest():
    found = calibrate(FORM, FORM, np.full(6, 5.0), ALL)
    assert np.flatnonzero(found.calibrated).tolist() == [0, 3, 4]
    assert np.flatnonzero(found.held_out).tolist() == [1, 2, 5]


def test_points_of_another_basin_neither_calibrate_nor_test():
    usable = np.array([True, False, True, True, True, True])
    found = calibrate(FORM * [1.0, 50.0, 1.0, 1.0, 1.0, 1.0], FORM, LENGTH, usable)
    assert found.constant == pytest.approx(1.0)
    assert not found.calibrated[1]
    assert not found.held_out[1]
    assert np.isnan(found.ratio[1])


def test_three_points_say_nothing():
    assert calibrate(FORM[:3], FORM[:3], LENGTH[:3], ALL[:3]) is None
