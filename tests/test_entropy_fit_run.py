"""Surrogates of the entropy by input file."""

from __future__ import annotations

import ase.build
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from mpi4py import MPI

from parmlip.config import loads
from parmlip.construct import reference_law, surrogate_law
from parmlip.errors import ConfigError
from parmlip.evaluate import evaluate
from parmlip.fit.dataset import Dataset, labelled
from parmlip.io.atoms import read_structures, write_structures
from parmlip.io.calculator import ParmlipCalculator
from parmlip.io.hdf5 import ResultFile
from parmlip.io.results import Results
from parmlip.pipeline import refit, run
from parmlip.report import draw, table
from parmlip.report.entropy_figure import read_entropy_fits
from tests.program import parmlip

INPUT = """
[run]
stages = ["build", "reference", "train"]
output = "OUTPUT"
[crystal]
lattice = "diamond"
species = ["Si"]
lattice_constant = 5.43
[reference]
kind = "stillinger_weber"
parameters = "Si-SW-2.1675"
[simulation]
cell = [2, 2, 1]
[[training]]
name = "bulk"
cell = [2, 2, 1]
samples = 6
validation_samples = 4
test_samples = 3
rattle = { amplitude = 0.1, kind = "julip_random" }
[[training]]
name = "vacancy"
cell = [2, 2, 1]
defects = [ { kind = "vacancy", at = [0, 0, 0] } ]
samples = 5
test_samples = 2
rattle = { amplitude = 0.1, kind = "half_random" }
[surrogate]
target = "entropy"
correlation_order = 2
total_degree = 6
cutoff = 4.5
[fit]
solver = "ridge"
tolerances = [1e-1, 1e-5, 1e-9]
homogeneous = 2
weights = { energy = 3600.0, force = 1.0 }
"""


SITES = "fit.weights={energy = 0.0, force = 0.0, site_entropy = 1.0, site_entropy_gradient = 0.01}"


def study_of(path, *changes):
    return loads(INPUT.replace("OUTPUT", str(path)), changes)


def done(path, *changes, comm=MPI.COMM_SELF):
    run(study_of(path, *changes), comm)
    return ResultFile(path)


@pytest.fixture(scope="module")
def total(tmp_path_factory):
    return done(tmp_path_factory.mktemp("fit") / "total.h5")


def test_labels_are_formation_entropies_of_the_sets_that_were_asked_for(total):
    counts = [int(total.read("label", f"n_{of}")) for of in ("training", "validation", "test")]
    assert counts == [6 + 5 + 2, 4, 5]
    training = Dataset.unpacked(total.read("label", "training"))
    unrattled = training.configurations.index(next(c for c in training.configurations if c.name == "homogeneous"))
    assert abs(training.labels[unrattled].energy) < 1e-9
    of = {c.name: labels.energy for c, labels in zip(training.configurations, training.labels, strict=True)}
    assert 2.5 < of["vacancy"] < 4.5
    assert abs(of["bulk"]) < 0.5


def test_the_tolerance_is_the_best_on_the_validation_set_alone(total):
    losses = total.read("train", "validation_losses")
    tolerances = total.read("train", "validation_tolerances")
    assert total.read("train", "tolerance") == tolerances[int(np.argmin(losses))]
    assert losses[0] > losses.min()  # so strong a regularisation is not the best
    validation = Dataset.unpacked(total.read("label", "validation"))
    law = surrogate_law(Results(total.path, comm=MPI.COMM_SELF))
    predicted = labelled(law, validation.configurations, comm=MPI.COMM_SELF)
    wrong = sum(
        3600.0 * (a.energy - b.energy) ** 2 + np.sum((a.forces_ac - b.forces_ac) ** 2)
        for a, b in zip(validation.labels, predicted.labels, strict=True)
    )
    assert losses.min() == pytest.approx(wrong, rel=1e-6)


