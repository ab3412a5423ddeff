"""Calculators of ASE as laws: what they say is what ASE says, and what is wrong with them is one line."""

import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from parmlip.errors import ConfigError, DataError
from parmlip.potentials.external import ase_law


def structure(atoms):
    return atoms.cell.array, tuple(map(bool, atoms.pbc)), atoms.positions, tuple(atoms.get_chemical_symbols())


@pytest.fixture
def atoms():
    made = bulk("Cu", cubic=True) * (2, 2, 2)
    made.rattle(0.05, seed=3)
    return made


class Odd(Calculator):
    """Gives what its keyword says."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]

    def calculate(self, atoms=None, properties=(), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        n = len(atoms)
        self.results = {"energy": 1.0, "free_energy": 2.0, "forces": np.zeros((n, 3)), "stress": np.arange(6.0)}
        how = self.parameters.get("how")
        if how == "raises":
            raise RuntimeError("licence\nexpired")
        if how == "ends":
            sys.exit("no licence")
        if how == "nan":
            self.results["forces"][0, 0] = np.nan
        if how == "shape":
            self.results["forces"] = np.zeros((n + 1, 3))


@pytest.fixture
def odd(monkeypatch):
    def law(how):
        monkeypatch.setitem(sys.modules, "oddities", sys.modules[__name__])
        return ase_law("oddities.Odd", {"how": how})

    return law


def test_energy_forces_and_virial_are_those_of_ase(atoms):
    found = ase_law("ase.calculators.emt.EMT", {"asap_cutoff": True}).evaluate(*structure(atoms))
    atoms.calc = EMT(asap_cutoff=True)
    assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(found.forces_ac, atoms.get_forces(), atol=1e-12)
    np.testing.assert_allclose(found.virial_cc, -atoms.get_volume() * atoms.get_stress(voigt=False), atol=1e-10)
    assert found.site_energies_a.sum() == pytest.approx(found.energy)


def test_forces_are_the_derivative_of_the_energy(atoms):
    # EMT would not do: its own forces jump at its cutoff
    options = {"sigma": 2.3, "epsilon": 0.4, "rc": 5.0, "ro": 3.5, "smooth": True}
    law = ase_law("ase.calculators.lj.LennardJones", options)
    direction = np.random.default_rng(1).normal(size=(32, 3))
    cell, periodic, positions, symbols = structure(atoms)
    slope = -np.vdot(law.evaluate(cell, periodic, positions, symbols).forces_ac, direction)
    steps, errors = np.array([4e-3, 2e-3, 1e-3]), []
    for h in steps:
        up, down = (law.evaluate(cell, periodic, positions + s * h * direction, symbols).energy for s in (1, -1))
        errors.append(abs((up - down) / (2 * h) - slope))
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)


def test_energy_is_the_one_of_the_forces_and_voigt_order_is_ases(odd, atoms):
    found = odd(None).evaluate(*structure(atoms))
    assert found.energy == 2.0
    wanted = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
    np.testing.assert_allclose(found.virial_cc, -atoms.get_volume() * wanted)


def test_no_virial_where_the_cell_is_open(atoms):
    atoms.pbc = (True, True, False)
    assert ase_law("ase.calculators.emt.EMT").evaluate(*structure(atoms)).virial_cc is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("EMT", "must be the path of a class"),
        ("ase.calculators.emtt.EMT", "ase.calculators.emtt cannot be imported: ModuleNotFoundError"),
        ("ase.calculators.emt.EMTT", "ase.calculators.emt has no class EMTT; did you mean 'EMT'?"),
    ],
)
def test_wrong_class_path_is_told(name, message):
    with pytest.raises(ConfigError) as error:
        ase_law(name)
    assert message in str(error.value)


def test_wrong_keyword_is_told_before_anything_is_computed():
    with pytest.raises(ConfigError, match=r"options\.asap_cutof: .* did you mean 'asap_cutoff'"):
        ase_law("ase.calculators.emt.EMT", {"asap_cutof": True}).connect()
    with pytest.raises(ConfigError, match="cannot be made with options size = 3"):
        ase_law("ase.calculators.mixing.SumCalculator", {"size": 3}).connect()
    with pytest.raises(ConfigError, match="is not a calculator of ASE"):
        ase_law("collections.OrderedDict").connect()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "calculator oddities.Odd failed: RuntimeError: licence expired"),
        ("ends", "calculator oddities.Odd failed: SystemExit: no licence"),
        ("nan", "not finite"),
        ("shape", r"forces have shape \(33, 3\), not \(32, 3\)"),
    ],
)
def test_failing_calculator_is_an_error_of_one_line(odd, atoms, how, message):
    with pytest.raises(DataError, match=message) as error:
        odd(how).evaluate(*structure(atoms))
    assert "\n" not in str(error.value)


def test_unknown_species_is_told(atoms):
    atoms.symbols[0] = "Fe"
    with pytest.raises(DataError, match="Fe"):
        ase_law("ase.calculators.emt.EMT").evaluate(*structure(atoms))


def test_calculators_that_start_programs_are_known():
    assert ase_law("ase.calculators.espresso.Espresso").starts_program
    assert ase_law("ase.calculators.vasp.Vasp").starts_program
    assert ase_law("ase.calculators.lammpsrun.LAMMPS").starts_program is False  # pipes, not files: 1 unless asked
    assert not ase_law("ase.calculators.emt.EMT").starts_program


def test_kim_model_is_a_law(atoms):
    pytest.importorskip("kimpy", reason="kimpy (and libkim-api) is not installed: KIM models are NOT tested here")
    law = ase_law("ase.calculators.kim.KIM", {"model_name": "ex_model_Ar_P_Morse_07C"})
    argon = bulk("Ar", "fcc", 5.2, cubic=True)
    assert law.evaluate(*structure(argon)).energy < 0.0


def test_vasp_has_a_directory_of_its_own_for_each_group(tmp_path):
    """It writes files, and is not of ASE's class of calculators that do."""
    law = ase_law("ase.calculators.vasp.Vasp", {"xc": "PBE", "command": "true"})
    for name in ("group-0", "group-1"):
        assert law.in_directory(tmp_path / name).connect().directory == str(tmp_path / name)
        assert (tmp_path / name).is_dir()
