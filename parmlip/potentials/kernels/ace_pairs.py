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
    work_kj: Any  # (16, J)


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
        np.empty((16, size), like.dtype),
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
def sum_neighbours(tables: OneParticleTables, lanes: Lanes, a_a: Any) -> None:
    """A_(z, l, m, n) = sum over neighbours of species z of P_n Y_lm."""
    radial, y = lanes.radial_dnj[0], lanes.harmonic_hj
    zero = a_a.dtype.type(0.0)
    block = tables.first_l[-1]
    for z in range(tables.n_species):
        lo, hi = lanes.first_z[z], lanes.first_z[z + 1]
        for el in range(len(tables.n_max_l)):
            n_max = tables.n_max_l[el]
            for q in range(2 * el + 1):
                row = y[el * el + q]
                base = z * block + tables.first_l[el] + q * n_max
                n = 0
                while n + 4 <= n_max:
                    p0, p1, p2, p3 = radial[n], radial[n + 1], radial[n + 2], radial[n + 3]
                    s0 = s1 = s2 = s3 = zero
                    for j in range(lo, hi):
                        s0 += row[j] * p0[j]
                        s1 += row[j] * p1[j]
                        s2 += row[j] * p2[j]
                        s3 += row[j] * p3[j]
                    a_a[base + n], a_a[base + n + 1], a_a[base + n + 2], a_a[base + n + 3] = s0, s1, s2, s3
                    n += 4
                while n < n_max:
                    p0 = radial[n]
                    s0 = zero
                    for j in range(lo, hi):
                        s0 += row[j] * p0[j]
                    a_a[base + n] = s0
                    n += 1


@njit(cache=True, error_model="numpy", fastmath=FAST)
def contract_radial(radial: Any, w_a: Any, base: int, n_max: int, lo: int, hi: int, out: Any) -> None:
    """out_j = sum_n w[base + n] P_n(r_j)."""
    for j in range(lo, hi):
        out[j] = w_a[base] * radial[0, j]
    n = 1
    while n + 4 <= n_max:
        p0, p1, p2, p3 = radial[n], radial[n + 1], radial[n + 2], radial[n + 3]
        w0, w1, w2, w3 = w_a[base + n], w_a[base + n + 1], w_a[base + n + 2], w_a[base + n + 3]
        for j in range(lo, hi):
            out[j] += w0 * p0[j] + w1 * p1[j] + w2 * p2[j] + w3 * p3[j]
        n += 4
    while n < n_max:
        p0 = radial[n]
        w0 = w_a[base + n]
        for j in range(lo, hi):
            out[j] += w0 * p0[j]
        n += 1


@njit(cache=True, error_model="numpy", fastmath=FAST)
def pair_gradients(tables: OneParticleTables, lanes: Lanes, n_lanes: int, w_a: Any, g_pc: Any) -> None:
    """g_pc of the gathered pairs from w = dV/dA: d/dr_j sum_a w_a P_n Y_lm(r_j)."""
    y, unit, inverse, work = lanes.harmonic_hj, lanes.unit_cj, lanes.r_kj[1], lanes.work_kj
    along, gx, gy, gz, g, dg = work[0], work[1], work[2], work[3], work[4], work[5]
    index, coefficient = tables.gradient_index, tables.gradient_coefficient
    block = tables.first_l[-1]
    for j in range(n_lanes):
        along[j] = 0.0
        gx[j] = 0.0
        gy[j] = 0.0
        gz[j] = 0.0
    for z in range(tables.n_species):
        lo, hi = lanes.first_z[z], lanes.first_z[z + 1]
        for el in range(len(tables.n_max_l)):
            for q in range(2 * el + 1):
                h = el * el + q
                base = z * block + tables.first_l[el] + q * tables.n_max_l[el]
                contract_radial(lanes.radial_dnj[0], w_a, base, tables.n_max_l[el], lo, hi, g)
                contract_radial(lanes.radial_dnj[1], w_a, base, tables.n_max_l[el], lo, hi, dg)
                row = y[h]
                for j in range(lo, hi):
                    along[j] += row[j] * (dg[j] - el * inverse[j] * g[j])
                if el > 0:
                    x0, x1 = y[index[h, 0]], y[index[h, 1]]
                    y0, y1, z0 = y[index[h, 2]], y[index[h, 3]], y[index[h, 4]]
                    a, b, c = coefficient[h, 0], coefficient[h, 1], coefficient[h, 2]
                    d, e = coefficient[h, 3], coefficient[h, 4]
                    for j in range(lo, hi):
                        gx[j] += g[j] * (a * x0[j] + b * x1[j])
                    for j in range(lo, hi):
                        gy[j] += g[j] * (c * y0[j] + d * y1[j])
                    for j in range(lo, hi):
                        gz[j] += g[j] * (e * z0[j])
    for j in range(n_lanes):
        p = lanes.pair_j[j]
        if p >= 0:
            g_pc[p, 0] = gx[j] * inverse[j] + unit[0, j] * along[j]
            g_pc[p, 1] = gy[j] * inverse[j] + unit[1, j] * along[j]
            g_pc[p, 2] = gz[j] * inverse[j] + unit[2, j] * along[j]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def fill_jacobian(tables: OneParticleTables, lanes: Lanes, jacobian: Any) -> None:
    """dA/dr_j in one flat array: for each species z, one after another, a block (A of one species, 3, lanes of z)."""
    y, unit, inverse, work = lanes.harmonic_hj, lanes.unit_cj, lanes.r_kj[1], lanes.work_kj
    index, coefficient = tables.gradient_index, tables.gradient_coefficient
    radial, slope = lanes.radial_dnj[0], lanes.radial_dnj[1]
    block = tables.first_l[-1]
    tangent, product = work[0], work[1]
    start = 0
    for z in range(tables.n_species):
        lo, width = lanes.first_z[z], lanes.first_z[z + 1] - lanes.first_z[z]
        for el in range(len(tables.n_max_l)):
            for q in range(2 * el + 1):
                h = el * el + q
                for c in range(3):
                    t0, t1 = min(2 * c, 4), min(2 * c + 1, 4)
                    y0, y1 = y[index[h, t0]], y[index[h, t1]]
                    k0, k1 = coefficient[h, t0], coefficient[h, t1]
                    if c == 2:
                        k1 = 0.0
                    for j in range(width):
                        product[j] = y[h, lo + j] * unit[c, lo + j]
                    for j in range(width):
                        tangent[j] = (k0 * y0[lo + j] + k1 * y1[lo + j] - el * product[j]) * inverse[lo + j]
                    for n in range(tables.n_max_l[el]):
                        row = start + ((tables.first_l[el] + q * tables.n_max_l[el] + n) * 3 + c) * width
                        p, dp = radial[n], slope[n]
                        for j in range(width):
                            jacobian[row + j] = p[lo + j] * tangent[j] + dp[lo + j] * product[j]
        start += block * 3 * width


