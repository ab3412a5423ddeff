"""Fits of data sets: from files of labelled structures to a law, without a reference."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from parmlip.errors import DataError, GeometryError
from parmlip.fit.dataset import Dataset, labelled
from parmlip.fit.dataset_files import dataset_of, nearest_distance, species_of
from parmlip.fit.design import build_factors, fit
from parmlip.fit.observations import Configuration, site_energies
from parmlip.fit.one_body import one_body_energies
from parmlip.fit.prediction import compared
from parmlip.io.extxyz import LabelledStructure
from parmlip.potentials.ace import ACE, ACEBasis
from tests.program import parmlip, results

ROOT = Path(__file__).parent.parent
INPUT = """
[run]
stages = ["train", "report"]
[dataset]
train = ["train.xyz"]
test = ["test.xyz"]
one_body = "isolated"
[dataset.weights]
vacancy = { energy = 2.0, virial = 0.0 }
[surrogate]
total_degree = 7
cutoff = 4.5
inner_cutoff = 0.7
[fit]
weights = { energy = 100.0, force = 1.0, virial = 1.0 }
"""


def structure(symbols, energy, kind="default", positions=None, cell=10.0, forces_ac=None, force_weight_a=None):
    symbols = (symbols,) if isinstance(symbols, str) else tuple(symbols)
    positions = np.arange(len(symbols))[:, None] * [2.5, 0.0, 0.0] if positions is None else np.array(positions)
    return LabelledStructure(
        f"file.xyz, structure {kind}", kind, cell * np.eye(3), (False,) * 3, positions, symbols, energy, forces_ac,
        None, {"energy": 1.0, "force": 1.0, "virial": 1.0}, force_weight_a,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The example's data, fitted with a small basis."""
    directory = tmp_path_factory.mktemp("dataset")
    for name in ("train", "test"):
        shutil.copy(ROOT / "inputs" / "data" / f"tungsten_{name}.xyz", directory / f"{name}.xyz")
    (directory / "run.toml").write_text(INPUT)
    done = parmlip(directory, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    return directory, done.stdout


def test_a_fit_of_files_tells_what_it_found_and_its_errors_by_type(fitted):
    directory, log = fitted
    assert "energies from REF_energy, forces from REF_forces, virials from REF_virial" in log
    found = results(directory / "run.h5")
    assert (found["label.n_training"], found["label.n_test"]) == (121, 30)
    assert found["label.one_body.W"] == -4.57
    assert found["label.keys.forces"] == "REF_forces"
    assert found["label.counts.training.vacancy.virials"] == 0
    assert found["label.counts.training.rattled.forces"] == 640
    assert 2.4 < found["label.nearest_distance"] < 2.8
    assert found["train.basis.r0"] == found["label.nearest_distance"]
    assert found["train.errors.test.vacancy.n_energies"] == 10
    total = sum(found[f"train.errors.test.{kind}.n_forces"] for kind in ("strained", "rattled", "vacancy"))
    assert total == found["train.test_n_forces"] == 990
    assert found["train.test_rmse_energy_per_atom"] < 0.01
    assert found["train.test_rmse_force"] < 0.1
    assert "errors by configuration type" in log
    assert (directory / "run_summary.png").stat().st_size > 10_000


def test_the_fitted_law_gives_the_energies_of_the_files_with_their_one_body_energies(fitted):
    directory, _ = fitted
    done = parmlip(directory, "evaluate", "run.toml", "test.xyz", "-o", "out.xyz", "--law", "surrogate", "--overwrite")
    assert done.returncode == 0, done.stderr
    error = [
        (given.get_potential_energy() - true.info["REF_energy"]) / len(true)
        for given, true in zip(
            ase.io.read(directory / "out.xyz", ":"), ase.io.read(directory / "test.xyz", ":"), strict=True
        )
    ]
    rmse = float(np.sqrt(np.mean(np.square(error))))
    assert rmse == pytest.approx(results(directory / "run.h5")["train.test_rmse_energy_per_atom"], rel=1e-6)


def test_free_atoms_are_left_out_of_a_fit_of_one_body_energies(fitted):
    directory, _ = fitted
    done = parmlip(directory, "run.toml", "--set", "dataset.one_body=fit", "--set", "run.output=free.h5", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert "1 free atoms are left out" in done.stdout
    found = results(directory / "free.h5")
    assert found["train.n_energies"] == 120
    assert found["train.rmse_energy_per_atom"] < 0.01


def test_the_example_s_files_are_those_of_its_generator(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "inputs" / "data" / "make_tungsten.py", tmp_path], capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for name in ("tungsten_train.xyz", "tungsten_test.xyz"):
        ours, theirs = (ase.io.read(where / name, ":") for where in (tmp_path, ROOT / "inputs" / "data"))
        for a, b in zip(ours, theirs, strict=True):
            assert np.allclose(a.positions, b.positions, atol=2e-8)
            assert a.info["REF_energy"] == pytest.approx(b.info["REF_energy"], abs=2e-6)
            assert np.allclose(a.arrays["REF_forces"], b.arrays["REF_forces"], atol=2e-6)


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("dataset.train=['absent.xyz']", 2, '[dataset] train = "absent.xyz": no such file'),
        ("dataset.test=['train.xyz']", 2, 'train: "train.xyz" is named twice'),
        ("dataset.one_body={ Mo = -4.0 }", 4, "one_body has no energy of W"),
        ("dataset.one_body={ Xx = -4.0 }", 2, 'one_body: "Xx" is not a chemical symbol'),
        ("dataset.one_body=free", 2, 'one_body = "free": must be one of "fit", "isolated"'),
        ("dataset.weights={ vacncy = 2.0 }", 2, "[dataset.weights] vacncy: no such type; did you mean 'vacancy'?"),
        ("dataset.weights={ vacancy = -2.0 }", 2, "[dataset] weights.vacancy energy = -2.0: must be at least 0"),
        ("dataset.energy_key=E0", 4, "no structure has the key 'E0'; there are: "),
        ("dataset.closest=2.5", 3, "from its neighbour, less than [dataset] closest = 2.5"),
        ("surrogate.cutoff=2.0", 2, "must be greater than the nearest-neighbour distance"),
    ],
)
def test_wrong_data_sets_are_told_in_one_line(fitted, override, code, message):
    done = parmlip(fitted[0], "run.toml", "--set", override, "--set", "run.output=wrong.h5", "--overwrite")
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_one_body_energies_by_all_ways():
    data = [structure("W", -4.0, "IsolatedAtom"), structure("Mo", -3.0, "isolated_atom"), structure(["W", "Mo"], -10.0),
            structure(["W", "W"], -12.0)]  # fmt: skip
    species = species_of(data, [])
    assert species == ("Mo", "W")
    assert one_body_energies(data, "isolated", species) == {"Mo": -3.0, "W": -4.0}
    assert one_body_energies(data, {"W": 1.0, "Mo": 2.0}, species) == {"Mo": 2.0, "W": 1.0}
    assert one_body_energies(data, "fit", species) == pytest.approx({"Mo": -4.0, "W": -6.0})
    with pytest.raises(DataError, match="no structure of config_type IsolatedAtom has Mo"):
        one_body_energies(data[:1], "isolated", species)
    with pytest.raises(DataError, match="structure IsolatedAtom: type IsolatedAtom must have one atom, not 2"):
        one_body_energies([structure(["W", "W"], 1.0, "IsolatedAtom")], "isolated", ("W",))
    with pytest.raises(DataError, match="Ta is in no training structure; they have Mo, W"):
        species_of(data, [structure("Ta", 0.0)])


