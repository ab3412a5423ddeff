"""The cluster expansion in plain NumPy, written to be read: complex harmonics, an atom and a function at a time.

Slow, and independent of the kernels: it shares with the program only the products that are coupled and their complex
coefficients (whose invariance the tests prove by rotating, and whose number by the character formula).
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial.legendre import legvander
from scipy.special import sph_harm_y

from parmlip.potentials.ace import ACEBasis
from parmlip.potentials.ace_coupling import complex_invariants, slot_tuples

TRIANGLES: dict[ACEBasis, np.ndarray] = {}  # of the Gram-Schmidt step


def radial(basis: ACEBasis, r: float) -> np.ndarray:
    """P_n(r): Gram-Schmidt of x^(n-1) f(x) on 1000 midpoints, by a QR factorisation."""
    coordinate = lambda s: ((1 + basis.r0) / (1 + s)) ** basis.transform_power  # noqa: E731
    left, right = coordinate(basis.cutoff), coordinate(basis.r_in)
    if r >= basis.cutoff or (basis.p_in > 0 and r <= basis.r_in):
        return np.zeros(int(basis.total_degree))
    f = lambda t: (t - left) ** basis.p_cut * (t - right) ** basis.p_in  # noqa: E731
    scaled = lambda t: (2 * t - left - right) / (right - left)  # noqa: E731
    powers = lambda t: legvander(scaled(t), int(basis.total_degree) - 1) * f(t)[:, None]  # noqa: E731
    if basis not in TRIANGLES:
        x = left + (np.arange(1000) + 0.5) / 1000 * (right - left)
        _, triangle = np.linalg.qr(powers(x) / np.sqrt(len(x)))
        TRIANGLES[basis] = np.sign(np.diag(triangle))[:, None] * triangle
    return np.linalg.solve(TRIANGLES[basis].T, powers(np.array([coordinate(r)]))[0])


def site_values(basis: ACEBasis, r_jc: np.ndarray, species_j: np.ndarray) -> np.ndarray:
    """The block of the centre's species: B_k for neighbours at r_jc."""
    a: dict[tuple[int, int, int, int], complex] = {}
    for r, z in zip(r_jc, species_j):
        distance = np.linalg.norm(r)
        p = radial(basis, distance)
        theta, phi = np.arccos(r[2] / distance), np.arctan2(r[1], r[0])
        for ell in range(int((basis.total_degree - 1) / basis.weight_l) + 1):
            for m in range(-ell, ell + 1):
                y = sph_harm_y(ell, m, theta, phi)
                for n in range(1, len(p) + 1):
                    a[n, ell, z, m] = a.get((n, ell, z, m), 0.0) + p[n - 1] * y
    values = [1.0] if basis.one_body else []
    for order in range(1, basis.correlation_order + 1):
        for slots in slot_tuples(len(basis.species), order, basis.total_degree, basis.weight_l):
            groups = sorted((s[1], slots.count(s), s) for s in dict.fromkeys(slots))
            arranged = [s for _, k, s in groups for _ in range(k)]
            monomials, coefficient_kt = complex_invariants(tuple((ell, k) for ell, k, _ in groups))
            products = [np.prod([a.get((*s, m), 0.0) for s, m in zip(arranged, ms)]) for ms in monomials]
            values += list(np.real(coefficient_kt @ np.array(products)))
    return np.array(values)


def number_of_invariants(pattern: tuple[tuple[int, int], ...]) -> int:
    """Rotation invariants in a product of symmetric powers Sym^k(V_l), by the integral of its character."""
    angle = (np.arange(2000) + 0.5) * np.pi / 2000  # the integrand is an even trigonometric polynomial
    character = np.ones_like(angle)
    for ell, k in pattern:
        power = [sum(np.cos(m * i * angle) for m in range(-ell, ell + 1)) for i in range(k + 1)]
        symmetric = [np.ones_like(angle)]
        for j in range(1, k + 1):
            symmetric.append(sum(power[i] * symmetric[j - i] for i in range(1, j + 1)) / j)
        character = character * symmetric[k]
    return round(float(np.mean(character * (1 - np.cos(angle)))))
