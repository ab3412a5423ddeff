"""Site loops of embedded-atom laws, V = F(rho) + 1/2 sum_p phi(r_p) with rho = sum_p rho(r_p); any scalar type.

With the unit vectors e_p and k = F' rho + phi / 2 at fixed F', the derivatives are
    dV/dr_p        = k'_p e_p
    d2V/dr_p dr_q  = delta_pq (t_p 1 + a_p e_p e_p^T) + F'' b_p b_q^T,
    t_p = k'_p / r_p,   a_p = k''_p - t_p,   b_p = rho'_p e_p.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from parmlip.potentials.kernels.eam_forms import FAST, LANES, embedding, pair_functions
from parmlip.potentials.kernels.scatter import group_by_site


@njit(cache=True)
def longest_range(first_n: Any) -> int:
    """Largest number of pairs of a centre."""
    longest = 0
    for n in range(len(first_n) - 1):
        longest = max(longest, first_n[n + 1] - first_n[n])
    return longest


@njit(cache=True)
def room(first_n: Any, r_pc: Any, forms: Any, n_rows: int) -> Any:
    """What `radial_functions` fills, by species t of the neighbours: n_t, pair_tq, r_tq and f_tkq."""
    n_species = len(forms.embedding_form_s)
    longest = longest_range(first_n) + LANES
    return (
        np.empty(n_species, np.int64),
        np.empty((n_species, longest), np.int64),
        np.empty((n_species, longest), r_pc.dtype),
        np.empty((n_species, n_rows, longest), r_pc.dtype),
    )


@njit(cache=True, error_model="numpy", fastmath=FAST, forceinline=True)
def radial_functions(
    start: int, end: int, r_pc: Any, s: int, species_p: Any, forms: Any, order: int, into: Any
) -> None:
    """Of the pairs start .. end - 1 of a centre of species s, those within the cutoff, by species t of the neighbour.

    n_t their number; pair_tq the pair counted from `start`; r_tq the distance; f_tkq the rows of `pair_functions`.
    """
    n_t, pair_tq, r_tq, f_tkq = into
    cutoff2 = forms.range_k[0] * forms.range_k[0]
    for t in range(len(n_t)):
        pair_q, r_q = pair_tq[t], r_tq[t]
        near = 0
        for p in range(start, end):  # without branches: which neighbours are near is as good as random
            r2 = r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2]
            pair_q[near] = p - start
            r_q[near] = r2
            inside = not r2.real >= cutoff2  # true for NaN, which must not be lost
            near += inside and (len(n_t) == 1 or species_p[p] == t)
        n_t[t] = near
        padded = (near + LANES - 1) // LANES * LANES  # so that no distances are left over to be done one by one
        for q in range(near, padded):
            r_q[q] = cutoff2
        for q in range(padded):
            r_q[q] = np.sqrt(r_q[q])
        pair_functions(forms, s, t, r_q, padded, order, f_tkq[t])


@njit(cache=True, error_model="numpy", fastmath=FAST)
def site_energies(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, forms: Any) -> Any:
    """V_n, eV."""
    v_n = np.zeros(len(first_n) - 1, r_pc.dtype)
    into = room(first_n, r_pc, forms, 4)
    n_t, _, _, f_tkq = into
    for n in range(len(v_n)):
        s = species_n[n]
        radial_functions(first_n[n], first_n[n + 1], r_pc, s, species_p, forms, 1, into)
        density = v_n[n]  # zero, in the scalar type
        pair = v_n[n]
        for t in range(len(n_t)):
            f_kq = f_tkq[t]
            for q in range(n_t[t]):
                pair += f_kq[0, q]
                density += f_kq[2, q]
        v_n[n] = embedding(forms, s, density)[0] + 0.5 * pair
    return v_n


@njit(cache=True, error_model="numpy", fastmath=FAST)
def site_gradients(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, forms: Any) -> Any:
    """V_n, eV, and g_pc = k'_p e_p, eV / angstrom."""
    v_n = np.zeros(len(first_n) - 1, r_pc.dtype)
    g_pc = np.empty_like(r_pc)
    into = room(first_n, r_pc, forms, 4)
    n_t, pair_tq, r_tq, f_tkq = into
    t_p = np.empty(r_tq.shape[1], r_pc.dtype)  # k'_p / r_p of all pairs of the centre
    for n in range(len(v_n)):
        s = species_n[n]
        start = first_n[n]
        width = first_n[n + 1] - start
        radial_functions(start, first_n[n + 1], r_pc, s, species_p, forms, 1, into)
        density = v_n[n]  # zero, in the scalar type
        pair = v_n[n]
        for t in range(len(n_t)):
            f_kq = f_tkq[t]
            for q in range(n_t[t]):
                pair += f_kq[0, q]
                density += f_kq[2, q]
        f, f1, _ = embedding(forms, s, density)
        v_n[n] = f + 0.5 * pair
        t_p[:width] = 0.0
        for t in range(len(n_t)):
            f_kq, r_q, pair_q = f_tkq[t], r_tq[t], pair_tq[t]
            for q in range(n_t[t]):
                r_q[q] = (0.5 * f_kq[1, q] + f1 * f_kq[3, q]) / r_q[q]
            for q in range(n_t[t]):
                t_p[pair_q[q]] = r_q[q]
        for p in range(width):
            g_pc[start + p, 0] = t_p[p] * r_pc[start + p, 0]
            g_pc[start + p, 1] = t_p[p] * r_pc[start + p, 1]
            g_pc[start + p, 2] = t_p[p] * r_pc[start + p, 2]
    return v_n, g_pc


