"""Cells with a dislocation loop: a shear loop, or the rim of a platelet of sites that is put in or taken out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.defects import nearest_distance
from parmlip.crystal.distances import distances_to
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.loop_field import Loop, PeriodicLoop, regular_loop
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.crystal.oriented import check_burgers, is_translation
from parmlip.crystal.supercell import Supercell, build_supercell
from parmlip.errors import ConfigError, GeometryError

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Triple = tuple[float, float, float]

_POISSON: Final = 0.3  # of the reference configuration with a platelet put in; what relaxes does not depend on it
_CLOSEST_IMAGE: Final = 4.0  # in nearest-neighbour distances: nearer lines annihilate
_OVERLAP: Final = 0.4  # in nearest-neighbour distances: no two sites of a start are nearer
_SURROUNDINGS: Final = 3.0  # in nearest-neighbour distances, of the loop, in which sites may overlap
_SITES_OF_PIECE: Final = 1 << 17
_SAME: Final = 1e-6  # of the lattice constant
_LARGEST_INDEX: Final = 3  # of lattice vectors that are tried for the direction of a corner
_SPACING: Final = 0.25  # in nearest-neighbour distances, of the points that stand for the line


@dataclass(frozen=True)
class LoopAsked:
    """What is asked for; directions and places in conventional cell vectors."""

    plane: tuple[int, int, int]  # Miller indices of the habit plane
    burgers: Triple
    diameter: float  # lattice constants
    shape: str = "circle"  # or hexagon
    platelet: str = "none"  # none: slip alone; insert or remove: sites
    centre: Triple | None = None  # the cell's by default; it is moved along the normal to the middle of a gap
    corner: Triple | None = None  # direction of a corner; by default that of the shortest lattice vector in the plane
    tilt: float = (
        0.0  # strain the cell by this many mean plastic distortions: 1 takes the mean stress away, more widens slip
    )
    noise: float = 0.0  # largest component of random displacements of the start, angstrom
    seed: int = 0


@dataclass(frozen=True, eq=False)
class LoopCell:
    """A reference configuration and the loop that its start brings in.

    Without a platelet the reference is the perfect crystal, with one taken out the crystal without its sites. With one
    put in it is displaced by the loop's field at a Poisson's ratio of 0.3, since the crystal has no room for it.
    """

    supercell: Supercell
    loop: Loop  # its Burgers vector is the jump of the displacement, above minus below
    cell_cc: RealArray  # (3, 3) periods before the tilt, angstrom
    lattice_ac: RealArray  # (n_sites, 3) sites before displacement and tilt, angstrom; the platelet's between its sides
    on_cut_ac: RealArray  # (n_platelet, 3) where the displacement of the last sites, those put in, is taken
    basis_a: IntArray  # (n_sites,) number of the site in the conventional cell
    of: Lattice
    lattice_constant: float  # angstrom
    n_platelet: int  # sites put in (positive) or taken out (negative)
    asked: LoopAsked

    @property
    def strain_cc(self) -> RealArray:
        """The distortion I + beta of cell and sites, (3, 3), for rows of vectors."""
        field = self.field(_POISSON)
        return np.eye(3) + self.asked.tilt * field.tilt.T

    def field(self, poisson: float) -> PeriodicLoop:
        """The periodic field in an isotropic solid."""
        return PeriodicLoop(self.loop, self.cell_cc, poisson)

    def displacement(self, poisson: float, site_n: IntArray) -> RealArray:
        """Displacement (n, 3) of some sites from `lattice_ac` (strained by the tilt), angstrom. Local."""
        first = len(self.lattice_ac) - len(self.on_cut_ac)
        put_in_n = site_n >= first
        x_nc = self.lattice_ac[site_n].copy()
        x_nc[put_in_n] = self.on_cut_ac[site_n[put_in_n] - first]
        u_nc = self.field(poisson).displacement(x_nc)
        u_nc[put_in_n] -= 0.5 * self.loop.burgers_c  # between the two sides
        return u_nc

    def start(self, poisson: float, site_n: IntArray) -> RealArray:
        """Displacement (n, 3) of some sites from the reference configuration to the loop's field, angstrom. Local."""
        u_nc = self.displacement(poisson, site_n)
        at_nc = self.lattice_ac[site_n] @ self.strain_cc - self.supercell.positions_ac[site_n]
        if self.asked.noise > 0.0:
            noise = np.random.default_rng([self.asked.seed, 6]).uniform(
                -self.asked.noise, self.asked.noise, (self.supercell.n_sites, 3)
            )
            u_nc += noise[site_n]
        return np.asarray(at_nc + u_nc)

    def line_distances(self) -> RealArray:
        """Of every site of the reference to the nearest point of the line, images included, (n_sites,), angstrom."""
        step = _SPACING * nearest_distance(self.of) * self.lattice_constant
        ends_vc = np.roll(self.loop.corner_vc, -1, axis=0)
        n = max(2, int(np.ceil(self.loop.length / len(ends_vc) / step)))
        part = np.arange(n)[:, None, None] / n
        points = (self.loop.corner_vc + part * (ends_vc - self.loop.corner_vc)).reshape(-1, 3)
        return distances_to(self.supercell, points @ self.strain_cc)


