"""Relaxed structures of a result file, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from parmlip.crystal.regions import NAMES as REGIONS
from parmlip.io.atoms import labelled
from parmlip.io.hdf5 import ResultFile

# Beside positions and forces, where a stage has them: fingerprints of dislocations.
_SITE_FIELDS: Final = ("coordination", "nye")


def relaxed_structures(path: Path) -> dict[str, Atoms]:
    """Every equilibrium with its energy difference, forces, and displacement from the reference configuration.

    The keys are `reference`, `surrogate` and `qmmm`, with `_<point>` behind where there is a sweep. Energies are
    E(u) - E(0), mixed ones E(u) - E(u_0) to the predictor; there is none of mixed forces. With the stage qmmm all have
    its regions, by name; an equilibrium that several points of a sweep share has `region_<point>` where they differ.
    """
    file = ResultFile(path)
    complete = {(name, point) for name, point, _ in file.stages()}
    found = {}
    for name, point in sorted(complete, key=lambda step: (step[0], step[1] or 0)):
        if not name.startswith("relax_") and name != "qmmm":
            continue
        at = point if ("build", point) in complete else None
        positions_ac = file.read("build", "positions", at)
        u_ac, f_ac = np.zeros_like(positions_ac), np.zeros_like(positions_ac)
        d = int(file.read("build", "dimension", at))
        u_ac[:, :d] = file.read(name, "displacement", point)
        f_ac[:, :d] = file.read(name, "forces", point)
        atoms = Atoms(
            file.read("build", "species", at),
            positions=positions_ac + u_ac,
            cell=file.read("build", "cell", at),
            pbc=file.read("build", "periodic", at),
        )
        atoms.set_array("displacement", u_ac)
        if "free" in file.names("build", at):
            atoms.set_array("free", np.asarray(file.read("build", "free", at)))
        for field in _SITE_FIELDS:
            if field in file.names(name, point):
                atoms.set_array(field, np.asarray(file.read(name, field, point)))
        for array, label_a in _regions(file, complete, point).items():
            if len(label_a) == len(atoms):
                atoms.set_array(array, np.array(REGIONS)[label_a])
        where = "" if point is None else f"_{point}"
        energy = float(file.read(name, "energy", point)) if "energy" in file.names(name, point) else None
        found[name.removeprefix("relax_") + where] = labelled(atoms, energy, f_ac)
    return found


def _regions(file: ResultFile, complete: set[tuple[str, int | None]], point: int | None) -> dict[str, NDArray[np.int8]]:
    """Labels of the regions of a point, or of all points for what is common to them, by the name of their array."""
    points = sorted(p for name, p in complete if name == "qmmm" and p is not None and point in (None, p))
    if ("qmmm", None) in complete:
        return {"region": np.asarray(file.read("qmmm", "region"))}
    labels = [np.asarray(file.read("qmmm", "region", p)) for p in points]
    if labels and all(np.array_equal(label_a, labels[0]) for label_a in labels):
        return {"region": labels[0]}
    return {f"region_{p}": label_a for p, label_a in zip(points, labels, strict=True)}
