"""The main job through the command line: same numbers on any number of ranks, clear ends, resumable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase.build import bulk

from parmlip.io.hdf5 import ResultFile, scalars
from tests.program import alone_and_together, error_lines, parmlip, results

PARMLIP = (sys.executable, "-m", "parmlip")
INPUT = """
[crystal]
lattice = "bcc"
species = ["W"]

[reference]
parameters = "W-Zhou"
taper = [3.8, 5.0]

[simulation]
cell = [5, 5, 5]
defects = [{ kind = "vacancy", at = [1, 1, 1] }, { kind = "vacancy", at = [3, 3, 3] }]

[[training]]
name = "vacancy"
cell = [3, 3, 3]
defects = [{ kind = "vacancy", at = [0, 0, 0] }]
samples = 8
test_samples = 3

[surrogate]
cutoff = 5.0

[report]
structures = true

[sweep]
"surrogate.total_degree" = [5, 7, 9]
"""


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """The study run without mpirun."""
    directory = tmp_path_factory.mktemp("serial")
    (directory / "run.toml").write_text(INPUT)
    done = parmlip(directory, "run.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_the_run_tells_its_errors_and_draws_its_figure(serial):
    found = results(serial / "run.h5")
    assert found["build.n_sites"] == 248
    assert found["build.lattice_constant"] == pytest.approx(3.16, abs=0.1)
    forces = [found[f"sweep.{i}.train.test_rmse_force"] for i in range(3)]
    assert forces[0] > 2.0 * forces[2]
    geometry = [found[f"sweep.{i}.compare.geometry_error"] for i in range(3)]
    assert geometry[0] > 2.0 * geometry[2]
    assert found["sweep.2.compare.formation_energy_error"] < 0.1 * found["sweep.2.compare.formation_energy_reference"]
    assert found["relax_reference.stable"] is True
    assert list(serial.glob("*.png"))


def test_every_scalar_key_is_documented(serial):
    """Its last word, or the word without test_, stands in the README; details of basis and factors by their prefix."""
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    for key in results(serial / "run.h5"):
        if any(f".{group}." in key for group in ("values", "basis", "factors", "hyperparameters")):
            continue
        word = key.split(".")[-1].removeprefix("test_")
        words = {word, word.removesuffix("_per_atom")} if word.endswith("_per_atom") else {word}
        assert any(f"{w}`" in readme for w in words), key


def test_the_formation_energy_needs_no_other_cell_than_its_own(serial):
    """E_f of the run against a direct evaluation: E(vacancies) - N / N_hom E(perfect), both by `evaluate`."""
    found = results(serial / "run.h5")
    relaxed = ase.io.read(serial / "run_reference.xyz")
    assert np.linalg.norm(relaxed.arrays["displacement"], axis=1).max() > 0.01
    perfect = bulk("W", "bcc", a=found["build.lattice_constant"], cubic=True) * (5, 5, 5)
    ase.io.write(serial / "states.xyz", [relaxed, perfect])
    done = parmlip(serial, "evaluate", "run.toml", "states.xyz", "-o", "out.xyz")
    assert done.returncode == 0, done.stderr
    defective, homogeneous = (atoms.get_potential_energy() for atoms in ase.io.read(serial / "out.xyz", ":"))
    expected = defective - len(relaxed) / len(perfect) * homogeneous
    assert found["relax_reference.formation_energy"] == pytest.approx(expected, abs=1e-8)
    forces = ase.io.read(serial / "out.xyz", "0").get_forces()
    assert np.abs(forces).max() < 1e-6  # extxyz has eight decimals


def same(together: Path, alone: Path) -> None:
    """Results on several ranks and on one."""
    ours, theirs = scalars(together), scalars(alone)
    assert ours.keys() == theirs.keys()
    assert ours["relax_reference.energy"] == pytest.approx(theirs["relax_reference.energy"], rel=1e-10)
    for i in range(len(ResultFile(alone).points())):
        for key in ("train.test_rmse_force", "relax_surrogate.energy", "compare.geometry_error"):
            assert ours[f"sweep.{i}.{key}"] == pytest.approx(theirs[f"sweep.{i}.{key}"], rel=1e-6)
    with h5py.File(together) as a, h5py.File(alone) as b:
        for law in ("relax_reference", "sweep/1/relax_surrogate"):
            tolerance = 1e-8 if law == "relax_reference" else 1e-6
            np.testing.assert_allclose(a[law]["displacement"], b[law]["displacement"], atol=tolerance)


def test_the_program_under_mpirun_gives_the_results_of_one_rank(serial, tmp_path, mpirun):
    (tmp_path / "run.toml").write_text(INPUT)
    done = mpirun(2, *PARMLIP, "run.toml", timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    same(tmp_path / "run.h5", serial / "run.h5")


@pytest.mark.mpi(3)
def test_results_do_not_depend_on_the_number_of_ranks(comm, shared_tmp):
    if comm.size == 1:
        pytest.skip("needs several ranks")
    alone, together = alone_and_together(INPUT.replace("[5, 7, 9]", "[5, 7]"), shared_tmp, comm)
    same(together, alone)


@pytest.mark.mpi(2)
def test_check_estimates_and_does_nothing(comm, shared_tmp):
    if comm.rank == 0:
        (shared_tmp / "run.toml").write_text(INPUT)
    comm.barrier()
    done = parmlip(shared_tmp, "run.toml", "--check")
    assert done.returncode == 0, done.stderr
    if comm.rank == 0:
        assert "simulation cell: 248 sites" in done.stdout
        assert "matrix-free Hessian" in done.stdout
    assert not (shared_tmp / "run.h5").exists()


def test_the_surrogate_of_the_file_gives_what_the_run_gave(serial):
    with h5py.File(serial / "run.h5") as file:
        cell, positions = file["build/cell"][:], file["build/positions"][:]
        energy = file["sweep/2/relax_surrogate/energy"][()]
        moved = positions + file["sweep/2/relax_surrogate/displacement"][:]
    states = [ase.Atoms("W" * len(x), cell=cell, positions=x, pbc=True) for x in (positions, moved)]
    ase.io.write(serial / "two.xyz", states)
    done = parmlip(
        serial, "evaluate", "run.toml", "two.xyz", "-o", "two_out.xyz", "--law", "surrogate", "--point", "2",
        "--hessian", "two.h5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = (atoms.get_potential_energy() for atoms in ase.io.read(serial / "two_out.xyz", ":"))
    assert after - before == pytest.approx(energy, abs=1e-6)  # extxyz has eight decimals
    with h5py.File(serial / "two.h5") as file:
        rows = file["1"]
        diagonal = [b for i in range(3) for b in range(*rows["indptr"][i : i + 2]) if rows["indices"][b] == i]
        assert np.all(np.linalg.eigvalsh(rows["blocks"][:][diagonal]) > 0.0)


def table(comment: str = "W", lines: int = 400) -> str:
    """The beginning of a setfl file with one element; all of it needs 3 * 80 lines of 5 numbers and some."""
    values = [f"{0.1:.6e} " * 5] * lines
    return "\n".join(["a", "b", "c", f"1 {comment}", "400 0.1 400 0.0125 5.0", "74 183.84 3.16 bcc", *values]) + "\n"


@pytest.mark.mpi(2)
@pytest.mark.parametrize(
    ("changes", "code", "fragments"),
    [
        ({"parameters": '[reference]\nfile = "cut.eam.alloy"'}, 4, ["cut.eam.alloy", "ends"]),
        ({"parameters": '[reference]\nfile = "none.eam.alloy"'}, 2, ["none.eam.alloy", "no such file"]),
        ({"parameters": '[reference]\nfile = "iron.eam.alloy"'}, 2, ["no parameters for species 'W'", "Fe"]),
        ({"at = [3, 3, 3]": "at = [3, 3, 3.2]"}, 2, ["defect 2", "3.2"]),
        ({"at = [3, 3, 3]": "at = [1, 1, 1]"}, 2, ["same lattice site"]),
        (
            {'kind = "vacancy", at = [3, 3, 3]': 'kind = "interstitial", position = [3.01, 3, 3]'}, 3,
            ["apart"],
        ),
        ({"[surrogate]": "[relax]\nmax_iterations = 1\n[surrogate]"}, 5, ["after 1 iteration", "tolerance"]),
        ({'lattice = "bcc"': 'lattice = "fcc"\nlattice_constant = 9.0'}, 2, ["constant = 9", "cutoff"]),
        ({"cutoff = 5.0": "cutoff = 2.5"}, 2, ["[surrogate] cutoff = 2.5", "2.7"]),
    ],
    ids=["truncated", "missing", "species", "off-site", "twice", "collision", "convergence", "far apart", "short"],
)  # fmt: skip
def test_bad_input_ends_with_one_line_and_its_code(comm, shared_tmp, changes, code, fragments):
    text = INPUT
    for old, new in changes.items():
        if old == "parameters":
            text = text.replace('[reference]\nparameters = "W-Zhou"\ntaper = [3.8, 5.0]', new)
        else:
            assert old in text
            text = text.replace(old, new, 1)
    if comm.rank == 0:
        (shared_tmp / "run.toml").write_text(text)
        (shared_tmp / "cut.eam.alloy").write_text(table(lines=100))
        (shared_tmp / "iron.eam.alloy").write_text(table("Fe", lines=240))
    comm.barrier()
    done = parmlip(shared_tmp, "run.toml")
    lines = error_lines(done, comm)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr
    assert len(lines) == 1
    for fragment in fragments:
        assert fragment in lines[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_file_from_which_resume_gives_the_same(serial, tmp_path, number):
    (tmp_path / "run.toml").write_text(INPUT)
    process = subprocess.Popen(
        [*PARMLIP, "run.toml"], cwd=tmp_path, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "relax_reference" in line and "done" in line:
            break
    time.sleep(0.3)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "--resume" in err
    before = results(tmp_path / "run.h5")
    assert "relax_reference.energy" in before
    done = parmlip(tmp_path, "run.toml", "--resume")
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stdout
    ours, theirs = results(tmp_path / "run.h5"), results(serial / "run.h5")
    timed = ("seconds", "memory")
    assert {k: v for k, v in ours.items() if not any(word in k for word in timed)} == {
        k: v for k, v in theirs.items() if not any(word in k for word in timed)
    }
