"""Inner loops between sites and pairs: bond vectors from displacements, site forces from pair gradients."""

from __future__ import annotations

import numpy as np
from numba import njit

from parmlip.potentials.base import FloatArray, IntArray


@njit(cache=True)
def bond_vectors(
    first_n: IntArray, site_p: IntArray, bond_pc: FloatArray, u_md: FloatArray, out_pc: FloatArray, start: int = 0
) -> None:
    """out = bond + u[neighbour] - u[centre], (n_pairs, 3); `u_md` has the d components that move.

    The centres are the local sites from `start` on.
    """
    d = u_md.shape[1]
    if d == 3:
        for n in range(len(first_n) - 1):
            x, y, z = u_md[start + n, 0], u_md[start + n, 1], u_md[start + n, 2]
            for p in range(first_n[n], first_n[n + 1]):
                m = site_p[p]
                out_pc[p, 0] = bond_pc[p, 0] + (u_md[m, 0] - x)
                out_pc[p, 1] = bond_pc[p, 1] + (u_md[m, 1] - y)
                out_pc[p, 2] = bond_pc[p, 2] + (u_md[m, 2] - z)
        return
    for n in range(len(first_n) - 1):
        for p in range(first_n[n], first_n[n + 1]):
            m = site_p[p]
            for c in range(3):
                out_pc[p, c] = bond_pc[p, c]
            for c in range(d):
                out_pc[p, c] += u_md[m, c] - u_md[start + n, c]


@njit(cache=True)
def bond_differences(first_n: IntArray, site_p: IntArray, v_md: FloatArray, out_pc: FloatArray) -> None:
    """out = v[neighbour] - v[centre], (n_pairs, 3); components that do not move are zero."""
    d = v_md.shape[1]
    for n in range(len(first_n) - 1):
        for p in range(first_n[n], first_n[n + 1]):
            m = site_p[p]
            for c in range(d):
                out_pc[p, c] = v_md[m, c] - v_md[n, c]
            for c in range(d, 3):
                out_pc[p, c] = 0.0


@njit(cache=True)
def site_gradient(first_n: IntArray, site_p: IntArray, g_pc: FloatArray, out_md: FloatArray, start: int = 0) -> None:
    """Adds dE/du = (+g at the neighbour, -g at the centre) to `out_md`: the transpose of `bond_differences`.

    The centres are the local sites from `start` on.
    """
    d = out_md.shape[1]
    if d == 3:  # the centre's sum stays in registers
        for n in range(start, start + len(first_n) - 1):
            x, y, z = 0.0 * out_md[n, 0], 0.0 * out_md[n, 1], 0.0 * out_md[n, 2]
            for p in range(first_n[n - start], first_n[n - start + 1]):
                m = site_p[p]
                g0, g1, g2 = g_pc[p, 0], g_pc[p, 1], g_pc[p, 2]
                x += g0
                y += g1
                z += g2
                out_md[m, 0] += g0
                out_md[m, 1] += g1
                out_md[m, 2] += g2
            out_md[n, 0] -= x
            out_md[n, 1] -= y
            out_md[n, 2] -= z
        return
    for n in range(start, start + len(first_n) - 1):
        for p in range(first_n[n - start], first_n[n - start + 1]):
            m = site_p[p]
            for c in range(d):
                out_md[m, c] += g_pc[p, c]
                out_md[n, c] -= g_pc[p, c]


@njit(cache=True, fastmath={"contract", "reassoc", "nsz"})
def least_square(r_pc: FloatArray) -> float:
    """Square of the least distance, infinite without pairs, angstrom^2."""
    least = np.inf
    for p in range(len(r_pc)):
        least = min(least, r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2])
    return least


@njit(cache=True)
def row_pattern(first_n: IntArray, site_p: IntArray, n_local: int) -> tuple[IntArray, IntArray]:
    """Pattern (first_r, column_b) of the sum of site Hessians over local sites; columns ascend within a row.

    Row a holds column b if some centre's environment contains both (a centre belongs to its own environment).
    """
    n_owned = len(first_n) - 1
    count = np.zeros(n_local + 1, np.int64)
    for n in range(n_owned):
        count[n + 1] += 1
        for p in range(first_n[n], first_n[n + 1]):
            count[site_p[p] + 1] += 1
    first_a = np.cumsum(count)  # centres whose environment contains local site a (repeated for images)
    fill = first_a[:-1].copy()
    centre = np.empty(first_a[-1], np.int64)
    for n in range(n_owned):
        centre[fill[n]] = n
        fill[n] += 1
        for p in range(first_n[n], first_n[n + 1]):
            a = site_p[p]
            centre[fill[a]] = n
            fill[a] += 1
    seen = np.full(n_local, -1, np.int64)
    first_r = np.zeros(n_local + 1, np.int64)
    for a in range(n_local):
        width = 0
        for i in range(first_a[a], first_a[a + 1]):
            n = centre[i]
            if seen[n] != a:
                seen[n] = a
                width += 1
            for p in range(first_n[n], first_n[n + 1]):
                b = site_p[p]
                if seen[b] != a:
                    seen[b] = a
                    width += 1
        first_r[a + 1] = first_r[a] + width
    column_b = np.empty(first_r[-1], np.int64)
    seen[:] = -1
    for a in range(n_local):
        k = first_r[a]
        for i in range(first_a[a], first_a[a + 1]):
            n = centre[i]
            if seen[n] != a:
                seen[n] = a
                column_b[k] = n
                k += 1
            for p in range(first_n[n], first_n[n + 1]):
                b = site_p[p]
                if seen[b] != a:
                    seen[b] = a
                    column_b[k] = b
                    k += 1
        column_b[first_r[a] : k].sort()
    return first_r, column_b


@njit(cache=True)
def merge_rows(
    first_s: IntArray, row_s: IntArray, column_x: IntArray, n_rows: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Union of row segments: segment s holds columns column_x[first_s[s] : first_s[s + 1]] of row row_s[s].

    Returns (first_r, column_b, place_x): the merged pattern with ascending columns, and where each given entry goes.
    """
    count = np.zeros(n_rows + 1, np.int64)
    for s in range(len(row_s)):
        count[row_s[s] + 1] += 1
    first = np.cumsum(count)
    fill = first[:-1].copy()
    segment = np.empty(len(row_s), np.int64)
    for s in range(len(row_s)):
        segment[fill[row_s[s]]] = s
        fill[row_s[s]] += 1
    first_r = np.zeros(n_rows + 1, np.int64)
    place_x = np.empty(len(column_x), np.int64)
    column_b = np.empty(len(column_x), np.int64)
    k = 0
    for r in range(n_rows):
        length = 0
        for i in range(first[r], first[r + 1]):
            s = segment[i]
            length += first_s[s + 1] - first_s[s]
        where = np.empty(length, np.int64)
        columns = np.empty(length, np.int64)
        j = 0
        for i in range(first[r], first[r + 1]):
            s = segment[i]
            for x in range(first_s[s], first_s[s + 1]):
                where[j] = x
                columns[j] = column_x[x]
                j += 1
        order = np.argsort(columns)
        for j in range(length):
            x = where[order[j]]
            if j == 0 or columns[order[j]] != column_b[k - 1]:
                column_b[k] = columns[order[j]]
                k += 1
            place_x[x] = k - 1
        first_r[r + 1] = k
    return first_r, column_b[:k].copy(), place_x
