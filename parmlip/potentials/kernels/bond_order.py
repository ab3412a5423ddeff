"""Site loops of bond-order laws of Tersoff's form, one species; any scalar type.

    V = sum_j [1/2 fc(r_j) (A exp(-lambda1 r_j) + c0) - 1/2 fc(r_j) B exp(-lambda2 r_j) b(zeta_j)],
    zeta_j = sum_{k != j} T(r_j, r_k, cos_jk),   T = fc(r_k) g(cos) exp(s (r_j - r_k)^m),
    b(zeta) = (1 + (beta zeta)^eta)^(-delta).

With Z_p = d zeta_j / dr_p the Hessian of f(r_j) b(zeta_j) is
    f'' b e_j e_j^T + f' b / r_j (1 - e_j e_j^T) + f' b' (e_j Z^T + Z e_j^T) + f b'' Z Z^T + f b' d2 zeta_j.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from parmlip.potentials.kernels.eam import longest_range
from parmlip.potentials.kernels.eam_forms import FAST
from parmlip.potentials.kernels.triplets import add_angular, add_radial, dense_offsets, pairs_within, unit_vectors


class Constants(NamedTuple):
    """What the loops read; `modified` chooses cutoff and angular functions of Kumagai et al. instead of Tersoff's."""

    modified: bool
    a: float  # eV
    b: float  # eV
    lambda1: float  # 1 / angstrom
    lambda2: float
    shift: float  # c0, eV
    beta: float
    eta: float
    delta: float
    s: float  # of the exponent, angstrom^-m
    m: int
    inner: float  # angstrom: fc is 1 up to here
    outer: float  # angstrom: fc is 0 from here
    angular: tuple[float, float, float, float, float, float]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def cutoff_function(law: Any, r: Any) -> Any:
    """fc and two derivatives; for r below `outer`."""
    one = r**0
    if r.real <= law.inner:
        return one, 0.0 * one, 0.0 * one
    w = np.pi / (law.outer - law.inner)
    x = w * (r - law.inner)
    c1, s1 = np.cos(x), np.sin(x)
    if not law.modified:
        return 0.5 + 0.5 * c1, -0.5 * w * s1, -0.5 * w * w * c1
    c3, s3 = np.cos(3.0 * x), np.sin(3.0 * x)
    return (
        0.5 + (9.0 * c1 - c3) / 16.0,
        w * (3.0 * s3 - 9.0 * s1) / 16.0,
        w * w * (9.0 * c3 - 9.0 * c1) / 16.0,
    )


@njit(cache=True, error_model="numpy", fastmath=FAST)
def angular_function(law: Any, cosine: Any) -> Any:
    """g and two derivatives with respect to the cosine."""
    if law.modified:
        h, c1, c2, c3, c4, c5 = law.angular
        t = (h - cosine) * (h - cosine)
        w = 1.0 / (c3 + t)
        a, a1 = c2 * t * w, c2 * c3 * w * w
        a2 = -2.0 * a1 * w
        e = c4 * np.exp(-c5 * t)
        g = c1 + a * (1.0 + e)
        g1 = a1 * (1.0 + e) - c5 * a * e
        g2 = a2 * (1.0 + e) - 2.0 * c5 * a1 * e + c5 * c5 * a * e
    else:
        h, gamma, c, d, _, _ = law.angular
        t = (h - cosine) * (h - cosine)
        w = 1.0 / (d * d + t)
        g = gamma * (1.0 + c * c / (d * d) * t * w)  # = 1 + c^2/d^2 - c^2/(d^2 + t) without cancellation
        g1 = gamma * c * c * w * w
        g2 = -2.0 * g1 * w
    t1 = -2.0 * (h - cosine)
    return g, g1 * t1, g2 * t1 * t1 + 2.0 * g1


@njit(cache=True, error_model="numpy", fastmath=FAST)
def exponential(law: Any, x: Any) -> Any:
    """exp(s x^m) and two derivatives, x = r_j - r_k."""
    s, m = law.s, law.m
    x_m2 = x**0 if m < 3 else x  # x^(m - 2), not needed for m = 1
    x_m1 = x_m2 if m == 1 else x_m2 * x
    v = s * m * x_m1
    e = np.exp(s * x_m1 * x)
    return e, v * e, (v * v + s * (m * (m - 1)) * x_m2) * e


