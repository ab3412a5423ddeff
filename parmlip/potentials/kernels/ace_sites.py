"""Loops over centres of the cluster expansion: energies, pair gradients, site Hessians, basis values, design rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from parmlip.potentials.kernels.ace_pairs import (
    Lanes,
    OneParticleTables,
    allocate,
    fill_gradients,
    fill_harmonics,
    fill_jacobian,
    fill_radial,
    gather,
    pair_curvatures,
    pair_gradients,
    sum_neighbours,
)
from parmlip.potentials.kernels.ace_products import (
    FunctionTables,
    ProductTables,
    function_gradients,
    function_value,
    second_derivatives,
    value_and_adjoint,
    values_and_adjoints,
)
from parmlip.potentials.kernels.scatter import add_site_hessian
from parmlip.potentials.kernels.vectors import LANES, add, aligned, load, multiply, multiply_add, spread, store, total

TILE = 32  # functions whose design rows are made together
GROUP = 16  # lanes in one block of a site Hessian: 48 x 48 products still run near the speed of dgemm


@njit(cache=True, error_model="numpy")
def energies_and_gradients(
    tables: OneParticleTables,
    products: ProductTables,
    constant_s: Any,
    linear_sx: Any,
    q_ss: Any,
    first_n: Any,
    r_pc: Any,
    species_n: Any,
    species_p: Any,
    with_gradients: bool,
) -> Any:
    """V_n (n,) and g_pc (n_pairs, 3); g_pc is zero without `with_gradients`, and for pairs out of range.

    Centres of one species go through the products in batches of `LANES`; the last batch may have idle lanes.
    `q_ss` is the quadratic form in the order of `ProductTables.partner_s`.
    """
    n_a = tables.n_species * tables.first_l[-1]
    kept = [allocate(tables, first_n, r_pc) for _ in range(LANES)]
    lanes_b, centre_b = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    n_x = linear_sx.shape[1]
    a_a, w_a = np.empty(n_a, r_pc.dtype), np.empty(n_a, r_pc.dtype)
    x_xb, g_xb = aligned(n_x * LANES, r_pc).reshape((n_x, LANES)), aligned(n_x * LANES, r_pc).reshape((n_x, LANES))
    x_xb[:n_a] = 0.0  # what idle lanes hold must be numbers
    value_b = np.empty(LANES, r_pc.dtype)
    value_n, g_pc = np.empty(len(species_n), r_pc.dtype), np.zeros(r_pc.shape, r_pc.dtype)
    for s in range(tables.n_species):
        filled, n = 0, 0
        while n < len(species_n) or filled > 0:
            if n < len(species_n):
                if species_n[n] == s:
                    lanes = kept[filled]
                    lanes_b[filled] = gather(tables, lanes, r_pc, species_p, first_n[n], first_n[n + 1])
                    centre_b[filled] = n
                    fill_radial(tables, lanes, lanes_b[filled], 1 if with_gradients else 0)
                    fill_harmonics(tables, lanes, lanes_b[filled])
                    sum_neighbours(tables, lanes, a_a)
                    for i in range(n_a):
                        x_xb[i, filled] = a_a[i]
                    filled += 1
                n += 1
                if filled < LANES and n < len(species_n):
                    continue
            if filled == 0:
                break
            values_and_adjoints(products, linear_sx[s], q_ss[s], n_a, x_xb, g_xb, value_b, with_gradients)
            for b in range(filled):
                value_n[centre_b[b]] = constant_s[s] + value_b[b]
                if with_gradients:
                    for i in range(n_a):
                        w_a[i] = g_xb[i, b]
                    pair_gradients(tables, kept[b], lanes_b[b], w_a, g_pc)
            filled = 0
    return value_n, g_pc


@njit(cache=True, error_model="numpy")
def basis_values(
    tables: OneParticleTables,
    functions: FunctionTables,
    one_body: int,
    first_n: Any,
    r_pc: Any,
    species_n: Any,
    species_p: Any,
) -> Any:
    """B (n, n_basis), basis functions in blocks of the centre's species."""
    n_a = tables.n_species * tables.first_l[-1]
    lanes = allocate(tables, first_n, r_pc)
    n_functions = len(functions.first_k) - 1
    width = n_functions + one_body
    a_a = np.empty(n_a, r_pc.dtype)
    b_nk = np.zeros((len(species_n), tables.n_species * width), r_pc.dtype)
    for n in range(len(species_n)):
        n_lanes = gather(tables, lanes, r_pc, species_p, first_n[n], first_n[n + 1])
        fill_radial(tables, lanes, n_lanes, 0)
        fill_harmonics(tables, lanes, n_lanes)
        sum_neighbours(tables, lanes, a_a)
        start = species_n[n] * width
        if one_body:
            b_nk[n, start] = 1.0
        for k in range(n_functions):
            b_nk[n, start + one_body + k] = function_value(functions, k, a_a)
    return b_nk


