"""The parts of the stages that laws of whole structures need: labels through the farm, equilibria without Hessians."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.config import Study
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.supercell import Supercell
from parmlip.fit.dataset import Dataset, labelled
from parmlip.fit.observations import Configuration
from parmlip.fit.total_labels import labelled_by_total
from parmlip.io.answers import group_size
from parmlip.io.hdf5 import Field
from parmlip.io.reference_cache import CachedLaw
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.relax import Equilibrium, relax
from parmlip.mechanics.total_energy import TotalEnergy, perfect_energy
from parmlip.parallel.comm import on_root
from parmlip.parallel.farm import on_group_alone, on_root_alone
from parmlip.potentials.base import SiteLaw
from parmlip.potentials.total import SharedLaw
from parmlip.units import GPA_PER_EV_A3

logger = logging.getLogger(__name__)
Fields = dict[str, Field]
T = TypeVar("T")


def labels(
    study: Study,
    law: SiteLaw | CachedLaw,
    configurations: Sequence[Configuration],
    what: str,
    comm: MPI.Comm,
    **asked: Any,
) -> Dataset:
    """The configurations with labels of the reference; `asked` is for laws with site energies. Collective."""
    if not isinstance(law, CachedLaw):
        return labelled(law, configurations, comm=comm, what=what, **asked)
    size = group_size(law, study.reference.ranks_per_calculator, comm.size)
    logger.info("%s: %s ranks, %d for each calculator, kept in %s", what, comm.size, size, law.cache.path)
    return labelled_by_total(law, configurations, comm=comm, what=what, ranks_per_group=size)


def relaxed_positions(
    study: Study, law: SiteLaw | CachedLaw, cell: Supercell, name: str, start_ad: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Equilibrium of a training cell; one rank's work, so that it does not depend on how many there are."""
    alone = MPI.COMM_SELF
    energy = TotalEnergy(law, cell, comm=alone) if isinstance(law, CachedLaw) else Energy(law, cell, comm=alone)
    start = np.zeros((cell.n_sites, cell.dimension)) if start_ad is None else start_ad
    positions_ac = cell.positions_ac.copy()
    positions_ac[:, : cell.dimension] += relax(energy, start, study.relax, what=f"training cell {name}").u_nd
    return positions_ac


def bulk_of_total(study: Study, law: CachedLaw, of: tuple[Lattice, float], comm: MPI.Comm) -> Fields:
    """Energy per site and, where the law has a virial, stress of the perfect crystal. Collective on ``comm``."""
    repeats = construct.affordable_repeats(study)
    found, cell = on_root_alone(comm, "the perfect crystal", perfect_energy, law, *of, repeats, study.crystal.species)
    d = cell.dimension
    scale, units = (GPA_PER_EV_A3, "GPa") if d == 3 else (1.0, f"eV/A^{d}")
    logger.info("no elastic constants of the reference: it gives energies of whole structures only")
    fields = {"bulk_energy": Field(found.energy / cell.n_sites, "eV", "per site of the perfect crystal")}
    if found.virial_cc is not None:
        fields["bulk_stress"] = Field(-found.virial_cc[:d, :d] / cell.volume * scale, units)
    return fields


def equilibrium_of_total(
    study: Study,
    law: CachedLaw,
    of: tuple[Lattice, float] | None,
    comm: MPI.Comm,
    start_ad: NDArray[np.float64] | None = None,
) -> Fields:
    """Relax the simulation cell by L-BFGS and say what was found; stability is not known without Hessians.

    Collective on ``comm``. One rank's work, or that of the first `ranks_per_calculator` if the law can share it: kept
    results are found again, to the bit, on any number of ranks.
    """
    cell = construct.supercell(study, study.simulation, of)
    unmoved_nd = np.zeros((cell.n_sites, cell.dimension))
    start_nd = unmoved_nd if start_ad is None else start_ad

    def relaxed(law: CachedLaw) -> tuple[Equilibrium, float]:
        energy = TotalEnergy(law, cell, comm=MPI.COMM_SELF)
        return relax(energy, start_nd, study.relax, what="reference equilibrium"), energy.total(unmoved_nd)

    def together(what: str, work: Callable[[CachedLaw], T]) -> T:
        size = group_size(law, study.reference.ranks_per_calculator, comm.size)
        if size == 1 or not isinstance(law.law, SharedLaw):
            return on_root_alone(comm, what, work, law)
        return on_group_alone(comm, size, what, lambda group: work(law.shared(group)))

    found, unrelaxed = together("relaxing the simulation cell", relaxed)
    logger.info("the reference gives no Hessians: whether its state is a minimum is not checked")
    fields = {
        "displacement": Field(found.u_nd, "A", "global site order"),
        "forces": Field(found.f_nd, "eV/A"),
        "energy": Field(found.energy, "eV", "E(u) - E(0)"),
        "max_force": Field(found.max_force, "eV/A"),
        "iterations": Field(found.iterations),
    }
    if of is not None and len(set(study.crystal.species)) == 1 and len(cell.species) == 1:
        # the same supercell without the defects: laws with k points depend on the cell
        repeats, species = study.simulation.repeats, study.crystal.species
        perfect, whole = together("the perfect crystal", lambda law: perfect_energy(law, *of, repeats, species))
        unrelaxed -= cell.n_sites / whole.n_sites * perfect.energy
        if study.simulation.dislocations is None:  # else the crystal before the cut, not the predictor
            fields["formation_energy_unrelaxed"] = Field(unrelaxed, "eV")
        fields["formation_energy"] = Field(unrelaxed + found.energy, "eV", "against the law's own perfect crystal")
        logger.info("reference: formation energy %.6f eV", unrelaxed + found.energy)
    on_root(comm, "gathering kept results", law.cache.merge)
    return fields
