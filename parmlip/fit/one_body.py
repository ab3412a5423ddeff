"""One-body energies: what is taken off the energies of a data set before the fit, and given back by the fitted law."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from parmlip.errors import DataError
from parmlip.io.extxyz import LabelledStructure


def one_body_energies(
    structures: Sequence[LabelledStructure], how: str | Mapping[str, float], species: Sequence[str]
) -> dict[str, float]:
    """Energy of every species, eV.

    Parameters
    ----------
    structures : training structures
    how : "fit", "isolated" or energies by species
        "fit": least squares of the energies per atom on the composition (the solution of least norm where compositions
        do not tell the species apart). "isolated": from free atoms, of configuration type `IsolatedAtom`.
    species : all species of the data

    Raises
    ------
    DataError
        A species has no energy.
    """
    if not isinstance(how, str):
        missing = [symbol for symbol in species if symbol not in how]
        if missing:
            raise DataError(f"[dataset] one_body has no energy of {', '.join(missing)}, which is in the data")
        return {symbol: float(how[symbol]) for symbol in species}
    if how == "isolated":
        return _of_free_atoms(structures, species)
    bound = [s for s in structures if s.energy is not None and not s.is_free_atom]
    if not bound:
        return dict.fromkeys(species, 0.0)
    fraction_os = np.array([[s.species.count(symbol) / s.n_sites for symbol in species] for s in bound])
    energy_o = np.array([s.energy / s.n_sites for s in bound if s.energy is not None])
    fitted, *_ = np.linalg.lstsq(fraction_os, energy_o, rcond=1e-8)
    return dict(zip(species, fitted.tolist(), strict=True))


def without_one_body(structure: LabelledStructure, energies: Mapping[str, float]) -> float | None:
    """The structure's energy less that of its free atoms, eV; None if it has none."""
    if structure.energy is None:
        return None
    return math.fsum([structure.energy, *(-energies[symbol] for symbol in structure.species)])


def _of_free_atoms(structures: Sequence[LabelledStructure], species: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for s in structures:
        if not s.is_free_atom:
            continue
        if s.n_sites != 1:
            raise DataError(f"{s.where}: type {s.kind} must have one atom, not {s.n_sites}")
        if s.energy is None:
            raise DataError(f"{s.where}: type {s.kind} has no energy")
        (symbol,) = s.species
        if abs(found.get(symbol, s.energy) - s.energy) > 1e-6:
            raise DataError(f"{s.where}: {symbol} has the energy {s.energy:.8g} eV here and {found[symbol]:.8g} before")
        found[symbol] = s.energy
    missing = [symbol for symbol in species if symbol not in found]
    if missing:
        raise DataError(
            f'[dataset] one_body = "isolated": no structure of config_type IsolatedAtom has {", ".join(missing)}; '
            'add it, write "fit", or give the energies'
        )
    return found
