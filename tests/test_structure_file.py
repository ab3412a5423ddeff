"""`[crystal] file` with defects, and laws from files: what works, and one line for what cannot."""

from __future__ import annotations

import re
import sys

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from mpi4py import MPI

from parmlip.config import load, loads
from parmlip.construct import reference_law, supercell
from parmlip.errors import ConfigError, DataError, GeometryError
from parmlip.mechanics.energy import Energy
from tests.potentials.eam_cells import alloy, write_setfl
from tests.program import parmlip, results

VACANCY = '{ kind = "vacancy", at = [0.25, 0.25, 0.25] }'
SILICON = """
[run]
stages = ["build", "reference", "train", "relax", "compare"]
[crystal]
CRYSTAL
[reference]
kind = "stillinger_weber"
parameters = "Si-SW"
[simulation]
cell = [3, 3, 3]
defects = [DEFECTS]
[[training]]
cell = [2, 2, 2]
defects = [{ kind = "vacancy", at = [0, 0, 0] }]
samples = 6
test_samples = 2
[surrogate]
correlation_order = 2
total_degree = 6
cutoff = 4.5
"""
ALLOY = """
[run]
stages = ["build", "reference", "relax"]
[crystal]
file = "b2.xyz"
[reference]
file = "made.eam.alloy"
[simulation]
cell = [3, 3, 3]
defects = [DEFECTS]
[relax]
laws = ["reference"]
"""


def run(directory, text, *words):
    (directory / "in.toml").write_text(text)
    return parmlip(directory, "in.toml", *words)


def told(done, code):
    """The one line of the error."""
    assert done.returncode == code, done.stdout[-2000:] + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("parmlip: error:")]
    return line


def test_a_vacancy_at_a_site_of_a_files_cell_is_that_of_the_lattice(tmp_path):
    a = 5.3  # compressed: the symmetric vacancy hardly relaxes at the lattice constant
    found = {}
    crystals = {
        "file": 'file = "si.xyz"\nspecies = ["Si"]',
        "lattice": f'lattice = "diamond"\nspecies = ["Si"]\nlattice_constant = {a}',
    }
    for name, crystal in crystals.items():
        folder = tmp_path / name
        folder.mkdir()
        ase.io.write(folder / "si.xyz", bulk("Si", "diamond", a, cubic=True), parallel=False)
        text = SILICON.replace("CRYSTAL", crystal).replace("DEFECTS", VACANCY)
        if name == "lattice":  # no fit is needed here
            text = text.replace('"train", "relax", "compare"', '"relax"') + '[relax]\nlaws = ["reference"]\n'
        done = run(folder, text)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        found[name] = results(folder / "in.h5")
    assert found["file"]["build.n_sites"] == 8 * 27 - 1
    assert found["file"]["relax_reference.energy"] == pytest.approx(
        found["lattice"]["relax_reference.energy"], abs=1e-10
    )
    assert found["file"]["compare.geometry_error"] > 0.0


@pytest.fixture(scope="module")
def compound(tmp_path_factory):
    """A folder with a cell of tungsten and copper, one site of it off its place, and their law."""
    folder = tmp_path_factory.mktemp("b2")
    atoms = bulk("WCu", "cesiumchloride", 3.2)
    atoms.positions[1] += [0.05, 0.0, 0.0]
    ase.io.write(folder / "b2.xyz", atoms, parallel=False)
    write_setfl(folder / "made.eam.alloy", alloy(False), False)
    return folder


def test_defects_of_all_kinds_in_a_compound_from_a_file_relax(compound):
    defects = (
        '{ kind = "vacancy", at = [0.5, 0.5, 0.5] }, { kind = "substitution", at = [1, 1, 1], species = "Cu" }, '
        '{ kind = "divacancy", at = [2, 2, 2], direction = [0.5, 0.5, 0.5] }, '
        '{ kind = "interstitial", position = [0.5, 0.0, 2.5], species = "Cu" }'
    )
    done = run(compound, ALLOY.replace("DEFECTS", defects), "--overwrite")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert results(compound / "in.h5")["build.n_sites"] == 54 - 3 + 1
    assert results(compound / "in.h5")["relax_reference.max_force"] < 1e-6


def cell_of(folder, text):
    """The simulation cell of an input, and its energy."""
    (folder / "in.toml").write_text(text)
    study = load(folder / "in.toml")
    return Energy(reference_law(study), supercell(study, study.simulation, None), comm=MPI.COMM_SELF)


