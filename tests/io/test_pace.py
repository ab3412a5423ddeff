"""Potential files: their independent reader, libpace where it installs, and the way back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import sph_harm_y

from parmlip.errors import ConfigError, DataError
from parmlip.io.calculator import ParmlipCalculator
from parmlip.io.pace import certificate_path, check_target, read_yace, write_yace
from parmlip.io.pace_reader import _harmonics, read_document, site_energies_and_gradients
from parmlip.potentials.ace import ACE, ACEBasis
from tests.potentials.ace_environments import environments, random_environments, rattled

BASES = {
    "W order 3": ACEBasis(("W",), 3, 12, 5.0, 2.74),
    "W order 4": ACEBasis(("W",), 4, 11, 5.0, 2.74, one_body=True),
    "NiAl": ACEBasis(("Ni", "Al"), 3, 6, 5.0, 2.5, one_body=True),
    "no inner end": ACEBasis(("W",), 3, 8, 5.0, 2.74, p_in=0),
    "one function": ACEBasis(("W",), 1, 1, 5.0, 2.74),
    "W degrees by order": ACEBasis(("W",), 4, (12, 12, 10, 8), 5.0, 2.74),
    "NiAl of the plane": ACEBasis(("Ni", "Al"), 3, (8, 7, 6), 5.0, 2.5, dimension=2),
}


def fitted(name: str) -> ACE:
    basis = BASES[name]
    return ACE(basis, np.random.default_rng(5).normal(size=basis.n_basis))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """`written(name)`: the file of a law and its certificate, written once for all tests that read."""
    directory, done = tmp_path_factory.mktemp("written"), {}

    def write(name: str):
        if name not in done:
            path = directory / f"{name.replace(' ', '_')}.yace"
            done[name] = path, write_yace(path, fitted(name))
        return done[name]

    return write


def relative(found, wanted) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def structure(law: ACE):
    return rattled((2, 2, 2), 0.1, 3, law.species)


@pytest.mark.parametrize("name", BASES)
def test_the_file_alone_gives_the_energies_and_forces_of_the_law(name, written):
    law = fitted(name)
    path, certificate = written(name)
    e, _, _ = environments(structure(law), law.species, law.cutoff)
    found = site_energies_and_gradients(read_document(path), e)
    for mine, theirs in zip(law.site_gradients(e), found, strict=True):
        assert relative(theirs, mine) < 1e-12
    assert certificate["max_energy_deviation"] < 1e-12 * certificate["max_energy"]
    assert certificate["max_force_deviation"] < 1e-12 * certificate["max_force"]
    assert json.loads(certificate_path(path).read_text()) == certificate


@pytest.mark.parametrize("name", BASES)
def test_a_file_read_back_is_the_law(name, written):
    law = fitted(name)
    back = read_yace(written(name)[0])
    assert back.basis == law.basis
    np.testing.assert_allclose(back.coefficients, law.coefficients, rtol=0, atol=1e-13)


def test_functions_without_coefficients_are_left_out_and_read_back_as_zero(tmp_path):
    law = fitted("NiAl")
    sparse = np.where(law.basis.order_k == 2, law.coefficients, 0.0)
    sparse[: law.basis.n_block] = 0.0  # libpace needs an empty list for this species
    write_yace(tmp_path / "x.yace", ACE(law.basis, sparse))
    document = read_document(tmp_path / "x.yace")
    assert document["functions"][0] == []
    assert {f["rank"] for f in document["functions"][1]} == {2}
    np.testing.assert_allclose(read_yace(tmp_path / "x.yace").coefficients, sparse, rtol=0, atol=1e-13)


def test_the_reader_has_the_harmonics_of_scipy_and_their_derivatives():
    e = random_environments(1, 20, 1, 5.0, 2)
    r_jc = np.concatenate([e.r_pc, [[0.0, 0.0, 3.0], [0.0, 0.0, -3.0]]])
    distance_j = np.linalg.norm(r_jc, axis=1)
    y, dy = _harmonics(6, r_jc, distance_j)
    theta, phi = np.arccos(r_jc[:, 2] / distance_j), np.arctan2(r_jc[:, 1], r_jc[:, 0])
    for ell in range(7):
        for m in range(-ell, ell + 1):
            wanted = np.sqrt(4 * np.pi) * sph_harm_y(ell, m, theta, phi)
            np.testing.assert_allclose(y[:, ell, 6 + m], wanted, rtol=0, atol=1e-12)
    h = 1e-5
    for c in range(3):
        step = h * np.eye(3)[c]
        up, down = (_harmonics(6, r, np.linalg.norm(r, axis=1))[0] for r in (r_jc + step, r_jc - step))
        np.testing.assert_allclose(dy[..., c], (up - down) / (2 * h), rtol=0, atol=1e-8)


def test_the_file_is_yaml_with_integers_where_libpace_wants_them(written):
    yaml = pytest.importorskip("yaml")
    path, _ = written("NiAl")
    text = path.read_text()
    assert yaml.compose(text) is not None
    document = yaml.safe_load(re.sub(r"^  \[(\d), (\d)\]:", r"  bond_\1_\2:", text, flags=re.MULTILINE))
    ours = read_document(path)
    assert document["bonds"] == {f"bond_{i}_{j}": bond for (i, j), bond in ours["bonds"].items()}
    assert {k: v for k, v in document.items() if k != "bonds"} == {k: v for k, v in ours.items() if k != "bonds"}
    assert isinstance(ours["lmax"], int)
    bond = ours["bonds"][0, 1]
    assert all(isinstance(bond[name], int) for name in ("p", "pl", "pr", "maxn"))
    assert set(ours["bonds"]) == {(i, j) for i in range(2) for j in range(2)}
    keys = [(tuple(f["mus"]), tuple(f["ns"]), tuple(f["ls"])) for f in ours["functions"][0]]
    assert len(set(keys)) == len(keys)
    for f in ours["functions"][0]:
        m_tf = np.reshape(f["ms_combs"], (f["num_ms_combs"], f["rank"]))
        assert (m_tf.sum(axis=1) == 0).all()
        assert min(f["ns"]) >= 1
        assert len({tuple(m) for m in m_tf}) == len(m_tf)


LIBPACE = """
import sys, numpy as np
from ase import Atoms
from pyace import PyACECalculator, ACECTildeBasisSet
z = np.load(sys.argv[2])
atoms = Atoms(list(z["symbols"]), positions=z["positions"], cell=z["cell"], pbc=True)
for recursive in (False, True):
    basis = ACECTildeBasisSet(sys.argv[1])
    atoms.calc = PyACECalculator(basis, recursive_evaluator=recursive, recursive=recursive)
    atoms.get_potential_energy()
    found = [np.ravel(atoms.calc.energies), atoms.calc.results["forces"], atoms.get_stress()[z["voigt"]]]
    print(*[np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, (z["energies"], z["forces"], z["stress"]))])