def check_overlap(cell: LoopCell, u_ac: RealArray, site_n: IntArray) -> None:
    """Raise `GeometryError` if one of some sites of a start is too near another. Local.

    `u_ac` is the start of all sites, angstrom.
    """
    s = cell.supercell
    nearest = nearest_distance(cell.of) * cell.lattice_constant
    # farther from the loop displacements are smooth; a search over all sites would take 150 bytes of each
    centre_c, reach = cell.loop.centre_c @ cell.strain_cc, cell.loop.radius + _SURROUNDINGS * nearest
    near_a = np.zeros(s.n_sites, dtype=bool)
    for part in np.array_split(np.arange(s.n_sites), 1 + s.n_sites // _SITES_OF_PIECE):
        off_nc = wrapped_about(centre_c, s.cell_cc, s.positions_ac[part]) - centre_c
        near_a[part] = np.einsum("nc,nc->n", off_nc, off_nc) < reach**2
    number_s = np.flatnonzero(near_a)
    x_sc = s.positions_ac[number_s] + u_ac[number_s]
    mine_n = np.flatnonzero(np.isin(number_s, site_n))
    pairs = find_pairs(s.cell_cc, s.periodic, x_sc, _OVERLAP * nearest, mine_n, closest=0.0)
    if pairs.n_pairs:
        r_p = np.linalg.norm(pair_vectors(pairs, s.cell_cc, x_sc), axis=1)
        p = int(np.argmin(r_p))
        first, second = number_s[pairs.centre_p[p]], number_s[pairs.site_p[p]]
        raise GeometryError(
            f"dislocations: sites {first} and {second} of the loop's start are {r_p[p]:.3f} A apart; choose another "
            f"centre or diameter (now {cell.asked.diameter:g})"
        )


@lru_cache(maxsize=2)
def build_loop(
    lattice: Lattice, lattice_constant: float, repeats: tuple[int, int, int], species: tuple[str, ...], asked: LoopAsked
) -> LoopCell:
    """The cell of `repeats` conventional cells with its loop; kept, since stages ask for it again.

    Raises
    ------
    ConfigError
        What is asked for cannot be; one line says what would be right.
    """
    perfect = build_supercell(lattice, lattice_constant, repeats, species)
    loop, thickness_c = place_loop(lattice, lattice_constant, perfect.cell_cc, asked)
    grid = perfect.grid
    assert grid is not None
    lattice_ac = wrapped_about(loop.centre_c, perfect.cell_cc, perfect.positions_ac)
    within_n = _platelet(loop, thickness_c, lattice_ac)
    if not len(within_n):
        kind = "slips no" if asked.platelet == "none" else "its platelet has no"
        raise ConfigError(
            f"dislocations diameter = {asked.diameter:g}: the loop {kind} sites; take a larger one or another centre"
        )
    basis_a, number_a, species_a = grid.number_a % lattice.n_basis, grid.number_a, perfect.species_a
    lattice_ac = perfect.positions_ac  # not wrapped: a start has no jumps of whole cells
    cut_nc, n_platelet = np.zeros((0, 3)), 0
    if asked.platelet == "remove":
        keep_n = np.delete(np.arange(perfect.n_sites), within_n)
        lattice_ac, basis_a = lattice_ac[keep_n], basis_a[keep_n]
        number_a, species_a = number_a[keep_n], species_a[keep_n]
        n_platelet = -len(within_n)
    elif asked.platelet == "insert":
        # the lower half's crystal goes on between the sides, which stand half a Burgers vector below and above
        new_nc = wrapped_about(loop.centre_c, perfect.cell_cc, lattice_ac[within_n])
        height_n = (new_nc - loop.centre_c) @ loop.normal_c
        foot_nc = new_nc - np.outer(height_n / (thickness_c @ loop.normal_c), thickness_c)
        cut_nc = foot_nc + _SAME * lattice_constant * loop.normal_c
        lattice_ac = np.concatenate([lattice_ac, new_nc - 0.5 * thickness_c])
        basis_a = np.concatenate([basis_a, basis_a[within_n]])
        number_a = np.concatenate([number_a, np.full(len(within_n), -1, dtype=np.int64)])
        species_a = np.concatenate([species_a, species_a[within_n]])
        n_platelet = len(within_n)
    cell = replace(perfect, positions_ac=lattice_ac, species_a=species_a, grid=replace(grid, number_a=number_a))
    made = LoopCell(
        cell, loop, perfect.cell_cc, lattice_ac, cut_nc, basis_a, lattice, lattice_constant, n_platelet, asked
    )
    if asked.tilt == 0.0 and asked.platelet != "insert":
        return made
    strain_cc = made.strain_cc
    positions_ac = lattice_ac @ strain_cc
    if asked.platelet == "insert":
        positions_ac += made.displacement(_POISSON, np.arange(len(lattice_ac)))
    return replace(made, supercell=replace(cell, cell_cc=perfect.cell_cc @ strain_cc, positions_ac=positions_ac))


def place_loop(
    lattice: Lattice, lattice_constant: float, cell_cc: RealArray, asked: LoopAsked
) -> tuple[Loop, RealArray]:
    """The loop in a cell, and its Burgers vector turned upwards (as it is, where it lies in the plane), (3,), angstrom.

    Raises
    ------
    ConfigError
        As `build_loop`; no sites are made.
    """
    if lattice.dimension != 3:
        raise ConfigError(f"dislocations: {lattice.name} has {lattice.dimension} dimension(s); loops need three")
    if not any(asked.plane):
        raise ConfigError(f"dislocations plane = {list(asked.plane)}: must not be zero")
    check_burgers(lattice, asked.burgers)
    unit_cc = lattice.cell(lattice_constant)
    normal_c = np.linalg.solve(unit_cc, np.asarray(asked.plane, dtype=float))
    normal_c /= np.linalg.norm(normal_c)
    burgers_c = np.asarray(asked.burgers) @ unit_cc
    height = float(burgers_c @ normal_c)
    in_plane = abs(height) < _SAME * lattice_constant
    if in_plane != (asked.platelet == "none"):
        right = (
            'lies in the plane, so that the loop slips: platelet must be "none"' if in_plane
            else 'leaves the plane: platelet must be "insert" or "remove"'
        )  # fmt: skip
        raise ConfigError(
            f"dislocations burgers = {list(asked.burgers)}, plane = {list(asked.plane)}: the Burgers vector {right}, "
            f'not "{asked.platelet}"'
        )
    upward_c = burgers_c if in_plane or height > 0.0 else -burgers_c
    middle = (0.5, 0.5, 0.5) @ cell_cc if asked.centre is None else np.asarray(asked.centre) @ unit_cc
    # a platelet taken out lies on both sides of the loop's plane, one put in and slip lie on a plane between sites
    offset = 0.5 * abs(height) if asked.platelet == "remove" else 0.0
    gap = _nearest_gap(lattice, lattice_constant, asked.plane, normal_c, float(middle @ normal_c) - offset)
    centre_c = middle + (gap + offset - middle @ normal_c) * normal_c
    corner_c = _corner(lattice, asked, normal_c) if asked.corner is None else np.asarray(asked.corner) @ unit_cc
    if np.linalg.norm(np.cross(corner_c, normal_c)) < _SAME * max(1.0, float(np.linalg.norm(corner_c))):
        raise ConfigError(
            f"dislocations corner = {list(asked.corner or ())}: must not be along the normal of the plane"
        )
    jump_c = -upward_c if asked.platelet == "remove" else upward_c
    loop = regular_loop(centre_c, normal_c, corner_c, asked.diameter * lattice_constant, asked.shape, jump_c)
    _check_size(lattice, lattice_constant, loop, cell_cc, asked)
    return loop, upward_c


def loop_sites(
    lattice: Lattice, lattice_constant: float, repeats: tuple[int, int, int], asked: LoopAsked
) -> tuple[Loop, int]:
    """The loop, and about how many sites its cell has (a platelet has whole columns); no sites are made.

    Raises
    ------
    ConfigError
        As `place_loop`.
    """
    cell_cc = np.array(repeats)[:, None] * lattice.cell(lattice_constant)
    loop, upward_c = place_loop(lattice, lattice_constant, cell_cc, asked)
    n_sites = int(np.prod(repeats)) * lattice.n_basis
    platelet = n_sites / abs(float(np.linalg.det(cell_cc))) * loop.area * abs(float(upward_c @ loop.normal_c))
    sign = {"insert": 1, "remove": -1, "none": 0}[asked.platelet]
    return loop, n_sites + sign * round(platelet)


def wrapped_about(centre_c: RealArray, cell_cc: RealArray, x_nc: RealArray) -> RealArray:
    """The images (n, 3) of points that lie within half a cell of a centre."""
    fraction_nc = (x_nc - centre_c) @ np.linalg.inv(cell_cc)
    return np.asarray(x_nc - np.rint(fraction_nc) @ cell_cc)


def _platelet(loop: Loop, upward_c: RealArray, x_ac: RealArray) -> IntArray:
    """Sites (wrapped about the loop) of the slab that a Burgers vector spans over S; for slip those one |b| above."""
    height_a = (x_ac - loop.centre_c) @ loop.normal_c
    through = float(upward_c @ loop.normal_c)
    if abs(through) < 1e-9 * np.linalg.norm(upward_c):
        near_n = np.flatnonzero((height_a > 0.0) & (height_a < np.linalg.norm(upward_c)))
        return near_n[loop.contains(x_ac[near_n])]
    removed = float(loop.burgers_c @ loop.normal_c) < 0.0
    low = -0.5 * through if removed else 0.0
    near_n = np.flatnonzero((height_a > low) & (height_a < low + through))
    foot_nc = x_ac[near_n] - np.outer(height_a[near_n] / through, upward_c)
    return near_n[loop.contains(foot_nc)]


def _nearest_gap(
    lattice: Lattice, lattice_constant: float, plane: tuple[int, int, int], normal_c: RealArray, height: float
) -> float:
    """Height of the middle of a widest gap between lattice planes, the nearest to a height, angstrom."""
    unit_cc = lattice.cell(lattice_constant)
    # translations are multiples of this along the normal
    common = int(np.gcd.reduce(np.array(plane)))
    period = common / float(np.linalg.norm(np.linalg.solve(unit_cc, np.asarray(plane, dtype=float))))
    level = np.sort(np.round(lattice.basis_bc @ unit_cc @ normal_c / lattice_constant % (period / lattice_constant), 9))
    level = level[level < period / lattice_constant - _SAME] * lattice_constant
    level = np.unique(level)
    gap = np.diff(np.append(level, level[0] + period))
    wide = np.flatnonzero(gap > gap.max() - _SAME * lattice_constant)
    middle = level[wide] + 0.5 * gap[wide]
    candidates = middle + np.rint((height - middle) / period) * period
    return float(candidates[np.argmin(np.abs(candidates - height))])


def _corner(lattice: Lattice, asked: LoopAsked, normal_c: RealArray) -> RealArray:
    """The shortest lattice vector of the conventional cell's vectors and their halves that lies in the plane."""
    whole = np.arange(-2 * _LARGEST_INDEX, 2 * _LARGEST_INDEX + 1) / 2.0
    grid = np.stack(np.meshgrid(whole, whole, whole, indexing="ij"), axis=-1).reshape(-1, 3)
    vector = grid @ lattice.cell_cc
    size = np.linalg.norm(vector, axis=1)
    for n in np.lexsort((*-grid.T[::-1], np.round(size, 9))):
        if size[n] > 0.0 and abs(vector[n] @ normal_c) < _SAME and is_translation(lattice, grid[n]):
            return np.asarray(vector[n])
    raise ConfigError(f"dislocations plane = {list(asked.plane)}: has no short lattice vector; give 'corner'")


def _check_size(lattice: Lattice, lattice_constant: float, loop: Loop, cell_cc: RealArray, asked: LoopAsked) -> None:
    inverse_cc = np.linalg.inv(cell_cc)
    fraction_vc = (loop.corner_vc - loop.centre_c) @ inverse_cc
    # between the planes that bound the loop and its image along each cell vector
    room_c = (1.0 - np.ptp(fraction_vc, axis=0)) / np.linalg.norm(inverse_cc, axis=0)
    least = _CLOSEST_IMAGE * nearest_distance(lattice) * lattice_constant
    # a loop that is thin along a vector may still meet its image sideways; flat ones beside each other do not count
    if room_c.min() < least:
        raise ConfigError(
            f"dislocations diameter = {asked.diameter:g}: the loop leaves {room_c.min():.2f} A to its image in this "
            f"cell, less than {least:.2f} A; take a larger 'cell' or a smaller loop"
        )
