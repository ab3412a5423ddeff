"""One-particle functions of one centre: P_n and Y_lm, their neighbour sums A, and what follows from dV/dA.

Neighbours stand in the contiguous innermost axis ("lanes", index j), grouped by species and padded to a multiple of
`LANES` with neighbours that contribute nothing. P_n and Y_lm are kept apart: the table of their products is formed only
where rows of a Jacobian are wanted. Everything is generic in the scalar type (float64, complex128).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

LANES = 8
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
    size = (most // LANES + 1 + tables.n_species) * LANES
    return Lanes(
        np.empty(size, np.int64),
        np.zeros(tables.n_species + 1, np.int64),
        np.empty((3, size), like.dtype),
        np.empty((8, size), like.dtype),
        np.empty((3, len(tables.recursion_nk), size), like.dtype),
        np.empty((len(tables.upward_hk), size), like.dtype),
        np.empty((len(tables.upward_hk), 3, size), like.dtype),
        np.empty((6, size), like.dtype),
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


@njit(cache=True, error_model="numpy", fastmath=FAST)
def sum_neighbours(tables: OneParticleTables, lanes: Lanes, a_a: Any) -> None:
    """A_(z, l, m, n) = sum over neighbours of species z of P_n Y_lm."""
    zero = a_a.dtype.type(0.0)
    block = tables.first_l[-1]
    for z in range(tables.n_species):
        lo, hi = lanes.first_z[z], lanes.first_z[z + 1]
        radial, y = lanes.radial_dnj[0], lanes.harmonic_hj
        for el in range(len(tables.n_max_l)):
            n_max = tables.n_max_l[el]
            for q in range(2 * el + 1):
                row = y[el * el + q, lo:hi]
                base = z * block + tables.first_l[el] + q * n_max
                n = 0
                while n + 4 <= n_max:
                    p0, p1 = radial[n, lo:hi], radial[n + 1, lo:hi]
                    p2, p3 = radial[n + 2, lo:hi], radial[n + 3, lo:hi]
                    s0 = s1 = s2 = s3 = zero
                    for j in range(hi - lo):
                        s0 += row[j] * p0[j]
                        s1 += row[j] * p1[j]
                        s2 += row[j] * p2[j]
                        s3 += row[j] * p3[j]
                    a_a[base + n], a_a[base + n + 1], a_a[base + n + 2], a_a[base + n + 3] = s0, s1, s2, s3
                    n += 4
                while n < n_max:
                    p0 = radial[n, lo:hi]
                    s0 = zero
                    for j in range(hi - lo):
                        s0 += row[j] * p0[j]
                    a_a[base + n] = s0
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


@njit(cache=True, error_model="numpy", fastmath=FAST)
def pair_gradients(tables: OneParticleTables, lanes: Lanes, n_lanes: int, w_a: Any, g_pc: Any) -> None:
    """g_pc of the gathered pairs from w = dV/dA: d/dr_j sum_a w_a P_n Y_lm(r_j)."""
    index, coefficient = tables.gradient_index, tables.gradient_coefficient
    block = tables.first_l[-1]
    for z in range(tables.n_species):
        lo, hi = lanes.first_z[z], lanes.first_z[z + 1]
        width = hi - lo
        work, y, inverse = lanes.work_kj, lanes.harmonic_hj, lanes.r_kj[1, lo:hi]
        radial, slope = lanes.radial_dnj[0], lanes.radial_dnj[1]
        along, gx, gy, gz = work[0, lo:hi], work[1, lo:hi], work[2, lo:hi], work[3, lo:hi]
        g, dg = work[4, lo:hi], work[5, lo:hi]
        for k in range(4):
            row = work[k, lo:hi]
            for j in range(width):
                row[j] = 0.0
        for el in range(len(tables.n_max_l)):
            n_max = tables.n_max_l[el]
            for q in range(2 * el + 1):
                h = el * el + q
                base = z * block + tables.first_l[el] + q * n_max
                weights = w_a[base : base + n_max]
                contract_radial(radial, weights, lo, hi, g)
                contract_radial(slope, weights, lo, hi, dg)
                row = y[h, lo:hi]
                for j in range(width):
                    g[j] *= inverse[j]
                for j in range(width):
                    along[j] += row[j] * (dg[j] - el * g[j])
                if el > 0:
                    x0, x1 = y[index[h, 0], lo:hi], y[index[h, 1], lo:hi]
                    y0, y1, z0 = y[index[h, 2], lo:hi], y[index[h, 3], lo:hi], y[index[h, 4], lo:hi]
                    a, b, c = coefficient[h, 0], coefficient[h, 1], coefficient[h, 2]
                    d, e = coefficient[h, 3], coefficient[h, 4]
                    for j in range(width):
                        gx[j] += g[j] * (a * x0[j] + b * x1[j])
                    for j in range(width):
                        gy[j] += g[j] * (c * y0[j] + d * y1[j])
                    for j in range(width):
                        gz[j] += g[j] * (e * z0[j])
        unit = lanes.unit_cj
        for j in range(width):
            p = lanes.pair_j[lo + j]
            if p >= 0:
                g_pc[p, 0] = gx[j] + unit[0, lo + j] * along[j]
                g_pc[p, 1] = gy[j] + unit[1, lo + j] * along[j]
                g_pc[p, 2] = gz[j] + unit[2, lo + j] * along[j]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def fill_jacobian(tables: OneParticleTables, lanes: Lanes, first_g: Any, jacobian: Any) -> None:
    """dA/dr_j in one flat array: for each group g of lanes, one after another, a block (A of one species, 3, lanes).

    Lanes first_g[g] .. first_g[g + 1] - 1 are of one species; rows stand for the A of that species.
    """
    block = tables.first_l[-1]
    for group in range(len(first_g) - 1):
        lo, hi = first_g[group], first_g[group + 1]
        width = hi - lo
        radial, slope = lanes.radial_dnj[0], lanes.radial_dnj[1]
        y, dy, inverse = lanes.harmonic_hj, lanes.gradient_hcj, lanes.r_kj[1, lo:hi]
        unit, tangent, product = lanes.unit_cj, lanes.work_kj[0, lo:hi], lanes.work_kj[1, lo:hi]
        start = block * 3 * lo
        for el in range(len(tables.n_max_l)):
            n_max = tables.n_max_l[el]
            for q in range(2 * el + 1):
                h = el * el + q
                row = y[h, lo:hi]
                first = tables.first_l[el] + q * n_max
                for c in range(3):
                    u, d = unit[c, lo:hi], dy[h, c, lo:hi]
                    for j in range(width):
                        product[j] = row[j] * u[j]
                    for j in range(width):
                        tangent[j] = (d[j] - el * product[j]) * inverse[j]
                    for n in range(n_max):
                        place = start + ((first + n) * 3 + c) * width
                        out, p, dp = jacobian[place : place + width], radial[n, lo:hi], slope[n, lo:hi]
                        for j in range(width):
                            out[j] = p[j] * tangent[j] + dp[j] * product[j]


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
