"""Structures of files evaluated by a law of whole structures: for `parmlip reference` and `parmlip evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from parmlip import construct
from parmlip.config import Study
from parmlip.errors import ConfigError
from parmlip.fit.total_labels import Answers, Structure, ask, group_size
from parmlip.io.atoms import labelled
from parmlip.io.reference_cache import CachedLaw


def evaluate_total(study: Study, structures: Sequence[Any], *, comm: MPI.Comm, keep: bool) -> tuple[list[Any], Answers]:
    """Copies of the structures (ASE Atoms) with energy, forces and virial by the law of [reference].

    Collective on ``comm``; the same on every rank. With `keep` every result goes to the cache as soon as it is there,
    and what the cache has is not asked for again.

    Raises
    ------
    DataError
        The law fails for a structure; the message names it and the rank.
    """
    law = construct.any_law(study)
    if not isinstance(law, CachedLaw):
        raise ConfigError(f'[reference] kind = "{study.reference.kind}": has no results that are worth keeping')
    size = group_size(law, study.reference.ranks_per_calculator, comm.size)
    given: list[Structure] = [
        (
            np.array(atoms.cell.array),
            (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
            np.array(atoms.positions, dtype=float),
            tuple(atoms.get_chemical_symbols()),
        )
        for atoms in structures
    ]
    answers = ask(law if keep else law.law, given, comm=comm, what="structures", ranks_per_group=size)
    found = zip(structures, answers.results, strict=True)
    return [labelled(atoms, r.energy, r.forces_ac, r.virial_cc) for atoms, r in found], answers


def with_prefix(atoms: Any, prefix: str) -> Any:
    """A copy whose labels stand under keys that nothing takes for a calculator's: `REF_energy`, `REF_forces`, ..."""
    copy = atoms.copy()
    copy.info.pop("virial", None)
    results = atoms.calc.results
    copy.info[f"{prefix}energy"] = results["energy"]
    copy.arrays[f"{prefix}forces"] = results["forces"]
    if "virial" in atoms.info:
        copy.info[f"{prefix}virial"] = atoms.info["virial"]
    return copy


def table_by_type(structures: Sequence[Any]) -> list[str]:
    """Lines of text: for each configuration type structures, atoms, mean energy per atom and largest force."""
    kinds = [str(atoms.info.get("config_type", "default")) for atoms in structures]
    width = max(len("type"), *(len(kind) for kind in kinds))
    lines = [f"{'type':<{width}} {'structures':>10} {'atoms':>8} {'eV/atom':>14} {'max force eV/A':>15}"]
    for kind in dict.fromkeys(kinds):
        of = [atoms for atoms, k in zip(structures, kinds, strict=True) if k == kind]
        per_atom = np.mean([atoms.calc.results["energy"] / len(atoms) for atoms in of])
        force = max(float(np.abs(atoms.calc.results["forces"]).max()) for atoms in of)
        n_atoms = sum(map(len, of))
        lines.append(f"{kind:<{width}} {len(of):>10} {n_atoms:>8} {per_atom:>14.6f} {force:>15.6f}")
    return lines