@njit(cache=True, error_model="numpy", fastmath=FAST)
def pair_curvatures(tables: OneParticleTables, lanes: Lanes, n_lanes: int, w_a: Any, h_jcd: Any) -> None:
    """Second derivative of sum_a w_a P_n Y_lm(r_j) by r_j, w held fixed: shape (n_lanes, 3, 3).

    With Y(r) = r^-l R(r), R a homogeneous polynomial, and g = P r^-l:
    Y [g'' u u + g'/r (1 - u u)] + g'/r (u dR + dR u) + P / r^2 ddR with Y, R at the unit vector u.
    """
    y, unit, inverse, work = lanes.harmonic_hj, lanes.unit_cj, lanes.r_kj[1], lanes.work_kj
    index, coefficient = tables.gradient_index, tables.gradient_coefficient
    block = tables.first_l[-1]
    zero = h_jcd.dtype.type(0.0)
    h_jcd[:n_lanes] = zero
    for z in range(tables.n_species):
        lo, hi = lanes.first_z[z], lanes.first_z[z + 1]
        for el in range(len(tables.n_max_l)):
            for q in range(2 * el + 1):
                h = el * el + q
                base = z * block + tables.first_l[el] + q * tables.n_max_l[el]
                for k in range(3):
                    contract_radial(lanes.radial_dnj[k], w_a, base, tables.n_max_l[el], lo, hi, work[k])
                for j in range(lo, hi):
                    g0, s = work[0, j], inverse[j]
                    g1 = work[1, j] - el * s * g0
                    g2 = work[2, j] - 2.0 * el * s * work[1, j] + el * (el + 1.0) * s * s * g0
                    g1 *= s
                    for c in range(3):
                        dc = gradient_of(index, coefficient, y, h, c, j)
                        for d in range(3):
                            dd = gradient_of(index, coefficient, y, h, d, j)
                            uu = unit[c, j] * unit[d, j]
                            second = zero
                            for t in range(2 * c, min(2 * c + 2, 5)):
                                if coefficient[h, t] != 0.0:
                                    second += coefficient[h, t] * gradient_of(index, coefficient, y, index[h, t], d, j)
                            value = y[h, j] * (g2 - g1) * uu + g1 * (unit[c, j] * dd + unit[d, j] * dc)
                            value += g0 * s * s * second
                            if c == d:
                                value += y[h, j] * g1
                            h_jcd[j, c, d] += value


@njit(cache=True, error_model="numpy", fastmath=FAST)
def gradient_of(index: Any, coefficient: Any, y: Any, h: int, c: int, j: int) -> Any:
    """Component c of the gradient of r^l Y at the unit vector j."""
    value = coefficient[h, 2 * c] * y[index[h, 2 * c], j]
    if c < 2:
        value += coefficient[h, 2 * c + 1] * y[index[h, 2 * c + 1], j]
    return value
