"""Scans of starts of dislocated cells, cores moved against the crystal."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from parmlip.config import loads
from parmlip.errors import ConfigError
from parmlip.stages_offsets import Scanned, chosen
from tests.program import parmlip

LINES = "line = [1, -1, 0], plane = [0, 0, 1], burgers = [0.5, 0.5, 0.0]"
INPUT = f"""
[run]
stages = ["build", "reference", "relax"]

[crystal]
lattice = "diamond"
species = ["Si"]

[reference]
kind = "bond_order"
parameters = "Si-PPM2017"

[simulation]
cell = [14, 10, 1]
dislocations = {{ kind = "quadrupole", {LINES}, offsets = [[0.0, 0.0], [0.1768, 0.0], [0.3536, 0.0]], noise = 0.02 }}

[[training]]
cell = [8, 6, 1]
dislocations = {{ kind = "dipole", {LINES} }}

[relax]
laws = ["reference"]
method = "lbfgs"
force_tolerance = 1e-4
max_iterations = 400
"""


def of(energy, *, miscoordinated=0, present=True, stable=True):
    return Scanned((energy, 0.0), energy, miscoordinated, present, stable)


def test_the_lowest_perfectly_coordinated_minimum_that_keeps_its_cores_is_taken():
    wanted = of(3.0)
    found = [of(0.0, present=False), of(1.0, miscoordinated=2), of(2.0, stable=False), wanted, of(4.0)]
    assert chosen(found) is wanted
    assert chosen(found[:2]) is found[1]
    assert chosen(found[:3]) is found[2]
    assert chosen(found[:1]) is None
    assert chosen([]) is None


def test_of_equal_states_the_first_is_taken_whatever_their_rounding():
    first = of(1.000000001)
    assert chosen([first, of(1.0)]) is first


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    directory = tmp_path_factory.mktemp("offsets")
    (directory / "run.toml").write_text(INPUT)
    ended = parmlip(directory, "run.toml")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return directory, ended.stdout


def test_a_scan_ends_in_the_state_that_it_tells_and_lists_the_others(done):
    """Silicon's edges have starts that end in states with sites of three neighbours, eV above."""
    directory, text = done
    with h5py.File(directory / "run.h5") as file:
        law, constant = file["relax_reference"], file["build"]["lattice_constant"][()]
        energies, others = law["scan_energies"][...], law["scan_miscoordinated"][...]
        np.testing.assert_allclose(law["scan_offsets"][...][:, 0], np.array([0.0, 0.1768, 0.3536]) * constant)
        assert others[0] == 0 < others[1]
        assert energies[1] > energies[0] + 1.0
        taken = int(np.argmin(np.abs(law["scan_offsets"][...] - law["offset"][...]).sum(axis=1)))
        assert others[taken] == 0
        assert law["scan_stable"][...][taken]
        assert law["energy"][()] == pytest.approx(energies[taken], abs=1e-6)
        assert law["stable"][()]
    assert text.count(", taken") == 1
    assert text.count("sites of other coordination") == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("simulation.dislocations.offsets=0",), "offsets = 0: must be at least 1"),
        (("simulation.dislocations.offsets=[[0.1]]",), r"must be a number, or a list of \[x, y\]"),
        (("training.dislocations.offsets=3",), "are for [simulation]"),
        (("reference={kind='tight_binding',parameters='Si-NRLTB'}",), "need a [reference] with site energies"),
    ],
)
def test_what_cannot_be_scanned_is_refused_in_one_line(changes, words):
    with pytest.raises(ConfigError) as refused:
        loads(INPUT, changes)
    assert words.replace("\\", "") in str(refused.value)
