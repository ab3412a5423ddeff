"""Every observation from the input file: labels, rows, refits with other weights, presets, constraints by numbers."""

import json

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import loads
from parmlip.config_fit_tables import ENTROPY_NAMES, LATTICE_NAMES, WEIGHT_PRESETS
from parmlip.config_fit_tables import OBSERVATION_NAMES as EVERY_NAME
from parmlip.errors import ConfigError
from parmlip.estimate import estimate
from parmlip.fit.dataset import Dataset
from parmlip.io.hdf5 import ResultFile
from parmlip.pipeline import refit, run
from parmlip.report import table

INPUT = """
[run]
stages = ["build", "reference", "train"]
output = "{output}"
[crystal]
lattice = "bcc"
species = ["W"]
[reference]
parameters = "W-Zhou"
taper = [3.3, 4.2]
[simulation]
cell = [3, 3, 3]
[[training]]
name = "vacancy"
cell = [2, 2, 2]
defects = [{{ kind = "vacancy", at = [0, 0, 0] }}]
samples = 2
test_samples = 1
hessian = {{ kind = "columns", number = 1 }}
[surrogate]
cutoff = 4.2
total_degree = 6
[fit]
solver = "rrqr"
tolerance = 1e-10
"""
OBSERVATION_NAMES = tuple(name for name in EVERY_NAME if name not in ENTROPY_NAMES)
ALL = "fit.weights={" + ", ".join(f"{name} = 1.0" for name in OBSERVATION_NAMES) + "}"
SOME = "fit.weights={energy = 100.0, force = 1.0, hessian = 2.0, site_energy_2 = 5.0, cauchy_born_2 = 3.0}"


def done(path, *overrides, comm=MPI.COMM_SELF):
    run(loads(INPUT.format(output=path), overrides), comm)
    return ResultFile(path)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return done(tmp_path_factory.mktemp("rows") / "all.h5", ALL)


def test_every_observation_has_rows_and_an_error_that_is_told(everything):
    matching = everything.read("train", "matching")
    assert set(matching) == set(OBSERVATION_NAMES)
    factors = everything.read("train", "factors")
    assert set(factors["lattice"]) == set(LATTICE_NAMES)
    n_rows = sum(of["n_rows"] for kind in factors.values() for of in kind.values())
    assert n_rows == everything.read("train", "n_observations")
    for name, of in matching.items():
        assert of["rmse"] >= 0.0
        assert of["n_rows"] > 0
        if name == "cauchy_born_1":  # the crystal is free of stress
            assert "relative" not in of
        else:
            assert of["relative"] < 0.5


@pytest.mark.parametrize("kind", ["columns", "random"])
def test_the_estimate_has_the_rows_of_all_observations(everything, tmp_path, kind):
    probes = f'training.hessian={{kind = "{kind}", number = 2}}'
    study = loads(INPUT.format(output=tmp_path / "x.h5"), [ALL, probes])
    told = [line for line in estimate(study, 1) if line.startswith("fit: ")]
    n_rows = everything.read("train", "n_observations")
    n_rows += 3 * 15 * 3 * ((6 if kind == "columns" else 2) - 3)  # there it was one site, hence three columns
    assert [int(line.split()[1]) for line in told] == [n_rows]


def test_labels_of_hessians_come_back_as_they_were_stored(everything):
    dataset = Dataset.unpacked(everything.read("label", "training"))
    seen = [of.hessian_o is not None for of in dataset.labels]
    assert seen == [c.name == "vacancy" for c in dataset.configurations]
    again = Dataset.unpacked(dataset.packed())
    for a, b in zip(dataset.labels, again.labels, strict=True):
        assert a.probes == b.probes
        if a.hessian_o is not None:
            np.testing.assert_array_equal(a.hessian_o, b.hessian_o)
            assert len(a.hessian_o) == 3 * 15 * 3


def test_a_refit_with_other_weights_from_stored_factors_is_the_fit_from_nothing(everything, tmp_path):
    study = loads(INPUT.format(output=tmp_path / "refit.h5"), [SOME])
    refit(study, everything.path, MPI.COMM_SELF)
    anew = done(tmp_path / "anew.h5", SOME)
    from_factors = ResultFile(tmp_path / "refit.h5")
    for name in ("hessian", "site_energy_2", "cauchy_born_2"):
        a, b = (file.read("train", "matching")[name]["rmse"] for file in (anew, from_factors))
        assert a == pytest.approx(b, rel=1e-6)
    # rows of weight zero are kept, and their errors told
    assert set(from_factors.read("train", "matching")) == set(OBSERVATION_NAMES)


