"""What laws of pairs and angles share: dense site Hessians of the few pairs within a cutoff; any scalar type.

With unit vectors e and c = e_j . e_k, a function F(r_j, r_k, c) of two neighbour vectors has
    dc/dr_j = (e_k - c e_j) / r_j,
    d2c/dr_j dr_j = (3 c e_j e_j^T - e_j e_k^T - e_k e_j^T - c 1) / r_j^2,
    d2c/dr_j dr_k = (1 - e_j e_j^T - e_k e_k^T + c e_j e_k^T) / (r_j r_k).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from parmlip.potentials.kernels.eam_forms import FAST
from parmlip.potentials.kernels.scatter import add_site_hessian


@njit(cache=True)
def pairs_within(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, end_st: Any) -> Any:
    """Pairs closer than `end_st`, by centre: pair_k[first_k[n]] .. pair_k[first_k[n + 1] - 1]; NaN counts as close."""
    n_centres = len(first_n) - 1
    first_k = np.zeros(n_centres + 1, np.int64)
    pair_k = np.empty(len(r_pc), np.int64)
    k = 0
    for n in range(n_centres):
        for p in range(first_n[n], first_n[n + 1]):
            r2 = r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2]
            end = end_st[species_n[n], species_p[p]]
            if r2.real >= end * end:
                continue
            pair_k[k] = p
            k += 1
        first_k[n + 1] = k
    return first_k, pair_k[:k].copy()


@njit(cache=True)
def dense_offsets(first_k: Any) -> Any:
    """Where the (m, m, 3, 3) Hessian of each centre with m pairs starts in a flat array; the last is its length."""
    first_x = np.zeros(len(first_k), np.int64)
    for n in range(len(first_k) - 1):
        m = first_k[n + 1] - first_k[n]
        first_x[n + 1] = first_x[n] + 9 * m * m
    return first_x


@njit(cache=True, error_model="numpy")
def unit_vectors(pair_q: Any, r_pc: Any, r_q: Any, e_qc: Any) -> None:
    """Lengths and unit vectors of some pairs, into `r_q` and `e_qc`."""
    for q in range(len(pair_q)):
        p = pair_q[q]
        r = np.sqrt(r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2])
        r_q[q] = r
        for c in range(3):
            e_qc[q, c] = r_pc[p, c] / r


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_radial(h_qqcd: Any, j: int, e_qc: Any, r: Any, f1: Any, f2: Any) -> None:
    """Add the Hessian of F(r_j)."""
    t = f1 / r
    for c in range(3):
        for d in range(3):
            h_qqcd[j, j, c, d] += (f2 - t) * e_qc[j, c] * e_qc[j, d]
        h_qqcd[j, j, c, c] += t


@njit(cache=True, error_model="numpy", fastmath=FAST)
def add_angular(h_qqcd: Any, j: int, k: int, e_qc: Any, r_q: Any, cosine: Any, first: Any, second: Any) -> None:
    """Add the Hessian of F(r_j, r_k, c); `first` = (F_j, F_k, F_c), `second` = (F_jj, F_kk, F_jk, F_jc, F_kc, F_cc)."""
    f_j, f_k, f_c = first
    f_jj, f_kk, f_jk, f_jc, f_kc, f_cc = second
    w_j, w_k = 1.0 / r_q[j], 1.0 / r_q[k]
    a_j, a_k, a_jk = f_c * w_j * w_j, f_c * w_k * w_k, f_c * w_j * w_k
    t_j, t_k = f_j * w_j - a_j * cosine, f_k * w_k - a_k * cosine
    b_j, b_k = f_jj - f_j * w_j + 3.0 * cosine * a_j, f_kk - f_k * w_k + 3.0 * cosine * a_k
    for c in range(3):
        x_j, x_k = e_qc[j, c], e_qc[k, c]
        c_j, c_k = (x_k - cosine * x_j) * w_j, (x_j - cosine * x_k) * w_k
        for d in range(3):
            y_j, y_k = e_qc[j, d], e_qc[k, d]
            d_j, d_k = (y_k - cosine * y_j) * w_j, (y_j - cosine * y_k) * w_k
            cross = x_j * y_k + x_k * y_j
            h_qqcd[j, j, c, d] += b_j * x_j * y_j + f_jc * (x_j * d_j + c_j * y_j) + f_cc * c_j * d_j - a_j * cross
            h_qqcd[k, k, c, d] += b_k * x_k * y_k + f_kc * (x_k * d_k + c_k * y_k) + f_cc * c_k * d_k - a_k * cross
            h = f_jk * x_j * y_k + f_jc * x_j * d_k + f_kc * c_j * y_k + f_cc * c_j * d_k
            h -= a_jk * (x_j * y_j + x_k * y_k - cosine * x_j * y_k)
            if c == d:
                h_qqcd[j, j, c, d] += t_j
                h_qqcd[k, k, c, d] += t_k
                h += a_jk
            h_qqcd[j, k, c, d] += h
            h_qqcd[k, j, d, c] += h


@njit(cache=True, error_model="numpy", fastmath=FAST)
def apply_site_hessians(first_k: Any, pair_k: Any, first_x: Any, h_x: Any, dr_pc: Any) -> Any:
    """dg_p = sum_q h_pq dr_q of every centre; zero for the other pairs."""
    dg_pc = np.zeros(dr_pc.shape, h_x.dtype)
    for n in range(len(first_k) - 1):
        start = first_k[n]
        m = first_k[n + 1] - start
        h_qqcd = h_x[first_x[n] : first_x[n + 1]].reshape((m, m, 3, 3))
        for i in range(m):
            for c in range(3):
                total = 0.0 * dg_pc[pair_k[start], 0]
                for j in range(m):
                    q = pair_k[start + j]
                    h_d = h_qqcd[i, j, c]
                    total += h_d[0] * dr_pc[q, 0] + h_d[1] * dr_pc[q, 1] + h_d[2] * dr_pc[q, 2]
                dg_pc[pair_k[start + i], c] = total
    return dg_pc


@njit(cache=True)
def scatter_site_hessians(
    first_k: Any, pair_k: Any, first_x: Any, h_x: Any, site_p: Any, first_r: Any, column_b: Any
) -> Any:
    """All site Hessians on a block pattern; False if the pattern lacks a block."""
    blocks = np.zeros((len(column_b), 3, 3), h_x.dtype)
    for n in range(len(first_k) - 1):
        m = first_k[n + 1] - first_k[n]
        if m == 0:
            continue
        h_qqcd = h_x[first_x[n] : first_x[n + 1]].reshape((m, m, 3, 3))
        site_q = site_p[pair_k[first_k[n] : first_k[n + 1]]]
        if not add_site_hessian(n, site_q, h_qqcd, first_r, column_b, blocks):
            return blocks, False
    return blocks, True