def test_a_one_body_energy_is_added_to_every_site_of_its_species():
    basis = ACEBasis(("Mo", "W"), 2, 4, cutoff=4.0, r0=2.5, p_in=0)
    law = ACE(basis, np.random.default_rng(1).normal(size=basis.n_basis))
    state = Configuration(np.eye(3), (False,) * 3, np.array([[0.0, 0, 0], [2.5, 0, 0], [0, 2.7, 0]]), ("W", "Mo", "W"))
    whole = law.with_one_body({"Mo": -3.0, "W": -4.0})
    assert site_energies(whole, state) - site_energies(law, state) == pytest.approx([-4.0, -3.0, -4.0], rel=1e-12)
    twice = whole.with_one_body({"Mo": -1.0, "W": -1.0})
    assert site_energies(twice, state) - site_energies(law, state) == pytest.approx([-5.0, -4.0, -5.0], rel=1e-12)


@pytest.mark.mpi
def test_masked_forces_change_nothing_and_weights_repeat_rows(comm):
    basis = ACEBasis(("W",), 2, 5, cutoff=4.0, r0=2.5, p_in=0)
    true = ACE(basis, np.random.default_rng(2).normal(size=basis.n_basis))
    stream = np.random.default_rng(3)

    def coefficients(spoiled, weight):
        data = []
        for _ in range(6):
            positions = bulk("W", cubic=True).repeat(2).positions + stream_positions.normal(0.0, 0.1, (16, 3))
            state = Configuration(10.0 * np.eye(3), (False,) * 3, positions, ("W",) * 16)
            forces_ac = labelled(true, [state], comm=comm).labels[0].forces_ac.copy()
            forces_ac[0] += spoiled
            data.append(structure(["W"] * 16, None, positions=positions, forces_ac=forces_ac,
                                  force_weight_a=np.array([0.0] + 15 * [weight])))  # fmt: skip
        dataset = dataset_of(data, {"W": 0.0}, "sqrt")
        assert Dataset.unpacked(dataset.packed()).labels[0].force_weight_a.tolist() == [0.0] + 15 * [weight]
        factors = build_factors(basis, dataset, ["force"], comm=comm)
        found = fit(factors, {"force": 1.0}, tolerance=1e-10, comm=comm).coefficients
        law = ACE(basis, found)
        prediction = compared(dataset, labelled(law, dataset.configurations, comm=comm))
        assert prediction.errors.n_forces == 6 * 45
        assert prediction.errors.max_force_error < 1e-6
        return found

    stream_positions = np.random.default_rng(4)
    first = coefficients(0.0, 1.0)
    stream_positions = np.random.default_rng(4)
    second = coefficients(stream.normal(), 3.0)
    assert second == pytest.approx(first, rel=1e-6, abs=1e-8)


