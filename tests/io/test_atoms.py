"""Structure files: results under ASE's keys in ASE's signs, bad files told."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from parmlip.errors import DataError, GeometryError
from parmlip.io.atoms import labelled, read_structures, write_structures


def test_results_survive_a_file_with_units_and_signs_of_ase(tmp_path):
    atoms = bulk("W", cubic=True) * (2, 1, 1)
    rng = np.random.default_rng(1)
    forces, virial = rng.normal(size=(4, 3)), rng.normal(size=(3, 3))
    virial = virial + virial.T
    write_structures(tmp_path / "out.xyz", [labelled(atoms, -35.5, forces, virial), labelled(atoms, 1.0, forces)])
    first, second = read_structures(tmp_path / "out.xyz")
    assert first.get_potential_energy() == -35.5
    np.testing.assert_allclose(first.get_forces(), forces, atol=1e-8)
    np.testing.assert_allclose(first.info["virial"], virial, atol=1e-8)
    np.testing.assert_allclose(first.get_stress(voigt=False), -virial / atoms.get_volume(), atol=1e-8)
    assert "stress" not in second.calc.results
    assert [p.name for p in tmp_path.iterdir()] == ["out.xyz"]


def test_an_open_cell_has_a_virial_but_no_stress():
    atoms = labelled(Atoms("W2", [[0, 0, 0], [2.5, 0, 0]]), 1.0, np.zeros((2, 3)), np.eye(3))
    assert "stress" not in atoms.calc.results
    assert "virial" in atoms.info


def test_files_without_structures_are_told(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_structures(tmp_path / "absent.xyz")
    (tmp_path / "broken.xyz").write_text("3\n\nW 0 0 0\n")
    with pytest.raises(DataError, match=r"broken.xyz cannot be read"):
        read_structures(tmp_path / "broken.xyz")
    (tmp_path / "empty.xyz").write_text("")
    with pytest.raises(DataError, match=r"empty.xyz"):
        read_structures(tmp_path / "empty.xyz")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a.positions.__setitem__((2, 1), np.nan), "structure 0: position of atom 2 is not finite"),
        (lambda a: a.cell.__setitem__(1, [0, 0, 0]), "direction 1 is periodic but has no cell vector"),
        (lambda a: a.cell.__setitem__(1, 2 * a.cell[0]), "the cell vectors are linearly dependent"),
    ],
)
def test_structures_that_no_law_can_take_are_told(tmp_path, spoil, message):
    atoms = bulk("W", cubic=True) * (2, 1, 1)
    spoil(atoms)
    ase.io.write(tmp_path / "in.xyz", atoms, format="extxyz")
    with pytest.raises(GeometryError, match=message):
        read_structures(tmp_path / "in.xyz")


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot write .*out.xyz"):
        write_structures(tmp_path / "absent" / "out.xyz", [bulk("W")])
