"""What rows of the elastic response give in a large dislocated cell: W screws, surrogates of degree 10."""

from __future__ import annotations

from pathlib import Path

import pytest

from parmlip.report import table
from tests.program import parmlip, results

INPUT = Path(__file__).parents[1] / "inputs" / "dislocations" / "w_screw_elasticity.toml"
LOSSES = (("none", "[]"), ("linear", "[]"), ("none", '["stress", "elastic"]'))
SMALLER = (
    "run.output=\"run.h5\"", "simulation.cell=[8,14,1]", "training.samples=12", "training.test_samples=2", "sweep={}",
    'sweep."fit.elasticity, fit.constraints"=[' + ", ".join(f'["{loss}", {exact}]' for loss, exact in LOSSES) + "]",
    "surrogate.total_degree=10", "report.figure=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Result file and its numbers: a quadrupole of 672 sites, surrogates of one dipole of 720 sites, three losses."""
    directory = tmp_path_factory.mktemp("elasticity")
    ran = parmlip(directory, INPUT, *(word for key in SMALLER for word in ("--set", key)))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return directory / "run.h5", results(directory / "run.h5")


def test_rows_of_the_elastic_response_lower_the_energy_error_threefold_and_cost_no_forces(done):
    none, linear, exact = ([done[1][f"sweep.{i}.{key}"] for key in (
        "compare.formation_energy_error", "train.test_rmse_force")] for i in range(3))  # fmt: skip
    assert none[0] > 3.0 * linear[0]
    assert none[0] > 3.0 * exact[0]
    assert linear[1] < 1.03 * none[1]
    assert exact[1] < 1.03 * none[1]


def test_the_report_tells_constants_that_states_leave_open_and_rows_fix(done):
    lines = table(done[0])
    first = next(i for i, line in enumerate(lines) if "p (1, -1/2)" in line)
    rows = [line.split() for line in lines[first + 4 : first + 7]]
    (stress, c11, c12, c44, p, q), linear, exact = ([float(word) for word in row[-6:]] for row in rows)
    assert abs(p) > 20.0 * abs(q)
    assert abs(p) > 2.0
    assert (c12, c44) == (pytest.approx(p + 0.5 * q, abs=1e-3), pytest.approx(q - 0.5 * p, abs=1e-3))
    assert stress == pytest.approx(p, rel=0.2)  # what p det F adds
    assert abs(c11) < 0.2 * abs(p)
    assert max(map(abs, linear)) < 1e-3
    assert max(map(abs, exact)) < 1e-8
