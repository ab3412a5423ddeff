"""Errors of a coupled equilibrium against the reference everywhere in the same domain."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.analysis.errors import compare_geometry
from parmlip.construct_qmmm import forces_everywhere
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.errors import ConvergenceError, GeometryError
from parmlip.io.hdf5 import Field
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.force_balance import balance_forces
from parmlip.mechanics.relax import relax
from parmlip.stages_domain import shared_sites
from parmlip.stages_qmmm_problem import Problem, digest, with_preconditioner

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
RealArray = NDArray[np.float64]

_MANY: Final = 5.0  # times its estimate: an error of first order is none
_SMALL: Final = 0.01  # angstrom, max |u - u^H|: errors of less are not those of another basin
_SAME_END: Final = 0.05  # angstrom: two searches have come to one minimum
_ROUGH: Final = 1e-4  # eV / angstrom, of such a search
_LOWER: Final = 1e-3  # eV
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
    if not _as_estimated(fields, found) and found["same_basin"].value:
        end_ad = _downhill(problem, energy, u_ad)
        same = end_ad is not None and np.linalg.norm(end_ad - true_ad, axis=1).max() <= _SAME_END
        found["same_basin"] = Field(bool(same))
    _tell_basin(found)
    found["energy_excess"] = Field(here - true_energy, "eV", "of the reference at the coupled equilibrium")
    if here - true_energy < -_LOWER:
        logger.warning(
            "the reference's energy at the coupled equilibrium is %.3g eV below that of its own: errors are against a "
            "state that is not its lowest, nor a minimum if it was told so", true_energy - here,
        )  # fmt: skip
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
        return {**truth, **_told(problem, fields, np.asarray(problem.comm.bcast(truth["truth"].value)), u_ad)}
    name = truth_of(problem)
    for number in range(results.point or 0):
        other = results.at(number)
        if "truth_of" in other.names("qmmm") and other.read("qmmm", "truth_of") == name:
            logger.info("QM everywhere: as found at point %d", number)
            return _told(problem, fields, np.asarray(other.read("qmmm", "truth")), u_ad)
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
        **_told(problem, fields, true_ad, u_ad),
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


def _told(problem: Problem, fields: Fields, true_ad: RealArray, u_ad: RealArray) -> Fields:
    found = _geometry(problem, true_ad, u_ad)
    _as_estimated(fields, found)
    _tell_basin(found)
    return found


def _as_estimated(fields: Fields, found: Fields) -> bool:
    """Whether the geometry error is what reference forces say, roughly, or too small to matter; told if not."""
    if "geometry_error_estimate" not in fields or found["max_displacement_difference"].value <= _SMALL:
        return True
    error = float(found["geometry_error"].value)
    estimate, noise = (float(fields[f"geometry_error_estimate{end}"].value) for end in ("", "_noise"))
    if error <= _MANY * float(np.hypot(estimate, noise)):
        return True
    logger.warning(
        "the geometry error, %.3g A, is many times its estimate from reference forces, %.3g A: the coupled equilibrium "
        "or the reference's may be a saddle, or another core", error, estimate,
    )  # fmt: skip
    return False


def _downhill(problem: Problem, energy: ClampedEnergy, u_ad: RealArray) -> RealArray | None:
    """Where the reference goes from a coupled equilibrium, (n_sites, d); None if it does not come to rest."""
    rough = replace(problem.study.relax, force_tolerance=max(_ROUGH, problem.study.relax.force_tolerance))
    try:
        found = relax(energy, energy.sites.restrict(u_ad), rough, what="reference from the coupled equilibrium")
    except (ConvergenceError, GeometryError) as error:
        logger.info("%s", error)
        return None
    return energy.sites.gather_to_all(found.u_nd)


def _tell_basin(found: Fields) -> None:
    if not found["same_basin"].value:
        logger.warning(
            "the coupled equilibrium is in another basin than the reference's: its errors are not those of this one"
        )


def _geometry(problem: Problem, true_ad: RealArray, u_ad: RealArray) -> Fields:
    study, comm, cell = problem.study, problem.comm, problem.domain.supercell
    pairs = nearest_neighbours(cell, study.compare.stencil, shared_sites(study, problem.of, cell, comm))
    geometry = compare_geometry(pairs, true_ad, u_ad, study.compare.same_basin, comm=comm)
    logger.info("geometry error %.3e A", geometry.error)
    return {
        "geometry_error": Field(geometry.error, "A", "||D u - D u^H||, stencil norm"),
        "geometry_norm": Field(geometry.reference_norm, "A", "||D u||, predictor included"),
        "geometry_error_relative": Field(geometry.relative),
        "max_displacement_difference": Field(geometry.max_difference, "A"),
        "same_basin": Field(geometry.same_basin),
    }
