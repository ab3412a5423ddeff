"""Energies, forces, virials and Hessians of given structures: `parmlip evaluate`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from parmlip import construct
from parmlip.config import Study
from parmlip.construct_controlled import lattice_law
from parmlip.crystal.supercell import supercell_from_arrays
from parmlip.errors import ConfigError
from parmlip.evaluate_overlaps import warn_of_overlaps
from parmlip.evaluate_total import evaluate_total, write_hessians_of_total
from parmlip.io.atoms import labelled
from parmlip.io.fitted import of_entropy
from parmlip.io.hessians import BlockRows, write_hessians
from parmlip.io.results import Results
from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.parallel.comm import in_step, on_root
from parmlip.parallel.logs import Progress
from parmlip.potentials.base import SiteLaw
from parmlip.potentials.committee import Committee, root_mean_square

# Structures up to this size are handed out to the ranks one by one; larger ones are split over all ranks.
_WHOLE = 20_000  # sites


def evaluate(
    study: Study,
    structures: Sequence[Any],
    law: str,
    results: Results | None,
    comm: MPI.Comm,
    hessian_path: Path | None,
) -> list[Any]:
    """Copies of the structures (ASE Atoms) with energy, forces and virial by "reference" or "surrogate".

    Where the surrogate has a committee, also with standard deviations: `energy_std` (eV), arrays `forces_std` (n, 3)
    (eV / angstrom) and `site_energy_std` (n,) (eV).
    A surrogate of the entropy gives `entropy` (k_B), arrays `entropy_gradient` (n, 3) (k_B / angstrom) and
    `site_entropy` (n,) (k_B) instead, and no Hessians.

    Collective on ``comm``; the same list on every rank. Hessians go to `hessian_path` if it is given.
    """
    if results is None and study.reference.is_total:
        found = evaluate_total(study, structures, comm=comm, keep=False)[0]
        if hessian_path is not None:
            write_hessians_of_total(study, structures, hessian_path, comm=comm)
        return found
    warn_of_overlaps(structures, comm=comm)
    controlled = results is not None and study.surrogate.kind == "taylor"
    if controlled and study.surrogate.states != "lattice":
        raise ConfigError(
            '[surrogate] states = "equilibrium": such a law is of the sites of its [simulation] alone; any structure '
            'near the crystal can be evaluated with states = "lattice"'
        )
    chosen: SiteLaw
    if controlled:
        chosen = lattice_law(study)
    else:
        chosen = construct.reference_law(study) if results is None else construct.surrogate_law(results)
    entropic = results is not None and not controlled and of_entropy(results.names("train"))
    if entropic and hessian_path is not None:
        raise ConfigError(f"--hessian {hessian_path}: the surrogate is of the entropy, which has no Hessians here")
    committee = None if results is None or controlled or entropic else construct.surrogate_committee(results)
    d = study.crystal.dimensions if "crystal" in study.tables else 3
    whole = max(len(atoms) for atoms in structures) > _WHOLE
    group = comm if whole else MPI.COMM_SELF
    share = range(len(structures)) if whole else range(comm.rank, len(structures), comm.size)
    done: dict[int, tuple[Any, BlockRows | None]] = {}
    with in_step(comm, f"evaluating with the {law}"), Progress("structures", len(share), comm=comm) as progress:
        for number in share:
            try:
                if entropic:
                    done[number] = _entropies(structures[number], chosen, d, group), None
                else:
                    done[number] = _one(structures[number], chosen, committee, d, hessian_path is not None, group)
            except Exception as error:
                error.args = (f"structure {number}: {error}",)
                raise
            progress.step()
    merged: dict[int, tuple[Any, BlockRows | None]] = {}
    for part in comm.allgather(done):
        merged |= part
    if hessian_path is not None:
        blocks = [rows for _, rows in (merged[i] for i in range(len(structures))) if rows is not None]
        on_root(comm, "writing Hessians", write_hessians, hessian_path, blocks)
    return [merged[i][0] for i in range(len(structures))]


def _one(
    atoms: Any, law: SiteLaw, committee: Committee | None, d: int, with_hessian: bool, comm: MPI.Comm
) -> tuple[Any, BlockRows | None]:
    """Results for one structure. Collective on ``comm``."""
    energy = _energy(atoms, law, d, comm)
    u_nd = np.zeros((energy.sites.n_owned, d))
    _, f_nd = energy.difference_and_forces(u_nd)
    forces_ac = np.zeros((energy.sites.n_sites, 3))
    forces_ac[:, :d] = energy.sites.gather_to_all(f_nd)
    rows = _block_rows(energy, u_nd) if with_hessian else None
    copy = labelled(atoms, energy.total(u_nd), forces_ac, energy.virial(u_nd))
    if committee is not None:
        _add_spread(copy, energy, u_nd, committee)
    return copy, rows


def _energy(atoms: Any, law: SiteLaw, d: int, comm: MPI.Comm) -> Energy:
    """Collective on ``comm``."""
    periodic = tuple(bool(p) for p in atoms.pbc)
    cell = supercell_from_arrays(atoms.cell.array, periodic, atoms.positions, atoms.get_chemical_symbols(), d)
    return Energy(law, cell, comm=comm)


def _entropies(atoms: Any, law: SiteLaw, d: int, comm: MPI.Comm) -> Any:
    """Entropies for one structure under names of their own: under those of energies they would be taken for eV.

    Energies, forces and virials that the structure brought are another law's, and left out. Collective on ``comm``.
    """
    energy = _energy(atoms, law, d, comm)
    u_nd = np.zeros((energy.sites.n_owned, d))
    _, minus_gradient_nd = energy.difference_and_forces(u_nd)
    gradient_ac = np.zeros((energy.sites.n_sites, 3))
    gradient_ac[:, :d] = -energy.sites.gather_to_all(minus_gradient_nd)
    copy = atoms.copy()
    for name in ("energy", "virial", "stress"):
        copy.info.pop(name, None)
    copy.arrays.pop("forces", None)
    copy.info["entropy"] = energy.total(u_nd)
    copy.arrays["entropy_gradient"] = gradient_ac
    copy.arrays["site_entropy"] = energy.sites.gather_to_all(energy.site_energies(u_nd))
    return copy


def _add_spread(atoms: Any, energy: Energy, u_nd: np.ndarray, committee: Committee) -> None:
    """Standard deviations of energy, forces and site energies. Collective on ``energy.comm``."""
    comm, n = energy.comm, len(committee)
    around = energy.environments(u_nd)
    total_i = np.zeros(n)
    square_n, square_nd = np.zeros(len(u_nd)), np.zeros(u_nd.shape)
    for i, law in enumerate(committee.laws):
        with in_step(comm, "evaluating the committee"):
            energy_n, g_pc = law.site_gradients(around)
        total_i[i] = comm.allreduce(math.fsum(energy_n))
        square_n += energy_n**2 / n
        square_nd += energy.gradient_from_pairs(g_pc) ** 2 / n
    forces_ac = np.zeros((energy.sites.n_sites, 3))
    forces_ac[:, : energy.dimension] = energy.sites.gather_to_all(np.sqrt(square_nd))
    atoms.info["energy_std"] = committee.energy_scale * float(root_mean_square(total_i))
    atoms.arrays["forces_std"] = committee.force_scale * forces_ac
    atoms.arrays["site_energy_std"] = committee.energy_scale * energy.sites.gather_to_all(np.sqrt(square_n))


def _block_rows(energy: Energy, u_nd: np.ndarray) -> BlockRows | None:
    """The Hessian in global site order, on every rank. Collective."""
    pattern = hessian.HessianPattern(energy)
    blocks = hessian.block_rows(energy, u_nd, pattern)
    parts = energy.comm.allgather((energy.sites.global_n, np.diff(pattern.first_r), pattern.number_b, blocks))
    site_of = energy.sites.site_at
    row_b = np.concatenate([np.repeat(sites, lengths) for sites, lengths, _, _ in parts])
    column_b = site_of[np.concatenate([numbers for _, _, numbers, _ in parts])]
    order = np.lexsort((column_b, row_b))
    first_r = np.concatenate([[0], np.cumsum(np.bincount(row_b, minlength=energy.sites.n_sites))])
    return BlockRows(first_r, column_b[order], np.concatenate([b for _, _, _, b in parts])[order])
