"""The command line as a user meets it: one line, one exit code, nothing lost, nothing hanging."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from parmlip.cli_files import TEMPLATES
from parmlip.config import load
from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.pipeline import check_chain
from tests import dummy_run, program

ROOT = Path(__file__).resolve().parent.parent
DUMMY = (sys.executable, Path(__file__).with_name("dummy_run.py"))
SWEPT = ("train", "relax_surrogate", "compare")


@pytest.fixture
def here(tmp_path):
    """A directory with the quickstart input."""
    (tmp_path / "quickstart.toml").write_text((TEMPLATES / "quickstart.toml").read_text())
    return tmp_path


@pytest.fixture
def parmlip(mpirun, here):
    """`parmlip(*arguments, ranks=, fault=, limit=)`: the program with dummy stages; 0 ranks is without mpirun."""

    def start(*arguments, ranks=0, fault="", limit=None):
        if not ranks and limit is None:
            return dummy_run.called(here, *arguments, fault=fault)
        env = {"DUMMY_FAULT": fault, "DUMMY_LIMIT": str(limit or ""), "PYTHONPATH": str(ROOT)}
        if ranks:
            return mpirun(ranks, *DUMMY, *arguments, timeout=60, cwd=here, env=env)
        command = [str(word) for word in (*DUMMY, *arguments)]
        return subprocess.run(command, cwd=here, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)

    return start


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Results of a run of the quickstart that nothing stopped."""
    directory = tmp_path_factory.mktemp("whole")
    (directory / "quickstart.toml").write_text((TEMPLATES / "quickstart.toml").read_text())
    assert dummy_run.called(directory, "quickstart.toml").returncode == 0
    return results_of(directory / "quickstart.h5")


def error_lines(run):
    return [line for line in run.stderr.splitlines() if line.startswith("parmlip: error:")]


BAD_CALLS = [
    ([], 2, None),
    (["absent.toml"], 2, "input file absent.toml does not exist"),
    (["quickstart"], 2, "'quickstart' is neither an input file (.toml) nor a verb"),
    (["repot", "x.h5"], 2, "'repot' is neither an input file (.toml) nor a verb; did you mean 'report'?"),
    (["quickstart.toml", "--ckeck"], 2, "unrecognized arguments: --ckeck"),
    (["quickstart.toml", "--set", "relax.metod=newton"], 2, "[relax] unknown key 'metod'; did you mean 'method'?"),
    (["quickstart.toml", "--set", "run.stages=['compare']"], 2, '[run] stages: "compare" needs "relax" before it'),
    (["quickstart.toml", "--check", "--set", "run.stages=['compare']"], 2, '"compare" needs "relax" before it'),
    (["quickstart.toml", "--overwrite", "--resume"], 2, "--overwrite and --resume exclude each other"),
    (["quickstart.toml", "--set", "run.output=absent/run.h5"], 2, "there is no directory absent"),
    (["report", "absent.h5"], 4, "result file absent.h5 does not exist"),
    (["report", "quickstart.toml", "--json"], 4, "result file quickstart.toml is not an HDF5 file"),
    (["info", "absent.h5"], 4, "result file absent.h5 does not exist"),
    (["template", "quickstrat"], 2, "unknown template 'quickstrat'; did you mean 'quickstart'?"),
    (["template", "quickstart"], 2, "quickstart.toml exists; choose another name with -o"),
    (["evaluate", "quickstart.toml", "absent.xyz", "-o", "out.xyz"], 4, "structure file absent.xyz does not exist"),
    (["evaluate", "quickstart.toml", "in.xyz"], 2, "the following arguments are required: -o/--output"),
    (["evaluate", "quickstart.toml", "in.xyz", "-o", "quickstart.toml"], 2, "quickstart.toml exists; use --overwrite"),
    (["evaluate", "quickstart.toml", "in.xyz", "-o", "o.xyz", "--law", "both"], 2, "invalid choice: 'both'"),
    (
        ["evaluate", "quickstart.toml", "in.xyz", "-o", "o.xyz", "--law", "surrogate"],
        4,
        "result file quickstart.h5 does not exist",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD_CALLS)
def test_a_wrong_call_gives_one_line_and_its_exit_code(here, arguments, code, message):
    ase.io.write(here / "in.xyz", bulk("W", cubic=True))
    run = program.parmlip(here, *arguments)
    assert run.returncode == code, run.stderr
    if message is not None:
        assert len(run.stderr.splitlines()) == 1, run.stderr
        assert error_lines(run)
        assert message in run.stderr
    assert not (here / "quickstart.h5").exists()


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("compare:converge", 5, "points of the sweep failed; first compare (point 0: surrogate.total_degree = 6)"),
        ("relax_reference:converge", 5, "parmlip: error: no convergence after 7 iterations"),
        ("train:converge:1", 5, "rank 1: no convergence"),  # no other rank agrees that the point failed
        ("train:data:1", 4, "rank 1: the file is bad"),  # outside a collective step: the others wait
        ("train:data:0", 4, "rank 0: the file is bad"),
        ("train:nan", 5, "stage train (point 0: surrogate.total_degree = 6): result 'energy' has 1 NaN of 2 numbers"),
    ],
)
def test_an_error_on_some_ranks_ends_all_with_its_exit_code(parmlip, here, fault, code, message):
    run = parmlip("quickstart.toml", ranks=2, fault=fault)
    assert run.returncode == code, run.stderr
    assert len(error_lines(run)) == 1
    assert message in error_lines(run)[0]
    assert ResultFile(here / "quickstart.h5").complete("label")


