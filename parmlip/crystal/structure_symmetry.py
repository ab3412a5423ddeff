"""Operations of a structure: rotations and reflections about axes and diagonals that map it onto itself."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Operations:
    """Operations x -> Q x + t, the identity first."""

    q_gcc: RealArray  # (n, 3, 3)
    to_ga: IntArray  # (n, n_sites) where each takes the sites


def operations_of(
    cell_cc: RealArray,
    periodic: tuple[bool, bool, bool],
    positions_ac: RealArray,
    kind_a: IntArray,
    *,
    tolerance: float,
) -> Operations:
    """Those of the 48 operations of a cube that, with a translation, map sites of a kind onto such sites. Local.

    Of several translations that go with one operation the first that is found is taken. Directions of the structure
    must be those of the axes: operations about others are not looked for.

    Parameters
    ----------
    cell_cc : ndarray, shape (3, 3)
        Rows are the cell vectors, angstrom; longer than the structure where it is not periodic.
    periodic : three bools
    positions_ac : ndarray, shape (n_sites, 3)
        Angstrom.
    kind_a : ndarray, shape (n_sites,)
        Species, and whatever else makes sites different.
    tolerance : float
        Largest distance of an image from its site, angstrom.
    """
    cell = _Cell(cell_cc, periodic, positions_ac)
    found_q, found_to = [np.eye(3)], [np.arange(len(positions_ac))]
    # Of the rarest kind of site, so that few translations are tried.
    kinds, counts = np.unique(kind_a, return_counts=True)
    rare_x = np.flatnonzero(kind_a == kinds[np.argmin(counts)])
    for q_cc in _of_a_cube():
        if not cell.kept_by(q_cc):
            continue
        turned_ac = positions_ac @ q_cc.T
        to_a = cell.match(turned_ac, rare_x, kind_a, tolerance)
        if to_a is not None:
            found_q.append(q_cc)
            found_to.append(to_a)
    return Operations(np.array(found_q), np.array(found_to, dtype=np.int64))


class _Cell:
    """A structure, to be compared with its images."""

    def __init__(self, cell_cc: RealArray, periodic: tuple[bool, bool, bool], positions_ac: RealArray) -> None:
        self.cell_cc, self.periodic_c = cell_cc, np.array(periodic)
        self.inverse_cc = np.linalg.inv(cell_cc)
        self.positions_ac = positions_ac
        self.centre_c = positions_ac.mean(axis=0)
        self.tree = cKDTree(_wrapped(positions_ac @ self.inverse_cc), boxsize=1.0)

    def kept_by(self, q_cc: RealArray) -> bool:
        """Whether the operation maps the lattice of periods onto itself."""
        vectors_xc = self.cell_cc[self.periodic_c]
        in_cell_xf = vectors_xc @ q_cc.T @ self.inverse_cc
        whole = np.abs(in_cell_xf - np.rint(in_cell_xf))[:, self.periodic_c].max(initial=0.0) < 1e-9
        return bool(whole and np.abs(in_cell_xf[:, ~self.periodic_c]).max(initial=0.0) < 1e-9)

    def match(self, turned_ac: RealArray, rare_x: IntArray, kind_a: IntArray, tolerance: float) -> IntArray | None:
        """Where the sites go if a translation makes them sites again, else None."""
        shift_xc = self.positions_ac[rare_x] - turned_ac[rare_x[0]]
        # The centre of what is not periodic must go to itself.
        off_xf = (turned_ac.mean(axis=0) + shift_xc - self.centre_c) @ self.inverse_cc
        off_xc = np.where(self.periodic_c, 0.0, off_xf) @ self.cell_cc
        for shift_c in shift_xc[np.linalg.norm(off_xc, axis=1) < tolerance]:
            image_ac = turned_ac + shift_c
            to_a = np.asarray(self.tree.query(_wrapped(image_ac @ self.inverse_cc))[1], dtype=np.int64)
            away_af = (image_ac - self.positions_ac[to_a]) @ self.inverse_cc
            away_ac = (away_af - np.where(self.periodic_c, np.rint(away_af), 0.0)) @ self.cell_cc
            if (
                np.linalg.norm(away_ac, axis=1).max() < tolerance
                and (kind_a[to_a] == kind_a).all()
                and len(np.unique(to_a)) == len(to_a)
            ):
                return to_a
        return None


def _of_a_cube() -> list[RealArray]:
    """The 47 signed permutations of the axes that are not the identity."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            q_cc = np.zeros((3, 3))
            q_cc[range(3), order] = signs
            if not np.array_equal(q_cc, np.eye(3)):
                found.append(q_cc)
    return found


def _wrapped(point_nf: RealArray) -> RealArray:
    """Fractions in [0, 1), whatever the rounding."""
    wrapped = point_nf - np.floor(point_nf)
    return np.where(wrapped >= 1.0, 0.0, wrapped)
