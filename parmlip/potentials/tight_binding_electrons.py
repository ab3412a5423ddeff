"""Filling of one-electron levels: k meshes, Fermi level, energies, and divided differences of functions of the levels.

Every sum over states has the factor 2 of the spin and the weights of the k points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from parmlip.errors import ConfigError, DataError

RealArray = NDArray[np.float64]
Convention = Literal["free_energy", "band_energy"]

# Levels closer than this count as one where the highest level is filled in part, eV.
DEGENERATE: Final = 1e-6
# Divided differences of levels closer than this, in units of k_B T, are integrals of the derivative by four Gauss
# points (relative error below 1e-14), those of others differences of values (rounding below 1e-11).
_CLOSE: Final = 0.2
_GAUSS: Final = np.polynomial.legendre.leggauss(4)


def k_mesh(
    counts: tuple[int, int, int], centred: bool, periodic: tuple[bool, bool, bool]
) -> tuple[RealArray, RealArray]:
    """Points (n, 3) in reciprocal cell vectors and weights (n,) adding up to 1, one of k and -k kept.

    Monkhorst, Pack, Phys. Rev. B 13, 5188 (1976), eq. 3, u = (2 r - q - 1) / 2 q; `centred`: u = r / q, which holds
    Gamma for even q too. Directions that are not periodic have one point, for nothing depends on k along them.
    """
    q_c = np.where(periodic, counts, 1)
    offset_c = np.zeros(3, int) if centred else 1 - q_c
    weight_of: dict[tuple[int, ...], int] = {}
    for r_c in np.ndindex(*q_c):
        numerator_c = (2 * np.array(r_c) + offset_c) % (2 * q_c)  # in units of 1 / 2 q
        opposite = tuple(-numerator_c % (2 * q_c))
        key = opposite if opposite in weight_of else tuple(numerator_c)
        weight_of[key] = weight_of.get(key, 0) + 1
    points_kc = np.array(list(weight_of)) / (2.0 * q_c)
    weight_k = np.array(list(weight_of.values())) / q_c.prod()
    return points_kc - np.round(points_kc), weight_k


def _log_sum(x_s: RealArray, weight_s: RealArray) -> float:
    """ln sum weight exp(x) without underflow; scipy's takes half a millisecond a call."""
    top = x_s.max()
    return float(top + np.log(weight_s @ np.exp(x_s - top)))