@pytest.mark.parametrize("arguments", [["absent.toml"], ["quickstart.toml", "--set", "relax.metod=x"], ["repot"]])
def test_wrong_input_ends_all_ranks_with_one_line(parmlip, arguments):
    run = parmlip(*arguments, ranks=2)
    assert run.returncode == 2, run.stderr
    assert len(error_lines(run)) == 1


def test_a_fault_of_the_program_on_one_rank_is_told_with_rank_and_traceback(parmlip):
    run = parmlip("quickstart.toml", ranks=2, fault="train:bug:1")
    assert run.returncode == 1, run.stderr
    assert "parmlip: unexpected error on rank 1 of 2" in run.stderr
    assert "ValueError: a fault of the program" in run.stderr
    run = parmlip("quickstart.toml", "--overwrite", fault="train:bug:0")
    assert run.returncode == 1


def results_of(path):
    """All that a result file holds, but not when and how it was made."""
    file = ResultFile(path)
    return {
        (name, point, key): repr(file.read(name, key, point))
        for name, point, _ in file.stages()
        for key in file.names(name, point)
    }


def test_a_run_gives_the_same_on_any_number_of_ranks(parmlip, here, whole):
    names = []
    for ranks in (1, 2, 3):
        names.append(here / f"on{ranks}.h5")
        run = parmlip("quickstart.toml", "--set", f"run.output={names[-1].name}", ranks=ranks)
        assert run.returncode == 0, run.stderr
        assert "14/14 report" in run.stdout
        assert run.stdout == (here / f"on{ranks}.log").read_text()
    assert len(whole) == 15  # without mpirun
    assert all(results_of(name) == whole for name in names)


