"""QM/MM through the command line about an edge dislocation, in a ball, and with a fitted MM law in the patch test."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from parmlip.io.hdf5 import ResultFile
from tests.program import parmlip, results

STAGES = """
[run]
stages = ["build", "reference", "train", "relax", "qmmm"]
"""
EXPANSION = """
[crystal]
lattice = "bcc"
species = ["W"]

[surrogate]
kind = "taylor"
states = "lattice"
"""
RELAX = """
[relax]
laws = ["reference"]
force_tolerance = 1e-9
"""
EDGE = (
    STAGES
    + EXPANSION
    + RELAX
    + """
[reference]
parameters = "W-Zhou"
taper = [3.8, 5.0]

[simulation]
domain = "disc"
radius = 27.0
dislocations = { kind = "single", line = [0, 0, 1], plane = [0, 1, 0], burgers = [1, 0, 0] }

[qmmm]
radius = 12.0
"""
)
BALL = (
    STAGES
    + EXPANSION
    + RELAX
    + """
[reference]
parameters = "W-Zhou"
taper = [3.2, 4.2]

[simulation]
domain = "ball"
radius = 12.5
defects = [{ kind = "vacancy", at = [0, 0, 0] }]

[qmmm]
kind = "energy"
radius = 5.0
"""
)
PATCH = (
    STAGES
    + RELAX
    + """
[crystal]
lattice = "triangular"
species = ["W"]

[reference]
parameters = "W-EAM4"

[simulation]
domain = "disc"
radius = 32.0
defects = [{ kind = "vacancy", at = [0, 0] }]

[[training]]
cell = [3, 3]
samples = 1
test_samples = 1
relax = false
rattle = 0.05

[surrogate]
cutoff = 5.5
total_degree = 5

[fit]
weights = "energy_mixing_K2"
solver = "rrqr"
tolerance = 1e-5
homogeneous = 0

