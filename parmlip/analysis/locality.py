"""Decay of what a site depends on, seen against the distance. Plain functions of arrays.

References
----------
Torabi, Wang, Ortner (2024), section 3.2: theorem 3.1 has |dS_l/du_n| <= C r^(-2d), theorem 3.2 an error of truncation
<= C r^(-d).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parmlip.analysis.errors import Slope, fit_slope

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Envelope:
    """Largest values by bins of the distance, and the line through the logarithms of those in an interval."""

    distance_b: FloatArray  # of the largest value of each bin
    value_b: FloatArray
    slope: Slope | None  # None: fewer than three bins in the interval


def envelope(distance_a: FloatArray, value_a: FloatArray, bins: int, interval: tuple[float, float]) -> Envelope:
    """The largest of `value_a` in bins that are equal in the logarithm of the distance.

    Parameters
    ----------
    distance_a, value_a : ndarray, shape (n,)
        Points with distance or value zero are left out.
    bins : int
        Per factor of e.
    interval : two floats
        Distances between which the slope is fitted.
    """
    keep = (distance_a > 0.0) & (value_a > 0.0)
    distance, value = distance_a[keep], value_a[keep]
    number = np.floor(bins * np.log(distance) + 1e-9).astype(np.int64)
    order = np.lexsort((-value, number))
    first = order[np.unique(number[order], return_index=True)[1]]
    r_b, v_b = distance[first], value[first]
    return Envelope(r_b, v_b, slope_between(r_b, v_b, interval))


def slope_between(x_o: FloatArray, y_o: FloatArray, interval: tuple[float, float]) -> Slope | None:
    """The slope of log y against log x of the points with x in an interval; None for fewer than three."""
    low, high = interval
    use = (x_o >= low * (1.0 - 1e-9)) & (x_o <= high * (1.0 + 1e-9)) & (y_o > 0.0)
    return fit_slope(x_o[use], y_o[use]) if np.count_nonzero(use) >= 3 else None