@pytest.mark.parametrize(
    ("ranks", "number", "then"),
    [(0, "SIGINT", 3), (0, "SIGTERM", 0), (0, "SIGUSR1", 0), (2, "SIGTERM", 0), (2, "SIGUSR1", 0)],
)
def test_a_signal_leaves_a_file_that_resume_completes_identically(parmlip, here, whole, ranks, number, then):
    command = [*(["mpirun", "-n", str(ranks)] if ranks else []), *map(str, DUMMY), "quickstart.toml"]
    from_here = {"DUMMY_FAULT": "relax_surrogate:wait", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=here, env={**os.environ, **from_here}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30.0
        while not (here / "ready").exists():
            assert time.monotonic() < deadline, "the run did not come to its waiting stage"
            time.sleep(0.02)
        process.send_signal(getattr(signal, number))
        _, stderr = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    if ranks == 0 or number == "SIGUSR1":  # mpirun itself ends with 1 on SIGTERM
        assert process.returncode == 128 + getattr(signal, number)
    told = [line for line in stderr.splitlines() if line.startswith("parmlip: error: stopped by signal")]
    assert len(told) == 1
    assert told[0].endswith("complete stages are kept, go on with: parmlip quickstart.toml --resume")
    assert ResultFile(here / "quickstart.h5").complete("train", 0)
    run = parmlip("quickstart.toml", "--resume", ranks=then)
    assert run.returncode == 0, run.stderr
    assert "resuming: 5 of 14 steps are complete" in run.stdout
    assert results_of(here / "quickstart.h5") == whole


def test_a_killed_rank_ends_the_job_and_resume_completes_it(parmlip, here, whole):
    run = parmlip("quickstart.toml", ranks=2, fault="train:die:1")
    assert run.returncode == 128 + signal.SIGKILL
    assert parmlip("quickstart.toml", "--resume").returncode == 0
    assert results_of(here / "quickstart.h5") == whole


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_full_disk_ends_with_one_line_and_what_was_complete(parmlip, here, ranks):
    assert parmlip("quickstart.toml", "--set", "run.stages=['build', 'reference']").returncode == 0
    before = (here / "quickstart.h5").read_bytes()
    run = parmlip("quickstart.toml", "--resume", ranks=ranks, limit=len(before) + 20_000)
    assert run.returncode == 4, run.stderr
    assert "cannot write quickstart.h5: File too large; what was complete before is kept" in error_lines(run)[0]
    assert (here / "quickstart.h5").read_bytes() == before
    assert parmlip("quickstart.toml", "--resume").returncode == 0


def test_an_existing_output_is_refused_and_replaced_only_when_asked(parmlip, here):
    assert parmlip("quickstart.toml").returncode == 0
    before = (here / "quickstart.h5").read_bytes()
    run = parmlip("quickstart.toml", ranks=2)
    assert run.returncode == 2
    assert 'output = "quickstart.h5": exists; use --overwrite, or --resume to go on with it' in run.stderr
    assert (here / "quickstart.h5").read_bytes() == before
    run = parmlip("quickstart.toml", "--resume", "--set", "fit.tolerance=1e-4")
    assert run.returncode == 2
    assert "--resume: fit.tolerance was 1e-08 in quickstart.h5 and is 0.0001 now" in run.stderr
    assert parmlip("quickstart.toml", "--overwrite", "--set", "fit.tolerance=1e-4").returncode == 0


def test_results_are_told_as_json_and_in_words(parmlip, here):
    assert parmlip("quickstart.toml").returncode == 0
    run = parmlip("report", "quickstart.h5", "--json")
    found = json.loads(run.stdout)
    lists = [key for key, value in found.items() if isinstance(value, list)]
    assert {key: found[key] for key in found if key not in lists} == scalars(here / "quickstart.h5")
    assert found["sweep.2.values.surrogate.total_degree"] == 10
    told = parmlip("info", "quickstart.h5", ranks=2).stdout
    assert "build: complete" in told
    assert 'lattice = "bcc"' in told


def test_check_tells_the_steps_and_the_estimate_and_does_nothing(parmlip, here):
    run = parmlip("quickstart.toml", "--check", ranks=2)
    assert run.returncode == 0, run.stderr
    assert "14 steps:" in run.stdout
    assert "memory: little" in run.stdout
    assert run.stdout.count("[crystal]") == 1
    assert [p.name for p in here.iterdir()] == ["quickstart.toml"]


def test_evaluate_reads_and_writes_structures(parmlip, here):
    ase.io.write(here / "in.xyz", [bulk("W", cubic=True)] * 3)
    run = parmlip("evaluate", "quickstart.toml", "in.xyz", "-o", "out.xyz", ranks=2)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "3 structures written to out.xyz\n"
    assert len(ase.io.read(here / "out.xyz", ":")) == 3
    assert parmlip("quickstart.toml").returncode == 0
    run = parmlip("evaluate", "quickstart.toml", "in.xyz", "-o", "o.xyz", "--law", "surrogate", "--point", "1")
    assert run.returncode == 0, run.stderr
    for words, message, ranks in (
        ((), "has a sweep; give one of [0, 1, 2]", 2),
        (("--point", "3"), "at the points [0, 1, 2]", 0),
    ):
        run = parmlip("evaluate", "quickstart.toml", "in.xyz", "-o", "p.xyz", "--law", "surrogate", *words, ranks=ranks)
        assert run.returncode == 2
        assert message in run.stderr
    assert parmlip("quickstart.toml", "--overwrite", "--set", "run.stages=['build']").returncode == 0
    run = parmlip("evaluate", "quickstart.toml", "in.xyz", "-o", "p.xyz", "--law", "surrogate", "--point", "0")
    assert run.returncode == 4
    assert "has no fitted surrogate" in run.stderr


@pytest.mark.parametrize("name", sorted(path.stem for path in TEMPLATES.glob("*.toml")))
def test_every_template_is_a_right_input(tmp_path, name):
    run = program.parmlip(tmp_path, "template", name, "-o", "mine.toml")
    assert run.returncode == 0, run.stderr
    study = load(tmp_path / "mine.toml")
    if name != "evaluate":
        check_chain(study)
    assert name in program.parmlip(tmp_path, "template").stdout


def test_help_and_version_come_at_once_and_once(parmlip):
    begin = time.monotonic()
    run = parmlip("--help", ranks=2)
    assert time.monotonic() - begin < 10.0
    assert run.returncode == 0
    assert run.stdout.count("usage: parmlip") == 1
    assert parmlip("--version").stdout.startswith("parmlip ")
    assert parmlip("evaluate", "--help", ranks=2).stdout.count("usage: parmlip evaluate") == 1


def test_wrong_input_is_told_before_numpy_hdf5_or_petsc_are_loaded(here):
    program = "import sys; from parmlip.cli import main; main(['absent.toml']); print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert not {"numpy", "h5py", "petsc4py", "numba", "ase"} & set(run.stdout.split())
