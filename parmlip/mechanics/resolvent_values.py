"""log of F H F in given vectors by three methods: contour or Ritz values in one Krylov space, or a solve a shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parmlip.errors import ConfigError
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.numerics.contour import gauss_legendre_log, nodes_for, slit_contour

FloatArray = NDArray[np.float64]

METHODS = ("contour", "ritz", "ksp")
_INTERVAL_TOLERANCE = 1e-3  # of the spaces that only find the spectrum's ends for "ksp"
_NODES_TOLERANCE = 1e-14  # of a contour: nodes cost nothing, all are in the one space


@dataclass(frozen=True)
class Values:
    """Quadratic forms of every vector, without the null modes; the same on every rank."""

    log_b: FloatArray  # y^T G^-1 log(G H) y
    linear_b: FloatArray  # y^T G^-1 (G H - 1) y
    residual_b: FloatArray  # estimate of what log - linear still lacks
    steps: int  # Lanczos steps of the slowest vector, or solver iterations of all
    lowest: float  # positive Ritz values; inf and 0 if all vectors are zero
    highest: float
    n_negative: int  # distinct negative Ritz values
    negative: float  # the lowest


def remainder(x: NDArray[Any]) -> NDArray[Any]:
    """log x - (x - 1), also for complex x."""
    return np.asarray(np.log(x) - (x - 1.0))


def values_of(
    relative: RelativeHessian, start_xb: FloatArray, method: str, *, floor: float, tolerance: float
) -> Values:
    """log and linear part of every vector F^-1 x of `start_xb` (see `RelativeHessian.start`, `lift`).

    Collective on ``relative.comm``.

    Parameters
    ----------
    method : str
        "contour", "ritz" or "ksp".
    floor : float
        Modes between minus and plus this are null modes.
    tolerance : float
        Of log - linear, relative to the vector's squared norm (see `numerics.krylov.lanczos`).

    Raises
    ------
    ConvergenceError
        A vector or a solve did not converge.
    """
    if method not in METHODS:
        raise ConfigError(f'unknown method "{method}"; write one of {", ".join(METHODS)}')
    enough = max(tolerance, _INTERVAL_TOLERANCE) if method == "ksp" else tolerance
    spaces = relative.spaces(start_xb, remainder, floor=floor, tolerance=enough)
    theta_bj, weight_bj = spaces.ritz()
    negative = theta_bj[(weight_bj > 1e-20) & (theta_bj < -floor)]
    linear_b = spaces.function(lambda x: x - 1.0, floor=floor)
    log_b, residual_b, steps = spaces.function(np.log, floor=floor), spaces.residual_b, int(spaces.steps_b.max())
    if not spaces.steps_b.any():
        return Values(log_b, linear_b, residual_b, 0, np.inf, 0.0, 0, 0.0)
    low, high = spaces.interval(floor)
    found = Values(log_b, linear_b, residual_b, steps, low, high, _distinct(negative), float(negative.min(initial=0.0)))
    if found.n_negative or method == "ritz":
        return found
    if method == "contour":
        rate = slit_contour(low, high, 1)
        log_b = spaces.contour(slit_contour(low, high, nodes_for(rate, _NODES_TOLERANCE)), np.log)
        return Values(log_b, linear_b, residual_b, steps, low, high, 0, 0.0)
    low, high = 0.7 * low, 1.3 * high  # Ritz values lie inside the spectrum
    x, n = np.geomspace(low, high, 400), 2
    rule = gauss_legendre_log(low, high, n)
    while np.abs(rule.evaluate(x) - np.log(x)).max() > max(0.1 * tolerance, 1e-14) and n < 60:
        n += 1
        rule = gauss_legendre_log(low, high, n)
    solved = relative.solve_shifts(start_xb, rule)
    y_xb = relative.apply_green(start_xb)
    norm_b = relative.reduce(np.einsum("xb,xb->b", start_xb, y_xb))
    linear_b = relative.reduce(np.einsum("xb,xb->b", y_xb, relative.apply_h(y_xb))) - norm_b
    return Values(solved.value_b, linear_b, solved.residual * norm_b, solved.iterations, low, high, 0, 0.0)


def _distinct(value: FloatArray) -> int:
    """Number of values that differ by more than a thousandth of the largest."""
    if value.size == 0:
        return 0
    ordered = np.sort(value)
    return 1 + int((np.diff(ordered) > 1e-3 * np.abs(ordered).max()).sum())
