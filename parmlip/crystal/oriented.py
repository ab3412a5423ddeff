"""Perfect lattices in orthogonal cells along given crystal directions, for dislocations and interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parmlip.crystal.lattices import Lattice
from parmlip.errors import ConfigError

RealArray = NDArray[np.float64]

_LARGEST_INDEX: Final = 24  # of lattice directions that are sought
_ON_SITE: Final = 1e-6  # of the lattice constant


@dataclass(frozen=True, eq=False)
class Orientation:
    """A lattice in the smallest orthogonal cell whose vectors lie along x, y, z."""

    lattice: Lattice  # in this cell; its frame is x, y, z
    axes_cc: RealArray  # (3, 3) rows are x, y, z as unit vectors in the frame of the conventional cell
    directions: tuple[tuple[int, int, int], ...]  # x, y, z in conventional cell vectors
    origin: Lattice  # the lattice in its conventional cell

    def in_frame(self, direction: ArrayLike) -> RealArray:
        """Components along x, y, z, in lattice constants, of a vector given in conventional cell vectors."""
        return np.asarray(self.axes_cc @ (np.asarray(direction, dtype=float) @ self.origin.cell_cc))


def oriented(lattice: Lattice, line: Sequence[int], plane: Sequence[int]) -> Orientation:
    """z along the direction `line`, y along the normal of the lattice plane `plane`, x = y x z.

    Parameters
    ----------
    lattice : Lattice
        Of three dimensions.
    line : three integers
        Direction in conventional cell vectors [u v w].
    plane : three integers
        Miller indices (h k l) of a plane that holds the line.

    Raises
    ------
    ConfigError
        The line is not in the plane, or no lattice vector lies along x or y, so that no orthogonal cell repeats.
    """
    if lattice.dimension != 3:
        raise ConfigError(f"dislocations: {lattice.name} has {lattice.dimension} dimension(s); lines need three")
    if not any(line) or not any(plane):
        raise ConfigError(f"dislocations line = {list(line)}, plane = {list(plane)}: must not be zero")
    if int(np.dot(line, plane)) != 0:
        raise ConfigError(
            f"dislocations line = {list(line)}: does not lie in plane = {list(plane)}; h u + k v + l w must be 0"
        )
    cell_cc = lattice.cell_cc
    z_c = np.asarray(line, dtype=float) @ cell_cc
    y_c = np.linalg.solve(cell_cc, np.asarray(plane, dtype=float))  # the reciprocal vector
    x_c = np.cross(y_c, z_c)
    directions, vectors = [], []
    for name, v_c in (("x", x_c), ("y", y_c), ("z", z_c)):
        whole = _whole_direction(v_c @ np.linalg.inv(cell_cc))
        if whole is None:
            raise ConfigError(
                f"dislocations line = {list(line)}, plane = {list(plane)}: no lattice vector of {lattice.name} lies "
                f"along {name}, so that no orthogonal cell repeats"
            )
        directions.append(whole)
        vectors.append(shortest_translation(lattice, whole))
    axes_cc = np.stack([v / np.linalg.norm(v) for v in (x_c, y_c, z_c)])
    sizes = np.array([np.linalg.norm(v @ cell_cc) for v in vectors])
    return Orientation(_recut(lattice, axes_cc, np.diag(sizes)), axes_cc, tuple(directions), lattice)


def is_translation(lattice: Lattice, vector: ArrayLike) -> bool:
    """Whether the crystal shifted by `vector` (in conventional cell vectors) is itself, species included."""
    moved_bc = lattice.basis_bc + np.asarray(vector, dtype=float)
    difference_bnc = moved_bc[:, None] - lattice.basis_bc[None, :]
    difference_bnc -= np.rint(difference_bnc)
    same_bn = (np.abs(difference_bnc) < _ON_SITE).all(axis=2) & (lattice.slot_b[:, None] == lattice.slot_b[None, :])
    return bool(same_bn.any(axis=1).all())


def check_burgers(lattice: Lattice, burgers: Sequence[float]) -> None:
    """Raise `ConfigError` for a Burgers vector (in conventional cell vectors) that is no lattice vector, or zero."""
    if is_translation(lattice, burgers) and any(burgers):
        return
    d = lattice.dimension
    vectors = [*(lattice.basis_bc - lattice.basis_bc[0])[1:], *np.eye(3)[:d]]
    found = [v for v in vectors if is_translation(lattice, v)]
    shortest = min(found, key=lambda v: round(float(np.linalg.norm(v @ lattice.cell_cc)), 9))
    raise ConfigError(
        f"dislocations burgers = {list(burgers)}: is not a lattice vector of {lattice.name} (in units of the "
        f"conventional cell vectors); a shortest one is {shortest.tolist()}; partials and faulted loops are not built"
    )


def shortest_translation(lattice: Lattice, direction: Sequence[int]) -> RealArray:
    """The shortest lattice vector along a direction of coprime integers, in conventional cell vectors."""
    for parts in range(6, 1, -1):
        if is_translation(lattice, np.array(direction) / parts):
            return np.array(direction) / parts
    return np.array(direction, dtype=float)


def recut(of: Lattice, cell_cc: RealArray) -> Lattice:
    """The lattice in another cell of its frame, whose vectors (rows, in lattice constants) must be translations."""
    return _recut(of, np.eye(3), cell_cc)


def _recut(of: Lattice, axes_cc: RealArray, cell_cc: RealArray) -> Lattice:
    inverse_cc = np.linalg.inv(cell_cc)
    # All sites of the conventional cells that the corners of the new cell span.
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) @ cell_cc @ axes_cc
    span = corners @ np.linalg.inv(of.cell_cc)
    low, high = np.floor(span.min(axis=0) - 1.0).astype(int), np.ceil(span.max(axis=0) + 1.0).astype(int)
    cells_nc = np.stack(np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(low, high, strict=True)), indexing="ij"), -1)
    site_nbc = cells_nc.reshape(-1, 1, 3) + of.basis_bc[None]
    slot_n = np.tile(of.slot_b, len(site_nbc))
    fraction_nc = site_nbc.reshape(-1, 3) @ of.cell_cc @ axes_cc.T @ inverse_cc
    inside = ((fraction_nc > -1e-7) & (fraction_nc < 1.0 - 1e-7)).all(axis=1)
    fraction_nc, slot_n = np.where(np.abs(fraction_nc) < 1e-7, 0.0, fraction_nc)[inside], slot_n[inside]
    order = np.lexsort((*np.round(fraction_nc, 6).T[::-1],))
    wanted = round(of.n_basis * abs(np.linalg.det(cell_cc) / np.linalg.det(of.cell_cc)))
    if len(order) != wanted:
        raise ConfigError(f"dislocations: a cell of {of.name} holds {len(order)} sites where {wanted} are due")
    arrays = (np.array(cell_cc, dtype=float), fraction_nc[order], slot_n[order])
    for array in arrays:
        array.setflags(write=False)
    return Lattice(f"{of.name.removesuffix(' oriented')} oriented", 3, *arrays, of.n_slots)


def _whole_direction(v_c: RealArray) -> tuple[int, int, int] | None:
    """Coprime integers along a vector, or None."""
    scaled = v_c / np.abs(v_c).max()
    parts = [Fraction(float(x)).limit_denominator(_LARGEST_INDEX) for x in scaled]
    common = 1
    for part in parts:
        common = common * part.denominator // gcd(common, part.denominator)
    whole = [int(part * common) for part in parts]
    if max(abs(x) for x in whole) > _LARGEST_INDEX or not np.allclose(np.array(whole) / common, scaled, atol=1e-9):
        return None
    divisor = gcd(*whole)
    return (whole[0] // divisor, whole[1] // divisor, whole[2] // divisor)
