"""Fits over ranks: exactness, weights, independence of the number of ranks, formation energies."""

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConfigError, DataError
from parmlip.fit.dataset import Dataset, labelled
from parmlip.fit.design import build_factors, fit, matching, packed, unpacked
from parmlip.fit.observations import OBSERVATIONS, Evaluation, Labels, configuration_of
from parmlip.fit.prediction import predict
from parmlip.fit.sampling import sample
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam import builtin

LAW = builtin("W-EAM4")
BASIS = ACEBasis(("W",), correlation_order=2, total_degree=6, cutoff=5.0, r0=2.74)
WEIGHTS = {"energy": 100.0, "force": 1.0, "virial": 0.5}
PERFECT = build_supercell(LATTICES["bcc"], 3.14339, (2, 2, 2), ("W",))
DEFECTIVE = apply_defects(PERFECT, [Vacancy((0.0, 0.0, 0.0))])


def states(n=3):
    return [
        *sample(PERFECT, PERFECT.positions_ac, n, 0.1, "julip", name="homogeneous", seed=1, index=(0,)),
        *sample(DEFECTIVE, DEFECTIVE.positions_ac, n, 0.1, "julip", name="vacancy", seed=1, index=(1,)),
    ]


def stacked(dataset, by_type):
    """All rows and values in one matrix, scaled by the square roots of the weights."""
    rows, values = [], []
    for configuration, labels in zip(dataset.configurations, dataset.labels, strict=True):
        evaluation = Evaluation(BASIS, configuration)
        for name, observation in OBSERVATIONS.items():
            w = np.sqrt(WEIGHTS[name] * by_type.get(configuration.name, 1.0))
            rows.append(w * observation.rows(evaluation))
            values.append(w * observation.values(configuration, labels))
    return np.vstack(rows), np.concatenate(values)


@pytest.mark.mpi
@pytest.mark.parametrize("n", [0, 3])
def test_the_fit_over_ranks_is_the_fit_of_the_stacked_rows(comm, n):
    dataset = labelled(LAW, states(n), comm=comm)
    factors = build_factors(BASIS, dataset, WEIGHTS, comm=comm)
    assert bool(factors) == (comm.rank == 0)
    for by_type in ({}, {"vacancy": 10.0}):
        result = fit(factors, WEIGHTS, by_type, tolerance=1e-8, comm=comm)
        rows, values = stacked(dataset, by_type)
        norms = np.linalg.norm(rows, axis=0)
        best = np.linalg.lstsq(rows / norms, values, rcond=1e-8)[0] / norms
        least = np.linalg.norm(rows @ best - values)
        assert result.n_rows == len(values)
        if n:
            assert result.residual_norm == pytest.approx(least, rel=1e-4)
            assert np.linalg.norm(rows @ result.coefficients - values) == pytest.approx(result.residual_norm, rel=1e-8)


@pytest.mark.mpi
def test_labels_predictions_and_fits_do_not_depend_on_the_number_of_ranks(comm):
    alone = labelled(LAW, states(), comm=MPI.COMM_SELF)
    together = labelled(LAW, states(), comm=comm)
    for a, b in zip(alone.labels, together.labels, strict=True):
        assert a.energy == b.energy
        assert np.array_equal(a.forces_ac, b.forces_ac)
    one = fit(build_factors(BASIS, alone, WEIGHTS, comm=MPI.COMM_SELF), WEIGHTS, tolerance=1e-6, comm=MPI.COMM_SELF)
    all_ = fit(build_factors(BASIS, together, WEIGHTS, comm=comm), WEIGHTS, tolerance=1e-6, comm=comm)
    assert one.rank == all_.rank
    first = predict(ACE(BASIS, one.coefficients), alone, comm=MPI.COMM_SELF)
    second = predict(ACE(BASIS, all_.coefficients), together, comm=comm)
    assert np.abs(first.force_o - second.force_o).max() < 1e-6 * np.abs(first.force_o).max()
    assert first.errors.rmse_force == pytest.approx(second.errors.rmse_force, rel=1e-6)
    assert predict(ACE(BASIS, one.coefficients), together, comm=comm).errors == first.errors


@pytest.mark.mpi
def test_a_law_in_the_span_of_the_basis_is_found_exactly(comm):
    truth = ACE(BASIS, np.random.default_rng(5).standard_normal(BASIS.n_basis))
    dataset = labelled(truth, states(5), comm=comm)
    result = fit(build_factors(BASIS, dataset, comm=comm), WEIGHTS, tolerance=1e-13, comm=comm)
    assert result.rank == BASIS.n_basis
    errors = predict(ACE(BASIS, result.coefficients), dataset, comm=comm).errors
    scale = max(np.abs(of.forces_ac).max() for of in dataset.labels)
    assert errors.max_force_error < 1e-9 * scale
    assert errors.max_energy_error < 1e-9 * max(abs(of.energy) for of in dataset.labels)


