"""Structures labelled by a law of total energies, farmed over groups of ranks."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mpi4py import MPI

from parmlip.fit.dataset import Dataset
from parmlip.fit.observations import Configuration, Labels
from parmlip.io.answers import Structure, ask
from parmlip.potentials.total import TotalLaw

logger = logging.getLogger(__name__)


def labelled_by_total(
    law: TotalLaw, configurations: Sequence[Configuration], *, comm: MPI.Comm, what: str, ranks_per_group: int
) -> Dataset:
    """The configurations with energies, forces and virials (where the law has them); every rank gets all.

    Collective on ``comm``. Each different structure is asked about once.
    """
    states: dict[bytes, Structure] = {}
    for c in configurations:
        for state in (c, c.reference):
            if state is not None:
                states.setdefault(state.key, (state.cell_cc, state.periodic, state.positions_ac, state.species))
    answers = ask(law, list(states.values()), comm=comm, what=what, ranks_per_group=ranks_per_group)
    for line in answers.table():
        logger.info("    %s", line)
    of = dict(zip(states, answers.results, strict=True))
    labels = []
    for c in configurations:
        found, reference = of[c.key], c.reference
        energy = found.energy if reference is None else found.energy - of[reference.key].energy
        labels.append(Labels(energy, found.forces_ac, found.virial_cc))
    return Dataset(tuple(configurations), tuple(labels))
