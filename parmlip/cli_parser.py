"""What every verb of the command line needs: arguments read strictly, lines told once."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn

from mpi4py import MPI

from parmlip.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Errors are `ConfigError`; help is told by rank 0 alone."""

    def error(self, message: str) -> NoReturn:
        """Raise `ConfigError`."""
        raise ConfigError(f"{message} (parmlip --help tells the usage)")

    def print_help(self, file: Any = None) -> None:
        """Print the help on rank 0."""
        if MPI.COMM_WORLD.rank == 0:
            super().print_help(file)


def tell(comm: MPI.Comm, *lines: str) -> None:
    """Print lines on rank 0. Local."""
    if comm.rank == 0:
        try:
            print(*lines, sep="\n", flush=True)
        except BrokenPipeError:  # `parmlip info run.h5 | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