def test_errors_are_told_by_set_and_type_under_the_names_of_entropies(total):
    errors = total.read("train", "entropy_errors")
    assert set(errors) == {"validation", "test"}
    assert set(errors["test"]) == {"bulk", "vacancy"}
    assert errors["test"]["bulk"]["gradient"]["n"] == 3 * 96
    parts = [errors["test"][kind]["gradient"] for kind in ("bulk", "vacancy")]
    whole = np.sqrt(sum(p["rmse"] ** 2 * p["n"] for p in parts) / sum(p["n"] for p in parts))
    assert total.read("train", "test_rmse_gradient") == pytest.approx(whole, rel=1e-8)
    given, found = (total.read("train", f"test_entropy_{of}") for of in ("reference", "surrogate"))
    assert np.sqrt(np.mean((given - found) ** 2)) == pytest.approx(total.read("train", "test_rmse_entropy"))
    assert total.read("train", "fitted") == ["energy", "force"]
    assert not any("energy" in name or "force" in name for name in total.names("train"))
    assert total.read("train", "test_rmse_entropy") < 0.1 * np.std(given)


@pytest.fixture(scope="module")
def rattled_silicon():
    structures = []
    for seed, size in ((1, 2), (2, 3)):
        atoms = ase.build.bulk("Si", "diamond", a=5.43, cubic=True).repeat((2, 2, size))
        atoms.rattle(0.05, seed=seed)
        atoms.calc = SinglePointCalculator(atoms, energy=-4.3, forces=atoms.positions)  # another law's
        structures.append(atoms)
    return structures


def test_what_is_evaluated_of_an_entropy_has_names_of_its_own(total, rattled_silicon, tmp_path):
    results = Results(total.path, comm=MPI.COMM_SELF)
    found = evaluate(study_of(total.path), rattled_silicon, "surrogate", results, MPI.COMM_SELF, None)
    write_structures(tmp_path / "entropies.xyz", found)
    for atoms, given in zip(read_structures(tmp_path / "entropies.xyz"), rattled_silicon, strict=True):
        assert atoms.calc is None  # nothing that a program would take for energies, forces or a stress
        assert set(atoms.info) == {"entropy"}
        assert set(atoms.arrays) == {"numbers", "positions", "entropy_gradient", "site_entropy"}
        assert atoms.arrays["site_entropy"].sum() == pytest.approx(atoms.info["entropy"], abs=1e-6)
        moved = []
        for step in (1e-4, -1e-4):
            copy = given.copy()
            copy.positions[3, 1] += step
            moved += evaluate(study_of(total.path), [copy], "surrogate", results, MPI.COMM_SELF, None)
        slope = (moved[0].info["entropy"] - moved[1].info["entropy"]) / 2e-4
        assert abs(slope) > 1e-3
        assert atoms.arrays["entropy_gradient"][3, 1] == pytest.approx(slope, abs=1e-6)


