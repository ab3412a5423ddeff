"""Nye's tensor of a displaced crystal, site by site. Local."""

from __future__ import annotations

from math import cos, radians
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from parmlip.crystal.defects import nearest_distance
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.crystal.supercell import Supercell, build_supercell

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_FIRST: Final = 1.2  # in nearest-neighbour distances: shells that make the lattice correspondence (two in bcc)
_SEEN: Final = 1.35  # in nearest-neighbour distances: bonds of the displaced crystal that may be theirs
_ANGLE: Final = 27.0  # degrees: a bond farther from every bond of the crystal has no counterpart (Hartley and Mishin)


def nye_tensor(
    supercell: Supercell,
    lattice: Lattice,
    lattice_constant: float,
    basis_a: IntArray,
    x_ac: RealArray,
    site_n: IntArray,
) -> RealArray:
    """alpha_jk (n, 3, 3), 1 / angstrom, of some sites: integrated over a plane with the normal j, the Burgers vector.

    Bonds are matched with those of the perfect crystal by their direction; P = Q G in least squares gives the lattice
    correspondence G of each site, and its differences along the bonds alpha_jk = -eps_jim dG_mk / dx_i. Where bonds do
    not span space it is zero. The cost is that of the sites asked for and their neighbours.

    Parameters
    ----------
    supercell : Supercell
        For its cell.
    lattice, lattice_constant
        The perfect crystal, in the frame of the cell.
    basis_a : ndarray of int, shape (n_sites,)
        Number of each site in the lattice's cell.
    x_ac : ndarray, shape (n_sites, 3)
        Positions, angstrom.

    References
    ----------
    Hartley, Mishin, Acta Mater. 53, 1313 (2005).
    """
    reach = _SEEN * nearest_distance(lattice) * lattice_constant
    near = find_pairs(supercell.cell_cc, supercell.periodic, x_ac, reach, site_n)
    all_m = np.concatenate([site_n, np.setdiff1d(near.site_p, site_n)])
    place_a = np.full(len(x_ac), -1, dtype=np.int64)
    place_a[all_m] = np.arange(len(all_m))
    pairs = find_pairs(supercell.cell_cc, supercell.periodic, x_ac, reach, all_m)
    q_pc = pair_vectors(pairs, supercell.cell_cc, x_ac)
    unit = build_supercell(lattice, lattice_constant, (1, 1, 1), ["X"] * lattice.n_slots)
    ideal = find_pairs(unit.cell_cc, unit.periodic, unit.positions_ac, _FIRST / _SEEN * reach)
    bond_qc = pair_vectors(ideal, unit.cell_cc, unit.positions_ac)
    kept_p = np.full(pairs.n_pairs, -1, dtype=np.int64)
    G_mij, inverse_mij = np.empty((len(all_m), 3, 3)), np.empty((len(all_m), 3, 3))
    _correspondence(
        pairs.first_n, q_pc, basis_a[all_m], ideal.first_n, bond_qc, cos(radians(_ANGLE)), kept_p, G_mij, inverse_mij
    )
    alpha_njk = np.zeros((len(site_n), 3, 3))
    _density(
        pairs.first_n, q_pc, place_a[pairs.site_p[: pairs.first_n[len(site_n)]]], kept_p, G_mij, inverse_mij, alpha_njk
    )
    return alpha_njk


@njit(cache=True)
def _correspondence(
    first_m: Any, q_pc: Any, basis_m: Any, first_b: Any, bond_qc: Any, least: float, kept_p: Any, G_mij: Any,
    inverse_mij: Any,
) -> None:  # fmt: skip
    """Counterpart of each bond (-1: none), G, and the inverse of sum Q Q (zero where it has none)."""
    for m in range(len(first_m) - 1):
        low, high = first_b[basis_m[m]], first_b[basis_m[m] + 1]
        best_q, off_q = np.full(high - low, -1), np.full(high - low, np.inf)
        for p in range(first_m[m], first_m[m + 1]):
            length = np.sqrt(q_pc[p, 0] ** 2 + q_pc[p, 1] ** 2 + q_pc[p, 2] ** 2)
            most, bond, size = least, -1, 0.0
            for q in range(low, high):
                r = np.sqrt(bond_qc[q, 0] ** 2 + bond_qc[q, 1] ** 2 + bond_qc[q, 2] ** 2)
                along = q_pc[p, 0] * bond_qc[q, 0] + q_pc[p, 1] * bond_qc[q, 1] + q_pc[p, 2] * bond_qc[q, 2]
                if along > most * length * r:
                    most, bond, size = along / (length * r), q - low, r
            # of several bonds with one counterpart the one of nearest length
            if bond >= 0 and abs(length - size) < off_q[bond]:
                best_q[bond], off_q[bond] = p, abs(length - size)
        square, mixed = np.zeros((3, 3)), np.zeros((3, 3))
        for bond in range(high - low):
            p = best_q[bond]
            if p < 0:
                continue
            kept_p[p] = low + bond
            for i in range(3):
                for j in range(3):
                    square[i, j] += q_pc[p, i] * q_pc[p, j]
                    mixed[i, j] += q_pc[p, i] * bond_qc[low + bond, j]
        # by cofactors: numba needs seconds to compile its calls of LAPACK
        adjugate = np.empty((3, 3))
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            for n in range(3):
                o, p = (n + 1) % 3, (n + 2) % 3
                adjugate[n, i] = square[j, o] * square[k, p] - square[j, p] * square[k, o]
        det = square[0, 0] * adjugate[0, 0] + square[0, 1] * adjugate[1, 0] + square[0, 2] * adjugate[2, 0]
        spans = det > 1e-6 * (square[0, 0] + square[1, 1] + square[2, 2]) ** 3
        for i in range(3):
            for j in range(3):
                inverse_mij[m, i, j] = adjugate[i, j] / det if spans else 0.0
        for i in range(3):
            for j in range(3):
                G_mij[m, i, j] = 1.0 if i == j and not spans else 0.0
                for k in range(3):
                    G_mij[m, i, j] += inverse_mij[m, i, k] * mixed[k, j]


@njit(cache=True)
def _density(first_m: Any, q_pc: Any, place_p: Any, kept_p: Any, G_mij: Any, inverse_mij: Any, alpha_njk: Any) -> None:
    for n in range(len(alpha_njk)):
        moment_imk = np.zeros((3, 3, 3))
        for p in range(first_m[n], first_m[n + 1]):
            if kept_p[p] < 0:
                continue
            for i in range(3):
                moment_imk[i] += q_pc[p, i] * (G_mij[place_p[p]] - G_mij[n])
        for j in range(3):
            i, m = (j + 1) % 3, (j + 2) % 3
            for k in range(3):
                for x in range(3):
                    alpha_njk[n, j, k] -= (
                        inverse_mij[n, i, x] * moment_imk[x, m, k] - inverse_mij[n, m, x] * moment_imk[x, i, k]
                    )
