"""Labelled structures from files: which keys hold energies, forces and virials, and what every structure says.

Any file that ASE reads will do; extxyz is meant. Energies in eV, forces in eV / angstrom, virial = -dE/d(strain) in eV,
stress = -virial / V in eV / angstrom^3 (ASE's sign). All is local.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell
from numpy.typing import NDArray

from parmlip.errors import DataError
from parmlip.io.atoms import read_structures

RealArray = NDArray[np.float64]

# Where labels are looked for when the input names no key: the first that any structure has is taken for all. Upper and
# lower case are the same here. Plain names are also those of the results that ASE makes of a file.
ENERGIES: Final = ("ref_energy", "dft_energy", "energy", "free_energy")
FORCES: Final = ("ref_forces", "ref_force", "dft_forces", "dft_force", "forces", "force")
# Virial and stress of one origin belong together: if a structure has both, they must agree.
VIRIALS: Final = (("ref_virial", "ref_stress"), ("dft_virial", "dft_stress"), ("virial", "stress"))
OBSERVATIONS: Final = ("energy", "force", "virial")
_VOIGT: Final = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
_AGREEMENT: Final = 1e-3  # of virial and stress, relative; files are rounded


@dataclass(frozen=True)
class Keys:
    """Keys under which labels stand; None for what no structure has."""

    energy: str | None = None
    forces: str | None = None
    virial: str | None = None
    stress: str | None = None

    def __str__(self) -> str:
        named = {"energies": self.energy, "forces": self.forces, "virials": self.virial, "stresses": self.stress}
        return ", ".join(f"{what} from {key}" for what, key in named.items() if key) or "no labels"


@dataclass(frozen=True, eq=False)
class LabelledStructure:
    """One structure of a file and what it says; what it does not say is None."""

    where: str  # file and number, for messages
    kind: str  # configuration type
    cell_cc: RealArray  # (3, 3) rows are the cell vectors, angstrom
    periodic: tuple[bool, bool, bool]
    positions_ac: RealArray  # (n_sites, 3) angstrom
    species: tuple[str, ...]
    energy: float | None  # eV
    forces_ac: RealArray | None  # (n_sites, 3) eV / angstrom
    virial_cc: RealArray | None  # (3, 3) eV
    weights: Mapping[str, float]  # by observation, multiply squared residuals
    force_weight_a: RealArray | None  # (n_sites,) likewise, 0 where forces are masked; None if all are 1
    # by observation, standard deviation of the label (eV, eV / angstrom, eV) where the structure tells it
    sigmas: Mapping[str, float] = field(default_factory=dict)

    @property
    def n_sites(self) -> int:
        """Number of sites."""
        return len(self.species)

    @property
    def is_free_atom(self) -> bool:
        """Whether its type says that it gives a one-body energy."""
        return self.kind.lower().replace("_", "").replace("-", "") == "isolatedatom"


def read_labelled(
    train: Sequence[Path], test: Sequence[Path] = (), given: Keys | None = None, type_key: str = "config_type"
) -> tuple[list[LabelledStructure], list[LabelledStructure], Keys]:
    """Structures of the training and of the test files, and the keys that were taken, the same for all files.

    Parameters
    ----------
    train, test : files that ASE reads
    given : Keys, optional
        Keys that the user names; the others are searched in the order of `ENERGIES`, `FORCES`, `VIRIALS`.
    type_key : str
        Key of the configuration type; a structure without it is of type "default".

    Raises
    ------
    DataError
        A file is missing, empty or cannot be read; a key that is given is nowhere; nothing is labelled; a label has a
        wrong shape, is not finite, or contradicts another. The message names file and number.
    GeometryError
        A structure that no law can take.
    """
    found = [
        [(f"{path}, structure {number}", atoms, _entries(atoms)) for number, atoms in enumerate(read_structures(path))]
        for path in (*train, *test)
    ]
    keys = find_keys((entries for file in found for _, _, entries in file), given or Keys())
    files = [[_labelled(where, atoms, entries, keys, type_key) for where, atoms, entries in file] for file in found]
    sets = files[: len(train)], files[len(train) :]
    training, tests = ([structure for file in files for structure in file] for files in sets)
    if all(s.energy is None and s.forces_ac is None and s.virial_cc is None for s in training):
        names = ", ".join(map(str, train))
        raise DataError(f"no structure of {names} has an energy, forces or a virial; its keys: {_known(found)}")
    return training, tests, keys


def find_keys(structures: Iterable[Mapping[str, Any]], given: Keys) -> Keys:
    """The keys of a data set: those given, and the first of the search for the others."""
    spelled = dict.fromkeys(name for entries in structures for name in entries)
    names = {name.lower(): name for name in reversed(spelled)}  # of two spellings the first
    for named in (given.energy, given.forces, given.virial, given.stress):
        if named and named not in spelled:
            raise DataError(f"no structure has the key '{named}'; there are: {', '.join(sorted(spelled))}")

    def first(wanted: Iterable[str]) -> str | None:
        return next((names[name] for name in wanted if name in names), None)

    virial, stress = given.virial or None, given.stress or None
    if not virial and not stress:
        pair = next((pair for pair in VIRIALS if any(name in names for name in pair)), VIRIALS[-1])
        virial, stress = first(pair[:1]), first(pair[1:])
    return Keys(given.energy or first(ENERGIES), given.forces or first(FORCES), virial, stress)


def _entries(atoms: Atoms) -> dict[str, Any]:
    """All that a structure carries: results that ASE made of the file, arrays, and the comment line's keys."""
    results = {} if atoms.calc is None else {k: v for k, v in atoms.calc.results.items() if v is not None}
    return {**results, **atoms.arrays, **atoms.info}


