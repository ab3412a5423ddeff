"""Stages of controlled surrogates: the equilibria of small cells that they are expanded about, and the law itself."""

from __future__ import annotations

import logging

import numpy as np
from mpi4py import MPI

from parmlip import construct
from parmlip.config import Study
from parmlip.construct_controlled import controlled_law, domain_size, lattice_law, stands_for
from parmlip.construct_controlled_lines import dislocated_law
from parmlip.crystal.lattices import Lattice
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.parallel.farm import on_root_alone
from parmlip.potentials.taylor import TaylorLaw
from parmlip.stages_dislocations import start, stiffness
from parmlip.stages_total import relaxed_positions

logger = logging.getLogger(__name__)

Fields = dict[str, Field]


def equilibria(study: Study, results: Results, of: tuple[Lattice, float], comm: MPI.Comm) -> tuple[TaylorLaw, Fields]:
    """The law on the perfect crystal, and equilibria of all training cells with the reference (none for "lattice").

    Collective on ``comm``.
    """
    fields: Fields = {}
    if study.surrogate.states == "equilibrium":
        if study.simulation.dislocations is None:
            stands_for(study)
        law, displacements = construct.reference_law(study), {}
        for number, table in enumerate(study.training):
            cell = construct.supercell(study, table, of)
            start_ad = start(study, results, table, of)
            positions_ac = on_root_alone(
                comm, f"relaxing {table.name}", relaxed_positions, study, law, cell, table.name, start_ad
            )
            displacements[str(number)] = (positions_ac - cell.positions_ac)[:, : cell.dimension]
        size = domain_size(study, of)
        logger.info("controlled surrogate: order %d, L = %.4g", study.surrogate.order, size)
        fields["displacement"] = Field(displacements, "A", "equilibria of the training cells")
        fields["domain_size"] = Field(size, about="L of the smallest training cell in nearest-neighbour distances")
    return lattice_law(study, of), fields


def law_of(study: Study, results: Results, of: tuple[Lattice, float]) -> TaylorLaw:
    """The controlled surrogate in the simulation cell. Collective on ``results.comm``."""
    found: list[np.ndarray] = []
    if study.surrogate.states == "equilibrium":
        found = [results.read("train", f"displacement/{i}") for i in range(len(study.training))]
    if study.simulation.dislocations is not None:
        c_vv = stiffness(results, study.simulation)
        return dislocated_law(study, of, study.simulation, found[0] if found else None, c_vv)
    return controlled_law(study, of, found)