@njit(cache=True, error_model="numpy", fastmath=FAST)
def factors(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, forms: Any) -> Any:
    """e_pc, t_p, a_p, rho'_p and F''_n of the site Hessians; all zero for a pair beyond the cutoff."""
    n_pairs = len(r_pc)
    e_pc = np.zeros_like(r_pc)
    t_p = np.zeros(n_pairs, r_pc.dtype)
    a_p = np.zeros(n_pairs, r_pc.dtype)
    rho1_p = np.zeros(n_pairs, r_pc.dtype)
    f2_n = np.zeros(len(first_n) - 1, r_pc.dtype)
    into = room(first_n, r_pc, forms, 6)
    n_t, pair_tq, r_tq, f_tkq = into
    for n in range(len(f2_n)):
        s = species_n[n]
        start = first_n[n]
        radial_functions(start, first_n[n + 1], r_pc, s, species_p, forms, 2, into)
        density = f2_n[n]  # zero, in the scalar type
        for t in range(len(n_t)):
            for q in range(n_t[t]):
                density += f_tkq[t, 3, q]
        _, f1, f2_n[n] = embedding(forms, s, density)
        for t in range(len(n_t)):
            f_kq = f_tkq[t]
            for q in range(n_t[t]):
                p = start + pair_tq[t, q]
                inverse = 1.0 / r_tq[t, q]
                t_p[p] = (0.5 * f_kq[1, q] + f1 * f_kq[4, q]) * inverse
                a_p[p] = 0.5 * f_kq[2, q] + f1 * f_kq[5, q] - t_p[p]
                rho1_p[p] = f_kq[4, q]
                for c in range(3):
                    e_pc[p, c] = r_pc[p, c] * inverse
    return e_pc, t_p, a_p, rho1_p, f2_n


@njit(cache=True, error_model="numpy", fastmath=FAST)
def tangent(first_n: Any, e_pc: Any, t_p: Any, a_p: Any, rho1_p: Any, f2_n: Any, dr_pc: Any) -> Any:
    """dg_p = t_p dr_p + a_p e_p (e_p . dr_p) + F'' b_p sum_q b_q . dr_q."""
    dg_pc = np.empty_like(e_pc)
    along_q = np.empty(longest_range(first_n), e_pc.dtype)
    for n in range(len(f2_n)):
        start = first_n[n]
        total = 0.0 * f2_n[n]
        for p in range(start, first_n[n + 1]):
            along = e_pc[p, 0] * dr_pc[p, 0] + e_pc[p, 1] * dr_pc[p, 1] + e_pc[p, 2] * dr_pc[p, 2]
            along_q[p - start] = along
            total += rho1_p[p] * along
        total *= f2_n[n]
        for p in range(start, first_n[n + 1]):
            x = a_p[p] * along_q[p - start] + rho1_p[p] * total
            for c in range(3):
                dg_pc[p, c] = t_p[p] * dr_pc[p, c] + x * e_pc[p, c]
    return dg_pc


