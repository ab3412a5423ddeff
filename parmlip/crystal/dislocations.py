"""Cells with dislocations: quadrupoles in orthogonal cells, dipoles in sheared and tilted ones, given arrays.

The reference configuration of such a cell is the perfect crystal (of a tilted cell: uniformly strained); the
dislocations come in by a displacement, the predictor of linear elasticity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.cores import core_offsets, nearest_columns, projected_columns
from parmlip.crystal.defects import nearest_distance
from parmlip.crystal.dislocation_field import Core, PeriodicArray, check_neutral
from parmlip.crystal.elasticity import full_tensor, rotated, stroh
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.crystal.oriented import Orientation, check_burgers, oriented, recut
from parmlip.crystal.supercell import Supercell, build_supercell, lattice_positions
from parmlip.errors import ConfigError, GeometryError

RealArray = NDArray[np.float64]

_ON_COLUMN: Final = 0.05  # of the lattice constant: cores are not put nearer to a column of sites
_CLOSEST_CORES: Final = 4.0  # in nearest-neighbour distances: nearer ones annihilate
_OVERLAP: Final = 0.4  # in nearest-neighbour distances: no two sites of the predictor are nearer


@dataclass(frozen=True)
class Dislocations:
    """What is asked for. Directions are in conventional cell vectors, positions in lattice constants along x, y."""

    kind: str  # quadrupole, dipole, or given
    line: tuple[int, int, int]
    plane: tuple[int, int, int]  # Miller indices of the glide plane; its normal is y
    burgers: tuple[float, float, float]
    core: str | tuple[float, float] = "auto"  # place in the oriented cell, or auto, easy, hard
    core_minus: tuple[float, float] | None = None  # of the cores of -b, if it is another
    cores: tuple[tuple[float, float, float], ...] = ()  # given: x, y in oriented cells, and the factor of `burgers`
    polarity: float = 0.0  # shift of the three columns at every core along its Burgers vector, in Burgers vectors
    noise: float = 0.0  # largest component of random displacements of the start, angstrom
    seed: int = 0


@dataclass(frozen=True, eq=False)
class DislocatedCell:
    """A reference configuration and the dislocations that its predictor brings in."""

    supercell: Supercell
    orientation: Orientation
    cores: tuple[Core, ...]
    vectors_kc: RealArray  # (2, 2) periods in the plane before the tilt, angstrom
    asked: Dislocations

    @property
    def separation(self) -> float:
        """L_D: the least distance of two cores, images included, angstrom."""
        return closest_cores(self.cores, self.vectors_kc)

    @property
    def lattice_positions_ac(self) -> RealArray:
        """Sites of the perfect crystal, before the tilt, (n_sites, 3), angstrom."""
        grid = self.supercell.grid
        assert grid is not None
        return lattice_positions(grid, grid.number_a)

    def distances(self) -> RealArray:
        """Of every site to the nearest core, in the plane, (n_sites,), angstrom."""
        x_ac = self.lattice_positions_ac[:, :2]
        from_cores = [nearest_images(x_ac - np.array(c.position), self.vectors_kc) for c in self.cores]
        return np.asarray(np.min(np.linalg.norm(from_cores, axis=2), axis=0))

    def array(self, stiffness_vv: RealArray) -> PeriodicArray:
        """The field of the cores in a solid of the given relaxed stiffness (6, 6) in the crystal's frame."""
        solution = stroh(rotated(full_tensor(stiffness_vv), self.orientation.axes_cc))
        return PeriodicArray(solution, self.cores, self.vectors_kc)

    def predictor(self, stiffness_vv: RealArray) -> RealArray:
        """Displacement (n_sites, 3) from the reference configuration, angstrom, with seeds of cores and noise.

        Raises
        ------
        GeometryError
            Two sites would overlap.
        """
        u_ac = self.array(stiffness_vv).displacement(self.lattice_positions_ac)
        u_ac += self._seeds()
        if self.asked.noise > 0.0:
            stream = np.random.default_rng([self.asked.seed, 6])
            u_ac += stream.uniform(-self.asked.noise, self.asked.noise, u_ac.shape)
        u_ac -= u_ac.mean(axis=0)
        self._check_overlap(u_ac)
        return u_ac

    def shifted(self, offset: tuple[float, float]) -> DislocatedCell:
        """The same cell with all cores moved by [x, y], angstrom.

        Raises
        ------
        ConfigError
            A core would be on a column of sites, or an edge's glide plane hold sites.
        """
        grid = self.supercell.grid
        assert grid is not None
        dx, dy = offset
        cores = tuple(Core((c.position[0] + dx, c.position[1] + dy), c.burgers) for c in self.cores)
        has_edge = any(c.burgers[0] != 0.0 for c in cores)
        _check_cores(self.orientation, cores, self.vectors_kc, grid.lattice_constant, has_edge)
        return replace(self, cores=cores)

    def _seeds(self) -> RealArray:
        u_ac = np.zeros((self.supercell.n_sites, 3))
        if self.asked.polarity != 0.0:
            for core in self.cores:
                trio_n = nearest_columns(self.lattice_positions_ac, core.position, self.vectors_kc, 3)
                u_ac[trio_n] += self.asked.polarity * np.array(core.burgers)
        return u_ac

    def _check_overlap(self, u_ac: RealArray) -> None:
        grid = self.supercell.grid
        assert grid is not None
        nearest = nearest_distance(self.orientation.origin) * grid.lattice_constant
        x_ac = self.supercell.positions_ac + u_ac
        pairs = find_pairs(self.supercell.cell_cc, self.supercell.periodic, x_ac, _OVERLAP * nearest, closest=0.0)
        if pairs.n_pairs:
            r_p = np.linalg.norm(pair_vectors(pairs, self.supercell.cell_cc, x_ac), axis=1)
            p = int(np.argmin(r_p))
            raise GeometryError(
                f"dislocations: sites {pairs.centre_p[p]} and {pairs.site_p[p]} of the predictor are {r_p[p]:.3f} A "
                f"apart; choose another core (now {self.asked.core}) or a larger cell"
            )