@njit(cache=True, error_model="numpy", fastmath=FAST)
def bond_order(law: Any, zeta: Any) -> Any:
    """b and two derivatives."""
    if zeta.real <= 0.0:  # no third site, so that what the derivatives multiply is zero too
        one = zeta**0
        return one, 0.0 * one, 0.0 * one
    t = np.exp(law.eta * np.log(law.beta * zeta))
    b = np.exp(-law.delta * np.log(1.0 + t))
    w = 1.0 / zeta
    q = law.eta * t * w / (1.0 + t)  # d log(1 + t) / d zeta
    b1 = -law.delta * q * b
    return b, b1, b1 * ((law.eta - 1.0) * w - (1.0 + law.delta) * q)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def pair_terms(law: Any, r: Any, fc: Any, fc1: Any, fc2: Any) -> Any:
    """Repulsion and attraction (without b) with two derivatives each."""
    e1 = 0.5 * law.a * np.exp(-law.lambda1 * r)
    e2 = -0.5 * law.b * np.exp(-law.lambda2 * r)
    l1, l2 = law.lambda1, law.lambda2
    u = e1 + 0.5 * law.shift
    repulsion = (fc * u, fc1 * u - fc * l1 * e1, fc2 * u - 2.0 * fc1 * l1 * e1 + fc * l1 * l1 * e1)
    attraction = (fc * e2, (fc1 - fc * l2) * e2, (fc2 - 2.0 * fc1 * l2 + fc * l2 * l2) * e2)
    return repulsion, attraction


@njit(cache=True, error_model="numpy", fastmath=FAST)
def site_energies(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, law: Any) -> Any:
    """V_n, eV."""
    first_k, pair_k = pairs_within(first_n, r_pc, species_n, species_p, np.full((1, 1), law.outer))
    v_n = np.zeros(len(first_n) - 1, r_pc.dtype)
    longest = longest_range(first_k)
    e_qc, r_q, fc_q = np.empty((longest, 3), r_pc.dtype), np.empty(longest, r_pc.dtype), np.empty(longest, r_pc.dtype)
    for n in range(len(v_n)):
        m = first_k[n + 1] - first_k[n]
        unit_vectors(pair_k[first_k[n] : first_k[n + 1]], r_pc, r_q, e_qc)
        for j in range(m):
            fc_q[j] = cutoff_function(law, r_q[j])[0]
        for j in range(m):
            zeta = 0.0 * v_n[n]
            for k in range(m):
                if k != j:
                    cosine = e_qc[j, 0] * e_qc[k, 0] + e_qc[j, 1] * e_qc[k, 1] + e_qc[j, 2] * e_qc[k, 2]
                    g, _, _ = angular_function(law, cosine)
                    zeta += fc_q[k] * g * exponential(law, r_q[j] - r_q[k])[0]
            repulsion, attraction = pair_terms(law, r_q[j], fc_q[j], 0.0, 0.0)
            v_n[n] += repulsion[0] + attraction[0] * bond_order(law, zeta)[0]
    return v_n


@njit(cache=True, error_model="numpy", fastmath=FAST)
def site_gradients(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, law: Any) -> Any:
    """V_n, eV, and dV_n / dr_pc, eV / angstrom."""
    first_k, pair_k = pairs_within(first_n, r_pc, species_n, species_p, np.full((1, 1), law.outer))
    v_n = np.zeros(len(first_n) - 1, r_pc.dtype)
    g_pc = np.zeros_like(r_pc)
    longest = longest_range(first_k)
    e_qc, r_q = np.empty((longest, 3), r_pc.dtype), np.empty(longest, r_pc.dtype)
    fc_qi = np.empty((longest, 2), r_pc.dtype)
    cosine_q, t_qi = np.empty(longest, r_pc.dtype), np.empty((longest, 3), r_pc.dtype)  # dT by r_j, r_k, cos
    for n in range(len(v_n)):
        pair_q = pair_k[first_k[n] : first_k[n + 1]]
        m = len(pair_q)
        unit_vectors(pair_q, r_pc, r_q, e_qc)
        for j in range(m):
            fc_qi[j, 0], fc_qi[j, 1], _ = cutoff_function(law, r_q[j])
        for j in range(m):
            zeta = 0.0 * v_n[n]
            for k in range(m):
                if k == j:
                    continue
                cosine = e_qc[j, 0] * e_qc[k, 0] + e_qc[j, 1] * e_qc[k, 1] + e_qc[j, 2] * e_qc[k, 2]
                g, g1, _ = angular_function(law, cosine)
                x, x1, _ = exponential(law, r_q[j] - r_q[k])
                fc, fc1 = fc_qi[k]
                zeta += fc * g * x
                cosine_q[k] = cosine
                t_qi[k, 0] = fc * g * x1
                t_qi[k, 1] = fc1 * g * x - fc * g * x1
                t_qi[k, 2] = fc * g1 * x
            repulsion, attraction = pair_terms(law, r_q[j], fc_qi[j, 0], fc_qi[j, 1], 0.0)
            b, b1, _ = bond_order(law, zeta)
            v_n[n] += repulsion[0] + attraction[0] * b
            weight = attraction[0] * b1
            along = repulsion[1] + attraction[1] * b
            for k in range(m):
                if k == j:
                    continue
                cross_j = weight * t_qi[k, 2] / r_q[j]
                cross_k = weight * t_qi[k, 2] / r_q[k]
                along += weight * t_qi[k, 0] - cosine_q[k] * cross_j
                along_k = weight * t_qi[k, 1] - cosine_q[k] * cross_k
                for c in range(3):
                    g_pc[pair_q[j], c] += cross_j * e_qc[k, c]
                    g_pc[pair_q[k], c] += along_k * e_qc[k, c] + cross_k * e_qc[j, c]
            for c in range(3):
                g_pc[pair_q[j], c] += along * e_qc[j, c]
    return v_n, g_pc


