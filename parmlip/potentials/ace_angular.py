"""Real spherical harmonics in three dimensions: their Cartesian recursions, and the change from complex ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import factorial, pi, sqrt

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Harmonics:
    """Y_lm for l <= l_max, orthonormal on the sphere, without the sign (-1)^m.

    Index l^2 + l + m, cosines at +m, sines at -m.

    As polynomials of a unit vector u, with C_l = Y_lm and S_l = Y_l,-m for m >= 0 (S = 0 at m = 0):
        C_mm = k_m (x C - y S), S_mm = k_m (x S + y C)     from C, S at l = m - 1, m - 1,
        Y_lm = a_lm z Y_(l-1)m - b_lm Y_(l-2)m             for l > |m|,
        d/dc [r^l Y_lm] at r = 1 = sum_t g_t Y_(l-1, m_t)  (at most two terms for c = x, y and one for c = z),
    so there is no angle, no square root and no pole.
    """

    l_max: int

    @property
    def n_harmonics(self) -> int:
        """(l_max + 1)^2."""
        return (self.l_max + 1) ** 2

    @cached_property
    def diagonal_m(self) -> NDArray[np.float64]:
        """(Y_00, k_1, k_2, ...), shape (l_max + 1,)."""
        return np.array(
            [_norm(0, 0)] + [_norm(m, m) * (2 * m - 1) / _norm(m - 1, m - 1) for m in range(1, self.l_max + 1)]
        )

    @cached_property
    def upward_hk(self) -> NDArray[np.float64]:
        """(a_lm, b_lm), shape (n_harmonics, 2); zero where l = |m|."""
        upward = np.zeros((self.n_harmonics, 2))
        for ell, m in _pairs(self.l_max):
            q = abs(m)
            row = ell * ell + ell + m
            if ell > q:
                upward[row, 0] = _norm(ell, q) / _norm(ell - 1, q) * (2 * ell - 1) / (ell - q)
            if ell > q + 1:
                upward[row, 1] = _norm(ell, q) / _norm(ell - 2, q) * (ell + q - 1) / (ell - q)
        return upward

    @cached_property
    def gradient(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Index and g_t of the gradient's terms, each (n_harmonics, 5): x: two, y: two, z: one; 0 where absent."""
        index, coefficient = np.zeros((self.n_harmonics, 5), np.int64), np.zeros((self.n_harmonics, 5))
        for ell, m in _pairs(self.l_max):
            q, row = abs(m), ell * ell + ell + m
            if ell == 0:
                continue
            put = _Terms(ell, q, index[row], coefficient[row])
            if q == 0:
                put(1, 1, -1.0)
                put(3, -1, -1.0)
                put(4, 0, float(ell))
                continue
            sine = -1 if m < 0 else 1
            down = 0.5 * (ell + q) * (ell + q - 1)
            put(4, m, float(ell + q))
            # x keeps cosine or sine, y exchanges them; the sine of order zero does not exist
            put(1, sine * (q + 1), -0.5)
            put(3, -sine * (q + 1), -0.5 * sine)
            if q > 1:
                put(0, sine * (q - 1), down)
                put(2, -sine * (q - 1), -down * sine)
            elif m > 0:
                put(0, 0, down)
            else:
                put(2, 0, down)
        return index, coefficient


@dataclass(frozen=True)
class _Terms:
    """Writes the terms of one harmonic's gradient; those of an order that does not exist are left out."""

    ell: int
    order: int
    index_t: NDArray[np.int64]
    coefficient_t: NDArray[np.float64]

    def __call__(self, slot: int, m: int, value: float) -> None:
        below = self.ell - 1
        if abs(m) <= below:
            self.index_t[slot] = below * below + below + m
            self.coefficient_t[slot] = value * _norm(self.ell, self.order) / _norm(below, abs(m))


def complex_from_real(ell: int) -> NDArray[np.complex128]:
    """U with Y_lm (complex, Condon-Shortley) = sum_q U[m + l, q + l] Y_lq (real), shape (2 ell + 1, 2 ell + 1)."""
    change = np.zeros((2 * ell + 1, 2 * ell + 1), complex)
    change[ell, ell] = 1.0
    for m in range(1, ell + 1):
        sign = (-1.0) ** m / sqrt(2.0)
        change[ell + m, ell + m], change[ell + m, ell - m] = sign, 1j * sign
        change[ell - m, ell + m], change[ell - m, ell - m] = sqrt(0.5), -1j * sqrt(0.5)
    return change


def _norm(ell: int, m: int) -> float:
    """Factor between Y_lm and the product of the unnormalised Legendre part and Re or Im (x + i y)^m."""
    return (sqrt(2.0) if m else 1.0) * sqrt((2 * ell + 1) / (4.0 * pi) * factorial(ell - m) / factorial(ell + m))


def _pairs(l_max: int) -> list[tuple[int, int]]:
    return [(ell, m) for ell in range(l_max + 1) for m in range(-ell, ell + 1)]
