"""The harness that runs tests under MPI tells every kind of failure and hangs on none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SAMPLE = """
import os, time
import numpy as np
import pytest

@pytest.mark.mpi(2)
def test_passes(comm):
    assert comm.allreduce(1) == comm.size

@pytest.mark.mpi(2)
def test_fails_on_rank_one(comm):
    print("printed by", comm.rank)
    assert comm.rank != 1, "wrong here"

@pytest.mark.mpi(2)
@pytest.mark.parametrize("n", [5, 6])
def test_passes_after_a_failure(comm, n):
    comm.barrier()

@pytest.mark.mpi(2)
def test_fails_while_the_other_waits(comm):
    if comm.rank == 1:
        raise ValueError("alone")
    comm.barrier()

@pytest.mark.mpi(2, timeout=3)
def test_waits_for_nobody(comm):
    if comm.rank == 1:
        comm.barrier()
    elif comm.size > 1:
        time.sleep(1000)

@pytest.mark.mpi(2)
def test_rank_dies(comm):
    if comm.rank == 1:
        os._exit(7)

@pytest.fixture
def fragile(comm):
    if comm.rank == 1:
        raise OSError("no such thing")

@pytest.mark.mpi(2)
def test_has_a_fixture_that_fails_on_rank_one(fragile, comm):
    comm.barrier()

@pytest.mark.mpi(2)
def test_warns_on_rank_one(comm):
    if comm.rank == 1:
        np.log(np.zeros(1))

@pytest.mark.mpi(2)
def test_skips_on_two_ranks(comm):
    if comm.size == 2:
        pytest.skip("not for two")

@pytest.mark.mpi(2)
@pytest.mark.xfail(reason="known", raises=KeyError)
def test_is_expected_to_fail(comm):
    raise KeyError

@pytest.mark.mpi(2)
def test_shares_a_directory(comm, shared_tmp, tmp_path):
    (shared_tmp / str(comm.rank)).write_text("x")
    comm.barrier()
    assert len(list(shared_tmp.iterdir())) == comm.size
    assert (tmp_path == shared_tmp) == (comm.rank == 0)

def test_is_serial_only():
    pass
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict[str, ET.Element]]:
    """A pytest run of the sample on one and two ranks: the process, and the outcome of each test by name."""
    project = tmp_path_factory.mktemp("project")
    (project / "tests").mkdir()
    harness = (ROOT / "tests" / "conftest.py").read_text()
    assert "\nGRACE = 15.0" in harness
    (project / "tests" / "conftest.py").write_text(harness.replace("\nGRACE = 15.0", "\nGRACE = 5.0"))
    (project / "jobs").symlink_to(ROOT / "jobs")
    (project / "tests" / "test_sample.py").write_text(SAMPLE)
    shutil.copy(ROOT / "setup.cfg", project)
    begin = time.monotonic()
    command = [sys.executable, "-m", "pytest", "--junitxml=results.xml", "--basetemp=tmp", "-p", "no:cacheprovider"]
    environment = dict(os.environ)  # as it was before MPI_Init
    process = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=150)
    assert time.monotonic() - begin < 100.0
    outcomes = {case.get("name", ""): case for case in ET.parse(project / "results.xml").iter("testcase")}
    return process, outcomes


def failure(session, name: str) -> str:
    """Text of a test's failure; empty if it did not fail."""
    found = session[1][name].find("failure")
    return "" if found is None else found.text


def test_session_fails_and_its_closing_line_counts_all_items(session):
    process, outcomes = session
    assert process.returncode == 1
    assert len(outcomes) == 13 + 12
    assert "6 failed, 16 passed, 1 skipped, 2 xfailed" in process.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", ["test_passes", "test_shares_a_directory", "test_is_serial_only"])
def test_serial_run_passes(session, name):
    assert not list(session[1][name].iter("failure"))


@pytest.mark.parametrize(
    "name",
    ["test_passes[@2]", "test_passes_after_a_failure[5@2]", "test_passes_after_a_failure[6@2]"]
    + ["test_shares_a_directory[@2]"],
)
def test_passing_tests_pass_whatever_stands_beside_them(session, name):
    assert not list(session[1][name])


def test_unmarked_tests_are_not_run_on_ranks(session):
    assert "test_is_serial_only[@2]" not in session[1]


def test_failure_of_one_rank_is_told_with_its_number_and_output(session):
    text = failure(session, "test_fails_on_rank_one[@2]")
    assert "rank 1 of 2 failed in call" in text
    assert "wrong here" in text
    assert "printed by 1" in text
    assert "rank 0 of 2" not in text


def test_failure_beside_a_waiting_rank_ends_the_job_and_is_told(session):
    text = failure(session, "test_fails_while_the_other_waits[@2]")
    assert "rank 1 of 2 failed in call" in text
    assert "ValueError: alone" in text
    assert "rank 0 of 2 did not finish" in text


def test_hanging_ranks_are_stopped_and_tell_where_they_were(session):
    text = failure(session, "test_waits_for_nobody[@2]")
    assert "rank 0 of 2 did not finish" in text
    assert "rank 1 of 2 did not finish" in text
    assert text.count("in test_waits_for_nobody") == 2
    assert "its time was up" in text


def test_death_of_a_rank_is_told_with_the_exit_code(session):
    text = failure(session, "test_rank_dies[@2]")
    assert "rank 1 of 2 did not finish" in text
    assert "exit code 7" in text


def test_failing_fixture_on_one_rank_keeps_the_others_from_the_test(session):
    assert "rank 1 of 2 failed in setup" in failure(session, "test_has_a_fixture_that_fails_on_rank_one[@2]")


def test_warnings_are_errors_on_every_rank(session):
    assert "RuntimeWarning" in failure(session, "test_warns_on_rank_one[@2]")


def test_skips_and_expected_failures_stay_what_they_are(session):
    for name, kind, reason in [
        ("test_skips_on_two_ranks[@2]", "pytest.skip", "not for two"),
        ("test_is_expected_to_fail[@2]", "pytest.xfail", "known"),
    ]:
        skipped = session[1][name].find("skipped")
        assert skipped.get("type") == kind
        assert reason in skipped.get("message")


def test_mpirun_fixture_gives_output_and_exit_code_of_a_program(mpirun):
    code = "from mpi4py import MPI; import sys; sys.exit(3 + MPI.COMM_WORLD.size)"
    assert mpirun(2, sys.executable, "-c", code, timeout=60).returncode == 5