@pytest.mark.mpi
def test_the_nearest_distance_is_that_of_bound_atoms_and_collisions_are_told_on_all_ranks(comm):
    data = [structure("W", None, "free"), *(structure(["W"] * 3, None, f"{i}") for i in range(5))]
    assert nearest_distance(data, 0.5, comm=comm) == pytest.approx(2.5, rel=1e-12)
    assert nearest_distance(data[:1], 0.5, comm=comm) is None
    data.append(structure(["W", "W"], None, "bad", positions=[[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]]))
    with pytest.raises(GeometryError, match="structure bad: atom 0 is 0.3 A from its neighbour, less than"):
        nearest_distance(data, 0.5, comm=comm)


@pytest.mark.mpi(3)
def test_a_fit_of_files_does_not_depend_on_the_number_of_ranks(comm, shared_tmp, monkeypatch):
    from parmlip.config import loads
    from parmlip.io.hdf5 import ResultFile
    from parmlip.parallel.comm import on_root
    from parmlip.pipeline import run as run_stages

    path = shared_tmp / "run.toml"
    text = INPUT.replace("[report]", "").replace('"train", "report"', '"train"')
    for name in ("train", "test"):
        text = text.replace(f'["{name}.xyz"]', f'["{ROOT}/inputs/data/tungsten_{name}.xyz"]')
    study = loads(text, [f"run.output='{shared_tmp}/run.h5'", "surrogate.total_degree=5", "fit.tolerance=1e-3"], path)
    run_stages(study, comm)
    found = on_root(comm, "reading", ResultFile(study.output).read, "train", "test_rmse_force")
    from mpi4py import MPI

    if comm.size > 1:  # every rank by itself, into files of its own
        alone = loads(text, [f"run.output='{shared_tmp}/alone{comm.rank}.h5'", "surrogate.total_degree=5",
                             "fit.tolerance=1e-3"], path)  # fmt: skip
        run_stages(alone, MPI.COMM_SELF)
        single = ResultFile(alone.output).read("train", "test_rmse_force")
        worst = comm.allreduce(abs(single / found - 1.0), op=MPI.MAX)
        assert worst < 1e-8


def test_structures_without_a_cell_are_data_too(tmp_path):
    frames = [Atoms("W2", [[0, 0, 0], [d, 0, 0]], info={"REF_energy": -(d - 2.0)}) for d in np.linspace(2.2, 4.0, 12)]
    ase.io.write(tmp_path / "train.xyz", frames, format="extxyz")
    (tmp_path / "run.toml").write_text(
        '[run]\nstages = ["train"]\n[dataset]\ntrain = ["train.xyz"]\n'
        "[surrogate]\ncorrelation_order = 1\ntotal_degree = 4\n"
    )
    done = parmlip(tmp_path, "run.toml")
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "run.h5")
    assert found["train.n_energies"] == 12
    assert "train.rmse_force" not in found
