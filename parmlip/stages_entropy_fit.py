"""Parts of the stages for surrogates of the entropy itself: labels, choice by the validation set, errors by type."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

from parmlip import construct
from parmlip.config import Study
from parmlip.crystal.lattices import Lattice
from parmlip.errors import ConfigError
from parmlip.fit import design
from parmlip.fit.dataset import Dataset
from parmlip.fit.entropy_labels import PerfectCell, entropies_labelled, entropy_label, perfect_cell
from parmlip.fit.observations import Configuration, configuration_of
from parmlip.fit.prediction import Prediction
from parmlip.fit.sampling import rattled
from parmlip.io.hdf5 import Field
from parmlip.io.reference_cache import CachedLaw
from parmlip.io.results import Results
from parmlip.numerics.regression import Regression
from parmlip.parallel.farm import on_root_alone
from parmlip.potentials.ace import ACEBasis
from parmlip.potentials.base import SiteLaw
from parmlip.stages_rates import masses, saddle_positions
from parmlip.stages_rows import observed_names
from parmlip.stages_total import relaxed_positions
from parmlip.units import THZ_PER_ROOT

logger = logging.getLogger(__name__)

Fields = dict[str, Field]

# What energies and forces are called where they are entropies.
_ENTROPY_NAMES = {"energy": "entropy", "force": "gradient"}


def entropy_labels(study: Study, law: SiteLaw | CachedLaw, of: tuple[Lattice, float] | None, comm: MPI.Comm) -> Fields:
    """Instead of energies: rattled states of the training cells with their entropies. Collective on ``comm``.

    No state is added to those that were asked for but the perfect cells of [fit] homogeneous, and none has a
    reference state: formation entropies have their level.
    """
    if isinstance(law, CachedLaw) or of is None:
        raise ConfigError(
            '[surrogate] target = "entropy": needs a [reference] with site energies and [crystal] lattice'
        )
    sets: dict[str, list[Configuration]] = {"training": [], "validation": [], "test": []}
    perfect: dict[str, PerfectCell] = {}
    n_negative: dict[str, int] = {}
    minima: dict[str, float] = {}  # entropies of the equilibria that saddles are left for
    mass: dict[str, float] = {}
    seed = study.run.seed
    for number, block in enumerate(study.training):
        name = block.name or f"training-{number + 1}"
        if name in perfect:
            raise ConfigError(f"[[training]] {number + 1} name = {name!r}: is the name of another table")
        cell = construct.supercell(study, block, of)
        perfect[name] = perfect_cell(law, construct.perfect_supercell(study, block, of), cell)
        centre_ac = cell.positions_ac
        if block.jump is not None:
            minimum_ac, centre_ac = on_root_alone(
                comm, f"saddle of {name}", saddle_positions, study, law, cell, of, block.jump, name
            )
            n_negative[name] = 1
            minimum = configuration_of(cell, name, minimum_ac, difference=False)
            level = entropy_label(law, minimum, perfect[name]).energy
            if level is not None and len(cell.species) == 1:  # else frequencies need the saddle's own mode
                minima[name], mass[name] = level, float(masses(study, cell)[0])
        elif block.relax:
            centre_ac = on_root_alone(comm, f"relaxing {name}", relaxed_positions, study, law, cell, name)
        counts = (block.samples, block.test_samples, block.validation_samples)
        for which, n in enumerate(counts):
            states = sets[("training", "test", "validation")[which]]
            for i in range(n):
                moved = rattled(
                    centre_ac, block.rattle.amplitude, block.rattle.kind, seed=seed, index=(number, which, i),
                    dimension=cell.dimension,
                )  # fmt: skip
                states.append(configuration_of(cell, name, moved, difference=False))
    if study.fit.homogeneous:
        first = study.training[0]
        cell = construct.perfect_supercell(study, first, of)
        perfect["homogeneous"] = perfect_cell(law, cell, cell)
        for i in range(study.fit.homogeneous):
            amplitude = first.rattle.amplitude if i else 0.0
            moved = rattled(
                cell.positions_ac, amplitude, first.rattle.kind, seed=seed, index=(len(study.training), 0, i),
                dimension=cell.dimension,
            )  # fmt: skip
            sets["training"].append(configuration_of(cell, "homogeneous", moved, difference=False))
    observed = observed_names(study)
    fields: Fields = {}
    for name, states in sets.items():
        if states:
            labelled = entropies_labelled(
                law, states, perfect, comm=comm, what=f"{name} labels", decomposition=study.fit.decomposition,
                sites=True, site_gradients="site_entropy_gradient" in observed, n_negative=n_negative,
            )  # fmt: skip
            fields[name] = Field(labelled.packed(), "", "energy: S_f / k_B, forces: -dS/du in k_B/A")
        fields[f"n_{name}"] = Field(len(states), about="configurations")
    if minima:
        fields["minimum_entropy"] = Field(minima, "k_B", "S_f of the equilibrium that each type's saddle is left for")
        fields["mass"] = Field(mass, "amu")
    return fields


def chosen_tolerance(
    study: Study,
    results: Results,
    basis: ACEBasis,
    solve: Callable[[float], Regression],
    comm: MPI.Comm,
) -> tuple[float, Fields]:
    """The tolerance of [fit] tolerances with the least loss on the validation set; nothing else looks at that set.

    Collective on ``comm``. The loss is that of the fit: weights times squared errors.
    """
    if not study.fit.tolerances:
        return study.fit.tolerance, {}
    weights = {name: getattr(study.fit.weights, name) for name in study.fit.observed}
    factors = design.build_factors(
        basis, Dataset.unpacked(results.read("label", "validation")), study.fit.observed, comm=comm
    )
    losses = []
    for tolerance in study.fit.tolerances:
        found = comm.bcast(design.matching(factors, solve(tolerance).coefficients))
        losses.append(sum(weights[name] * of["rmse"] ** 2 * of["n_rows"] for name, of in found.items()))
        logger.info("    tolerance %.1e: loss %.4e on the validation set", tolerance, losses[-1])
    best = study.fit.tolerances[int(np.argmin(losses))]
    return best, {
        "tolerance": Field(best, about="the one with the least loss on the validation set"),
        "validation_tolerances": Field(np.array(study.fit.tolerances)),
        "validation_losses": Field(np.array(losses)),
    }


def entropy_error_fields(
    study: Study,
    results: Results,
    basis: ACEBasis,
    solution: Regression,
    test: Prediction | None,
    fields: Fields,
    comm: MPI.Comm,
) -> Fields:
    """The fields of `train` by their right names, and errors by set and type. Collective on ``comm``."""
    errors: dict[str, dict[str, dict[str, Any]]] = {}
    for of in ("validation", "test"):
        if not int(results.read("label", f"n_{of}")):
            continue
        data = Dataset.unpacked(results.read("label", of))
        names = tuple(dict.fromkeys(("energy", "force", *study.fit.observed)))
        factors = design.build_factors(basis, data, names, comm=comm)
        for kind in data.types:
            own = {key: factor for key, factor in factors.items() if key[0] == kind}
            found = comm.bcast(design.matching(own, solution.coefficients))
            errors.setdefault(of, {})[kind] = {
                _ENTROPY_NAMES.get(name, name): {"rmse": x["rmse"], "n": x["n_rows"]} for name, x in found.items()
            }
            told = ", ".join(f"{name} {x['rmse']:.2e}" for name, x in errors[of][kind].items())
            logger.info("    %-10s %-12s %s", of, kind, told)
    named = {_entropy_name(name): _of_entropy(name, field) for name, field in fields.items()}
    named["entropy_errors"] = Field(errors, "k_B", "root mean squares by set and type; gradients in k_B/A")
    fitted = [name for name in study.fit.observed if getattr(study.fit.weights, name) > 0.0]
    named["fitted"] = Field(fitted, about="observations with a weight; energy is S_f, force is -dS/du")
    if test is not None:
        named |= attempt_frequency_fields(results, test)
        named["test_entropy_reference"] = Field(test.energy_reference_o, "k_B", "S_f of the test cells")
        named["test_entropy_surrogate"] = Field(test.energy_o, "k_B")
        named["test_types"] = Field(list(test.kind_o))
    return named


def attempt_frequency_fields(results: Results, test: Prediction) -> Fields:
    """Errors of attempt frequencies by the entropies of the test set's states about saddles. Collective.

    nu* = exp(S_saddle - S_minimum) / (2 pi sqrt(m)), one mass; the minimum's entropy is the reference's.
    """
    if "minimum_entropy" not in results.names("label"):
        return {}
    minima, mass = (results.read("label", name) for name in ("minimum_entropy", "mass"))
    use = np.isin(list(test.kind_o), list(minima))
    if not use.any():
        return {}
    kinds = [kind for kind in test.kind_o if kind in minima]
    level_o, scale_o = (np.array([of[kind] for kind in kinds]) for of in (minima, mass))
    nu = [THZ_PER_ROOT / np.sqrt(scale_o) * np.exp(np.asarray(s_o)[use] - level_o)
          for s_o in (test.energy_reference_o, test.energy_o)]  # fmt: skip
    rmse = float(np.sqrt(np.mean((nu[1] - nu[0]) ** 2)))
    logger.info("attempt frequencies of %d states about saddles: RMSE %.4f THz of %.4f", len(kinds), rmse, nu[0].mean())
    return {
        "test_attempt_frequency_reference": Field(nu[0], "THz", "of the test set's states about saddles"),
        "test_attempt_frequency_surrogate": Field(nu[1], "THz"),
        "rmse_attempt_frequency": Field(rmse, "THz", "on the test set"),
    }


def _entropy_name(name: str) -> str:
    """rmse_energy_per_atom is rmse_entropy_per_atom, test_forces_reference is test_gradient_reference."""
    if "virial" in name:
        return name
    for energy, entropy in (("energies", "entropies"), ("forces", "gradient"), *_ENTROPY_NAMES.items()):
        name = name.replace(energy, entropy)
    return name


def _of_entropy(name: str, field: Field) -> Field:
    """The same with the unit of entropies; arrays of forces are minus the gradients."""
    value = -np.asarray(field.value) if name in ("test_forces_reference", "test_forces_surrogate") else field.value
    return Field(value, {"eV": "k_B", "eV/A": "k_B/A"}.get(field.units, field.units), field.about)
