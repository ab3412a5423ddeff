"""Error bars as a user gets them: fit, report, evaluate, calculator; the same on any number of ranks."""

from __future__ import annotations

import ase.build
import ase.io
import numpy as np
import pytest

from parmlip.fit.observations import Configuration, label
from parmlip.io import hdf5
from parmlip.io.calculator import ParmlipCalculator
from parmlip.io.fitted import fitted_committee
from tests.program import alone_and_together, parmlip, results

INPUT = """
[crystal]
lattice = "bcc"
species = ["W"]
lattice_constant = "relax"
[reference]
parameters = "W-Zhou"
taper = [3.8, 5.0]
[simulation]
cell = [4, 4, 4]
defects = [{ kind = "vacancy", at = [1, 1, 1] }]
[[training]]
name = "vacancy"
cell = [3, 3, 3]
defects = [{ kind = "vacancy", at = [0, 0, 0] }]
samples = 6
test_samples = 6
rattle = { amplitude = 0.05, kind = "uniform" }
[surrogate]
correlation_order = 2
total_degree = 8
cutoff = 5.0
inner_cutoff = 0.75
[fit]
solver = "blr"
committee = 12
[relax]
error_bars = 6
[report]
figure = false
"""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bars")
    (directory / "run.toml").write_text(INPUT)
    done = parmlip(directory, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    return directory, done.stdout


def test_the_errors_of_a_relaxation_lie_within_a_few_of_its_bars(fitted):
    directory, log = fitted
    found = results(directory / "run.h5")
    assert "error bars of the test set, force" in log
    assert found["train.test_force_coverage_2sigma"] > 0.9
    assert 0.55 < found["train.test_force_coverage_1sigma"] < 0.95
    assert found["train.test_energy_coverage_2sigma"] >= 5 / 6
    assert found["compare.formation_energy_error"] < 3.0 * found["relax_surrogate.formation_energy_std"]
    assert found["compare.geometry_error"] < 3.0 * found["relax_surrogate.geometry_std"]
    assert found["relax_surrogate.geometry_std"] < 30.0 * found["compare.geometry_error"]


def test_evaluate_and_the_calculator_give_the_spread_of_the_members(fitted):
    directory, _ = fitted
    atoms = ase.build.bulk("W", "bcc", 3.17, cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=1)
    ase.io.write(directory / "some.xyz", atoms)
    done = parmlip(directory, "evaluate", "run.h5", "some.xyz", "-o", "out.xyz", "--overwrite")
    assert done.returncode == 0, done.stderr
    given = ase.io.read(directory / "out.xyz")
    committee = fitted_committee(directory / "run.h5")
    assert len(committee) == 12
    state = Configuration(atoms.cell.array, (True, True, True), given.positions, ("W",) * 16)
    members = [label(law, state) for law in committee.laws]
    energy_std = committee.energy_scale * np.sqrt(np.mean([m.energy**2 for m in members]))
    forces_std = committee.force_scale * np.sqrt(np.mean([m.forces_ac**2 for m in members], axis=0))
    assert given.info["energy_std"] == pytest.approx(energy_std, rel=1e-7)
    assert np.allclose(given.arrays["forces_std"], forces_std, rtol=1e-6, atol=1e-7)
    calculator = ParmlipCalculator(directory / "run.h5")
    assert calculator.get_property("energy_std", given) == pytest.approx(energy_std, rel=1e-10)
    assert np.allclose(calculator.get_property("forces_std", given), forces_std, rtol=1e-9)
    assert np.allclose(calculator.get_property("energies_std", given), given.arrays["site_energy_std"], rtol=1e-6)
    done = parmlip(directory, "export", "run.h5", "-o", "law.yace", "--overwrite")
    assert done.returncode == 0, done.stderr
    with pytest.raises(NotImplementedError):
        ParmlipCalculator(directory / "law.yace").get_property("energy_std", given)


@pytest.mark.mpi(3)
def test_a_committee_does_not_hang_on_the_number_of_ranks(comm, shared_tmp):
    if comm.size == 1:
        pytest.skip("needs several ranks")
    one, three = (hdf5.scalars(path) for path in alone_and_together(INPUT, shared_tmp, comm))
    for key in ("train.calibration_force", "train.calibration_energy", "relax_surrogate.formation_energy_std",
                "relax_surrogate.geometry_std"):  # fmt: skip
        assert three[key] == pytest.approx(one[key], rel=1e-5)


def test_bars_by_more_members_than_there_are_end_with_one_line(tmp_path):
    (tmp_path / "run.toml").write_text(INPUT)
    done = parmlip(tmp_path, "run.toml", "--set", "relax.error_bars=13", "--check")
    assert done.returncode == 2
    assert "[relax] error_bars = 13: must be at most [fit] committee = 12" in done.stderr


@pytest.mark.parametrize("solver", ["rrqr", "svd", "ridge", "ard"])
def test_every_solver_gives_a_committee(fitted, solver):
    directory, _ = fitted
    done = parmlip(
        directory, "fit", "--from", "run.h5", "--set", f"fit.solver={solver}", "--set", "fit.tolerance=1e-8",
        "-o", f"{solver}.h5", "--overwrite",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = results(directory / f"{solver}.h5")
    assert found["train.calibration_force"] > 0.0
    assert found["train.test_force_coverage_2sigma"] > 0.9
