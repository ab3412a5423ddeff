"""Where the search for a coupled equilibrium starts: at that of a smaller QM region, or with its own region relaxed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.config import Study
from parmlip.errors import ConvergenceError, GeometryError
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.minimum import relax_to_minimum
from parmlip.stages_qmmm_problem import Problem, digest

logger = logging.getLogger(__name__)

RealArray = NDArray[np.float64]

_ROUGH: Final = 1e-3  # eV / angstrom, largest force left in the QM region: what is around it has still to move


def starts(problem: Problem, energy: ClampedEnergy) -> Iterator[tuple[RealArray, str]]:
    """Displacements (n_owned, d) in angstrom to start from, and their names; the next for when the last led nowhere.

    First the earlier point of the sweep with the largest smaller QM region, all else equal; then the predictor, whose
    QM region is relaxed if the reference has site energies. Collective.
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
