"""The stages, top to bottom: what is computed from an input file.

Each is collective on ``comm`` and returns its results as fields (those of rank 0 are kept); what another stage made is
read from `results`, so that a resumed run is the same as an uninterrupted one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from parmlip import construct
from parmlip.analysis.errors import compare_geometry
from parmlip.config import Study
from parmlip.construct_controlled import defect_distance, domain_size
from parmlip.construct_qmmm import check_everywhere, cluster_warnings, radius_warnings
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.errors import ConfigError
from parmlip.fit import design
from parmlip.fit.dataset import Dataset, labelled
from parmlip.fit.prediction import Prediction, PredictionErrors, compared, errors_by_type
from parmlip.fit.sampling import sample
from parmlip.io.atoms import write_structures
from parmlip.io.equilibria import relaxed_structures
from parmlip.io.hdf5 import Field
from parmlip.io.reference_cache import CachedLaw
from parmlip.io.results import Results
from parmlip.numerics.regression import Regression
from parmlip.parallel.comm import on_root
from parmlip.parallel.farm import on_root_alone
from parmlip.parallel.logs import timed
from parmlip.potentials.ace import ACE
from parmlip.potentials.base import SiteLaw
from parmlip.report import draw, table
from parmlip.stages_advise import advised
from parmlip.stages_balance import balanced_solution
from parmlip.stages_bars import committee_fields
from parmlip.stages_controlled import equilibria, law_of
from parmlip.stages_dataset import dataset_fields
from parmlip.stages_dislocations import build_fields, compared_cores, core_fields, start
from parmlip.stages_domain import domain_fields, shared_sites
from parmlip.stages_entropy import entropy_fields
from parmlip.stages_entropy_fit import chosen_tolerance, entropy_error_fields, entropy_labels
from parmlip.stages_entropy_predict import predicted_fields
from parmlip.stages_equilibrium import bulk_fields, crystal_of, relaxed_equilibrium
from parmlip.stages_errors import parity_fields, split_fields
from parmlip.stages_locality import locality_fields
from parmlip.stages_match import matched
from parmlip.stages_offsets import scanned_start
from parmlip.stages_qmmm import qmmm_fields
from parmlip.stages_rates import moves, rates_fields, saddle_positions
from parmlip.stages_rows import (
    all_factors,
    constraints,
    lattice_labels,
    matching_fields,
    probes_of,
    weights_of_rows,
)
from parmlip.stages_total import bulk_of_total, equilibrium_of_total, labels, relaxed_positions

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
Crystal = tuple[Lattice, float]


def build(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """The lattice constant and the simulation cell."""
    of = None
    if study.crystal.lattice is not None:
        law = construct.any_law(study) if "reference" in study.tables else None
        of = on_root_alone(comm, "relaxing the lattice", construct.lattice, study, law)
    cell = construct.supercell(study, study.simulation, of)
    if "rates" in study.run.stages and of is not None:
        moves(study, cell, of)  # jumps that cannot be are told before any work
    if "qmmm" in study.run.stages and of is not None:
        check_everywhere(study, of)
        for line in cluster_warnings(study) + radius_warnings(study):
            logger.warning("%s", line)
    fields = {
        "n_sites": Field(cell.n_sites, about="sites of the simulation cell"),
        "dimension": Field(cell.dimension),
        "cell": Field(cell.cell_cc, "A"),
        "periodic": Field(np.array(cell.periodic)),
        "positions": Field(cell.positions_ac, "A", "reference configuration"),
        "species": Field([cell.species[s] for s in cell.species_a]),
    }
    if of is not None:
        fields["lattice_constant"] = Field(of[1], "A")
        if of[0].name == "hcp":
            fields["c_over_a"] = Field(float(of[0].cell_cc[2, 2]))
        logger.info("lattice constant %.8f A, %d sites", of[1], cell.n_sites)
        fields |= domain_fields(study, of) | build_fields(study, of)
        if len(study.simulation.defects) > 1:
            apart = defect_distance(study, cell, of)
            fields["defect_distance"] = Field(apart, about="of the two nearest defects, nearest-neighbour distances")
    return fields


def reference(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """The reference law's perfect crystal: energy per site and elastic constants."""
    of = crystal_of(study, results)
    if of is None:
        return {"has_lattice": Field(False)}
    law = construct.any_law(study)
    fields = bulk_of_total(study, law, of, comm) if isinstance(law, CachedLaw) else bulk_fields(law, of, study)
    return {"has_lattice": Field(True), **fields}


