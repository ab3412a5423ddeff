"""Data sets with a crystal: constraints by numbers, and defects relaxed without a reference law."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from parmlip.config import loads
from parmlip.errors import ConfigError
from parmlip.io.calculator import ParmlipCalculator
from parmlip.io.hdf5 import ResultFile
from tests.program import parmlip

INPUT = """
[run]
output = "run.h5"
[dataset]
train = ["train.xyz"]
one_body = { W = -4.57 }
[crystal]
lattice = "bcc"
species = ["W"]
lattice_constant = 3.165
[simulation]
cell = [4, 4, 4]
defects = [{ kind = "vacancy", at = [1, 1, 1] }]
[surrogate]
total_degree = 7
cutoff = 4.4
inner_cutoff = 0.7
[fit]
weights = { energy = 100.0, force = 1.0 }
constraints = ["energy", "stress", "elastic"]
elastic_constants = { C11 = 500.0, C12 = 210.0, C44 = 150.0 }
bulk_energy = -12.9
[relax]
laws = ["surrogate"]
"""


def labelled_by_a_law(directory):
    from parmlip.fit.observations import Configuration, label
    from parmlip.potentials.eam import builtin

    law, random, frames = builtin("W-Zhou", (3.3, 4.2)), np.random.default_rng(4), []
    for i in range(12):
        atoms = bulk("W", "bcc", a=3.165, cubic=True).repeat(2)
        if i % 2:
            del atoms[0]
        atoms.positions += random.uniform(-0.1, 0.1, atoms.positions.shape)
        state = Configuration(atoms.cell.array, (True,) * 3, atoms.positions, ("W",) * len(atoms))
        found = label(law, state)
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = found.energy - 4.57 * len(atoms), found.forces_ac
        frames.append(atoms)
    ase.io.write(directory / "train.xyz", frames, format="extxyz", parallel=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("crystal")
    labelled_by_a_law(directory)
    (directory / "run.toml").write_text(INPUT)
    done = parmlip(directory, "run.toml")
    assert done.returncode == 0, done.stderr + done.stdout
    return directory


def test_numbers_given_for_the_crystal_are_met_exactly(directory):
    file = ResultFile(directory / "run.h5")
    assert file.read("train", "constraint_error") < 1e-10
    for name, value in (("C11", 500.0), ("C12", 210.0), ("C44", 150.0), ("bulk_energy", -12.9)):
        assert file.read("train", name) == pytest.approx(value, rel=1e-10)
    assert np.abs(file.read("train", "bulk_stress")).max() < 1e-10 * 500.0
    full = np.zeros((6, 6))
    full[:3, :3] = 210.0
    full[range(6), range(6)] = [500.0] * 3 + [150.0] * 3
    np.testing.assert_allclose(file.read("train", "elastic_constants"), full, atol=5e-8)


def test_a_defect_is_relaxed_without_a_reference_law(directory):
    file = ResultFile(directory / "run.h5")
    done = {name for name, _, _ in file.stages()}
    assert done == {"build", "label", "train", "relax_surrogate", "report"}
    assert file.read("relax_surrogate", "max_force") < 1e-7
    assert file.read("relax_surrogate", "energy") < 0.0
    atoms = bulk("W", "bcc", a=3.165, cubic=True)
    atoms.calc = ParmlipCalculator(directory / "run.h5")
    assert atoms.get_potential_energy() / 2 == pytest.approx(-12.9, rel=1e-10)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("relax.laws=['reference', 'surrogate']", '[relax] laws: without a [reference] write laws = ["surrogate"]'),
        ("crystal.lattice_constant=relax", "they need [crystal] lattice and a number for lattice_constant"),
        ("fit.constraints=['energy']", '[fit] elastic_constants: needs "elastic" in constraints'),
        ("fit.elastic_constants={C11 = 500.0}", "[fit] elastic_constants = { C11 = 500.0 }: must have C11"),
        ("fit.weights.hessian=1", "[fit] weights: hessian: needs labels of a [reference] law"),
        ("fit.observations=['site_energy_1']", "[fit] observations: site_energy_1: needs labels of a [reference] law"),
        ("crystal.lattice=diamond", 'of lattice "diamond" cannot be constrained: inner displacements'),
    ],
)
def test_what_cannot_be_asked_of_a_data_set_is_refused(override, message):
    with pytest.raises(ConfigError) as caught:
        loads(INPUT, [override])
    assert message in str(caught.value)
