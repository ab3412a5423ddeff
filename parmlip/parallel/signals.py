"""Signals that ask the program to stop become `Interrupted`; ranks that stop come to one answer or end the job."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

from mpi4py import MPI

from parmlip.errors import Interrupted

# Ctrl-C, the end of a batch job, and the warning that batch systems send before it.
STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# Schedulers and mpirun may send a signal twice; within these seconds the second one is ignored, later it kills.
_AGAIN: Final = 5.0
_ROOM: Final = 2048  # bytes of a message
_received: list[tuple[int, float]] = []  # the first stopping signal and when it came


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Within the block, `STOPPING` signals raise `Interrupted` between two Python instructions. Local.

    Code that is called back from a library may lose that error or turn it into another one: `received` knows, and
    `check` raises it again at the next safe point.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if not _received:
            _received.append((number, time.monotonic()))
            raise Interrupted(number)
        if time.monotonic() - _received[0][1] > _AGAIN:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    before = {number: signal.signal(number, handle) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


def received() -> int | None:
    """The stopping signal that came since `stop_on_signals` began, if one did. Local."""
    return _received[0][0] if _received else None


def check() -> None:
    """Raise `Interrupted` if a stopping signal came and its error was lost. Local."""
    if _received:
        raise Interrupted(_received[0][0])


@dataclass(frozen=True)
class Outcome:
    """How a rank ended: exit code, message, and how much the message tells (the highest is printed)."""

    code: int
    message: str = ""
    weight: int = 0  # 0: success, 1: another rank failed, 2: an error of this rank's own, 3: a signal

    def packed(self) -> bytes:
        """Fixed-size bytes."""
        text = self.message.encode()[: _ROOM - 8].decode(errors="ignore").encode()
        return bytes([self.code % 256, self.weight, *len(text).to_bytes(2, "big")]) + text.ljust(_ROOM - 4, b"\0")

    @classmethod
    def unpacked(cls, data: bytes) -> Outcome:
        """The inverse of `packed`."""
        length = int.from_bytes(data[2:4], "big")
        return cls(data[0], data[4 : 4 + length].decode(), data[1])


def agree(outcome: Outcome, *, grace: float = 5.0, comm: MPI.Comm) -> list[Outcome] | None:
    """The outcomes of all ranks, or None when some rank did not come to tell its own.

    Collective on ``comm``, which must carry no other messages. A rank that failed waits `grace` seconds for the others
    (they may be stuck in a collective for it); one that succeeded waits for as long as it takes.
    """
    gathered = bytearray(_ROOM * comm.size)
    request = comm.Iallgather([outcome.packed(), MPI.BYTE], [gathered, MPI.BYTE])
    deadline = time.monotonic() + grace
    pause = 0.0
    while not request.Test():
        if outcome.code != 0 and time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause = min(pause + 1e-4, 0.01)
    return [Outcome.unpacked(bytes(gathered[i * _ROOM : (i + 1) * _ROOM])) for i in range(comm.size)]
