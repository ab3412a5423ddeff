"""The stage "qmmm": regions, the coupled equilibrium, its errors, its ghost forces.

What the result file has under `qmmm/`; forces in eV/A, lengths in A, energies in eV, times in s:

    kind                     "energy" or "force"
    radius_angstrom          R_QM, the largest of all cores; radius_lattice the same in lattice constants;
                             radii_angstrom  (n_cores,) where several are given
    buffer_angstrom          R_BUF;  mm_radius_angstrom  R_MM
    n_qm, n_buffer, n_mm, n_far_field, n_cluster     sites; the cluster is QM and buffer
    region                   (n_sites,) 0 qm, 1 buffer, 2 mm, 3 far_field;  distance  (n_sites,) from the core
    displacement             (n_sites, d) predictor and corrector;  forces  (n_sites, d) left at the end
    iterations, inner_iterations, residual_force (largest component left), method, start ("qm": that
                             region relaxed alone; "mm": the MM law's equilibrium; "predictor"; or "point 3": of the
                             sweep, with a smaller QM region)
    seconds                  of the relaxation;  seconds_qm  of QM forces and their derivatives in it (force mixing)
    qm_evaluations           of QM forces (force mixing);  residual_norms  of all forces, by iteration
    qm_solved                clusters solved for them, not read from the cache (laws of whole structures)
    same                     a name for the input without R_QM: points with one name start from each other
    mm_stiffness_low, mm_stiffness_high     of the MM law's crystal against waves, relative to the reference's where it
                             has site energies, else to its own largest (a fit, or mm_law)
    energy                   E(u) - E(u_0) of the mixed energy, load included (energy mixing); against another state if
                             the reference is not valid at the predictor, and then there is no energy_error
    truth                    (n_sites, d) equilibrium with QM forces on all sites that move (truth = true and a law of
                             whole structures), at the first point that needed it;  truth_iterations, truth_calls;
                             truth_of  a name for what it depends on
    geometry_error           ||D(u - u^H)|| over free sites (truth);  geometry_norm  ||D u||, geometry_error_relative,
                             max_displacement_difference, same_basin as of the stage compare
    energy_error             |E^H - E|, relaxation energies (truth, energy mixing)
    energy_excess            E(u^H) - E(u) of the reference (truth, a reference with site energies)
    geometry_error_estimate  of ||D(u - u^H)|| from the reference's forces on n_samples sites outside the QM region
                             (energy mixing: everywhere);  geometry_error_estimate_noise  its standard deviation by
                             the draw of sites;  residual_reference  the largest of these forces
    tolerance_met            whether estimate and noise together are below it, and the noise is the less (tolerance)
    stable                   no negative mode;  lowest_eigenvalue  of the Hessian relative to the bulk's, or the least
                             real part of those of the Jacobian, with lowest_eigenvalue_imaginary (force mixing);
                             lowest_eigenvalue_residual, stability_steps;  stability  how it was found or why not
    nye, core_position, polarity, ...  of dislocations as of the stage relax
    growth/                  radius_angstrom, n_qm, estimate, noise, geometry_error (truth), each (n,), of the QM
                             regions that the tolerance led through (tolerance); all else is of the last
    buffer_force             largest QM force on the perfect crystal in its cluster (laws of whole structures), whose
                             patch test it is;  buffer_error  geometry error that these forces make, to first order
    ghost_force              largest component of dE^H(0) on the homogeneous crystal (site energies);
    ghost_force_corrected    with the load
    patch/                   with patch_test, a reference with site energies:
        positions            (n, 3) of the perfect domain, region (n,), distance (n,)
        drift, drift_corrected        largest component by which the homogeneous crystal has moved
        converged, converged_corrected
        displacement, displacement_corrected   (n, d)
        unrelaxed_reference, unrelaxed_energy, unrelaxed_energy_corrected, unrelaxed_force
                             (n_sites, d) forces where relaxations of the domain with its defects begin, by scheme
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.analysis.sampled_residual import Estimate
from parmlip.config import Study
from parmlip.construct_qmmm import coupling, mm_law
from parmlip.crystal.clamped_domain import ClampedDomain
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.regions import NAMES, largest_radius
from parmlip.errors import ConvergenceError, GeometryError
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics.bulk import nearest_distance
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.cluster_forces import ClusterForces
from parmlip.mechanics.force_balance import Balance, balance_forces
from parmlip.mechanics.force_mixing import HybridForces
from parmlip.mechanics.relax import relax
from parmlip.parallel.logs import timed
from parmlip.potentials.base import SiteLaw
from parmlip.stages_dislocations import core_fields, start
from parmlip.stages_domain import predictor
from parmlip.stages_equilibrium import crystal_of
from parmlip.stages_qmmm_buffer import BufferError, buffer_error, warn_of_buffer
from parmlip.stages_qmmm_errors import errors, errors_of_whole
from parmlip.stages_qmmm_estimate import Growth, estimate_fields, has_estimate
from parmlip.stages_qmmm_ghost import DeadLoad, dead_load, patch_fields
from parmlip.stages_qmmm_mm import mm_fields
from parmlip.stages_qmmm_problem import Problem, Smaller, crystal_in_cores, hybrid_forces, linear, mixed
from parmlip.stages_qmmm_stability import stability_fields
from parmlip.stages_qmmm_start import all_but_radius, starts

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
Crystal = tuple[Lattice, float]
RealArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Coupled:
    """A coupled equilibrium, and what came about on the way to it."""

    problem: Problem
    fields: Fields
    estimate: Estimate | None
    dead: DeadLoad | None  # None: the reference has no site energies
    buffer: BufferError | None  # None: it has, and buffers are as wide as it reaches


def qmmm_fields(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """The coupled equilibrium and all that is told of it. Collective on ``comm``."""
    of = crystal_of(study, results)
    assert of is not None  # the input was checked
    of_mm = mm_fields(study, results, of, comm)
    one = _coupled(study, results, comm, of, None)
    problem, fields = one.problem, one.fields
    tolerance = study.qmmm.tolerance
    if tolerance is not None:
        growth = Growth(tolerance, nearest_distance(of[0]) * of[1])
        while True:
            assert one.estimate is not None  # with a tolerance there is one
            error = fields["geometry_error"].value if "geometry_error" in fields else np.nan
            by_buffer = one.buffer.geometry if one.buffer is not None else 0.0
            radius = float(problem.regions.radius_a.max())
            growth.record(radius, one.estimate, fields["n_qm"].value, float(error), by_buffer)
            wanted = None if growth.met else growth.next_radius(_largest(problem))
            if wanted is None:
                break
            u_ad = comm.bcast(fields["displacement"].value)
            truth = {name: fields[name] for name in fields if name.startswith("truth")}
            smaller = Smaller(radius, u_ad, truth)
            grown = problem.study.with_value("qmmm.radius", wanted)
            one = _coupled(grown, results, comm, of, smaller)
            problem, fields = one.problem, one.fields
        if not growth.met:
            logger.warning("[qmmm] tolerance = %g A is not met: %s", tolerance, growth.obstacle(problem.study))
        fields |= growth.fields()
    u_ad = comm.bcast(fields["displacement"].value)
    fields |= stability_fields(problem, u_ad)
    fields |= core_fields(problem.study, results, of, u_ad, "QM/MM")
    if problem.study.qmmm.patch_test and one.dead is not None:
        with timed("patch test"):
            fields |= patch_fields(problem, one.dead)
    return fields | of_mm


def _largest(problem: Problem) -> float:
    """R_QM beyond which regions do not fit into the domain, angstrom."""
    return largest_radius(problem.regions, problem.domain.radius, problem.found.far_field)


def _coupled(study: Study, results: Results, comm: MPI.Comm, of: Crystal, smaller: Smaller | None) -> _Coupled:
    """The equilibrium for the QM region of `study`, its errors as far as they are wanted and their estimate."""
    found = coupling(study, of)
    u0_ad = predictor(study, results, of)
    assert u0_ad is not None
    reference = None if study.reference.is_total else construct.reference_law(study)
    mm = mm_law(study, results, of, found.domain, u0_ad)
    start_ad = _unrelaxed(study, results, of, found.domain, u0_ad)
    zero_ad = _valid(study, results, found.domain, reference, (u0_ad, start_ad), comm)
    problem = Problem(study, results, comm, of, found, u0_ad, start_ad, zero_ad, reference, mm, smaller)
    fields = _region_fields(problem)
    dead = None if reference is None else dead_load(problem)
    if dead is not None:
        fields |= dead.fields
    buffer = None if reference is not None else buffer_error(problem)
    if buffer is not None:
        fields |= buffer.fields()
    begin = time.perf_counter()
    with timed("coupled equilibrium"):
        if study.qmmm.kind == "energy":
            assert dead is not None  # the input was checked
            fields |= _energy_mixing(problem, dead.load_ad if study.qmmm.correction else None)
        else:
            fields |= _force_mixing(problem)
    fields["same"] = Field(all_but_radius(study), "", "digest of the input without R_QM")
    fields["seconds"] = Field(time.perf_counter() - begin, "s", "of the relaxation")
    estimate = None
    if has_estimate(study):
        u_ad = comm.bcast(fields["displacement"].value)
        told, estimate = estimate_fields(study, of, found, linear(problem), u_ad, crystal_in_cores(problem))
        fields |= told
    if buffer is not None:
        warn_of_buffer(problem, buffer, estimate)
    if study.qmmm.truth and reference is not None:
        fields |= errors(problem, fields)
    if study.qmmm.truth is True and reference is None:
        with timed("QM everywhere"):
            fields |= errors_of_whole(problem, fields)
    return _Coupled(problem, fields, estimate, dead, buffer)


def _unrelaxed(
    study: Study, results: Results, of: Crystal, domain: ClampedDomain, predictor_ad: RealArray
) -> RealArray:
    """What the stage relax starts from, (n_sites, d), angstrom: the predictor, with polarity and shift of its core."""
    offset = (0.0, 0.0)
    if "offset" in results.names("relax_reference"):
        x, y = results.read("relax_reference", "offset")
        offset = (float(x), float(y))
    start_ad = start(study, results, study.simulation, of, offset)
    return predictor_ad if start_ad is None else np.where(domain.free_a[:, None], start_ad, predictor_ad)


def _valid(
    study: Study,
    results: Results,
    domain: ClampedDomain,
    reference: SiteLaw | None,
    states: tuple[RealArray, ...],
    comm: MPI.Comm,
) -> RealArray:
    """The first of some states at which the reference is valid, or its equilibrium: cores of predictors are rough."""
    if reference is None or not states[0].any():
        return states[0]
    energy = ClampedEnergy(reference, domain.supercell, domain.free_a, comm=comm)
    for u_ad in states:
        try:
            energy.site_energies(energy.sites.restrict(u_ad))
        except GeometryError as error:
            logger.info("energies are not those against the predictor: %s", error)
            continue
        return u_ad
    if not study.qmmm.truth:
        raise GeometryError("[qmmm] the reference is not valid at the start; move the core, or write truth = true")
    return np.asarray(results.read("relax_reference", "displacement"))


def _region_fields(problem: Problem) -> Fields:
    r, radius = problem.regions, float(problem.regions.radius_a.max())
    counts = r.counts()
    n_cluster = int(np.count_nonzero(r.cluster_a))
    logger.info(
        "%s mixing, R_QM %.3f A, buffer %.3f A, R_MM %.3f A: %s sites, QM and buffer %d",
        problem.study.qmmm.kind, radius, r.buffer, problem.domain.radius,
        ", ".join(f"{n} {name}" for name, n in counts.items()), n_cluster,
    )  # fmt: skip
    given = problem.study.qmmm.radius
    each = {"radii_angstrom": Field(np.array(given), "A", "R_QM of each core")} if isinstance(given, tuple) else {}
    return each | {
        "kind": Field(problem.study.qmmm.kind),
        "radius_angstrom": Field(radius, "A", "R_QM, the largest"),
        "radius_lattice": Field(radius / problem.of[1], "", "R_QM in lattice constants"),
        "buffer_angstrom": Field(r.buffer, "A", "R_BUF"),
        "mm_radius_angstrom": Field(problem.domain.radius, "A", "R_MM"),
        **{f"n_{name}": Field(n, "", "sites") for name, n in counts.items()},
        "n_cluster": Field(n_cluster, "", "sites: QM and buffer"),
        "region": Field(r.label_a, "", ", ".join(f"{i} {name}" for i, name in enumerate(NAMES))),
        "distance": Field(r.distance_a, "A", "of each site from its core"),
    }


# -- the coupled equilibrium -------------------------------------------------------------------------------------------


def _energy_mixing(problem: Problem, load_ad: RealArray | None) -> Fields:
    assert problem.reference is not None  # the input was checked
    energy = mixed(problem, problem.domain, problem.regions.qm_a, problem.zero_ad, load_ad)
    start_nd, started = next(starts(problem, energy))
    found = relax(energy, start_nd, problem.study.relax, what="energy mixing")
    return {
        "displacement": Field(energy.sites.gather(found.u_nd), "A", "predictor and corrector, global site order"),
        "forces": Field(energy.sites.gather(found.f_nd), "eV/A"),
        "energy": Field(found.energy, "eV", "E^H(u) - E^H(u_0), or against another state where u_0 is too rough"),
        "residual_force": Field(found.max_force, "eV/A", "largest component left"),
        "iterations": Field(found.iterations),
        "inner_iterations": Field(np.array(found.inner_iterations, dtype=np.int64)),
        "method": Field(found.method),
        "start": Field(started, "", "what the relaxation started from"),
    }


def _force_mixing(problem: Problem) -> Fields:
    with hybrid_forces(problem) as hybrid:
        energy = hybrid.energy
        found, started = _balance(problem, hybrid)
    seconds = problem.comm.allreduce(hybrid.seconds_qm, op=MPI.MAX)
    asked: Fields = {}
    if isinstance(hybrid.qm, ClusterForces):
        asked = {"qm_solved": Field(hybrid.qm.solved, "", "clusters, not read from the cache")}
        logger.info("QM forces: asked for %d times, %s", hybrid.evaluations, hybrid.qm.told())
    return asked | {
        "displacement": Field(energy.sites.gather(found.u_nd), "A", "predictor and corrector, global site order"),
        "forces": Field(energy.sites.gather(found.f_nd), "eV/A"),
        "residual_force": Field(found.max_force, "eV/A", "largest component left"),
        "iterations": Field(found.iterations),
        "inner_iterations": Field(np.array([line.inner for line in found.history[1:]], dtype=np.int64)),
        "residual_norms": Field(np.array([line.residual for line in found.history]), "eV/A", "of all forces"),
        "method": Field(found.method),
        "start": Field(started, "", "what the balance was sought from"),
        "seconds_qm": Field(seconds, "s", "of QM forces and their derivatives"),
        "qm_evaluations": Field(hybrid.evaluations, "", "of QM forces"),
    }


def _balance(problem: Problem, hybrid: HybridForces) -> tuple[Balance, str]:
    """The balance found from the first start that leads to one, and the name of that start."""
    failure: ConvergenceError | None = None
    for start_nd, started in starts(problem, hybrid.energy):
        if failure is not None:
            logger.warning('%s; once more, from "%s"', failure, started)
        try:
            return balance_forces(hybrid, start_nd, problem.study.relax, what="force mixing"), started
        except ConvergenceError as error:
            failure = error
    assert failure is not None  # there is always a start
    raise failure