@dataclass(frozen=True)
class Electrons:
    """How the levels are filled and which energy is meant.

    With a free Fermi level (the canonical ensemble) `free_energy` is the Mermin free energy F = E - T S; with a fixed
    one it is the grand potential E - T S - mu N. `band_energy` is E = 2 sum f eps in both cases. Forces are always
    derivatives of the energy that is named.

    References
    ----------
    Mermin, Phys. Rev. 137, A1441 (1965).
    """

    temperature: float = 0.01  # k_B T, eV; 0: levels below the Fermi level are full, above it empty
    fermi_level: float | None = None  # eV; None: the level at which the electrons are as many as they should be
    charge: float = 0.0  # electrons missing from the neutral structure; without meaning for a fixed Fermi level
    convention: Convention = "free_energy"

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if not (np.isfinite(self.temperature) and self.temperature >= 0.0):
            raise ConfigError(f"electronic_temperature = {self.temperature}: k_B T in eV must be 0 or more")
        if self.fermi_level is not None and not np.isfinite(self.fermi_level):
            raise ConfigError(f"fermi_level = {self.fermi_level} must be finite, eV")
        if self.convention not in ("free_energy", "band_energy"):
            raise ConfigError(f"convention = {self.convention!r} is unknown; there are free_energy, band_energy")
        if self.fermi_level is not None and self.charge:
            raise ConfigError(f"charge = {self.charge}: a fixed fermi_level ({self.fermi_level} eV) sets the charge")

    def fill(self, level_kx: RealArray, weight_k: RealArray, n_electrons: float) -> Filling:
        """Occupations of the levels (n_k, n_states), eV, of k points with these weights.

        Raises
        ------
        DataError
            There are fewer states than electrons, or fewer electrons than none.
        """
        weight_kx = np.broadcast_to(2.0 * weight_k[:, None], level_kx.shape)
        if self.fermi_level is not None:
            return self._filled(level_kx, weight_kx, self.fermi_level, None)
        n_most = 2 * level_kx.shape[1]
        if not 0.0 <= n_electrons <= n_most:
            raise DataError(f"{n_electrons:g} electrons do not fit into the {n_most} places of these orbitals")
        order = np.argsort(level_kx, axis=None, kind="stable")
        level_s, weight_s = level_kx.ravel()[order], weight_kx.ravel()[order]
        filled_s = np.cumsum(weight_s)
        n_full = int(np.searchsorted(filled_s, n_electrons + 1e-9))  # the states that are full at zero temperature
        if n_full == 0 or n_full == len(level_s):
            n_full = min(n_full, len(level_s) - 1)
        left = n_electrons - (filled_s[n_full - 1] if n_full else 0.0)  # electrons in state n_full
        left = 0.0 if abs(left) < 1e-9 else left
        last = n_full if left > 0.0 else n_full - 1
        if self.temperature == 0.0:
            return self._filled_cold(level_kx, weight_kx, n_electrons, level_s, last, left > 0.0)
        if n_electrons == 0.0 or n_electrons == n_most:
            far = 800.0 * self.temperature  # where every exponential vanishes
            outside = level_s[0] - far if n_electrons == 0.0 else level_s[-1] + far
            return self._filled(level_kx, weight_kx, float(outside), None)

        def excess(mu: float) -> float:
            x_s = (level_s - mu) / self.temperature
            if left > 0.0:
                return float(weight_s[n_full:] @ expit(-x_s[n_full:]) - weight_s[:n_full] @ expit(x_s[:n_full]) - left)
            # As many electrons above as holes below, in logarithms: in a gap both may be below all rounding.
            above = _log_sum(-np.logaddexp(0.0, x_s[n_full:]), weight_s[n_full:])
            return above - _log_sum(-np.logaddexp(0.0, -x_s[:n_full]), weight_s[:n_full])

        reach = 60.0 * self.temperature + 1.0
        mu = brentq(excess, level_s[0] - reach, level_s[-1] + reach, xtol=1e-14, rtol=1e-15, maxiter=500)
        return self._filled(level_kx, weight_kx, float(mu), None)

    def _filled(
        self, level_kx: RealArray, weight_kx: RealArray, mu: float, given_kx: RealArray | None, sharp: bool = True
    ) -> Filling:
        t = self.temperature
        if given_kx is not None:
            f_kx = given_kx
        elif t == 0.0:
            f_kx = np.where(np.abs(level_kx - mu) < 1e-12, 0.5, (level_kx < mu).astype(float))
        else:
            f_kx = expit((mu - level_kx) / t)
        return Filling(self, mu, level_kx, weight_kx, f_kx, sharp)

    def _filled_cold(
        self,
        level_kx: RealArray,
        weight_kx: RealArray,
        n_electrons: float,
        level_s: RealArray,
        last: int,
        partly: bool,
    ) -> Filling:
        """Zero temperature: degenerate levels at the top share what is left."""
        top = level_s[max(last, 0)]
        at_top = np.abs(level_kx - top) < DEGENERATE
        below = ~at_top & (level_kx < top)
        share = (n_electrons - weight_kx[below].sum()) / weight_kx[at_top].sum()
        share = 0.0 if abs(share) < 1e-9 else 1.0 if abs(share - 1.0) < 1e-9 else share
        f_kx = below + share * at_top
        mu = float(top)
        if not partly and share == 1.0 and last + 1 < len(level_s):
            mu = float(0.5 * (top + level_s[np.searchsorted(level_s, top + DEGENERATE)]))
        return self._filled(level_kx, weight_kx, mu, f_kx, sharp=share in (0.0, 1.0) or int(at_top.sum()) == 1)


