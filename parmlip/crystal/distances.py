"""Distances to chosen points in periodic cells."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from parmlip.crystal.supercell import Supercell


def distances_to(supercell: Supercell, points_nc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of every site to the nearest of some points or of their periodic images.

    Parameters
    ----------
    supercell : Supercell
    points_nc : ndarray, shape (n, 3), n at least 1
        Angstrom; anywhere.

    Returns
    -------
    distance_a : ndarray, shape (n_sites,), angstrom
    """
    cell_cc = supercell.cell_cc
    wrap_c = np.array(supercell.periodic, dtype=float)
    fractional_nc = points_nc @ np.linalg.inv(cell_cc)
    fractional_nc = fractional_nc - wrap_c * np.floor(fractional_nc)
    site_fractions = supercell.positions_ac @ np.linalg.inv(cell_cc)
    site_fractions = site_fractions - wrap_c * np.floor(site_fractions)
    # Two rings of images: one is enough for cells whose angles are between 60 and 120 degrees.
    images = np.array(list(itertools.product(*[(-2, -1, 0, 1, 2) if p else (0,) for p in supercell.periodic])))
    points = (fractional_nc[None] + images[:, None]).reshape(-1, 3) @ cell_cc
    distance_a, _ = cKDTree(points).query(site_fractions @ cell_cc)
    return np.asarray(distance_a)
