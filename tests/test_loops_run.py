"""Dislocation loops through the command line: what becomes of them is told, the same on any number of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import pytest

from parmlip.io.hdf5 import scalars
from tests.program import alone_and_together, parmlip, results

PRISMATIC = """
[crystal]
lattice = "bcc"
species = ["W"]

[reference]
parameters = "W-Zhou"
taper = [5.0, 6.0]

[simulation]
cell = [10, 10, 10]

[simulation.dislocations]
kind = "loop"
plane = [1, 1, 1]
burgers = [0.5, 0.5, 0.5]
diameter = 4.0
shape = "hexagon"
platelet = "insert"

[run]
stages = ["build", "reference", "relax", "report"]

[relax]
laws = ["reference"]
method = "lbfgs"
force_tolerance = 1e-5

[report]
structures = true
"""
SHEAR = """
[crystal]
lattice = "diamond"
species = ["Si"]

[reference]
kind = "stillinger_weber"
parameters = "Si-SW"

[simulation]
cell = [8, 8, 8]

[simulation.dislocations]
kind = "loop"
plane = [1, 1, 1]
burgers = [0.5, -0.5, 0.0]
diameter = 5.0
shape = "hexagon"
tilt = 6.0

[run]
stages = ["build", "reference", "relax"]

[relax]
laws = ["reference"]
method = "lbfgs"
force_tolerance = 1e-4
"""


def relaxed(directory: Path, text: str, *arguments: str) -> tuple[dict[str, Any], str]:
    (directory / "run.toml").write_text(text)
    done = parmlip(directory, "run.toml", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return results(directory / "run.h5"), done.stdout


@pytest.fixture(scope="module")
def prismatic(tmp_path_factory):
    directory = tmp_path_factory.mktemp("loop")
    return directory, relaxed(directory, PRISMATIC)[0]


def test_a_platelet_of_interstitials_stays_a_loop(prismatic):
    _, found = prismatic
    assert found["build.n_platelet"] == 19
    assert found["build.n_sites"] == 2 * 10**3 + 19
    assert found["relax_reference.loop_present"] is True
    assert found["relax_reference.loop_share"] == pytest.approx(1.0, abs=0.15)
    assert found["relax_reference.stable"] is True
    assert 20 < found["relax_reference.n_miscoordinated"] < 120
    # interstitials in a loop cost less than alone, where they cost 9 to 10 eV with this law
    assert 3.0 * 19 < found["relax_reference.formation_energy"] < 6.0 * 19
    per_line = found["relax_reference.formation_energy"] / found["build.loop_length"]
    assert found["relax_reference.line_energy"] == pytest.approx(per_line, rel=1e-9)


def test_structures_show_the_line_by_sites(prismatic):
    directory, _ = prismatic
    atoms = ase.io.read(directory / "run_reference.xyz")
    assert len(atoms) == 2019
    line = np.linalg.norm(atoms.arrays["nye"], axis=1)
    strong = np.flatnonzero(line > 0.5 * line.max())
    with h5py.File(directory / "run.h5") as file:
        corners, centre = file["build"]["loop_corners"][...], file["relax_reference"]["loop_centre"][...]
    off = atoms.positions[strong] - centre
    radius = np.linalg.norm(corners[0] - corners.mean(axis=0))
    normal = np.array([1.0, 1.0, 1.0]) / np.sqrt(3.0)
    across = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1)
    assert len(strong) >= 12
    assert abs(across.mean() - radius) < 0.4 * radius
    assert (across < 2.0 * radius).all()
    assert np.abs(off @ normal).max() < 6.0


@pytest.mark.mpi(2)
def test_relaxed_loops_do_not_depend_on_the_number_of_ranks(comm, shared_tmp):
    if comm.size == 1:
        pytest.skip("needs several ranks")
    alone, together = alone_and_together(PRISMATIC, shared_tmp, comm)
    ours, theirs = scalars(together), scalars(alone)
    energy = "relax_reference.formation_energy"
    assert ours[energy] == pytest.approx(theirs[energy], rel=1e-8)
    for key in ("loop_share", "loop_length", "n_miscoordinated"):
        assert ours[f"relax_reference.{key}"] == pytest.approx(theirs[f"relax_reference.{key}"], rel=1e-3)
    with h5py.File(together) as a, h5py.File(alone) as b:
        np.testing.assert_allclose(a["build"]["positions"], b["build"]["positions"], atol=1e-10)
        u, v = (f["relax_reference"]["displacement"][...] for f in (a, b))
        assert np.abs((u - u.mean(axis=0)) - (v - v.mean(axis=0))).max() < 1e-3  # loops glide softly


def test_a_platelet_taken_out_closes_to_a_loop(tmp_path):
    changes = (
        "simulation.dislocations.platelet=remove",
        "simulation.dislocations.diameter=6.0",
        "simulation.cell=[11,11,11]",
    )
    found, _ = relaxed(tmp_path, PRISMATIC, *(x for c in changes for x in ("--set", c)))
    assert found["build.n_platelet"] == -43
    assert found["relax_reference.loop_present"] is True
    assert found["relax_reference.iterations"] < 60
    # less than 43 vacancies by themselves, 3.6 eV each
    assert found["relax_reference.formation_energy"] < 0.9 * 43 * 3.6


def test_slip_stays_under_stress_and_shrinks_away_without_which_the_run_says(tmp_path):
    found, _ = relaxed(tmp_path, SHEAR)
    assert found["build.n_platelet"] == 0
    assert found["relax_reference.loop_present"] is True
    assert found["relax_reference.loop_share"] == pytest.approx(1.0, abs=0.3)
    found, told = relaxed(tmp_path, SHEAR, "--overwrite", "--set", "simulation.dislocations.tilt=0.0")
    assert found["relax_reference.loop_present"] is False
    assert "the loop has gone from its place or shrunk away" in told
    assert found["relax_reference.formation_energy"] == pytest.approx(0.0, abs=1e-4)
    assert found["relax_reference.n_miscoordinated"] == 0


def test_a_check_tells_memory_and_time_of_the_papers_loop_without_making_its_sites(tmp_path):
    (tmp_path / "run.toml").write_text(PRISMATIC)
    size = ("--set", "simulation.cell=[150,150,150]", "--set", "simulation.dislocations.diameter=75.0")
    done = parmlip(tmp_path, "run.toml", "--check", *size)
    assert done.returncode == 0, done.stderr
    sites = next(line for line in done.stdout.splitlines() if line.startswith("simulation cell:"))
    assert 6_750_000 < int(sites.split()[2]) < 6_760_000
    shared = [line for line in done.stdout.splitlines() if "relaxation by L-BFGS on" in line]
    assert [line.split(" on ")[1].split()[0] for line in shared] == ["1", "64"]
    assert 20.0 < float(shared[0].split(": ")[1].split()[0]) < 50.0  # GB
    assert float(shared[1].split(": ")[1].split()[0]) < 4.0
    assert "a step takes" in done.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("simulation.dislocations.platelet=none",), 'must be "insert" or "remove"'),
        (("simulation.dislocations.burgers=[0.5,0.5,0.0]",), "is not a lattice vector of bcc"),
        (("simulation.dislocations.diameter=12.0",), "to its image in this cell"),
        (("simulation.dislocations.line=[1,1,1]",), "is for straight lines; remove it"),
        (("simulation.dislocations.polarity=0.1",), "is for straight lines; remove it"),
        (("simulation.dislocations.kind=quadrupole",), 'is for kind = "loop"; remove it'),
        (("simulation.dislocations.shape=square",), 'must be one of "circle", "hexagon"'),
        (('simulation.defects=[{kind="vacancy",at=[0,0,0]}]',), "cannot stand beside 'defects'"),
    ],
)
def test_what_cannot_be_built_ends_with_one_line_before_any_work(tmp_path, changes, words):
    (tmp_path / "run.toml").write_text(PRISMATIC)
    done = parmlip(tmp_path, "run.toml", "--check", *(x for c in changes for x in ("--set", c)))
    assert done.returncode == 2, done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("parmlip: error:")
    assert words in last


def test_a_loop_needs_its_diameter_and_a_line_its_direction(tmp_path):
    line = 'dislocations = { kind = "dipole", plane = [-1, 1, 0], burgers = [0.5, 0.5, 0.5] }\n'
    of_loop = PRISMATIC[PRISMATIC.index("[simulation.dislocations]") : PRISMATIC.index("[run]")]
    for old, new, words in (("diameter = 4.0\n", "", "diameter: is missing"), (of_loop, line, "line: is missing")):
        assert old in PRISMATIC
        (tmp_path / "run.toml").write_text(PRISMATIC.replace(old, new))
        done = parmlip(tmp_path, "run.toml", "--check")
        assert done.returncode == 2
        assert words in done.stderr
