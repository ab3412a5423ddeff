"""Total vibrational entropy S_FHF of a defective cell of any size, with an error bar.

S_FHF = -1/2 sum log(theta) over the positive eigenvalues of F H F. Its first-order term -1/2 sum (theta - 1) is a trace
of H with blocks of the Green's function and done exactly; what is left, -1/2 sum g(theta) with g = log(theta) -
(theta - 1), is quadratic in the change of the force constants and decays fast from the defects. Sites near to them are
done one by one, those far away by random vectors of +-1.

References
----------
Torabi, Wang, Ortner (2024), eqs. (2.9) to (2.12); Hutchinson, Commun. Stat. 18, 1059 (1989) (probes of +-1).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from parmlip.crystal.defect_sites import equivalent_sites, sites_by_distance
from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConvergenceError
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green_trace import trace_with
from parmlip.mechanics.probes import probes
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.mechanics.resolvent_values import Values, values_of
from parmlip.parallel.logs import timed

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FLOOR: Final = 1e-6  # of the eigenvalues of F H F, which are near 1: what is smaller is a null mode
_PILOT_SITES: Final = 40  # near sites of the first probes, whose spread decides how many it should be
# Also the fewest: their distribution has wide tails (kurtosis 6 to 9 measured), so that fewer underestimate the spread.
_PILOT_PROBES: Final = 16
_ALL_SITES: Final = 200  # cells up to this size are done site by site
# Variance of a probe against the number n of near sites: changes of force constants decay like r^-3, g like r^-6, the
# sum of its squares beyond r like r^-9.
_DECAY: Final = 3.0
_SHARE: Final = 0.9  # of the tolerance is for the probes


@dataclass(frozen=True)
class Work:
    """How the total is found; see [entropy] of the input."""

    method: str = "contour"
    tolerance: float = 0.005  # k_B, of the total
    krylov_tolerance: float = 1e-10
    near_radius: float | None = None  # angstrom; None: from the spread of the first probes
    max_probes: int = 400
    batch: int = 12
    seed: int = 1
    n_negative: int = 0  # modes that may be negative, as at a saddle: left out of the sum of g


@dataclass(frozen=True)
class TotalEntropy:
    """S_FHF and how it came about, k_B; the same on every rank."""

    value: float
    probe_error: float  # standard error of the far sites' mean; zero without far sites
    krylov_error: float
    first_order: float
    near_site_s: IntArray  # global numbers of the near sites, or -1 - g for the vacant grid site g
    near_distance_s: FloatArray  # angstrom, to the nearest defect
    near_entropy_s: FloatArray  # S_l
    near_radius: float
    probe_value_k: FloatArray  # what each probe says of the far sites
    steps: int  # Lanczos steps of the slowest vector (method "ksp": solver iterations in all)
    n_vectors: int
    lowest: float  # positive Ritz values
    highest: float

    @property
    def error(self) -> float:
        """Error bar: standard error and what the Krylov spaces leave out."""
        return self.probe_error + self.krylov_error


def total_entropy(relative: RelativeHessian, energy: Energy, u_nd: FloatArray, work: Work) -> TotalEntropy:
    """S_FHF at the displacement `u_nd`, at which the Hessian of `relative` was made.

    Collective on ``energy.comm``. Random numbers are keyed by sites: the result does not depend on the number of ranks.

    Raises
    ------
    ConvergenceError
        A negative mode, or a Krylov space that does not converge.
    """
    cell, d = energy.supercell, energy.dimension
    with timed("entropy: first order"):
        trace = trace_with(relative.inverse, energy, u_nd, 1.0 / relative.kappa)
    n_modes = d * (cell.n_sites - 1)
    first = -0.5 * (trace - n_modes)
    site_s, distance_s = sites_by_distance(cell)
    total = _Sum(relative, work, cell, energy.sites.gather_to_all(u_nd))
    n_near = len(site_s)
    probe_k: list[float] = []
    if work.near_radius is not None:
        n_near = int(np.searchsorted(distance_s, work.near_radius, side="right"))
    elif len(site_s) > _ALL_SITES and not np.isfinite(distance_s[0]):
        n_near = 0  # without point defects no site is nearer than others
    elif len(site_s) > _ALL_SITES:
        n_near = _whole_shells(distance_s, min(_PILOT_SITES * max(1, total.n_special), len(site_s)))
    n_near = max(n_near, total.n_special)
    with timed("entropy: near sites"):
        total.near(site_s[:n_near])
    logger.info("first-order term %.6f k_B; %d near sites", first, n_near)
    if n_near < len(site_s):
        with timed("entropy: probes"):
            probe_k = total.probes(site_s[n_near:], 0, min(_PILOT_PROBES, work.max_probes))
        if work.near_radius is None and n_near:
            cost = d * total.sites_done / n_near  # vectors a near site, with what symmetry saves
            wanted = _near_sites(float(np.std(probe_k, ddof=1)), n_near, len(site_s), cost, _SHARE * work.tolerance)
            wanted = _whole_shells(distance_s, wanted)
            if wanted > n_near:
                logger.info("spread of a probe %.2e k_B: %d near sites", np.std(probe_k, ddof=1), wanted)
                with timed("entropy: near sites"):
                    total.near(site_s[n_near:wanted])
                n_near, probe_k = wanted, []
    while n_near < len(site_s) and len(probe_k) < work.max_probes:
        if len(probe_k) >= _PILOT_PROBES and _standard_error(probe_k) <= _SHARE * work.tolerance:
            break
        # half as many again, so that few are in vain
        more = min(max(_PILOT_PROBES, len(probe_k) // 2), work.max_probes - len(probe_k))
        with timed("entropy: probes"):
            probe_k += total.probes(site_s[n_near:], len(probe_k), more)
        logger.info("%d probes: far sites %.6f +- %.1e k_B", len(probe_k), np.mean(probe_k), _standard_error(probe_k))
    far = float(np.mean(probe_k)) if probe_k else 0.0
    error = _standard_error(probe_k) if probe_k else 0.0
    if error + total.krylov_error > work.tolerance:
        logger.warning("error bar %.1e k_B after %d probes is above the tolerance", error, len(probe_k))
    near = np.concatenate(total.remainders) if total.remainders else np.zeros(0)
    return TotalEntropy(
        value=first + float(near.sum()) + far,
        probe_error=error,
        krylov_error=total.krylov_error,
        first_order=first,
        near_site_s=site_s[:n_near],
        near_distance_s=np.where(np.isfinite(distance_s), distance_s, 0.0)[:n_near],
        near_entropy_s=np.concatenate(total.entropies) if total.entropies else np.zeros(0),
        near_radius=float(distance_s[n_near - 1]) if n_near and np.isfinite(distance_s[n_near - 1]) else 0.0,
        probe_value_k=np.array(probe_k),
        steps=total.steps,
        n_vectors=total.n_vectors,
        lowest=total.lowest,
        highest=total.highest,
    )


class _Sum:
    """The parts of a total as they come. Collective, as are its methods."""

    def __init__(self, relative: RelativeHessian, work: Work, cell: Supercell, u_ad: FloatArray) -> None:
        self.relative, self.work, self._cell, self._u_ad = relative, work, cell, u_ad
        self.sites_done = 0
        self.remainders: list[FloatArray] = []
        self.entropies: list[FloatArray] = []
        self.krylov_error = 0.0
        self.steps, self.n_vectors, self.lowest, self.highest = 0, 0, np.inf, 0.0
        self.n_special = len(relative.vacant) + relative.n_extra

    def near(self, site_s: IntArray) -> None:
        """Whole shells of sites, one of each kind of equivalent ones."""
        d = self.relative.dimension
        first_s = equivalent_sites(self._cell, site_s, self._u_ad)
        one, place_s, count = np.unique(first_s, return_inverse=True, return_counts=True)
        site_v, component_v = np.repeat(site_s[one], d), np.tile(np.arange(d), len(one))
        log_v, rest_v = np.zeros(len(site_v)), np.zeros(len(site_v))
        for first in range(0, len(site_v), self.work.batch):
            part = slice(first, first + self.work.batch)
            found = self._values(self.relative.start(site_v[part], component_v[part]), self.work.krylov_tolerance)
            log_v[part], rest_v[part] = found.log_b, found.log_b - found.linear_b
            self.krylov_error += 0.5 * float(found.residual_b @ np.repeat(count, d)[part])
        self.entropies.append(-0.5 * log_v.reshape(-1, d).sum(axis=1)[place_s])
        self.remainders.append(-0.5 * rest_v.reshape(-1, d).sum(axis=1)[place_s])
        self.sites_done += len(one)

    def probes(self, far_s: IntArray, start: int, n: int) -> list[float]:
        """What probes number `start` and on say of the far sites together."""
        relative, values = self.relative, []
        # What a vector may leave out is in proportion to its squared norm, which is that of all far sites here.
        tolerance = min(self.work.krylov_tolerance, 0.02 * self.work.tolerance / (relative.dimension * len(far_s)))
        for first in range(start, start + n, self.work.batch):
            numbers = range(first, min(first + self.work.batch, start + n))
            found = self._values(relative.lift(probes(relative, far_s, (self.work.seed, 7), numbers)), tolerance)
            values += (-0.5 * (found.log_b - found.linear_b)).tolist()
            self.krylov_error = max(self.krylov_error, 0.5 * float(found.residual_b.max()))
        return values

    def _values(self, start_xb: FloatArray, tolerance: float) -> Values:
        found = values_of(self.relative, start_xb, self.work.method, floor=FLOOR, tolerance=tolerance)
        if found.n_negative > self.work.n_negative:
            raise ConvergenceError(
                f"at least {found.n_negative} negative mode(s), the lowest {found.negative:.3e} relative to the "
                "perfect crystal: the state is not a minimum, its vibrational entropy is not defined"
            )
        self.steps = max(self.steps, found.steps) if self.work.method != "ksp" else self.steps + found.steps
        self.n_vectors += start_xb.shape[1]
        self.lowest, self.highest = min(self.lowest, found.lowest), max(self.highest, found.highest)
        return found


def _near_sites(spread: float, n: int, most: int, cost_near: float, tolerance: float) -> int:
    """Number of near sites for which these and the probes cost least, given the spread of a probe with `n` of them."""
    candidates = np.unique(np.geomspace(n, most, 200).astype(np.int64))
    probes = np.maximum((spread / tolerance) ** 2 * (n / candidates) ** _DECAY, _PILOT_PROBES)
    probes[candidates >= most] = 0.0
    # the near vectors and probes of the first n are done
    cost = cost_near * (candidates - n) + np.where(candidates == n, probes - _PILOT_PROBES, probes)
    return int(candidates[int(np.argmin(cost))])


def _whole_shells(distance_s: FloatArray, n: int) -> int:
    """`n` and all sites that are as far as the last of them."""
    if n >= len(distance_s) or not np.isfinite(distance_s[n - 1]):
        return min(n, len(distance_s))
    return int(np.searchsorted(distance_s, distance_s[n - 1] + 1e-3, side="right"))


def _standard_error(value_k: list[float]) -> float:
    """Half width of the interval that has the mean with 68 % by Student's distribution."""
    n = len(value_k)
    return float(stdtrit(n - 1, 0.841345) * np.std(value_k, ddof=1) / np.sqrt(n))
