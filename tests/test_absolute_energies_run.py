"""[[training]] energies = "absolute" through the command line."""

from __future__ import annotations

import pytest

from parmlip.fit.dataset import Dataset
from parmlip.io.hdf5 import ResultFile, scalars
from tests.program import parmlip

SCREW = "line = [1, 1, 1], plane = [-1, 1, 0], burgers = [0.5, 0.5, 0.5], polarity = 0.107"
INPUT = f"""
[run]
stages = ["build", "reference", "train"]

[crystal]
lattice = "bcc"
species = ["W"]

[reference]
parameters = "W-FS84"

[simulation]
cell = [8, 14, 1]
dislocations = {{ kind = "quadrupole", {SCREW} }}

[[training]]
name = "dipole"
cell = [4, 4, 1]
dislocations = {{ kind = "dipole", {SCREW} }}
samples = 3
test_samples = 2
rattle = 0.05
energies = "absolute"

[surrogate]
cutoff = 5.0
total_degree = 6

[fit]
constraints = ["energy"]
"""


def test_absolute_energies_begin_with_the_equilibrium_and_leave_the_unrelaxed_cell_out(tmp_path):
    (tmp_path / "run.toml").write_text(INPUT)
    done = parmlip(tmp_path, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    found = scalars(tmp_path / "run.h5")
    assert found["label.n_training"] == 1 + 3 + 6  # the equilibrium, rattled states, homogeneous ones
    states = Dataset.unpacked(ResultFile(tmp_path / "run.h5").read("label", "training"))
    dipoles = [
        (c, labels) for c, labels in zip(states.configurations, states.labels, strict=True) if c.name == "dipole"
    ]
    assert all(c.reference is None for c, _ in dipoles)
    assert dipoles[0][1].energy < min(labels.energy for _, labels in dipoles[1:])
    per_site = dipoles[0][1].energy / dipoles[0][0].n_sites
    assert per_site == pytest.approx(found["reference.bulk_energy"], abs=0.1)  # the whole energy, not a difference
    assert per_site > found["reference.bulk_energy"] + 0.01


def test_a_kind_of_energies_that_is_none_is_refused_before_any_work(tmp_path):
    (tmp_path / "run.toml").write_text(INPUT.replace('"absolute"', '"relative"'))
    done = parmlip(tmp_path, "run.toml", "--check")
    assert done.returncode == 2
    assert 'energies = "relative": must be one of "difference", "absolute"' in done.stderr