def test_an_entropy_is_no_potential(total, rattled_silicon, tmp_path):
    with pytest.raises(ConfigError, match=r"is of the entropy in k_B .*not a potential"):
        ParmlipCalculator(total.path)
    of_reference = f"reference.file={total.path}", "reference.kind=ace"
    study = loads('[reference]\nkind = "ace"\nfile = "a.yace"', of_reference)
    with pytest.raises(ConfigError, match="not a potential"):
        reference_law(study)
    results = Results(total.path, comm=MPI.COMM_SELF)
    with pytest.raises(ConfigError, match="--hessian .* no Hessians"):
        evaluate(study_of(total.path), rattled_silicon, "surrogate", results, MPI.COMM_SELF, tmp_path / "h.h5")
    export = parmlip(tmp_path, "export", total.path, "-o", "S.yace")
    assert export.returncode == 2
    assert "not a potential" in export.stderr
    assert len(export.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_site_entropies_with_gradients_are_fitted_to_their_own_labels(tmp_path):
    sites = done(tmp_path / "sites.h5", SITES, "fit.decomposition=absolute")
    matching = sites.read("train", "matching")
    assert set(matching) == {"site_entropy", "site_entropy_gradient"}
    assert matching["site_entropy"]["n_rows"] == (6 + 2) * 32 + 5 * 31
    assert matching["site_entropy_gradient"]["n_rows"] == (6 + 2) * 32 * 96 + 5 * 31 * 93
    assert matching["site_entropy"]["relative"] < 0.2
    (fit,) = read_entropy_fits(sites.path)
    assert fit.of_sites
    assert tmp_path / "sites_entropy.png" in draw(sites.path, tmp_path)
    training = Dataset.unpacked(sites.read("label", "training"))
    for labels in training.labels[:6]:  # bulk: as many sites as the perfect cell
        assert labels.site_values_a.sum() == pytest.approx(labels.energy, abs=1e-9)


def test_the_report_has_predictions_beside_labels_and_errors_by_type(total, tmp_path):
    (fit,) = read_entropy_fits(total.path)
    assert not fit.of_sites
    assert (fit.n_training, fit.types) == (13, ("bulk",) * 3 + ("vacancy",) * 2)
    assert [len(fit.gradient[kind][0]) for kind in ("bulk", "vacancy")] == [3 * 96, 2 * 93]
    for kind in ("bulk", "vacancy"):
        given, predicted = fit.gradient[kind]
        rmse = fit.errors[kind]["gradient"][0]
        assert np.sqrt(np.mean((given - predicted) ** 2)) == pytest.approx(rmse, rel=1e-8)
    assert fit.rmse("entropy") == pytest.approx(total.read("train", "test_rmse_entropy"), rel=1e-8)
    assert tmp_path / "total_entropy.png" in draw(total.path, tmp_path)
    lines = [line.split() for line in table(total.path) if line.startswith("test ")]
    assert {(kind, quantity) for _, kind, quantity, *_ in lines} == {
        (kind, quantity) for kind in ("bulk", "vacancy") for quantity in ("entropy", "gradient")
    }


def test_a_sweep_gives_learning_curves_on_one_test_set(tmp_path):
    sweep = ("sweep.training.samples=[2, 6]", "sweep.surrogate.cutoff=[4.0, 4.5]", "fit.homogeneous=0")
    result = done(tmp_path / "curve.h5", *sweep)
    fits = read_entropy_fits(result.path)
    assert [fit.n_training for fit in fits] == [4, 4, 12, 12]
    np.testing.assert_array_equal(fits[0].entropy[0], fits[3].entropy[0])  # the same test cells
    for i, fit in enumerate(fits):
        assert fit.rmse("gradient") == pytest.approx(result.read("train", "test_rmse_gradient", i), rel=1e-8)
    assert tmp_path / "curve_entropy.png" in draw(result.path, tmp_path)
    heading = next(line for line in table(result.path) if "dS/du RMSE" in line)
    assert "S_f RMSE" in heading


@pytest.mark.mpi(3)
def test_a_fit_of_entropies_does_not_depend_on_the_number_of_ranks(total_alone, shared_tmp, comm):
    found = done(shared_tmp / "ranks.h5", comm=comm)
    comm.Barrier()
    for name in ("test_rmse_entropy", "test_rmse_gradient"):
        assert found.read("train", name) == pytest.approx(total_alone.read("train", name), rel=1e-6)


@pytest.fixture
def total_alone(tmp_path):
    return done(tmp_path / "alone.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("surrogate.target=energy", r"\[fit\] tolerances: needs \[surrogate\] target = \"entropy\""),
        ("fit.solver=blr", r'solver = "blr" has no tolerance; write "ridge"'),
        ("fit.weights.virial=1.0", r"\[fit\] weights.virial: is not an observation of entropies"),
        ('run.stages=["build", "reference", "train", "relax"]', r'\[relax\] laws: write laws = \["reference"\]'),
        ('run.stages=["build", "reference", "train", "match"]', r'"match" compares energies of two laws'),
        ("fit.balance=true", r"\[fit\] balance: is for energies"),
    ],
)
def test_what_makes_no_sense_for_entropies_is_one_line(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        study_of(tmp_path / "no.h5", change)


def test_laws_of_whole_structures_have_no_entropies_of_sites(tmp_path):
    law = ("reference.kind=tight_binding", "reference.parameters=Si-NRLTB")
    with pytest.raises(ConfigError, match='kind = "tight_binding" has no Hessians of site energies'):
        study_of(tmp_path / "no.h5", *law)


def test_a_refit_chooses_again_on_the_validation_set_and_keeps_its_labels(total, tmp_path):
    def refitted(name, *changes):
        refit(study_of(tmp_path / name, *changes), total.path, MPI.COMM_SELF)
        return ResultFile(tmp_path / name)

    found = refitted("gradients.h5", "fit.weights.energy=0.0")
    assert found.read("train", "fitted") == ["force"]
    losses = found.read("train", "validation_losses")
    assert (losses < total.read("train", "validation_losses")).all()  # of the gradients alone
    with pytest.raises(ConfigError, match=r"\[fit\] decomposition: is in the stored labels"):
        refitted("other.h5", "fit.decomposition=absolute")
