"""Functions of symmetric operators as sums of resolvents: contours around a spectrum and their quadrature.

With nodes z_q and weights c_q, f(x) = Im sum_q c_q / (z_q - x) for real x in the stated interval, so that
f(A) = Im sum_q c_q (z_q - A)^-1 for symmetric real A, and Im of the diagonal for Hermitian A. Local.

References
----------
Hale, Higham, Trefethen, SIAM J. Numer. Anal. 46, 2505 (2008); Lin, Lu, Ying, E, Chin. Ann. Math. B 30, 729 (2009).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, isfinite, log, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ellipj, ellipk, ellipkm1

from parmlip.errors import ConfigError

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Function = Callable[[NDArray[Any]], NDArray[Any]]

# A wider interval is always allowed; closer ends would only divide by a vanishing modulus.
_LEAST_RATIO = 1.5


@dataclass(frozen=True)
class Contour:
    """Nodes of a contour in the upper half plane and the measure that goes with them.

    `rate` is the theory's: the error falls like exp(-rate n) with the number n of quadrature points asked for.
    """

    node_q: ComplexArray
    measure_q: ComplexArray
    rate: float

    def weights(self, f: Function) -> ComplexArray:
        """c_q of f, which is analytic around the interval and real on it."""
        return np.asarray(self.measure_q * f(self.node_q), dtype=complex)

    def evaluate(self, f: Function, x: FloatArray) -> FloatArray:
        """f at the points `x` (any shape) by the quadrature; zero at those outside the contour."""
        terms = self.weights(f) / (self.node_q - np.asarray(x, dtype=float)[..., None])
        return np.asarray(terms.sum(axis=-1).imag)


@dataclass(frozen=True)
class ShiftSum:
    """constant + sum_q residue_q / (x + shift_q) with positive shifts: only definite systems are solved."""

    constant: float
    shift_q: FloatArray
    residue_q: FloatArray

    def evaluate(self, x: FloatArray) -> FloatArray:
        """The sum at the points `x` (any shape)."""
        terms = self.residue_q / (np.asarray(x, dtype=float)[..., None] + self.shift_q)
        return np.asarray(self.constant + terms.sum(axis=-1))


def slit_contour(lowest: float, highest: float, n: int) -> Contour:
    """Contour around [lowest, highest] for functions analytic off (-inf, 0], such as log and powers; n nodes.

    The variable is w = sqrt(z) (Hale, Higham, Trefethen, sec. 4, which suits functions whose cut closes in w), without
    their factor A: log and w log w are integrable at zero. Points <= 0 lie outside, but with a slower rate.

    Raises
    ------
    ConfigError
        The ends are not 0 < lowest <= highest, or n < 1.
    """
    low, high = _interval(lowest, highest, n)
    w_q, dw_q, rate = _circle(sqrt(low), sqrt(high), n)
    # z = w^2, dz = 2 w dw
    return Contour(w_q**2, 2.0 * w_q * dw_q, rate)


def gauss_legendre_log(lowest: float, highest: float, n: int) -> ShiftSum:
    """log x on [lowest, highest] by n Gauss-Legendre points of log s + int_0^1 (x/s - 1) / (1 + t (x/s - 1)) dt.

    s = sqrt(lowest highest) balances the ends.

    Raises
    ------
    ConfigError
        The ends are not 0 < lowest <= highest, or n < 1.
    """
    if not (0.0 < lowest <= highest and isfinite(highest) and n >= 1):
        raise ConfigError(f"a quadrature wants 0 < lowest <= highest and n >= 1, not [{lowest:g}, {highest:g}], {n}")
    s = sqrt(lowest * highest)
    t_q, w_q = np.polynomial.legendre.leggauss(n)
    t_q, w_q = 0.5 * (1.0 + t_q), 0.5 * w_q
    return ShiftSum(log(s) + float((w_q / t_q).sum()), s * (1.0 - t_q) / t_q, -w_q * s / t_q**2)


def fermi_contour(lowest: float, highest: float, fermi_level: float, smearing: float, n: int) -> Contour:
    """Contour around [lowest, highest] that keeps off the poles fermi_level + i pi smearing (2 j + 1); 2 n nodes.

    For functions of z analytic off fermi_level + i y, |y| >= pi smearing: `fermi`, z times it, `grand_potential` (with
    its cut along that line). The number of nodes grows with log(width / smearing) only: in
    xi = (z - fermi_level)^2 + (pi smearing)^2 the interval is positive and the poles lie on (-inf, 0] (Lin et al.,
    sec. 3), both roots belong to the contour.

    Raises
    ------
    ConfigError
        The ends, the smearing or n make no sense.
    """
    if not smearing > 0.0:
        raise ConfigError(f"smearing = {smearing:g} must be above 0 for a contour around Fermi's function")
    half = max(abs(lowest - fermi_level), abs(highest - fermi_level))
    gap2 = (pi * smearing) ** 2
    xi_q, dxi_q, rate = _circle(*_interval(gap2, half**2 + gap2, n), n)
    root_q = np.sqrt(xi_q - gap2)
    measure_q = dxi_q / (2.0 * root_q)
    # The other root lies in the lower half plane; by symmetry its mirror image counts with the conjugate measure,
    # and the imaginary part of a conjugate changes sign.
    return Contour(
        np.concatenate([fermi_level + root_q, fermi_level - root_q.conj()]),
        np.concatenate([measure_q, measure_q.conj()]),
        rate,
    )


def nodes_for(contour: Contour, tolerance: float) -> int:
    """Number n to ask for so that the theory's factor exp(-rate n) is below a tenth of `tolerance`."""
    return max(1, ceil(log(10.0 / tolerance) / contour.rate))


