"""Steps that all ranks take together: an error on one rank becomes an error on every rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mpi4py import MPI

from parmlip.errors import ParmlipError, RemoteError

T = TypeVar("T")


@contextmanager
def in_step(comm: MPI.Comm, what: str) -> Iterator[None]:
    """Local work that may fail on some ranks: afterwards either all ranks go on or all raise.

    Collective on ``comm``: every rank must enter and leave. The failing rank raises its own error; the others raise
    the same kind of error with the lowest failing rank's message (`RemoteError` for errors that are not parmlip's).
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:  # re-raised below, after the other ranks have been told
        error = caught
    told = None if error is None else (type(error) if isinstance(error, ParmlipError) else None, str(error))
    failures = [(rank, *t) for rank, t in enumerate(comm.allgather(told)) if t is not None]
    if error is not None:
        raise error
    if failures:
        raise _remote(what, *failures[0])


def on_root(comm: MPI.Comm, what: str, work: Callable[..., T], *args: Any) -> T:
    """Do `work(*args)` on rank 0 and give its result, or its error, to every rank.

    Collective on ``comm``.
    """
    outcome: tuple[bool, Any] = (True, None)
    error: Exception | None = None
    if comm.rank == 0:
        try:
            outcome = (True, work(*args))
        except Exception as caught:  # re-raised below, after the other ranks have been told
            error = caught
            outcome = (False, (type(caught) if isinstance(caught, ParmlipError) else None, str(caught)))
    good, value = comm.bcast(outcome, root=0)
    if error is not None:
        raise error
    if not good:
        raise _remote(what, 0, *value)
    return value  # type: ignore[no-any-return]


def _remote(what: str, rank: int, kind: type[ParmlipError] | None, message: str) -> ParmlipError:
    """The error that a rank raises because another one failed."""
    if kind is None:
        return RemoteError(f"rank {rank} failed while {what}: {message}")
    try:
        return kind(message)
    except TypeError:  # a kind whose constructor wants something else than a message
        return RemoteError(f"rank {rank} failed while {what}: {message}")
