"""Point defects in a structure that was given site by site, and not as a lattice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parmlip.crystal.defects import Defect, Divacancy, Interstitial, Substitution, Vacancy, changed
from parmlip.crystal.neighbours import find_pairs
from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError, GeometryError

# Given coordinates may be rounded: this far from a site, in angstrom, they still mean it.
ON_SITE: Final = 0.1
# Sites closer than this, in angstrom, are taken for a mistake.
CLOSEST: Final = 0.5


def apply_defects_to_structure(
    supercell: Supercell, defects: Sequence[Defect], repeats: tuple[int, int, int]
) -> Supercell:
    """The structure, repeated, with point defects at its sites; what is known of a lattice by name does not exist here.

    Parameters
    ----------
    supercell : Supercell
        The structure after it was repeated.
    defects : sequence of Defect
        Coordinates are in units of the structure's own cell vectors: those of the supercell divided by `repeats`.
    repeats : three ints

    Raises
    ------
    ConfigError
        A defect is not on a site, two are on the same one, or an interstitial is named after a site of a lattice.
    GeometryError
        A new site collides with another, or no site is left.
    """
    if not defects:
        return supercell
    unit_cc = supercell.cell_cc / np.array(repeats)[:, None]
    taken: dict[int, int] = {}  # site -> which defect
    replaced: dict[int, str] = {}
    added: list[tuple[NDArray[np.float64], str]] = []

    def take(at: ArrayLike, which: int) -> int:
        site = _site(supercell, unit_cc, at, f"defect {which + 1}")
        if site in taken:
            raise ConfigError(
                f"[simulation] defects {taken[site] + 1} and {which + 1} are on the same site"
                f" {np.asarray(at, dtype=float).tolist()} of the structure (site {site})"
            )
        taken[site] = which
        return site

    removed: list[int] = []
    for which, defect in enumerate(defects):
        if isinstance(defect, Vacancy):
            removed.append(take(defect.at, which))
        elif isinstance(defect, Divacancy):
            removed += [take(defect.at, which), take(np.add(defect.at, defect.direction), which)]
        elif isinstance(defect, Substitution):
            replaced[take(defect.at, which)] = defect.species
        else:
            added.append((_position(defect, unit_cc, which), defect.species))
    result = changed(supercell, removed, {}, replaced, added)
    if result.n_sites == 0:
        raise GeometryError("no site is left in the structure: it is too small for its vacancies")
    if added:
        new_n = np.arange(result.n_sites - len(added), result.n_sites)
        find_pairs(result.cell_cc, result.periodic, result.positions_ac, CLOSEST, new_n, closest=CLOSEST)
    return result


def _position(defect: Interstitial, unit_cc: NDArray[np.float64], which: int) -> NDArray[np.float64]:
    if defect.position is None:
        raise ConfigError(
            f"[simulation] defect {which + 1}: site '{defect.site}' is named for lattices only; in a structure from a "
            "file an interstitial needs `position`, in units of the file's cell vectors"
        )
    return np.asarray(np.array(defect.position, dtype=float) @ unit_cc)


def _site(supercell: Supercell, unit_cc: NDArray[np.float64], at: ArrayLike, what: str) -> int:
    """Number of the site at the given coordinates or at a periodic image of them."""
    inverse_cc = np.linalg.inv(supercell.cell_cc)
    fraction_ac = (supercell.positions_ac - np.asarray(at, dtype=float) @ unit_cc) @ inverse_cc
    # Rounding finds the nearest image where that is as near as a site is here, whatever the shape of the cell.
    fraction_ac -= np.where(supercell.periodic, np.round(fraction_ac), 0.0)
    distance_a = np.linalg.norm(fraction_ac @ supercell.cell_cc, axis=1)
    site = int(np.argmin(distance_a))
    if distance_a[site] > ON_SITE:
        nearest = ", ".join(f"{x:.6g}" for x in supercell.positions_ac[site] @ np.linalg.inv(unit_cc))
        raise ConfigError(
            f"[simulation] {what}: {np.asarray(at, dtype=float).tolist()} is not a site of the structure (units of the "
            f"file's cell vectors); the nearest, {distance_a[site]:.3g} A away, is [{nearest}]"
        )
    return site
