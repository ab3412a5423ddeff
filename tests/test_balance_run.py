"""[fit] weights = "balanced" from the input to the result file, and in a refit from stored factors."""

from __future__ import annotations

import pytest

from parmlip.cli import main
from parmlip.io.hdf5 import scalars

INPUT = """
[run]
stages = ["build", "reference", "train"]

[crystal]
lattice = "triangular"
species = ["W"]

[reference]
kind = "eam"
parameters = "W-Zhou"
taper = [4.6, 5.6]

[simulation]
cell = [8, 8]

[[training]]
cell = [4, 4]
defects = [{ kind = "vacancy", at = [0, 0] }]
samples = 60
test_samples = 20
rattle = { amplitude = 0.1, kind = "uniform" }

[surrogate]
dimension = 2
total_degree = 8

[fit]
weights = { energy = 100.0, force = 1.0, cauchy_born_2 = 1e-6 }
"""


def test_balanced_weights_lower_the_error_of_elastic_constants_and_are_those_of_a_refit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.toml").write_text(INPUT)
    assert main(["in.toml"]) == 0
    assert main(["in.toml", "--set", "run.output=b.h5", "--set", "fit.balance=true"]) == 0
    assert main(["fit", "--from", "in.h5", "-o", "refit.h5", "--set", "fit.balance=true"]) == 0
    bad, good, refit = (scalars(tmp_path / name) for name in ("in.h5", "b.h5", "refit.h5"))
    wrong, right = (of["train.matching.cauchy_born_2.relative"] for of in (bad, good))
    assert 1 / 1.5 < good["train.balance_ratio_virial"] < 1.5
    assert right < 0.5 * wrong
    assert good["train.test_rmse_force"] < 1.1 * bad["train.test_rmse_force"]
    assert refit["train.balance_ratio"] == pytest.approx(good["train.balance_ratio"], rel=1e-6)