@njit(cache=True, error_model="numpy")
def combine_rows(
    matrix: Any, offset: int, length: int, entry_e: Any, first: int, last: int, d_e: Any, out: Any, place: int
) -> None:
    """out[place : place + length] = sum over entries e of d_e times a row of a flat matrix, from `offset` on.

    Row entry_e of the matrix begins at offset + entry_e * length; `length` is a multiple of 24 (3 times the lanes).
    """
    zero = spread(out.dtype.type(0.0))
    for i in range(0, length, 3 * LANES):
        sx, sy, sz, tx, ty, tz = zero, zero, zero, zero, zero, zero
        e, start = first, offset + i
        while e + 2 <= last:
            r = start + entry_e[e] * length
            sx = multiply_add(d_e[e], load(matrix, r), sx)
            sy = multiply_add(d_e[e], load(matrix, r + LANES), sy)
            sz = multiply_add(d_e[e], load(matrix, r + 2 * LANES), sz)
            r = start + entry_e[e + 1] * length
            tx = multiply_add(d_e[e + 1], load(matrix, r), tx)
            ty = multiply_add(d_e[e + 1], load(matrix, r + LANES), ty)
            tz = multiply_add(d_e[e + 1], load(matrix, r + 2 * LANES), tz)
            e += 2
        if e < last:
            r = start + entry_e[e] * length
            sx = multiply_add(d_e[e], load(matrix, r), sx)
            sy = multiply_add(d_e[e], load(matrix, r + LANES), sy)
            sz = multiply_add(d_e[e], load(matrix, r + 2 * LANES), sz)
        store(out, place + i, add(sx, tx))
        store(out, place + i + LANES, add(sy, ty))
        store(out, place + i + 2 * LANES, add(sz, tz))


