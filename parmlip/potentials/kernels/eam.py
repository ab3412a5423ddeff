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

from parmlip.potentials.kernels.eam_forms import FAST, embedding, pair_functions
from parmlip.potentials.kernels.scatter import group_by_site


@njit(cache=True)
def longest_range(first_n: Any) -> int:
    """Largest number of pairs of a centre."""
    longest = 0
    for n in range(len(first_n) - 1):
        longest = max(longest, first_n[n + 1] - first_n[n])
    return longest


@njit(cache=True, error_model="numpy", fastmath=FAST)
def site_energies(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, forms: Any) -> Any:
    """V_n, eV."""
    constants = forms.constants
    cutoff, taper_start = forms.range_k[0], forms.range_k[1]
    cutoff2 = cutoff * cutoff
    v_n = np.zeros(len(first_n) - 1, r_pc.dtype)
    for n in range(len(v_n)):
        s = species_n[n]
        density = v_n[n]  # zero, in the scalar type
        pair = v_n[n]
        for p in range(first_n[n], first_n[n + 1]):
            r2 = r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2]
            if r2.real >= cutoff2:  # false for NaN, which must not be lost
                continue
            form, i = forms.pair_form_st[s, species_p[p]], forms.pair_start_st[s, species_p[p]]
            phi, _, _, rho, _, _ = pair_functions(constants, form, i, taper_start, cutoff, np.sqrt(r2))
            pair += phi
            density += rho
        v_n[n] = embedding(forms, s, density)[0] + 0.5 * pair
    return v_n


@njit(cache=True, error_model="numpy", fastmath=FAST)
def site_gradients(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, forms: Any) -> Any:
    """V_n, eV, and g_pc = k'_p e_p, eV / angstrom."""
    constants = forms.constants
    cutoff, taper_start = forms.range_k[0], forms.range_k[1]
    cutoff2 = cutoff * cutoff
    v_n = np.zeros(len(first_n) - 1, r_pc.dtype)
    g_pc = np.empty_like(r_pc)
    longest = longest_range(first_n)
    phi1_q = np.empty(longest, r_pc.dtype)  # phi' / 2r
    rho1_q = np.empty(longest, r_pc.dtype)  # rho' / r
    for n in range(len(v_n)):
        s = species_n[n]
        start = first_n[n]
        density = v_n[n]  # zero, in the scalar type
        pair = v_n[n]
        for p in range(start, first_n[n + 1]):
            r2 = r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2]
            if r2.real >= cutoff2:
                phi1_q[p - start] = 0.0
                rho1_q[p - start] = 0.0
                continue
            r = np.sqrt(r2)
            form, i = forms.pair_form_st[s, species_p[p]], forms.pair_start_st[s, species_p[p]]
            phi, phi1, _, rho, rho1, _ = pair_functions(constants, form, i, taper_start, cutoff, r)
            inverse = 1.0 / r
            pair += phi
            density += rho
            phi1_q[p - start] = 0.5 * phi1 * inverse
            rho1_q[p - start] = rho1 * inverse
        f, f1, _ = embedding(forms, s, density)
        v_n[n] = f + 0.5 * pair
        for p in range(start, first_n[n + 1]):
            t = phi1_q[p - start] + f1 * rho1_q[p - start]
            g_pc[p, 0] = t * r_pc[p, 0]
            g_pc[p, 1] = t * r_pc[p, 1]
            g_pc[p, 2] = t * r_pc[p, 2]
    return v_n, g_pc


@njit(cache=True, error_model="numpy", fastmath=FAST)
def factors(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, forms: Any) -> Any:
    """e_pc, t_p, a_p, rho'_p and F''_n of the site Hessians; all zero for a pair beyond the cutoff."""
    constants = forms.constants
    cutoff, taper_start = forms.range_k[0], forms.range_k[1]
    cutoff2 = cutoff * cutoff
    n_pairs = len(r_pc)
    e_pc = np.zeros_like(r_pc)
    t_p = np.zeros(n_pairs, r_pc.dtype)
    a_p = np.zeros(n_pairs, r_pc.dtype)
    rho1_p = np.zeros(n_pairs, r_pc.dtype)
    f2_n = np.zeros(len(first_n) - 1, r_pc.dtype)
    longest = longest_range(first_n)
    rho1_over_r_q = np.empty(longest, r_pc.dtype)
    rho2_q = np.empty(longest, r_pc.dtype)
    for n in range(len(f2_n)):
        s = species_n[n]
        start = first_n[n]
        density = f2_n[n]  # zero, in the scalar type
        for p in range(start, first_n[n + 1]):
            rho1_over_r_q[p - start] = 0.0
            rho2_q[p - start] = 0.0
            r2 = r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2]
            if r2.real >= cutoff2:
                continue
            r = np.sqrt(r2)
            form, i = forms.pair_form_st[s, species_p[p]], forms.pair_start_st[s, species_p[p]]
            _, phi1, phi2, rho, rho1, rho2 = pair_functions(constants, form, i, taper_start, cutoff, r)
            inverse = 1.0 / r
            density += rho
            t_p[p] = 0.5 * phi1 * inverse
            a_p[p] = 0.5 * phi2
            rho1_p[p] = rho1
            rho1_over_r_q[p - start] = rho1 * inverse
            rho2_q[p - start] = rho2
            e_pc[p, 0] = r_pc[p, 0] * inverse
            e_pc[p, 1] = r_pc[p, 1] * inverse
            e_pc[p, 2] = r_pc[p, 2] * inverse
        _, f1, f2_n[n] = embedding(forms, s, density)
        for p in range(start, first_n[n + 1]):
            t_p[p] += f1 * rho1_over_r_q[p - start]
            a_p[p] += f1 * rho2_q[p - start] - t_p[p]
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
                for j in range(first_j[n], first_j[n + 1]):
                    b = block_of[site_j[j]]
                    if b < 0:
                        return blocks, False
                    for c in range(3):
                        for d in range(3):
                            blocks[b, c, d] += outer[c] * b_jc[j, d]
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
