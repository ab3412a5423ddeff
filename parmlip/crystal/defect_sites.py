"""The sites of a defective cell from its defects outwards, and which of them symmetry makes equal.

A site is given by its global number, a vacant one by -1 - g with its number g on the perfect grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.distances import distances_to
from parmlip.crystal.site_symmetry import first_equivalent
from parmlip.crystal.supercell import Grid, Supercell, lattice_positions
from parmlip.errors import GeometryError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_OFF_LATTICE = 1e-6  # angstrom: a site with a number on the grid that does not stand there is the host of an extra one


def sites_by_distance(cell: Supercell) -> tuple[IntArray, FloatArray]:
    """All sites, vacant ones too, by their distance (angstrom) from the nearest defect; without any it is infinite.

    Vacant, extra and replaced sites come first.
    """
    vacant, odd_a = _defects(cell)
    site_s = np.concatenate([-1 - vacant, np.arange(cell.n_sites)])
    points = np.concatenate([lattice_positions(_grid(cell), vacant), cell.positions_ac[odd_a]])
    if len(points) == 0:
        return site_s, np.full(len(site_s), np.inf)
    distance_s = np.concatenate([np.zeros(len(vacant)), distances_to(cell, points)])
    distance_s[len(vacant) + np.flatnonzero(odd_a)] = 0.0
    order = np.lexsort((site_s, np.round(distance_s, 6)))
    return site_s[order], distance_s[order]


def equivalent_sites(cell: Supercell, site_s: IntArray, u_ad: FloatArray) -> IntArray:
    """For every one of whole shells of sites the place of the first that symmetry makes equal to it.

    The operations are those that map the cell displaced by `u_ad` (n_sites, d) onto itself, to 1e-8 angstrom.
    """
    grid, d = _grid(cell), cell.dimension
    is_vacant_s, existing_s = site_s < 0, np.maximum(site_s, 0)
    point_sc = cell.positions_ac[existing_s]
    point_sc[:, :d] += (u_ad - u_ad.mean(axis=0))[existing_s]  # a drift is no change
    point_sc[is_vacant_s] = lattice_positions(grid, -1 - site_s[is_vacant_s])
    centre_c = _centre(cell)
    if centre_c is None:
        return np.arange(len(site_s))
    unit_cc = grid.lattice.cell(grid.lattice_constant)
    # An extra site is not like its host: F H F has another reference for it.
    kind_s = np.where(is_vacant_s, -1, 2 * cell.species_a[existing_s] + (grid.number_a[existing_s] < 0))
    return first_equivalent(
        cell.cell_cc, unit_cc, grid.lattice.basis_bc @ unit_cc, point_sc, kind_s, centre_c, dimension=d
    )


def _defects(cell: Supercell) -> tuple[IntArray, NDArray[np.bool_]]:
    """Numbers of the vacant grid sites; which sites are extra or have another species than most of their slot."""
    grid = _grid(cell)
    n_basis, number_a = grid.lattice.n_basis, grid.number_a
    vacant = np.setdiff1d(np.arange(int(np.prod(grid.repeats)) * n_basis), number_a[number_a >= 0])
    odd_a = number_a < 0
    if len(cell.species) > 1:
        basis_a = np.where(odd_a, -1, number_a % n_basis)
        for b in range(n_basis):
            here = basis_a == b
            odd_a |= here & (cell.species_a != np.bincount(cell.species_a[here], minlength=1).argmax())
    return vacant, odd_a


def _centre(cell: Supercell) -> FloatArray | None:
    """Mean of the defects' positions, with hosts of extra sites; None without defects."""
    grid = _grid(cell)
    vacant, odd_a = _defects(cell)
    off_ac = cell.positions_ac - lattice_positions(grid, np.maximum(grid.number_a, 0))
    odd_a |= np.abs(off_ac).max(axis=1) > _OFF_LATTICE
    points = np.concatenate([lattice_positions(grid, vacant), cell.positions_ac[odd_a]])
    if len(points) == 0:
        return None
    away_nf = (points - points[0]) @ np.linalg.inv(cell.cell_cc)
    away_nf -= np.rint(away_nf) * np.array(cell.periodic)
    return np.asarray(points[0] + away_nf.mean(axis=0) @ cell.cell_cc)


def _grid(cell: Supercell) -> Grid:
    if cell.grid is None:
        raise GeometryError("a configuration read from a file has no perfect grid")
    return cell.grid
