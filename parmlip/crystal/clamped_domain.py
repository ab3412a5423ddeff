"""A piece of a crystal, a disc or a ball, whose sites are free near its centre and clamped in a rim around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.defects import Defect, Divacancy, Interstitial, apply_defects, lattice_site, nearest_distance
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.oriented import Orientation
from parmlip.crystal.supercell import Supercell, build_supercell
from parmlip.errors import ConfigError

RealArray = NDArray[np.float64]

SMALLEST: Final = 3.0  # nearest distances: a free region below it holds no defect


@dataclass(frozen=True, eq=False)
class ClampedDomain:
    """A reference configuration of which the sites of a rim do not move.

    A disc has its axis along z and is periodic along it alone (a planar lattice has no z); a ball has no periods. Sites
    keep their places in the block of the perfect crystal from which the domain is cut, which is the cell of
    `supercell` and its grid.
    """

    supercell: Supercell
    kind: str  # disc or ball
    centre_c: RealArray  # (3,) angstrom
    free_a: NDArray[np.bool_]  # (n_sites,) sites that relax; the others are clamped
    radius: float  # of the free region, angstrom
    rim: float  # width of the clamped one, angstrom
    frame: Orientation | None  # of the disc's axes; None: those of the conventional cell

    @property
    def n_free(self) -> int:
        """Number of sites that relax."""
        return int(np.count_nonzero(self.free_a))

    def distances(self) -> RealArray:
        """Of every site to the centre, in the plane for a disc, (n_sites,), angstrom."""
        return _distances(self.supercell.positions_ac - self.centre_c, self.kind)

    def inner(self, reach: float) -> NDArray[np.bool_]:
        """Sites within `reach` (angstrom) of free ones, (n_sites,): of a law's cutoff those whose energies change."""
        return np.asarray(self.distances() < self.radius + reach)


def build_domain(
    lattice: Lattice,
    lattice_constant: float,
    species: tuple[str, ...],
    defects: Sequence[Defect],
    *,
    kind: str,
    radius: float,
    rim: float,
    frame: Orientation | None = None,
    periods: int = 1,
) -> ClampedDomain:
    """The sites nearer than `radius` to a lattice site, free, and those of a clamped rim, with point defects. Local.

    Parameters
    ----------
    defects : sequence of Defect
        Their coordinates are in conventional cell vectors, seen from the centre, a site of the lattice's origin.
    kind : str
        "disc", about the third cell vector, or in the plane of a planar lattice; "ball".
    radius, rim : float
        Angstrom. The rim is at least twice the law's cutoff wide, so that no energy that changes has a surface in it.
    frame : Orientation, optional
        Of a disc about another direction.
    periods : int
        Of the crystal along the axis of a disc.

    Raises
    ------
    ConfigError
        The free region is too small, or a defect is not on the lattice or not in it.
    """
    if lattice.dimension < 2 or (kind == "ball" and lattice.dimension < 3):
        raise ConfigError(
            f'[simulation] domain = "{kind}": is not for lattice {lattice.name} of {lattice.dimension} dimension(s)'
        )
    check_size(lattice, lattice_constant, radius, rim)
    of = lattice if frame is None else frame.lattice
    block, centre_c = cut_block(of, lattice_constant, species, radius + rim, kind=kind, periods=periods)
    inverse_cc = np.linalg.inv(of.cell(lattice_constant))
    placed = [_placed(d, frame, lattice, centre_c @ inverse_cc) for d in defects]
    assert block.grid is not None
    seen = replace(block.grid, lattice=lattice)  # refusals name coordinates as they are given, not those in the block
    for number, (before, after) in enumerate(zip(defects, placed, strict=True)):
        if not isinstance(before, Interstitial) or before.position is None:
            for at in _places(before):
                lattice_site(seen, at, f"defects[{number}]")
        for at in _places(after):
            away = float(_distances((np.array(at) @ of.cell(lattice_constant) - centre_c)[None], kind)[0])
            if away >= radius:
                raise ConfigError(
                    f"[simulation] defects[{number}]: {list(_places(before)[0])} is {away:.2f} A from the centre of "
                    f"the {kind}, outside of its free region, radius = {radius:g}"
                )
    return clamped(apply_defects(block, placed), centre_c, kind=kind, radius=radius, rim=rim, frame=frame)


