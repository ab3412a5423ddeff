"""Contours: accuracy and rate of the quadratures."""

import json
from pathlib import Path

import numpy as np
import pytest

from parmlip.errors import ConfigError
from parmlip.numerics.contour import (
    fermi,
    fermi_contour,
    gauss_legendre_log,
    grand_potential,
    nodes_for,
    slit_contour,
)

ORACLE = json.loads((Path(__file__).parents[1] / "data/contour_oracle.json").read_text())["hht"]
LEVEL, SMEARING = 5.5, 0.1


def fitted_rate(error_n, n):
    return -np.polyfit(n, np.log(error_n), 1)[0]


def test_nodes_and_weights_of_the_logarithm_are_those_of_an_independent_program():
    contour = slit_contour(ORACLE["m"], ORACLE["M"], ORACLE["N"])
    weight_q = contour.weights(np.log)
    np.testing.assert_allclose(contour.node_q, np.array(ORACLE["z_re"]) + 1j * np.array(ORACLE["z_im"]), rtol=1e-13)
    np.testing.assert_allclose(weight_q, np.array(ORACLE["c_re"]) + 1j * np.array(ORACLE["c_im"]), rtol=1e-12)


@pytest.mark.parametrize("f", [np.log, np.sqrt, lambda z: 1.0 / np.sqrt(z)], ids=["log", "sqrt", "1/sqrt"])
def test_error_around_a_positive_interval_falls_at_the_theorys_rate(f):
    x = np.geomspace(0.05, 3.0, 200)
    n = np.arange(4, 17, 2)
    error_n = [np.abs(slit_contour(0.05, 3.0, k).evaluate(f, x) - f(x)).max() for k in n]
    rate = slit_contour(0.05, 3.0, 4).rate
    assert fitted_rate(error_n, n) == pytest.approx(rate, rel=0.15)
    asked = nodes_for(slit_contour(0.05, 3.0, 4), 1e-10)
    assert np.abs(slit_contour(0.05, 3.0, asked).evaluate(f, x) - f(x)).max() < 1e-8


def test_points_off_the_positive_axis_count_as_zero_at_a_lower_rate():
    x = np.array([-3.0, -0.5, -0.05, 0.0])
    error_n = [np.abs(slit_contour(0.1, 2.0, n).evaluate(np.log, x)).max() for n in (10, 20, 30)]
    assert error_n[1] < 1e-2 * error_n[0]
    assert error_n[2] < 1e-2 * error_n[1]


def test_gauss_legendre_has_positive_shifts_and_falls_exponentially():
    x = np.geomspace(0.1, 2.0, 200)
    n = np.arange(4, 14, 2)
    error_n = [np.abs(gauss_legendre_log(0.1, 2.0, k).evaluate(x) - np.log(x)).max() for k in n]
    r = np.sqrt(np.sqrt(2.0 / 0.1))  # the ends, relative to s, are r^-2 and r^2: convergence as ((r - 1) / (r + 1))^2n
    assert fitted_rate(error_n, n) == pytest.approx(-2.0 * np.log((r - 1.0) / (r + 1.0)), rel=0.1)
    assert (gauss_legendre_log(0.1, 2.0, 14).shift_q > 0.0).all()


@pytest.mark.parametrize(
    "f",
    [
        lambda z: fermi(z, LEVEL, SMEARING),
        lambda z: z * fermi(z, LEVEL, SMEARING),
        lambda z: grand_potential(z, LEVEL, SMEARING),
    ],
    ids=["occupation", "energy", "grand potential"],
)
def test_error_around_fermis_function_falls_at_the_theorys_rate(f):
    x = np.linspace(-12.0, 40.0, 400)
    n = np.arange(12, 34, 4)
    error_n = [np.abs(fermi_contour(-12.0, 40.0, LEVEL, SMEARING, k).evaluate(f, x) - f(x)).max() for k in n]
    rate = fermi_contour(-12.0, 40.0, LEVEL, SMEARING, 4).rate
    assert fitted_rate(error_n, n) == pytest.approx(rate, rel=0.1)
    assert np.abs(fermi_contour(-12.0, 40.0, LEVEL, SMEARING, 44).evaluate(f, x) - f(x)).max() < 1e-11


def test_nodes_grow_with_the_logarithm_of_the_smearing():
    asked = [nodes_for(fermi_contour(-12.0, 40.0, LEVEL, s, 4), 1e-10) for s in (1e-1, 1e-2, 1e-3)]
    assert np.ptp(np.diff(asked)) <= 1
    assert asked[-1] < 3 * asked[0]


def test_fermis_function_does_not_overflow():
    z = np.array([-1e4, 1e4, 1e4 + 3j])
    np.testing.assert_allclose(fermi(z, 0.0, 1e-3).real, [1.0, 0.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(grand_potential(z, 0.0, 1e-3).real, [-1e4, 0.0, 0.0], atol=1e-15)


def test_equal_ends_are_an_interval_too():
    assert slit_contour(1.0, 1.0, 12).evaluate(np.log, np.array([1.0]))[0] == pytest.approx(0.0, abs=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: slit_contour(0.0, 1.0, 4), "0 < lowest"),
        (lambda: slit_contour(0.1, np.inf, 4), "0 < lowest"),
        (lambda: slit_contour(0.1, 1.0, 0), "n >= 1"),
        (lambda: gauss_legendre_log(2.0, 1.0, 4), "0 < lowest"),
        (lambda: fermi_contour(-1.0, 1.0, 0.0, 0.0, 4), "smearing = 0"),
    ],
)
def test_intervals_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
