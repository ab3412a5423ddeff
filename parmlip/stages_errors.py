"""Error analysis in the stages: the residual of the surrogate's equilibrium, where the geometry error sits."""

from __future__ import annotations

import logging

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.analysis.errors import core_and_far
from parmlip.analysis.residual import residual
from parmlip.config import Study
from parmlip.construct_controlled import core_radius
from parmlip.crystal.distances import distances_to
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import Pairs
from parmlip.crystal.supercell import Supercell
from parmlip.fit.prediction import Prediction
from parmlip.io.hdf5 import Field
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen
from parmlip.mechanics.stencil_space import StencilSpace
from parmlip.parallel.logs import timed

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
RealArray = NDArray[np.float64]


def residual_fields(study: Study, energy: Energy, u_nd: RealArray, green: BulkGreen | None) -> Fields:
    """A posteriori estimates at the surrogate's equilibrium; nothing without a reference that has site energies.

    Collective on ``energy.comm``.
    """
    if not study.relax.residual or "reference" not in study.tables or study.reference.is_total:
        return {}
    reference = Energy(construct.reference_law(study), energy.supercell, comm=energy.comm)
    with timed("residual"), StencilSpace(energy.supercell, energy.sites, study.compare.stencil) as space:
        found = residual(reference, energy, u_nd, space, green)
    logger.info("residual %.3e eV/A (dual norm): geometry error about %.3e A", found.dual, found.geometry)
    return {
        "residual_dual": Field(found.dual, "eV/A", "reference's forces at the surrogate's equilibrium, dual norm"),
        "geometry_error_estimate": Field(found.geometry, "A", "from the residual, to first order"),
        "energy_excess_estimate": Field(found.energy, "eV", "above the reference's own equilibrium, to first order"),
    }


def split_fields(
    study: Study, of: tuple[Lattice, float], cell: Supercell, pairs: Pairs, difference_ad: RealArray, comm: MPI.Comm
) -> Fields:
    """Distances to the defects; the geometry error within the core radius, and beyond it.

    Collective on ``comm``; `pairs` are those of this rank's share of sites.
    """
    distance_a = distances_to(cell, construct.defect_centres(study, study.simulation, of))
    distance = Field(distance_a, "A", "of each site to the nearest defect")
    radius = core_radius(study, of, 0.0)
    if radius == 0.0:
        return {"distance": distance}
    core, far = core_and_far(pairs, difference_ad, distance_a <= radius, comm=comm)
    return {
        "distance": distance,
        "core_radius": Field(radius, "A", "by default half of the smallest training cell's length"),
        "geometry_error_core": Field(core, "A", "of the sites within it of a defect"),
        "geometry_error_far": Field(far, "A", "of all others"),
    }


def parity_fields(prediction: Prediction, of: str) -> Fields:
    """What the figures of a data set need."""
    n_o, about = prediction.n_sites_o, "per atom, less one-body energies"
    return {
        "parity_set": Field(of),
        "parity_types": Field(list(prediction.kind_o)),
        "parity_energies_reference": Field(prediction.energy_reference_o / n_o, "eV", about),
        "parity_energies_surrogate": Field(prediction.energy_o / n_o, "eV", about),
        "parity_forces_reference": Field(prediction.force_reference_o, "eV/A"),
        "parity_forces_surrogate": Field(prediction.force_o, "eV/A"),
    }