def build_dislocations(
    lattice: Lattice, lattice_constant: float, repeats: tuple[int, int, int], species: tuple[str, ...],
    asked: Dislocations,
) -> DislocatedCell:  # fmt: skip
    """The cell of `repeats` oriented cells along x, y, z with its dislocations.

    A quadrupole has +b at (1/4, 1/4) and (3/4, 3/4), -b at (3/4, 1/4) and (1/4, 3/4) of an orthogonal cell. A dipole
    has +b at (1/4, 1/2), -b at (3/4, 1/2); its second vector is sheared by half of the first (so that its images are a
    quadrupole's) and tilted by what takes the mean elastic strain away.

    Raises
    ------
    ConfigError
        What is asked for cannot be; one line says what would be right.
    """
    frame = oriented(lattice, asked.line, asked.plane)
    check_burgers(lattice, asked.burgers)
    burgers_c = frame.in_frame(asked.burgers)
    burgers_c[np.abs(burgers_c) < 1e-9] = 0.0
    if burgers_c[1] != 0.0:
        raise ConfigError(
            f"dislocations burgers = {list(asked.burgers)}: must lie in plane = {list(asked.plane)}, on which they "
            "glide; else sites would have to be put in or taken out"
        )
    cell = np.diag(frame.lattice.cell_cc)
    places = _places(frame, repeats, asked, burgers_c)
    bx, by, bz = (float(b) * lattice_constant for b in burgers_c)
    cores = tuple(
        Core((x * lattice_constant, y * lattice_constant), (s * bx, s * by, s * bz)) for x, y, s in places
    )  # fmt: skip
    try:
        check_neutral(cores)
    except GeometryError as error:
        raise ConfigError(f"dislocations cores: {error}") from None
    skew = 0.5 * repeats[0] if asked.kind == "dipole" else 0.0
    if skew % 1.0:
        raise ConfigError(f"cell = {list(repeats)}: the first number must be even for a dipole's sheared cell")
    vectors_kc = np.array([[repeats[0] * cell[0], 0.0], [skew * cell[0], repeats[1] * cell[1]]]) * lattice_constant
    _check_cores(frame, cores, vectors_kc, lattice_constant, burgers_c[0] != 0.0)
    parts = gcd(int(skew), repeats[1]) if skew else repeats[1]
    sheared_cc = np.diag(cell)
    sheared_cc[1] = [skew / parts * cell[0], repeats[1] / parts * cell[1], 0.0]
    of = recut(frame.lattice, sheared_cc) if skew else frame.lattice
    supercell = build_supercell(of, lattice_constant, (repeats[0], parts, repeats[2]), species)
    made = DislocatedCell(supercell, frame, cores, vectors_kc, asked)
    return _tilted(made) if asked.kind == "dipole" else made


def closest_cores(cores: tuple[Core, ...], vectors_kc: RealArray) -> float:
    """The least distance of two cores, images included, angstrom."""
    shifts = np.array([[i, j] for i in range(-2, 3) for j in range(-2, 3)]) @ vectors_kc
    at_nc = np.array([core.position for core in cores])
    distance = np.linalg.norm(at_nc[:, None, None] - at_nc[None, :, None] + shifts, axis=-1)
    return float(distance[distance > 1e-9].min())


