"""Which observations a study has: labels on the perfect crystal, factors of all rows, constraints."""

from __future__ import annotations

import logging
from dataclasses import asdict

import numpy as np
from mpi4py import MPI

from parmlip import construct
from parmlip.config import Study
from parmlip.config_fit_tables import LATTICE_NAMES
from parmlip.crystal.lattices import Lattice, lattice_named
from parmlip.errors import ConfigError
from parmlip.fit import design
from parmlip.fit.dataset import Dataset
from parmlip.fit.fixed_part import without_fixed_part
from parmlip.fit.homogeneous import constraints_of, constraints_of_numbers
from parmlip.fit.lattice_design import lattice_factors, lattice_values
from parmlip.fit.lattice_observations import lattice_observations
from parmlip.fit.observations import Probes
from parmlip.fit.patches import Crystal
from parmlip.fit.total_lattice import periodic_observations, total_lattice_labels
from parmlip.io.answers import group_size
from parmlip.io.hdf5 import Field
from parmlip.io.reference_cache import CachedLaw
from parmlip.io.results import Results
from parmlip.numerics.regression import Constraints, Regression
from parmlip.potentials.ace import ACEBasis
from parmlip.potentials.base import SiteLaw
from parmlip.units import GPA_PER_EV_A3

logger = logging.getLogger(__name__)

Fields = dict[str, Field]


def observed_names(study: Study) -> tuple[str, ...]:
    """What is labelled: all that has a weight or is asked for, at any point of a sweep."""
    studies = [study, *(point.study for point in study.points())]
    return tuple(dict.fromkeys(name for s in studies for name in s.fit.observed))


def probes_of(study: Study) -> dict[str, Probes]:
    """Directions of the Hessian by configuration type; none if it is not observed."""
    if "hessian" not in observed_names(study):
        return {}
    return {
        t.name or f"training-{i + 1}": Probes(t.hessian.kind, t.hessian.number, study.run.seed)
        for i, t in enumerate(study.training)
    }


def lattice_labels(study: Study, law: SiteLaw | CachedLaw, of: tuple[Lattice, float] | None, comm: MPI.Comm) -> Fields:
    """The law's derivatives on its perfect crystal, as far as they are observed. Collective on ``comm``."""
    names = tuple(name for name in observed_names(study) if name in LATTICE_NAMES)
    if not names or of is None:
        return {}
    if isinstance(law, CachedLaw):
        crystal, repeats = Crystal(*of, study.crystal.species), construct.affordable_repeats(study)
        labels = total_lattice_labels(
            law, periodic_observations(names, crystal, repeats, study.fit.decay), crystal, repeats, comm=comm,
            ranks_per_group=group_size(law, study.reference.ranks_per_calculator, comm.size),
        )  # fmt: skip
        return {
            "lattice": Field(labels.values, about="derivatives on the perfect crystal, by observation"),
            "lattice_errors": Field(labels.errors, about="largest errors of the differences, by observation"),
        }
    cutoffs = [p.study.surrogate.reach for p in study.points()]
    radius = max(law.cutoff, study.surrogate.reach, *cutoffs) * (1.0 + 1e-9)
    asked = lattice_observations(names, Crystal(*of, study.crystal.species), radius, study.fit.decay)
    values = lattice_values(law, asked, comm=comm)
    logger.info("lattice: %s", ", ".join(f"{len(v)} of {name}" for name, v in values.items()))
    return {
        "lattice": Field(values, about="derivatives on the perfect crystal, by observation"),
        "lattice_radius": Field(radius, "A", "neighbours of the lattice observations"),
    }