def check_size(lattice: Lattice, lattice_constant: float, radius: float, rim: float) -> None:
    """Raise `ConfigError` for a free region that holds no defect, or without a rim."""
    least = SMALLEST * nearest_distance(lattice) * lattice_constant
    if radius < least:
        raise ConfigError(f"[simulation] radius = {radius:g}: must be at least {least:.2f} A")
    if not rim > 0.0:
        raise ConfigError(f"[simulation] rim = {rim:g}: must be greater than 0")


def cut_block(
    lattice: Lattice,
    lattice_constant: float,
    species: tuple[str, ...],
    reach: float,
    *,
    kind: str,
    periods: int,
    offset_c: RealArray | None = None,
) -> tuple[Supercell, RealArray]:
    """The perfect block around a domain of radius `reach` (angstrom), and the domain's centre in it, (3,), angstrom.

    `offset_c` is the centre's place from a site of the lattice's origin, angstrom.
    """
    cell_cc, d = lattice.cell(lattice_constant), lattice.dimension
    cut = 3 if kind == "ball" else 2
    height_c = 1.0 / np.linalg.norm(np.linalg.inv(cell_cc), axis=0)
    half = [ceil(reach / float(height)) + 1 for height in height_c[:cut]]
    repeats = [2 * n for n in half] + [periods] * (d - cut)
    block = build_supercell(lattice, lattice_constant, repeats, species)
    return block, np.array([*half, 0, 0][:3]) @ cell_cc + (np.zeros(3) if offset_c is None else offset_c)


def clamped(
    block: Supercell, centre_c: RealArray, *, kind: str, radius: float, rim: float, frame: Orientation | None
) -> ClampedDomain:
    """What of a block with its defects is nearer than `radius + rim` to the centre."""
    assert block.grid is not None
    kept = _distances(block.positions_ac - centre_c, kind) < radius + rim
    supercell = replace(
        block,
        periodic=(False, False, kind == "disc" and block.dimension == 3),
        positions_ac=block.positions_ac[kept],
        species_a=block.species_a[kept],
        grid=replace(block.grid, number_a=block.grid.number_a[kept]),
    )
    free_a = _distances(supercell.positions_ac - centre_c, kind) < radius
    return ClampedDomain(supercell, kind, centre_c, free_a, radius, rim, frame)


def place_in_block(at: Sequence[float], lattice: Lattice, frame: Orientation | None) -> RealArray:
    """A vector given in conventional cell vectors, in those of the block."""
    at_c = np.array([*at, 0.0, 0.0][:3], dtype=float)
    return at_c if frame is None else frame.in_frame(at_c) @ np.linalg.inv(frame.lattice.cell_cc)


def _placed(defect: Defect, frame: Orientation | None, lattice: Lattice, shift_c: RealArray) -> Defect:
    def moved(at: Sequence[float]) -> tuple[float, float, float]:
        x, y, z = place_in_block(at, lattice, frame) + shift_c
        return float(x), float(y), float(z)

    if isinstance(defect, Interstitial):
        if defect.site is not None and frame is not None:
            raise ConfigError(
                f"[simulation] defects: the site '{defect.site}' has a name in the conventional cell alone; with "
                "line and plane give 'position'"
            )
        if defect.position is not None:
            return replace(defect, position=moved(defect.position))
        return replace(defect, at=moved(defect.at))
    if isinstance(defect, Divacancy):
        x, y, z = place_in_block(defect.direction, lattice, frame)
        return replace(defect, at=moved(defect.at), direction=(float(x), float(y), float(z)))
    return replace(defect, at=moved(defect.at))


def _places(defect: Defect) -> list[tuple[float, float, float]]:
    """Sites and positions of a defect, in cell vectors."""
    if isinstance(defect, Interstitial):
        return [defect.at if defect.position is None else defect.position]
    if isinstance(defect, Divacancy):
        (x, y, z), (dx, dy, dz) = defect.at, defect.direction
        return [defect.at, (x + dx, y + dy, z + dz)]
    return [defect.at]


def _distances(off_ac: RealArray, kind: str) -> RealArray:
    return np.asarray(np.linalg.norm(off_ac[:, : 3 if kind == "ball" else 2], axis=1))
