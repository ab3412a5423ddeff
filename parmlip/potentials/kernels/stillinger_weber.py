"""Site loops of Stillinger-Weber laws; any scalar type.

    V = 1/2 sum_j A [B (s/r)^p - (s/r)^q] exp(s / (r - c)) + sum_{j<k} L (cos_jk - cos0)^2 h(r_j) h(r_k),
    h(r) = exp(gamma s / (r - c)),

A and L in eV (times epsilon), c the cutoff of a pair.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from parmlip.potentials.kernels.eam import longest_range
from parmlip.potentials.kernels.eam_forms import FAST
from parmlip.potentials.kernels.triplets import add_angular, add_radial, dense_offsets, pairs_within, unit_vectors


class Tables(NamedTuple):
    """Constants by species: of a pair (centre, neighbour) and of a triplet (centre, neighbour, neighbour)."""

    a_st: Any  # eV
    b_st: Any
    p_st: Any
    q_st: Any
    sigma_st: Any  # angstrom
    cutoff_st: Any  # angstrom
    gamma_sigma_st: Any  # angstrom
    end_st: Any  # angstrom; from here to the cutoff all exponentials underflow to zero
    lambda_stu: Any  # eV
    cosine_stu: Any


@njit(cache=True)
def power(x: Any, p: float) -> Any:
    """x^p; by multiplication for small whole p."""
    n = int(p)
    if n == p and 0 <= n <= 16:
        y = x**0
        for _ in range(n):
            y = y * x
        return y
    return np.exp(p * np.log(x))


@njit(cache=True, error_model="numpy", fastmath=FAST)
def pair_function(tables: Any, s: int, t: int, r: Any) -> Any:
    """phi / 2 and two derivatives, eV / angstrom^k."""
    p, q, sigma = tables.p_st[s, t], tables.q_st[s, t], tables.sigma_st[s, t]
    x = sigma / r
    repulsion, attraction = tables.b_st[s, t] * power(x, p), power(x, q)
    w = 1.0 / r
    u = repulsion - attraction
    u1 = (q * attraction - p * repulsion) * w
    u2 = (p * (p + 1.0) * repulsion - q * (q + 1.0) * attraction) * w * w
    y = 1.0 / (r - tables.cutoff_st[s, t])
    e = 0.5 * tables.a_st[s, t] * np.exp(sigma * y)
    l1 = -sigma * y * y
    l2 = l1 * l1 - 2.0 * l1 * y  # second derivative of the exponential over itself
    return e * u, e * (u1 + u * l1), e * (u2 + 2.0 * u1 * l1 + u * l2)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def site_energies(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, tables: Any) -> Any:
    """V_n, eV."""
    v_n = np.zeros(len(first_n) - 1, r_pc.dtype)
    longest = longest_range(first_n)
    e_qc, h_q = np.empty((longest, 3), r_pc.dtype), np.empty(longest, r_pc.dtype)
    species_q = np.empty(longest, np.int64)
    for n in range(len(v_n)):
        s = species_n[n]
        m = 0
        for p in range(first_n[n], first_n[n + 1]):
            t = species_p[p]
            r2 = r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2]
            end = tables.end_st[s, t]
            if r2.real >= end * end:  # false for NaN, which must not be lost
                continue
            r = np.sqrt(r2)
            v_n[n] += pair_function(tables, s, t, r)[0]
            h_q[m] = np.exp(tables.gamma_sigma_st[s, t] / (r - tables.cutoff_st[s, t]))
            species_q[m] = t
            for c in range(3):
                e_qc[m, c] = r_pc[p, c] / r
            m += 1
        for j in range(m):
            for k in range(j):
                t, u = species_q[j], species_q[k]
                cosine = e_qc[j, 0] * e_qc[k, 0] + e_qc[j, 1] * e_qc[k, 1] + e_qc[j, 2] * e_qc[k, 2]
                off = cosine - tables.cosine_stu[s, t, u]
                v_n[n] += tables.lambda_stu[s, t, u] * h_q[j] * h_q[k] * off * off
    return v_n


@njit(cache=True, error_model="numpy", fastmath=FAST)
def site_gradients(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, tables: Any) -> Any:
    """V_n, eV, and dV_n / dr_pc, eV / angstrom."""
    v_n = np.zeros(len(first_n) - 1, r_pc.dtype)
    g_pc = np.zeros_like(r_pc)
    longest = longest_range(first_n)
    pair_q, species_q = np.empty(longest, np.int64), np.empty(longest, np.int64)
    e_qc = np.empty((longest, 3), r_pc.dtype)
    w_q, h_q, l_q = np.empty(longest, r_pc.dtype), np.empty(longest, r_pc.dtype), np.empty(longest, r_pc.dtype)
    f_qc = np.empty((longest, 3), r_pc.dtype)  # gradients
    for n in range(len(v_n)):
        s = species_n[n]
        energy = 0.0 * v_n[n]
        m = 0
        for p in range(first_n[n], first_n[n + 1]):
            t = species_p[p]
            r2 = r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2]
            end = tables.end_st[s, t]
            if r2.real >= end * end:
                continue
            r = np.sqrt(r2)
            phi, phi1, _ = pair_function(tables, s, t, r)
            energy += phi
            w = 1.0 / r
            y = 1.0 / (r - tables.cutoff_st[s, t])
            x = tables.gamma_sigma_st[s, t] * y
            pair_q[m], species_q[m], w_q[m] = p, t, w
            h_q[m], l_q[m] = np.exp(x), -x * y
            for c in range(3):
                e_qc[m, c] = r_pc[p, c] * w
                f_qc[m, c] = phi1 * e_qc[m, c]
            m += 1
        for j in range(m):
            for k in range(j):
                t, u = species_q[j], species_q[k]
                cosine = e_qc[j, 0] * e_qc[k, 0] + e_qc[j, 1] * e_qc[k, 1] + e_qc[j, 2] * e_qc[k, 2]
                off = cosine - tables.cosine_stu[s, t, u]
                f_c = tables.lambda_stu[s, t, u] * h_q[j] * h_q[k] * off
                f = f_c * off
                f_c *= 2.0
                energy += f
                cross_j, cross_k = f_c * w_q[j], f_c * w_q[k]
                along_j, along_k = f * l_q[j] - cosine * cross_j, f * l_q[k] - cosine * cross_k
                for c in range(3):
                    f_qc[j, c] += along_j * e_qc[j, c] + cross_j * e_qc[k, c]
                    f_qc[k, c] += along_k * e_qc[k, c] + cross_k * e_qc[j, c]
        v_n[n] = energy
        for j in range(m):
            for c in range(3):
                g_pc[pair_q[j], c] = f_qc[j, c]
    return v_n, g_pc


@njit(cache=True, error_model="numpy", fastmath=FAST)
def site_hessians(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, tables: Any) -> Any:
    """first_k, pair_k, first_x and h_x: the dense Hessians of all sites over their pairs within the cutoff."""
    first_k, pair_k = pairs_within(first_n, r_pc, species_n, species_p, tables.end_st)
    first_x = dense_offsets(first_k)
    h_x = np.zeros(first_x[-1], r_pc.dtype)
    longest = longest_range(first_k)
    e_qc, r_q = np.empty((longest, 3), r_pc.dtype), np.empty(longest, r_pc.dtype)
    h_q, l1_q, l2_q = np.empty(longest, r_pc.dtype), np.empty(longest, r_pc.dtype), np.empty(longest, r_pc.dtype)
    for n in range(len(first_k) - 1):
        s = species_n[n]
        pair_q = pair_k[first_k[n] : first_k[n + 1]]
        m = len(pair_q)
        h_qqcd = h_x[first_x[n] : first_x[n + 1]].reshape((m, m, 3, 3))
        unit_vectors(pair_q, r_pc, r_q, e_qc)
        for j in range(m):
            t = species_p[pair_q[j]]
            _, phi1, phi2 = pair_function(tables, s, t, r_q[j])
            add_radial(h_qqcd, j, e_qc, r_q[j], phi1, phi2)
            y = 1.0 / (r_q[j] - tables.cutoff_st[s, t])
            x = tables.gamma_sigma_st[s, t] * y
            h_q[j], l1_q[j] = np.exp(x), -x * y
            l2_q[j] = l1_q[j] * (l1_q[j] - 2.0 * y)  # h'' / h
            for k in range(j):
                u = species_p[pair_q[k]]
                cosine = e_qc[j, 0] * e_qc[k, 0] + e_qc[j, 1] * e_qc[k, 1] + e_qc[j, 2] * e_qc[k, 2]
                off = cosine - tables.cosine_stu[s, t, u]
                w = tables.lambda_stu[s, t, u] * h_q[j] * h_q[k]
                f, f_c = w * off * off, 2.0 * w * off
                l_j, l_k = l1_q[j], l1_q[k]
                first = (f * l_j, f * l_k, f_c)
                second = (f * l2_q[j], f * l2_q[k], f * l_j * l_k, f_c * l_j, f_c * l_k, 2.0 * w)
                add_angular(h_qqcd, j, k, e_qc, r_q, cosine, first, second)
    return first_k, pair_k, first_x, h_x
