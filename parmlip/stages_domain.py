"""Clamped domains in the stages: what `build` tells of them, predictors, energies of which the rim does not move."""

from __future__ import annotations

import logging

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.config import Study
from parmlip.crystal.clamped_domain import ClampedDomain
from parmlip.crystal.dislocation_disc import Disc
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.norms import stencil_square
from parmlip.crystal.supercell import Supercell
from parmlip.errors import GeometryError
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen
from parmlip.mechanics.line_search import dot
from parmlip.mechanics.response import Response
from parmlip.parallel.comm import on_root
from parmlip.parallel.logs import timed
from parmlip.potentials.base import SiteLaw
from parmlip.stages_dislocations import stiffness

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
Crystal = tuple[Lattice, float]
RealArray = NDArray[np.float64]


def domain_fields(study: Study, of: Crystal | None) -> Fields:
    """Free region and rim of [simulation]; nothing for a periodic cell. Local."""
    domain = construct.clamped_domain(study, study.simulation, of)
    if domain is None:
        return {}
    logger.info(
        "%s of radius %.2f A: %d free sites, %d clamped in a rim of %.2f A",
        domain.kind, domain.radius, domain.n_free, domain.supercell.n_sites - domain.n_free, domain.rim,
    )  # fmt: skip
    return {
        "domain": Field(domain.kind),
        "free": Field(domain.free_a, "", "sites that relax; the others are clamped at the predictor"),
        "n_free": Field(domain.n_free),
        "radius": Field(domain.radius, "A", "of the free region"),
        "rim": Field(domain.rim, "A", "width of the clamped rim"),
        "centre": Field(domain.centre_c, "A"),
    }


def predictor(study: Study, results: Results, of: Crystal | None) -> RealArray | None:
    """u_0 of the domain of [simulation], (n_sites, d), angstrom, the same on every rank; None for a periodic cell.

    The field of a single dislocation in the reference's elastic constants (given, or the surrogate's), else zero.
    Collective on ``results.comm``.
    """
    domain = construct.clamped_domain(study, study.simulation, of)
    if domain is None:
        return None
    if isinstance(domain, Disc):
        return on_root(results.comm, "predictor", domain.predictor, stiffness(results, study.simulation))
    return np.zeros((domain.supercell.n_sites, domain.supercell.dimension))


def energy_of(
    study: Study, results: Results, of: Crystal | None, law: SiteLaw, cell: Supercell, *, comm: MPI.Comm
) -> tuple[Energy, ClampedDomain | None, RealArray | None]:
    """The energy of a law in [simulation], where a domain is clamped with it and its predictor. Collective on ``comm``.

    Energies of clamped domains are those of the sites up to the middle of the rim, against the crystal: a law need not
    be valid at the predictor, which is rough at cores, and beyond the middle sites see the surface, no free sites.
    """
    domain = construct.clamped_domain(study, study.simulation, of)
    if domain is None:
        return Energy(law, cell, comm=comm), None, None
    counted_a = domain.inner(0.5 * domain.rim)
    energy = ClampedEnergy(law, cell, domain.free_a, counted_a=counted_a, comm=comm)
    return energy, domain, predictor(study, results, of)


def predictor_energy(energy: Energy, predictor_ad: RealArray, relaxed: float, which: str) -> Fields:
    """Energy of the predictor like that of the relaxed state, eV, where the law is valid at its rough core. Collective.

    Of the reference: surrogates say anything there.
    """
    if which != "reference" or not predictor_ad.any():
        return {}
    try:
        before = energy.difference(energy.sites.restrict(predictor_ad))
    except GeometryError as error:
        logger.info("%s: not valid at the predictor, %s", which, error)
        return {}
    logger.info("%s: %.6f eV, %.6f eV below the predictor", which, relaxed, before - relaxed)
    return {"energy_predictor": Field(before, "eV", "E(u_0) - E(0), to the middle of the rim")}


def clamped_residual_fields(
    study: Study, energy: Energy, u_nd: RealArray, green: BulkGreen | None, domain: ClampedDomain
) -> Fields:
    """A posteriori estimates at the surrogate's equilibrium as of periodic cells, without the dual norm. Collective.

    Nothing without a reference that has site energies.
    """
    if not study.relax.residual or "reference" not in study.tables or study.reference.is_total:
        return {}
    cell, comm = domain.supercell, energy.comm
    reference = ClampedEnergy(construct.reference_law(study), cell, domain.free_a, comm=comm)
    with timed("residual"):
        _, f_nd = reference.difference_and_forces(u_nd)
        with Response(energy, u_nd, green) as response:
            e_nd = response(f_nd)
        pairs = nearest_neighbours(cell, study.compare.stencil, np.flatnonzero(domain.free_a)[comm.rank :: comm.size])
        square = comm.allreduce(stencil_square(pairs, energy.sites.gather_to_all(e_nd)))
    logger.info("residual forces: geometry error about %.3e A", np.sqrt(square))
    return {
        "geometry_error_estimate": Field(float(np.sqrt(square)), "A", "from the residual, to first order"),
        "energy_excess_estimate": Field(
            0.5 * dot(f_nd, e_nd, comm), "eV", "above the reference's own equilibrium, to first order"
        ),
    }


def shared_sites(study: Study, of: Crystal | None, cell: Supercell, comm: MPI.Comm) -> NDArray[np.int64]:
    """A rank's share of the sites over which norms sum: those that move."""
    domain = construct.clamped_domain(study, study.simulation, of)
    sites = np.arange(cell.n_sites) if domain is None else np.flatnonzero(domain.free_a)
    return sites[comm.rank :: comm.size]
