"""Where the search for a coupled equilibrium starts: a smaller QM region's, its own region relaxed, the MM law's."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.config import Study
from parmlip.errors import ConvergenceError, GeometryError
from parmlip.mechanics.bulk import nearest_distance
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.line_search import largest
from parmlip.mechanics.minimum import relax_to_minimum
from parmlip.mechanics.relax import relax
from parmlip.stages_qmmm_problem import Problem, digest

logger = logging.getLogger(__name__)

RealArray = NDArray[np.float64]

_ROUGH: Final = 1e-3  # eV / angstrom, largest force left in the QM region: what is around it has still to move
# An MM law that knows the crystal alone may collapse in cores: its equilibrium is believed if it is found in so many
# steps, with no site farther off the elastic field than a part of the distance of nearest neighbours.
_SOON, _FAR = 30, 0.25


def starts(problem: Problem, energy: ClampedEnergy) -> Iterator[tuple[RealArray, str]]:
    """Displacements (n_owned, d) in angstrom to start from, and their names; the next for when the last led nowhere.

    First the earlier point of the sweep with the largest smaller QM region, all else equal; then the predictor, whose
    QM region is relaxed if the reference has site energies. Of laws of whole structures, about dislocations, the MM
    law's equilibrium: QM calls that it saved are 8 of 32 (copper), 3 of 18 (tungsten, edges), none of 6 (screw); about
    vacancies, of which laws fitted to the crystal know nothing, it took up to two calls more. Collective.
    """
    sites = energy.sites
    start_nd, free_n = (sites.restrict(x) for x in (problem.start_ad, problem.domain.free_a[:, None]))
    earlier = _earlier(problem)
    if earlier is not None:
        u_ad, name = earlier
        yield np.where(free_n, sites.restrict(u_ad), start_nd), name
    if problem.reference is not None:
        yield _with_relaxed_core(problem, energy, start_nd)
    elif earlier is None:
        mm_nd = _mm_equilibrium(problem, energy, start_nd)
        if mm_nd is not None:
            yield mm_nd, "mm"
        yield start_nd.copy(), "predictor"


def _earlier(problem: Problem) -> tuple[RealArray, str] | None:
    """Displacements (n_sites, d) of a smaller QM region's equilibrium and its name."""
    if problem.smaller is not None:
        return problem.smaller.displacement_ad, f"R_QM = {problem.smaller.radius:.3f} A"
    best, at, results = 0.0, -1, problem.results
    for number in range(results.point or 0):
        other = results.at(number)
        names = other.names("qmmm")
        if "same" not in names or other.read("qmmm", "same") != all_but_radius(problem.study):
            continue
        if "stable" in names and not other.read("qmmm", "stable"):  # the next would be found on the same saddle
            continue
        radius = float(other.read("qmmm", "radius_angstrom"))
        if best < radius < problem.regions.radius_a.max():
            best, at = radius, number
    if at < 0:
        return None
    logger.info("starts from the equilibrium with R_QM = %.3f A (point %d)", best, at)
    return np.asarray(results.at(at).read("qmmm", "displacement")), f"point {at}"


def all_but_radius(study: Study) -> str:
    """A digest of the resolved input without R_QM: equal where only that differs."""
    plain = study.by_contents()
    others = ("radius", "patch_test", "truth", "tolerance", "samples")
    for table, names in (("qmmm", others), ("run", ("output", "stages", "groups"))):
        plain[table] = {name: value for name, value in plain[table].items() if name not in names}
    plain.pop("report", None)
    return digest(plain)


def _with_relaxed_core(problem: Problem, energy: ClampedEnergy, start_nd: RealArray) -> tuple[RealArray, str]:
    """The QM region relaxed by the reference alone, all else at the predictor; that itself if there is no such minimum.

    The MM law has no part in it: of laws fitted to forces site energies mean nothing next to another law's. Where
    forces are balanced no energy tells minima from saddles, and so the core has to be in its minimum before.
    """
    assert problem.reference is not None
    domain, settings = problem.domain, problem.study.relax
    core = ClampedEnergy(
        problem.reference, domain.supercell, problem.regions.qm_a & domain.free_a, problem.zero_ad, comm=problem.comm
    )
    toward_nd = None
    if "displacement" in problem.results.names("relax_reference"):  # of two sides that errors are told of
        toward_nd = core.sites.restrict(np.asarray(problem.results.read("relax_reference", "displacement")))
    rough = replace(settings, force_tolerance=max(_ROUGH, settings.force_tolerance))
    try:
        begin_nd = core.sites.restrict(energy.sites.gather_to_all(start_nd))
        found = relax_to_minimum(core, begin_nd, rough, toward_nd=toward_nd, what="QM region alone")
    except (ConvergenceError, GeometryError) as error:
        logger.warning("starts from the predictor: %s", error)
        return start_nd.copy(), "predictor"
    return energy.sites.restrict(core.sites.gather_to_all(found.u_nd)), "qm"


def _mm_equilibrium(problem: Problem, energy: ClampedEnergy, start_nd: RealArray) -> RealArray | None:
    """Of the MM law alone, roughly, if it is near the dislocations' elastic field; `energy` is of that law."""
    if problem.study.simulation.dislocations is None:
        return None
    tolerance = max(_ROUGH, problem.study.relax.force_tolerance)
    settings = replace(problem.study.relax, force_tolerance=tolerance, max_iterations=_SOON)
    far = _FAR * nearest_distance(problem.of[0]) * problem.of[1]
    try:
        found_nd = relax(energy, start_nd, settings, what="MM law alone").u_nd
    except (ConvergenceError, GeometryError) as error:
        logger.info("starts from the predictor, of the MM law there is no equilibrium: %s", error)
        return None
    moved = largest(found_nd - start_nd, energy.comm)
    if moved > far:
        logger.info(
            "starts from the predictor, the MM law's equilibrium is %.2f A from it (more than %.2f)", moved, far
        )
        return None
    return found_nd
