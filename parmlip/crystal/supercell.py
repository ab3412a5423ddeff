"""The reference configuration: sites of a (defective) periodic lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.lattices import Lattice


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
    """Sites of a periodic reference configuration; small enough to be the same on every rank (24 bytes a site and coordinate).

    In two dimensions (`dimension == 2`) all sites lie in the plane z = 0 and only x and y move; on a chain only x moves.
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