def label(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """Training and test configurations with the reference's energies, forces and virials.

    Perfect cells ("homogeneous") are always among them: without them formation energies are not determined.
    """
    of, law = crystal_of(study, results), construct.any_law(study)
    if study.surrogate.target == "entropy":
        return entropy_labels(study, law, of, comm)
    seed = study.run.seed
    training, test, centres = [], [], {}
    for number, block in enumerate(study.training):
        name = block.name or f"training-{number + 1}"
        cell = construct.supercell(study, block, of)
        centre_ac = cell.positions_ac
        start_ad = start(study, results, block, of)  # with dislocations the lattice is not where they begin
        if start_ad is not None:
            centre_ac = centre_ac + start_ad
        if block.jump is not None:
            assert of is not None  # the input was checked
            _, centre_ac = on_root_alone(
                comm, f"saddle of {name}", saddle_positions, study, law, cell, of, block.jump, name
            )
        elif block.relax:
            centre_ac = on_root_alone(comm, f"relaxing {name}", relaxed_positions, study, law, cell, name, start_ad)
        centres[str(number)] = (centre_ac - cell.positions_ac)[:, : cell.dimension]
        rattle = (block.rattle.amplitude, block.rattle.kind)
        of_cell = partial(sample, cell, centre_ac, name=name, seed=seed, absolute=block.energies == "absolute")
        training += of_cell(block.samples, *rattle, index=(number, 0))
        test += of_cell(block.test_samples, *rattle, index=(number, 1), with_reference=False)
    if study.fit.homogeneous and of is not None:
        first = study.training[0]
        perfect = construct.perfect_supercell(study, first, of)
        training += sample(
            perfect, perfect.positions_ac, study.fit.homogeneous - 1, first.rattle.amplitude, first.rattle.kind,
            name="homogeneous", seed=seed, index=(len(study.training), 0),
        )  # fmt: skip
    of_training = labels(study, law, training, "training labels", comm, probes=probes_of(study))
    rows = lattice_labels(study, law, of, comm)
    fields = {"training": Field(of_training.packed()), **rows}
    if test:
        fields["test"] = Field(labels(study, law, test, "test labels", comm).packed())
    return {
        **fields,
        "centre": Field(centres, "A", "displacements of the training cells that are rattled"),
        "n_training": Field(len(training), about="configurations"),
        "n_test": Field(len(test), about="configurations"),
    }


def read_dataset(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """Instead of `label`: structures of files with their labels, the one-body energies taken off."""
    return dataset_fields(study, comm)


def train(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """The surrogate's coefficients, and its errors on the training and the test configurations."""
    of = crystal_of(study, results)
    basis = construct.ace_basis(study.surrogate, _species(study, results), of, _nearest_distance(study, results))
    training = Dataset.unpacked(results.read("label", "training"))
    weights = weights_of_rows(study, of)
    begin = time.perf_counter()
    with timed("design"):
        factors = all_factors(study, results, basis, training, of)
    exact = constraints(study, results, basis, of)
    by_type = construct.type_weights(study)

    def solve(weights: Mapping[str, float], tolerance: float = study.fit.tolerance) -> Regression:
        return design.fit(
            factors, weights, by_type,
            solver=study.fit.solver, tolerance=tolerance, column_scaling=study.fit.column_scaling,
            prior_k=basis.smoothness(study.fit.smoothness) if study.fit.smoothness else None,
            constraints=exact, covariance=study.fit.committee > 0, comm=comm,
        )  # fmt: skip

    with timed("least squares"):
        tolerance, choice = chosen_tolerance(study, results, basis, partial(solve, weights), comm)
        chosen = partial(solve, tolerance=tolerance)
        solution, balance = balanced_solution(study, results, basis, factors, training, of, chosen, weights, comm)
    seconds = time.perf_counter() - begin
    law = ACE(basis, solution.coefficients)
    whole = law  # with the one-body energies that the labels of a data set do not have
    if "dataset" in study.tables:
        whole = law.with_one_body(results.read("label", "one_body"))
    n_rows = comm.bcast(sum(f.n_rows for f in factors.values()))
    predicted = labelled(law, training.configurations, comm=comm, what="predictions")
    prediction = compared(training, predicted)
    by_set = {"training": errors_by_type(training, predicted)}
    fields = {
        "basis": Field(whole.basis.parameters()),
        "coefficients": Field(whole.coefficients),
        "n_basis": Field(basis.n_basis),
        "rank": Field(solution.rank, about="numerical rank of the weighted, scaled design matrix"),
        "degrees_of_freedom": Field(solution.degrees_of_freedom),
        **balance,
        **choice,
        "residual_norm": Field(solution.residual_norm, about="of the weighted rows"),
        "hyperparameters": Field(solution.hyperparameters),
        "n_observations": Field(n_rows, about="rows of the design matrix"),
        "fit_seconds": Field(seconds, "s", "rows with their factors, and least squares"),
        "factors": Field(design.packed(factors), about="triangular factors by configuration type and observation"),
        **_prediction_fields(prediction, ""),
        **matching_fields(factors, solution, comm),
    }
    if solution.covariance_factor is not None and solution.solver in ("blr", "ard"):
        fields["covariance_factor"] = Field(solution.covariance_factor, about="L of the posterior covariance L L^T")
    if exact is not None:
        fields["constraint_error"] = Field(exact.error(solution.coefficients), about="relative, largest")
        logger.info("constraints met to %.1e", fields["constraint_error"].value)
    logger.info("%d functions, rank %d, %d rows%s", basis.n_basis, solution.rank, n_rows, solution.open_told)
    test = None
    if results.read("label", "n_test"):
        test = Dataset.unpacked(results.read("label", "test"))
        predicted = labelled(law, test.configurations, comm=comm, what="predictions")
        prediction = compared(test, predicted)
        by_set["test"] = errors_by_type(test, predicted)
        fields |= _prediction_fields(prediction, "test_")
        fields["test_forces_reference"] = Field(prediction.force_reference_o, "eV/A")
        fields["test_forces_surrogate"] = Field(prediction.force_o, "eV/A")
        errors = prediction.errors
        logger.info("test set: force RMSE %.3e eV/A, energy RMSE %.3e eV", errors.rmse_force, errors.rmse_energy)
    fields |= committee_fields(study, basis, solution, test, None if test is None else prediction, comm)
    if study.surrogate.target == "entropy":
        of_test = None if test is None else prediction
        return entropy_error_fields(study, results, basis, solution, of_test, fields, comm)
    if "dataset" in study.tables:
        fields["errors"] = Field(
            {name: {kind: _plain_errors(e) for kind, e in by.items()} for name, by in by_set.items()}
        )
        last = "test" if "test" in by_set else "training"
        fields |= parity_fields(prediction, last)
    if of is not None and "training" in study.tables:
        fields["domain_size"] = Field(
            domain_size(study, of), about="L of the smallest training cell, nearest distances"
        )
    return fields if of is None else {**fields, **bulk_fields(whole, of, study)}


def train_controlled(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """Instead of `train`: what a controlled surrogate is expanded about, and its perfect crystal."""
    of = crystal_of(study, results)
    assert of is not None  # the input was checked
    law, fields = equilibria(study, results, of, comm)
    return {**fields, **bulk_fields(law, of, study)}


def match(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """The surrogate's matching conditions with the reference."""
    return matched(study, results, crystal_of(study, results), comm)


def relax_reference(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """The reference's equilibrium in the simulation cell."""
    law, of = construct.any_law(study), crystal_of(study, results)
    if isinstance(law, CachedLaw):
        start_ad = start(study, results, study.simulation, of)
        fields = equilibrium_of_total(study, law, of, comm, start_ad)
        return {**fields, **core_fields(study, results, of, fields["displacement"].value, "reference")}
    start_ad, scan = scanned_start(study, results, of, law, comm, "reference")
    return {**relaxed_equilibrium(study, results, comm, law, "reference", start_ad), **scan}


def relax_surrogate(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """The surrogate's equilibrium, sought from the reference's where that is known: the same basin is wanted."""
    law = _surrogate(study, results)
    scan: Fields = {}
    if "reference" in study.relax.laws:
        start_ad = results.read("relax_reference", "displacement")
    else:
        start_ad, scan = scanned_start(study, results, crystal_of(study, results), law, comm, "surrogate")
    return {**relaxed_equilibrium(study, results, comm, law, "surrogate", start_ad), **scan}


def compare(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """Geometry error in the stencil norm, errors of the relaxation energy and of the formation energy."""
    of = crystal_of(study, results)
    cell = construct.supercell(study, study.simulation, of)
    u_ref, u_sur = (results.read(f"relax_{law}", "displacement") for law in ("reference", "surrogate"))
    pairs = nearest_neighbours(cell, study.compare.stencil, shared_sites(study, of, cell, comm))
    geometry = compare_geometry(pairs, u_ref, u_sur, study.compare.same_basin, comm=comm)
    energies = {law: results.read(f"relax_{law}", "energy") for law in ("reference", "surrogate")}
    fields = {
        "geometry_error": Field(geometry.error, "A", "||D u_ref - D u_sur||, stencil norm"),
        "geometry_norm": Field(geometry.reference_norm, "A", "||D u_ref||"),
        "max_displacement_difference": Field(geometry.max_difference, "A"),
        "same_basin": Field(geometry.same_basin),
        "energy_reference": Field(energies["reference"], "eV", "E(u) - E(0)"),
        "energy_surrogate": Field(energies["surrogate"], "eV", "E(u) - E(0)"),
        "energy_error": Field(abs(energies["reference"] - energies["surrogate"]), "eV"),
        "displacement_reference": Field(np.linalg.norm(u_ref, axis=1), "A"),
        "displacement_surrogate": Field(np.linalg.norm(u_sur, axis=1), "A"),
        "displacement_difference": Field(np.linalg.norm(u_ref - u_sur, axis=1), "A"),
        "n_defects": Field(len(study.simulation.defects)),
    }
    if geometry.reference_norm > 0.0:  # by symmetry nothing may move
        fields["geometry_error_relative"] = Field(geometry.relative)
    if of is not None and study.simulation.defects:
        fields |= split_fields(study, of, cell, pairs, u_ref - u_sur, comm)
    fields |= compared_cores(study, results, of, pairs, u_ref - u_sur, comm)
    if "same_cores" in fields:
        fields["same_basin"] = Field(bool(geometry.same_basin and fields["same_cores"].value))
    if all("formation_energy" in results.names(f"relax_{law}") for law in ("reference", "surrogate")):
        formation = [float(results.read(f"relax_{law}", "formation_energy")) for law in ("reference", "surrogate")]
        fields["formation_energy_reference"] = Field(formation[0], "eV")
        fields["formation_energy_surrogate"] = Field(formation[1], "eV")
        fields["formation_energy_error"] = Field(abs(formation[0] - formation[1]), "eV")
    if not fields["same_basin"].value:
        logger.warning("the surrogate relaxed into another basin: its errors are not those of this one")
    of_cell = fields["energy_error"]
    if "same_cores" in fields:  # E(u) - E(0) is of a crystal without cores, where expansions about cores mean nothing
        of_cell = fields.get("formation_energy_error", of_cell)
    logger.info("geometry error %.3e A, energy error %.3e eV", geometry.error, of_cell.value)
    return fields


def qmmm(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """The equilibrium of the reference coupled with an MM law, and its errors."""
    return qmmm_fields(study, results, comm)


def advise(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """The surrogate's error budget in the simulation cell, and what to change."""
    of = crystal_of(study, results)
    assert of is not None  # the input was checked
    return advised(study, results, of, comm)


def entropy(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """Vibrational entropy of the reference's equilibrium."""
    return entropy_fields(study, results, comm, construct.reference_law(study), "relax_reference")


def entropy_surrogate(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """Vibrational entropy of the surrogate's equilibrium, by the surrogate."""
    return entropy_fields(study, results, comm, _surrogate(study, results), "relax_surrogate")


def predict_entropy(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """What a surrogate of the entropy says of the simulation cell."""
    return predicted_fields(study, results, comm)


def rates(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """Barriers, attempt frequencies and rates of the reference's jumps."""
    return _rates(study, results, comm, construct.reference_law(study), "relax_reference")


def rates_surrogate(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """The same with the surrogate."""
    return _rates(study, results, comm, _surrogate(study, results), "relax_surrogate")


def locality(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """Decay of the derivatives of a site entropy of the reference, and the error of its truncation."""
    return locality_fields(study, results, comm)


def _rates(study: Study, results: Results, comm: MPI.Comm, law: SiteLaw, equilibrium: str) -> Fields:
    of = crystal_of(study, results)
    assert of is not None  # the input was checked
    cell = construct.supercell(study, study.simulation, of)
    return rates_fields(study, comm, law, cell, of, results.read(equilibrium, "displacement"))


def report(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """Figures and the table at the end, from the result file alone."""
    directory = Path(study.report.directory) if study.report.directory else results.path.parent

    def work() -> list[str]:
        for line in table(results.path):
            logger.info("%s", line)
        files = draw(results.path, directory) if study.report.figure else []
        if study.report.structures:
            for name, atoms in relaxed_structures(results.path).items():
                files.append(directory / f"{results.path.stem}_{name}.xyz")
                write_structures(files[-1], [atoms])
        return [str(path) for path in files]

    files = on_root(comm, "reporting", work)
    for path in files:
        logger.info("wrote %s", path)
    return {"files": Field(files)}


def _surrogate(study: Study, results: Results) -> SiteLaw:
    """The surrogate as the stage train left it. Collective."""
    of = crystal_of(study, results)
    if study.surrogate.kind == "taylor" and of is not None:
        return law_of(study, results, of)
    return construct.surrogate_law(results)


def _nearest_distance(study: Study, results: Results) -> float | None:
    """That of the data set, if there is one. Collective."""
    if "dataset" not in study.tables or "nearest_distance" not in results.names("label"):
        return None
    return float(results.read("label", "nearest_distance"))


def _species(study: Study, results: Results) -> tuple[str, ...]:
    """Species of the surrogate: those of the data set, or of the input's tables. Collective."""
    if "dataset" not in study.tables:
        return construct.species_of_tables(study)
    species = tuple(results.read("label", "species"))
    unknown = [symbol for symbol in construct.species_of_tables(study) if symbol not in species]
    if unknown:
        raise ConfigError(f"{', '.join(unknown)} of [crystal] or [simulation] is not in the data set: {species}")
    return species


def _prediction_fields(prediction: Prediction, prefix: str) -> Fields:
    units = {"energy": "eV", "force": "eV/A", "virial": "eV"}
    return {
        prefix + name: Field(value, next((u for word, u in units.items() if word in name and name[:2] != "n_"), ""))
        for name, value in _plain_errors(prediction.errors).items()
    }


def _plain_errors(errors: PredictionErrors) -> dict[str, Any]:
    """Errors by name, without those of which nothing is labelled."""
    return {k: v for k, v in asdict(errors).items() if not (isinstance(v, float) and math.isnan(v))}