def test_factors_give_the_errors_of_their_rows_and_survive_storage():
    comm = MPI.COMM_SELF
    dataset = labelled(LAW, states(), comm=comm)
    factors = build_factors(BASIS, dataset, comm=comm)
    result = fit(factors, WEIGHTS, tolerance=1e-6, comm=comm)
    law = ACE(BASIS, result.coefficients)
    for kind in dataset.types:
        seen = predict(law, dataset, kind, comm=comm).errors
        errors = matching({key: f for key, f in factors.items() if key[0] == kind}, result.coefficients)
        assert errors["energy"]["rmse"] == pytest.approx(seen.rmse_energy, rel=1e-6)
        assert errors["force"]["rmse"] == pytest.approx(seen.rmse_force, rel=1e-6)
    again = fit(unpacked(packed(factors)), WEIGHTS, tolerance=1e-6, comm=comm)
    assert np.allclose(again.coefficients * result.column_norms, result.coefficients * result.column_norms, rtol=1e-6)


def test_a_configurations_own_weight_counts_as_that_many_configurations():
    comm = MPI.COMM_SELF
    dataset = labelled(LAW, states(), comm=comm)
    heavy = [
        Labels(of.energy, of.forces_ac, of.virial_cc, {"energy": 4.0, "force": 4.0} if i == 5 else {})
        for i, of in enumerate(dataset.labels)
    ]
    weighted = Dataset(dataset.configurations, tuple(heavy))
    repeated = Dataset(
        dataset.configurations + 3 * dataset.configurations[5:6], dataset.labels + 3 * dataset.labels[5:6]
    )
    fits = [fit(build_factors(BASIS, d, comm=comm), WEIGHTS, tolerance=1e-6, comm=comm) for d in (weighted, repeated)]
    assert fits[0].residual_norm == pytest.approx(fits[1].residual_norm, rel=1e-9)
    assert np.allclose(*(f.coefficients * f.column_norms for f in fits), rtol=1e-6)


def test_formation_energies_need_the_levels_of_both_cells():
    comm = MPI.COMM_SELF
    lattice = [configuration_of(c, "lattice") for c in (PERFECT, DEFECTIVE)]

    def unrelaxed_formation_energy(law):
        perfect, defective = (of.energy for of in labelled(law, lattice, comm=comm).labels)
        return defective - DEFECTIVE.n_sites / PERFECT.n_sites * perfect

    everything = labelled(LAW, states(6), comm=comm)
    differences = [
        i for i, c in enumerate(everything.configurations) if c.name == "vacancy" and c.reference is not None
    ]
    only_differences = Dataset(
        tuple(everything.configurations[i] for i in differences), tuple(everything.labels[i] for i in differences)
    )
    truth = unrelaxed_formation_energy(LAW)
    errors = []
    for dataset in (everything, only_differences):
        result = fit(build_factors(BASIS, dataset, comm=comm), WEIGHTS, tolerance=1e-8, comm=comm)
        errors.append(abs(unrelaxed_formation_energy(ACE(BASIS, result.coefficients)) - truth))
    assert errors[0] < 0.05
    assert errors[1] > 20 * errors[0]


@pytest.mark.mpi
def test_a_bad_configuration_is_named_on_every_rank(comm):
    good = states(2)
    dataset = labelled(LAW, good, comm=comm)
    labels = list(dataset.labels)
    forces = labels[2].forces_ac.copy()
    forces[3, 1] = np.nan
    labels[2] = Labels(labels[2].energy, forces)
    with pytest.raises(DataError, match=r"configuration 2 \(type 'homogeneous'\): 1 of 48 rows are not finite"):
        build_factors(BASIS, Dataset(dataset.configurations, tuple(labels)), comm=comm)
    with pytest.raises(ConfigError, match="unknown observation 'forces'"):
        build_factors(BASIS, dataset, ["forces"], comm=comm)
    nothing = Dataset(dataset.configurations, tuple(Labels(None) for _ in labels))
    with pytest.raises(DataError, match="no configuration has a label for energy or force"):
        build_factors(BASIS, nothing, comm=comm)
    with pytest.raises(DataError, match="no configurations to predict of type 'x'"):
        predict(LAW, dataset, "x", comm=comm)
