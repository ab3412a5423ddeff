"""Going through tasks: a failing point of a sweep does not end the others; groups of ranks do points side by side."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, cast

from mpi4py import MPI

from parmlip.errors import ConvergenceError, GeometryError, Interrupted, ParmlipError, RemoteError
from parmlip.parallel.farm import Turns, sleep_until_all
from parmlip.parallel.signals import Outcome, agree

_logger = logging.getLogger(__name__)


class Step(Protocol):
    """A task: what is done, at a point of the sweep or (None) once."""

    @property
    def name(self) -> str:
        """Of the stage."""

    @property
    def index(self) -> int | None:
        """Number of the point."""


Turn = Callable[[], AbstractContextManager[Any]]
Do = Callable[[Any, MPI.Comm, Turn], None]


def work_through(
    tasks: Sequence[Step], do: Do, *, first: int, total: int, comm: MPI.Comm, turn: Turn = nullcontext
) -> dict[int | None, str]:
    """Do the tasks one after the other; the points of the sweep that failed, and why (all ranks agree on them).

    Collective on ``comm``.

    Parameters
    ----------
    tasks : sequence of Step
    do : callable
        `do(task, comm, turn)` does a task and writes its results within `turn()`.
    first, total : int
        Numbers in the log of the first task and of all.
    """
    last_word = comm.Dup()
    failed: dict[int | None, str] = {}
    for count, task in enumerate(tasks, start=first):
        if task.index in failed:
            continue
        _logger.info("--- %d/%d %s", count, total, task)
        begin = time.perf_counter()
        try:
            do(task, comm, turn)
        except (ConvergenceError, GeometryError) as error:
            # Going on is safe only if every rank failed here; one that did not is somewhere in a collective call.
            if task.index is None or agree(Outcome(error.exit_code, str(error)), comm=last_word) is None:
                raise
            _logger.warning("%s failed: %s; going on with the other points", task, error)
            failed[task.index] = f"{task}: {error}"
            continue
        _logger.info("    %s done in %.2f s", task.name, time.perf_counter() - begin)
    last_word.Free()
    return failed


def side_by_side(
    tasks: Sequence[Step], do: Do, groups: int, *, first: int, total: int, comm: MPI.Comm
) -> dict[int | None, str]:
    """`work_through` with the points of a sweep dealt out to groups of ranks, in turn; rank 0's group tells of its own.

    Collective on ``comm``. Another error than that of a point ends the job when all groups have come to their end.
    """
    points = list(dict.fromkeys(task.index for task in tasks))
    groups = min(groups, comm.size, len(points))
    if groups <= 1:
        return work_through(tasks, do, first=first, total=total, comm=comm)
    mine = comm.rank * groups // comm.size
    group, turns = comm.Split(mine, comm.rank), Turns(comm)
    share = [task for task in tasks if points.index(task.index) % groups == mine]
    _logger.info("%d points in %d groups of ranks; this is told by the first", len(points), groups)
    failed: dict[int | None, str] = {}
    ended: ParmlipError | None = None
    last_word = group.Dup()
    try:
        failed = work_through(share, do, first=first, total=total, comm=group, turn=turns.turn)
    except ParmlipError as error:
        # One rank of the group may be alone with it: the others would wait for ever.
        if isinstance(error, Interrupted) or agree(Outcome(error.exit_code, str(error)), comm=last_word) is None:
            raise
        ended = error
    sleep_until_all(comm)
    parts = comm.allgather((failed, None if ended is None else str(ended)))
    turns.free()
    last_word.Free()
    cast(MPI.Intracomm, group).Free()
    if ended is not None:
        raise ended
    for _, message in parts:
        if message is not None:
            raise RemoteError(message)
    everywhere = {index: why for part, _ in parts for index, why in part.items()}
    return {index: everywhere[index] for index in points if index in everywhere}
