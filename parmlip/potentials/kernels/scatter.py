"""Where the blocks of site Hessians go in a block matrix over sites."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True)
def group_by_site(site_p: Any, n_sites: int) -> tuple[Any, Any]:
    """Pairs by neighbour: pair_k[first_m[m]] .. pair_k[first_m[m + 1] - 1] are those, rising, whose neighbour is m."""
    first_m = np.zeros(n_sites + 1, np.int64)
    for p in range(len(site_p)):
        first_m[site_p[p] + 1] += 1
    for m in range(n_sites):
        first_m[m + 1] += first_m[m]
    next_m = first_m[:-1].copy()
    pair_k = np.empty(len(site_p), np.int64)
    for p in range(len(site_p)):
        pair_k[next_m[site_p[p]]] = p
        next_m[site_p[p]] += 1
    return first_m, pair_k


@njit(cache=True)
def find_block(first_r: Any, column_b: Any, row: int, column: int, start: int) -> int:
    """Number of the block (row, column), looked for from block `start` on; -1 if the pattern lacks it.

    The steps grow by two and are then halved, so that a walk through rising columns costs the logarithm of each gap.
    """
    low = max(start, first_r[row])
    end = first_r[row + 1]
    step = 1
    high = low
    while high < end and column_b[high] < column:
        low = high + 1
        high += step
        step *= 2
    if high > end:
        high = end
    while low < high:
        middle = (low + high) // 2
        if column_b[middle] < column:
            low = middle + 1
        else:
            high = middle
    if low < end and column_b[low] == column:
        return int(low)
    return -1


@njit(cache=True)
def add_site_hessian(centre: int, site_q: Any, h_qqcd: Any, first_r: Any, column_b: Any, blocks: Any) -> bool:
    """Add the Hessian of one site energy to a block matrix.

    With dr_q = u_q - u_centre the blocks are H_ij = sum over pairs of (d r_p / d u_i) h_pq (d r_q / d u_j).

    Parameters
    ----------
    centre : int
        Local number of the centre.
    site_q : ndarray, shape (n,)
        Local numbers of the neighbours; repeated for images, may contain the centre.
    h_qqcd : ndarray, shape (n, n, 3, 3)
        d2V / dr_pc dr_qd, eV / angstrom^2.
    first_r, column_b : ndarray
        `BlockPattern`.
    blocks : ndarray, shape (n_blocks, 3, 3)
        Changed in place, eV / angstrom^2.

    Returns
    -------
    found : bool
        False, with `blocks` incomplete, if a block is not in the pattern.
    """
    n = len(site_q)
    order = np.argsort(site_q, kind="mergesort")
    column_sum = np.zeros((n, 3, 3), h_qqcd.dtype)  # sum over p of h_pq
    total = np.zeros((3, 3), h_qqcd.dtype)
    for p in range(n):
        row = site_q[p]
        row_sum = np.zeros((3, 3), h_qqcd.dtype)
        b = first_r[row]
        for k in range(n):
            q = order[k]
            b = find_block(first_r, column_b, row, site_q[q], b)
            if b < 0:
                return False
            for c in range(3):
                for d in range(3):
                    h = h_qqcd[p, q, c, d]
                    blocks[b, c, d] += h
                    row_sum[c, d] += h
                    column_sum[q, c, d] += h
        b = find_block(first_r, column_b, row, centre, first_r[row])
        if b < 0:
            return False
        for c in range(3):
            for d in range(3):
                blocks[b, c, d] -= row_sum[c, d]
                total[c, d] += row_sum[c, d]
    b = first_r[centre]
    for k in range(n):
        q = order[k]
        b = find_block(first_r, column_b, centre, site_q[q], b)
        if b < 0:
            return False
        for c in range(3):
            for d in range(3):
                blocks[b, c, d] -= column_sum[q, c, d]
    b = find_block(first_r, column_b, centre, centre, first_r[centre])
    if b < 0:
        return False
    for c in range(3):
        for d in range(3):
            blocks[b, c, d] += total[c, d]
    return True
