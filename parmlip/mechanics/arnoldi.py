"""The eigenvalue of least real part of a distributed operator that need not be symmetric, by Arnoldi's method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.mechanics.green import restrained
from parmlip.mechanics.line_search import dot
from parmlip.parallel.sites import Sites

FloatArray = NDArray[np.float64]

_EVERY: Final = 4  # steps: the projected eigenvalue problem takes longer than a product with a small Jacobian


@dataclass(frozen=True)
class LeftmostValues:
    """Ritz values by ascending real part; the leftmost has a residual."""

    values: NDArray[np.complex128]  # (steps,)
    residual: float  # norm, in the metric, of that of the leftmost pair: its vector has length 1

    @property
    def scale(self) -> float:
        """Largest magnitude: of the operator's norm the lower bound that was found."""
        return float(np.abs(self.values).max())


def leftmost_values(
    product: Callable[[FloatArray], FloatArray],
    metric_inverse: Callable[[FloatArray], FloatArray] | None,
    done: Callable[[LeftmostValues], bool],
    sites: Sites,
    d: int,
    *,
    max_steps: int,
    seed: int,
    clamped_n: NDArray[np.bool_] | None = None,
) -> LeftmostValues:
    """Ritz values of J v = lambda M v, until `done`, which is asked at every fourth step, or the space is exhausted.

    Arnoldi for M^-1 J in the inner product of M, from a random start that depends on global site numbers only: what
    `extremes.ritz_values` does where J is symmetric. A real matrix has its complex values in pairs, of which one comes
    first.

    Collective on ``sites.comm``.

    Parameters
    ----------
    product : callable
        v -> J v on arrays (n_owned, d).
    metric_inverse : callable or None
        M^-1, symmetric and positive on the complement of the translations, or on free sites; None for the identity.
    clamped_n : ndarray of bool, shape (n_owned,), optional
        Sites outside of the space.

    References
    ----------
    Saad, "Numerical methods for large eigenvalue problems" (2011), section 6.2.
    """
    comm = sites.comm
    w_nd = restrained(sites.restrict(np.random.default_rng(seed).standard_normal((sites.n_sites, d))), sites, clamped_n)
    images: list[FloatArray] = []  # p_j = M v_j
    vectors: list[FloatArray] = []  # v_j, with p_i . v_j = delta_ij
    columns: list[FloatArray] = []  # of the projected operator, h_ij = v_i . J v_j
    below: list[float] = []  # h_j+1,j
    while True:
        z_nd = metric_inverse(w_nd) if metric_inverse is not None else w_nd
        size = float(np.sqrt(max(dot(w_nd, z_nd, comm), 0.0)))
        if columns:
            ended = size <= 1e-13 * max(np.abs(h_i).max() for h_i in columns) or len(columns) == max_steps
            if ended or len(columns) % _EVERY == 0:
                found = _ritz(columns, below, size)
                if ended or done(found):
                    return found
            below.append(size)
        images.append(w_nd / size)
        vectors.append(z_nd / size)
        w_nd = restrained(product(vectors[-1]), sites, clamped_n)
        h_i = np.zeros(len(vectors))
        for _ in range(2):
            for i, (p_nd, v_nd) in enumerate(zip(images, vectors, strict=True)):
                part = dot(w_nd, v_nd, comm)
                w_nd = w_nd - part * p_nd
                h_i[i] += part
        columns.append(h_i)


def _ritz(columns: list[FloatArray], below: list[float], size: float) -> LeftmostValues:
    n = len(columns)
    h_ij = np.zeros((n, n))
    for j, column in enumerate(columns):
        h_ij[: j + 1, j] = column
    h_ij[np.arange(1, n), np.arange(n - 1)] = below
    values, y_ij = np.linalg.eig(h_ij)
    order = np.lexsort((-values.imag, values.real))
    return LeftmostValues(np.asarray(values[order], dtype=complex), size * float(abs(y_ij[-1, order[0]])))