def all_factors(
    study: Study, results: Results, basis: ACEBasis, training: Dataset, of: tuple[Lattice, float] | None
) -> design.Factors:
    """Factors of all observations on rank 0: those that a refit has taken over, or of new rows. Collective."""
    names = study.fit.observed
    stored = _stored_factors(study, results)
    if stored is not None:
        return stored
    factors: design.Factors = {}
    of_states = tuple(name for name in names if name not in LATTICE_NAMES)
    if "hessian" in of_states and all(x.hessian_o is None for x in training.labels):
        raise ConfigError('[fit] weights.hessian: is not labelled; name "hessian" in [fit] observations')
    if of_states:
        if basis.fixed_part is not None:  # it ends below nearest neighbours: nothing of it is in the perfect crystal
            training = without_fixed_part(training, basis.fixed_part, comm=results.comm)
        factors |= design.build_factors(basis, training, of_states, comm=results.comm)
    on_lattice = tuple(name for name in names if name in LATTICE_NAMES)
    if on_lattice:
        values = results.read("label", "lattice") if "lattice" in results.names("label") else {}
        for name in on_lattice:
            if name not in values:
                raise ConfigError(f'[fit] weights.{name}: is not labelled; name "{name}" in [fit] observations')
        if of is None:
            raise ConfigError(f"[fit] weights.{on_lattice[0]}: needs [crystal] lattice")
        crystal, gamma = Crystal(*of, study.crystal.species), study.fit.decay
        if study.reference.is_total:
            asked = periodic_observations(on_lattice, crystal, construct.affordable_repeats(study), gamma)
        else:
            asked = dict(
                lattice_observations(on_lattice, crystal, float(results.read("label", "lattice_radius")), gamma)
            )
        factors |= lattice_factors(basis, asked, {n: np.asarray(values[n]) for n in on_lattice}, comm=results.comm)
    return factors


def weights_of_rows(study: Study, of: tuple[Lattice, float] | None) -> dict[str, float]:
    """Weights above zero, of the squared residuals of the rows as they are made: Cauchy-Born ones are per volume."""
    weights = {name: weight for name, weight in asdict(study.fit.weights).items() if weight > 0.0}
    if study.fit.cauchy_born_per == "site" and of is not None:
        lattice, lattice_constant = of
        d = lattice.dimension
        volume = abs(float(np.linalg.det(lattice.cell(lattice_constant)[:d, :d]))) / lattice.n_basis
        for name in weights:
            if name.startswith("cauchy_born"):
                weights[name] *= volume**2
    return weights


def _stored_factors(study: Study, results: Results) -> design.Factors | None:
    """Factors that a refit has taken over (`pipeline.refit`), on rank 0; None if rows are to be made. Collective."""
    if "factors" not in results.names("train"):
        return None
    factors = design.unpacked(results.read("train", "factors"))
    known = {observation for _, observation in factors}
    for name in study.fit.observed:
        if name not in known:
            raise ConfigError(
                f"[fit] weights.{name}: there are no stored rows of it (only of {', '.join(sorted(known))}); run the "
                "input anew"
            )
    return factors if results.comm.rank == 0 else {}


def matching_fields(factors: design.Factors, solution: Regression, comm: MPI.Comm) -> Fields:
    """Errors of every observation over its rows. Collective on ``comm``."""
    found = comm.bcast(design.matching(factors, solution.coefficients))
    for name, of in found.items():
        relative = f", relative {of['relative']:.2e}" if "relative" in of else ""
        logger.info("    %-18s %7d rows, RMSE %.3e%s", name, of["n_rows"], of["rmse"], relative)
    return {"matching": Field(found, about="by observation: RMSE of the rows, also relative to the values")}


def constraints(
    study: Study, results: Results, basis: ACEBasis, of: tuple[Lattice, float] | None
) -> Constraints | None:
    """The equations of [fit] constraints: what the reference says, or for a data set the numbers given. Collective."""
    names, species = study.fit.constraints, study.crystal.species if "crystal" in study.tables else ()
    if not names:
        return None
    if "dataset" not in study.tables:
        if of is None:
            raise ConfigError("[fit] constraints: need a [crystal] lattice and labels of a [reference] law")
        return constraints_of(names, basis, construct.reference_law(study), *of, species)
    lattice = lattice_named(str(study.crystal.lattice), study.crystal.c_over_a)
    energy = study.fit.bulk_energy
    if energy is not None:  # the fitted energies are without those of free atoms
        one_body = results.read("label", "one_body")
        energy -= float(np.mean([one_body[species[slot]] for slot in lattice.slot_b]))
    elastic = study.fit.elastic_constants
    return constraints_of_numbers(
        names, basis, lattice, float(study.crystal.lattice_constant), species, energy=energy,
        elastic=None if elastic is None else {name: c / GPA_PER_EV_A3 for name, c in elastic.items()},
    )  # fmt: skip