@njit(cache=True, error_model="numpy", fastmath=FAST)
def site_hessians(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, law: Any) -> Any:
    """first_k, pair_k, first_x and h_x: the dense Hessians of all sites over their pairs within the cutoff."""
    first_k, pair_k = pairs_within(first_n, r_pc, species_n, species_p, np.full((1, 1), law.outer))
    first_x = dense_offsets(first_k)
    h_x = np.zeros(first_x[-1], r_pc.dtype)
    longest = longest_range(first_k)
    e_qc, r_q = np.empty((longest, 3), r_pc.dtype), np.empty(longest, r_pc.dtype)
    fc_qi = np.empty((longest, 3), r_pc.dtype)
    z_qc = np.empty((longest, 3), r_pc.dtype)  # d zeta_j
    cosine_q = np.empty(longest, r_pc.dtype)
    g_qi, x_qi = np.empty((longest, 3), r_pc.dtype), np.empty((longest, 3), r_pc.dtype)
    for n in range(len(first_k) - 1):
        pair_q = pair_k[first_k[n] : first_k[n + 1]]
        m = len(pair_q)
        h_qqcd = h_x[first_x[n] : first_x[n + 1]].reshape((m, m, 3, 3))
        unit_vectors(pair_q, r_pc, r_q, e_qc)
        for j in range(m):
            fc_qi[j, 0], fc_qi[j, 1], fc_qi[j, 2] = cutoff_function(law, r_q[j])
        for j in range(m):
            z_qc[:m] = 0.0
            zeta = 0.0 * r_q[j]
            for k in range(m):
                if k == j:
                    continue
                cosine = e_qc[j, 0] * e_qc[k, 0] + e_qc[j, 1] * e_qc[k, 1] + e_qc[j, 2] * e_qc[k, 2]
                g, g1, g2 = angular_function(law, cosine)
                x, x1, x2 = exponential(law, r_q[j] - r_q[k])
                fc, fc1, _ = fc_qi[k]
                cosine_q[k] = cosine
                g_qi[k, 0], g_qi[k, 1], g_qi[k, 2] = g, g1, g2
                x_qi[k, 0], x_qi[k, 1], x_qi[k, 2] = x, x1, x2
                zeta += fc * g * x
                t_j, t_k, t_c = fc * g * x1, fc1 * g * x - fc * g * x1, fc * g1 * x
                cross_j, cross_k = t_c / r_q[j], t_c / r_q[k]
                for c in range(3):
                    z_qc[j, c] += (t_j - cosine * cross_j) * e_qc[j, c] + cross_j * e_qc[k, c]
                    z_qc[k, c] += (t_k - cosine * cross_k) * e_qc[k, c] + cross_k * e_qc[j, c]
            repulsion, attraction = pair_terms(law, r_q[j], fc_qi[j, 0], fc_qi[j, 1], fc_qi[j, 2])
            b, b1, b2 = bond_order(law, zeta)
            radial1, radial2 = repulsion[1] + attraction[1] * b, repulsion[2] + attraction[2] * b
            add_radial(h_qqcd, j, e_qc, r_q[j], radial1, radial2)
            weight, mixed, outer = attraction[0] * b1, attraction[1] * b1, attraction[0] * b2
            for p in range(m):
                for c in range(3):
                    for d in range(3):
                        h_qqcd[j, p, c, d] += mixed * e_qc[j, c] * z_qc[p, d]
                        h_qqcd[p, j, c, d] += mixed * z_qc[p, c] * e_qc[j, d]
                    for q in range(m):
                        for d in range(3):
                            h_qqcd[p, q, c, d] += outer * z_qc[p, c] * z_qc[q, d]
            for k in range(m):
                if k == j:
                    continue
                fc, fc1, fc2 = weight * fc_qi[k, 0], weight * fc_qi[k, 1], weight * fc_qi[k, 2]
                g, g1, g2 = g_qi[k]
                x, x1, x2 = x_qi[k]
                first = (fc * g * x1, fc1 * g * x - fc * g * x1, fc * g1 * x)
                second = (
                    fc * g * x2,
                    fc2 * g * x - 2.0 * fc1 * g * x1 + fc * g * x2,
                    fc1 * g * x1 - fc * g * x2,
                    fc * g1 * x1,
                    fc1 * g1 * x - fc * g1 * x1,
                    fc * g2 * x,
                )
                add_angular(h_qqcd, j, k, e_qc, r_q, cosine_q[k], first, second)
    return first_k, pair_k, first_x, h_x
