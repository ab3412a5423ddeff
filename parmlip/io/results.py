"""What complete stages have written, read by all ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mpi4py import MPI

from parmlip.errors import ConfigError, DataError
from parmlip.io.hdf5 import ResultFile
from parmlip.parallel.comm import on_root


class Results:
    """What complete stages have written, the same on every rank. `at(i)` reads at point i of the sweep."""

    def __init__(
        self, path: Path, swept: frozenset[str] = frozenset(), point: int | None = None, *, comm: MPI.Comm
    ) -> None:
        self.path = Path(path)
        self.swept = swept  # stages that are done at every point of the sweep
        self.point = point
        self.comm = comm

    def read(self, stage: str, name: str) -> Any:
        """A value that `stage` wrote; nested values by `a/b`.

        Collective on ``comm``: rank 0 reads and sends.
        """
        return on_root(self.comm, "reading results", ResultFile(self.path).read, stage, name, self._point_of(stage))

    def names(self, stage: str) -> list[str]:
        """Names of the stage's results; empty when the stage has not run.

        Collective on ``comm``.
        """
        return on_root(self.comm, "reading results", ResultFile(self.path).names, stage, self._point_of(stage))

    def points(self) -> list[dict[str, Any]]:
        """The swept values of every point that has results.

        Collective on ``comm``.
        """
        return on_root(self.comm, "reading results", ResultFile(self.path).points)

    def at(self, point: int | None) -> Results:
        """The same results seen from one point of the sweep."""
        return Results(self.path, self.swept, point, comm=self.comm)

    def _point_of(self, stage: str) -> int | None:
        return self.point if stage in self.swept else None


def check_point(path: Path, point: int | None) -> None:
    """Raise unless the result file has a fitted surrogate at `point` of its sweep (None: without a sweep)."""
    fitted = [at for name, at, _ in ResultFile(path).stages() if name == "train"]
    if not fitted:
        raise DataError(f'result file {path} has no fitted surrogate; run the stage "train" first')
    if point is None and fitted != [None]:
        raise ConfigError(f"--point: {path} has a sweep; give one of {fitted}")
    if point is not None and point not in fitted:
        has = "no sweep" if fitted == [None] else f"a surrogate at the points {fitted}"
        raise ConfigError(f"--point {point}: {path} has {has}")
