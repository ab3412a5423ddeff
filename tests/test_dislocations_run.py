"""Dislocations through the command line: cores told, the same on any number of ranks, structures with fingerprints."""

from __future__ import annotations

import ase.io
import h5py
import numpy as np
import pytest

from parmlip.crystal.elasticity import full_tensor, rotated, stroh
from parmlip.io.hdf5 import scalars
from parmlip.report.domains import Series
from parmlip.units import GPA_PER_EV_A3
from tests.program import alone_and_together, parmlip, results

SCREW = "line = [1, 1, 1], plane = [-1, 1, 0], burgers = [0.5, 0.5, 0.5]"
INPUT = f"""
[crystal]
lattice = "bcc"
species = ["W"]

[reference]
parameters = "W-Zhou"
taper = [3.8, 5.0]

[simulation]
cell = [8, 14, 1]
dislocations = {{ kind = "quadrupole", {SCREW}, polarity = 0.107 }}

[[training]]
name = "dipole"
cell = [4, 4, 1]
dislocations = {{ kind = "dipole", {SCREW}, polarity = 0.107 }}
samples = 6
test_samples = 2
rattle = 0.05

[surrogate]
cutoff = 5.0
inner_cutoff = 0.75
total_degree = 8

[fit]
elasticity = "linear"

[relax]
method = "lbfgs"
force_tolerance = 1e-6

[report]
structures = true
"""


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dislocations")
    (directory / "run.toml").write_text(INPUT)
    done = parmlip(directory, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_the_run_tells_where_the_cores_are_and_what_they_cost(serial):
    found = results(serial / "run.h5")
    assert found["build.n_sites"] == 8 * 14 * 6
    assert found["relax_reference.stable"] is True
    assert found["relax_reference.cores_present"] is True
    assert found["compare.same_cores"] is True
    assert found["compare.polarities_changed"] == 0
    assert found["compare.max_core_shift"] < 0.1
    parts = found["compare.geometry_error_core"] ** 2 + found["compare.geometry_error_far"] ** 2
    assert parts == pytest.approx(found["compare.geometry_error"] ** 2, rel=1e-9)
    assert found["relax_reference.formation_energy"] == pytest.approx(found["relax_reference.energy"], abs=1e-8)
    assert "relax_reference.formation_energy_unrelaxed" not in found  # the crystal before the cut has none
    burgers = found["build.lattice_constant"] * np.sqrt(3.0) / 2.0  # one period of the line
    per_line = found["relax_reference.energy"] / (4.0 * burgers)
    assert found["relax_reference.line_energy"] == pytest.approx(per_line, rel=1e-9)
    assert found["relax_surrogate.line_energy"] == pytest.approx(per_line, rel=0.1)
    assert found["train.matching.cauchy_born_2.relative"] < 0.1
    with h5py.File(serial / "run.h5") as file:
        for name in ("core_position", "core_burgers", "core_density", "polarity"):  # also for scripts
            np.testing.assert_array_equal(found[f"relax_reference.{name}"], file["relax_reference"][name][...])
        for law in ("relax_reference", "relax_surrogate"):
            assert np.abs(np.abs(file[law]["polarity"][...]) - 0.1).max() < 0.03
            intended = file["build"]["core_burgers"][...]
            content = np.sum(file[law]["core_burgers"][...] * intended, axis=1) / np.sum(intended**2, axis=1)
            np.testing.assert_allclose(content, 1.0, atol=0.15)


def test_the_energy_of_a_quadrupole_grows_as_elasticity_says(serial, tmp_path):
    """Twice the size in both directions adds n_cores * K b^2 / (4 pi) * ln 2 * length."""
    (tmp_path / "run.toml").write_text(INPUT)
    only = ("--set", 'relax.laws=["reference"]', "--set", 'run.stages=["build","reference","relax"]')
    done = parmlip(tmp_path, "run.toml", *only, "--set", "simulation.cell=[16,28,1]")
    assert done.returncode == 0, done.stdout + done.stderr
    small, large = (
        results(serial / "run.h5")["relax_reference.energy"],
        results(tmp_path / "run.h5")["relax_reference.energy"],
    )
    with h5py.File(tmp_path / "run.h5") as file:
        c = file["reference"]["elastic_constants"][...] / GPA_PER_EV_A3
        b, axes = file["build"]["core_burgers"][0], file["build"]["axes"][...]
        line = file["build"]["cell"][2, 2]
    due = 4 * stroh(rotated(full_tensor(c), axes)).energy_factor(b) * np.log(2.0) * line
    assert large - small == pytest.approx(due, rel=0.02)


def test_structures_carry_nyes_tensor_and_coordination(serial):
    atoms = ase.io.read(serial / "run_reference.xyz")
    assert atoms.arrays["nye"].shape == (len(atoms), 3)
    assert set(np.unique(atoms.arrays["coordination"])) <= {13, 14, 15}
    strong = np.flatnonzero(np.abs(atoms.arrays["nye"][:, 2]) > 0.5 * np.abs(atoms.arrays["nye"]).max())
    with h5py.File(serial / "run.h5") as file:
        at, sites = file["build"]["core_positions"][...], file["build"]["positions"][...]
    distance = np.linalg.norm(sites[strong, None, :2] - at[None], axis=2).min(axis=1)
    assert 0 < len(strong) <= 24
    assert distance.max() < 4.0


@pytest.mark.mpi(3)
def test_equilibria_and_cores_do_not_depend_on_the_number_of_ranks(comm, shared_tmp):
    if comm.size == 1:
        pytest.skip("needs several ranks")
    alone, together = alone_and_together(INPUT, shared_tmp, comm)
    ours, theirs = scalars(together), scalars(alone)
    assert ours["relax_reference.energy"] == pytest.approx(theirs["relax_reference.energy"], rel=1e-10)
    for key in ("compare.geometry_error", "compare.energy_error", "train.test_rmse_force"):
        assert ours[key] == pytest.approx(theirs[key], rel=1e-5)
    with h5py.File(together) as a, h5py.File(alone) as b:
        u, v = (f["relax_reference"]["displacement"][...] for f in (a, b))
        assert np.abs((u - u.mean(axis=0)) - (v - v.mean(axis=0))).max() < 1e-6
        np.testing.assert_allclose(
            a["relax_reference"]["core_position"], b["relax_reference"]["core_position"], atol=1e-5
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("simulation.dislocations.burgers=[0.5,0.5,0.0]",), "is not a lattice vector of bcc"),
        (("simulation.cell=[2,2,1]",), "would annihilate"),
        (("training.cell=[5,4,1]",), "must be even"),
        (("simulation.dislocations.core=[0.0,0.0]",), "is on a column of sites"),
        (("simulation.dislocations.core=soft",), 'must be one of "auto", "easy", "hard"'),
        (("simulation.dislocations.kind=given",), 'are for kind = "given", which needs them'),
        (('simulation.defects=[{kind="vacancy",at=[0,0,0]}]',), "cannot stand beside 'defects'"),
        (("simulation.dislocations.elastic_constants={C11=1.0}",), "must have C11, C12 and C44"),
        (("crystal.lattice=triangular",), "need [crystal] lattice, one of bcc"),
        (
            ("surrogate.kind=taylor", "fit={}", "training.dislocations.kind=quadrupole"),
            'kind = "quadrupole": must be "dipole"',
        ),
        (("surrogate.kind=taylor", "fit={}", "surrogate.third_order_error=1.0"), "needs order = 3"),
        (("surrogate.kind=taylor", "fit={}", "surrogate.elastic_error={C11=1.0}"), "must have C11, C12 and C44"),
    ],
)
def test_what_cannot_be_built_ends_with_one_line_before_any_work(tmp_path, changes, words):
    (tmp_path / "run.toml").write_text(INPUT)
    done = parmlip(tmp_path, "run.toml", "--check", *(x for c in changes for x in ("--set", c)))
    assert done.returncode == 2, done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("parmlip: error:")
    assert words in last


def test_slopes_against_the_training_domain_stand_beside_those_of_the_theory_of_dislocations():
    x = np.array([4.0, 6.0, 8.0, 12.0])
    one = Series(
        label="", against="L", x=x, errors={"geometry_error": x**-2.0}, rmse_energy=x,
        same_basin=np.ones(4, dtype=bool), dimension=3, of_lines=True,
    )  # fmt: skip
    assert one.theory("geometry_error") == (-1.0, -2.0)
    assert one.theory("energy_error") == (-2.0,)
    assert one.slope("geometry_error").slope == pytest.approx(-2.0)