@njit(cache=True, error_model="numpy")
def design_rows(
    tables: OneParticleTables,
    functions: FunctionTables,
    one_body: int,
    first_n: Any,
    r_pc: Any,
    species_n: Any,
    species_p: Any,
    site_p: Any,
    n_sites: int,
) -> Any:
    """Energy (n_basis,), force (n_basis, n_sites, 3), virial (n_basis, 6) of each basis function, summed over centres.

    Centre n is site n. Function k depends on few A, so its row of 3 J derivatives is a short sum of rows of dA/dr.
    These are made for eight neighbours and `TILE` functions at a time: dA/dr stays in the first cache, and a function's
    forces are touched once for each centre. dB/dA is made for `LANES` centres of one species at once.
    """
    block = tables.first_l[-1]
    n_a = tables.n_species * block
    kept = [allocate(tables, first_n, r_pc) for _ in range(LANES)]
    lanes_b, centre_b = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    size = len(kept[0].pair_j)
    n_functions = len(functions.first_k) - 1
    width = n_functions + one_body
    n_basis = tables.n_species * width
    first_entry, entry_e = functions.first_entry_k, functions.entry_e
    own_e = entry_e % block  # the A within its species
    split_kz = np.empty((n_functions, tables.n_species + 1), np.int64)
    for k in range(n_functions):
        e = first_entry[k]
        for z in range(tables.n_species + 1):
            while e < first_entry[k + 1] and entry_e[e] < z * block:
                e += 1
            split_kz[k, z] = e
    a_a, d_e = np.empty(n_a, r_pc.dtype), np.empty(len(entry_e), r_pc.dtype)
    a_ab = aligned(n_a * LANES, r_pc).reshape((n_a, LANES))
    d_eb = aligned(len(entry_e) * LANES, r_pc).reshape((len(entry_e), LANES))
    jacobian, row_t = aligned(block * 3 * size, r_pc), aligned(TILE * 3 * size, r_pc)
    first_g = np.arange(0, size + 1, LANES)
    summed_ai, sums = aligned(n_a * 16, r_pc).reshape((n_a, 16)), aligned(16, r_pc)
    summed_ai[:] = 0.0
    energy_k = np.zeros(n_basis, r_pc.dtype)
    force_f = np.zeros(n_basis * n_sites * 3, r_pc.dtype)
    slot_q, place_q = np.empty(size, np.int64), np.empty(size, np.int64)  # where a neighbour stands in a row, in forces
    virial_kv = np.zeros((n_basis, 6), r_pc.dtype)
    for s in range(tables.n_species):
        start, filled, n_next = s * width, 0, 0
        while n_next < len(species_n) or filled > 0:
            if n_next < len(species_n):
                n = n_next
                n_next += 1
                if species_n[n] == s:
                    lanes = kept[filled]
                    lanes_b[filled] = gather(tables, lanes, r_pc, species_p, first_n[n], first_n[n + 1])
                    centre_b[filled] = n
                    fill_radial(tables, lanes, lanes_b[filled], 1)
                    fill_harmonics(tables, lanes, lanes_b[filled])
                    sum_neighbours(tables, lanes, a_a)
                    for i in range(n_a):
                        a_ab[i, filled] = a_a[i]
                    filled += 1
                if filled < LANES and n_next < len(species_n):
                    continue
            if filled == 0:
                break
            a_ab[:, filled:] = 0.0
            function_gradients(functions, a_ab, energy_k[start + one_body : start + width], d_eb)
            if one_body:
                energy_k[start] += filled
            for b in range(filled):
                n, lanes, n_lanes = centre_b[b], kept[b], lanes_b[b]
                for e in range(len(entry_e)):
                    d_e[e] = d_eb[e, b]
                fill_gradients(tables, lanes, n_lanes)
                fill_jacobian(tables, lanes, first_g[: n_lanes // LANES + 1], jacobian)
                sum_jacobian(tables, lanes, jacobian, summed_ai)
                count = 0
                for j in range(n_lanes):
                    if lanes.pair_j[j] >= 0:
                        slot_q[count] = 3 * (j - j % LANES) + j % LANES
                        place_q[count] = 3 * site_p[lanes.pair_j[j]]
                        count += 1
                for tile in range(0, n_functions, TILE):
                    last_k = min(tile + TILE, n_functions)
                    for k in range(tile, last_k):
                        basis = start + one_body + k
                        low, high = spread(r_pc.dtype.type(0.0)), spread(r_pc.dtype.type(0.0))
                        for e in range(first_entry[k], first_entry[k + 1]):
                            low = multiply_add(d_e[e], load(summed_ai, entry_e[e] * 16), low)
                            high = multiply_add(d_e[e], load(summed_ai, entry_e[e] * 16 + LANES), high)
                        store(sums, 0, low)
                        store(sums, LANES, high)
                        for c in range(3):
                            force_f[3 * (basis * n_sites + n) + c] += sums[c]
                        for v in range(6):
                            virial_kv[basis, v] -= sums[3 + v]
                    for z in range(tables.n_species):
                        for j in range(lanes.first_z[z], lanes.first_z[z + 1], LANES):
                            for k in range(tile, last_k):
                                combine_rows(
                                    jacobian,
                                    block * 3 * j,
                                    3 * LANES,
                                    own_e,
                                    split_kz[k, z],
                                    split_kz[k, z + 1],
                                    d_e,
                                    row_t,
                                    3 * ((k - tile) * size + j),
                                )
                    for k in range(tile, last_k):
                        row, origin = 3 * (k - tile) * size, 3 * (start + one_body + k) * n_sites
                        for q in range(count):
                            i, p = row + slot_q[q], origin + place_q[q]
                            force_f[p] -= row_t[i]
                            force_f[p + 1] -= row_t[i + LANES]
                            force_f[p + 2] -= row_t[i + 2 * LANES]
            filled = 0
    return energy_k, force_f.reshape((n_basis, n_sites, 3)), virial_kv


@njit(cache=True, error_model="numpy")
def sum_jacobian(tables: OneParticleTables, lanes: Lanes, jacobian: Any, summed_ai: Any) -> None:
    """Columns 0-2: sum_j dA/dr_jc; columns 3-8: sum_j r_jc dA/dr_jd in Voigt order xx yy zz yz xz xy.

    The Jacobian is in groups of eight lanes.
    """
    block, size, unit = tables.first_l[-1], len(lanes.pair_j), lanes.unit_cj
    zero = spread(summed_ai.dtype.type(0.0))
    for z in range(tables.n_species):
        lo, hi = lanes.first_z[z], lanes.first_z[z + 1]
        for a in range(block):
            sx, sy, sz, xx, yy, zz, yz, xz, xy = zero, zero, zero, zero, zero, zero, zero, zero, zero
            for j in range(lo, hi, LANES):
                place = block * 3 * j + a * 3 * LANES
                dx, dy, dz = load(jacobian, place), load(jacobian, place + LANES), load(jacobian, place + 2 * LANES)
                r = load(lanes.r_kj, j)
                rx, rz = multiply(r, load(unit, j)), multiply(r, load(unit, 2 * size + j))
                sx, sy, sz = add(sx, dx), add(sy, dy), add(sz, dz)
                xx, zz = multiply_add(rx, dx, xx), multiply_add(rz, dz, zz)
                yy = multiply_add(multiply(r, load(unit, size + j)), dy, yy)
                yz, xz, xy = multiply_add(rz, dy, yz), multiply_add(rz, dx, xz), multiply_add(rx, dy, xy)
            out = summed_ai[z * block + a]
            out[0], out[1], out[2], out[3], out[4] = total(sx), total(sy), total(sz), total(xx), total(yy)
            out[5], out[6], out[7], out[8] = total(zz), total(yz), total(xz), total(xy)


@njit(cache=True, error_model="numpy")
def cut_lanes(tables: OneParticleTables, lanes: Lanes, first_g: Any, species_g: Any) -> int:
    """Cut the lanes into groups of one species and at most `GROUP` lanes; returns the number of groups."""
    count = 0
    first_g[0] = 0
    for z in range(tables.n_species):
        while first_g[count] < lanes.first_z[z + 1]:
            first_g[count + 1] = min(first_g[count] + GROUP, lanes.first_z[z + 1])
            species_g[count] = z
            count += 1
    return count


@njit(cache=True, error_model="numpy")
def multiply_sparse(
    m_ab: Any,
    block: int,
    jacobian: Any,
    first_g: Any,
    species_g: Any,
    n_groups: int,
    entry_e: Any,
    value_e: Any,
    out: Any,
) -> None:
    """d2V/dA2 dA/dr, as blocks (all A, 3, lanes) one group after another; d2V/dA2 is mostly zero."""
    n_a = len(m_ab)
    for a in range(n_a):
        count = 0
        for b in range(n_a):
            if m_ab[a, b] != 0.0:
                entry_e[count] = b
                value_e[count] = m_ab[a, b]
                count += 1
        for g in range(n_groups):
            lo, width, z = first_g[g], first_g[g + 1] - first_g[g], species_g[g]
            first = 0
            while first < count and entry_e[first] < z * block:
                first += 1
            last = first
            while last < count and entry_e[last] < (z + 1) * block:
                last += 1
            place = n_a * 3 * lo + a * 3 * width
            offset = 3 * (block * lo - z * block * width)  # entries count all A, the group's rows those of its species
            combine_rows(jacobian, offset, 3 * width, entry_e, first, last, value_e, out, place)


@njit(cache=True, error_model="numpy")
def site_hessians(
    tables: OneParticleTables,
    products: ProductTables,
    linear_sx: Any,
    q_st: Any,
    first_n: Any,
    r_pc: Any,
    species_n: Any,
    species_p: Any,
    site_p: Any,
    first_r: Any,
    column_b: Any,
    blocks: Any,
) -> int:
    """Add all site Hessians to `blocks`; returns the first centre whose blocks are not in the pattern, else -1.

    (dA/dr)^T d2V/dA2 (dA/dr) in groups of lanes, of which only one half is computed, plus the curvature of each pair.
    """
    block = tables.first_l[-1]
    n_a = tables.n_species * block
    lanes = allocate(tables, first_n, r_pc)
    size = len(lanes.pair_j)
    x_x, g_x = np.empty(linear_sx.shape[1], r_pc.dtype), np.empty(linear_sx.shape[1], r_pc.dtype)
    m_ab = np.empty((n_a, n_a), r_pc.dtype)
    jacobian, weighted = aligned(block * 3 * size, r_pc), aligned(n_a * 3 * size, r_pc)
    h_vj = np.empty((6, size), r_pc.dtype)
    place_j, site_q = np.empty(size, np.int64), np.empty(size, np.int64)
    first_g, species_g = np.empty(size + 1, np.int64), np.empty(size + 1, np.int64)
    entry_e, value_e = np.empty(n_a, np.int64), np.empty(n_a, r_pc.dtype)
    for n in range(len(species_n)):
        s = species_n[n]
        n_lanes = gather(tables, lanes, r_pc, species_p, first_n[n], first_n[n + 1])
        if n_lanes == 0:
            continue
        fill_radial(tables, lanes, n_lanes, 2)
        fill_harmonics(tables, lanes, n_lanes)
        fill_gradients(tables, lanes, n_lanes)
        sum_neighbours(tables, lanes, x_x)
        value_and_adjoint(products, linear_sx[s], q_st[s], n_a, x_x, g_x)
        second_derivatives(products, q_st[s], n_a, x_x, g_x, m_ab)
        n_groups = cut_lanes(tables, lanes, first_g, species_g)
        fill_jacobian(tables, lanes, first_g[: n_groups + 1], jacobian)
        pair_curvatures(tables, lanes, n_lanes, g_x, h_vj)
        multiply_sparse(m_ab, block, jacobian, first_g, species_g, n_groups, entry_e, value_e, weighted)
        count = 0
        for j in range(n_lanes):
            place_j[j] = -1
            if lanes.pair_j[j] >= 0:
                place_j[j] = count
                site_q[count] = site_p[lanes.pair_j[j]]
                count += 1
        h_qqcd = np.zeros((count, count, 3, 3), r_pc.dtype)
        for g in range(n_groups):
            lo_g, n_g = first_g[g], first_g[g + 1] - first_g[g]
            j_g = jacobian[block * 3 * lo_g : block * 3 * (lo_g + n_g)].reshape((block, 3 * n_g))
            for f in range(g, n_groups):
                lo_f, n_f = first_g[f], first_g[f + 1] - first_g[f]
                start = n_a * 3 * lo_f + species_g[g] * block * 3 * n_f
                w_f = weighted[start : start + block * 3 * n_f].reshape((block, 3 * n_f))
                h_gf = np.dot(j_g.T, w_f)
                for i in range(n_g):
                    p = place_j[lo_g + i]
                    for k in range(n_f):
                        q = place_j[lo_f + k]
                        if p >= 0 and q >= 0:
                            for c in range(3):
                                for d in range(3):
                                    h = h_gf[c * n_g + i, d * n_f + k]
                                    h_qqcd[p, q, c, d] = h
                                    h_qqcd[q, p, d, c] = h
        for j in range(n_lanes):
            if place_j[j] >= 0:
                own = h_qqcd[place_j[j], place_j[j]]
                for c in range(3):
                    for d in range(3):
                        own[c, d] += h_vj[c if c == d else 6 - c - d, j]
        if not add_site_hessian(n, site_q[:count], h_qqcd, first_r, column_b, blocks):
            return n
    return -1