def _known(files: Iterable[Iterable[tuple[str, Atoms, Mapping[str, Any]]]]) -> str:
    names = {name for file in files for _, _, entries in file for name in entries} - {"numbers", "positions"}
    return ", ".join(sorted(names)) or "none"


def _labelled(where: str, atoms: Atoms, entries: Mapping[str, Any], keys: Keys, type_key: str) -> LabelledStructure:
    n = len(atoms)
    energy = _numbers(entries, keys.energy, [()], where)
    forces_ac = _numbers(entries, keys.forces, [(n, 3)], where)
    force_weight_a = _force_weights(entries, n, where)
    if forces_ac is not None and force_weight_a is not None:
        forces_ac = np.where(force_weight_a[:, None] == 0.0, 0.0, forces_ac)  # masked forces may be anything
    virial_cc = _virial(entries, keys, float(atoms.cell.volume), where)
    for name, value in ((keys.energy, energy), (keys.forces, forces_ac), (keys.virial or keys.stress, virial_cc)):
        if value is not None and not np.isfinite(value).all():
            raise DataError(f"{where}: {name} is not finite")
    kind = str(entries.get(type_key, "default")).strip().replace("/", "_") or "default"  # "/" parts HDF5 paths
    return LabelledStructure(
        where=where,
        kind=kind,
        cell_cc=complete_cell(atoms.cell.array),  # molecules have none; directions that are not periodic need any
        periodic=(bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
        positions_ac=np.array(atoms.positions, dtype=float),
        species=tuple(atoms.get_chemical_symbols()),
        energy=None if energy is None else float(energy),
        forces_ac=forces_ac,
        virial_cc=virial_cc,
        weights=_weights(entries, where),
        force_weight_a=force_weight_a,
        sigmas=_sigmas(entries, where),
    )


def _numbers(
    entries: Mapping[str, Any], name: str | None, shapes: Sequence[tuple[int, ...]], where: str
) -> RealArray | None:
    """The entry as an array of one of the shapes; None if it is not there."""
    if name is None or name not in entries:
        return None
    try:
        value = np.asarray(entries[name], dtype=float)
    except (TypeError, ValueError):
        raise DataError(f"{where}: {name} = {str(entries[name])[:40]!r} is not a number or an array") from None
    if value.shape not in shapes:
        right = " or ".join(str(shape) for shape in shapes)
        raise DataError(f"{where}: {name} has shape {value.shape}, not {right}")
    return value


def _tensor(entries: Mapping[str, Any], name: str | None, where: str) -> RealArray | None:
    """A symmetric tensor from 9 components or from 6 in Voigt order."""
    value = _numbers(entries, name, [(3, 3), (9,), (6,)], where)
    if value is None:
        return None
    return value[_VOIGT] if value.shape == (6,) else value.reshape(3, 3)


def _virial(entries: Mapping[str, Any], keys: Keys, volume: float, where: str) -> RealArray | None:
    """The virial, from the stress where there is only that (and a volume)."""
    virial_cc, stress_cc = _tensor(entries, keys.virial, where), _tensor(entries, keys.stress, where)
    if stress_cc is None or volume <= 0.0:
        return virial_cc
    other_cc = -volume * stress_cc
    if virial_cc is None:
        return other_cc
    scale = max(float(np.abs(virial_cc).max()), float(np.abs(other_cc).max()))
    if float(np.abs(virial_cc - other_cc).max()) > _AGREEMENT * scale + 1e-6 * volume:
        raise DataError(
            f"{where}: {keys.virial} and {keys.stress} disagree: traces {np.trace(virial_cc):.6g} eV and "
            f"-V stress {np.trace(other_cc):.6g} eV (virial = -dE/d(strain), stress = -virial / V in eV/A^3)"
        )
    return virial_cc


def _weights(entries: Mapping[str, Any], where: str) -> dict[str, float]:
    """`weight` times `energy_weight`, `force_weight`, `virial_weight`, where a structure has them."""
    weights = {}
    for name in OBSERVATIONS:
        weight = 1.0
        for key in ("weight", f"{name}_weight"):
            if key in entries and not (key == "force_weight" and np.ndim(entries[key]) > 0):
                value = _numbers(entries, key, [()], where)
                if value is None or not (np.isfinite(value) and value >= 0.0):
                    raise DataError(f"{where}: {key} = {value} must be finite and not negative")
                weight *= float(value)
        weights[name] = weight
    return weights


def _sigmas(entries: Mapping[str, Any], where: str) -> dict[str, float]:
    """`energy_sigma`, `force_sigma`, `virial_sigma`, where a structure has them."""
    sigmas = {}
    for name in OBSERVATIONS:
        value = _numbers(entries, f"{name}_sigma", [()], where)
        if value is not None:
            if not (np.isfinite(value) and value > 0.0):
                raise DataError(f"{where}: {name}_sigma = {value} must be finite and greater than 0")
            sigmas[name] = float(value)
    return sigmas


def _force_weights(entries: Mapping[str, Any], n: int, where: str) -> RealArray | None:
    """Per-atom weights: `force_mask` (0 leaves an atom's force out) times `force_weight` or `force_weights`."""
    weight_a = np.ones(n)
    for name in ("force_mask", "force_weight", "force_weights"):
        if name in entries and (name != "force_weight" or np.ndim(entries[name]) > 0):
            value = _numbers(entries, name, [(n,)], where)
            if value is None or not (np.isfinite(value).all() and (value >= 0.0).all()):
                raise DataError(f"{where}: {name} must be finite and not negative")
            weight_a *= (value != 0.0) if name == "force_mask" else value
    return None if (weight_a == 1.0).all() else weight_a
