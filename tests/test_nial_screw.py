"""Screws a[001] in B2 NiAl: stored energies with Purja Pun and Mishin's table, the input, two species in the fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.potentials.eam_cells import potential_file
from tests.program import parmlip, results

INPUT = Path(__file__).parents[1] / "inputs" / "dislocations" / "nial_screw.toml"
MISHIN = "Mishin-Ni-Al-2009.eam.alloy"


def run(directory: Path, table: Path, *changes: str) -> dict[str, Any]:
    """Scalars of a run of the input with that table."""
    given = [x for change in (f'reference.file="{table}"', "run.output=run.h5", *changes) for x in ("--set", change)]
    done = parmlip(directory, INPUT, *given)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return results(directory / "run.h5")


@pytest.mark.parametrize(("noise", "energy", "stable"), [(0.0, 15.61824, False), (0.03, 15.45862, True)])
def test_energies_of_the_quadrupole_are_the_stored_ones_of_the_saddle_and_of_the_state_below(
    tmp_path, noise, energy, stable
):
    changes = (f"simulation.dislocations.noise={noise}", 'run.stages=["build","reference","relax"]', "sweep={}")
    found = run(tmp_path, potential_file(MISHIN), *changes, 'relax.laws=["reference"]')
    assert found["build.n_sites"] == 800
    assert found["relax_reference.energy"] == pytest.approx(energy, abs=6e-6)  # digits as printed
    assert found["relax_reference.stable"] is stable
    assert found["relax_reference.cores_present"] is True


@pytest.mark.parametrize("table", [MISHIN, "NiAlH_jea.eam.alloy"])
def test_fits_of_two_species_gain_from_the_degree_and_have_the_elastic_constants(tmp_path, table):
    changes = (
        "simulation.cell=[12,12,1]", "training.cell=[10,8,1]", "training.samples=6", "training.test_samples=2",
        "sweep={}", "sweep.surrogate.total_degree=[[6,6,5],[10,8,6]]", 'run.stages=["build","reference","train"]',
    )  # fmt: skip
    found = run(tmp_path, potential_file(table), *changes)
    rough, fine = (found[f"sweep.{i}.train.test_rmse_force"] for i in (0, 1))
    assert fine < 0.8 * rough < 0.02
    for name in ("C11", "C12", "C44"):
        assert found[f"sweep.1.train.{name}"] == pytest.approx(found[f"reference.{name}"], rel=1e-3)
