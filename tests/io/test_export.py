"""The way of a fitted potential out of a run and back in: `export`, `evaluate` and `kind = "ace"`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import ase.io
import numpy as np
import pytest

from parmlip.config import loads
from parmlip.construct import reference_law
from parmlip.errors import ConfigError
from parmlip.io.calculator import ParmlipCalculator
from parmlip.io.hdf5 import Field, ResultFile
from parmlip.io.pace import read_yace, write_yace
from parmlip.potentials.ace import ACE, ACEBasis
from tests import program
from tests.potentials.ace_environments import rattled

ROOT = Path(__file__).resolve().parents[2]
BASIS = ACEBasis(("W",), 2, 5, 4.5, 2.74)
LAW = ACE(BASIS, np.random.default_rng(3).normal(size=BASIS.n_basis))
CONFIG = """
[crystal]
lattice = "bcc"
species = ["W"]
[reference]
parameters = "W-EAM4"
"""
PROGRAM = (sys.executable, "-m", "parmlip")


@pytest.fixture
def here(tmp_path):
    """A directory with a result file whose second sweep point has another law, and structures."""
    for name, point in (("run.h5", None), ("swept.h5", 0), ("swept.h5", 1)):
        file = ResultFile(tmp_path / name)
        if not point:
            file.create({"version": "test", "config": CONFIG})
        fields = {"basis": Field(BASIS.parameters()), "coefficients": Field((1.0 + (point or 0)) * LAW.coefficients)}
        file.write_stage("train", fields, point=point, swept=None if point is None else {"fit.tolerance": 0.1 * point})
    ase.io.write(tmp_path / "in.xyz", [rattled((2, 2, 1), 0.1, seed) for seed in (1, 2)])
    return tmp_path


@pytest.fixture
def parmlip(here):
    return partial(program.parmlip, here)


def test_export_writes_the_potential_and_its_certificate(parmlip, here):
    run = parmlip("export", "run.h5", "-o", "W.yace")
    assert run.returncode == 0, run.stderr
    assert "LAMMPS: units metal; pair_style pace; pair_coeff * * W.yace W" in run.stdout
    np.testing.assert_allclose(read_yace(here / "W.yace").coefficients, LAW.coefficients, rtol=0, atol=1e-13)
    certificate = json.loads((here / "W.yace.json").read_text())
    assert certificate["valid_from"] == BASIS.r_in
    assert certificate["max_force_deviation"] < 1e-12 * certificate["max_force"]
    run = parmlip("export", "swept.h5", "-o", "W.yace", "--point", "1", "--overwrite")
    assert run.returncode == 0, run.stderr
    np.testing.assert_allclose(read_yace(here / "W.yace").coefficients, 2 * LAW.coefficients, rtol=0, atol=1e-13)


def test_export_runs_on_two_ranks(mpirun, here):
    run = mpirun(2, *PROGRAM, "export", "run.h5", "-o", "W.yace", timeout=60, cwd=here, env={"PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("W.yace written") == 1
    assert read_yace(here / "W.yace").basis == BASIS


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run.h5", "-o", "run.h5"), 2, "the name must end in .yace"),
        (("run.h5", "-o", "absent/W.yace"), 2, "there is no directory absent"),
        (("absent.h5", "-o", "W.yace"), 4, "absent.h5 does not exist"),
        (("swept.h5", "-o", "W.yace"), 2, "has a sweep; give one of [0, 1]"),
        (("run.h5", "-o", "W.yace", "--point", "1"), 2, "has no sweep"),
    ],
)
def test_export_tells_what_is_wrong(parmlip, words, code, message):
    run = parmlip("export", *words)
    assert run.returncode == code
    assert message in run.stderr


def test_evaluate_takes_a_potential_file_or_a_result_file_for_its_law(parmlip, here):
    write_yace(here / "W.yace", LAW)
    (here / "input.toml").write_text('[reference]\nkind = "ace"\nfile = "W.yace"\n')
    for law, words in (("W.yace", ()), ("input.toml", ()), ("run.h5", ()), ("swept.h5", ("--point", "0"))):
        run = parmlip("evaluate", law, "in.xyz", "-o", "out.xyz", "--overwrite", *words)
        assert run.returncode == 0, run.stderr
        for atoms in ase.io.read(here / "out.xyz", ":"):
            energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
            atoms.calc = ParmlipCalculator(LAW)
            assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
            np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=1e-7)  # extxyz has eight decimals
            np.testing.assert_allclose(stress, atoms.get_stress(), rtol=0, atol=1e-10)
    run = parmlip("evaluate", "W.yace", "in.xyz", "-o", "out.xyz", "--overwrite", "--law", "surrogate")
    assert run.returncode == 2
    assert "W.yace holds one law" in run.stderr


def test_a_fitted_law_serves_as_reference(tmp_path):
    write_yace(tmp_path / "W.yace", LAW)
    study = loads('[reference]\nkind = "ace"\nfile = "W.yace"', source=tmp_path / "input.toml")
    law = reference_law(study)
    assert isinstance(law, ACE)
    assert law.basis == BASIS
    for key in ('parameters = "W-EAM4"', "taper = [3.0, 4.0]"):
        with pytest.raises(ConfigError, match='is not for kind = "ace"'):
            loads(f'[reference]\nkind = "ace"\nfile = "W.yace"\n{key}')
    with pytest.raises(ConfigError, match="needs either 'parameters' or 'file'"):
        loads('[reference]\nkind = "ace"')
