"""Labelled structures from files: what is found under which keys, and what is refused."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from parmlip.errors import DataError, GeometryError
from parmlip.io.extxyz import Keys, read_labelled

VIRIAL = np.array([[3.0, 0.5, 0.0], [0.5, 2.0, -0.25], [0.0, -0.25, 1.0]])


def crystal(**labels):
    """Two atoms of tungsten with keys of the comment line or, if they have two rows, of the columns."""
    atoms = bulk("W", cubic=True)
    for name, value in labels.items():
        kind = atoms.arrays if np.ndim(value) and len(value) == 2 else atoms.info
        kind[name] = value if np.isscalar(value) else np.array(value)
    return atoms


def read(tmp_path, *structures, test=(), given=None, **options):
    ase.io.write(tmp_path / "train.xyz", list(structures), format="extxyz")
    if test:
        ase.io.write(tmp_path / "test.xyz", list(test), format="extxyz")
    return read_labelled([tmp_path / "train.xyz"], [tmp_path / "test.xyz"] if test else [], given, **options)


def test_labels_are_found_under_the_names_of_all_conventions_in_the_documented_order(tmp_path):
    f_nc = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    for prefix in ("REF_", "dft_", "DFT_"):
        labels = {f"{prefix}energy": -2.0, f"{prefix}forces": f_nc, f"{prefix}virial": VIRIAL}
        (found,), _, keys = read(tmp_path, crystal(**labels))
        assert keys == Keys(f"{prefix}energy", f"{prefix}forces", f"{prefix}virial", None)
        assert found.energy == -2.0
        assert np.array_equal(found.forces_ac, f_nc)
        assert np.allclose(found.virial_cc, VIRIAL, atol=1e-7)
    (found,), _, keys = read(tmp_path, crystal(dft_energy=1.0, REF_energy=2.0, energy=3.0))
    assert (found.energy, keys.energy) == (2.0, "REF_energy")
    (found,), _, keys = read(tmp_path, crystal(dft_energy=1.0, REF_energy=2.0), given=Keys(energy="dft_energy"))
    assert (found.energy, keys.energy) == (1.0, "dft_energy")


def test_results_of_ase_s_calculators_are_labels(tmp_path):
    atoms = bulk("W", cubic=True)
    stress = np.array([0.1, 0.2, 0.3, 0.01, 0.02, 0.03])
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=np.full((2, 3), 0.5), stress=stress)
    (found,), _, keys = read(tmp_path, atoms)
    assert keys == Keys("energy", "forces", None, "stress")
    assert found.energy == -3.0
    assert np.array_equal(found.forces_ac, np.full((2, 3), 0.5))
    full = np.array([[0.1, 0.03, 0.02], [0.03, 0.2, 0.01], [0.02, 0.01, 0.3]])
    assert np.allclose(found.virial_cc, -atoms.get_volume() * full, atol=1e-7)


def test_virial_and_stress_may_both_be_given_if_they_agree(tmp_path):
    volume = bulk("W", cubic=True).get_volume()
    right = crystal(REF_energy=0.0, REF_virial=VIRIAL, REF_stress=-VIRIAL / volume)
    (found,), _, keys = read(tmp_path, right)
    assert (keys.virial, keys.stress) == ("REF_virial", "REF_stress")
    assert np.allclose(found.virial_cc, VIRIAL, atol=1e-6)
    wrong = crystal(REF_energy=0.0, REF_virial=VIRIAL, REF_stress=VIRIAL / volume)
    with pytest.raises(DataError, match=r"train.xyz, structure 1: REF_virial and REF_stress disagree: traces 6 eV"):
        read(tmp_path, right, wrong)


def test_labels_may_be_missing_and_one_key_serves_all_files(tmp_path):
    full, bare = crystal(REF_energy=1.0, REF_virial=VIRIAL, config_type="a/b"), crystal(dft_energy=5.0)
    training, test, keys = read(tmp_path, full, bare, test=[crystal(REF_energy=2.0)])
    assert keys == Keys("REF_energy", None, "REF_virial", None)
    assert [s.energy for s in training] == [1.0, None]  # levels of different origin are not mixed
    assert [s.virial_cc is None for s in training] == [False, True]
    assert [s.kind for s in training] == ["a_b", "default"]
    assert test[0].energy == 2.0


def test_weights_multiply_and_masked_forces_may_be_anything(tmp_path):
    forces = np.array([[np.nan, 0.0, 0.0], [1.0, 2.0, 3.0]])
    atoms = crystal(energy=1.0, REF_forces=forces, weight=2.0, energy_weight=3.0, virial_weight=0.5)
    atoms.arrays["force_mask"] = np.array([0, 1])
    atoms.arrays["force_weight"] = np.array([1.0, 4.0])
    (found,), _, _ = read(tmp_path, atoms)
    assert found.weights == {"energy": 6.0, "force": 2.0, "virial": 1.0}
    assert found.force_weight_a.tolist() == [0.0, 4.0]
    assert np.array_equal(found.forces_ac, [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"config_type": "x"}, "has an energy, forces or a virial; its keys: config_type"),
        ({"REF_energy": [1.0, 2.0, 3.0]}, r"structure 1: REF_energy has shape \(3,\), not \(\)"),
        ({"REF_energy": "low"}, "structure 1: REF_energy = 'low' is not a number"),
        ({"REF_energy": np.nan}, "structure 1: REF_energy is not finite"),
        ({"REF_energy": 1.0, "REF_forces": [[1.0, 2.0], [3.0, 4.0]]}, r"REF_forces has shape \(2, 2\), not \(2, 3\)"),
        ({"REF_energy": 1.0, "REF_virial": [1.0, 2.0, 3.0, 4.0]}, r"REF_virial has shape \(4,\), not \(3, 3\) or"),
        ({"REF_energy": 1.0, "energy_weight": -1.0}, "structure 1: energy_weight = -1.0 must be finite and not"),
        ({"REF_energy": 1.0, "force_mask": [-1.0, 1.0]}, "structure 1: force_mask must be finite and not negative"),
    ],
)
def test_labels_that_make_no_sense_are_told_with_file_and_number(tmp_path, labels, message):
    first = crystal() if "config_type" in labels else crystal(REF_energy=1.0)
    with pytest.raises(DataError, match=message):
        read(tmp_path, first, crystal(**labels))


def test_files_that_hold_no_data_are_told(tmp_path):
    with pytest.raises(DataError, match="absent.xyz does not exist"):
        read_labelled([tmp_path / "absent.xyz"])
    (tmp_path / "empty.xyz").write_text("")
    with pytest.raises(DataError, match="empty.xyz"):
        read_labelled([tmp_path / "empty.xyz"])
    with pytest.raises(DataError, match="no structure has the key 'E0'; there are: .*REF_energy"):
        read(tmp_path, crystal(REF_energy=1.0), given=Keys(energy="E0"))
    flat = crystal(REF_energy=1.0)
    flat.cell[2] = flat.cell[1]
    with pytest.raises(GeometryError, match="train.xyz, structure 1: the cell vectors are linearly dependent"):
        read(tmp_path, crystal(REF_energy=1.0), flat)