def test_a_weight_whose_rows_are_not_stored_is_refused_in_a_refit(tmp_path):
    done(tmp_path / "first.h5", "fit.observations=['site_energy_1']")
    names = set(ResultFile(tmp_path / "first.h5").read("train", "matching"))
    assert names == {"energy", "force", "site_energy_1"}
    for key, message in (
        ("weights.hessian=1", "weights.hessian: there are no stored rows of it"),
        ("decay=0.1", "decay: is in the stored rows"),
    ):
        study = loads(INPUT.format(output=tmp_path / "second.h5"), [f"fit.{key}"])
        with pytest.raises(ConfigError, match=message):
            refit(study, tmp_path / "first.h5", MPI.COMM_SELF)


@pytest.mark.mpi
def test_rows_and_labels_do_not_depend_on_the_number_of_ranks(comm, tmp_path_factory):
    directory = comm.bcast(tmp_path_factory.mktemp("ranks") if comm.rank == 0 else None)
    done(directory / "many.h5", SOME, comm=comm)
    if comm.rank == 0:
        done(directory / "one.h5", SOME)
        one, many = (ResultFile(directory / f"{name}.h5") for name in ("one", "many"))
        for name, values in one.read("label", "lattice").items():
            np.testing.assert_array_equal(values, many.read("label", "lattice")[name])
        for name, of in one.read("train", "matching").items():
            assert of["n_rows"] == many.read("train", "matching")[name]["n_rows"]
            assert of["rmse"] == pytest.approx(many.read("train", "matching")[name]["rmse"], rel=1e-7)
    comm.Barrier()


@pytest.mark.parametrize("preset", ["energy_mixing_K2", "force_mixing_K1_virial"])
def test_presets_fit_what_they_name(preset, tmp_path):
    file = done(tmp_path / "preset.h5", f"fit.weights={preset}")
    matching = file.read("train", "matching")
    assert set(matching) == set(WEIGHT_PRESETS[preset])
    assert all(of["relative"] < 0.5 for of in matching.values() if "relative" in of and of["n_rows"] > 15)


def test_third_derivatives_of_an_eam_want_radial_functions_not_angular_ones(tmp_path):
    rows = [["energy_mixing_K3", 1.5, 10], ["energy_mixing_K3", 6.0, [16, 12, 10]]]
    swept = "sweep.fit.weights, surrogate.angular_weight, surrogate.total_degree"
    file = done(tmp_path / "run.h5", f"{swept}={json.dumps(rows)}", "reference.taper=[3.8, 5.0]",
                "surrogate.cutoff=5.0", "fit.homogeneous=0", "fit.tolerance=1e-5")  # fmt: skip
    usual, radial = (
        {name: file.read("train", name, point=i) for name in ("n_basis", "matching", "test_rmse_force")}
        for i in range(2)
    )
    assert radial["n_basis"] < usual["n_basis"]
    for name in LATTICE_NAMES[1:4]:
        assert radial["matching"][name]["relative"] < 1e-9
    assert usual["matching"]["site_energy_3"]["relative"] > 1e-6
    assert radial["test_rmse_force"] < usual["test_rmse_force"]  # off the lattice too
    head, _, _, *told = table(file.path)
    assert "angular_weight" in head
    assert "[16, 12, 10]" in told[1]


def test_presets_are_tables_of_weights_that_exist():
    assert set().union(*WEIGHT_PRESETS.values()) <= set(LATTICE_NAMES)
    study = loads(INPUT.format(output="x.h5"), ["fit.weights=energy_mixing_K3"])
    assert study.fit.observed == ("site_energy_0", "site_energy_1", "site_energy_2", "site_energy_3")
    assert study.fit.weights.site_energy_2 == 1000.0


def test_a_larger_weight_of_an_observation_lowers_its_error(everything, tmp_path):
    more = loads(INPUT.format(output=tmp_path / "more.h5"), [ALL, "fit.weights.force_derivative_1=1e4"])
    refit(more, everything.path, MPI.COMM_SELF)
    errors = [f.read("train", "matching")["force_derivative_1"]["rmse"] for f in (everything, ResultFile(more.output))]
    assert errors[1] < 0.5 * errors[0]
