"""Differences of the vibrational entropies of a saddle and of minima, in cells of any size."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.mechanics.total_entropy import TotalEntropy, Work, total_entropy

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]

_LOOSER: Final = 1.5  # error bar of each state against that of the difference, at first
_TIGHTER: Final = 2.0  # by what it is divided where that was not enough
_TRIALS: Final = 3
_SHELL: Final = 1e-3  # angstrom


@dataclass(frozen=True)
class EntropyDifference:
    """S(saddle) - S(minimum) with the error bar of the difference, k_B; the same on every rank."""

    value: float
    error: float  # standard error of the paired probes and what the Krylov spaces leave out
    n_near: int
    n_probes: int
    steps: int  # Lanczos steps of the slowest vector


def entropy_differences(
    energy: Energy,
    minima: Sequence[FloatArray],
    saddle_nd: FloatArray,
    negative: tuple[float, float],
    *,
    work: Work,
) -> list[EntropyDifference]:
    """S(saddle) - S(minimum) of some minima, S = -1/2 sum log over the positive eigenvalues of H (eq. 2.8).

    All by `total_entropy` with the same near sites and the same random vectors: what the far fields have in common does
    not enter the error bar.

    Collective on ``energy.comm``.

    Parameters
    ----------
    minima, saddle_nd : ndarray, shape (n_owned, d)
        Displacements, angstrom; the saddle is of index one.
    negative : two floats
        The saddle's negative eigenvalue of H, eV / angstrom^2, and that of F H F.
    work : Work
        `tolerance` is that of the differences.

    Raises
    ------
    ConvergenceError
        More negative modes than these, or a Krylov space that does not converge.
    """
    tolerance = _LOOSER * work.tolerance
    for _ in range(_TRIALS):
        top = _total(energy, saddle_nd, replace(work, tolerance=tolerance, n_negative=1))
        # distances within a shell differ by rounding; the same shells must be near
        same = replace(work, tolerance=tolerance, near_radius=top.near_radius + _SHELL)
        found = [_difference(_total(energy, u_nd, same), top, negative) for u_nd in minima]
        if max(one.error for one in found) <= work.tolerance:
            return found
        tolerance /= _TIGHTER
    logger.warning(
        "error bar %.1e k_B of an entropy difference is above the tolerance", max(one.error for one in found)
    )
    return found


def _difference(low: TotalEntropy, top: TotalEntropy, negative: tuple[float, float]) -> EntropyDifference:
    """From the totals of a minimum and of a saddle."""
    error, far = low.krylov_error + top.krylov_error, 0.0
    n = min(len(top.probe_value_k), len(low.probe_value_k))
    if n:
        pair_k = top.probe_value_k[:n] - low.probe_value_k[:n]
        far = float(np.mean(pair_k))
        error += float(np.std(pair_k, ddof=1) / np.sqrt(n))
    by_h, by_fhf = negative
    # `total_entropy` leaves the negative mode out of the logarithms, but its trace has it: (by_fhf - 1) / 2 too little
    near = _without_probes(top) - _without_probes(low) + 0.5 * (by_fhf - 1.0)
    value = near + far + 0.5 * float(np.log(by_h / by_fhf))
    return EntropyDifference(value, error, len(top.near_site_s), n, max(low.steps, top.steps))


def _without_probes(total: TotalEntropy) -> float:
    """First-order term and near sites."""
    return total.value - (float(np.mean(total.probe_value_k)) if len(total.probe_value_k) else 0.0)


def _total(energy: Energy, u_nd: FloatArray, work: Work) -> TotalEntropy:
    matrix = hessian.operator(energy, u_nd)
    try:
        with RelativeHessian(matrix, energy.law, energy.supercell, energy.sites) as relative:
            return total_entropy(relative, energy, u_nd, work)
    finally:
        matrix.destroy()
