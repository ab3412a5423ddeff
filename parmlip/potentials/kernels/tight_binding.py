"""Pair blocks of a tight-binding law with s and p orbitals, and their contraction with density matrices.

Orbitals of a site: s, p_x, p_y, p_z. The block of the pair (i, j) with unit vector u from i to j is, with the four
radial functions V of the pair (Slater, Koster, Phys. Rev. 94, 1498 (1954), table I),

    B_ss = V_ss,  B_s,a = u_a V_sp,  B_a,s = -u_a V_sp,  B_ab = u_a u_b (V_pp-sigma - V_pp-pi) + delta_ab V_pp-pi.

Every function is generic in the scalar type of the pair vectors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

ORIGINAL, QUIP, ENERGY_SHIFT, FORCE_SHIFT = 0, 1, 2, 3


class Constants(NamedTuple):
    """Constants of the law in eV and angstrom."""

    variant: int  # how the functions end at the cutoff
    cutoff: float  # angstrom
    width: float  # angstrom
    offset: float
    density_rate: float  # 1 / angstrom
    onsite_kn: Any  # (2, 4) eV, coefficients of rho^0, rho^(2/3), rho^(4/3), rho^2
    hopping_kn: Any  # (4, 4): polynomial, eV / angstrom^n, and rate, 1 / angstrom
    overlap_kn: Any  # (4, 5): polynomial, 1 / angstrom^n, and rate, 1 / angstrom


@njit(cache=True)
def cutoff_function(constants: Any, r: Any) -> Any:
    """The function that ends all others, and its derivative, 1 / angstrom."""
    y = np.exp((r - constants.cutoff) / constants.width + constants.offset)
    f = 1.0 / (1.0 + y)
    f1 = -f * f * y / constants.width
    if constants.variant == QUIP:
        x = (r - constants.cutoff + constants.width) / constants.width
        if x.real > 0.0:
            c = 0.5 * (1.0 + np.cos(np.pi * x))
            f1 = f1 * c - f * 0.5 * np.pi / constants.width * np.sin(np.pi * x)
            f = f * c
    elif constants.variant != ORIGINAL:
        end = 1.0 / (1.0 + np.exp(constants.offset))
        f = f - end
        if constants.variant == FORCE_SHIFT:
            slope = -end * (1.0 - end) / constants.width
            f = f - slope * (r - constants.cutoff)
            f1 = f1 - slope
    return f, f1


@njit(cache=True)
def radial(constants: Any, r: Any, h_k: Any, h1_k: Any, s_k: Any, s1_k: Any) -> Any:
    """Fill the four hopping functions, eV, and overlaps with their derivatives; return density and its derivative."""
    f, f1 = cutoff_function(constants, r)
    for k in range(4):
        a = constants.hopping_kn[k]
        e = np.exp(-a[3] * r)
        v = (a[0] + r * (a[1] + r * a[2])) * e
        v1 = (a[1] + 2.0 * r * a[2]) * e - a[3] * v
        h_k[k], h1_k[k] = v * f, v1 * f + v * f1
        a = constants.overlap_kn[k]
        e = np.exp(-a[4] * r)
        v = (a[0] + r * (a[1] + r * (a[2] + r * a[3]))) * e
        v1 = (a[1] + r * (2.0 * a[2] + 3.0 * r * a[3])) * e - a[4] * v
        s_k[k], s1_k[k] = v * f, v1 * f + v * f1
    e = np.exp(-constants.density_rate * r)
    return e * f, e * (f1 - constants.density_rate * f)


@njit(cache=True)
def fill_block(u_c: Any, v_k: Any, b_ij: Any) -> None:
    """The 4 x 4 block of the functions `v_k` along `u_c`."""
    b_ij[0, 0] = v_k[0]
    for c in range(3):
        b_ij[0, c + 1] = u_c[c] * v_k[1]
        b_ij[c + 1, 0] = -u_c[c] * v_k[1]
        for d in range(3):
            b_ij[c + 1, d + 1] = u_c[c] * u_c[d] * (v_k[2] - v_k[3])
        b_ij[c + 1, c + 1] += v_k[3]


@njit(cache=True)
def fill_block_gradient(u_c: Any, r: Any, v_k: Any, v1_k: Any, b_cij: Any) -> None:
    """d block / d r_c, (3, 4, 4)."""
    pp, pp1 = v_k[2] - v_k[3], v1_k[2] - v1_k[3]
    for e in range(3):
        b_cij[e, 0, 0] = v1_k[0] * u_c[e]
        for c in range(3):
            # d u_c / d r_e = (delta - u_c u_e) / r
            along = u_c[c] * u_c[e]
            turn_c = ((1.0 if c == e else 0.0) - along) / r
            sp = along * v1_k[1] + turn_c * v_k[1]
            b_cij[e, 0, c + 1] = sp
            b_cij[e, c + 1, 0] = -sp
            for d in range(3):
                turn_d = ((1.0 if d == e else 0.0) - u_c[d] * u_c[e]) / r
                b_cij[e, c + 1, d + 1] = u_c[c] * u_c[d] * u_c[e] * pp1 + (turn_c * u_c[d] + u_c[c] * turn_d) * pp
            b_cij[e, c + 1, c + 1] += u_c[e] * v1_k[3]


@njit(cache=True)
def pair_blocks(constants: Any, r_pc: Any) -> tuple[Any, Any, Any]:
    """Hopping (n_pairs, 4, 4), eV, overlap (n_pairs, 4, 4) and density (n_pairs,) of all pairs."""
    n = len(r_pc)
    h_pij, s_pij, d_p = np.empty((n, 4, 4), r_pc.dtype), np.empty((n, 4, 4), r_pc.dtype), np.empty(n, r_pc.dtype)
    u_c = np.empty(3, r_pc.dtype)
    v_xk = np.empty((4, 4), r_pc.dtype)
    for p in range(n):
        r = np.sqrt(r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2])
        for c in range(3):
            u_c[c] = r_pc[p, c] / r
        d_p[p], _ = radial(constants, r, v_xk[0], v_xk[1], v_xk[2], v_xk[3])
        fill_block(u_c, v_xk[0], h_pij[p])
        fill_block(u_c, v_xk[2], s_pij[p])
    return h_pij, s_pij, d_p


@njit(cache=True)
def pair_block_gradients(constants: Any, r_pc: Any) -> tuple[Any, Any, Any]:
    """Derivatives of `pair_blocks` with respect to r_pc: (n_pairs, 3, 4, 4) twice and (n_pairs, 3)."""
    n = len(r_pc)
    h_pcij, s_pcij = np.empty((n, 3, 4, 4), r_pc.dtype), np.empty((n, 3, 4, 4), r_pc.dtype)
    d_pc = np.empty((n, 3), r_pc.dtype)
    u_c = np.empty(3, r_pc.dtype)
    v_xk = np.empty((4, 4), r_pc.dtype)
    for p in range(n):
        r = np.sqrt(r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2])
        _, d1 = radial(constants, r, v_xk[0], v_xk[1], v_xk[2], v_xk[3])
        for c in range(3):
            u_c[c] = r_pc[p, c] / r
            d_pc[p, c] = d1 * u_c[c]
        fill_block_gradient(u_c, r, v_xk[0], v_xk[1], h_pcij[p])
        fill_block_gradient(u_c, r, v_xk[2], v_xk[3], s_pcij[p])
    return h_pcij, s_pcij, d_pc


@njit(cache=True)
def onsite_levels(constants: Any, first_n: Any, d_p: Any) -> tuple[Any, Any]:
    """Levels (n_sites, 4), eV, and their derivatives with respect to the density of the site, eV."""
    n = len(first_n) - 1
    level_ai, slope_ai = np.zeros((n, 4), d_p.dtype), np.empty((n, 4), d_p.dtype)
    for a in range(n):
        rho = level_ai[a, 0]  # zero, in the scalar type
        for p in range(first_n[a], first_n[a + 1]):
            rho += d_p[p]
        alone = rho.real <= 0.0  # a site without neighbours: rho^(-1/3) has no value, and nothing to multiply
        x = rho if alone else np.exp(np.log(rho) / 3.0)
        x2 = x * x
        for i in range(4):
            b = constants.onsite_kn[0 if i == 0 else 1]
            level_ai[a, i] = b[0] + x2 * (b[1] + x2 * (b[2] + x2 * b[3]))
            slope_ai[a, i] = rho if alone else 2.0 * (b[1] + x2 * (2.0 * b[2] + 3.0 * x2 * b[3])) / (3.0 * x)
    return level_ai, slope_ai


@njit(cache=True)
def assemble(first_n: Any, site_p: Any, block_pij: Any, phase_p: Any, diagonal_ai: Any) -> Any:
    """Dense matrix (4 n_sites, 4 n_sites): the blocks times their phases, and the diagonal."""
    n = len(first_n) - 1
    m_xy = np.zeros((4 * n, 4 * n), phase_p.dtype)
    for a in range(n):
        for i in range(4):
            m_xy[4 * a + i, 4 * a + i] = diagonal_ai[a, i]
        for p in range(first_n[a], first_n[a + 1]):
            b = site_p[p]
            for i in range(4):
                for j in range(4):
                    m_xy[4 * a + i, 4 * b + j] += block_pij[p, i, j] * phase_p[p]
    return m_xy


@njit(cache=True)
def gather(
    first_n: Any, site_p: Any, phase_p: Any, density_xy: Any, weight: float, pair_pij: Any, site_ai: Any
) -> None:
    """Add weight times the blocks of a density matrix that pairs with blocks of `assemble`, and its diagonal.

    The sum over all elements of `assemble`(block, phase) times the transposed matrix is then that of block times
    `pair_pij`, plus the diagonal with `site_ai`. Only real parts count: k and -k are both summed over.
    """
    for a in range(len(first_n) - 1):
        for i in range(4):
            site_ai[a, i] += weight * density_xy[4 * a + i, 4 * a + i].real
        for p in range(first_n[a], first_n[a + 1]):
            b = site_p[p]
            w = weight * phase_p[p].conjugate()
            for i in range(4):
                for j in range(4):
                    # density[b, a] = conj(density[a, b]): read along rows
                    pair_pij[p, i, j] += (w * density_xy[4 * a + i, 4 * b + j]).real


@njit(cache=True)
def contract_block(u_c: Any, r: Any, v_k: Any, v1_k: Any, q_ij: Any, sign: float, g_c: Any) -> None:
    """Add sign times the derivative of sum_ij q_ij block_ij with respect to the pair vector."""
    trace = q_ij[1, 1] + q_ij[2, 2] + q_ij[3, 3]
    along = q_ij[0, 0] * v1_k[0] + trace * v1_k[3]
    sp, pp = 0.0 * along, 0.0 * along
    for c in range(3):
        sp += u_c[c] * (q_ij[0, c + 1] - q_ij[c + 1, 0])
        for d in range(3):
            pp += u_c[c] * q_ij[c + 1, d + 1] * u_c[d]
    v_pp, v1_pp = v_k[2] - v_k[3], v1_k[2] - v1_k[3]
    along += sp * v1_k[1] + pp * v1_pp - (sp * v_k[1] + 2.0 * pp * v_pp) / r
    for c in range(3):
        turn = v_k[1] * (q_ij[0, c + 1] - q_ij[c + 1, 0])
        for d in range(3):
            turn += v_pp * (q_ij[c + 1, d + 1] + q_ij[d + 1, c + 1]) * u_c[d]
        g_c[c] += sign * (along * u_c[c] + turn / r)


@njit(cache=True)
def contract(constants: Any, first_n: Any, r_pc: Any, density_pij: Any, weighted_pij: Any, onsite_a: Any) -> Any:
    """g_pc = d/dr_pc of sum density_pij hopping_pij - sum weighted_pij overlap_pij + sum onsite_a rho_a, eV / angstrom.

    `weighted_pij` is the energy-weighted density matrix, `onsite_a` the derivative of the energy by the density rho_a
    of a site, eV.
    """
    g_pc = np.zeros_like(r_pc)
    u_c = np.empty(3, r_pc.dtype)
    v_xk = np.empty((4, 4), r_pc.dtype)
    for a in range(len(first_n) - 1):
        for p in range(first_n[a], first_n[a + 1]):
            r = np.sqrt(r_pc[p, 0] * r_pc[p, 0] + r_pc[p, 1] * r_pc[p, 1] + r_pc[p, 2] * r_pc[p, 2])
            _, d1 = radial(constants, r, v_xk[0], v_xk[1], v_xk[2], v_xk[3])
            for c in range(3):
                u_c[c] = r_pc[p, c] / r
                g_pc[p, c] = onsite_a[a] * d1 * u_c[c]
            contract_block(u_c, r, v_xk[0], v_xk[1], density_pij[p], 1.0, g_pc[p])
            contract_block(u_c, r, v_xk[2], v_xk[3], weighted_pij[p], -1.0, g_pc[p])
    return g_pc


@njit(cache=True)
def on_sites(first_n: Any, site_p: Any, g_pc: Any) -> Any:
    """Derivatives by positions, (n_sites, 3), of what has the derivatives `g_pc` by pair vectors."""
    g_ac = np.zeros((len(first_n) - 1, 3), g_pc.dtype)
    for a in range(len(first_n) - 1):
        for p in range(first_n[a], first_n[a + 1]):
            for c in range(3):
                g_ac[a, c] -= g_pc[p, c]
                g_ac[site_p[p], c] += g_pc[p, c]
    return g_ac
