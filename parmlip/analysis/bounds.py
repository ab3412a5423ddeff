"""The bound of Theorem 3.1 in a study: one constant, calibrated on some points and tested on the others."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

RealArray = NDArray[np.float64]
FlagArray = NDArray[np.bool_]

# Fewer points would leave too few to calibrate on, or to test with.
_FEWEST: Final = 4


@dataclass(frozen=True)
class TheoremTerms:
    """The terms of (3.7) without their constant: sqrt(n_D) times eps^F, L^-d/2 eps^FC_hom and L^-3d/2."""

    force: float
    force_constants: float
    cell_size: float

    @property
    def total(self) -> float:
        """Their sum."""
        return self.force + self.force_constants + self.cell_size


def theorem_terms(
    dimension: int, n_defects: int, length: float, force: float, force_constants_hom: float
) -> TheoremTerms:
    """The terms of the geometry error's bound.

    Parameters
    ----------
    n_defects : int
        Of the simulation; 1 is taken for none.
    length : float
        L of the training cell in nearest-neighbour distances.
    force : float
        eps^F, dual norm, eV / angstrom.
    force_constants_hom : float
        eps^FC_hom, operator norm, eV / angstrom^2.

    References
    ----------
    Ortner and Wang (2022), (3.7).
    """
    root, decay = sqrt(max(n_defects, 1)), float(length) ** (-0.5 * dimension)
    return TheoremTerms(root * force, root * decay * force_constants_hom, root * decay**3)


@dataclass(frozen=True)
class Calibration:
    """A constant C of the bound error <= C form, and how the points lie to it."""

    constant: float  # the least that bounds all points that it was calibrated on
    calibrated: FlagArray  # (n,) points that it was calibrated on
    held_out: FlagArray  # (n,) points that it was tested with; the others could not be used
    ratio: RealArray  # (n,) error / (C form); NaN for points that could not be used
    how: str  # by what the points were chosen, in words

    @property
    def obeyed(self) -> int:
        """Held-out points that are below the bound."""
        return int((self.ratio[self.held_out] <= 1.0).sum())

    @property
    def spread(self) -> tuple[float, float, float]:
        """Least, median and largest error / bound of all points."""
        known = self.ratio[np.isfinite(self.ratio)]
        return float(known.min()), float(np.median(known)), float(known.max())


def calibrate(error: ArrayLike, form: ArrayLike, length: ArrayLike, usable: ArrayLike) -> Calibration | None:
    """The least constant for the smaller training cells, or for every second point where all have one size.

    Of the different sizes L the smaller half (rounded down) calibrates; with one size every second point in descending
    order of the form, from the largest. None for fewer than four points.

    Parameters
    ----------
    error, form, length : array_like, shape (n,)
        Geometry error, sum of the theorem's terms, L.
    usable : array_like of bool, shape (n,)
        Points in the reference's basin, of which all is known.
    """
    error_n, form_n, length_n = (np.asarray(x, dtype=float) for x in (error, form, length))
    known = np.asarray(usable, dtype=bool) & np.isfinite(error_n) & np.isfinite(form_n) & (form_n > 0.0)
    if known.sum() < _FEWEST:
        return None
    sizes = np.unique(np.round(length_n[known], 9))
    chosen = np.zeros(len(error_n), dtype=bool)
    if len(sizes) > 1:
        largest = float(sizes[len(sizes) // 2 - 1])
        chosen[known] = np.round(length_n[known], 9) <= largest
        how = f"points with L <= {largest:.4g}"
    else:
        order = np.flatnonzero(known)[np.argsort(-form_n[known], kind="stable")]
        chosen[order[::2]] = True
        how = "every second point"
    raw_n = np.full(len(error_n), np.nan)
    raw_n[known] = error_n[known] / form_n[known]
    constant = float(raw_n[chosen].max())
    return Calibration(constant, chosen, known & ~chosen, raw_n / constant if constant > 0.0 else raw_n, how)
