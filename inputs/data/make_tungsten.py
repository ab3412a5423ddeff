"""Makes tungsten_train.xyz and tungsten_test.xyz, a small data set in the form in which DFT data come.

    python inputs/data/make_tungsten.py [DIRECTORY]

Labels are those of the embedded-atom law W-Zhou, smoothly cut off, with the energy of a free atom added and seeded
Gaussian noise of the size that DFT settings leave: 1 meV an atom on energies, 10 meV/A on force components, 5 meV an
atom on virials. They stand under REF_energy, REF_forces, REF_virial; the vacancies have no virial, as many sets do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk

from parmlip.fit.observations import Configuration, label
from parmlip.potentials.eam import builtin

LATTICE_CONSTANT = 3.165  # angstrom
FREE_ATOM = -4.57  # eV
NOISE = {"energy": 1e-3, "forces": 1e-2, "virial": 5e-3}  # eV an atom, eV / angstrom, eV an atom


def structures(stream: np.random.Generator, n: int) -> list[Atoms]:
    """`n` strained unit cells, `n` rattled cells of 16 atoms, `n` rattled vacancies of 15 atoms."""
    made = []
    for kind in ("strained", "rattled", "vacancy"):
        for _ in range(n):
            atoms = bulk("W", "bcc", LATTICE_CONSTANT, cubic=True) * (1 if kind == "strained" else 2)
            if kind == "vacancy":
                del atoms[0]
            amplitude = 0.05 if kind == "strained" else 0.02
            strain = stream.uniform(-amplitude, amplitude, (3, 3))
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
            atoms.positions += stream.normal(0.0, 0.02 if kind == "strained" else 0.07, atoms.positions.shape)
            atoms.info["config_type"] = kind
            made.append(atoms)
    return made


def labelled(atoms: Atoms, stream: np.random.Generator) -> Atoms:
    """The structure with noisy labels, rounded as files have them."""
    law, n = builtin("W-Zhou", (3.8, 5.0)), len(atoms)
    symbols = tuple(atoms.get_chemical_symbols())
    true = label(law, Configuration(atoms.cell.array, (True, True, True), atoms.positions, symbols))
    assert true.energy is not None
    assert true.forces_ac is not None
    assert true.virial_cc is not None
    skew = stream.normal(0.0, NOISE["virial"] * n, (3, 3))
    atoms.info["REF_energy"] = round(true.energy + n * (FREE_ATOM + stream.normal(0.0, NOISE["energy"])), 6)
    atoms.arrays["REF_forces"] = np.round(true.forces_ac + stream.normal(0.0, NOISE["forces"], (n, 3)), 6)
    if atoms.info["config_type"] != "vacancy":
        atoms.info["REF_virial"] = np.round(true.virial_cc + 0.5 * (skew + skew.T), 6)
    return atoms


def make(directory: Path) -> list[Path]:
    """Write both files."""
    free = Atoms("W", cell=[12.0, 12.0, 12.0], pbc=True, info={"config_type": "IsolatedAtom", "REF_energy": FREE_ATOM})
    written = []
    for name, seed, n in (("train", 1, 40), ("test", 2, 10)):
        stream = np.random.default_rng(seed)
        made = [labelled(atoms, stream) for atoms in structures(stream, n)]
        written.append(directory / f"tungsten_{name}.xyz")
        columns = ["symbols", "positions", "REF_forces"]
        frames = [free, *made] if name == "train" else made
        free.arrays["REF_forces"] = np.zeros((1, 3))
        ase.io.write(written[-1], frames, format="extxyz", columns=columns)
    return written


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
