"""Ghost forces of energy mixing on the perfect crystal, the dead load against them, the patch test."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.construct_qmmm import coupling, mm_law, perfect_domain
from parmlip.crystal.clamped_domain import ClampedDomain
from parmlip.crystal.regions import Regions
from parmlip.io.hdf5 import Field
from parmlip.mechanics.energy_mixing import ghost_gradient, on_same_places
from parmlip.mechanics.patch_test import relaxed_patch
from parmlip.potentials.base import SiteLaw
from parmlip.stages_qmmm_problem import Problem, hybrid_forces, mixed

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
RealArray = NDArray[np.float64]

_LEFT: Final = 1e-3  # of the ghost force: more than that left with the load is worth a word
_ROUNDING: Final = 1e-9  # eV / angstrom: less is none


@dataclass(frozen=True, eq=False)
class DeadLoad:
    """beta dE^H(0) of (3.10), by which energy mixing leaves the perfect crystal at rest."""

    perfect: ClampedDomain  # the domain without its point defects
    regions: Regions  # in it
    mm: SiteLaw  # the MM law for its sites
    perfect_ad: RealArray  # the load at its sites, eV / angstrom
    load_ad: RealArray  # at the sites of the domain: where one is missing the load is nowhere
    fields: Fields  # how large ghost forces are with it and without


def dead_load(problem: Problem) -> DeadLoad:
    """The load, and what is told of ghost forces. Collective on ``problem.comm``."""
    assert problem.reference is not None
    study, comm = problem.study, problem.comm
    domain = perfect_domain(study, problem.of)
    r = coupling(study, problem.of, domain).regions
    mm = mm_law(study, problem.results, problem.of, domain, None)
    ghost_ad = ghost_gradient(problem.reference, mm, domain.supercell, r.qm_a, domain.free_a, comm=comm)
    load_ad = np.where(r.beyond(study.qmmm.correction_from)[:, None], ghost_ad, 0.0)
    ghost, left = (float(np.abs(x_ad).max(initial=0.0)) for x_ad in (ghost_ad, ghost_ad - load_ad))
    given = study.qmmm
    if given.kind == "energy":
        logger.info("ghost force on the perfect crystal: %.3e eV/A, with the dead load %.3e eV/A", ghost, left)
    if given.kind == "energy" and given.correction and left > _LEFT * ghost and ghost > _ROUNDING:
        logger.warning(
            "ghost forces reach within %g of R_QM, where no load is: take a larger radius or correction_from = 0",
            given.correction_from,
        )
    fields = {
        "ghost_force": Field(ghost, "eV/A", "of energy mixing on the homogeneous crystal, largest component"),
        "ghost_force_corrected": Field(left, "eV/A", "with the dead load"),
    }
    own_ad = on_same_places(domain.supercell, problem.domain.supercell, load_ad)
    return DeadLoad(domain, r, mm, load_ad, own_ad, fields)


def patch_fields(problem: Problem, dead: DeadLoad) -> Fields:
    """Forces of all schemes before relaxation, and what becomes of the perfect crystal: figure 4.2."""
    domain, r = dead.perfect, dead.regions
    patch: dict[str, Field] = {
        "positions": Field(domain.supercell.positions_ac, "A", "of the perfect domain"),
        "region": Field(r.label_a),
        "distance": Field(r.distance_a, "A"),
    }
    for name, load in (("", None), ("_corrected", dead.perfect_ad)):
        energy = mixed(problem, domain, r.qm_a, None, load, dead.mm)
        end = relaxed_patch(energy, problem.study.relax, what=f"patch test{name.replace('_', ', ')}")
        logger.info("patch test%s: drift %.3e A", name.replace("_", ", "), end.drift)
        patch |= {
            f"drift{name}": Field(end.drift, "A", "largest component of the displacement"),
            f"converged{name}": Field(end.converged),
            f"displacement{name}": Field(end.displacement_ad, "A"),
        }
    everywhere = np.ones_like(problem.regions.qm_a)
    for name, qm_a, load in (
        ("unrelaxed_reference", everywhere, None),
        ("unrelaxed_energy", problem.regions.qm_a, None),
        ("unrelaxed_energy_corrected", problem.regions.qm_a, dead.load_ad),
    ):
        energy = mixed(problem, problem.domain, qm_a, problem.zero_ad, load)
        _, f_nd = energy.difference_and_forces(energy.sites.restrict(problem.start_ad))
        patch[name] = Field(energy.sites.gather(f_nd), "eV/A", "where relaxations begin")
    if problem.study.qmmm.kind == "force":  # the buffer of energy mixing is too small for forces
        with hybrid_forces(problem) as hybrid:
            sites = hybrid.energy.sites
            f_nd = hybrid.forces(sites.restrict(problem.start_ad))
        patch["unrelaxed_force"] = Field(sites.gather(f_nd), "eV/A", "where relaxations begin")
    return {"patch": Field(patch)}
