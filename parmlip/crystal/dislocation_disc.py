"""One straight dislocation in a disc: sites that are free near it, a rim that is clamped to the far field."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.cores import core_offsets, projected_columns
from parmlip.crystal.defects import nearest_distance
from parmlip.crystal.dislocation_field import Core, slip_corrected
from parmlip.crystal.elasticity import full_tensor, rotated, stroh
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.oriented import Orientation, is_translation, oriented
from parmlip.crystal.supercell import Supercell, build_supercell
from parmlip.errors import ConfigError

RealArray = NDArray[np.float64]

_ON_COLUMN: Final = 0.05  # of the lattice constant: the core is not put nearer to a column of sites
_SMALLEST: Final = 3.0  # nearest distances: a free region below it holds no core


@dataclass(frozen=True, eq=False)
class Disc:
    """The reference configuration is the perfect crystal in the disc, periodic along z alone."""

    supercell: Supercell
    orientation: Orientation
    core: Core
    free_a: NDArray[np.bool_]  # (n_sites,) sites that relax; the others are clamped
    radius: float  # of the free region, angstrom

    def distances(self) -> RealArray:
        """Of every site to the core, in the plane, (n_sites,), angstrom."""
        return np.asarray(np.linalg.norm(self.supercell.positions_ac[:, :2] - np.array(self.core.position), axis=1))

    def predictor(self, stiffness_vv: RealArray, slip_radius: float | None = None) -> RealArray:
        """The slip-corrected field (n_sites, 3), angstrom, in a solid of relaxed stiffness (6, 6), crystal's frame.

        `slip_radius` is that of the ball in which the slip is turned on, by default five Burgers vectors.
        """
        solution = stroh(rotated(full_tensor(stiffness_vv), self.orientation.axes_cc))
        size = float(np.linalg.norm(self.core.burgers))
        within = 5.0 * size if slip_radius is None else slip_radius
        return slip_corrected(solution, self.core, self.supercell.positions_ac, within)


def build_disc(
    lattice: Lattice,
    lattice_constant: float,
    species: tuple[str, ...],
    *,
    line: tuple[int, int, int],
    plane: tuple[int, int, int],
    burgers: tuple[float, float, float],
    radius: float,
    rim: float,
    core: str | tuple[float, float] = "auto",
    periods: int = 1,
) -> Disc:
    """The sites closer than `radius` to the core, free, and those of a clamped rim around them. Local.

    Parameters
    ----------
    line, plane, burgers, core
        As of `Dislocations`.
    radius : float
        Of the free region, angstrom.
    rim : float
        Width of the clamped one, angstrom: at least twice the law's cutoff, so that no energy that changes has a
        surface in it.
    periods : int
        Of the crystal along the line.

    Raises
    ------
    ConfigError
        The Burgers vector is none, the free region holds no core, or the core is on a column of sites.
    """
    frame = oriented(lattice, line, plane)
    if not is_translation(lattice, burgers) or not any(burgers):
        raise ConfigError(f"dislocations burgers = {list(burgers)}: is not a lattice vector of {lattice.name}")
    burgers_c = frame.in_frame(burgers)
    burgers_c[np.abs(burgers_c) < 1e-9] = 0.0
    if burgers_c[1] != 0.0:
        raise ConfigError(f"dislocations burgers = {list(burgers)}: must lie in plane = {list(plane)}")
    nearest = nearest_distance(lattice) * lattice_constant
    if radius < _SMALLEST * nearest:
        raise ConfigError(f"dislocations radius = {radius:g}: must be at least {_SMALLEST * nearest:.2f} A")
    if not rim > 0.0:
        raise ConfigError(f"dislocations rim = {rim:g}: must be greater than 0")
    size_c = np.diag(frame.lattice.cell_cc) * lattice_constant
    at = np.array(core_offsets(frame, burgers_c, core)[0])
    off = (projected_columns(frame.lattice) - at) * lattice_constant / size_c[:2]
    if np.linalg.norm((off - np.rint(off)) * size_c[:2], axis=1).min() < _ON_COLUMN * lattice_constant:
        raise ConfigError(f"dislocations core = {core}: is on a column of sites")
    whole = [ceil((radius + rim) / float(size)) + 1 for size in size_c[:2]]
    block = build_supercell(frame.lattice, lattice_constant, (2 * whole[0], 2 * whole[1], periods), species)
    centre_c = at * lattice_constant + np.array(whole) * size_c[:2]
    distance_a = np.linalg.norm(block.positions_ac[:, :2] - centre_c, axis=1)
    kept = distance_a < radius + rim
    positions_ac = block.positions_ac[kept] - np.array([*centre_c, 0.0])
    supercell = Supercell(
        block.cell_cc, (False, False, True), positions_ac, block.species_a[kept], block.species, block.dimension
    )
    bx, by, bz = (float(b) * lattice_constant for b in burgers_c)
    return Disc(supercell, frame, Core((0.0, 0.0), (bx, by, bz)), distance_a[kept] < radius, radius)
