"""Where dislocation cores are put between the columns of sites, and which columns lie around them."""

from __future__ import annotations

from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from parmlip.crystal.lattices import Lattice
from parmlip.crystal.oriented import Orientation
from parmlip.errors import ConfigError

RealArray = NDArray[np.float64]
Offset = tuple[float, float]

_SAME: Final = 1e-6  # of the lattice constant


def core_offsets(
    frame: Orientation, burgers_c: RealArray, core: str | Offset, core_minus: Offset | None = None
) -> tuple[Offset, Offset]:
    """Positions of cores of +b and -b in the oriented cell, in lattice constants.

    "auto" is "easy" for screws of half a body diagonal in bcc; for other screws the place farthest from all columns;
    for Burgers vectors with an edge part the middle of the widest gap between glide planes, at the end (+b) and at the
    beginning (-b) of the widest gap between the columns on both sides: in its middle is a saddle, and these two found
    the lowest states of silicon in cells of any size.
    "easy" and "hard" are the centres of the triangles of three columns whose helical sense the screw reverses, or takes
    away.
    """
    if not isinstance(core, str):
        return core, core if core_minus is None else core_minus
    body_diagonal = frame.origin.name == "bcc" and abs(np.linalg.norm(burgers_c) - sqrt(0.75)) < _SAME
    screw = not burgers_c[:2].any()
    triangles = body_diagonal and screw
    if core in ("easy", "hard") and not triangles:
        raise ConfigError(
            f'dislocations core = "{core}": is for screws with a Burgers vector of 1/2<111> in bcc; give a position '
            '[x, y] in lattice constants, or "auto"'
        )
    if triangles:
        return _helical(frame, burgers_c, hard=core == "hard")
    if not screw:
        return _in_gap(frame)
    here = _in_void(frame.lattice)
    return here, here


def projected_columns(lattice: Lattice) -> RealArray:
    """Columns of sites of an oriented cell, (n, 2), in lattice constants, each once."""
    xy_bc = (lattice.basis_bc @ lattice.cell_cc)[:, :2]
    _, first = np.unique(np.round(xy_bc / _SAME / 10).astype(np.int64), axis=0, return_index=True)
    return np.asarray(xy_bc[np.sort(first)])


def nearest_columns(x_ac: RealArray, at: Offset, vectors_kc: RealArray, n_columns: int) -> NDArray[np.int64]:
    """Numbers of the sites of the columns nearest to a point of the periodic plane."""
    shifts = np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ vectors_kc
    off_a = (x_ac[:, :2] - np.array(at))[:, None] + shifts
    distance_a = np.linalg.norm(off_a, axis=2).min(axis=1)
    step = 1e-3
    nearest = np.unique(np.round(np.sort(distance_a) / step)) * step
    for limit in nearest:
        close_n = np.flatnonzero(distance_a < limit + 2 * step)
        columns = np.unique(np.round(x_ac[close_n, :2], 3), axis=0)
        if len(columns) >= n_columns:
            return close_n
    return np.arange(len(x_ac))


def _around(lattice: Lattice) -> tuple[RealArray, RealArray]:
    """Sites of 3 x 3 cells: columns (n, 2) and the heights of one site of each, in lattice constants."""
    x_bc = lattice.basis_bc @ lattice.cell_cc
    cell = np.diag(lattice.cell_cc)
    shifts = np.array([[i, j, 0.0] for i in (-1, 0, 1) for j in (-1, 0, 1)]) * cell
    all_nc = (x_bc[None] + shifts[:, None]).reshape(-1, 3)
    _, first = np.unique(np.round(all_nc[:, :2] / _SAME / 10).astype(np.int64), axis=0, return_index=True)
    return all_nc[first, :2], all_nc[first, 2]


def _centres(lattice: Lattice) -> list[tuple[RealArray, RealArray, RealArray]]:
    """Circumcentre in the cell, corners and heights of every triangle of columns, counter-clockwise, lowest first."""
    columns_nc, height_n = _around(lattice)
    cell = np.diag(lattice.cell_cc)[:2]
    found = []
    for corners in Delaunay(columns_nc).simplices:
        a, b, c = columns_nc[corners]
        if np.cross(b - a, c - a) < 0.0:
            corners = corners[::-1]
            a, b, c = columns_nc[corners]
        if abs(np.cross(b - a, c - a)) < _SAME:
            continue
        centre = np.linalg.solve(2.0 * np.array([b - a, c - a]), [b @ b - a @ a, c @ c - a @ a])
        if (centre > -_SAME).all() and (centre < cell - _SAME).all():
            found.append((np.maximum(centre, 0.0), columns_nc[corners], height_n[corners]))
    return sorted(found, key=lambda t: (round(t[0][1], 5), round(t[0][0], 5)))


def _helical(frame: Orientation, burgers_c: RealArray, *, hard: bool) -> tuple[Offset, Offset]:
    """Triangles by the step of their heights counter-clockwise: the screw adds b/3 to each step.

    For +b the lowest, leftmost one in the cell; for -b that of the three beside it that lies farthest to the right.
    """
    period = float(frame.lattice.cell_cc[2, 2])
    centres: dict[int, list[RealArray]] = {1: [], -1: []}
    for centre, _, height in _centres(frame.lattice):
        step = (height[1] - height[0]) / period % 1.0
        centres[1 if abs(step - 1.0 / 3.0) < 0.01 else -1].append(centre)
    sense = int(np.sign(burgers_c[2])) * (-1 if hard else 1)
    plus = centres[sense][0]
    shifts = np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)]) * np.diag(frame.lattice.cell_cc)[:2]
    others = np.concatenate([centre + shifts for centre in centres[-sense]])
    distance = np.linalg.norm(others - plus, axis=1)
    beside = others[distance < distance.min() + 1e-3]
    minus = beside[np.lexsort((-beside[:, 1], -np.round(beside[:, 0], 6)))[0]]
    return (float(plus[0]), float(plus[1])), (float(minus[0]), float(minus[1]))


def _in_void(lattice: Lattice) -> Offset:
    """The lowest of the points that are farthest from all columns."""
    centres = [(float(np.linalg.norm(corners[0] - c)), c) for c, corners, _ in _centres(lattice)]
    widest = max(r for r, _ in centres)
    first = next(c for r, c in centres if r > widest - _SAME)
    return float(first[0]), float(first[1])


def _in_gap(frame: Orientation) -> tuple[Offset, Offset]:
    columns_nc = projected_columns(frame.lattice)
    width, height = np.diag(frame.lattice.cell_cc)[:2]
    low, high = _widest_gap(columns_nc[:, 1], float(height))
    near = np.concatenate([
        columns_nc[np.abs((columns_nc[:, 1] - y + height / 2) % height - height / 2) < _SAME, 0] for y in (low, high)
    ])  # fmt: skip
    left, right = _widest_gap(near, float(width))
    y = 0.5 * (low + high)
    return (right, y), (left, y)


def _widest_gap(x_n: RealArray, period: float) -> tuple[float, float]:
    x_n = np.sort(np.unique(np.round(x_n % period, 9)))
    gaps = np.diff(np.append(x_n, x_n[0] + period))
    i = int(np.flatnonzero(gaps > gaps.max() - _SAME)[0])
    return float(x_n[i]), float(x_n[i] + gaps[i])
