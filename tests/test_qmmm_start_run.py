"""Where the search for a coupled equilibrium starts, through the command line."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from parmlip import stages_qmmm, stages_qmmm_start
from parmlip.errors import ConvergenceError
from parmlip.io.hdf5 import Field, ResultFile, scalars
from tests.program import alone_and_together, parmlip
from tests.test_qmmm_run import INPUT as VACANCY
from tests.test_qmmm_stability_run import SCREW

TRUE = '"train", "relax", "qmmm"'
# Beside a polarised truth; relaxations would leave the saddle between the polarities by rounding, sooner or later.
POLARISED = SCREW.replace('"train", "qmmm"', TRUE).replace("truth = false", "truth = true").replace(
    "[relax]", '[relax]\nlaws = ["reference"]'
)  # fmt: skip

# Fits to derivatives of forces say nothing of site energies, whose sum with those of another law has no minimum.
EDGE = """
[run]
stages = ["build", "reference", "train", "relax", "qmmm"]
[crystal]
lattice = "bcc"
species = ["W"]
[reference]
parameters = "W-Zhou"
taper = [3.8, 5.0]
[simulation]
domain = "disc"
radius = 27.0
rim = 14.0
dislocations = { kind = "single", line = [0, 0, 1], plane = [0, 1, 0], burgers = [1, 0, 0] }
[[training]]
cell = [3, 3, 3]
samples = 1
test_samples = 0
relax = false
rattle = { amplitude = 0.02, kind = "uniform" }
[surrogate]
cutoff = 5.0
correlation_order = 3
total_degree = 10
[fit]
solver = "ridge"
tolerance = 1e-12
weights = "force_mixing_K1_virial"
homogeneous = 0
[relax]
laws = ["reference"]
force_tolerance = 1e-9
[qmmm]
radius = 12.0
"""


def from_the_predictor(problem, energy):
    """In place of `starts`, which leave saddles."""
    yield energy.sites.restrict(problem.start_ad).copy(), "predictor"


def test_a_law_fitted_to_forces_whose_site_energies_mean_nothing_holds_an_edge(tmp_path):
    (tmp_path / "run.toml").write_text(EDGE)
    done = parmlip(tmp_path, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    values = scalars(tmp_path / "run.h5")
    assert values["qmmm.start"] == "qm"
    assert values["qmmm.iterations"] <= 12
    assert values["qmmm.residual_force"] <= 1e-9
    assert values["qmmm.stable"]
    assert values["qmmm.geometry_error"] < 0.25  # angstrom


@pytest.mark.parametrize(("kind", "error"), [("force", 0.1), ("energy", 0.1)])
def test_cores_leave_saddles_before_anything_is_balanced_to_the_side_of_the_truth(kind, error, tmp_path):
    (tmp_path / "run.toml").write_text(POLARISED)
    done = parmlip(tmp_path, "run.toml", "--set", f"qmmm.kind='{kind}'")
    assert done.returncode == 0, done.stdout + done.stderr
    values = scalars(tmp_path / "run.h5")
    assert "QM region alone: a saddle, lowest eigenvalue -" in done.stdout
    assert values["qmmm.start"] == "qm"
    assert values["qmmm.stable"]
    assert values["qmmm.same_basin"]
    assert values["qmmm.geometry_error"] < error  # angstrom; the two polarities are 5 apart
    assert "many times its estimate" not in done.stdout


def test_errors_against_another_core_than_that_of_the_coupling_are_told(tmp_path, monkeypatch):
    """On the saddle, which is within 0.5 angstrom of the polarised core."""
    monkeypatch.setattr(stages_qmmm, "starts", from_the_predictor)
    (tmp_path / "run.toml").write_text(POLARISED)
    done = parmlip(tmp_path, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    values = scalars(tmp_path / "run.h5")
    assert values["qmmm.max_displacement_difference"] < 0.5
    assert values["qmmm.geometry_error"] > 5.0 * values["qmmm.geometry_error_estimate"]
    assert not values["qmmm.same_basin"]
    assert "is many times its estimate from reference forces" in done.stdout
    assert "the coupled equilibrium is in another basin than the reference's" in done.stdout
    assert "saddle: the coupled equilibrium is not a minimum" in done.stdout


def test_a_truth_on_a_saddle_lies_above_the_coupled_equilibrium_and_that_is_told(tmp_path):
    (tmp_path / "run.toml").write_text(POLARISED)
    done = parmlip(tmp_path, "run.toml", "--set", "relax.force_tolerance=1e-3")
    assert done.returncode == 0, done.stdout + done.stderr
    values = scalars(tmp_path / "run.h5")
    assert not values["relax_reference.stable"]
    assert values["qmmm.stable"]
    assert values["qmmm.energy_excess"] < -0.1
    assert "eV below that of its own: errors are against a state that is not its lowest" in done.stdout
    assert not values["qmmm.same_basin"]


def test_a_start_that_is_not_found_is_replaced_by_the_predictor_and_told(tmp_path, monkeypatch):
    def lost(*_, **__):
        raise ConvergenceError("QM region alone: not converged", None)

    monkeypatch.setattr(stages_qmmm_start, "relax_to_minimum", lost)
    (tmp_path / "run.toml").write_text(VACANCY)
    for kind in ("force", "energy"):
        done = parmlip(tmp_path, "run.toml", "--overwrite", "--set", f"qmmm.kind='{kind}'")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("starts from the predictor: QM region alone: not converged") == 1
        assert scalars(tmp_path / "run.h5")["qmmm.start"] == "predictor"


def test_a_smaller_region_that_leads_nowhere_or_is_a_saddle_is_not_what_a_point_starts_from(tmp_path, monkeypatch):
    balance, stability, asked = stages_qmmm.balance_forces, stages_qmmm.stability_fields, []

    def fails_at_the_third(*given, **named):
        asked.append(given)
        if len(asked) == 3:
            raise ConvergenceError("force mixing: no step lowers the residual force", None)
        return balance(*given, **named)

    def no_minimum_at_15(problem, u_ad):
        fields = stability(problem, u_ad)
        return fields | {"stable": Field(False)} if problem.study.qmmm.radius == 15.0 else fields

    monkeypatch.setattr(stages_qmmm, "balance_forces", fails_at_the_third)
    monkeypatch.setattr(stages_qmmm, "stability_fields", no_minimum_at_15)
    (tmp_path / "run.toml").write_text(VACANCY + '[sweep]\n"qmmm.radius" = [9.0, 12.0, 15.0, 18.0]\n')
    done = parmlip(tmp_path, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    values = scalars(tmp_path / "run.h5")
    assert [values[f"sweep.{i}.qmmm.start"] for i in range(4)] == ["qm", "point 0", "qm", "point 1"]
    assert 'force mixing: no step lowers the residual force; once more, from "qm"' in done.stdout


COPPER = """
[run]
stages = ["build", "reference", "train", "qmmm"]
[crystal]
lattice = "fcc"
species = ["Cu"]
lattice_constant = 3.61
[reference]
kind = "ase"
calculator = "ase.calculators.emt.EMT"
options = { asap_cutoff = true }
[simulation]
domain = "disc"
radius = 12.0
rim = 12.6
[simulation.dislocations]
kind = "single"
line = [1, -1, 0]
plane = [0, 0, 1]
burgers = [0.5, 0.5, 0.0]
elastic_constants = { C11 = 173.0, C12 = 116.0, C44 = 90.0 }
[[training]]
cell = [3, 3, 3]
samples = 1
test_samples = 0
relax = false
[surrogate]
correlation_order = 3
total_degree = 10
cutoff = 5.0
[fit]
solver = "ridge"
homogeneous = 0
weights = "force_mixing_K1_virial"
tolerance = 1e-6
[relax]
laws = ["surrogate"]
force_tolerance = 1e-2
[qmmm]
radius = 5.0
buffer = 6.0
"""


def test_about_dislocations_the_mm_equilibrium_saves_calls_of_a_calculator_unless_it_is_wild(tmp_path, monkeypatch):
    (tmp_path / "run.toml").write_text(COPPER)

    def run():
        if (tmp_path / "run.h5").exists():  # once more, with the fit that is there
            with h5py.File(tmp_path / "run.h5", "a") as file:
                del file["qmmm"]
        done = parmlip(tmp_path, "run.toml", "--resume")
        assert done.returncode == 0, done.stdout + done.stderr
        values = scalars(tmp_path / "run.h5")
        return values["qmmm.start"], values["qmmm.qm_evaluations"], done.stdout

    start, calls, _ = run()
    assert start == "mm"
    with monkeypatch.context() as patched:
        patched.setattr(stages_qmmm_start, "_SOON", 1)
        start, from_predictor, log = run()
    assert start == "predictor"
    assert calls < from_predictor
    assert log.count("starts from the predictor, of the MM law there is no equilibrium: MM law alone: not conv") == 1
    monkeypatch.setattr(stages_qmmm_start, "_FAR", 0.0)
    start, again, log = run()
    assert (start, again) == ("predictor", from_predictor)
    assert log.count("starts from the predictor, the MM law's equilibrium is 0.") == 1


@pytest.mark.mpi(3)
def test_runs_on_several_ranks_leave_a_saddle_to_the_same_side(shared_tmp, comm):
    paths = alone_and_together(SCREW, shared_tmp, comm)
    if comm.rank == 0:
        (u_ad, v_ad) = (ResultFile(path).read("qmmm", "displacement") for path in paths)
        np.testing.assert_allclose(v_ad, u_ad, atol=1e-6)
        alone, together = (scalars(path)["qmmm.lowest_eigenvalue"] for path in paths)
        assert alone > 0.1
        np.testing.assert_allclose(together, alone, rtol=1e-6)
