"""One straight dislocation in a disc: sites that are free near it, a rim that is clamped to the far field."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.clamped_domain import ClampedDomain, check_size, clamped, cut_block
from parmlip.crystal.cores import core_offsets, nearest_columns, projected_columns
from parmlip.crystal.dislocation_field import Core, slip_corrected
from parmlip.crystal.elasticity import full_tensor, rotated, stroh
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.oriented import Orientation, check_burgers, oriented
from parmlip.errors import ConfigError

RealArray = NDArray[np.float64]

_ON_COLUMN: Final = 0.05  # of the lattice constant: the core is not put nearer to a column of sites
_SLIP: Final = 5.0  # Burgers vectors: radius of the ball in which the slip is turned on


@dataclass(frozen=True, eq=False)
class Disc(ClampedDomain):
    """The reference configuration is the perfect crystal in the disc, periodic along z alone."""

    orientation: Orientation
    core: Core
    polarity: float = 0.0  # start: shift of the three columns at the core, in Burgers vectors
    noise: float = 0.0  # start: largest component of random displacements of free sites, angstrom
    seed: int = 0

    @property
    def cores(self) -> tuple[Core, ...]:
        """The one core."""
        return (self.core,)

    @property
    def separation(self) -> float:
        """Of the core from what would be its image: the diameter of the free region, angstrom."""
        return 2.0 * self.radius

    @property
    def vectors_kc(self) -> RealArray:
        """(2, 2) sides of the block, angstrom, along which nothing repeats."""
        return np.asarray(self.supercell.cell_cc[:2, :2])

    @property
    def lattice_positions_ac(self) -> RealArray:
        """Sites of the perfect crystal, (n_sites, 3), angstrom."""
        return self.supercell.positions_ac

    @property
    def slip_radius(self) -> float:
        """Of the ball in which the predictor's slip is turned on, angstrom."""
        return _SLIP * float(np.linalg.norm(self.core.burgers))

    def predictor(self, stiffness_vv: RealArray, slip_radius: float | None = None) -> RealArray:
        """The slip-corrected field (n_sites, 3), angstrom, in a solid of relaxed stiffness (6, 6), crystal's frame.

        `slip_radius` is that of the ball in which the slip is turned on, by default five Burgers vectors.
        """
        solution = stroh(rotated(full_tensor(stiffness_vv), self.orientation.axes_cc))
        within = self.slip_radius if slip_radius is None else slip_radius
        return slip_corrected(solution, self.core, self.supercell.positions_ac, within)

    def start(self, stiffness_vv: RealArray, offset: tuple[float, float] = (0.0, 0.0)) -> RealArray:
        """The predictor with the seed of the core and noise on free sites, (n_sites, 3), angstrom.

        With an `offset`, [x, y] in angstrom, free sites start about a core that is shifted by it; the rim has the
        predictor.

        Raises
        ------
        ConfigError
            The shifted core is on a column of sites, or, with an edge part, in another gap between glide planes.
        """
        u_ac, core = self.predictor(stiffness_vv), self.core
        if any(offset):
            core = Core((core.position[0] + offset[0], core.position[1] + offset[1]), core.burgers)
            self._check_shift(core)
            u_ac[self.free_a] = replace(self, core=core).predictor(stiffness_vv)[self.free_a]
        if self.polarity != 0.0:
            trio_n = nearest_columns(self.supercell.positions_ac, core.position, self.vectors_kc, 3)
            u_ac[trio_n] += self.polarity * np.array(self.core.burgers)
        if self.noise > 0.0:
            stream = np.random.default_rng([self.seed, 6])
            u_ac += np.where(self.free_a[:, None], stream.uniform(-self.noise, self.noise, u_ac.shape), 0.0)
        return u_ac

    def _check_shift(self, core: Core) -> None:
        grid = self.supercell.grid
        assert grid is not None
        x_ac = self.supercell.positions_ac
        nearest = np.linalg.norm(x_ac[:, :2] - np.array(core.position), axis=1).min()
        low, high = sorted((self.core.position[1], core.position[1]))
        crossed = core.burgers[0] != 0.0 and ((x_ac[:, 1] > low - 1e-6) & (x_ac[:, 1] < high + 1e-6)).any()
        if nearest < _ON_COLUMN * grid.lattice_constant or crossed:
            why = "leaves the gap between its glide planes" if crossed else "is on a column of sites"
            at = f"[{core.position[0]:.3f}, {core.position[1]:.3f}] A"
            raise ConfigError(f"[simulation] dislocations offsets: the core at {at} {why}")


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
    polarity: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Disc:
    """The sites closer than `radius` to the core, free, and those of a clamped rim around them. Local.

    Parameters
    ----------
    line, plane, burgers, core, polarity, noise, seed
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
    check_burgers(lattice, burgers)
    burgers_c = frame.in_frame(burgers)
    burgers_c[np.abs(burgers_c) < 1e-9] = 0.0
    if burgers_c[1] != 0.0:
        raise ConfigError(f"dislocations burgers = {list(burgers)}: must lie in plane = {list(plane)}")
    check_size(lattice, lattice_constant, radius, rim)
    size_c = np.diag(frame.lattice.cell_cc) * lattice_constant
    at = np.array(core_offsets(frame, burgers_c, core)[0])
    off = (projected_columns(frame.lattice) - at) * lattice_constant / size_c[:2]
    off -= np.rint(off)
    shown = core if isinstance(core, str) else list(core)
    if np.linalg.norm(off * size_c[:2], axis=1).min() < _ON_COLUMN * lattice_constant:
        raise ConfigError(f"dislocations core = {shown}: is on a column of sites; move it, or leave it out")
    if burgers_c[0] != 0.0 and np.abs(off[:, 1] * size_c[1]).min() < 0.1 * _ON_COLUMN * lattice_constant:
        raise ConfigError(f"dislocations core = {shown}: its glide plane holds sites; move it along y, or leave it out")
    block, centre_c = cut_block(
        frame.lattice, lattice_constant, species, radius + rim, kind="disc", periods=periods,
        offset_c=np.array([*at, 0.0]) * lattice_constant,
    )  # fmt: skip
    made = clamped(block, centre_c, kind="disc", radius=radius, rim=rim, frame=frame)
    bx, by, bz = (float(b) * lattice_constant for b in burgers_c)
    return Disc(
        made.supercell, made.kind, made.centre_c, made.free_a, radius, rim, frame, frame,
        Core((float(centre_c[0]), float(centre_c[1])), (bx, by, bz)), polarity, noise, seed,
    )  # fmt: skip
