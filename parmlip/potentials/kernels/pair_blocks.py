"""Hessian blocks of a law of pairs."""

from __future__ import annotations

from typing import Any

from numba import njit

from parmlip.potentials.kernels.scatter import find_block


@njit(cache=True)
def add_pair_blocks(centre_p: Any, site_p: Any, k_pcd: Any, first_r: Any, column_b: Any, blocks: Any) -> bool:
    """Add springs d2V_n / dr_p dr_p (n_pairs, 3, 3) between centres and sites; False if the pattern lacks a block."""
    for p in range(len(centre_p)):
        n, m = centre_p[p], site_p[p]
        for row, column, sign in ((n, n, 1.0), (m, m, 1.0), (n, m, -1.0), (m, n, -1.0)):
            b = find_block(first_r, column_b, row, column, first_r[row])
            if b < 0:
                return False
            for c in range(3):
                for d in range(3):
                    blocks[b, c, d] += sign * k_pcd[p, c, d]
    return True
