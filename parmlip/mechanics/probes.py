"""Random vectors of +-1 on some sites of the perfect grid, keyed by site: the same on any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from parmlip.mechanics.resolvent import RelativeHessian

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def probes(relative: RelativeHessian, site_s: IntArray, stream: tuple[int, int], numbers: Sequence[int]) -> FloatArray:
    """Local share (n_local, n_vectors) of vectors with +-1 in every component of the given sites, else zero. Local.

    Parameters
    ----------
    site_s : ndarray of int
        Existing or vacant sites as in `RelativeHessian.start`, none of them extra.
    stream : (seed, kind)
    numbers : sequence of int
        Of the vectors.
    """
    chosen_g = np.zeros(relative.n_grid, dtype=bool)
    chosen_g[relative.grid_number(site_s)] = True
    here, d = relative.grid_number_s, relative.dimension
    z_xb = np.zeros((relative.n_local, len(numbers)))
    for b, number in enumerate(numbers):
        n = relative.n_grid * d
        bits = np.random.default_rng([*stream, number]).integers(0, 256, size=-(-n // 8), dtype=np.uint8)
        sign_gc = 2.0 * np.unpackbits(bits)[:n].reshape(-1, d)[here] - 1.0
        z_xb[: relative.n_slab, b] = (sign_gc * chosen_g[here, None]).ravel()
    return z_xb
