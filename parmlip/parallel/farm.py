"""Work of unequal size handed out to groups of ranks, one piece at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from mpi4py import MPI

from parmlip.errors import ParmlipError
from parmlip.parallel import signals
from parmlip.parallel.comm import in_step, on_root
from parmlip.parallel.logs import Progress

T = TypeVar("T")
_PAUSE = 0.02  # seconds between two looks of a rank that waits: it must not take the time of programs that work


@dataclass(frozen=True)
class Share:
    """What one group did."""

    pieces: int
    seconds: float


def farm(
    work: Callable[[int], T],
    n_pieces: int,
    *,
    comm: MPI.Comm,
    what: str,
    ranks_per_group: int = 1,
    group: MPI.Comm | None = None,
) -> tuple[list[T], list[Share]]:
    """`work(i)` for every i below `n_pieces`, on every rank, and what each group had of it.

    Collective on ``comm``. Ranks are grouped in the order of their numbers, `ranks_per_group` together (the last group
    may be smaller); the first of each group works, the others sleep and leave their cores to what it starts. A group
    takes the next piece when it is ready for it: the counter lies on rank 0 and is read by one-sided communication, so
    that nobody has to serve (with transports that cannot do without, a group may wait until rank 0 ends its piece).
    `work` is local and must give the same on whichever rank. With a `group` (`grouped`) its ranks do not sleep: `work`
    is collective on it, and must fail on all its ranks or on none.

    When a piece fails no further ones are begun; those in flight are ended, then all ranks raise the error, which
    names the piece and the rank.
    """
    counter = _Counter(comm)
    done: list[tuple[int, T]] = []
    busy = 0.0
    try:
        with in_step(comm, what):
            try:
                if comm.rank % ranks_per_group == 0:
                    with Progress(what, n_pieces, comm=comm) as progress:
                        while (piece := _next(counter, n_pieces, group)) < n_pieces:
                            begin = time.perf_counter()
                            done.append((piece, _tried(work, piece, comm.rank)))
                            busy += time.perf_counter() - begin
                            progress.step(min(counter.look(), n_pieces) - progress.count)
                elif group is not None:
                    while (piece := group.bcast(None)) < n_pieces:
                        _tried(work, piece, comm.rank)
            except BaseException:
                counter.close(n_pieces)
                raise
            finally:
                sleep_until_all(comm)
    finally:
        counter.free()
    parts = comm.allgather((done, Share(len(done), busy)))
    merged = dict(pair for part, _ in parts for pair in part)
    return [merged[i] for i in range(n_pieces)], [share for _, share in parts[::ranks_per_group]]


@contextmanager
def grouped(comm: MPI.Comm, ranks_per_group: int) -> Iterator[MPI.Comm]:
    """The group of a rank as a communicator of its own. Collective on ``comm``, to enter and to leave."""
    group = comm.Split(comm.rank // ranks_per_group, comm.rank)
    try:
        yield group
    finally:
        group.Free()


def on_group_alone(comm: MPI.Comm, ranks: int, what: str, work: Callable[[MPI.Comm], T]) -> T:
    """`work(group)` by the first `ranks` ranks, collective on their `group`; the others sleep and get rank 0's result.

    Collective on ``comm``. `work` must fail on all ranks of the group or on none.
    """
    outcome: list[T] = []
    with grouped(comm, ranks) as group, in_step(comm, what):
        try:
            if comm.rank < ranks:
                outcome.append(work(group))
        finally:
            sleep_until_all(comm)
    return on_root(comm, what, lambda: outcome[0])


def sleep_until_all(comm: MPI.Comm) -> None:
    """A barrier that takes no processor time. Collective on ``comm``."""
    request = comm.Ibarrier()
    pause = 1e-4
    while not request.Test():
        time.sleep(pause)
        pause = min(1.5 * pause, _PAUSE)


def on_root_alone(comm: MPI.Comm, what: str, work: Callable[..., T], *args: Any) -> T:
    """`on_root` for long work: the other ranks sleep meanwhile. Collective on ``comm``."""
    outcome: list[T] = []

    def kept() -> T:
        return outcome[0]

    with in_step(comm, what):
        try:
            if comm.rank == 0:
                outcome.append(work(*args))
        finally:
            sleep_until_all(comm)
    return on_root(comm, what, kept)


def _next(counter: _Counter, n_pieces: int, group: MPI.Comm | None) -> int:
    """The next piece of the group whose first rank this is; the others hear of it, also if this rank is to stop."""
    piece = n_pieces
    try:
        signals.check()
        piece = counter.take()
    finally:
        if group is not None:
            group.bcast(piece)
    return piece


def _tried(work: Callable[[int], T], piece: int, rank: int) -> T:
    try:
        return work(piece)
    except ParmlipError as error:
        error.args = (f"configuration {piece} on rank {rank}: {error}",)
        raise


class Turns:
    """Makes ranks do something one after the other. Collective on ``comm`` to make and to free."""

    def __init__(self, comm: MPI.Comm) -> None:
        self._given, self._served = _Counter(comm), _Counter(comm)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn and have it within the block. Local."""
        number = self._given.take()
        while self._served.look() < number:
            time.sleep(_PAUSE)
        try:
            yield
        finally:
            self._served.take()

    def free(self) -> None:
        """Collective."""
        self._given.free()
        self._served.free()


class _Counter:
    """A number on rank 0 that any rank may take and raise. Collective on ``comm`` to make and to free."""

    def __init__(self, comm: MPI.Comm) -> None:
        self._window = MPI.Win.Allocate(8 if comm.rank == 0 else 0, 8, comm=cast(MPI.Intracomm, comm))
        if comm.rank == 0:
            self._window.Lock(0)
            self._window.tomemory()[:] = bytes(8)
            self._window.Unlock(0)
        comm.Barrier()

    def take(self) -> int:
        """The next number."""
        return self._change(1, MPI.SUM)

    def look(self) -> int:
        """The number that comes next."""
        return self._change(0, MPI.SUM)

    def close(self, end: int) -> None:
        """No more numbers below `end`."""
        self._change(end, MPI.MAX)

    def _change(self, by: int, op: MPI.Op) -> int:
        given, got = np.array([by], dtype=np.int64), np.zeros(1, dtype=np.int64)
        self._window.Lock(0)
        self._window.Fetch_and_op(given, got, 0, op=op)
        self._window.Unlock(0)
        return int(got[0])

    def free(self) -> None:
        """Collective."""
        self._window.Free()
