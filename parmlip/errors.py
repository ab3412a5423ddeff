"""What can go wrong, by kind: the command line turns each into one line and an exit code."""

from __future__ import annotations

from typing import Any


class ParmlipError(Exception):
    """Base of every error that a user can cause and mend; ends the program with `exit_code`."""

    exit_code = 1


class ConfigError(ParmlipError):
    """The input file or the command line is wrong; raised before any work is done."""

    exit_code = 2


class GeometryError(ParmlipError):
    """Sites collide, a cell is degenerate, or a position is not finite."""

    exit_code = 3


class DataError(ParmlipError):
    """A file given by the user (potential, structures, results) cannot be read or written, or contradicts itself."""

    exit_code = 4


class ConvergenceError(ParmlipError):
    """An iteration ended without reaching its tolerance; `result` is the state in which it ended."""

    exit_code = 5

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class RemoteError(ParmlipError):
    """Another rank failed in a step that all ranks take together; the message names that rank."""

    exit_code = 6


class Interrupted(ParmlipError):
    """A signal asked the program to stop; the result file holds all complete stages."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.exit_code = 128 + signal_number
