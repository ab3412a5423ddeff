"""One-particle functions of one centre: P_n and Y_lm, their neighbour sums A, and what follows from dV/dA.

Neighbours stand in the contiguous innermost axis ("lanes", index j), grouped by species and padded to a multiple of
`LANES` with neighbours that contribute nothing. P_n and Y_lm are kept apart: the table of their products is formed only
where rows of a Jacobian are wanted. Everything is generic in the scalar type (float64, complex128).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from parmlip.potentials.kernels.vectors import LANES, add, aligned, load, multiply, multiply_add, spread, store, total

FAST = {"contract", "reassoc", "nsz", "arcp"}


class OneParticleTables(NamedTuple):
    """Parameters of A, in the form the kernels take."""

    limits: Any  # cutoff, inner end (0 if none), r0, x at the cutoff, x at r_in
    powers: Any  # of the transform, of the envelope at the cutoff and at r_in
    recursion_nk: Any  # (n_max, 3)
    n_species: int
    n_max_l: Any  # (l_max + 1,)
    first_l: Any  # (l_max + 2,)
    diagonal_m: Any  # (l_max + 1,)
    upward_hk: Any  # (n_harmonics, 2)
    gradient_index: Any  # (n_harmonics, 5)
    gradient_coefficient: Any  # (n_harmonics, 5)


class Lanes(NamedTuple):
    """Work space for the neighbours of one centre; `J` is at least the largest padded number of neighbours."""

    pair_j: Any  # (J,) pair number, -1 in the padding
    first_z: Any  # (n_species + 1,)
    unit_cj: Any  # (3, J)
    r_kj: Any  # (8, J): r, 1/r, x, x', x'', f, f', f''
    radial_dnj: Any  # (3, n_max, J): P_n and its two derivatives by r
    harmonic_hj: Any  # (n_harmonics, J)
    gradient_hcj: Any  # (n_harmonics, 3, J) of r^l Y_lm at r = 1
    work_kj: Any  # (6, J)


@njit(cache=True, error_model="numpy")
def allocate(tables: OneParticleTables, first_n: Any, like: Any) -> Lanes:
    """Lanes for the largest environment, in the scalar type of `like`."""
    most = 0
    for n in range(len(first_n) - 1):
        most = max(most, first_n[n + 1] - first_n[n])
    blocks = (most // LANES + 1 + tables.n_species) | 1  # odd: rows a power of two apart would share few cache lines
    size = blocks * LANES
    n_max, n_harmonics = len(tables.recursion_nk), len(tables.upward_hk)
    return Lanes(
        np.empty(size, np.int64),
        np.zeros(tables.n_species + 1, np.int64),
        aligned(3 * size, like).reshape((3, size)),
        aligned(8 * size, like).reshape((8, size)),
        aligned(3 * n_max * size, like).reshape((3, n_max, size)),
        aligned(n_harmonics * size, like).reshape((n_harmonics, size)),
        aligned(n_harmonics * 3 * size, like).reshape((n_harmonics, 3, size)),
        aligned(6 * size, like).reshape((6, size)),
    )


@njit(cache=True, error_model="numpy", fastmath=FAST)
def gather(tables: OneParticleTables, lanes: Lanes, r_pc: Any, species_p: Any, first: int, last: int) -> int:
    """Fill the geometry rows from pairs first .. last - 1 inside the range; returns the number of lanes."""
    pair_j, first_z, unit_cj, r_kj = lanes.pair_j, lanes.first_z, lanes.unit_cj, lanes.r_kj
    outer, inner = tables.limits[0] * tables.limits[0], tables.limits[1] * tables.limits[1]
    j = 0
    for z in range(tables.n_species):
        first_z[z] = j
        for p in range(first, last):
            if species_p[p] == z:
                square = r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2]
                if inner < square.real < outer:
                    pair_j[j] = p
                    r_kj[0, j] = square
                    for c in range(3):
                        unit_cj[c, j] = r_pc[p, c]
                    j += 1
        while j % LANES:
            pair_j[j] = -1
            r_kj[0, j] = 1.0
            unit_cj[0, j], unit_cj[1, j], unit_cj[2, j] = 0.0, 0.0, 1.0
            j += 1
    first_z[tables.n_species] = j
    for i in range(j):
        r = np.sqrt(r_kj[0, i])
        r_kj[0, i] = r
        r_kj[1, i] = 1.0 / r
        for c in range(3):
            unit_cj[c, i] *= r_kj[1, i]
    return j


@njit(cache=True, error_model="numpy", fastmath=FAST)
def fill_radial(tables: OneParticleTables, lanes: Lanes, n_lanes: int, order: int) -> None:
    """P_n and its first `order` derivatives by r."""
    r_kj, radial, pair_j = lanes.r_kj, lanes.radial_dnj, lanes.pair_j
    power, p_cut, p_in = tables.powers[0], tables.powers[1], tables.powers[2]
    r0, x_l, x_r = tables.limits[2], tables.limits[3], tables.limits[4]
    recursion = tables.recursion_nk
    for j in range(n_lanes):
        inverse = 1.0 / (1.0 + r_kj[0, j])
        ratio = (1.0 + r0) * inverse
        x = ratio
        for _ in range(1, power):
            x *= ratio
        r_kj[2, j] = x
        r_kj[3, j] = -power * x * inverse
        r_kj[4, j] = power * (power + 1.0) * x * inverse * inverse
        # u = (x - x_l)^p_cut and v = (x - x_r)^p_in with two derivatives by x, built by products
        s, q = x - x_l, x - x_r
        u, du, ddu = 1.0 + 0.0 * s, 0.0 * s, 0.0 * s
        for _ in range(p_cut):
            ddu = ddu * s + 2.0 * du
            du = du * s + u
            u = u * s
        v, dv, ddv = 1.0 + 0.0 * s, 0.0 * s, 0.0 * s
        for _ in range(p_in):
            ddv = ddv * q + 2.0 * dv
            dv = dv * q + v
            v = v * q
        f, df, ddf = u * v, du * v + u * dv, ddu * v + 2.0 * du * dv + u * ddv
        if pair_j[j] < 0:
            f, df, ddf = 0.0 * f, 0.0 * f, 0.0 * f
        a = recursion[0, 0]
        radial[0, 0, j] = a * f
        radial[1, 0, j] = a * df * r_kj[3, j]
        radial[2, 0, j] = a * (ddf * r_kj[3, j] * r_kj[3, j] + df * r_kj[4, j])
    for n in range(1, len(recursion)):
        a, b, c = recursion[n, 0], recursion[n, 1], recursion[n, 2]
        m = max(n - 2, 0)  # c is zero at n = 1
        for j in range(n_lanes):
            radial[0, n, j] = (a * r_kj[2, j] + b) * radial[0, n - 1, j] + c * radial[0, m, j]
        if order > 0:
            for j in range(n_lanes):
                radial[1, n, j] = (
                    (a * r_kj[2, j] + b) * radial[1, n - 1, j]
                    + c * radial[1, m, j]
                    + a * r_kj[3, j] * radial[0, n - 1, j]
                )
        if order > 1:
            for j in range(n_lanes):
                radial[2, n, j] = (
                    (a * r_kj[2, j] + b) * radial[2, n - 1, j]
                    + c * radial[2, m, j]
                    + a * (2.0 * r_kj[3, j] * radial[1, n - 1, j] + r_kj[4, j] * radial[0, n - 1, j])
                )


@njit(cache=True, error_model="numpy", fastmath=FAST)
def fill_harmonics(tables: OneParticleTables, lanes: Lanes, n_lanes: int) -> None:
    """Y_lm at the unit vectors."""
    y, unit = lanes.harmonic_hj, lanes.unit_cj
    l_max = len(tables.n_max_l) - 1
    for j in range(n_lanes):
        y[0, j] = tables.diagonal_m[0]
    for m in range(l_max + 1):
        centre = m * m + m
        if m > 0:
            k = tables.diagonal_m[m]
            c, s = centre - m - 1, centre - 3 * m + 1  # (m - 1, +-(m - 1)): index (m-1)^2 + (m-1) +- (m-1)
            for j in range(n_lanes):
                y[centre + m, j] = k * unit[0, j] * y[c, j]
                y[centre - m, j] = k * unit[1, j] * y[c, j]
            if m > 1:
                for j in range(n_lanes):
                    y[centre + m, j] -= k * unit[1, j] * y[s, j]
                    y[centre - m, j] += k * unit[0, j] * y[s, j]
        for sign in range(-1, 2, 2):
            if m == 0 and sign < 0:
                continue
            for el in range(m + 1, l_max + 1):
                h = el * el + el + sign * m
                h1, h2 = (el - 1) * el + sign * m, (el - 2) * (el - 1) + sign * m
                a, b = tables.upward_hk[h, 0], tables.upward_hk[h, 1]
                if el == m + 1:
                    for j in range(n_lanes):
                        y[h, j] = a * unit[2, j] * y[h1, j]
                else:
                    for j in range(n_lanes):
                        y[h, j] = a * unit[2, j] * y[h1, j] - b * y[h2, j]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def fill_gradients(tables: OneParticleTables, lanes: Lanes, n_lanes: int) -> None:
    """Gradients of r^l Y_lm at the unit vectors."""
    y, index, coefficient = lanes.harmonic_hj, tables.gradient_index, tables.gradient_coefficient
    for h in range(len(y)):
        for c in range(3):
            row = lanes.gradient_hcj[h, c]
            y0, k0 = y[index[h, 2 * c]], coefficient[h, 2 * c]
            for j in range(n_lanes):
                row[j] = k0 * y0[j]
            if c < 2:
                y1, k1 = y[index[h, 2 * c + 1]], coefficient[h, 2 * c + 1]
                for j in range(n_lanes):
                    row[j] += k1 * y1[j]


@njit(cache=True, error_model="numpy")
def sum_neighbours(tables: OneParticleTables, lanes: Lanes, a_a: Any) -> None:
    """A_(z, l, m, n) = sum over neighbours of species z of P_n Y_lm."""
    zero = spread(a_a.dtype.type(0.0))
    block, radial, y, width = tables.first_l[-1], lanes.radial_dnj, lanes.harmonic_hj, len(lanes.pair_j)
    for z in range(tables.n_species):
        lo, hi = lanes.first_z[z], lanes.first_z[z + 1]
        for el in range(len(tables.n_max_l)):
            n_max = tables.n_max_l[el]
            for h in range(el * el, (el + 1) * (el + 1)):
                base = z * block + tables.first_l[el] + (h - el * el) * n_max
                n = 0
                while n + 4 <= n_max:
                    s0, s1, s2, s3 = zero, zero, zero, zero
                    for j in range(lo, hi, LANES):
                        row, p = load(y, h * width + j), n * width + j
                        s0 = multiply_add(row, load(radial, p), s0)
                        s1 = multiply_add(row, load(radial, p + width), s1)
                        s2 = multiply_add(row, load(radial, p + 2 * width), s2)
                        s3 = multiply_add(row, load(radial, p + 3 * width), s3)
                    a_a[base + n], a_a[base + n + 1] = total(s0), total(s1)
                    a_a[base + n + 2], a_a[base + n + 3] = total(s2), total(s3)
                    n += 4
                while n < n_max:
                    s0 = zero
                    for j in range(lo, hi, LANES):
                        s0 = multiply_add(load(y, h * width + j), load(radial, n * width + j), s0)
                    a_a[base + n] = total(s0)
                    n += 1


@njit(cache=True, error_model="numpy", fastmath=FAST)
def contract_radial(radial: Any, w_n: Any, lo: int, hi: int, out: Any) -> None:
    """out_j = sum_n w_n P_n(r_j)."""
    p0, w0 = radial[0, lo:hi], w_n[0]
    for j in range(len(out)):
        out[j] = w0 * p0[j]
    n = 1
    while n + 4 <= len(w_n):
        p0, p1 = radial[n, lo:hi], radial[n + 1, lo:hi]
        p2, p3 = radial[n + 2, lo:hi], radial[n + 3, lo:hi]
        w0, w1, w2, w3 = w_n[n], w_n[n + 1], w_n[n + 2], w_n[n + 3]
        for j in range(len(out)):
            out[j] += w0 * p0[j] + w1 * p1[j] + w2 * p2[j] + w3 * p3[j]
        n += 4
    while n < len(w_n):
        p0, w0 = radial[n, lo:hi], w_n[n]
        for j in range(len(out)):
            out[j] += w0 * p0[j]
        n += 1


@njit(cache=True, error_model="numpy")
def pair_gradients(tables: OneParticleTables, lanes: Lanes, n_lanes: int, w_a: Any, g_pc: Any) -> None:
    """g_pc of the gathered pairs from w = dV/dA: d/dr_j sum_a w_a P_n Y_lm(r_j)."""
    index, coefficient = tables.gradient_index, tables.gradient_coefficient
    block, work, unit, y = tables.first_l[-1], lanes.work_kj, lanes.unit_cj, lanes.harmonic_hj
    radial, width = lanes.radial_dnj, len(lanes.pair_j)
    to_slope = radial.shape[1] * width
    zero = spread(w_a.dtype.type(0.0))
    for z in range(tables.n_species):
        for j in range(lanes.first_z[z], lanes.first_z[z + 1], LANES):
            along, gx, gy, gz = zero, zero, zero, zero
            inverse = load(lanes.r_kj, width + j)
            for el in range(len(tables.n_max_l)):
                n_max = tables.n_max_l[el]
                for h in range(el * el, (el + 1) * (el + 1)):
                    base = z * block + tables.first_l[el] + (h - el * el) * n_max
                    g, dg, g1, dg1 = zero, zero, zero, zero
                    n, p = 0, j
                    while n + 2 <= n_max:
                        g = multiply_add(w_a[base + n], load(radial, p), g)
                        dg = multiply_add(w_a[base + n], load(radial, to_slope + p), dg)
                        g1 = multiply_add(w_a[base + n + 1], load(radial, p + width), g1)
                        dg1 = multiply_add(w_a[base + n + 1], load(radial, to_slope + p + width), dg1)
                        n += 2
                        p += 2 * width
                    if n < n_max:
                        g = multiply_add(w_a[base + n], load(radial, p), g)
                        dg = multiply_add(w_a[base + n], load(radial, to_slope + p), dg)
                    g = multiply(add(g, g1), inverse)
                    along = multiply_add(load(y, h * width + j), multiply_add(-float(el), g, add(dg, dg1)), along)
                    if el > 0:
                        x0, x1 = load(y, index[h, 0] * width + j), load(y, index[h, 1] * width + j)
                        y0, y1 = load(y, index[h, 2] * width + j), load(y, index[h, 3] * width + j)
                        gx = multiply_add(g, multiply_add(coefficient[h, 1], x1, multiply(coefficient[h, 0], x0)), gx)
                        gy = multiply_add(g, multiply_add(coefficient[h, 3], y1, multiply(coefficient[h, 2], y0)), gy)
                        gz = multiply_add(g, multiply(coefficient[h, 4], load(y, index[h, 4] * width + j)), gz)
            store(work, j, multiply_add(load(unit, j), along, gx))
            store(work, width + j, multiply_add(load(unit, width + j), along, gy))
            store(work, 2 * width + j, multiply_add(load(unit, 2 * width + j), along, gz))
    for j in range(n_lanes):
        p = lanes.pair_j[j]
        if p >= 0:
            g_pc[p, 0], g_pc[p, 1], g_pc[p, 2] = work[0, j], work[1, j], work[2, j]


@njit(cache=True, error_model="numpy")
def fill_jacobian(tables: OneParticleTables, lanes: Lanes, first_g: Any, jacobian: Any) -> None:
    """dA/dr_j in one flat array: for each group g of lanes, one after another, a block (A of one species, 3, lanes).

    Lanes first_g[g] .. first_g[g + 1] - 1, a multiple of `LANES`, are of one species; rows stand for its A.
    """
    block, size = tables.first_l[-1], len(lanes.pair_j)
    radial, y, dy, unit = lanes.radial_dnj, lanes.harmonic_hj, lanes.gradient_hcj, lanes.unit_cj
    to_slope = radial.shape[1] * size
    for group in range(len(first_g) - 1):
        lo, width = first_g[group], first_g[group + 1] - first_g[group]
        for j in range(lo, lo + width, LANES):
            start = block * 3 * lo + j - lo
            inverse = load(lanes.r_kj, size + j)
            ux, uy, uz = load(unit, j), load(unit, size + j), load(unit, 2 * size + j)
            for el in range(len(tables.n_max_l)):
                n_max = tables.n_max_l[el]
                for h in range(el * el, (el + 1) * (el + 1)):
                    first = tables.first_l[el] + (h - el * el) * n_max
                    row, d = load(y, h * size + j), 3 * h * size + j
                    px, py, pz = multiply(row, ux), multiply(row, uy), multiply(row, uz)
                    tx = multiply(multiply_add(-float(el), px, load(dy, d)), inverse)
                    ty = multiply(multiply_add(-float(el), py, load(dy, d + size)), inverse)
                    tz = multiply(multiply_add(-float(el), pz, load(dy, d + 2 * size)), inverse)
                    for n in range(n_max):
                        place = start + (first + n) * 3 * width
                        p, dp = load(radial, n * size + j), load(radial, to_slope + n * size + j)
                        store(jacobian, place, multiply_add(dp, px, multiply(p, tx)))
                        store(jacobian, place + width, multiply_add(dp, py, multiply(p, ty)))
                        store(jacobian, place + 2 * width, multiply_add(dp, pz, multiply(p, tz)))


@njit(cache=True, error_model="numpy", fastmath=FAST)
def pair_curvatures(tables: OneParticleTables, lanes: Lanes, n_lanes: int, w_a: Any, h_vj: Any) -> None:
    """Second derivative of sum_a w_a P_n Y_lm(r_j) by r_j, w held fixed; rows xx yy zz yz xz xy, shape (6, n_lanes).

    With Y(r) = r^-l R(r), R a homogeneous polynomial, and g = P r^-l:
    Y [g'' u u + g'/r (1 - u u)] + g'/r (u dR + dR u) + P / r^2 ddR with Y, R at the unit vector u.
    """
    index, coefficient = tables.gradient_index, tables.gradient_coefficient
    block = tables.first_l[-1]
    h_vj[:, :n_lanes] = 0.0
    for z in range(tables.n_species):
        lo, hi = lanes.first_z[z], lanes.first_z[z + 1]
        width = hi - lo
        y, dy, unit = lanes.harmonic_hj, lanes.gradient_hcj, lanes.unit_cj
        inverse, work = lanes.r_kj[1, lo:hi], lanes.work_kj
        g0, g1, g2 = work[0, lo:hi], work[1, lo:hi], work[2, lo:hi]
        for el in range(len(tables.n_max_l)):
            n_max = tables.n_max_l[el]
            for q in range(2 * el + 1):
                h = el * el + q
                base = z * block + tables.first_l[el] + q * n_max
                for k in range(3):
                    contract_radial(lanes.radial_dnj[k], w_a[base : base + n_max], lo, hi, work[k, lo:hi])
                row = y[h, lo:hi]
                for j in range(width):
                    s = inverse[j]
                    g0[j] *= s * s
                    slope = s * g1[j] - el * g0[j]
                    g2[j] = row[j] * (g2[j] - 2.0 * el * s * g1[j] + el * (el + 1.0) * g0[j] - slope)
                    g1[j] = slope
                for v in range(6):
                    c = v if v < 3 else (1 if v == 3 else 0)
                    d = v if v < 3 else (2 if v < 5 else 1)
                    uc, ud, out = unit[c, lo:hi], unit[d, lo:hi], h_vj[v, lo:hi]
                    dc, dd = dy[h, c, lo:hi], dy[h, d, lo:hi]
                    for j in range(width):
                        out[j] += g2[j] * uc[j] * ud[j] + g1[j] * (uc[j] * dd[j] + ud[j] * dc[j])
                    if c == d:
                        for j in range(width):
                            out[j] += g1[j] * row[j]
                    for t in range(2 * c, min(2 * c + 2, 5)):
                        factor, second = coefficient[h, t], dy[index[h, t], d, lo:hi]
                        for j in range(width):
                            out[j] += factor * g0[j] * second[j]
