"""The stage match: the surrogate's matching conditions on every training cell and on the perfect crystal."""

from __future__ import annotations

import logging

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.analysis.matching import CellPair, cauchy_born_errors
from parmlip.analysis.matching_conditions import MEANING, MatchingConditions
from parmlip.config import Study
from parmlip.construct_controlled import controlled_law_in_training, lattice_law
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.supercell import Supercell
from parmlip.fit.sampling import rattled
from parmlip.io.hdf5 import Field
from parmlip.io.reference_cache import CachedLaw
from parmlip.io.results import Results
from parmlip.parallel.comm import on_root
from parmlip.parallel.farm import on_root_alone
from parmlip.parallel.logs import timed
from parmlip.potentials.base import SiteLaw
from parmlip.stages_total import relaxed_positions

logger = logging.getLogger(__name__)

Fields = dict[str, Field]

_STREAM = 2  # of the random numbers; 0 and 1 are those of training and test samples


def matched(study: Study, results: Results, of: tuple[Lattice, float] | None, comm: MPI.Comm) -> Fields:
    """Matching conditions, the worst of all training cells and each cell's own. Collective on ``comm``."""
    law = construct.any_law(study)
    by_cell = {t.name: _of_cell(study, results, number, of, law, comm) for number, t in enumerate(study.training)}
    worst = MatchingConditions()
    for found in by_cell.values():
        worst = worst.worst(found)
    if of is not None:
        worst = worst.worst(_of_crystal(study, results, of, law, comm))
    if isinstance(law, CachedLaw):
        on_root(comm, "gathering kept results", law.cache.merge)
    d = study.crystal.dimensions
    for line in worst.lines(d):
        logger.info("    %s", line)
    return {
        **_fields(worst, d),
        "cells": Field({name: _fields(found, d) for name, found in by_cell.items()}, about="of each training cell"),
    }


def _of_cell(
    study: Study, results: Results, number: int, of: tuple[Lattice, float] | None, law: SiteLaw | CachedLaw,
    comm: MPI.Comm,
) -> MatchingConditions:  # fmt: skip
    """eps^E, eps^F and eps^FC of one training cell."""
    match, block = study.match, study.training[number]
    cell = construct.supercell(study, block, of)
    h = block.rattle.half_width if isinstance(match.radius, str) else match.radius
    centre_ad = _centre(study, results, number, cell, law, comm)
    surrogate: SiteLaw
    if study.surrogate.kind == "taylor" and of is not None:
        of_equilibrium = study.surrogate.states == "equilibrium"
        surrogate = controlled_law_in_training(study, of, number, centre_ad if of_equilibrium else None)
    else:
        surrogate = construct.surrogate_law(results)
    with CellPair(law, surrogate, cell, study.compare.stencil, comm=comm) as pair:
        centre_nd = pair.sites.restrict(centre_ad)
        samples = [centre_nd + pair.sites.restrict(_rattle(study, cell, h, number, i)) for i in range(match.samples)]
        with timed("matching: ball"):
            energy, force = pair.ball_errors(centre_nd, samples, h, match.ascent_steps)
        with timed("matching: Hessians"):
            constants = pair.hessian_error(centre_nd)
    return MatchingConditions(energy=energy, force_dual=force, force_constants=constants)


def _centre(
    study: Study, results: Results, number: int, cell: Supercell, law: SiteLaw | CachedLaw, comm: MPI.Comm
) -> NDArray[np.float64]:
    """Displacements (n_sites, d) of a training cell as `label` or `train` found it; files of before lack them."""
    block = study.training[number]
    for step, name in (("label", "centre"), ("train", "displacement")):
        if name in results.names(step):
            return np.asarray(results.read(step, f"{name}/{number}"))
    if not block.relax:
        return np.zeros((cell.n_sites, cell.dimension))
    what = f"relaxing {block.name}"
    positions_ac = on_root_alone(comm, what, relaxed_positions, study, law, cell, block.name)
    found: NDArray[np.float64] = (positions_ac - cell.positions_ac)[:, : cell.dimension]
    return found


def _rattle(study: Study, cell: Supercell, half_width: float, number: int, i: int) -> NDArray[np.float64]:
    """Displacements of all sites from the centre of the ball, the same on every rank."""
    zero_ac = np.zeros((cell.n_sites, 3))
    index = (number, _STREAM, i)
    moved = rattled(zero_ac, half_width, "uniform", seed=study.run.seed, index=index, dimension=cell.dimension)
    return moved[:, : cell.dimension]


def _of_crystal(
    study: Study, results: Results, of: tuple[Lattice, float], law: SiteLaw | CachedLaw, comm: MPI.Comm
) -> MatchingConditions:
    """eps^FC_hom, in the largest training cell without its defects, and eps^V_j."""
    cell = largest_perfect_cell(study, of)
    surrogate: SiteLaw = (
        lattice_law(study, of) if study.surrogate.kind == "taylor" else construct.surrogate_law(results)
    )
    with CellPair(law, surrogate, cell, study.compare.stencil, comm=comm) as pair, timed("matching: Hessians"):
        constants = pair.hessian_error(np.zeros((pair.sites.n_owned, cell.dimension)))
    if isinstance(law, CachedLaw):
        logger.info("eps^V_j are not measured: the reference gives energies of whole structures only")
        return MatchingConditions(force_constants_hom=constants)
    virial = cauchy_born_errors(law, surrogate, *of, study.crystal.species)
    return MatchingConditions(force_constants_hom=constants, virial_0=virial[0], virial_1=virial[1], virial_2=virial[2])


def largest_perfect_cell(study: Study, of: tuple[Lattice, float]) -> Supercell:
    """The largest training cell without its defects."""
    perfect = [construct.perfect_supercell(study, block, of) for block in study.training]
    return max(perfect, key=lambda cell: cell.n_sites)


def _fields(found: MatchingConditions, d: int) -> Fields:
    fields: Fields = {}
    for name, c in found.items():
        about, unit = MEANING[name]
        unit, short = unit.format(d=d), name.removesuffix("_dual")
        fields[f"{short}_error"] = Field(c.error, unit, about)
        fields[f"{short}_rmse"] = Field(c.rmse, unit)
        fields[f"{short}_reference"] = Field(c.reference, unit, "the same norm of the reference's own quantity")
        if c.random is not None:
            fields[f"{short}_random"] = Field(c.random, unit, "by random samples alone")
    return fields
