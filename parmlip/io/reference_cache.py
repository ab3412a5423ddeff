"""Results of a dear law, kept in HDF5 by structure: a run that was killed loses at most what was in flight.

A result is first a small file of its own in `NAME.cache.h5.new/`, written aside, synchronised and renamed, so that
several processes, also of several runs, can add results at once and none of them can be torn. `merge` gathers these
files into the one file `NAME.cache.h5` and takes away no others. All functions are local, but where a communicator is
given.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from ase.data import atomic_numbers
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.errors import DataError
from parmlip.parallel.comm import on_root
from parmlip.potentials.total import Evaluated, SharedLaw, TotalLaw

logger = logging.getLogger(__name__)
RealArray = NDArray[np.float64]
_FORMAT: Final = "parmlip reference cache 1"
_ATTEMPTS: Final = 20  # to write a small file, whose directory another run's `merge` may take away


class ReferenceCache:
    """Results of one law in the file at `path`; other laws may have theirs in the same file.

    Parameters
    ----------
    path : Path
    identity : mapping
        What the law's results depend on: kind, name, options. Two laws with equal identities are the same law.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.fresh = self.path.with_name(self.path.name + ".new")
        self.identity = json.dumps(identity, sort_keys=True, default=list)

    def digest(
        self, cell_cc: RealArray, periodic: Sequence[bool], positions_ac: RealArray, symbols: Sequence[str]
    ) -> str:
        """Name of a structure's result: a digest of law, cell, periodicity, positions (to the bit) and species."""
        digest = hashlib.sha256(self.identity.encode())
        digest.update(bytes(bool(p) for p in periodic))
        for array in (cell_cc, positions_ac):
            digest.update((np.ascontiguousarray(array, dtype="<f8") + 0.0).tobytes())  # + 0.0: -0 is 0
        digest.update(np.array([atomic_numbers[symbol] for symbol in symbols], dtype="<i4").tobytes())
        return digest.hexdigest()

    def read(self, digest: str) -> Evaluated | None:
        """The result of that name, None if there is none."""
        for path, name in ((self.fresh / f"{digest}.h5", "result"), (self.path, digest)):
            # not there, torn, or being merged at this moment
            with contextlib.suppress(OSError), h5py.File(path, "r", locking=False) as file:
                if name in file:
                    return _evaluated(file[name])
        return None

    def known(self, digests: Iterable[str]) -> dict[str, Evaluated]:
        """Those of the results that are there."""
        wanted = dict.fromkeys(digests)
        found: dict[str, Evaluated] = {}
        with contextlib.suppress(OSError), h5py.File(self.path, "r", locking=False) as file:
            found = {digest: _evaluated(file[digest]) for digest in wanted if digest in file}
        for digest in wanted:
            if digest not in found and (self.fresh / f"{digest}.h5").exists():
                result = self.read(digest)
                if result is not None:
                    found[digest] = result
        return found

    def write(self, digest: str, result: Evaluated) -> None:
        """Keep a result; when this returns it is on the disk.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._write(digest, result)
                return
            except OSError as error:
                if not isinstance(error, FileNotFoundError) or attempt == _ATTEMPTS:
                    raise DataError(f"cannot keep a result of the reference in {self.fresh}: {error}") from error

    def _write(self, digest: str, result: Evaluated) -> None:
        part = self.fresh / f".{digest}.{os.getpid()}.part"
        try:
            self.fresh.mkdir(exist_ok=True)
            with h5py.File(part, "w", locking=False) as file:
                group = file.create_group("result")
                group.attrs["law"] = self.identity
                group.attrs["energy"] = result.energy
                group["forces"] = result.forces_ac
                if result.virial_cc is not None:
                    group["virial"] = result.virial_cc
                if result.site_energies_a is not None:
                    group["site_energies"] = result.site_energies_a
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, self.fresh / f"{digest}.h5")
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise

    def merge(self) -> int:
        """Gather the small files into the one file; how many there were, 0 if another run is at it in this moment.

        The file is changed in a copy that then takes its place. A file that cannot be read is put aside as
        `NAME.torn` with a warning; a small file that cannot be read is dropped with one.
        """
        with self._alone() as alone:
            return self._merge() if alone else 0

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process merges; the lock goes with the process that has it, however that ends."""
        try:
            directory = os.open(self.path.parent, os.O_RDONLY)
        except OSError:
            yield True  # what is wrong is told where the file is written
            return
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        except OSError:  # a file system without locks
            alone = True
        try:
            yield alone
        finally:
            os.close(directory)

    def _merge(self) -> int:
        files = sorted(self.fresh.glob("*.h5")) if self.fresh.is_dir() else []
        if self.path.exists() and not _readable(self.path):
            torn = self.path.with_name(self.path.name + ".torn")
            logger.warning("%s cannot be read: it is put aside as %s, its results will be made anew", self.path, torn)
            os.replace(self.path, torn)
        if files:
            part = self.path.with_name(f".{self.path.name}.part")
            try:
                if self.path.exists():
                    shutil.copyfile(self.path, part)
                with h5py.File(part, "a" if self.path.exists() else "w", locking=False) as file:
                    file.attrs["format"] = _FORMAT
                    for path in files:
                        _take(path, file)
                with open(part, "rb") as whole:
                    os.fsync(whole.fileno())
                os.replace(part, self.path)
            except OSError as error:
                raise DataError(f"cannot write the cache {self.path}: {error}") from error
            finally:
                part.unlink(missing_ok=True)
        # What other processes have added since stays; what is half written is of killed ones (or is written again).
        for path in (*files, *self.fresh.glob(".*.part")):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.fresh.rmdir()
        return len(files)


