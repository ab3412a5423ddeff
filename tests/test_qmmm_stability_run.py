"""Stability of coupled equilibria through the command line."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import loads
from parmlip.construct import reference_law
from parmlip.construct_qmmm import coupling, mm_law
from parmlip.crystal.cores import nearest_columns
from parmlip.io.hdf5 import Field, ResultFile, scalars
from parmlip.io.results import Results
from parmlip.mechanics.relax import relax
from parmlip.parallel import logs
from parmlip.pipeline import run
from parmlip.report.tables import table
from parmlip.stages_domain import predictor
from parmlip.stages_equilibrium import crystal_of
from parmlip.stages_qmmm_problem import Problem, mixed
from parmlip.stages_qmmm_stability import stability_fields
from tests.program import alone_and_together, parmlip
from tests.test_qmmm_run import INPUT as VACANCY
from tests.test_qmmm_total_run import COPPER

# The easy core of this law is polarised to one of two sides; its predictor is on the saddle between them.
STAGES = '["build", "reference", "train"]'
SCREW = """
[run]
stages = ["build", "reference", "train", "qmmm", "report"]

[crystal]
lattice = "bcc"
species = ["W"]

[reference]
parameters = "W-Zhou"
taper = [4.2, 5.2]

[simulation]
domain = "disc"
radius = 26.0
dislocations = { kind = "single", line = [1, 1, 1], plane = [-1, 1, 0], burgers = [0.5, 0.5, 0.5], core = "easy" }

[surrogate]
kind = "taylor"
states = "lattice"

[relax]
force_tolerance = 1e-8

[qmmm]
kind = "force"
radius = 7.0
truth = false

[report]
figure = false
"""


def problem(directory, kind):
    """What the stage works on, about a screw, and the predictor, which is near a saddle, (n_sites, 3)."""
    study = loads(SCREW, [f"run.output='{directory}/run.h5'", f"qmmm.kind='{kind}'", f"run.stages={STAGES}"])
    run(study, MPI.COMM_SELF)
    logs.stop()
    results = Results(study.output, comm=MPI.COMM_SELF)
    of = crystal_of(study, results)
    found = coupling(study, of)
    u0_ad = predictor(study, results, of)
    mm = mm_law(study, results, of, found.domain, u0_ad)
    law = reference_law(study)
    return Problem(study, results, MPI.COMM_SELF, of, found, u0_ad, u0_ad, u0_ad, law, mm, None), u0_ad


@pytest.mark.parametrize("kind", ["energy", "force"])
def test_a_state_on_a_saddle_is_told_and_one_beside_it_is_not(kind, tmp_path, caplog, monkeypatch):
    one, saddle_ad = problem(tmp_path, kind)
    monkeypatch.setattr(logs.LOGGER, "propagate", True)
    with caplog.at_level(logging.INFO):
        on = stability_fields(one, saddle_ad)
    assert not on["stable"].value
    assert on["lowest_eigenvalue"].value < -0.1
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert warning.startswith("saddle: the coupled equilibrium is not a minimum: lowest eigenvalue -")
    assert "start elsewhere: [simulation] dislocations with noise = 0.02, or another `polarity`" in warning
    caplog.clear()
    core, x_ac = one.domain.core, one.domain.supercell.positions_ac
    trio = nearest_columns(x_ac, core.position, one.domain.vectors_kc, 3)
    polar_ad = saddle_ad.copy()
    polar_ad[trio] += 0.107 * np.array(core.burgers)
    energy = mixed(one, one.domain, one.regions.qm_a, one.zero_ad)
    beside_ad = energy.sites.gather_to_all(relax(energy, energy.sites.restrict(polar_ad), one.study.relax).u_nd)
    with caplog.at_level(logging.INFO):
        beside = stability_fields(one, beside_ad)
    assert beside["stable"].value
    assert beside["lowest_eigenvalue"].value > 0.1
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]


def test_the_table_of_a_sweep_tells_saddles(tmp_path):
    file = ResultFile(tmp_path / "run.h5")
    file.create({"version": "0", "config": ""})
    file.write_stage("build", {"n_sites": Field(10)})
    for i, lowest in enumerate([0.3, -0.41, 0.2, -0.05]):
        fields = {"stable": Field(lowest > 0.0), "lowest_eigenvalue": Field(lowest), "stability": Field("Lanczos")}
        file.write_stage("qmmm", fields, point=i, swept={"qmmm.radius": 7.0 + i})
    lines = table(tmp_path / "run.h5")
    assert "lowest mode" in lines[0]
    told = "coupled equilibria that are saddles, by point, with the lowest eigenvalue: 1 (-0.41), 3 (-0.05)"
    assert told in lines


@pytest.mark.parametrize("kind", ["energy", "force"])
def test_of_a_law_that_hardly_differs_the_coupled_eigenvalue_is_the_references(kind, tmp_path):
    (tmp_path / "run.toml").write_text(VACANCY.replace('kind = "force"', f'kind = "{kind}"'))
    done = parmlip(tmp_path, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    values = scalars(tmp_path / "run.h5")
    assert values["qmmm.stable"]
    assert values["qmmm.lowest_eigenvalue"] == pytest.approx(values["relax_reference.lowest_eigenvalue"], rel=0.02)
    assert values["qmmm.lowest_eigenvalue_residual"] < 1e-3
    assert values["qmmm.stability_steps"] < 60
    assert ("qmmm.lowest_eigenvalue_imaginary" in values) == (kind == "force")


def test_it_is_not_looked_for_where_the_input_says_so(tmp_path):
    (tmp_path / "run.toml").write_text(VACANCY)
    done = parmlip(tmp_path, "run.toml", "--set", "relax.stability=false", "--set", "qmmm.truth=false")
    assert done.returncode == 0, done.stdout + done.stderr
    values = scalars(tmp_path / "run.h5")
    assert "qmmm.stable" not in values
    assert values["qmmm.stability"] == "not looked at: [relax] stability = false"


def test_of_forces_without_derivatives_the_table_says_that_it_is_not_known(tmp_path):
    text = COPPER.format(output=tmp_path / "cu.h5").replace("[3.0, 7.5]", "[3.0, 4.0]").replace("truth = true", "")
    run(loads(text, ["relax.force_tolerance=1e-3"]), MPI.COMM_SELF)
    values = scalars(tmp_path / "cu.h5")
    assert "sweep.0.qmmm.lowest_eigenvalue" not in values
    lines = table(tmp_path / "cu.h5")
    assert "stability of the coupled equilibria not known: the QM forces have no derivatives (points 0, 1)" in lines


@pytest.mark.mpi(2)
def test_runs_on_several_ranks_find_the_same_eigenvalue(shared_tmp, comm):
    paths = alone_and_together(SCREW, shared_tmp, comm)
    if comm.rank == 0:
        alone, together = (scalars(path)["qmmm.lowest_eigenvalue"] for path in paths)
        np.testing.assert_allclose(together, alone, rtol=1e-6)
