"""The stencil norm ||Du||^2 = sum over sites l and nearest neighbours l + rho of |u(l + rho) - u(l)|^2.

Nearest neighbours are directed pairs, so every bond counts twice (Ortner and Wang 2022, section 2.1). Displacements are
periodic: the shift of a pair does not matter.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix

from parmlip.crystal.neighbours import Pairs


def stencil_square(pairs: Pairs, u_ac: NDArray[np.float64]) -> float:
    """The share of the given centres in ||Du||^2, angstrom^2; the shares of all centres add up to the whole.

    Parameters
    ----------
    pairs : Pairs
        Nearest neighbours of some sites.
    u_ac : ndarray, shape (n_sites, d)
        Displacement of all sites, angstrom.
    """
    return float(_square(pairs.first_n, pairs.site_p, pairs.centre_n, u_ac))


def stencil_squares(pairs: Pairs, u_ac: NDArray[np.float64]) -> NDArray[np.float64]:
    """|Du|^2 of every centre, angstrom^2; they add up to `stencil_square`."""
    bond_pc = u_ac[pairs.site_p] - u_ac[pairs.centre_p]
    numbers = np.repeat(np.arange(len(pairs.centre_n)), np.diff(pairs.first_n))
    return np.bincount(numbers, np.sum(bond_pc**2, axis=1), len(pairs.centre_n)).astype(np.float64)


def stencil_norm(pairs: Pairs, u_ac: NDArray[np.float64]) -> float:
    """||Du||, angstrom, for nearest neighbours of all sites."""
    return sqrt(stencil_square(pairs, u_ac))


def stencil_matrix(pairs: Pairs, n_sites: int) -> csr_matrix:
    """K (n_sites, n_sites) with ||Du||^2 = sum over components c of u_c^T K u_c; symmetric, K 1 = 0.

    For some centres it is their share of K, like `stencil_square`.
    """
    centre_p, one_p = pairs.centre_p, np.ones(pairs.n_pairs)
    bonds = coo_matrix((one_p, (centre_p, pairs.site_p)), shape=(n_sites, n_sites)).tocsr()
    ends_a = np.bincount(centre_p, minlength=n_sites) + np.bincount(pairs.site_p, minlength=n_sites)
    diagonal_a = np.arange(n_sites)
    return coo_matrix((ends_a, (diagonal_a, diagonal_a)), shape=(n_sites, n_sites)).tocsr() - bonds - bonds.T


@njit(cache=True)
def _square(first_n: Any, site_p: Any, centre_n: Any, u_ac: Any) -> float:
    total = 0.0
    for n in range(len(centre_n)):
        i = centre_n[n]
        part = 0.0  # summed by centre, so that rounding errors stay small for 1e6 sites
        for p in range(first_n[n], first_n[n + 1]):
            for c in range(u_ac.shape[1]):
                d = u_ac[site_p[p], c] - u_ac[i, c]
                part += d * d
        total += part
    return total