@pytest.mark.parametrize(
    ("defect", "error", "message"),
    [
        ('{ kind = "vacancy", at = [0.25, 0, 0] }', ConfigError, "defect 1: [0.25, 0.0, 0.0] is not a site of the"),
        (VACANCY.replace("0.25", "0.5") + ", " + VACANCY.replace("0.25", "0.5"), ConfigError, "2 are on the same site"),
        (VACANCY.replace("0.25", "3.5"), ConfigError, "is beyond the cell = [3, 3, 3]"),
        ('{ kind = "interstitial", position = [0.02, 0, 0], species = "Cu" }', GeometryError, "apart"),
        ('{ kind = "interstitial", site = "octahedral", species = "Cu" }', ConfigError, "is of a named lattice"),
        ('{ kind = "interstitial", position = [0.5, 0, 0] }', ConfigError, "missing key 'species'"),
        ('{ kind = "substitution", at = [0, 0, 0], species = "Fe" }', ConfigError, "no parameters for species 'Fe'"),
    ],
    ids=["off-site", "twice", "beyond", "collision", "named", "species", "unknown"],
)  # fmt: skip
def test_defects_that_mean_nothing_in_a_file_are_one_line(compound, defect, error, message):
    with pytest.raises(error, match=re.escape(message)) as raised:
        cell_of(compound, ALLOY.replace("DEFECTS", defect))
    assert "\n" not in str(raised.value)


def test_a_fit_to_a_file_needs_its_species():
    text = SILICON.replace("CRYSTAL", 'file = "si.xyz"').replace("DEFECTS", VACANCY)
    with pytest.raises(ConfigError, match=re.escape("[crystal] missing key 'species'")):
        loads(text)


def silicon_with(folder, reference):
    """The input with another law, beside files of germanium."""
    (folder / "b.sw").write_text("Ge Ge Ge 1.9 2.2 1.8 31.0 1.2 -0.3333 7.05 0.602 4 0 0.0\n")
    (folder / "a.tersoff").write_text("Ge Ge Ge 3 1 0\n")
    text = SILICON.replace("CRYSTAL", 'lattice = "diamond"\nspecies = ["Si"]').replace("DEFECTS", VACANCY)
    (folder / "in.toml").write_text(text.replace('kind = "stillinger_weber"\nparameters = "Si-SW"', reference))
    return folder / "in.toml"


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ('kind = "stillinger_weber"\nfile = "b.sw"', DataError, "has no parameters for Si; it has Ge"),
        ('kind = "stillinger_weber"\nfile = "none.sw"', ConfigError, "no such file"),
        ('kind = "stillinger_weber"\nfile = "a.tersoff"', DataError, "a.tersoff"),
        ('kind = "bond_order"\nfile = "b.sw"', DataError, "b.sw"),
        ('kind = "bond_order"\nparameters = "Si-SW"', ConfigError, 'is a set of kind = "stillinger_weber"'),
        ('file = "b.sw"', DataError, "b.sw"),
    ],
    ids=["species", "missing", "not a .sw", "not a .tersoff", "kind", "not a setfl"],
)  # fmt: skip
def test_a_wrong_file_of_a_law_is_one_line(tmp_path, reference, error, message):
    path = silicon_with(tmp_path, reference)
    with pytest.raises(error, match=re.escape(message)) as raised:
        reference_law(load(path))
    assert "\n" not in str(raised.value)


def test_a_wrong_file_of_a_law_ends_all_ranks(tmp_path, mpirun):
    silicon_with(tmp_path, 'kind = "stillinger_weber"\nfile = "b.sw"')
    done = mpirun(2, sys.executable, "-m", "parmlip", "in.toml", timeout=100, cwd=tmp_path)
    assert "b.sw: has no parameters for Si; it has Ge" in told(done, 4)


def test_a_cell_far_smaller_than_the_cutoff_has_the_forces_of_its_copies(tmp_path):
    # one conventional cell, 3.2 angstrom wide, of a law that reaches 8: every image counts
    atoms = bulk("W", "bcc", 3.2, cubic=True)
    atoms.positions[1] += [0.1, 0.05, -0.02]
    (tmp_path / "in.toml").write_text('[reference]\nparameters = "W-Zhou"\n')
    ase.io.write(tmp_path / "two.xyz", [atoms, atoms.repeat(3)], parallel=False)
    assert parmlip(tmp_path, "evaluate", "in.toml", "two.xyz", "-o", "out.xyz").returncode == 0
    small, large = ase.io.read(tmp_path / "out.xyz", ":")
    assert large.get_potential_energy() == pytest.approx(27 * small.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(large.get_forces()[:2], small.get_forces(), atol=1e-7)  # extxyz has eight decimals
