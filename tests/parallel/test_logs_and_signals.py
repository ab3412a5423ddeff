"""Logs, progress, timers, and how ranks that stop come to one answer."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time

import pytest

from parmlip.errors import Interrupted
from parmlip.parallel import logs
from parmlip.parallel.signals import Outcome, agree, received, stop_on_signals


@pytest.fixture(autouse=True)
def no_log_and_no_timers_of_other_tests():
    logs.reset_timers()
    yield
    logs.stop()
    logs.reset_timers()


@pytest.mark.mpi(2)
def test_rank_0_tells_what_happens_and_the_others_only_errors_with_their_number(comm, shared_tmp, capsys):
    logs.start(shared_tmp / "run.log", comm=comm)
    logging.getLogger("parmlip.stages").info("step %d", 3)
    logging.getLogger("parmlip.stages").error("bad")
    logs.note("for the file")
    captured = capsys.readouterr()
    logs.stop()
    if comm.rank == 0:
        assert captured.out == "step 3\nbad\n"
        assert (shared_tmp / "run.log").read_text() == "step 3\nbad\nfor the file\n"
    else:
        assert captured.out == ""
        assert captured.err == f"[rank {comm.rank}] bad\n"


def test_a_log_is_replaced_or_continued(comm, tmp_path):
    for append, content in ((False, "a\n"), (True, "a\na\n"), (False, "a\n")):
        logs.start(tmp_path / "run.log", append=append, comm=comm)
        logging.getLogger("parmlip").info("a")
        logs.stop()
        assert (tmp_path / "run.log").read_text() == content


def test_progress_in_a_batch_log_is_a_line_by_cadence(comm, capsys):
    logs.start(comm=comm)
    with logs.Progress("samples", 40, comm=comm, cadence=0.05) as progress:
        for _ in range(40):
            time.sleep(0.005)
            progress.step()
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) <= 8
    assert all(line.startswith("samples: ") and "/40, " in line and line.endswith(" s left") for line in lines)


@pytest.mark.mpi(2, 3)
def test_timers_add_up_and_their_table_is_the_same_on_every_rank(comm):
    for _ in range(2):
        with logs.timed("hessian"):
            time.sleep(0.01 * (1 + comm.rank))
    if comm.rank == 0:
        with logs.timed("only here"):
            pass
    lines = logs.timer_table(comm=comm)
    assert len(set(comm.allgather(tuple(lines)))) == 1
    assert lines[0].split() == ["timer", "calls", "mean", "s", "max", "s", "max/mean"]
    (found,) = (line.split() for line in lines if line.startswith("hessian"))
    _, calls, mean, most, ratio = found
    assert calls == "2"
    assert float(most) >= 0.02 * comm.size
    assert float(ratio) == pytest.approx(float(most) / float(mean), rel=0.05)  # of rounded numbers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_becomes_an_error_and_a_quick_second_one_is_ignored(number):
    with pytest.raises(Interrupted) as caught, stop_on_signals():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5.0)
        finally:
            os.kill(os.getpid(), number)
    assert caught.value.exit_code == 128 + number


def test_a_signal_whose_error_was_lost_is_raised_at_the_next_safe_point(comm):
    with stop_on_signals():
        with contextlib.suppress(Interrupted):  # as a library may do with an error in a callback
            signal.raise_signal(signal.SIGUSR1)
        assert received() == signal.SIGUSR1
        with pytest.raises(Interrupted), logs.timed("hessian"):
            pass
        with pytest.raises(Interrupted):
            logs.Progress("samples", 2, comm=comm).step()
    with stop_on_signals():
        assert received() is None


def test_an_outcome_survives_being_packed_even_when_it_is_long():
    outcome = Outcome(137, "é" * 5000, 2)
    again = Outcome.unpacked(outcome.packed())
    assert (again.code, again.weight) == (137, 2)
    assert set(again.message) == {"é"}
    assert Outcome.unpacked(Outcome(0).packed()) == Outcome(0)


@pytest.mark.mpi(2, 3)
def test_ranks_learn_of_each_other_how_they_ended(comm):
    private = comm.Dup()
    outcomes = agree(Outcome(comm.rank, f"rank {comm.rank}", 1), comm=private)
    private.Free()
    assert outcomes == [Outcome(i, f"rank {i}", 1) for i in range(comm.size)]


@pytest.mark.mpi(2)
def test_a_rank_that_failed_does_not_wait_for_ever(comm):
    private = comm.Dup()
    if comm.rank == 0:
        alone = agree(Outcome(4, "bad", 2), grace=0.2, comm=private)
        assert (alone is None) == (comm.size > 1)
    comm.barrier()
    if comm.rank != 0:
        agree(Outcome(0), comm=private)
