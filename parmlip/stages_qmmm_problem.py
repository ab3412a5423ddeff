"""What all parts of the stage "qmmm" work on: domain, regions, laws, and energies and forces that mix them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.config import Study
from parmlip.construct_qmmm import Coupling, perfect_domain, qm_forces
from parmlip.crystal.clamped_domain import ClampedDomain
from parmlip.crystal.dislocation_disc import Disc
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.regions import Regions
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.crystal_stiffness import HybridOnCrystal, on_lattice
from parmlip.mechanics.energy_mixing import MixedEnergy
from parmlip.mechanics.force_mixing import HybridForces, QMForces, SiteLawForces
from parmlip.potentials.base import SiteLaw

Fields = dict[str, Field]
Crystal = tuple[Lattice, float]
RealArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Smaller:
    """What is known from a smaller QM region that a tolerance did not take."""

    radius: float  # R_QM, angstrom
    displacement_ad: RealArray  # its equilibrium, (n_sites, d), angstrom
    truth: Fields  # the reference's, if it was found for a law of whole structures


@dataclass(frozen=True, eq=False)
class Problem:
    """What all parts of the stage work on."""

    study: Study
    results: Results
    comm: MPI.Comm
    of: Crystal
    found: Coupling
    predictor_ad: RealArray
    start_ad: RealArray  # where relaxations begin: a core may be another than the predictor's
    zero_ad: RealArray  # where differences of energy begin: the predictor, if the reference is valid there
    reference: SiteLaw | None  # None: it has no site energies
    mm: SiteLaw
    smaller: Smaller | None  # to start from

    @property
    def domain(self) -> ClampedDomain:
        """Of [simulation]."""
        return self.found.domain

    @cached_property
    def linear(self) -> ClampedEnergy:
        """As of `linear`. Collective on ``comm``."""
        return _linear(self)

    @property
    def regions(self) -> Regions:
        """In it."""
        return self.found.regions


def mixed(
    problem: Problem,
    domain: ClampedDomain,
    qm_a: NDArray[np.bool_],
    zero_ad: RealArray | None,
    load_ad: RealArray | None = None,
    mm: SiteLaw | None = None,
) -> MixedEnergy:
    """The reference on `qm_a` of a domain, the MM law elsewhere; differences are to `zero_ad`. Collective."""
    assert problem.reference is not None
    return MixedEnergy(
        problem.reference, problem.mm if mm is None else mm, domain.supercell, qm_a, domain.free_a, zero_ad,
        load_ad, comm=problem.comm,
    )  # fmt: skip


def linear(problem: Problem) -> ClampedEnergy:
    """The energy whose Hessian is the coupling's, or near it: one for all, whose pair lists are then made once."""
    return problem.linear


def _linear(problem: Problem) -> ClampedEnergy:
    domain, u0_ad = problem.domain, problem.predictor_ad
    if problem.reference is None:
        return ClampedEnergy(problem.mm, domain.supercell, domain.free_a, u0_ad, comm=problem.comm)
    if problem.study.qmmm.kind == "energy":
        return mixed(problem, domain, problem.regions.qm_a, problem.zero_ad)
    # deep in the QM region MM energies touch no MM force, and may not be defined: a core is no crystal
    return mixed(problem, domain, problem.found.deep(problem.mm, u0_ad), problem.zero_ad)


@contextmanager
def hybrid_forces(problem: Problem) -> Iterator[HybridForces]:
    """QM forces on QM sites, MM forces elsewhere; what they hold is freed at the end of the block. Collective."""
    energy = linear(problem)
    qm = qm_forces(problem.study, problem.of, problem.found, energy.sites)
    try:
        yield with_preconditioner(problem, energy, qm, problem.regions.qm_a)
    finally:
        if isinstance(qm, SiteLawForces):
            qm.destroy()


def with_preconditioner(problem: Problem, energy: ClampedEnergy, qm: QMForces, qm_a: NDArray[np.bool_]) -> HybridForces:
    """QM forces on `qm_a`, those of an energy elsewhere, with the Hessian that suits the reference. Collective."""
    perfect = crystal_in_cores(problem)
    if perfect is not None:
        return HybridOnCrystal(energy, qm, qm_a, perfect)
    return HybridForces(energy, qm, qm_a)


def crystal_in_cores(problem: Problem) -> ClampedDomain | None:
    """The MM law's crystal stands in cores of a reference without site energies, if all sites are of the lattice."""
    if problem.reference is None:
        if isinstance(problem.domain, Disc):  # its sites are those of the crystal before it has slipped
            return problem.domain
        perfect = perfect_domain(problem.study, problem.of)
        if on_lattice(perfect, problem.domain.supercell.positions_ac) is not None:
            return perfect
    return None


def digest(plain: Any) -> str:
    """A name for plain tables of an input: equal where they are."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