[qmmm]
kind = "energy"
radius = 12.0
patch_test = true
"""
)
QMMM = ("geometry_error", "energy_excess", "same_basin")


def done(directory, text, *settings):
    (directory / "run.toml").write_text(text)
    words = [word for setting in settings for word in ("--set", setting)]
    end = parmlip(directory, "run.toml", "--overwrite", *words)
    assert end.returncode == 0, end.stdout + end.stderr
    return results(directory / "run.h5")


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """Results about the edge by the kind of mixing and the order of the MM law, on one truth."""
    swept = ('sweep."qmmm.kind"=["energy","force"]', 'sweep."surrogate.order"=[2,3]')
    found = done(tmp_path_factory.mktemp("edge"), EDGE, *swept)
    points = range(4)
    of = {i: (found[f"sweep.{i}.values.qmmm.kind"], found[f"sweep.{i}.values.surrogate.order"]) for i in points}
    return {of[i]: {key: found[f"sweep.{i}.qmmm.{key}"] for key in QMMM} for i in points}


def test_about_an_edge_the_same_law_in_both_regions_is_that_law(tmp_path):
    same = done(tmp_path, EDGE, "qmmm.mm=reference")
    assert same["qmmm.geometry_error"] < 1e-6  # both end where forces are 1e-9 eV/A
    assert same["qmmm.same_basin"] is True


@pytest.mark.parametrize("kind", ["energy", "force"])
def test_about_an_edge_an_mm_law_of_higher_order_errs_less(kind, edge):
    second, third = edge[kind, 2], edge[kind, 3]
    assert second["same_basin"] is True
    assert 0.0 < third["geometry_error"] < second["geometry_error"]
    assert 0.0 < third["energy_excess"] < second["energy_excess"]


def test_in_a_ball_the_regions_are_balls_and_a_larger_one_errs_less(tmp_path):
    found = done(tmp_path, BALL, "sweep.qmmm.radius=[5.0,7.5]")
    with h5py.File(tmp_path / "run.h5") as file:
        distance_a = np.linalg.norm(file["build/positions"][()] - file["build/centre"][()], axis=1)
        region_a = file["sweep/0/qmmm/region"][()]
    np.testing.assert_array_equal(region_a == 0, distance_a <= 5.0)
    np.testing.assert_array_equal(region_a == 3, distance_a >= 12.5)
    assert found["sweep.0.qmmm.n_qm"] == 26  # shells of 8, 6, 12
    assert found["sweep.1.qmmm.residual_force"] <= 1e-9
    small, large = (found[f"sweep.{i}.qmmm.geometry_error"] for i in (0, 1))
    assert large < (5.0 / 7.5) ** 3 * small  # theory: R^-4.5


def test_a_load_that_begins_too_far_out_leaves_ghost_forces_and_is_told(tmp_path):
    (tmp_path / "run.toml").write_text(PATCH)
    told, left = [], []
    for begins in (0.5, 0.0):
        end = parmlip(
            tmp_path, "run.toml", "--overwrite", "--set", "qmmm.radius=7.0", "--set", "qmmm.patch_test=false",
            "--set", f"qmmm.correction_from={begins}",
        )  # fmt: skip
        assert end.returncode == 0, end.stdout + end.stderr
        told.append("ghost forces reach within 0.5 of R_QM" in end.stdout + end.stderr)
        left.append(results(tmp_path / "run.h5")["qmmm.ghost_force_corrected"])
    assert told == [True, False]
    assert left[0] > 1e-4
    assert left[1] == 0.0


def test_a_fitted_mm_law_drifts_in_the_patch_test_unless_it_is_corrected(tmp_path):
    found = done(tmp_path, PATCH)
    assert found["qmmm.ghost_force"] > 1e-3
    assert found["qmmm.ghost_force_corrected"] < 1e-11
    assert found["qmmm.patch.drift"] > 1e-3
    assert found["qmmm.patch.drift_corrected"] < 1e-9
    file = ResultFile(tmp_path / "run.h5")
    forces = {
        name: file.read("qmmm", f"patch/unrelaxed_{name}") for name in ("reference", "energy", "energy_corrected")
    }
    region_a = file.read("qmmm", "region")
    distance_a = file.read("qmmm", "distance")
    at_interface_a = (np.abs(distance_a - 12.0) < 5.0) & (region_a < 3)
    worst = {name: np.abs(f_ad[at_interface_a]).max() for name, f_ad in forces.items()}
    assert worst["energy"] > 5.0 * worst["reference"]
    assert worst["energy_corrected"] == pytest.approx(worst["reference"], rel=0.2)
    uncorrected = done(tmp_path, PATCH, "qmmm.correction=false", "qmmm.patch_test=false")
    assert found["qmmm.geometry_error"] < 0.05 * uncorrected["qmmm.geometry_error"]


def test_the_load_of_a_vacant_place_holds_the_perfect_crystal_too_and_is_made_once(tmp_path):
    """From the cores on: places of two vacancies have loads (that of one by symmetry has none)."""
    (tmp_path / "run.toml").write_text(PATCH)
    two = ", ".join(f'{{ kind = "vacancy", at = {at} }}' for at in ([0, 0], [2, 1]))
    keys = ("radius=28.0", f"defects=[{two}]")
    settings = (*(f"simulation.{key}" for key in keys), "qmmm.radius=4.0", "qmmm.correction_from=0.0")
    end = parmlip(tmp_path, "run.toml", *(word for setting in settings for word in ("--set", setting)))
    assert end.returncode == 0, end.stdout + end.stderr
    assert end.stdout.count("ghost force on the perfect crystal") == 1
    file = ResultFile(tmp_path / "run.h5")
    patch = file.read("qmmm", "patch")
    assert file.read("qmmm", "ghost_force") > 1e-3
    assert patch["drift"] > 1e-3
    assert patch["drift_corrected"] < 1e-9


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            ("surrogate.total_degree=2",),
            ["the fit is coarse: its force constants are wrong by up to 72 %", "; raise ["],
        ),
        (
            ("surrogate.total_degree=3", "fit.weights={ energy = 1.0, force = 1.0 }"),
            [
                "the MM law's perfect crystal is not stable: its stiffness against one wave is -0.767 of the",
                '; fit the crystal too, such as by [fit] weights = "energy_mixing_K2", or raise [surrogate] total',
            ],
        ),
        ((), []),
    ],
    ids=["coarse", "unstable", "good"],
)
def test_a_fit_with_which_the_crystal_is_too_soft_is_told_before_anything_is_solved(tmp_path, settings, told):
    (tmp_path / "run.toml").write_text(PATCH)
    short = ("simulation.radius=26.0", "relax.max_iterations=3", 'run.stages=["build","reference","train","qmmm"]')
    settings = (*settings, *short, "qmmm={ kind = 'energy', radius = 8.0, truth = false }")
    end = parmlip(tmp_path, "run.toml", *(word for setting in settings for word in ("--set", setting)))
    before, _, after = end.stdout.partition("ghost force")
    assert after
    assert "stiffness of the MM law's crystal against waves, by the reference's: lowest " in before
    assert all(line in before for line in told)
    assert ("is coarse" in before or "not stable" in before) == bool(told)
