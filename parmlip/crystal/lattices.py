"""Perfect lattices by name, in their conventional cells."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.errors import ConfigError

IDEAL_C_OVER_A: Final = sqrt(8.0 / 3.0)


@dataclass(frozen=True, eq=False)
class Lattice:
    """A lattice in units of its lattice constant a; two lattices are the same if they are one object.

    Directions that do not move (z in two dimensions, y and z on a chain) have a dummy cell vector of length 1.
    """

    name: str
    dimension: int  # 1, 2 or 3: the first `dimension` components move and are periodic
    cell_cc: NDArray[np.float64]  # (3, 3) rows are the vectors of the conventional cell, in a
    basis_bc: NDArray[np.float64]  # (n_basis, 3) fractional coordinates
    slot_b: NDArray[np.int64]  # (n_basis,) index into the list of species that a user gives
    n_slots: int

    @property
    def n_basis(self) -> int:
        """Number of sites in the conventional cell."""
        return len(self.basis_bc)

    @property
    def periodic(self) -> tuple[bool, bool, bool]:
        """The directions along which supercells repeat."""
        return (True, self.dimension > 1, self.dimension > 2)

    def cell(self, lattice_constant: float) -> NDArray[np.float64]:
        """Conventional cell vectors (3, 3) in angstrom; dummy vectors keep the length 1."""
        scale_c = np.where(self.periodic, lattice_constant, 1.0)
        return self.cell_cc * scale_c[:, None]


def _lattice(
    name: str, dimension: int, cell: list[list[float]], basis: list[list[float]], slots: list[int] | None = None
) -> Lattice:
    cell_cc, basis_bc = np.array(cell, dtype=float), np.array(basis, dtype=float)
    slot_b = np.array(slots or [0] * len(basis), dtype=np.int64)
    for array in (cell_cc, basis_bc, slot_b):
        array.setflags(write=False)
    return Lattice(name, dimension, cell_cc, basis_bc, slot_b, int(slot_b.max()) + 1)


_CUBE: Final = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
_FCC: Final = [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
_DIAMOND: Final = _FCC + [[x + 0.25, y + 0.25, z + 0.25] for x, y, z in _FCC]
_TRIANGULAR: Final = [[1.0, 0.0, 0.0], [0.5, sqrt(0.75), 0.0], [0.0, 0.0, 1.0]]


_ORTHORHOMBIC: Final = [[1.0, 0.0, 0.0], [0.0, sqrt(3.0), 0.0], [0.0, 0.0, 1.0]]


def hcp(c_over_a: float = IDEAL_C_OVER_A) -> Lattice:
    """Hexagonal close packing with cell vectors a(1, 0, 0), a(-1/2, sqrt(3)/2, 0), c(0, 0, 1)."""
    if not (np.isfinite(c_over_a) and c_over_a > 0.0):
        raise ConfigError(f"[crystal] c_over_a = {c_over_a} must be positive (ideal: {IDEAL_C_OVER_A:.6f})")
    cell = [[1.0, 0.0, 0.0], [-0.5, sqrt(0.75), 0.0], [0.0, 0.0, c_over_a]]
    return _lattice("hcp", 3, cell, [[0.0, 0.0, 0.0], [1.0 / 3.0, 2.0 / 3.0, 0.5]])


LATTICES: Final[dict[str, Lattice]] = {
    lattice.name: lattice
    for lattice in (
        _lattice("bcc", 3, _CUBE, [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]),
        _lattice("fcc", 3, _CUBE, _FCC),
        _lattice("sc", 3, _CUBE, [[0.0, 0.0, 0.0]]),
        _lattice("diamond", 3, _CUBE, _DIAMOND),
        _lattice("b2", 3, _CUBE, [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]], [0, 1]),
        hcp(),
        _lattice("triangular", 2, _TRIANGULAR, [[0.0, 0.0, 0.0]]),
        _lattice("square", 2, _CUBE, [[0.0, 0.0, 0.0]]),
        _lattice("chain", 1, _CUBE, [[0.0, 0.0, 0.0]]),
    )
}


# The same crystals in orthorhombic cells, for training cells that are nearly square.
ORTHORHOMBIC: Final[dict[str, Lattice]] = {
    "triangular": _lattice("triangular_orthorhombic", 2, _ORTHORHOMBIC, [[0.0, 0.0, 0.0], [0.5, 0.5, 0.0]]),
}


def lattice_named(name: str, c_over_a: float | None = None) -> Lattice:
    """The lattice of that name; `c_over_a` is for hcp only (default: ideal).

    Raises
    ------
    ConfigError
        The name is unknown, or `c_over_a` is given for another lattice.
    """
    key = name.lower()
    if key not in LATTICES:
        close = difflib.get_close_matches(key, LATTICES, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise ConfigError(f"[crystal] unknown lattice '{name}' (known: {', '.join(LATTICES)}){hint}")
    if c_over_a is None:
        return LATTICES[key]
    if key != "hcp":
        raise ConfigError(f"[crystal] c_over_a = {c_over_a} is for hcp, not for {key}")
    return hcp(c_over_a)