def fermi(z: NDArray[Any], fermi_level: float, smearing: float) -> NDArray[Any]:
    """1 / (1 + exp((z - fermi_level) / smearing)), without overflow."""
    x = (np.asarray(z) - fermi_level) / smearing
    small = np.exp(np.where(x.real > 0.0, -x, x))
    return np.asarray(np.where(x.real > 0.0, small, 1.0) / (1.0 + small))


def grand_potential(z: NDArray[Any], fermi_level: float, smearing: float) -> NDArray[Any]:
    """-smearing log(1 + exp(-(z - fermi_level) / smearing)), cut along Re z = fermi_level beyond the first poles."""
    x = (np.asarray(z) - fermi_level) / smearing
    small = np.exp(np.where(x.real > 0.0, -x, x))
    return np.asarray(-smearing * (np.log1p(small) - np.where(x.real > 0.0, 0.0, x)))


def _interval(lowest: float, highest: float, n: int) -> tuple[float, float]:
    """The ends, moved apart where they are too close."""
    if not (0.0 < lowest <= highest and isfinite(highest) and n >= 1):
        raise ConfigError(f"a contour wants 0 < lowest <= highest and n >= 1, not [{lowest:g}, {highest:g}], n = {n}")
    stretch = max(1.0, _LEAST_RATIO * lowest / highest)
    return lowest / sqrt(stretch), highest * sqrt(stretch)


def _circle(low: float, high: float, n: int) -> tuple[ComplexArray, ComplexArray, float]:
    """Points x_q in the upper half plane and measures of a circle around [low, high] that keeps off (-inf, 0].

    Im sum_q measure_q g(x_q) is the integral (1 / 2 pi i) of g counterclockwise for g(conj x) = conj g(x);
    trapezoid rule in t, x = sqrt(low high) (1/k + sn t) / (1/k - sn t) (Hale, Higham, Trefethen, eqs. 2.2-2.6).
    """
    ratio = sqrt(high / low)
    k = (ratio - 1.0) / (ratio + 1.0)
    complement = 4.0 * ratio / (ratio + 1.0) ** 2  # 1 - k^2 without cancellation
    quarter, quarter_i = float(ellipkm1(complement)), float(ellipk(complement))
    u_q = -quarter + 2.0 * quarter * (np.arange(n) + 0.5) / n
    s, c, d, _ = ellipj(u_q, k**2)
    s1, c1, d1, _ = ellipj(0.5 * quarter_i, complement)
    # Jacobi's functions at u + i K'/2 (Abramowitz and Stegun 16.21)
    delta = c1**2 + (k * s * s1) ** 2
    sn = (s * d1 + 1j * c * d * s1 * c1) / delta
    cn = (c * c1 - 1j * s * d * s1 * d1) / delta
    dn = (d * c1 * d1 - 1j * k**2 * s * c * s1) / delta
    scale = sqrt(low * high)
    x_q = scale * (1.0 / k + sn) / (1.0 / k - sn)
    slope_q = 2.0 * scale / k * cn * dn / (1.0 / k - sn) ** 2  # dx/dt; t runs from low to high, clockwise above
    return x_q, -slope_q * 2.0 * quarter / (pi * n), pi * quarter_i / (2.0 * quarter)
