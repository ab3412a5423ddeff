"""The scalar toy law: bonds of a chain or a square lattice, functions of signed differences of displacements."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from parmlip.potentials.kernels.triplets import dense_offsets


class Constants(NamedTuple):
    """Of phi(D) = C D^2 + delta D^3 + D^4."""

    dimension: int
    spacing: float  # angstrom
    delta: float
    stiffness_st: NDArray[np.float64]  # C of a pair of species


@njit(cache=True)
def orientation(r: Any, spacing: float, dimension: int) -> Any:
    """Axis and sign of the bond whose vector, rounded to lattice sites, is one step along an axis; sign 0: no bond."""
    axis, sign = 0, 0
    for c in range(dimension):
        steps = round(r[c].real / spacing)
        if steps == 0:
            continue
        if sign != 0 or abs(steps) != 1:
            return 0, 0
        axis, sign = c, int(steps)
    return axis, sign


@njit(cache=True, error_model="numpy")
def site_energies(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, constants: Any) -> Any:
    """Site energies: half of every bond."""
    return site_gradients(first_n, r_pc, species_n, species_p, constants)[0]


@njit(cache=True, error_model="numpy")
def site_gradients(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, constants: Any) -> Any:
    """Site energies and their derivatives by the pair vectors."""
    n_centres = len(first_n) - 1
    energy_n, g_pc = np.zeros(n_centres, r_pc.dtype), np.zeros_like(r_pc)
    for n in range(n_centres):
        for p in range(first_n[n], first_n[n + 1]):
            axis, sign = orientation(r_pc[p], constants.spacing, constants.dimension)
            if sign == 0:
                energy_n[n] += 0.0 * np.sum(r_pc[p])  # what is not a number is not lost
                continue
            stiffness = constants.stiffness_st[species_n[n], species_p[p]]
            for c in range(constants.dimension):
                d = sign * r_pc[p, c]
                if c == axis:
                    d -= constants.spacing
                energy_n[n] += 0.5 * d * d * (stiffness + d * (constants.delta + d))
                g_pc[p, c] = 0.5 * sign * d * (2.0 * stiffness + d * (3.0 * constants.delta + 4.0 * d))
    return energy_n, g_pc


@njit(cache=True, error_model="numpy")
def site_hessians(first_n: Any, r_pc: Any, species_n: Any, species_p: Any, constants: Any) -> Any:
    """Dense Hessians of the site energies over the bonds: half of kappa = 2 C + 6 delta D + 12 D^2, diagonal."""
    n_centres = len(first_n) - 1
    first_k = np.zeros(n_centres + 1, np.int64)
    pair_k = np.empty(len(r_pc), np.int64)
    k = 0
    for n in range(n_centres):
        for p in range(first_n[n], first_n[n + 1]):
            if orientation(r_pc[p], constants.spacing, constants.dimension)[1] != 0:
                pair_k[k] = p
                k += 1
        first_k[n + 1] = k
    first_x = dense_offsets(first_k)
    h_x = np.zeros(first_x[-1], r_pc.dtype)
    for n in range(n_centres):
        m = first_k[n + 1] - first_k[n]
        for q in range(m):
            p = pair_k[first_k[n] + q]
            axis, sign = orientation(r_pc[p], constants.spacing, constants.dimension)
            stiffness = constants.stiffness_st[species_n[n], species_p[p]]
            for c in range(constants.dimension):
                d = sign * r_pc[p, c]
                if c == axis:
                    d -= constants.spacing
                kappa = 2.0 * stiffness + d * (6.0 * constants.delta + 12.0 * d)
                h_x[first_x[n] + 9 * (q * m + q) + 4 * c] = 0.5 * kappa
    return first_k, pair_k[:k].copy(), first_x, h_x
