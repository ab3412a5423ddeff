"""Recursive coordinate bisection of sites over ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def bisect(positions_ac: NDArray[np.float64], n_parts: int) -> NDArray[np.int32]:
    """Owner of each site: compact boxes of nearly equal numbers of sites.

    Parameters
    ----------
    positions_ac : ndarray, shape (n_sites, 3)
        Reference positions, angstrom; the same on every rank.
    n_parts : int
        Number of ranks; if it exceeds the number of sites some ranks own nothing.

    Returns
    -------
    owner_a : ndarray, shape (n_sites,)
        Rank that owns each site; a function of the arguments alone, hence the same on every rank.
    """
    owner_a = np.zeros(len(positions_ac), dtype=np.int32)
    todo = [(np.arange(len(positions_ac)), 0, n_parts)]
    while todo:
        sites, first, parts = todo.pop()
        if parts == 1:
            owner_a[sites] = first
            continue
        left = parts // 2
        n_left = (len(sites) * left + parts // 2) // parts
        if len(sites):
            span_c = np.ptp(positions_ac[sites], axis=0)
            # Stable: equal coordinates (a lattice plane) are split by site number, the same way everywhere. Rounding to
            # 1e-9 of the span keeps a plane together whose coordinates differ in the last bits.
            axis = int(np.argmax(np.round(span_c, 9)))
            scale = float(span_c[axis]) or 1.0
            order = np.argsort(np.round(positions_ac[sites, axis] / scale, 9), kind="stable")
            sites = sites[order]
        todo.append((np.sort(sites[:n_left]), first, left))
        todo.append((np.sort(sites[n_left:]), first + left, parts - left))
    return owner_a
