"""Distances to chosen points in periodic cells."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from parmlip.crystal.supercell import Supercell


def offsets_to(supercell: Supercell, points_nc: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vector to every site from the nearest of some points or of their periodic images, and the number of that point.

    Parameters
    ----------
    supercell : Supercell
    points_nc : ndarray, shape (n, 3), n at least 1
        Angstrom; anywhere.

    Returns
    -------
    offset_ac : ndarray, shape (n_sites, 3), angstrom
    number_a : ndarray, shape (n_sites,)
    """
    cell_cc = supercell.cell_cc
    inverse_cc, wrap_c = np.linalg.inv(cell_cc), np.array(supercell.periodic, dtype=float)
    point_nf, site_af = points_nc @ inverse_cc, supercell.positions_ac @ inverse_cc
    point_nf = point_nf - wrap_c * np.floor(point_nf)
    place_ac = (site_af - wrap_c * np.floor(site_af)) @ cell_cc
    images = _images(supercell)
    points = (point_nf[:, None] + images).reshape(-1, 3) @ cell_cc
    _, nearest_a = cKDTree(points).query(place_ac)
    return place_ac - points[nearest_a], np.asarray(nearest_a // len(images), dtype=np.int64)


def distances_to(supercell: Supercell, points_nc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of every site to the nearest of some points or of their images, (n_sites,), angstrom."""
    offset_ac, _ = offsets_to(supercell, points_nc)
    distance_a: NDArray[np.float64] = np.linalg.norm(offset_ac, axis=1)
    return distance_a


def closest_distance(supercell: Supercell, points_nc: NDArray[np.float64]) -> float:
    """Least distance of two of some points (n, 3), n at least 2, or of their images, angstrom."""
    difference_f = (points_nc[:, None] - points_nc)[np.triu_indices(len(points_nc), 1)] @ np.linalg.inv(
        supercell.cell_cc
    )
    difference_f -= np.array(supercell.periodic, dtype=float) * np.rint(difference_f)
    offsets = (difference_f[:, None] + _images(supercell)) @ supercell.cell_cc
    return float(np.linalg.norm(offsets, axis=-1).min())


def _images(supercell: Supercell) -> NDArray[np.int64]:
    """Two rings of images: one is enough for cells whose angles are between 60 and 120 degrees."""
    return np.array(list(itertools.product(*[(-2, -1, 0, 1, 2) if p else (0,) for p in supercell.periodic])))
