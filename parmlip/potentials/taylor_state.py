"""States of a supercell that Taylor laws are expanded about: relaxed small cells near defects, else the lattice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from parmlip.crystal.distances import offsets_to
from parmlip.crystal.supercell import Supercell
from parmlip.errors import GeometryError
from parmlip.potentials.base import Environments, FloatArray, IntArray
from parmlip.potentials.taylor import LatticeState

SAME_PLACE: Final = 1e-4  # of a cell vector: two reference configurations have the same site if they agree within it


@dataclass(frozen=True)
class SmallCell:
    """The equilibrium of a small cell with one defect."""

    supercell: Supercell  # reference configuration
    displacement_ad: NDArray[np.float64]  # (n_sites, d) angstrom
    centre_c: NDArray[np.float64]  # (3,) of the defect, angstrom
    near: float  # sites of the large cell strictly closer to the defect see this equilibrium, angstrom


class CellState:
    """Centres near a defect see D u_L of their own defect's small cell, all others the reference configuration.

    Environments without an origin (unit cells) are matched with the crystal. Where the periodic small cell has no site,
    since its own image of a defect is there, the site is taken as not displaced.

    Parameters
    ----------
    lattice : LatticeState
        The perfect crystal, for environments that are not of `supercell`.
    supercell : Supercell
        The large cell, the same on every rank.
    defects : sequence of (ndarray of shape (3,), SmallCell)
        Centre in the large cell, angstrom, and the small cell that stands for its surroundings; none: lattice only.

    References
    ----------
    Ortner, Wang (2022), section 3: surrogates that match the reference in a ball about u_L on the training domain.
    """

    def __init__(
        self,
        lattice: LatticeState,
        supercell: Supercell,
        defects: Sequence[tuple[NDArray[np.float64], SmallCell]] = (),
    ) -> None:
        self.lattice = lattice
        self._fields = [_Field(small) for _, small in defects]
        self._defect_a: IntArray = np.full(supercell.n_sites, -1)  # near which defect a site is
        self._offset_ac = np.zeros((supercell.n_sites, 3))  # from it, angstrom
        if defects:
            self._offset_ac, nearest_a = offsets_to(supercell, np.array([centre for centre, _ in defects]))
            radius_k = np.array([small.near for _, small in defects])
            # The training domain is open: sites at exactly L/2 are as near to an image of the defect in the small cell,
            # whose D u_L there is that of two defects; among the near ones they turned a slope of -0.9 into -0.6.
            near_a = np.linalg.norm(self._offset_ac, axis=1) < radius_k[nearest_a] * (1.0 - 1e-9)
            self._defect_a = np.where(near_a, nearest_a, -1)
        self._last: tuple[FloatArray, FloatArray] | None = None  # bonds, and the vectors that belong to them

    def vectors(self, environments: Environments) -> FloatArray:
        """Vectors (n_pairs, 3) of the pairs of `environments` in the state, angstrom."""
        origin = environments.origin
        if origin is None:
            return self.lattice.vectors(environments)
        if len(origin.bond_pc) and origin.global_n.max(initial=-1) >= len(self._defect_a):
            raise GeometryError("Taylor law: the sites are not those of the cell that it was made for")
        if self._last is None or self._last[0] is not origin.bond_pc:
            self._last = origin.bond_pc, self._strained(environments, origin.bond_pc, origin.global_n)
        return self._last[1]

    def is_homogeneous(self, environments: Environments) -> NDArray[np.bool_]:
        """Centres (n,) that are not near a defect."""
        if environments.origin is None:
            return np.ones(len(environments.species_n), dtype=bool)
        far: NDArray[np.bool_] = self._defect_a[environments.origin.global_n] < 0
        return far

    def is_near(self, site_p: IntArray) -> NDArray[np.bool_]:
        """Sites of the large cell that see a small cell's equilibrium."""
        near_p: NDArray[np.bool_] = self._defect_a[site_p] >= 0
        return near_p

    def differences(self, centre_p: IntArray, bond_pc: FloatArray) -> FloatArray:
        """D u_L (n_pairs, 3) along bonds of the reference configuration, zero for centres that are not near, angstrom.

        `centre_p` are sites of the large cell, `bond_pc` vectors to their neighbours.
        """
        defect_p, offset_pc = self._defect_a[centre_p], self._offset_ac[centre_p]
        found_pc = np.zeros_like(bond_pc)
        for k, field in enumerate(self._fields):
            mine = defect_p == k
            at_pc = offset_pc[mine]
            found_pc[mine] = field(at_pc + bond_pc[mine]) - field(at_pc)
        return found_pc

    def _strained(self, environments: Environments, bond_pc: FloatArray, global_n: IntArray) -> FloatArray:
        centre_p = np.repeat(global_n, np.diff(environments.first_n))
        strained_pc: FloatArray = bond_pc + self.differences(centre_p, bond_pc)
        return strained_pc


class _Field:
    """Displacements of a small cell by the offset from its defect; zero where it has no site."""

    def __init__(self, small: SmallCell) -> None:
        cell = small.supercell
        self._inverse_cc = np.linalg.inv(cell.cell_cc)
        self._periodic_c = np.array(cell.periodic)
        self._u_ac = np.zeros((cell.n_sites, 3))
        self._u_ac[:, : cell.dimension] = small.displacement_ad
        places = self._fractions(cell.positions_ac - small.centre_c)
        self._tree = cKDTree(places, boxsize=self._periodic_c.astype(float))  # 0: does not repeat

    def __call__(self, offset_pc: FloatArray) -> FloatArray:
        if not len(offset_pc):
            return np.zeros((0, 3))
        distance_p, a_p = self._tree.query(self._fractions(offset_pc))
        return np.where((distance_p < SAME_PLACE)[:, None], self._u_ac[a_p], 0.0)

    def _fractions(self, offset_pc: FloatArray) -> FloatArray:
        fraction_pc = offset_pc @ self._inverse_cc
        fraction_pc = np.where(self._periodic_c, fraction_pc - np.floor(fraction_pc), fraction_pc)
        # -1e-17 - floor(-1e-17) is 1, which is outside the box
        return np.where(self._periodic_c & (fraction_pc >= 1.0), 0.0, fraction_pc)
