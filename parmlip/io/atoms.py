"""Structure files through ASE: extxyz with energy, forces and stress or virial under ASE's keys. All is local.

Conventions: `virial = -dE/d(strain)` in eV; stress = -virial / V in eV / angstrom^3, ASE's sign.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from parmlip.errors import DataError, GeometryError


def read_structures(path: Path) -> list[Atoms]:
    """Every structure of a file that ASE reads.

    Raises
    ------
    DataError
        The file is missing, empty, or ASE cannot read it.
    GeometryError
        A position or a cell is not finite, or a periodic direction has no cell vector.
    """
    # parallel=False: ASE finds mpi4py and would broadcast from its rank 0 to ranks that do not come here
    path = Path(path)
    if not path.is_file():
        raise DataError(f"structure file {path} does not exist")
    try:
        structures = ase.io.read(path, index=":", parallel=False)
    except Exception as error:  # readers of ASE raise whatever their parsing raises
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"structure file {path} cannot be read: {told}") from error
    if not structures:
        raise DataError(f"structure file {path} has no structure")
    for number, atoms in enumerate(structures):
        check_structure(atoms, f"{path}, structure {number}")
    return list(structures)


def check_structure(atoms: Atoms, where: str) -> None:
    """Raise for a structure that no law can take; `where` begins the message."""
    if len(atoms) == 0:
        raise DataError(f"{where}: has no atoms")
    if not np.isfinite(atoms.positions).all():
        site = int(np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))[0])
        raise GeometryError(f"{where}: position of atom {site} is not finite")
    cell = np.asarray(atoms.cell)
    if not np.isfinite(cell).all():
        raise GeometryError(f"{where}: the cell is not finite")
    lengths = np.linalg.norm(cell, axis=1)
    for axis in np.flatnonzero(atoms.pbc):
        if lengths[axis] < 1e-8:
            raise GeometryError(f"{where}: direction {axis} is periodic but has no cell vector")
    if atoms.pbc.any() and np.linalg.matrix_rank(cell[atoms.pbc], tol=1e-8) < int(atoms.pbc.sum()):
        raise GeometryError(f"{where}: the cell vectors are linearly dependent")


def labelled(
    atoms: Atoms,
    energy: float | None,
    forces_ac: NDArray[np.float64],
    virial_cc: NDArray[np.float64] | None = None,
    site_energies_a: NDArray[np.float64] | None = None,
) -> Atoms:
    """A copy with results under ASE's keys: energy (eV), forces (n, 3) (eV / angstrom), virial (3, 3) (eV).

    Site energies (n,) (eV) are "energies". A fully periodic cell carries the stress, and every structure the virial
    (in `info`); mixed forces have no energy (None). A virial or stress that the structure brought is another law's, and
    left out.
    """
    copy = atoms.copy()
    for name in ("virial", "stress"):
        copy.info.pop(name, None)
    results: dict[str, Any] = {"forces": np.asarray(forces_ac)}
    if energy is not None:
        results["energy"] = energy
    if site_energies_a is not None:
        results["energies"] = np.asarray(site_energies_a)
    if virial_cc is not None:
        copy.info["virial"] = np.asarray(virial_cc)
        if atoms.pbc.all():
            stress = -np.asarray(virial_cc) / atoms.get_volume()
            results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def write_structures(path: Path, structures: Sequence[Atoms]) -> None:
    """Write extxyz; the file appears complete or not at all."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    try:
        ase.io.write(part, list(structures), format="extxyz", parallel=False)
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
