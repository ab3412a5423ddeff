"""Tests under MPI: plain `pytest` runs every test serially, and tests marked `mpi` again under mpirun.

For each number of ranks N the session holds one more item `test_name[@N]` per marked test. The first of them starts
one `mpirun -n N python -m mpi4py -m pytest`, in which every rank runs all marked tests; each rank writes what it saw to
a file of its own, and the item waits for its test's lines. So one start serves many tests, and a hanging or dying job
costs one test: the next item starts a new job with what is left.

In the job the ranks agree after each phase (set-up, call, tear-down) of a test whether it failed anywhere. A rank that
failed gives the others `GRACE` seconds to come to that agreement, then aborts the job: they wait in a collective for
it. When a test's time is up, each rank writes down where it is, and the session stops the job.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mpi4py import MPI

ROOT = Path(__file__).resolve().parent.parent
WORLD = MPI.COMM_WORLD
IN_JOB = WORLD.size > 1  # this process is a rank of a job, not the session that the user started
RANK_COUNTS = (2, 3, 4)
TIME_LIMIT = 120.0  # seconds for one test on one number of ranks
START_LIMIT = 120.0  # seconds from mpirun to a test, and from the end of one test to the next
GRACE = 15.0  # seconds that a failed rank gives the others


# -- fixtures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def comm() -> MPI.Comm:
    """All ranks of the run: one in the serial run, N in a job of N ranks."""
    return WORLD


@pytest.fixture
def shared_tmp(tmp_path: Path) -> Path:
    """A fresh directory that is the same on all ranks (`tmp_path` is each rank's own)."""
    return Path(WORLD.bcast(str(tmp_path)))


@pytest.fixture
def mpirun() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`mpirun(ranks, *command, timeout=120, **run_options)`: a program of its own under mpirun, for serial tests."""

    def run(ranks: int, *command: Any, timeout: float = 120.0, **options: Any) -> subprocess.CompletedProcess[str]:
        process = start(
            ["mpirun", "-n", str(ranks), *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            stop(process)
            out, err = process.communicate()
            pytest.fail(f"{command} did not end within {timeout:g} s on {ranks} ranks\n{out}\n{err}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


def time_limit(test: pytest.Item) -> float:
    """Seconds that a test marked `mpi` may take."""
    marker = test.get_closest_marker("mpi")
    return float(marker.kwargs.get("timeout", TIME_LIMIT)) if marker else TIME_LIMIT


def job_environment() -> dict[str, str]:
    """This process's environment with jobs/env.sh's additions, without what MPI_Init added to it.

    mpirun ends without a word when it finds the variables of the process that starts it; `os.environ` was read before
    MPI_Init and does not have them.
    """
    script = ". jobs/env.sh && env -0"
    told = subprocess.run(["bash", "-c", script], cwd=ROOT, env=dict(os.environ), capture_output=True, check=True)
    return dict(line.split("=", 1) for line in told.stdout.decode().split("\0") if "=" in line)


def start(command: list[str], *, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[Any]:
    """Start mpirun so that it ends, and its ranks with it, when this process dies."""
    libc = ctypes.CDLL(None)
    death_signal = 1  # PR_SET_PDEATHSIG

    return subprocess.Popen(
        command,
        env={**job_environment(), **(env or {})},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(death_signal, signal.SIGTERM),
        **options,
    )


def stop(process: subprocess.Popen[Any]) -> None:
    """End mpirun, and with it its ranks; after 5 s the hard way."""
    if process.poll() is not None:
        return
    process.terminate()  # mpirun passes it on
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# -- hooks -------------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ranks", help="run only on these numbers of ranks, as 1,3 (1 is the serial run)")
    parser.addoption("--job", help="directory of the job that this process is a rank of (set by the harness)")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    job = config.getoption("--job")
    if job is not None:
        if not IN_JOB:
            raise pytest.UsageError("mpirun started separate programs, its MPI is not mpi4py's: see parmlip doctor")
        config.option.basetemp = f"{job}/tmp{WORLD.rank}"  # ranks would race for pytest's numbered directories
        config.pluginmanager.register(Rank(Path(job)), "parmlip-rank")
    elif IN_JOB:
        raise pytest.UsageError("start pytest without mpirun; tests marked mpi are started under mpirun by the harness")
    else:
        signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", 128 + signal.SIGTERM))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put one item per marked test and number of ranks after the serial ones."""
    if config.getoption("--job"):
        return
    asked = config.getoption("--ranks")
    try:
        chosen = None if asked is None else {int(n) for n in asked.split(",")}
    except ValueError:
        raise pytest.UsageError(f"--ranks wants whole numbers separated by commas, not {asked!r}") from None
    serial = list(items)
    if chosen is not None and 1 not in chosen:
        items.clear()
    twins = []
    for item in serial:
        marker = item.get_closest_marker("mpi")
        for n in (marker.args or RANK_COUNTS) if marker else ():
            if chosen is None or n in chosen:
                name, nodeid = on_ranks(item.name, n), on_ranks(item.nodeid, n)
                twins.append(OnRanks.from_parent(session, name=name, nodeid=nodeid, test=item, ranks=n))
    items.extend(sorted(twins, key=lambda twin: twin.ranks))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Give the items of each number of ranks their job."""
    twins = [item for item in session.items if isinstance(item, OnRanks)]
    for n in {twin.ranks for twin in twins}:
        mine = [twin for twin in twins if twin.ranks == n]
        job = Job(session.config, n, [twin.test.nodeid for twin in mine])
        session.config.add_cleanup(job.end)
        for twin in mine:
            twin.job = job


# -- the session that the user started ---------------------------------------------------------------------------------


class RankFailure(Exception):
    """A test failed on some ranks; the text tells which and how."""


class OnRanks(pytest.Item):
    """A marked test on a number of ranks: its outcome is that of the ranks of the job."""

    job: Job

    def __init__(self, *, test: pytest.Item, ranks: int, **options: Any) -> None:
        super().__init__(**options)
        self.test = test
        self.ranks = ranks

    def runtest(self) -> None:
        self.job.result(self.test.nodeid, time_limit(self.test))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **options: Any) -> Any:
        if isinstance(excinfo.value, RankFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **options)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        path, line, name = self.test.reportinfo()
        return path, line, on_ranks(name, self.ranks)


def on_ranks(name: str, ranks: int) -> str:
    """Name of a test on a number of ranks: test_x[@2], test_x[parameters@2] (pytest wants the bracket at the end)."""
    return f"{name[:-1]}@{ranks}]" if name.endswith("]") else f"{name}[@{ranks}]"


class Job:
    """One mpirun at a time, which runs the tests of `nodeids` that have no result yet."""

    def __init__(self, config: pytest.Config, ranks: int, nodeids: list[str]) -> None:
        self.config = config
        self.ranks = ranks
        self.pending = list(nodeids)
        self.process: subprocess.Popen[bytes] | None = None
        self.directory = Path()
        self.read_to: list[int] = []  # bytes of each rank's file that were read
        self.seen: list[dict[str, list[dict[str, Any]]]] = []  # for each rank and test its lines
        self.unstartable = ""

    def result(self, nodeid: str, limit: float) -> None:
        """Return if the test passed on all ranks, skip or fail as it did."""
        if self.unstartable:
            raise RankFailure(self.unstartable)
        if self.process is None:
            self.start()
        assert self.process is not None
        self.pending.remove(nodeid)
        late = self.wait(nodeid, limit)
        if late:
            stop(self.process)
        self.read()
        entries = [seen.get(nodeid, []) for seen in self.seen]
        if not all(map(finished, entries)) or any(e["outcome"] == "failed" for rank in entries for e in rank):
            text = self.failure(entries, late)
            if not any(self.seen):  # no test came as far as its start: another attempt would fare no better
                self.unstartable = f"the job on {self.ranks} ranks could not be started, see the first of its failures"
            self.end()  # messages of the failed test may still be under way: the next test gets a new job
            raise RankFailure(text)
        for entry in (e for rank in entries for e in rank if e["outcome"] == "skipped"):
            (pytest.xfail if entry["xfail"] else pytest.skip)(entry["text"])

    def start(self) -> None:
        """Start mpirun on the pending tests."""
        self.directory = Path(self.config._tmp_path_factory.mktemp(f"ranks{self.ranks}-"))  # type: ignore[attr-defined]
        (self.directory / "nodeids.json").write_text(json.dumps(self.pending))
        self.read_to = [0] * self.ranks
        self.seen = [{} for _ in range(self.ranks)]
        files = dict.fromkeys(nodeid.split("::")[0] for nodeid in self.pending)
        command = ["mpirun", "-n", str(self.ranks), sys.executable, "-m", "mpi4py", "-m", "pytest"]
        command += ["-c", str(self.config.inipath), "--rootdir", str(self.config.rootpath), "-p", "no:cacheprovider"]
        command += ["-q", "--color=no", "--job", str(self.directory), *files]
        with open(self.directory / "output.txt", "wb") as output:
            self.process = start(command, cwd=self.config.rootpath, stdout=output, stderr=subprocess.STDOUT)

    def wait(self, nodeid: str, limit: float) -> bool:
        """Wait until all ranks finished the test or the job ended; True if its time is up before."""
        assert self.process is not None
        started = False
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            self.read()
            if ended or all(finished(seen.get(nodeid, [])) for seen in self.seen):
                return False
            if not started and any(nodeid in seen for seen in self.seen):
                started = True
                deadline = time.monotonic() + limit + 2.0  # 2 s for the ranks to tell where they are
            time.sleep(0.05)  # the job does not wait for this session
        return True

    def read(self) -> None:
        """Read what the ranks have written since the last time."""
        for rank in range(self.ranks):
            path = self.directory / f"rank{rank}.jsonl"
            if path.exists() and path.stat().st_size > self.read_to[rank]:
                with open(path, "rb") as file:
                    file.seek(self.read_to[rank])
                    new = file.read()
                new = new[: new.rfind(b"\n") + 1]  # the last line may be half written
                self.read_to[rank] += len(new)
                for line in new.splitlines():
                    entry = json.loads(line)
                    self.seen[rank].setdefault(entry["nodeid"], []).append(entry)

    def failure(self, entries: list[list[dict[str, Any]]], late: bool) -> str:
        """What each rank saw of a failed test."""
        lines = []
        for rank, seen in enumerate(entries):
            failures = [e for e in seen if e["outcome"] == "failed" and e["text"]]
            lines += [f"---- rank {rank} of {self.ranks} failed in {e['when']}:\n{e['text']}" for e in failures]
            if not failures and not finished(seen):
                reached = seen[-1]["when"] if seen else "nothing"
                lines.append(f"---- rank {rank} of {self.ranks} did not finish the test (last finished: {reached})")
                trace = self.directory / f"rank{rank}.trace"
                if trace.exists() and trace.stat().st_size:
                    lines.append("when its time was up it was here:\n" + trace.read_text())
        if not all(map(finished, entries)):
            assert self.process is not None
            how = "was stopped, its time was up" if late else f"ended with exit code {self.process.wait()}"
            output = (self.directory / "output.txt").read_text(errors="replace").splitlines()
            lines.append(f"---- the job {how}; the end of its output:\n" + "\n".join(output[-30:]))
        return "\n".join(lines)

    def end(self) -> None:
        """Stop the job if it runs; the next result starts a new one."""
        if self.process is not None:
            stop(self.process)
        self.process = None


def finished(entries: list[dict[str, Any]]) -> bool:
    """Whether a rank's lines on a test are complete."""
    return bool(entries) and entries[-1]["when"] == "teardown"


# -- a rank of a job ---------------------------------------------------------------------------------------------------


class Rank:
    """Runs the job's tests in the order given, agrees with the other ranks on each phase and notes what it saw."""

    def __init__(self, job: Path) -> None:
        self.nodeids: list[str] = json.loads((job / "nodeids.json").read_text())
        self.agreement = WORLD.Dup()  # a failed test may leave messages on COMM_WORLD
        self.notes = open(job / f"rank{WORLD.rank}.jsonl", "w")  # noqa: SIM115 (open as long as the process)
        self.trace = open(job / f"rank{WORLD.rank}.trace", "w")  # noqa: SIM115

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = {item.nodeid: item for item in items}
        items[:] = [found[nodeid] for nodeid in self.nodeids]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.note(item, "start", "passed")
        faulthandler.dump_traceback_later(time_limit(item), file=self.trace)
        result = yield
        faulthandler.cancel_dump_traceback_later()
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        report = yield
        if report.failed:
            captured = "".join(f"\n-- {title} --\n{content}" for title, content in report.sections)
            # before the others are asked, who may be stuck
            self.note(item, report.when, "failed", report.longreprtext + captured)
            self.any_failed(True)
            return report
        if self.any_failed(False):
            report.outcome, report.longrepr = "failed", "failed on another rank"
            self.note(item, report.when, "failed")
            return report
        xfail = hasattr(report, "wasxfail")
        reason = ""
        if report.skipped:
            reason = report.wasxfail if xfail else report.longrepr[2].removeprefix("Skipped: ")
        self.note(item, report.when, report.outcome, reason, xfail)
        return report

    def any_failed(self, failed: bool) -> bool:
        """Whether the phase failed on any rank.

        Collective on all ranks, but a rank that failed itself waits only `GRACE` seconds.
        """
        mine, anywhere = array("i", [failed]), array("i", [0])  # MPI has no maximum of bytes
        request = self.agreement.Iallreduce(mine, anywhere, op=MPI.MAX)
        deadline = time.monotonic() + GRACE
        pause = 0.0
        while not request.Test():
            if failed and time.monotonic() > deadline:
                WORLD.Abort(1)
            time.sleep(pause)
            pause = min(pause + 1e-4, 0.01)
        return bool(anywhere[0])

    def note(self, item: pytest.Item, when: str, outcome: str, text: str = "", xfail: bool = False) -> None:
        """Write a line for the session that started the job."""
        entry = {"nodeid": item.nodeid, "when": when, "outcome": outcome, "text": text, "xfail": xfail}
        self.notes.write(json.dumps(entry) + "\n")
        self.notes.flush()