"""


@pytest.fixture(scope="module")
def pyace():
    """A python that has python-ace."""
    python = os.environ.get("PARMLIP_PYACE_PYTHON", sys.executable)
    probe = subprocess.run([python, "-c", "import pyace"], capture_output=True, timeout=60, check=False)
    if probe.returncode:
        pytest.skip("python-ace is not installed: name a python that has it in PARMLIP_PYACE_PYTHON")
    return python


@pytest.mark.parametrize("name", BASES)
def test_libpace_evaluates_the_file_to_the_same_numbers(name, pyace, written, tmp_path):
    law = fitted(name)
    atoms = structure(law)
    atoms.calc = ParmlipCalculator(law)
    # a law of the plane is no law of three dimensions: its stress is not symmetric in yz and xz
    voigt = [0, 1, 2, 5] if law.basis.dimension == 2 else list(range(6))
    stress = atoms.get_stress()[voigt]
    numbers = {"energies": atoms.get_potential_energies(), "forces": atoms.get_forces(), "stress": stress}
    symbols = atoms.get_chemical_symbols()
    numbers |= {"positions": atoms.positions, "cell": atoms.cell.array, "voigt": np.array(voigt)}
    np.savez(tmp_path / "x.npz", symbols=symbols, **numbers)
    command = [pyace, "-c", LIBPACE, str(written(name)[0]), str(tmp_path / "x.npz")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stderr
    deviations = np.array([line.split() for line in run.stdout.splitlines()[-2:]], float)
    assert deviations.shape == (2, 3)
    assert deviations.max() < 1e-12


def changed(source: Path, path: Path, old: str, new: str) -> Path:
    text = source.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"ctildes": [', '"ctildes": [oops', "not laid out as parmlip writes it"),
        ("parmlip: {", "other: {", "was not written by parmlip"),
        ("lmax: ", "llmax: ", "'lmax' is missing"),
        ('"rcut": 5.0', '"rcut": 5.5', "radial functions are not those of the basis"),
        ('"rank": 2, "ndensity": 1, "num_ms_combs": 1, "mus": [0, 0], "ns": [1, 1]',
         '"rank": 2, "ndensity": 1, "num_ms_combs": 1, "mus": [0, 0], "ns": [1, 99]', "the basis has no function"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_export_of_parmlip_is_refused(old, new, message, written, tmp_path):
    with pytest.raises(DataError, match=message):
        read_yace(changed(written("W order 3")[0], tmp_path / "x.yace", old, new))


def test_one_changed_coefficient_of_an_invariant_is_found(written, tmp_path):
    path, _ = written("W order 3")
    document = read_document(path)
    function = next(f for f in document["functions"][0] if f["ls"] == [1, 1])
    value = repr(function["ctildes"][0])
    with pytest.raises(DataError, match="not those of invariants"):
        read_yace(changed(path, tmp_path / "x.yace", value, "1.25"))


def test_a_missing_file_and_wrong_targets_are_told(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_yace(tmp_path / "absent.yace")
    with pytest.raises(DataError, match="cannot write"):
        write_yace(tmp_path / "absent" / "x.yace", fitted("one function"))
    for name, message in (("x.txt", "must end in .yace"), ("absent/x.yace", "no directory")):
        with pytest.raises(ConfigError, match=message):
            check_target(tmp_path / name, overwrite=False)
    write_yace(tmp_path / "x.yace", fitted("one function"))
    with pytest.raises(ConfigError, match="use --overwrite"):
        check_target(tmp_path / "x.yace", overwrite=False)
    check_target(tmp_path / "x.yace", overwrite=True)


def test_a_file_that_does_not_give_the_law_is_not_left(tmp_path, monkeypatch):
    law = fitted("one function")
    monkeypatch.setattr(
        "parmlip.io.pace.site_energies_and_gradients",
        lambda document, e: tuple(1.001 * x for x in site_energies_and_gradients(document, e)),
    )
    with pytest.raises(DataError, match="deviates by"):
        write_yace(tmp_path / "x.yace", law)
    assert not list(tmp_path.iterdir())
