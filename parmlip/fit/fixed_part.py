"""Labels without what a law has beside its fitted functions."""

from __future__ import annotations

from dataclasses import replace

from mpi4py import MPI

from parmlip.fit.dataset import Dataset, labelled
from parmlip.fit.observations import Labels
from parmlip.potentials.base import SiteLaw


def without_fixed_part(training: Dataset, law: SiteLaw, *, comm: MPI.Comm) -> Dataset:
    """The configurations with their labels less those of `law`; what is not labelled stays so. Collective."""
    probes = {c.name: of.probes for c, of in zip(training.configurations, training.labels, strict=True) if of.probes}
    fixed = labelled(law, training.configurations, comm=comm, what="fixed part", probes=probes)
    return Dataset(
        training.configurations,
        tuple(_less(of, part) for of, part in zip(training.labels, fixed.labels, strict=True)),
    )


def _less(of: Labels, part: Labels) -> Labels:
    assert part.energy is not None
    assert part.forces_ac is not None
    assert part.virial_cc is not None
    return replace(
        of,
        energy=None if of.energy is None else of.energy - part.energy,
        forces_ac=None if of.forces_ac is None else of.forces_ac - part.forces_ac,
        virial_cc=None if of.virial_cc is None else of.virial_cc - part.virial_cc,
        hessian_o=None if of.hessian_o is None or part.hessian_o is None else of.hessian_o - part.hessian_o,
    )
