"""Structures of files evaluated by a law of whole structures: for `parmlip reference` and `parmlip evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from mpi4py import MPI

from parmlip import construct
from parmlip.config import Study
from parmlip.construct_warnings import charge_warning
from parmlip.errors import ConfigError
from parmlip.evaluate_overlaps import warn_of_overlaps
from parmlip.fit.total_derivatives import asked_at_once, hessian_by_differences, symmetric
from parmlip.io.answers import Answers, Structure, ask, group_size
from parmlip.io.atoms import labelled
from parmlip.io.hessians import BlockRows, write_hessians
from parmlip.io.reference_cache import CachedLaw
from parmlip.parallel.comm import on_root
from parmlip.parallel.farm import farm
from parmlip.potentials.tight_binding_response import Difference, respond, response_law
from parmlip.potentials.total import TotalLaw

logger = logging.getLogger(__name__)

_LABELS: Final = ("energy", "free_energy", "energies", "force", "forces", "virial", "stress")


def evaluate_total(study: Study, structures: Sequence[Any], *, comm: MPI.Comm, keep: bool) -> tuple[list[Any], Answers]:
    """Copies of the structures (ASE Atoms) with energy, forces and virial by the law of [reference].

    Site energies ("energies") come with them where the law has them.

    Collective on ``comm``; the same on every rank. With `keep` every result goes to the cache as soon as it is there,
    and what the cache has is not asked for again.

    Raises
    ------
    DataError
        The law fails for a structure; the message names it and the rank.
    """
    law, size = _law(study, comm)
    warn_of_overlaps(structures, comm=comm)
    line = charge_warning(study)
    if line is not None:
        logger.warning("%s", line)
    answers = ask(law if keep else law.law, _given(structures), comm=comm, what="structures", ranks_per_group=size)
    found = zip(structures, answers.results, strict=True)
    return [labelled(atoms, r.energy, r.forces_ac, r.virial_cc, r.site_energies_a) for atoms, r in found], answers


def write_hessians_of_total(study: Study, structures: Sequence[Any], path: Path, *, comm: MPI.Comm) -> None:
    """Hessians of the structures to `path`, each with the error that was found: "error", eV / angstrom^2.

    Dense tight binding by linear response, one site a piece of work; other laws by central differences of forces,
    which ask for 12 structures a site.

    Collective on ``comm``.

    Raises
    ------
    DataError
        The law fails; the message names the piece and the rank.
    """
    law, size = _law(study, comm)
    given = _given(structures)
    inner = response_law(law.law)
    if inner is None:
        found = [_by_differences(law.law, i, given[i], size, comm) for i in range(len(given))]
    else:
        pieces = [(i, site) for i, structure in enumerate(given) for site in range(len(structure[2]))]
        logger.info("Hessians by linear response: %d sites, 3 responses each", len(pieces))
        last: dict[int, Any] = {}  # the states of the structure that this rank works on

        def work(piece: int) -> Any:
            i, site = pieces[piece]
            if i not in last:
                last.clear()
                last[i] = respond(inner, *given[i][:3])
            return last[i].force_constants([site])[0]

        rows, _ = farm(work, len(pieces), comm=comm, what="Hessian rows", ranks_per_group=size)
        found = []
        for i, structure in enumerate(given):
            of_sites = [rows[k] for k, (of, _) in enumerate(pieces) if of == i]
            found.append(symmetric(Difference(np.array(of_sites), 0.0), len(structure[2])))
    for i, hessian in enumerate(found):
        largest = float(np.abs(hessian.values).max())
        logger.info("structure %d: Hessian up to %.4g eV/A^2, error %.1e", i, largest, hessian.error)
    d = study.crystal.dimensions if "crystal" in study.tables else 3
    blocks = [_block_rows(hessian, d) for hessian in found]
    on_root(comm, "writing Hessians", write_hessians, path, blocks)


def _by_differences(law: TotalLaw, number: int, structure: Structure, size: int, comm: MPI.Comm) -> Difference:
    n = len(structure[2])
    logger.info("structure %d: Hessian by differences, %d structures of %d sites", number, 12 * n, n)
    what = f"displaced structures of structure {number}"
    return asked_at_once(
        lambda evaluate: hessian_by_differences(evaluate, structure),
        lambda asked: ask(law, asked, comm=comm, what=what, ranks_per_group=size).results,
    )


def _block_rows(hessian: Difference, d: int) -> BlockRows:
    """All blocks: electrons and unknown programs have no cutoff."""
    n = len(hessian.values)
    block_bcd = hessian.values[:, :d, :, :d].transpose(0, 2, 1, 3).reshape(n * n, d, d)
    return BlockRows(np.arange(n + 1) * n, np.tile(np.arange(n), n), block_bcd, hessian.error)


def _law(study: Study, comm: MPI.Comm) -> tuple[CachedLaw, int]:
    """The law, and how many ranks share one calculator."""
    law = construct.any_law(study)
    if not isinstance(law, CachedLaw):
        raise ConfigError(f'[reference] kind = "{study.reference.kind}": has no results that are worth keeping')
    return law, group_size(law, study.reference.ranks_per_calculator, comm.size)


def _given(structures: Sequence[Any]) -> list[Structure]:
    return [
        (
            np.array(atoms.cell.array),
            (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
            np.array(atoms.positions, dtype=float),
            tuple(atoms.get_chemical_symbols()),
        )
        for atoms in structures
    ]


def with_prefix(atoms: Any, prefix: str) -> Any:
    """A copy whose labels stand under keys that nothing takes for a calculator's: `REF_energy`, `REF_forces`, ...

    Labels that were there under such keys are another law's, and left out.
    """
    copy = atoms.copy()
    copy.info.pop("virial", None)
    old = {f"{prefix}{label}".lower() for label in _LABELS}
    for entries in (copy.info, copy.arrays):
        for name in [name for name in entries if name.lower() in old]:
            del entries[name]
    results = atoms.calc.results
    copy.info[f"{prefix}energy"] = results["energy"]
    copy.arrays[f"{prefix}forces"] = results["forces"]
    if "energies" in results:
        copy.arrays[f"{prefix}energies"] = results["energies"]
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
