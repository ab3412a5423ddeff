"""Radial functions of the cluster expansion: orthonormal polynomials of a transformed distance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from parmlip.errors import ConfigError

QUADRATURE_POINTS = 1000  # of the discrete inner product; part of the definition of the functions


@dataclass(frozen=True)
class Radial:
    """P_1 .. P_n_max of one distance, the class that potential files call ``ACE.jl.Basic``.

    With x(r) = ((1 + r0) / (1 + r))^p, x_l = x(cutoff) < x_r = x(r_in) and f(x) = (x - x_l)^p_cut (x - x_r)^p_in

        P_1 = A_1 f,   P_2 = (A_2 x + B_2) P_1,   P_n = (A_n x + B_n) P_(n-1) + C_n P_(n-2),

    orthonormal under the mean over `QUADRATURE_POINTS` midpoints of [x_l, x_r]. Zero beyond the cutoff and, for
    p_in > 0, below r_in (f alone would grow again there); for p_in = 0 there is no inner end.

    References
    ----------
    Bachmayr et al., J. Comput. Phys. 454, 110946 (2022), and the discrete Jacobi polynomials of ACE1.jl.
    """

    n_max: int
    cutoff: float  # angstrom
    r0: float  # angstrom, length that scales the transform
    r_in: float  # angstrom, inner end
    p_cut: int = 2
    p_in: int = 2
    transform_power: int = 2

    def __post_init__(self) -> None:
        """Refuse what has no radial functions."""
        if not 0.0 <= self.r_in < self.cutoff:
            raise ConfigError(f"ace: r_in = {self.r_in} must lie between 0 and the cutoff {self.cutoff}")
        if self.r0 <= 0.0 or self.transform_power < 1:
            raise ConfigError(f"ace: r0 = {self.r0} and transform_power = {self.transform_power} must be positive")
        if self.p_cut < 1 or self.p_in < 0:
            raise ConfigError(f"ace: p_cut = {self.p_cut} must be at least 1 and p_in = {self.p_in} at least 0")

    def transformed(self, r: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """The coordinate x at distances r (any shape, angstrom)."""
        return np.asarray(((1.0 + self.r0) / (1.0 + np.asarray(r))) ** self.transform_power)

    @cached_property
    def ends(self) -> tuple[float, float]:
        """(x_l, x_r): the coordinate at the cutoff and at r_in."""
        return float(self.transformed(self.cutoff)), float(self.transformed(self.r_in))

    @cached_property
    def recursion_nk(self) -> NDArray[np.float64]:
        """Coefficients A_n, B_n, C_n, shape (n_max, 3); B_1 = C_1 = C_2 = 0."""
        left, right = self.ends
        step = (right - left) / QUADRATURE_POINTS
        x = np.linspace(left + 0.5 * step, right - 0.5 * step, QUADRATURE_POINTS)
        recursion = np.zeros((self.n_max, 3))
        previous, before = (x - left) ** self.p_cut * (x - right) ** self.p_in, np.zeros_like(x)
        scale = np.sqrt(np.mean(previous * previous))
        recursion[0, 0] = 1.0 / scale
        previous = previous / scale
        for n in range(1, self.n_max):
            b = np.mean(x * previous * previous)
            c = np.mean(x * previous * before)
            following = (x - b) * previous - c * before
            scale = np.sqrt(np.mean(following * following))
            recursion[n] = 1.0 / scale, -b / scale, -c / scale
            previous, before = following / scale, previous
        return recursion