class CachedLaw:
    """A `TotalLaw` that asks another one only about structures whose results are not kept yet.

    With a communicator `evaluate` is collective on it, as that of the law is; rank 0 reads and keeps the results, and
    every rank has its numbers.
    """

    def __init__(self, law: TotalLaw, cache: ReferenceCache, comm: MPI.Comm | None = None) -> None:
        self.law = law
        self.cache = cache
        self.comm = comm

    def shared(self, comm: MPI.Comm) -> CachedLaw:
        """The same with a law whose work the ranks of `comm` share. Local; for a `SharedLaw` only."""
        assert isinstance(self.law, SharedLaw)
        return CachedLaw(self.law.shared(comm), self.cache, comm)

    @property
    def species(self) -> tuple[str, ...]:
        """Those of the law."""
        return self.law.species

    @property
    def closest(self) -> float:
        """That of the law, angstrom."""
        return self.law.closest

    def evaluate(
        self, cell_cc: RealArray, periodic: tuple[bool, bool, bool], positions_ac: RealArray, symbols: Sequence[str]
    ) -> Evaluated:
        """The kept result, or a new one, which is then kept; raises what the law raises, and `DataError`."""
        digest, comm = self.cache.digest(cell_cc, periodic, positions_ac, symbols), self.comm
        if comm is None:
            found = self.cache.read(digest)
            if found is None:
                found = self._kept(digest, self.law.evaluate(cell_cc, periodic, positions_ac, symbols))
            return found
        found = on_root(comm, "reading a kept result", self.cache.read, digest)
        if found is None:
            made = self.law.evaluate(cell_cc, periodic, positions_ac, symbols)
            found = on_root(comm, "keeping a result", self._kept, digest, made)
        return found

    def _kept(self, digest: str, result: Evaluated) -> Evaluated:
        self.cache.write(digest, result)
        return result


def _evaluated(group: h5py.Group) -> Evaluated:
    virial_cc, site_a = (group[name][()] if name in group else None for name in ("virial", "site_energies"))
    return Evaluated(float(group.attrs["energy"]), group["forces"][()], virial_cc, site_a)


def _take(path: Path, into: h5py.File) -> None:
    try:
        with h5py.File(path, "r", locking=False) as file:
            if path.stem not in into:
                file.copy("result", into, name=path.stem)
    except OSError:
        logger.warning("%s cannot be read: its result will be made anew", path)


def _readable(path: Path) -> bool:
    try:
        with h5py.File(path, "r", locking=False) as file:
            return str(file.attrs.get("format", "")) == _FORMAT
    except OSError:
        return False