def nearest_images(off_ac: RealArray, vectors_kc: RealArray) -> RealArray:
    """Vectors (n, 2) in the plane, each replaced by the shortest that periods make of it."""
    off_ac = off_ac - np.rint(off_ac @ np.linalg.inv(vectors_kc)) @ vectors_kc
    shifts = np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ vectors_kc
    images = off_ac[:, None] + shifts
    best = np.linalg.norm(images, axis=2).argmin(axis=1)
    return np.asarray(images[np.arange(len(off_ac)), best])


def _tilted(made: DislocatedCell) -> DislocatedCell:
    """Cell and sites with the distortion that the dipole's slip brings, of which the mean stress vanishes."""
    s = made.supercell
    # The tilt is geometry: any solution gives it.
    tilt_kc = PeriodicArray(stroh(_ANY), made.cores, made.vectors_kc).tilt
    beta_ck = np.zeros((3, 3))
    beta_ck[:, :2] = np.linalg.solve(made.vectors_kc, tilt_kc).T  # C_k -> C_k + beta C_k
    deform_cc = np.eye(3) + beta_ck.T
    tilted = Supercell(
        s.cell_cc @ deform_cc, s.periodic, s.positions_ac @ deform_cc, s.species_a, s.species, s.dimension, s.grid
    )
    return DislocatedCell(tilted, made.orientation, made.cores, made.vectors_kc, made.asked)


def _places(
    frame: Orientation, repeats: tuple[int, int, int], asked: Dislocations, burgers_c: RealArray
) -> list[tuple[float, float, float]]:
    """x, y (lattice constants) and sign of every core."""
    cell = np.diag(frame.lattice.cell_cc)
    if asked.kind == "given":
        return [(x * cell[0], y * cell[1], s) for x, y, s in asked.cores]
    plus, minus = core_offsets(frame, burgers_c, asked.core, asked.core_minus)
    quarters = {
        "quadrupole": ((0.25, 0.25, 1.0), (0.75, 0.75, 1.0), (0.75, 0.25, -1.0), (0.25, 0.75, -1.0)),
        "dipole": ((0.25, 0.5, 1.0), (0.75, 0.5, -1.0)),
    }[asked.kind]
    places = []
    for fx, fy, sign in quarters:
        offset = plus if sign > 0.0 else minus
        whole = np.floor(np.array([fx * repeats[0], fy * repeats[1]]) + 1e-9)
        places.append((whole[0] * cell[0] + offset[0], whole[1] * cell[1] + offset[1], sign))
    return places


def _check_cores(
    frame: Orientation, cores: tuple[Core, ...], vectors_kc: RealArray, lattice_constant: float, has_edge: bool
) -> None:
    columns_nc = projected_columns(frame.lattice)
    cell = np.diag(frame.lattice.cell_cc)[:2]
    for core in cores:
        at = np.array(core.position) / lattice_constant
        off = (columns_nc - at) / cell
        distance = np.linalg.norm((off - np.rint(off)) * cell, axis=1).min()
        shown = f"[{at[0]:.4f}, {at[1]:.4f}]"
        if distance < _ON_COLUMN:
            raise ConfigError(
                f"dislocations: the core at {shown} lattice constants is on a column of sites ({distance:.3f} away); "
                "give another 'core'"
            )
        if has_edge and np.abs((off - np.rint(off))[:, 1] * cell[1]).min() < _ON_COLUMN / 10:
            raise ConfigError(f"dislocations: the glide plane of the core at {shown} holds sites; give another 'core'")
    heights: dict[float, float] = {}
    for core in cores:
        row = round(core.position[1] / lattice_constant, 6)
        heights[row] = heights.get(row, 0.0) + core.burgers[0]
    if has_edge and any(abs(b) > 1e-9 * lattice_constant for b in heights.values()):
        raise ConfigError("dislocations: edge components on one glide plane (the same y) must add up to zero")
    least = _CLOSEST_CORES * nearest_distance(frame.origin) * lattice_constant
    distance = closest_cores(cores, vectors_kc)
    if distance < least:
        raise ConfigError(
            f"dislocations: cores are {distance:.2f} A apart, nearer than {least:.2f} A, and would annihilate; "
            "take a larger 'cell'"
        )


_ANY: Final = rotated(full_tensor(np.diag([3.0, 3.0, 3.0, 1.0, 1.1, 1.2])), np.eye(3))
