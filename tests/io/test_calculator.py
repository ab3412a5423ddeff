"""ASE's calculator: derivatives, other calculators, small and open cells, relaxation."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.eam import EAM as AseEAM
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.optimize import BFGS

from parmlip.errors import ConfigError, DataError, GeometryError
from parmlip.io.calculator import ParmlipCalculator
from parmlip.io.hdf5 import Field, ResultFile
from parmlip.io.pace import write_yace
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam import builtin
from tests.potentials.ace_environments import rattled
from tests.potentials.eam_cells import alloy, write_setfl

W = ACEBasis(("W",), 3, 7, 5.0, 2.74)
NIAL = ACEBasis(("Al", "Ni"), 3, 6, 4.5, 2.5, one_body=True)
RNG = np.random.default_rng(4)
LAWS = {
    "W": ACE(W, RNG.normal(size=W.n_basis)),
    "NiAl": ACE(NIAL, RNG.normal(size=NIAL.n_basis)),
    "EAM": builtin("W-Zhou", (4.0, 5.0)),
}


def one_atom():
    """A sheared primitive cell: every neighbour is an image of the atom."""
    atoms = bulk("W", "bcc", a=3.2)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + [[0.02, 0.03, 0], [0.01, 0, 0], [0, 0, 0.04]]), scale_atoms=True)
    return atoms


def slab():
    atoms = rattled((2, 2, 2), 0.1, 6)
    atoms.pbc = (True, True, False)
    return atoms


def cluster():
    atoms = rattled((2, 2, 2), 0.1, 7, ("Ni", "Al"))
    return Atoms(atoms.get_chemical_symbols(), positions=atoms.positions)


CASES = {
    "one atom": ("W", one_atom),
    "small cell": ("W", lambda: rattled((1, 1, 2), 0.1, 5)),
    "slab": ("W", slab),
    "two species": ("NiAl", lambda: rattled((2, 1, 1), 0.1, 8, ("Ni", "Al"))),
    "cluster": ("NiAl", cluster),
    "EAM": ("EAM", lambda: rattled((2, 2, 1), 0.1, 9)),
}


def calculated(case: str) -> Atoms:
    name, make = CASES[case]
    atoms = make()
    atoms.calc = ParmlipCalculator(LAWS[name])
    return atoms


@pytest.mark.parametrize("case", CASES)
def test_forces_are_minus_the_derivative_of_the_energy(case):
    atoms = calculated(case)
    forces = atoms.get_forces()
    scale = np.abs(forces).max() + 1.0
    np.testing.assert_allclose(calculate_numerical_forces(atoms, eps=1e-4), forces, rtol=0, atol=2e-5 * scale)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-11 * scale)


@pytest.mark.parametrize("case", [c for c in CASES if c != "cluster"])
def test_stress_is_the_derivative_by_strain_in_ases_sign(case):
    atoms = calculated(case)
    stress = atoms.get_stress()
    wanted = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(stress, wanted, rtol=0, atol=1e-6 * (np.abs(stress).max() + 1.0))


def test_site_energies_and_free_energy_agree_with_the_energy():
    atoms = calculated("two species")
    energy = atoms.get_potential_energy()
    assert atoms.get_potential_energies().sum() == pytest.approx(energy, rel=1e-13)
    assert atoms.get_potential_energy(force_consistent=True) == energy


def test_an_isolated_atom_has_its_one_body_energy_and_a_cluster_no_stress():
    atoms = Atoms("Ni")
    atoms.calc = ParmlipCalculator(LAWS["NiAl"])
    assert atoms.get_potential_energy() == pytest.approx(LAWS["NiAl"].coefficients[NIAL.n_block], rel=1e-14)
    assert not atoms.get_forces().any()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


@pytest.mark.parametrize("case", CASES)
def test_the_three_forms_of_the_hessian_agree_with_each_other_and_with_forces(case):
    atoms = calculated(case)
    dense = atoms.calc.get_hessian(atoms, "dense")
    sparse = atoms.calc.get_hessian(atoms, "sparse")
    operator = atoms.calc.get_hessian(atoms, "operator")
    v = np.random.default_rng(1).normal(size=3 * len(atoms))
    scale = np.abs(dense).max() + 1.0
    np.testing.assert_allclose(sparse @ v, dense @ v, rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(operator @ v, dense @ v, rtol=0, atol=1e-11 * scale)
    np.testing.assert_allclose(dense, dense.T, rtol=0, atol=1e-11 * scale)
    start, h, forces = atoms.positions.copy(), 1e-5, []
    for sign in (1, -1):
        atoms.positions = start + sign * h * v.reshape(-1, 3)
        forces.append(atoms.get_forces().ravel())
    np.testing.assert_allclose((forces[1] - forces[0]) / (2 * h), dense @ v, rtol=0, atol=1e-6 * scale)


def test_an_eam_law_agrees_with_ases_own_calculator_of_the_same_file(tmp_path):
    law = alloy(False)
    write_setfl(tmp_path / "alloy.eam.alloy", law, False)
    atoms = rattled((2, 2, 2), 0.1, 2)
    atoms.set_chemical_symbols(["W", "Cu"] * 8)
    theirs = AseEAM(potential=str(tmp_path / "alloy.eam.alloy"))
    mine = ParmlipCalculator(law)
    assert mine.get_potential_energy(atoms) == pytest.approx(theirs.get_potential_energy(atoms), rel=1e-6)
    np.testing.assert_allclose(mine.get_forces(atoms), theirs.get_forces(atoms), rtol=0, atol=1e-4)


def test_ase_relaxes_a_vacancy_with_it():
    atoms = bulk("W", "bcc", a=3.165, cubic=True) * (3, 3, 3)
    del atoms[0]
    atoms.calc = ParmlipCalculator(builtin("W-Zhou", (4.0, 5.0)))
    before = atoms.get_potential_energy()
    assert BFGS(atoms, logfile=None).run(fmax=1e-4, steps=100)
    assert atoms.get_potential_energy() < before
    lowest = np.linalg.eigvalsh(atoms.calc.get_hessian(form="dense"))
    assert np.abs(lowest[:3]).max() < 1e-8
    assert lowest[3] > 0.1


def test_calculators_from_files_are_that_of_the_law(tmp_path):
    law, atoms = LAWS["NiAl"], rattled((2, 1, 1), 0.1, 8, ("Ni", "Al"))
    wanted = ParmlipCalculator(law).get_potential_energy(atoms)
    write_yace(tmp_path / "x.yace", law)
    assert ParmlipCalculator(tmp_path / "x.yace").get_potential_energy(atoms) == pytest.approx(wanted, rel=1e-12)
    fields = {"basis": Field(NIAL.parameters()), "coefficients": Field(law.coefficients)}
    file = ResultFile(tmp_path / "run.h5")
    file.create({"version": "test"})
    with pytest.raises(DataError, match="no fitted surrogate"):
        ParmlipCalculator(tmp_path / "run.h5")
    file.write_stage("train", fields)
    assert ParmlipCalculator(str(tmp_path / "run.h5")).get_potential_energy(atoms) == wanted
    swept = ResultFile(tmp_path / "swept.h5")
    swept.create({"version": "test"})
    swept.write_stage("train", fields, point=0, swept={"surrogate.total_degree": 6})
    assert ParmlipCalculator(tmp_path / "swept.h5", point=0).get_potential_energy(atoms) == wanted
    for name, point, message in (
        ("swept.h5", None, "has a sweep"),
        ("swept.h5", 3, "at the points"),
        ("run.h5", 0, "has no sweep"),
        ("x.yace", 0, "not a sweep"),
        ("x.txt", None, "a fitted law stands in"),
    ):
        with pytest.raises(ConfigError, match=message):
            ParmlipCalculator(tmp_path / name, point=point)


def test_what_the_law_cannot_answer_is_refused():
    atoms = calculated("small cell")
    with pytest.raises(ConfigError, match="must be one of dense, sparse, operator"):
        atoms.calc.get_hessian(atoms, "banded")
    water = molecule("H2O")
    water.calc = atoms.calc
    with pytest.raises(ConfigError, match="no parameters for species 'O'"):
        water.get_potential_energy()
    near = Atoms("W2", positions=[[0, 0, 0], [0, 0, 1.0]])
    near.calc = atoms.calc
    with pytest.raises(GeometryError, match="the law is valid from 1.3700 A"):
        near.get_potential_energy()
    with pytest.raises(ConfigError, match="only result files have points"):
        ParmlipCalculator(LAWS["W"], point=1)
