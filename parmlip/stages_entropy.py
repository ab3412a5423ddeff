"""The stage entropy: vibrational entropy of the simulation cell's equilibrium, and the free energies it makes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.config import Simulation, Study
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError, ParmlipError
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.entropy_dense import dense_entropy
from parmlip.mechanics.entropy_reference import EntropyReference, entropy_reference
from parmlip.mechanics.log_determinant import log_determinant
from parmlip.mechanics.memory import PeakMemory
from parmlip.mechanics.relax import bulk_green, relax
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.mechanics.total_entropy import TotalEntropy, Work, total_entropy
from parmlip.parallel.logs import timed
from parmlip.potentials.base import SiteLaw
from parmlip.potentials.eam import EAM
from parmlip.stages_entropy_sites import site_fields
from parmlip.stages_equilibrium import crystal_of, not_a_minimum
from parmlip.stages_free_energy import free_energy_fields

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
FloatArray = NDArray[np.float64]

_MARGIN = 0.02  # of pair lists, angstrom: the state stands still
_SMALL_SITES = 32  # least size of the smaller cell of the finite-size estimate


@dataclass(frozen=True)
class Found:
    """Entropies of one cell, k_B."""

    formation: float
    relative: float
    error: float
    total: TotalEntropy | None = None
    identity_error: float | None = None


def entropy_fields(study: Study, results: Results, comm: MPI.Comm, law: SiteLaw, relaxed: str) -> Fields:
    """Entropies at the equilibrium that step `relaxed` found with `law`. Collective on ``comm``."""
    of = crystal_of(study, results)
    cell = construct.supercell(study, study.simulation, of)
    if not bool(results.read(relaxed, "stable")):
        lowest = float(results.read(relaxed, "lowest_eigenvalue"))
        raise ParmlipError(
            f"the state of {relaxed}, whose vibrational entropy is not defined, "
            + not_a_minimum(study, lowest, relative=cell.grid is not None)
        )
    peak = PeakMemory(comm)
    energy = Energy(law, cell, comm=comm, margin=_MARGIN)
    u_nd = energy.sites.restrict(np.asarray(results.read(relaxed, "displacement")))
    if cell.grid is None:
        return _without_lattice(study, energy, u_nd)
    assert of is not None  # a grid has a lattice
    with timed("entropy: perfect crystal"):
        reference = entropy_reference(law, cell, comm=comm)
    found = _of_cell(study, energy, u_nd, reference, of, study.simulation)
    logger.info(
        "formation entropy of this cell %.6f k_B (S_FHF %.6f; error bar %.1e is numerical, without finite size)",
        found.formation, found.relative, found.error,
    )  # fmt: skip
    limit = reference.formation_limit(found.relative)
    memory = (peak.growth() or 0) / cell.n_sites
    # first what is to be quoted: in this order they are reported
    fields = _infinite(study, law, of, found, limit, cell, comm) if study.entropy.finite_size else {}
    fields |= {
        "formation": Field(found.formation, "k_B", "S_def - (N_def / N_hom) S_hom, of this cell"),
        "formation_error": Field(
            found.error, "k_B", "numerical error bar of this cell: probes and Krylov spaces, not its size"
        ),
        "converged": Field(found.error <= study.entropy.tolerance, about="the error bar is within the tolerance"),
        "fhf": Field(found.relative, "k_B", "-1/2 sum log of the positive eigenvalues of F H F"),
        "formation_limit": Field(limit, "k_B", "of this cell with the determinants of the infinite crystal"),
        "perfect": Field(reference.entropy, "k_B", "of the perfect supercell, eigenvalues in eV/A^2"),
        "n_null": Field(reference.n_null, about="null modes of F H F: translations, vacant sites; projected out"),
        "memory_per_site": Field(memory, "B", "growth of the resident memory of all ranks"),
    }
    if found.identity_error is not None:
        fields["identity_error"] = Field(found.identity_error, "k_B", "of the identity between S_f and S_FHF")
    if found.total is not None:
        fields |= _work_fields(found.total)
    fields |= site_fields(study, energy, u_nd)
    return fields | free_energy_fields(
        study, results, relaxed, found.formation, found.error, energy, u_nd, assembled=_assembled(study, law)
    )


def _of_cell(
    study: Study, energy: Energy, u_nd: FloatArray, reference: EntropyReference, of: tuple[Lattice, float],
    table: Simulation,
) -> Found:  # fmt: skip
    """By the method that the input wants. Collective."""
    asked, share = study.entropy, reference.n_def / reference.n_hom
    offset = reference.formation(0.0)
    if asked.method == "dense":
        perfect = Energy(energy.law, construct.perfect_supercell(study, table, of), comm=energy.comm, margin=_MARGIN)
        with timed("entropy: dense"):
            dense = dense_entropy(energy, perfect, u_nd, reference)
        return Found(dense.formation, dense.relative, 0.0, None, dense.identity_error)
    if asked.method == "factorise":
        formation = _factorised(energy, u_nd) - share * reference.entropy
        return Found(formation, formation - offset, 0.0)
    near = None if isinstance(asked.near_radius, str) else asked.near_radius
    work = Work(
        asked.method, asked.tolerance, asked.krylov_tolerance, near, asked.max_probes, asked.batch, study.run.seed
    )
    matrix = hessian.assembled(energy, u_nd) if _assembled(study, energy.law) else hessian.operator(energy, u_nd)
    try:
        with RelativeHessian(matrix, energy.law, energy.supercell, energy.sites) as relative:
            total = total_entropy(relative, energy, u_nd, work)
    finally:
        matrix.destroy()
    return Found(reference.formation(total.value), total.value, total.error, total)


def _assembled(study: Study, law: SiteLaw) -> bool:
    """Whether the Hessian is stored: the factored form of EAM takes a fifth of the time and memory, others are slow."""
    if study.relax.hessian == "auto":
        return not isinstance(law, EAM)
    return study.relax.hessian == "assembled"


def _factorised(energy: Energy, u_nd: FloatArray) -> float:
    """-1/2 log det+ of the Hessian. Collective."""
    with timed("entropy: factorisation"):
        matrix = hessian.assembled(energy, u_nd)
        try:
            found = log_determinant(matrix, energy.dimension)
        finally:
            matrix.destroy()
    logger.info("factors of the Hessian: %.2e numbers, %.1f MB", found.entries, 8e-6 * found.entries)
    return -0.5 * found.value


def _without_lattice(study: Study, energy: Energy, u_nd: FloatArray) -> Fields:
    """A structure file has no perfect crystal: the entropy alone, by the one method that does without."""
    if study.entropy.method != "factorise":
        raise ConfigError(
            f'[entropy] method = "{study.entropy.method}": needs [crystal] lattice; write "factorise" for a structure '
            "file, which gives the entropy of the cell but no formation entropy"
        )
    entropy = _factorised(energy, u_nd)
    logger.info("entropy %.6f k_B (eigenvalues in eV/A^2)", entropy)
    return {"entropy": Field(entropy, "k_B", "-1/2 sum log of the positive eigenvalues of H in eV/A^2")}


def _work_fields(total: TotalEntropy) -> Fields:
    fields = {
        "first_order": Field(total.first_order, "k_B", "-1/2 sum (theta - 1): exact trace"),
        "probe_error": Field(total.probe_error, "k_B", "standard error of the far sites"),
        "krylov_error": Field(total.krylov_error, "k_B"),
        "near_radius": Field(total.near_radius, "A"),
        "n_near": Field(len(total.near_site_s), about="sites that were done one by one"),
        "n_probes": Field(len(total.probe_value_k)),
        "n_vectors": Field(total.n_vectors, about="Krylov spaces in all"),
        "krylov_steps": Field(total.steps, about="of the slowest vector; ksp: solver iterations of all"),
        "spectrum": Field(np.array([total.lowest, total.highest]), about="ends of the spectrum of F H F as found"),
        "near_sites": Field(total.near_site_s, about="global number, or -1 - g for the vacant grid site g"),
        "near_distance": Field(total.near_distance_s, "A", "to the nearest defect"),
        "near_entropy": Field(total.near_entropy_s, "k_B", "S_l of [log+ F H F]_ll"),
    }
    if len(total.probe_value_k):
        fields["probe_values"] = Field(total.probe_value_k, "k_B", "of the far sites, by each probe")
    return fields


def _infinite(
    study: Study, law: SiteLaw, of: tuple[Lattice, float], found: Found, limit: float, cell: Supercell, comm: MPI.Comm
) -> Fields:
    """The limit of large cells from this cell and one of half its edges, whose errors go as 1 / N. Collective."""
    half = tuple(-(-n // 2) for n in study.simulation.cell)
    table = replace(study.simulation, cell=half)
    try:
        small = construct.supercell(study, table, of)
    except ParmlipError as why:  # defects that are further apart than the smaller cell is wide
        logger.info("no finite-size estimate: in a cell of %s %s", list(half), why)
        return {}
    lengths = np.linalg.norm(small.cell_cc[: small.dimension], axis=1)
    if small.n_sites < _SMALL_SITES or small.n_sites >= cell.n_sites or lengths.min() < 2.0 * law.cutoff:
        logger.info("no finite-size estimate: a cell of %s is too small", list(half))
        return {}
    energy = Energy(law, small, comm=comm)
    with timed("entropy: finite size"):
        state = relax(energy, np.zeros((energy.sites.n_owned, energy.dimension)), study.relax,
                      green=bulk_green(energy), what=f"smaller cell {list(half)}")  # fmt: skip
        reference = entropy_reference(law, small, comm=comm)
        of_small = _of_cell(study, energy, state.u_nd, reference, of, table)
    small_limit = reference.formation_limit(of_small.relative)
    ratio = 1.0 / (cell.n_sites / small.n_sites - 1.0)
    term = ratio * (limit - small_limit)
    error = (1.0 + ratio) * found.error + ratio * of_small.error + abs(term)
    logger.info("formation entropy of the infinite cell %.6f +- %.1e k_B (finite-size term %.1e): quote this",
                limit + term, error, term)  # fmt: skip
    return {
        "formation_infinite": Field(
            limit + term, "k_B", "extrapolated in 1 / N from this cell and one of half the edges"
        ),
        "formation_infinite_error": Field(error, "k_B", "error bars of both and the finite-size term"),
        "finite_size_term": Field(term, "k_B", "formation_infinite - formation_limit"),
    }