@njit(cache=True, error_model="numpy", fastmath=FAST)
def hessian_blocks(
    first_n: Any, site_p: Any, e_pc: Any, t_p: Any, a_p: Any, rho1_p: Any, f2_n: Any, first_r: Any, column_b: Any
) -> Any:
    """All site Hessians on a block pattern; False if the pattern lacks a block.

    A row at a time, so that a table of the row's columns replaces searches (the outer product has as many terms as
    there are *pairs of pairs*); rows meet only the pairs that reach them. Pairs with rho' = 0 stay out of the product.
    """
    n_centres = len(first_n) - 1
    n_rows = len(first_r) - 1
    blocks = np.zeros((len(column_b), 3, 3), e_pc.dtype)
    # pairs within the cutoff, k; those with rho' != 0, j, as b = rho' e; and the sum of b over each centre
    n_inside = 0
    n_dense = 0
    for p in range(len(site_p)):
        if e_pc[p, 0] != 0.0 or e_pc[p, 1] != 0.0 or e_pc[p, 2] != 0.0:
            n_inside += 1
            if rho1_p[p] != 0.0:
                n_dense += 1
    pair_k = np.empty(n_inside, np.int64)
    site_k = np.empty(n_inside, np.int64)
    centre_k = np.empty(n_inside, np.int64)
    first_k = np.zeros(n_centres + 1, np.int64)
    site_j = np.empty(n_dense, np.int64)
    b_jc = np.empty((n_dense, 3), e_pc.dtype)
    first_j = np.zeros(n_centres + 1, np.int64)
    sum_nc = np.zeros((n_centres, 3), e_pc.dtype)
    k = 0
    j = 0
    for n in range(n_centres):
        for p in range(first_n[n], first_n[n + 1]):
            if e_pc[p, 0] != 0.0 or e_pc[p, 1] != 0.0 or e_pc[p, 2] != 0.0:
                pair_k[k] = p
                site_k[k] = site_p[p]
                centre_k[k] = n
                k += 1
                if rho1_p[p] != 0.0:
                    site_j[j] = site_p[p]
                    for c in range(3):
                        b_jc[j, c] = rho1_p[p] * e_pc[p, c]
                        sum_nc[n, c] += b_jc[j, c]
                    j += 1
        first_k[n + 1] = k
        first_j[n + 1] = j
    first_m, order_m = group_by_site(site_k, n_rows)
    block_of = np.full(n_rows, -1, np.int64)  # of the columns of the present row
    outer = np.empty(3, e_pc.dtype)
    for row in range(n_rows):
        for b in range(first_r[row], first_r[row + 1]):
            block_of[column_b[b]] = b
        diagonal = block_of[row]
        as_centre = row < n_centres
        if diagonal < 0 and ((as_centre and first_k[row + 1] > first_k[row]) or first_m[row + 1] > first_m[row]):
            return blocks, False
        # the row's site as neighbour of other centres
        for m in range(first_m[row], first_m[row + 1]):
            k = order_m[m]
            p = pair_k[k]
            n = centre_k[k]
            b = block_of[n]
            if b < 0:
                return blocks, False
            for c in range(3):
                for d in range(3):
                    h = a_p[p] * e_pc[p, c] * e_pc[p, d]
                    if c == d:
                        h += t_p[p]
                    blocks[diagonal, c, d] += h
                    blocks[b, c, d] -= h
            if rho1_p[p] != 0.0:
                for c in range(3):
                    outer[c] = f2_n[n] * rho1_p[p] * e_pc[p, c]
                for c in range(3):
                    for d in range(3):
                        blocks[b, c, d] -= outer[c] * sum_nc[n, d]
                x, y, z = outer[0], outer[1], outer[2]
                for j in range(first_j[n], first_j[n + 1]):
                    b = block_of[site_j[j]]
                    if b < 0:
                        return blocks, False
                    u, v, w = b_jc[j, 0], b_jc[j, 1], b_jc[j, 2]
                    blocks[b, 0, 0] += x * u
                    blocks[b, 0, 1] += x * v
                    blocks[b, 0, 2] += x * w
                    blocks[b, 1, 0] += y * u
                    blocks[b, 1, 1] += y * v
                    blocks[b, 1, 2] += y * w
                    blocks[b, 2, 0] += z * u
                    blocks[b, 2, 1] += z * v
                    blocks[b, 2, 2] += z * w
        # and as centre
        if as_centre:
            for k in range(first_k[row], first_k[row + 1]):
                p = pair_k[k]
                b = block_of[site_k[k]]
                if b < 0:
                    return blocks, False
                for c in range(3):
                    for d in range(3):
                        h = a_p[p] * e_pc[p, c] * e_pc[p, d]
                        if c == d:
                            h += t_p[p]
                        blocks[diagonal, c, d] += h
                        blocks[b, c, d] -= h
            for c in range(3):
                outer[c] = f2_n[row] * sum_nc[row, c]
            for j in range(first_j[row], first_j[row + 1]):
                b = block_of[site_j[j]]
                for c in range(3):
                    for d in range(3):
                        blocks[b, c, d] -= outer[c] * b_jc[j, d]
            if first_j[row + 1] > first_j[row]:
                for c in range(3):
                    for d in range(3):
                        blocks[diagonal, c, d] += outer[c] * sum_nc[row, d]
        for b in range(first_r[row], first_r[row + 1]):
            block_of[column_b[b]] = -1
    return blocks, True
