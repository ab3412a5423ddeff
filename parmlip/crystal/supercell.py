"""The reference configuration: sites of a (defective) periodic lattice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parmlip.crystal.lattices import Lattice
from parmlip.errors import ConfigError, GeometryError


@dataclass(frozen=True)
class Grid:
    """How the sites of a supercell sit on the perfect lattice (needed by everything that is done by FFT).

    Site numbers of the perfect supercell are ((ix * ny + iy) * nz + iz) * n_basis + b.
    """

    lattice: Lattice
    lattice_constant: float  # angstrom
    repeats: tuple[int, int, int]  # conventional cells along the cell vectors
    number_a: NDArray[np.int64]  # (n_sites,) number in the perfect supercell; -1 for an interstitial


@dataclass(frozen=True)
class Supercell:
    """Sites of a periodic reference configuration, the same on every rank (24 bytes a site for the positions).

    In two dimensions (`dimension == 2`) all sites lie in the plane z = 0 and only x and y move; on a chain only x.
    `periodic` is then False along the directions that do not move.
    """

    cell_cc: NDArray[np.float64]  # (3, 3) rows are the cell vectors, angstrom
    periodic: tuple[bool, bool, bool]
    positions_ac: NDArray[np.float64]  # (n_sites, 3) angstrom; never wrapped
    species_a: NDArray[np.int64]  # (n_sites,) index into `species`
    species: tuple[str, ...]
    dimension: int  # 1, 2 or 3: number of components that move
    grid: Grid | None = None  # None for a configuration read from a file

    @property
    def n_sites(self) -> int:
        """Number of sites."""
        return len(self.positions_ac)

    @property
    def volume(self) -> float:
        """Volume in angstrom^3 (3D), area in angstrom^2 (2D), or length in angstrom (chain) of the periodic cell."""
        d = self.dimension
        return float(abs(np.linalg.det(self.cell_cc[:d, :d])))


def build_supercell(
    lattice: Lattice, lattice_constant: float, repeats: Sequence[int], species: Sequence[str]
) -> Supercell:
    """The perfect crystal of `repeats` conventional cells.

    Parameters
    ----------
    lattice : Lattice
        For hcp it carries c/a (`lattice_named("hcp", c_over_a)`).
    lattice_constant : float
        Angstrom.
    repeats : sequence of int
        Conventional cells along each cell vector; either all three, or only those that move.
    species : sequence of str
        One symbol for each slot of the lattice (two for B2, else one).

    Raises
    ------
    ConfigError
        A value has the wrong number of entries or is out of range.
    """
    d = lattice.dimension
    if len(species) != lattice.n_slots or not all(isinstance(symbol, str) and symbol for symbol in species):
        raise ConfigError(
            f"[crystal] species = {list(species)}: {lattice.name} needs {lattice.n_slots} chemical symbol(s)"
        )
    if not (np.isfinite(lattice_constant) and lattice_constant > 0.0):
        raise ConfigError(f"[crystal] lattice_constant = {lattice_constant} must be positive")
    if len(repeats) not in (d, 3) or any(int(n) != n or n < 1 for n in repeats):
        raise ConfigError(f"[simulation] cell = {list(repeats)}: {lattice.name} needs {d} positive integer(s)")
    if any(n != 1 for n in repeats[d:]):
        raise ConfigError(f"[simulation] cell = {list(repeats)}: only the first {d} may exceed 1 in {lattice.name}")
    n_x, n_y, n_z = (int(n) for n in (*repeats[:d], 1, 1, 1)[:3])

    cell_cc = lattice.cell(lattice_constant)
    number_a = np.arange(n_x * n_y * n_z * lattice.n_basis)
    grid = Grid(lattice, lattice_constant, (n_x, n_y, n_z), number_a)
    symbols = tuple(dict.fromkeys(species))
    species_b = np.array([symbols.index(species[slot]) for slot in lattice.slot_b], dtype=np.int64)
    return Supercell(
        cell_cc=np.array([[n_x], [n_y], [n_z]]) * cell_cc,
        periodic=lattice.periodic,
        positions_ac=lattice_positions(grid, number_a),
        species_a=np.tile(species_b, n_x * n_y * n_z),
        species=symbols,
        dimension=d,
        grid=grid,
    )


def lattice_positions(grid: Grid, number_n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Positions (n, 3), angstrom, of the perfect lattice sites with the given numbers."""
    cell_cc, basis_bc = grid.lattice.cell(grid.lattice_constant), grid.lattice.basis_bc
    index_nc = np.stack(np.unravel_index(number_n // len(basis_bc), grid.repeats), axis=-1)
    return (index_nc + basis_bc[number_n % len(basis_bc)]) @ cell_cc


def supercell_from_arrays(
    cell_cc: ArrayLike, periodic: Sequence[bool], positions_ac: ArrayLike, symbols: Sequence[str], dimension: int = 3
) -> Supercell:
    """A reference configuration that is given site by site; it has no grid.

    Parameters
    ----------
    cell_cc : array_like, shape (3, 3)
        Rows are the cell vectors, angstrom. Zero vectors are allowed where `periodic` is False.
    periodic : three bools
        False in the directions that do not move.
    positions_ac : array_like, shape (n_sites, 3)
        Angstrom. In two dimensions they have one z, on a chain one y and z, which are set to 0.
    symbols : sequence of str, length n_sites

    Raises
    ------
    GeometryError
        Shapes disagree, a number is not finite, the cell has no volume, or the sites leave the plane or line.
    """
    positions, cell = np.array(positions_ac, dtype=float), np.array(cell_cc, dtype=float)
    if positions.ndim != 2 or positions.shape[1] != 3 or len(positions) == 0:
        raise GeometryError(f"positions have the shape {positions.shape}, which should be (number of sites, 3)")
    if cell.shape != (3, 3) or not np.isfinite(cell).all():
        raise GeometryError(f"the cell {cell.tolist()} should be three finite vectors")
    if len(symbols) != len(positions):
        raise GeometryError(f"{len(symbols)} chemical symbols for {len(positions)} sites")
    if not np.isfinite(positions).all():
        bad = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
        raise GeometryError(f"the position of site {bad} is not finite: {positions[bad].tolist()}")
    if dimension not in (1, 2, 3):
        raise GeometryError(f"dimension {dimension} should be 1, 2 or 3")
    is_periodic = (bool(periodic[0]), bool(periodic[1]) and dimension > 1, bool(periodic[2]) and dimension > 2)
    still_ac = positions[:, dimension:]
    if still_ac.size and np.ptp(still_ac, axis=0).max() > 1e-6:
        raise GeometryError(f"in {dimension} dimension(s) all sites must have the same {'xyz'[dimension:]}")
    positions[:, dimension:] = 0.0
    if dimension < 3:  # directions that do not move have a dummy vector
        if np.abs(cell[:dimension, dimension:]).max() > 1e-9:
            raise GeometryError(f"in {dimension} dimension(s) the cell {cell.tolist()} leaves its plane or line")
        cell[:dimension, dimension:] = 0.0
        cell[dimension:] = np.eye(3)[dimension:]
    cell = _completed(cell, is_periodic)
    unique = tuple(dict.fromkeys(symbols))
    index = {symbol: s for s, symbol in enumerate(unique)}
    species_a = np.array([index[symbol] for symbol in symbols], dtype=np.int64)
    return Supercell(cell, is_periodic, positions, species_a, unique, dimension)


def _completed(cell_cc: NDArray[np.float64], periodic: tuple[bool, bool, bool]) -> NDArray[np.float64]:
    """The cell with its zero vectors replaced by unit vectors normal to the others."""
    for c in range(3):
        if not cell_cc[c].any():
            if periodic[c]:
                raise GeometryError(f"cell vector {c + 1} is zero although the cell is periodic along it")
            # The last right singular vector is normal to the span of the vectors that are there.
            cell_cc[c] = np.linalg.svd(cell_cc)[2][-1]
    if abs(np.linalg.det(cell_cc)) <= 1e-12 * np.linalg.norm(cell_cc, axis=1).prod():
        raise GeometryError(f"the cell {cell_cc.tolist()} has no volume")
    return cell_cc
