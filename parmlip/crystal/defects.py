"""Point defects: sites taken out of a perfect supercell, put into it, or given another species."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import find_pairs
from parmlip.crystal.supercell import Grid, Supercell, lattice_positions
from parmlip.errors import ConfigError, GeometryError

Vector = tuple[float, float, float]
FloatArray = NDArray[np.float64]

# Named interstitial sites: offset from a host site in conventional-cell coordinates. On the second sublattice of
# diamond and hcp, which the inversion maps onto the first, the offset is reversed.
_CUBIC: Final[dict[str, dict[str, Vector]]] = {
    "bcc": {"octahedral": (0.5, 0.5, 0.0), "tetrahedral": (0.5, 0.25, 0.0), "crowdion": (0.25, 0.25, 0.25)},
    "fcc": {"octahedral": (0.5, 0.5, 0.5), "tetrahedral": (0.25, 0.25, 0.25), "crowdion": (0.25, 0.25, 0.0)},
    "sc": {"body_centre": (0.5, 0.5, 0.5), "crowdion": (0.5, 0.0, 0.0)},
    "diamond": {
        "tetrahedral": (0.5, 0.5, 0.5),
        "hexagonal": (0.625, 0.625, 0.625),
        "bond_centre": (0.125, 0.125, 0.125),
    },
}
OFFSETS: Final[dict[str, dict[str, Vector]]] = _CUBIC | {
    "b2": _CUBIC["bcc"],
    "hcp": {
        "octahedral": (2.0 / 3.0, 1.0 / 3.0, 0.25),
        "tetrahedral": (1.0 / 3.0, 2.0 / 3.0, 0.125),  # for the ideal c/a
        "crowdion": (0.5, 0.0, 0.0),
    },
    "triangular": {"triangle_centre": (1.0 / 3.0, 1.0 / 3.0, 0.0), "crowdion": (0.5, 0.0, 0.0)},
    "triangular_orthorhombic": {"triangle_centre": (0.5, 1.0 / 6.0, 0.0), "crowdion": (0.5, 0.0, 0.0)},
    "square": {"square_centre": (0.5, 0.5, 0.0), "crowdion": (0.5, 0.0, 0.0)},
    "chain": {"crowdion": (0.5, 0.0, 0.0)},
}
# Dumbbells: direction in conventional-cell coordinates, and the row's distance between sites in units of that vector.
_ROWS_100: Final = {"dumbbell_100": ((1.0, 0.0, 0.0), 1.0)}
_ROWS_FACE: Final = {"dumbbell_110": ((1.0, 1.0, 0.0), 0.5), "dumbbell_111": ((1.0, 1.0, 1.0), 1.0)}
_ROWS_BODY: Final = {"dumbbell_110": ((1.0, 1.0, 0.0), 1.0), "dumbbell_111": ((1.0, 1.0, 1.0), 0.5)}
DUMBBELLS: Final[dict[str, dict[str, tuple[Vector, float]]]] = {
    "bcc": _ROWS_100 | _ROWS_BODY,
    "b2": _ROWS_100 | _ROWS_BODY,
    "fcc": _ROWS_100 | _ROWS_FACE,
    "diamond": _ROWS_100 | {"dumbbell_110": _ROWS_FACE["dumbbell_110"]},
    "sc": _ROWS_100 | {"dumbbell_110": ((1.0, 1.0, 0.0), 1.0), "dumbbell_111": ((1.0, 1.0, 1.0), 1.0)},
    "hcp": _ROWS_100 | {"dumbbell_001": ((0.0, 0.0, 1.0), 1.0)},
    "triangular": _ROWS_100,
    "triangular_orthorhombic": _ROWS_100,
    "square": _ROWS_100 | {"dumbbell_110": ((1.0, 1.0, 0.0), 1.0)},
    "chain": {},
}
_NEAREST: Final = {"bcc": sqrt(0.75), "b2": sqrt(0.75), "fcc": sqrt(0.5), "diamond": sqrt(0.1875)}  # others: 1, in a

# Given coordinates may be rounded (0.333 for 1/3): this far from a lattice site, in a, they still mean it.
ON_SITE: Final = 2e-3
# Sites closer than this fraction of the nearest-neighbour distance are taken for a mistake.
CLOSEST: Final = 0.2


@dataclass(frozen=True)
class Vacancy:
    """The lattice site at `at` is empty. Coordinates of all defects: units of the conventional-cell vectors."""

    at: Vector


@dataclass(frozen=True)
class Divacancy:
    """The lattice sites at `at` and at `at + direction` are empty."""

    at: Vector
    direction: Vector


@dataclass(frozen=True)
class Substitution:
    """The lattice site at `at` has another species."""

    at: Vector
    species: str


@dataclass(frozen=True)
class Interstitial:
    """One more site: at the given `position`, or at the named `site` that belongs to the lattice site at `at`.

    A dumbbell moves its host, which keeps its lattice number, by minus half of the separation, and the new site stands
    at plus half. The separation is 0.8 nearest-neighbour distances, or 2/3 of the row's spacing if that is less (three
    equal gaps, as in a crowdion centred on a site).
    """

    species: str
    position: Vector | None = None
    site: str | None = None
    at: Vector = (0.0, 0.0, 0.0)


Defect = Vacancy | Divacancy | Interstitial | Substitution


def apply_defects(supercell: Supercell, defects: Sequence[Defect]) -> Supercell:
    """The supercell with point defects; it wraps periodically, so coordinates may lie outside.

    Remaining lattice sites keep their order and number; interstitials come last, in the order given, wrapped into the
    cell, with number -1.

    Raises
    ------
    ConfigError
        A defect is not on a lattice site, two are on the same one, or a named site is unknown.
    GeometryError
        A new site collides with another, or no site is left.
    """
    if not defects:
        return supercell
    grid = supercell.grid
    if grid is None:
        raise ConfigError("[simulation] defects need a lattice here; see `apply_defects_to_structure` for others")
    if len(grid.number_a) != grid.lattice.n_basis * int(np.prod(grid.repeats)) or (grid.number_a < 0).any():
        raise ConfigError("[simulation] defects are applied once, to a perfect supercell")

    taken: dict[int, int] = {}  # lattice site -> which defect
    removed: list[int] = []
    moved: dict[int, FloatArray] = {}
    replaced: dict[int, str] = {}
    added: list[tuple[FloatArray, str]] = []

    def take(at: ArrayLike, which: int) -> int:
        number = lattice_site(grid, at, f"defect {which + 1}")
        if number in taken:
            raise ConfigError(
                f"[simulation] defects {taken[number] + 1} and {which + 1} are on the same lattice site: leave one out"
            )
        taken[number] = which
        return number

    for which, defect in enumerate(defects):
        if isinstance(defect, Vacancy):
            removed.append(take(defect.at, which))
        elif isinstance(defect, Divacancy):
            removed.append(take(defect.at, which))
            removed.append(take(np.add(defect.at, defect.direction), which))
        elif isinstance(defect, Substitution):
            replaced[take(defect.at, which)] = _symbol(defect.species, which)
        elif defect.site is not None and defect.site in DUMBBELLS[grid.lattice.name]:
            if defect.position is not None:
                raise ConfigError(f"[simulation] defect {which + 1}: give `site` or `position`, not both")
            number = take(defect.at, which)
            half_c = _half_dumbbell(grid, defect.site)
            host_c = lattice_positions(grid, np.array([number]))[0]
            moved[number] = host_c - half_c
            added.append((host_c + half_c, _symbol(defect.species, which)))
        else:
            added.append((_interstitial_position(grid, defect, which), _symbol(defect.species, which)))

    number_a = np.concatenate([np.delete(grid.number_a, removed), np.full(len(added), -1, dtype=np.int64)])
    result = replace(changed(supercell, removed, moved, replaced, added), grid=replace(grid, number_a=number_a))
    if result.n_sites == 0:
        raise GeometryError("no site is left in the supercell: it is too small for its vacancies")
    new_n = np.flatnonzero(np.isin(number_a, [-1, *moved]))
    if len(new_n):
        closest = CLOSEST * nearest_distance(grid.lattice) * grid.lattice_constant
        find_pairs(result.cell_cc, result.periodic, result.positions_ac, closest, new_n, closest=closest)
    return result


def changed(
    supercell: Supercell,
    removed: Sequence[int],
    moved: Mapping[int, FloatArray],
    replaced: Mapping[int, str],
    added: Sequence[tuple[FloatArray, str]],
) -> Supercell:
    """Without some sites, with some elsewhere or of another species, and with new ones last, wrapped into the cell.

    The others keep their order; the result has no grid.
    """
    symbols = list(supercell.species)
    for symbol in [*replaced.values(), *(symbol for _, symbol in added)]:
        if symbol not in symbols:
            symbols.append(symbol)
    positions_ac, species_a = supercell.positions_ac.copy(), supercell.species_a.copy()
    for number, x_c in moved.items():
        positions_ac[number] = x_c
    for number, symbol in replaced.items():
        species_a[number] = symbols.index(symbol)
    extra_nc = _wrapped(supercell, np.array([x_c for x_c, _ in added]).reshape(-1, 3))
    new_n = np.array([symbols.index(symbol) for _, symbol in added], dtype=np.int64)
    return replace(
        supercell,
        positions_ac=np.concatenate([np.delete(positions_ac, removed, axis=0), extra_nc]),
        species_a=np.concatenate([np.delete(species_a, removed), new_n]),
        species=tuple(symbols),
        grid=None,
    )


def nearest_distance(lattice: Lattice) -> float:
    """Distance of nearest neighbours in units of the lattice constant."""
    if lattice.name == "hcp":
        return min(1.0, sqrt(1.0 / 3.0 + 0.25 * lattice.cell_cc[2, 2] ** 2))
    return _NEAREST.get(lattice.name.removesuffix(" oriented"), 1.0)


def lattice_site(grid: Grid, at: ArrayLike, what: str) -> int:
    """Number in the perfect supercell of the site with the given conventional-cell coordinates.

    Raises
    ------
    ConfigError
        There is no site; the message names `what` and the nearest one.
    """
    at_c = _coordinates(grid.lattice, at, what)
    cells_bc = np.rint(at_c - grid.lattice.basis_bc)
    sites_bc = cells_bc + grid.lattice.basis_bc
    # The nearest site is among those that rounding gives only in a cell that is not too oblique, as all of ours.
    distance_b = np.linalg.norm((at_c - sites_bc) @ grid.lattice.cell_cc, axis=1)
    b = int(np.argmin(distance_b))
    if distance_b[b] > ON_SITE:
        nearest = ", ".join(f"{x:.6g}" for x in sites_bc[b])
        raise ConfigError(
            f"[simulation] {what}: {at_c.tolist()} is not a site of the {grid.lattice.name} lattice"
            f" (conventional-cell coordinates); the nearest is [{nearest}]"
        )
    index_c = tuple(int(i) for i in np.mod(cells_bc[b], grid.repeats))
    return int(np.ravel_multi_index(index_c, grid.repeats)) * grid.lattice.n_basis + b


def _coordinates(lattice: Lattice, at: ArrayLike, what: str) -> FloatArray:
    at_c = np.array(at, dtype=float)
    d = lattice.dimension
    if at_c.shape not in ((3,), (d,)) or not np.isfinite(at_c).all():
        raise ConfigError(f"[simulation] {what}: {at_c.tolist()} should be {d} finite conventional-cell coordinates")
    if at_c[d:].any():
        raise ConfigError(f"[simulation] {what}: {at_c.tolist()} lies outside the {d}-dimensional lattice")
    return np.append(at_c[:d], np.zeros(3 - d))


def _symbol(species: str, which: int) -> str:
    if not species:
        raise ConfigError(f"[simulation] defect {which + 1} needs a species")
    return species


def _interstitial_position(grid: Grid, defect: Interstitial, which: int) -> FloatArray:
    lattice, what = grid.lattice, f"defect {which + 1}"
    if (defect.site is None) == (defect.position is None):
        raise ConfigError(f"[simulation] {what}: an interstitial needs either `site` or `position`")
    if defect.position is not None:
        return _coordinates(lattice, defect.position, what) @ lattice.cell(grid.lattice_constant)
    known = OFFSETS[lattice.name]
    if defect.site not in known:
        names = ", ".join([*known, *DUMBBELLS[lattice.name]])
        raise ConfigError(f"[simulation] {what}: {lattice.name} has no interstitial site '{defect.site}' (has {names})")
    number = lattice_site(grid, defect.at, what)
    offset_c = _offset(lattice, str(defect.site), number % lattice.n_basis)
    return lattice_positions(grid, np.array([number]))[0] + offset_c @ lattice.cell(grid.lattice_constant)


def _offset(lattice: Lattice, site: str, basis: int) -> FloatArray:
    """Of a named interstitial site from its host, the site number `basis` of the cell, in conventional-cell vectors."""
    reversed_ = {"diamond": 4, "hcp": 1}.get(lattice.name, lattice.n_basis)
    return (1.0 if basis < reversed_ else -1.0) * np.array(OFFSETS[lattice.name][site])


def middle(defect: Defect, lattice: Lattice) -> Vector:
    """What a defect is around, in conventional-cell coordinates: a divacancy the point between its two sites.

    Of dumbbells it is the host's site.
    """
    at_c = np.array(defect.at, dtype=float)
    if isinstance(defect, Divacancy):
        at_c = at_c + 0.5 * np.array(defect.direction)
    elif isinstance(defect, Interstitial) and defect.position is not None:
        at_c = np.array(defect.position, dtype=float)
    elif isinstance(defect, Interstitial) and defect.site in OFFSETS.get(lattice.name, {}):
        off_bc = at_c - lattice.basis_bc
        basis = int(np.linalg.norm((off_bc - np.rint(off_bc)) @ lattice.cell_cc, axis=1).argmin())
        at_c = at_c + _offset(lattice, str(defect.site), basis)
    x, y, z = at_c.tolist()
    return x, y, z


def _half_dumbbell(grid: Grid, name: str) -> FloatArray:
    direction, spacing = DUMBBELLS[grid.lattice.name][name]
    along_c = np.array(direction) @ grid.lattice.cell(grid.lattice_constant)
    length = float(np.linalg.norm(along_c))
    separation = min(0.8 * nearest_distance(grid.lattice) * grid.lattice_constant, 2.0 / 3.0 * spacing * length)
    return 0.5 * separation / length * along_c


def _wrapped(supercell: Supercell, x_nc: FloatArray) -> FloatArray:
    fraction_nc = np.floor(x_nc @ np.linalg.inv(supercell.cell_cc) + 1e-9)
    return x_nc - np.where(supercell.periodic, fraction_nc, 0.0) @ supercell.cell_cc
