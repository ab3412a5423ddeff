"""The state of a clamped disc with a dislocation that Taylor laws are expanded about: the crystal, slipped by u_0."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from parmlip.crystal.supercell import Supercell
from parmlip.errors import GeometryError
from parmlip.potentials.base import Environments, FloatArray
from parmlip.potentials.taylor import LatticeState

RealArray = NDArray[np.float64]

_SAME: Final = 1e-3  # angstrom


class PredictedState:
    """Every pair's state is the crystal's vector next to the one that it has in the predictor.

    So the slip across the cut is not a strain. Near the core, where no vector is next, it is an error to ask.

    Parameters
    ----------
    lattice : LatticeState
        The perfect crystal in the frame of the disc.
    supercell : Supercell
        Its reference configuration, the same on every rank.
    predictor_ac : ndarray, shape (n_sites, 3)
        u_0, angstrom.
    """

    def __init__(self, lattice: LatticeState, supercell: Supercell, predictor_ac: RealArray) -> None:
        self.lattice = lattice
        self._inverse_cc = np.linalg.inv(supercell.cell_cc)
        self._cell_cc, self._periodic_c = supercell.cell_cc, np.array(supercell.periodic)
        self._at_ac = supercell.positions_ac
        self._u_ac = np.asarray(predictor_ac)
        self._tree = cKDTree(self._folded(self._at_ac))
        self._last: tuple[FloatArray, FloatArray] | None = None  # bonds, and the vectors that belong to them

    def vectors(self, environments: Environments) -> FloatArray:
        """Vectors (n_pairs, 3) of the pairs of `environments` in the state, angstrom."""
        origin = environments.origin
        if origin is None:
            return self.lattice.vectors(environments)
        if self._last is None or self._last[0] is not origin.bond_pc:
            centre_p = np.repeat(origin.global_n, np.diff(environments.first_n))
            self._last = origin.bond_pc, self._vectors(origin.bond_pc, centre_p)
        return self._last[1]

    def is_homogeneous(self, environments: Environments) -> NDArray[np.bool_]:
        """All centres."""
        return np.ones(len(environments.species_n), dtype=bool)

    def _vectors(self, bond_pc: RealArray, centre_p: NDArray[np.int64]) -> FloatArray:
        if not len(bond_pc):
            return np.zeros((0, 3))
        apart_p, site_p = self._tree.query(self._folded(self._at_ac[centre_p] + bond_pc))
        if apart_p.max() > _SAME:
            raise GeometryError("Taylor law: the sites are not those of the disc that it was made for")
        return self.lattice.nearest(bond_pc + self._u_ac[site_p] - self._u_ac[centre_p])

    def _folded(self, x_nc: RealArray) -> RealArray:
        """Positions in the cell along the directions that repeat; a site on the edge is always at its beginning."""
        fraction_nc = x_nc @ self._inverse_cc
        folded_nc = fraction_nc - np.floor(fraction_nc + 1e-6)
        return np.asarray(np.where(self._periodic_c, folded_nc, fraction_nc) @ self._cell_cc)
