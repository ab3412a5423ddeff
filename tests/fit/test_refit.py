"""`parmlip fit`: other weights, solvers and constraints from a result file, the same as a run from nothing."""

import json

import numpy as np
import pytest

from parmlip.io.hdf5 import ResultFile
from tests.program import parmlip

INPUT = """
[run]
stages = ["build", "reference", "train"]
[crystal]
lattice = "bcc"
species = ["W"]
[reference]
parameters = "W-Zhou"
taper = [3.8, 5.0]
[simulation]
cell = [3, 3, 3]
defects = [{ kind = "vacancy", at = [1, 1, 1] }]
[[training]]
name = "vacancy"
cell = [2, 2, 2]
defects = [{ kind = "vacancy", at = [0, 0, 0] }]
samples = 4
test_samples = 2
[surrogate]
cutoff = 5.0
[fit]
solver = "rrqr"
[sweep]
"surrogate.total_degree" = [4, 6]
"""
CHANGED = ("fit.weights.force=10", 'fit.solver="blr"', 'fit.constraints=["energy","elastic"]')
CHANGES = tuple(word for change in CHANGED for word in ("--set", change))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("refit")
    (directory / "run.toml").write_text(INPUT)
    for arguments in (
        ("run.toml",),
        ("run.toml", *CHANGES, "--set", "run.output=anew.h5"),
        ("fit", "--from", "run.h5", *CHANGES, "-o", "refit.h5"),
    ):
        done = parmlip(directory, *arguments)
        assert done.returncode == 0, done.stderr
    return directory


@pytest.mark.parametrize("point", [0, 1])
def test_a_refit_is_the_fit_from_nothing(directory, point):
    anew, refit = (ResultFile(directory / f"{name}.h5") for name in ("anew", "refit"))
    for name in ("rmse_force", "test_rmse_force", "residual_norm", "degrees_of_freedom"):
        assert refit.read("train", name, point) == pytest.approx(anew.read("train", name, point), rel=1e-5)
    assert set(refit.names("train", point)) == set(anew.names("train", point))
    factor = refit.read("train", "covariance_factor", point)
    assert factor.shape[0] == refit.read("train", "n_basis", point)
    assert refit.read("train", "constraint_error", point) < 1e-10
    for name in ("elastic_constants", "bulk_energy"):
        assert np.allclose(refit.read("train", name, point), refit.read("reference", name), rtol=1e-9, atol=1e-7)


def test_a_refit_differs_from_the_first_fit_and_leaves_it_alone(directory):
    first, refit = (ResultFile(directory / f"{name}.h5") for name in ("run", "refit"))
    assert first.read("train", "residual_norm", 1) != refit.read("train", "residual_norm", 1)
    assert "covariance_factor" not in first.names("train", 1)


def test_later_stages_go_on_from_a_refit(directory):
    more = ("--set", "run.output=refit.h5", "--set", 'run.stages=["build","reference","train","relax","compare"]')
    done = parmlip(directory, "run.toml", *CHANGES, *more, "--resume")
    assert done.returncode == 0, done.stderr
    assert "resuming: 5 of 10 steps are complete" in done.stdout
    found = json.loads(parmlip(directory, "report", "refit.h5", "--json").stdout)
    assert found["sweep.1.compare.geometry_error"] > 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "surrogate.cutoff=4.5", "-o", "x.h5"), "fit: surrogate.cutoff was 5.0 in"),
        (("--set", "fit.homogeneous=2", "-o", "x.h5"), "homogeneous: is a part of the training set"),
        (("-o", "run.h5"), "is the result file itself"),
        (("-o", "anew.h5"), "exists; use --overwrite"),
        (("--set", "fit.weights.virial=1", "-o", "v.h5"), "weights.virial: there are no stored rows of it"),
    ],
)
def test_what_a_refit_cannot_do_is_told(directory, arguments, message):
    done = parmlip(directory, "fit", "--from", "run.h5", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
