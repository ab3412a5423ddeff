"""Bases of other kinds through the command line: of the plane, degrees by order, pair functions; sweeps over lists."""

from __future__ import annotations

import numpy as np
import pytest

from parmlip.errors import ConfigError, GeometryError
from parmlip.io.calculator import ParmlipCalculator
from parmlip.io.fitted import fitted_law
from parmlip.io.hdf5 import ResultFile
from tests.potentials.ace_environments import environments, rattled
from tests.program import parmlip, results

FIT = """
[run]
output = "run.h5"

[crystal]
lattice = "{lattice}"
species = ["W"]

[reference]
{reference}

[simulation]
cell = {cell}
defects = [{{ kind = "vacancy", at = [0, 0, 0] }}]

[[training]]
cell = {small}
defects = [{{ kind = "vacancy", at = [0, 0, 0] }}]
samples = 8
test_samples = 3
rattle = {{ amplitude = 0.05, kind = "uniform" }}

[surrogate]
cutoff = 5.0
{surrogate}
"""
ZHOU = 'parameters = "W-Zhou"\ntaper = [3.8, 5.0]'
BULK = {"lattice": "bcc", "reference": ZHOU, "cell": [4, 4, 4], "small": [3, 3, 3]}


def run(directory, surrogate: str, **tables) -> dict:
    """The scalars of a run."""
    (directory / "run.toml").write_text(FIT.format(**{**BULK, **tables}, surrogate=surrogate))
    done = parmlip(directory, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(directory.glob("*.png"))
    return results(directory / "run.h5")


def test_a_sweep_over_degrees_by_order_is_run_stored_and_told(tmp_path):
    lists = [[6, 4, 3], [9, 8, 6]]
    found = run(tmp_path, f'[sweep]\n"surrogate.total_degree" = {lists}')
    forces = [found[f"sweep.{i}.train.test_rmse_force"] for i in range(2)]
    assert forces[1] < 0.5 * forces[0]
    assert found["sweep.1.compare.geometry_error"] < found["sweep.0.compare.geometry_error"]
    for i, degrees in enumerate(lists):
        law = fitted_law(tmp_path / "run.h5", i)
        assert law.basis.degrees == tuple(degrees)
        assert found[f"sweep.{i}.train.n_basis"] == law.basis.n_basis
    told = parmlip(tmp_path, "report", "run.h5").stdout
    assert "[6, 4, 3]" in told or "(6, 4, 3)" in told


def test_a_basis_of_the_plane_is_fitted_to_a_crystal_of_the_plane(tmp_path):
    plane = {"lattice": "triangular", "cell": [6, 6], "small": [5, 5]}
    found = run(tmp_path, "dimension = 2\ntotal_degree = [10, 9, 8]", **plane)
    law = fitted_law(tmp_path / "run.h5")
    assert law.basis.dimension == 2
    forces = ResultFile(tmp_path / "run.h5").read("train", "test_forces_reference")
    assert found["train.test_rmse_force"] < 0.1 * np.sqrt(np.mean(forces**2))
    assert found["compare.geometry_error"] < 0.5 * found["compare.geometry_norm"]


def test_pair_functions_with_a_cutoff_of_their_own_go_from_the_input_to_the_calculator(tmp_path):
    found = run(tmp_path, "total_degree = 5\npair_degree = 8\npair_cutoff = 5.6")
    law = fitted_law(tmp_path / "run.h5")
    basis = law.basis
    assert (basis.pair_degree, basis.pair_cutoff, basis.many_body_cutoff) == (8, 5.6, 5.0)
    assert law.cutoff == 5.6
    assert found["train.n_basis"] == basis.n_basis
    assert np.abs(law.coefficients[-8:]).max() > 0.0
    again = parmlip(tmp_path, "export", "run.h5", "-o", "x.yace")
    assert again.returncode != 0
    assert "one set of radial functions" in again.stderr
    without = tmp_path / "without"
    without.mkdir()
    assert found["train.test_rmse_force"] < 0.3 * run(without, "total_degree = 5")["train.test_rmse_force"]
    atoms = rattled((2, 2, 2), 0.03, 1)
    atoms.calc = ParmlipCalculator(tmp_path / "run.h5")
    forces, h = atoms.get_forces(), 1e-3
    energies = []
    for step in (h, -h):
        moved = atoms.copy()
        moved.positions[3, 1] += step
        moved.calc = atoms.calc
        energies.append(moved.get_potential_energy())
    assert -(energies[0] - energies[1]) / (2 * h) == pytest.approx(forces[3, 1], abs=1e-6)


def test_a_repulsive_core_is_beside_the_fit_which_it_does_not_spoil(tmp_path):
    fitted = "total_degree = 7\npair_degree = 10"
    without = tmp_path / "without"
    without.mkdir()
    plain = run(without, fitted)
    found = run(tmp_path, f'{fitted}\nrepulsion = "zbl"\nrepulsion_range = [0.5, 0.99]')
    law = fitted_law(tmp_path / "run.h5")
    r0 = law.basis.r0
    assert law.basis.repulsion_range == pytest.approx((0.5 * r0, 0.99 * r0))
    # rattled sites come into the core, whose forces are not small beside the errors
    assert found["train.test_rmse_force"] < 1.5 * plain["train.test_rmse_force"]
    assert found["train.bulk_energy"] == pytest.approx(plain["train.bulk_energy"], abs=1e-3)
    pressed = rattled((2, 2, 2), 0.0, 1)
    pressed.positions[1] += 0.55 * (pressed.positions[0] - pressed.positions[1])  # to 1.2 angstrom
    pressed.calc = ParmlipCalculator(tmp_path / "run.h5")
    core = law.basis.fixed_part.site_energies(environments(pressed, ("W",), law.cutoff)[0]).sum()
    assert core > 150.0
    perfect = rattled((2, 2, 2), 0.0, 1)
    perfect.calc = pressed.calc
    assert pressed.get_potential_energy() - perfect.get_potential_energy() > 0.5 * core
    pressed.calc = ParmlipCalculator(without / "run.h5")
    with pytest.raises(GeometryError, match="valid from"):
        pressed.get_potential_energy()
    again = parmlip(tmp_path, "export", "run.h5", "-o", "x.yace")
    assert again.returncode != 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('repulsion = "zbl"\nrepulsion_range = [0.5, 1.1]', "must end below the nearest-neighbour distance"),
        ('repulsion = "zbl"\nrepulsion_range = [0.5, 0.5]', r"repulsion_range = \[0.5, 0.5\]: must rise"),
        ('repulsion = "soft"', 'repulsion = "soft"'),
        ("pair_cutoff = 4.0", r"pair_cutoff = 4.0: needs pair_degree above 0"),
        ("pair_degree = 3\npair_cutoff = 2.0", r"pair_cutoff = 2: must be greater than the nearest-neighbour distance"),
        ("pair_degree = -1", "pair_degree = -1"),
    ],
)
def test_impossible_pair_functions_are_refused_before_any_work(keys, message, tmp_path):
    (tmp_path / "run.toml").write_text(FIT.format(**BULK, surrogate=keys))
    done = parmlip(tmp_path, "run.toml", "--check")
    assert done.returncode != 0
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(done.stderr)
