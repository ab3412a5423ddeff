"""The state of a cell with dislocations that Taylor laws are expanded about: relaxed small cells near cores."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from parmlip.crystal.dislocations import DislocatedCell, nearest_images
from parmlip.errors import GeometryError
from parmlip.potentials.base import Environments, FloatArray, IntArray
from parmlip.potentials.taylor import LatticeState

RealArray = NDArray[np.float64]

_SAME: Final = 1e-4  # of a cell vector


class DislocatedState:
    """Centres near a core see D u_L of the like core of a small cell, all others the perfect crystal.

    Far away a pair's state is the crystal's vector next to the one that it has in the predictor: the slip across the
    cuts is not a strain.

    Parameters
    ----------
    lattice : LatticeState
        The perfect crystal in the frame of the cells.
    cell : DislocatedCell
        The large cell, the same on every rank.
    predictor_ac : ndarray, shape (n_sites, 3)
        Its predictor, without noise or seeds, angstrom.
    small : DislocatedCell, optional
        The cell that is learnt from; none: crystal only.
    displacement_ac : ndarray, shape (n_sites of `small`, 3), optional
        Its equilibrium, angstrom.
    near : float
        Sites of the large cell strictly closer to a core see the small cell, angstrom.

    References
    ----------
    Wang, Patel, Ortner (2023), section 3: surrogates that match the reference about u_L on the training domain.

    Raises
    ------
    GeometryError
        The small cell has no core of the same Burgers vector.
    """

    def __init__(
        self,
        lattice: LatticeState,
        cell: DislocatedCell,
        predictor_ac: RealArray,
        small: DislocatedCell | None = None,
        displacement_ac: RealArray | None = None,
        near: float = 0.0,
    ) -> None:
        self.lattice = lattice
        self._inverse_cc = np.linalg.inv(_deformation(cell))
        self._large = _Sites(cell, predictor_ac)
        self._at_ac = cell.lattice_positions_ac
        n = cell.supercell.n_sites
        self._shift_ac = np.zeros((n, 3))  # to the place in the small cell
        self._near_a = np.zeros(n, dtype=bool)
        self._height_a = np.zeros(n)  # over the core
        self._slip_ac = np.zeros((n, 3))  # of what lies below it, see `_turned`
        self._small: _Sites | None = None
        if small is not None and displacement_ac is not None:
            self._small, self._deform_cc = _Sites(small, displacement_ac), _deformation(small)
            best_a = np.full(n, np.inf)
            for core in cell.cores:
                off_ac = nearest_images(self._at_ac[:, :2] - np.array(core.position), cell.vectors_kc)
                distance_a = np.linalg.norm(off_ac, axis=1)
                mine = distance_a < best_a
                best_a[mine] = distance_a[mine]
                at = _like(small, core.burgers)
                self._shift_ac[mine, :2] = off_ac[mine] + at - self._at_ac[mine, :2]
                self._height_a[mine] = off_ac[mine, 1]
                burgers = np.array(core.burgers)
                inside = np.flatnonzero(mine & (distance_a < near * (1.0 - 1e-9)))
                u_nc = self._small(self._at_ac[inside] + self._shift_ac[inside])
                turned = _turned(np.asarray(predictor_ac)[inside] - u_nc, self._height_a[inside], burgers)
                self._slip_ac[mine] = turned * burgers
            self._near_a = best_a < near * (1.0 - 1e-9)
        self._last: tuple[FloatArray, FloatArray] | None = None  # bonds, and the vectors that belong to them

    def vectors(self, environments: Environments) -> FloatArray:
        """Vectors (n_pairs, 3) of the pairs of `environments` in the state, angstrom."""
        origin = environments.origin
        if origin is None:
            return self.lattice.vectors(environments)
        if len(origin.bond_pc) and origin.global_n.max(initial=-1) >= len(self._near_a):
            raise GeometryError("Taylor law: the sites are not those of the cell that it was made for")
        if self._last is None or self._last[0] is not origin.bond_pc:
            self._last = origin.bond_pc, self._vectors(environments, origin.bond_pc, origin.global_n)
        return self._last[1]

    def is_homogeneous(self, environments: Environments) -> NDArray[np.bool_]:
        """Centres (n,) that are not near a core."""
        if environments.origin is None:
            return np.ones(len(environments.species_n), dtype=bool)
        far: NDArray[np.bool_] = ~self._near_a[environments.origin.global_n]
        return far

    @property
    def n_near(self) -> int:
        """Sites that see the small cell."""
        return int(np.count_nonzero(self._near_a))

    def _vectors(self, environments: Environments, bond_pc: RealArray, global_n: IntArray) -> FloatArray:
        centre_p = np.repeat(global_n, np.diff(environments.first_n))
        lattice_pc = bond_pc @ self._inverse_cc  # without the tilt of the large cell
        near_p = self._near_a[centre_p]
        found_pc = np.empty_like(bond_pc)
        far = ~near_p
        at_pc = self._at_ac[centre_p]
        predicted_pc = bond_pc[far] + self._large(at_pc[far] + lattice_pc[far]) - self._large.u_ac[centre_p[far]]
        found_pc[far] = self.lattice.nearest(predicted_pc)
        if near_p.any():
            assert self._small is not None
            centre_p, bond_pc = centre_p[near_p], lattice_pc[near_p]
            at_pc = at_pc[near_p] + self._shift_ac[centre_p]
            height_p, slip_pc = self._height_a[centre_p], self._slip_ac[centre_p]
            at_pc = at_pc + (height_p < 0.0)[:, None] * slip_pc
            below = (height_p + bond_pc[:, 1] < 0.0).astype(float) - (height_p < 0.0)
            bond_pc = bond_pc + below[:, None] * slip_pc
            found_pc[near_p] = bond_pc @ self._deform_cc + self._small(at_pc + bond_pc) - self._small(at_pc)
        return found_pc


class _Sites:
    """Displacements of a cell by the place of the site in the perfect crystal, periodic."""

    def __init__(self, cell: DislocatedCell, u_ac: RealArray) -> None:
        grid = cell.supercell.grid
        assert grid is not None
        self._inverse_cc = np.linalg.inv(grid.lattice.cell(grid.lattice_constant) * np.array(grid.repeats)[:, None])
        self.u_ac = np.asarray(u_ac)
        self._tree = cKDTree(self._fractions(cell.lattice_positions_ac), boxsize=np.ones(3))

    def __call__(self, at_pc: RealArray) -> RealArray:
        if not len(at_pc):
            return np.zeros((0, 3))
        distance_p, a_p = self._tree.query(self._fractions(at_pc))
        if distance_p.max() > _SAME:
            raise GeometryError("Taylor law: the cores of the training cell do not lie in the crystal as these do")
        return np.asarray(self.u_ac[a_p])

    def _fractions(self, at_pc: RealArray) -> RealArray:
        fraction_pc = at_pc @ self._inverse_cc
        fraction_pc = fraction_pc - np.floor(fraction_pc)
        # -1e-17 - floor(-1e-17) is 1, which is outside the box
        return np.where(fraction_pc >= 1.0, 0.0, fraction_pc)


def _turned(difference_nc: RealArray, height_n: RealArray, burgers: RealArray) -> int:
    """Burgers vectors by which sites below a core are other columns of the crystal than about the like core: 0, 1, -1.

    Where the cut leaves the core to the other side, as in the second row of a quadrupole, the sites below it that have
    the same places have another displacement by b. For a screw the place x + b, in the same column, has the same one.

    Parameters
    ----------
    difference_nc : ndarray, shape (n, 3)
        Displacements about the core less those about the like core, at the same places of the crystal, angstrom.
    height_n : ndarray, shape (n,)
        Of the sites over the core, in the direction across the cut.
    burgers : ndarray, shape (3,)
    """
    below = height_n < 0.0
    if below.all() or not below.any():
        return 0
    along_n = difference_nc @ burgers / (burgers @ burgers)
    return round(float(along_n[below].mean() - along_n[~below].mean()))


def _deformation(cell: DislocatedCell) -> RealArray:
    """Rows r -> r @ this take the perfect crystal into the tilted reference configuration."""
    grid = cell.supercell.grid
    assert grid is not None
    perfect_cc = grid.lattice.cell(grid.lattice_constant) * np.array(grid.repeats)[:, None]
    return np.asarray(np.linalg.solve(perfect_cc, cell.supercell.cell_cc))


def _like(small: DislocatedCell, burgers: tuple[float, float, float]) -> RealArray:
    for core in small.cores:
        if np.allclose(core.burgers, burgers, atol=1e-6):
            return np.array(core.position)
    raise GeometryError(f"Taylor law: the training cell has no core of the Burgers vector {burgers}")
