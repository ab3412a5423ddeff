"""Stability of coupled equilibria through the command line."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import loads
from parmlip.io.hdf5 import scalars
from parmlip.pipeline import run
from parmlip.report.tables import table
from tests.program import alone_and_together, parmlip
from tests.test_qmmm_run import INPUT as VACANCY
from tests.test_qmmm_total_run import COPPER

# The easy core of this law is polarised to one of two sides. The search for balance starts from an MM law's core, which
# is in the middle; a larger QM region has the law in the core there too.
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


@pytest.fixture(scope="module")
def screw(tmp_path_factory):
    """A balance on the saddle between two polarities, and one on either side."""
    directory = tmp_path_factory.mktemp("saddle")
    sweep = '[sweep]\n"qmmm.radius, simulation.dislocations.polarity" = [[7.0, 0.0], [11.0, 0.1]]\n'
    (directory / "run.toml").write_text(SCREW + sweep)
    done = parmlip(directory, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "run.h5", done.stdout


def test_a_balance_on_a_saddle_is_told_in_log_and_table_and_one_beside_it_is_not(screw):
    path, log = screw
    values = scalars(path)
    assert not values["sweep.0.qmmm.stable"]
    assert values["sweep.0.qmmm.lowest_eigenvalue"] < -0.1
    assert values["sweep.0.qmmm.residual_force"] < 1e-8  # it is a balance
    assert values["sweep.1.qmmm.stable"]
    assert values["sweep.1.qmmm.lowest_eigenvalue"] > 0.1
    warnings = [line for line in log.splitlines() if "saddle: the coupled equilibrium is not a minimum" in line]
    assert len(warnings) == 1
    assert "; or take a larger [qmmm] radius, whose start has the QM law in the core" in warnings[0]
    lines = table(path)
    assert any("lowest mode" in line for line in lines)
    told = [line for line in lines if line.startswith("coupled equilibria that are saddles, by point, ")]
    assert len(told) == 1
    assert told[0].endswith(f"0 ({values['sweep.0.qmmm.lowest_eigenvalue']:.3g})")


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


def test_states_of_energy_mixing_that_are_no_minimum_are_told(tmp_path):
    """Far from converged, where the core has not yet left the saddle."""
    keys = ("qmmm.kind='energy'", "relax.force_tolerance=0.3")
    (tmp_path / "run.toml").write_text(SCREW)
    done = parmlip(tmp_path, "run.toml", *(part for key in keys for part in ("--set", key)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "saddle: the coupled equilibrium is not a minimum: lowest eigenvalue -" in done.stdout
    assert not scalars(tmp_path / "run.h5")["qmmm.stable"]


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


@pytest.mark.mpi
def test_runs_on_several_ranks_find_the_same_eigenvalue(shared_tmp, comm):
    paths = alone_and_together(SCREW, shared_tmp, comm)
    if comm.rank == 0:
        alone, together = (scalars(path)["qmmm.lowest_eigenvalue"] for path in paths)
        np.testing.assert_allclose(together, alone, rtol=1e-6)