@dataclass(frozen=True, eq=False)
class Filling:
    """Occupied levels. `weight_kx` holds the factor 2 of the spin and the weights of the k points."""

    electrons: Electrons
    fermi_level: float  # eV; in the middle of the gap at zero temperature
    level_kx: RealArray  # (n_k, n_states) eV
    weight_kx: RealArray
    occupation_kx: RealArray  # 0 .. 1
    sharp: bool  # false where a degenerate level is filled in part at zero temperature: forces are not defined

    @property
    def canonical(self) -> bool:
        """Whether the number of electrons is given, not the Fermi level."""
        return self.electrons.fermi_level is None

    @property
    def n_electrons(self) -> float:
        """Number of electrons."""
        return float(np.sum(self.weight_kx * self.occupation_kx))

    @property
    def band_energy(self) -> float:
        """2 sum f eps, eV."""
        return float(np.sum(self.weight_kx * self.occupation_kx * self.level_kx))

    @property
    def entropy(self) -> float:
        """-2 sum [f ln f + (1 - f) ln(1 - f)], k_B; 0 at zero temperature (also of levels filled in part)."""
        if self.electrons.temperature == 0.0:
            return 0.0
        return float(np.sum(self.weight_kx * self._entropy_kx))

    @property
    def _entropy_kx(self) -> RealArray:
        """-f ln f - (1 - f) ln(1 - f) of every state, k_B, small numbers without cancellation."""
        x_kx = np.abs(self.level_kx - self.fermi_level) / self.electrons.temperature
        return np.asarray(expit(-x_kx) * x_kx + np.log1p(np.exp(-x_kx)))

    @property
    def free_energy(self) -> float:
        """E - T S, eV."""
        return self.band_energy - self.electrons.temperature * self.entropy

    @property
    def grand_potential(self) -> float:
        """E - T S - mu N, eV."""
        return self.free_energy - self.fermi_level * self.n_electrons

    @property
    def energy(self) -> float:
        """The energy that the convention names, eV."""
        if self.electrons.convention == "band_energy":
            return self.band_energy
        return self.free_energy if self.canonical else self.grand_potential

    @property
    def slope_kx(self) -> RealArray:
        """d occupation / d level, 1 / eV."""
        return self.slope(self.level_kx, self.occupation_kx)

    def occupation(self, level: RealArray) -> RealArray:
        """Occupation of any level at this Fermi level; at zero temperature not of those filled in part."""
        if self.electrons.temperature == 0.0:
            return (level < self.fermi_level).astype(float)
        return np.asarray(expit((self.fermi_level - level) / self.electrons.temperature))

    def slope(self, level: RealArray, occupation: RealArray) -> RealArray:
        """d occupation / d level, 1 / eV."""
        t = self.electrons.temperature
        if t == 0.0:
            return np.zeros_like(level)
        return -occupation * expit((level - self.fermi_level) / t) / t

    def site_function(self, level: RealArray, occupation: RealArray) -> tuple[RealArray, RealArray, RealArray]:
        """e(eps) of which the energy is 2 sum e(eps), with derivatives by level and by Fermi level.

        band_energy: f eps. free_energy: w + mu f, and w for a fixed Fermi level, with w = -T ln(1 + exp((mu - eps)/T)).
        """
        f, f1, mu, t = occupation, self.slope(level, occupation), self.fermi_level, self.electrons.temperature
        if self.electrons.convention == "band_energy":
            return f * level, f + level * f1, -level * f1
        w = f * (level - mu) if t == 0.0 else -t * np.logaddexp(0.0, (mu - level) / t)
        if not self.canonical:
            return w, f, -f
        return w + mu * f, f + mu * f1, -mu * f1

    def force_weights(self) -> RealArray:
        """g_kx of dE = 2 sum g d(level), for the energy that the convention names."""
        f_kx = self.occupation_kx
        if self.electrons.convention == "free_energy":
            return f_kx
        slope_kx = self.weight_kx * self.slope_kx
        total = slope_kx.sum()
        mean = np.sum(slope_kx * self.level_kx) / total if self.canonical and total != 0.0 else 0.0
        return f_kx + (self.level_kx - mean) * self.slope_kx

    def site_terms(self) -> tuple[float, RealArray]:
        """`site_function` as force weight times (eps - shift) plus a rest, which is small away from the Fermi level."""
        if self.electrons.convention == "band_energy":
            return 0.0, (self.occupation_kx - self.force_weights()) * self.level_kx
        shift = 0.0 if self.canonical else self.fermi_level
        if self.electrons.temperature == 0.0:
            return shift, np.zeros_like(self.level_kx)
        return shift, -self.electrons.temperature * self._entropy_kx

    def divided(
        self, k: int, function: Callable[[RealArray, RealArray], tuple[RealArray, RealArray]]
    ) -> tuple[RealArray, RealArray]:
        """Divided differences D_xy of `function` and of level times `function` between the levels of a k point.

        `function` gives value and derivative at levels with their occupations.
        """
        level_x, f_x = self.level_kx[k], self.occupation_kx[k]
        value_x, slope_x = function(level_x, f_x)
        gap_xy = level_x[:, None] - level_x
        t = self.electrons.temperature
        close_xy = np.abs(gap_xy) < (_CLOSE * t if t > 0.0 else DEGENERATE)
        d_xy = (value_x[:, None] - value_x) / np.where(close_xy, 1.0, gap_xy)
        if t > 0.0:
            x, y = np.nonzero(close_xy)
            middle, half = 0.5 * (level_x[x] + level_x[y]), 0.5 * gap_xy[x, y]
            d_xy[x, y] = 0.0
            for node, weight in zip(*_GAUSS):
                at = middle + node * half
                d_xy[x, y] += 0.5 * weight * function(at, self.occupation(at))[1]
        else:
            d_xy[close_xy] = np.broadcast_to(slope_x, close_xy.shape)[close_xy]
        with_level_xy = 0.5 * (value_x[:, None] + value_x + (level_x[:, None] + level_x) * d_xy)
        return d_xy, with_level_xy
