"""Divided differences of the logarithm: the derivative of matrix logarithms in an eigenbasis.

References
----------
Daleckii, Krein, AMS Transl. 47, 1 (1965); Higham, Functions of Matrices (2008), theorem 3.11.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def log_divided_differences(x_j: FloatArray) -> FloatArray:
    """(log x_j - log x_k) / (x_j - x_k) for positive x, 1 / x_j on the diagonal; exact to rounding for close values.

    For close ones log(x/y) / (x - y) = 2 artanh(t) / (t (x + y)), t = (x - y) / (x + y), by its series.
    """
    sum_jk = x_j[:, None] + x_j[None, :]
    difference_jk = x_j[:, None] - x_j[None, :]
    t2_jk = (difference_jk / sum_jk) ** 2
    close = t2_jk < 1e-3
    series = sum(t2_jk**n / (2 * n + 1) for n in range(1, 7)) + 1.0  # the first term left out is below 1e-22
    logs = np.log(x_j)
    return np.asarray(
        np.where(close, 2.0 / sum_jk * series, (logs[:, None] - logs[None, :]) / np.where(close, 1.0, difference_jk))
    )
