"""Errors of a coupled equilibrium against the reference everywhere in the same domain."""

from __future__ import annotations

import logging
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.analysis.errors import compare_geometry
from parmlip.construct_qmmm import forces_everywhere
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.io.hdf5 import Field
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.force_balance import balance_forces
from parmlip.stages_domain import shared_sites
from parmlip.stages_qmmm_problem import Problem, digest, with_preconditioner

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
RealArray = NDArray[np.float64]

_PLACES: Final = 6  # of predictors in angstrom: those that agree in them have one truth


def errors(problem: Problem, fields: Fields) -> Fields:
    """Against the reference everywhere in the same domain."""
    comm, cell = problem.comm, problem.domain.supercell
    true_ad = np.asarray(problem.results.read("relax_reference", "displacement"))
    u_ad = comm.bcast(fields["displacement"].value)
    assert problem.reference is not None
    energy = ClampedEnergy(problem.reference, cell, problem.domain.free_a, problem.zero_ad, comm=comm)
    here, true_energy = (energy.difference(energy.sites.restrict(x_ad)) for x_ad in (u_ad, true_ad))
    found = _geometry(problem, true_ad, u_ad)
    found["energy_excess"] = Field(here - true_energy, "eV", "of the reference at the coupled equilibrium")
    if "energy" in fields and problem.zero_ad is problem.predictor_ad:
        found["energy_error"] = Field(abs(fields["energy"].value - true_energy), "eV", "of the relaxation energy")
    logger.info("energy excess %.3e eV", here - true_energy)
    return found


def errors_of_whole(problem: Problem, fields: Fields) -> Fields:
    """The same for a law of whole structures: its equilibrium is that of QM forces on all sites that move."""
    study, results = problem.study, problem.results
    u_ad = problem.comm.bcast(fields["displacement"].value)
    if problem.smaller is not None and problem.smaller.truth:
        truth = problem.smaller.truth
        return {**truth, **_geometry(problem, np.asarray(problem.comm.bcast(truth["truth"].value)), u_ad)}
    name = truth_of(problem)
    for number in range(results.point or 0):
        other = results.at(number)
        if "truth_of" in other.names("qmmm") and other.read("qmmm", "truth_of") == name:
            logger.info("QM everywhere: as found at point %d", number)
            return _geometry(problem, np.asarray(other.read("qmmm", "truth")), u_ad)
    energy = ClampedEnergy(
        problem.mm, problem.domain.supercell, problem.domain.free_a, problem.predictor_ad, comm=problem.comm
    )
    qm = forces_everywhere(study, problem.of, problem.found, energy.sites)
    hybrid = with_preconditioner(problem, energy, qm, problem.domain.free_a)
    found = balance_forces(hybrid, energy.sites.restrict(u_ad), study.relax, what="QM everywhere")
    logger.info("QM forces everywhere: asked for %d times, %s", hybrid.evaluations, qm.told())
    true_ad = energy.sites.gather_to_all(found.u_nd)
    return {
        "truth": Field(true_ad, "A", "equilibrium with QM forces on all sites that move"),
        "truth_of": Field(name, "", "digest of what it depends on"),
        "truth_iterations": Field(found.iterations),
        "truth_calls": Field(hybrid.evaluations, "", "of QM forces"),
        "truth_solved": Field(qm.solved, "", "clusters, not read from the cache"),
        **_geometry(problem, true_ad, u_ad),
    }


def truth_of(problem: Problem) -> str:
    """A digest of what the reference's equilibrium hangs on: tables, the predictor that clamps the rim, the tolerance.

    The predictor is in the surrogate's elastic constants where the input gives none. It is rounded, since those of
    other numbers of ranks differ in their last digits.
    """
    plain = problem.study.by_contents()
    for name in ("cache", "ranks_per_calculator"):
        plain["reference"].pop(name)
    rounded_ad = np.round(problem.predictor_ad, _PLACES) + 0.0  # + 0.0: -0 is 0
    return digest(
        {name: plain[name] for name in ("crystal", "reference", "simulation")}
        | {"force_tolerance": problem.study.relax.force_tolerance, "predictor": rounded_ad.tolist()}
    )


def _geometry(problem: Problem, true_ad: RealArray, u_ad: RealArray) -> Fields:
    study, comm, cell = problem.study, problem.comm, problem.domain.supercell
    pairs = nearest_neighbours(cell, study.compare.stencil, shared_sites(study, problem.of, cell, comm))
    geometry = compare_geometry(pairs, true_ad, u_ad, study.compare.same_basin, comm=comm)
    if not geometry.same_basin:
        logger.warning(
            "the coupled equilibrium is in another basin than the reference's: its errors are not those of this one"
        )
    logger.info("geometry error %.3e A", geometry.error)
    return {
        "geometry_error": Field(geometry.error, "A", "||D u - D u^H||, stencil norm"),
        "geometry_norm": Field(geometry.reference_norm, "A", "||D u||, predictor included"),
        "geometry_error_relative": Field(geometry.relative),
        "max_displacement_difference": Field(geometry.max_difference, "A"),
        "same_basin": Field(geometry.same_basin),
    }
