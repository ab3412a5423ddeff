"""Extreme eigenvalues of a distributed symmetric operator in an inner product, by Lanczos with reorthogonalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

from parmlip.mechanics.green import restrained
from parmlip.mechanics.line_search import dot
from parmlip.parallel.sites import Sites

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RitzValues:
    """Approximate eigenvalues, ascending; an eigenvalue lies within the residual of each."""

    values: FloatArray  # (steps,)
    residuals: FloatArray  # (steps,)
    vectors: tuple[FloatArray, ...] = field(default=(), repr=False)  # v of the lowest that were asked for, v.M v = 1
    images: tuple[FloatArray, ...] = field(default=(), repr=False)  # M v of the same

    @property
    def residual_lowest(self) -> float:
        """Residual of the lowest value."""
        return float(self.residuals[0])

    @property
    def residual_highest(self) -> float:
        """Residual of the highest value."""
        return float(self.residuals[-1])

    @property
    def scale(self) -> float:
        """Largest magnitude: of the operator's norm the lower bound that was found."""
        return float(np.abs(self.values).max())

    @property
    def residual_of_scale(self) -> float:
        """Residual of the value of largest magnitude."""
        return self.residual_highest if self.values[-1] >= -self.values[0] else self.residual_lowest


def ritz_values(
    product: Callable[[FloatArray], FloatArray],
    metric_inverse: Callable[[FloatArray], FloatArray] | None,
    done: Callable[[RitzValues], bool],
    sites: Sites,
    d: int,
    *,
    max_steps: int,
    seed: int,
    start_nd: FloatArray | None = None,
    n_vectors: int = 0,
    clamped_n: NDArray[np.bool_] | None = None,
) -> RitzValues:
    """Ritz values of H v = lambda M v outside the translations, until `done` or the space is exhausted.

    Lanczos for M^-1 H in the inner product of M, with full reorthogonalisation, from a random start that depends on
    global site numbers only.

    Collective on ``sites.comm``.

    Parameters
    ----------
    product : callable
        v -> H v on arrays (n_owned, d), symmetric.
    metric_inverse : callable or None
        M^-1, symmetric and positive on the complement of the translations; None for the identity.
    start_nd : ndarray, shape (n_owned, d), optional
        M times the start, in place of the random one.
    n_vectors : int
        How many of the lowest Ritz vectors are given.
    clamped_n : ndarray of bool, shape (n_owned,), optional
        Sites outside of the space, which then holds the translations of the others.
    """
    comm = sites.comm
    if start_nd is None:
        start_nd = sites.restrict(np.random.default_rng(seed).standard_normal((sites.n_sites, d)))
    w_nd = restrained(start_nd, sites, clamped_n)
    images: list[FloatArray] = []  # p_j = M v_j
    vectors: list[FloatArray] = []  # v_j, with p_i . v_j = delta_ij
    alpha: list[float] = []
    beta: list[float] = []
    while True:
        z_nd = metric_inverse(w_nd) if metric_inverse is not None else w_nd
        size = np.sqrt(max(dot(w_nd, z_nd, comm), 0.0))
        if alpha:
            values, s = eigh_tridiagonal(np.array(alpha), np.array(beta[1:]))
            found = RitzValues(values, size * np.abs(s[-1]))
            # A space that the operator maps into itself ends the recursion; equal operators do so in the first step.
            if size <= 1e-13 * max(found.scale, beta[0]) or done(found) or len(alpha) == max_steps:
                lowest = (s * np.where(s[0] < 0.0, -1.0, 1.0))[:, :n_vectors].T  # signs as the start has them
                return replace(found, vectors=_combined(vectors, lowest), images=_combined(images, lowest))
        images.append(w_nd / size)
        vectors.append(z_nd / size)
        beta.append(size)
        w_nd = restrained(product(vectors[-1]), sites, clamped_n)
        alpha.append(dot(w_nd, vectors[-1], comm))
        for _ in range(2):
            for p_nd, v_nd in zip(images, vectors, strict=True):
                w_nd = w_nd - dot(w_nd, v_nd, comm) * p_nd


def _combined(basis: list[FloatArray], weights_ij: FloatArray) -> tuple[FloatArray, ...]:
    return tuple(sum(w * b for w, b in zip(weights_j, basis, strict=True)) for weights_j in weights_ij)  # type: ignore[misc]
