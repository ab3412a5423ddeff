"""Which sites of a relaxed defective cell are equivalent: by the operations that map the cell onto itself."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_FIRST_MATCH = 0.3  # angstrom: an image this near to a site is meant to be it
_SAME_SITE = 1e-6  # angstrom, of perfect lattices


def first_equivalent(
    cell_cc: FloatArray, unit_cc: FloatArray, basis_bc: FloatArray, point_nc: FloatArray, kind_n: IntArray,
    centre_c: FloatArray, *, dimension: int, tolerance: float = 1e-8,
) -> IntArray:  # fmt: skip
    """For every point the first one that an operation maps onto it, (n,); itself where there is none before it.

    Operations are orthogonal, fix `centre_c` and map the periodic cell, the perfect lattice and the points, kind by
    kind, onto themselves; a common drift of all points does not count.

    Parameters
    ----------
    cell_cc : ndarray, shape (3, 3)
        Vectors of the periodic cell, angstrom.
    unit_cc, basis_bc : ndarray, shapes (3, 3), (n_basis, 3)
        Vectors of the perfect lattice's cell and positions of its sites in one, angstrom.
    point_nc : ndarray, shape (n, 3)
        Relaxed positions of the sites round the defects, whole shells of them, and positions of vacant ones.
    kind_n : ndarray, shape (n,)
        Species, and whether a site is vacant: any numbers.
    tolerance : float
        Angstrom.
    """
    first_n = np.arange(len(point_nc))
    if len(point_nc) < 2:
        return first_n
    of_lattice = np.array(operations(unit_cc, dimension)).reshape(-1, 3, 3)
    for q_cc in operations(cell_cc, dimension):
        if np.abs(of_lattice - q_cc).max(axis=(1, 2), initial=0.0).min(initial=np.inf) > 1e-9:
            continue
        if np.abs(_matched(basis_bc, q_cc, centre_c, unit_cc)[1]).max() > _SAME_SITE:
            continue
        match_n, away = _matched(point_nc, q_cc, centre_c, cell_cc)
        if np.abs(away).max() > _FIRST_MATCH or len(np.unique(match_n)) < len(match_n):
            continue
        if np.abs(away - away.mean(axis=0)).max() > tolerance or (kind_n[match_n] != kind_n).any():
            continue
        np.minimum.at(first_n, match_n, first_n.copy())
    while True:  # operations were gone through once: orbits of orbits
        shorter = first_n[first_n]
        if (shorter == first_n).all():
            return first_n
        first_n = shorter


def operations(cell_cc: FloatArray, dimension: int) -> list[FloatArray]:
    """Orthogonal matrices Q (x -> Q x) that map a periodic cell's lattice onto itself, without the identity."""
    # Rows of the integer matrix in the basis of the cell: each a lattice vector as long as the one that it replaces.
    vector_nc = np.zeros((3**dimension, 3))
    vector_nc[:, :dimension] = list(itertools.product((-1.0, 0.0, 1.0), repeat=dimension))
    length_n, length_c = (np.linalg.norm(x @ cell_cc, axis=1) for x in (vector_nc, np.eye(3)))
    rows = [vector_nc[np.abs(length_n - length) < 1e-9 * length] for length in length_c[:dimension]]
    rows += [np.eye(3)[c : c + 1] for c in range(dimension, 3)]
    integer_ncc = np.array(list(itertools.product(*rows)))
    q_ncc = (np.linalg.inv(cell_cc) @ integer_ncc @ cell_cc).swapaxes(1, 2)
    good = np.abs(q_ncc @ q_ncc.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2)) < 1e-9
    good &= np.abs(q_ncc - np.eye(3)).max(axis=(1, 2)) > 1e-9
    return list(q_ncc[good])


def _matched(
    point_nc: FloatArray, q_cc: FloatArray, centre_c: FloatArray, cell_cc: FloatArray
) -> tuple[IntArray, FloatArray]:
    """The nearest point to every image of a point, and the vector from it to the image, (n, 3)."""
    inverse_cc = np.linalg.inv(cell_cc)
    tree = cKDTree(_wrapped(point_nc @ inverse_cc), boxsize=1.0)
    image_nc = (point_nc - centre_c) @ q_cc.T + centre_c
    match_n = np.asarray(tree.query(_wrapped(image_nc @ inverse_cc))[1], dtype=np.int64)
    away_nf = (image_nc - point_nc[match_n]) @ inverse_cc
    return match_n, (away_nf - np.rint(away_nf)) @ cell_cc


def _wrapped(point_nf: FloatArray) -> FloatArray:
    """Fractions in [0, 1), whatever the rounding."""
    wrapped = point_nf - np.floor(point_nf)
    return np.where(wrapped >= 1.0, 0.0, wrapped)
