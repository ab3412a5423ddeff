"""Rank-aware logging, progress lines and timers.

Every module logs to `logging.getLogger(__name__)`; `start` decides where it goes. Rank 0 tells INFO to stdout and to
the log file, other ranks tell only errors, with their number.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mpi4py import MPI

from parmlip.parallel import signals

LOGGER: Final = logging.getLogger("parmlip")
CADENCE: Final = 30.0  # seconds between the progress lines of a batch log
_logger = logging.getLogger(__name__)
_seconds: dict[str, float] = {}
_calls: dict[str, int] = {}


def start(path: Path | None = None, *, append: bool = False, comm: MPI.Comm) -> None:
    """Send the log to stdout and, if `path` is given, to that file (rank 0); errors of other ranks to stderr.

    Local; starting again replaces what was there. A file that cannot be opened raises OSError on rank 0.
    """
    stop()
    LOGGER.propagate = False
    handlers: list[logging.Handler]
    if comm.rank == 0:
        LOGGER.setLevel(logging.INFO)
        handlers = [logging.StreamHandler(sys.stdout)]
        if path is not None:
            handlers.append(logging.FileHandler(path, mode="a" if append else "w", encoding="utf-8"))
        form = logging.Formatter("%(message)s")
    else:
        LOGGER.setLevel(logging.ERROR)
        handlers = [logging.StreamHandler(sys.stderr)]
        form = logging.Formatter(f"[rank {comm.rank}] %(message)s")
    for handler in handlers:
        handler.setFormatter(form)
        LOGGER.addHandler(handler)


def note(text: str) -> None:
    """Write a line to the log file alone (what stdout or stderr has been told already). Local."""
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, text, None, None)
    for handler in LOGGER.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(record)


def stop() -> None:
    """Close the log file and take all handlers away."""
    for handler in list(LOGGER.handlers):
        LOGGER.removeHandler(handler)
        handler.close()


class Progress:
    """Count, rate and remaining time of a long loop: a live bar on a terminal, else a plain line every 30 s.

    Local; only rank 0 tells, about its own share. Use as a context manager and call `step` in the loop.
    """

    def __init__(self, what: str, total: int, *, comm: MPI.Comm, cadence: float = CADENCE) -> None:
        self.what = what
        self.total = total
        self.count = 0
        self._tells = comm.rank == 0
        self._live = self._tells and _on_terminal()
        self._cadence = 0.2 if self._live else cadence
        self._begin = self._last = time.monotonic()

    def step(self, n: int = 1) -> None:
        """`n` more are done. A safe point for signals."""
        signals.check()
        self.count += n
        now = time.monotonic()
        if not self._tells or now - self._last < self._cadence:
            return
        self._last = now
        if self._live:
            sys.stdout.write("\r" + self._bar() + self.line() + "\x1b[K")
            sys.stdout.flush()
        else:
            _logger.info("%s", self.line())

    def line(self) -> str:
        """`what: count/total, rate, remaining`."""
        elapsed = max(time.monotonic() - self._begin, 1e-9)
        rate = self.count / elapsed
        left = f"{(self.total - self.count) / rate:.0f} s left" if rate > 0.0 else "time left unknown"
        return f"{self.what}: {self.count}/{self.total}, {rate:.3g}/s, {left}"

    def _bar(self) -> str:
        done = round(20 * self.count / self.total) if self.total else 20
        return "[" + "#" * done + "." * (20 - done) + "] "

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()


def _on_terminal() -> bool:
    """Whether somebody watches. Open MPI gives ranks a pseudo-terminal even when its output goes to a file."""
    if not sys.stdout.isatty() or "OMPI_COMM_WORLD_SIZE" not in os.environ:
        return sys.stdout.isatty()
    try:
        mpirun = os.stat(f"/proc/{os.getppid()}/fd/1")
    except OSError:
        return False
    return stat.S_ISCHR(mpirun.st_mode) and os.major(mpirun.st_rdev) in (4, *range(136, 144))  # tty, pts


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Add the time of the block to timer `name`. Local; a safe point for signals."""
    signals.check()
    begin = time.perf_counter()
    try:
        yield
    finally:
        _seconds[name] = _seconds.get(name, 0.0) + time.perf_counter() - begin
        _calls[name] = _calls.get(name, 0) + 1


def reset_timers() -> None:
    """Forget all timers. Local."""
    _seconds.clear()
    _calls.clear()


def timer_table(*, comm: MPI.Comm) -> list[str]:
    """Lines with calls, mean, maximum and max/mean over ranks of every timer, longest first; the same on every rank.

    Collective on ``comm``. Ranks that lack a timer count as zero.
    """
    every = comm.allgather((dict(_seconds), dict(_calls)))
    names = sorted({name for seconds, _ in every for name in seconds})
    rows = []
    for name in names:
        seconds = [s.get(name, 0.0) for s, _ in every]
        calls = max(c.get(name, 0) for _, c in every)
        rows.append((name, calls, sum(seconds) / len(seconds), max(seconds)))
    rows.sort(key=lambda row: -row[3])
    width = max([len("timer"), *(len(name) for name in names)])
    lines = [f"{'timer':<{width}} {'calls':>7} {'mean s':>9} {'max s':>9} {'max/mean':>8}"]
    for name, calls, mean, most in rows:
        lines.append(f"{name:<{width}} {calls:>7} {mean:>9.3f} {most:>9.3f} {most / mean if mean else 1.0:>8.2f}")
    return lines
