"""Results of a dear law, kept in HDF5 by structure: a run that was killed loses at most what was in flight.

A result is first a small file of its own in `NAME.cache.h5.new/`, written aside, synchronised and renamed, so that
several processes, also of several runs, can add results at once and none of them can be torn. `merge` gathers these
files into the one file `NAME.cache.h5` and takes away no others. All functions are local, but where a communicator is
given.

Runs on other numbers of ranks come to the same structures but for rounding. A structure whose cell and positions are
all within `NEAR` of those of a result has that result: results lie in drawers by a weighted mean of all coordinates, to
1e-7 angstrom, of which at most two hold what is so near.
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
from dataclasses import dataclass
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
NEAR: Final = 1e-10  # angstrom: coordinates that differ by no more are those of one structure
_DRAWER: Final = 1e-7  # angstrom
_ATTEMPTS: Final = 20  # to write a small file, whose directory another run's `merge` may take away


@dataclass(frozen=True, eq=False)
class Key:
    """What the result of a structure is found by."""

    digest: str  # of law and structure, coordinates to the bit
    drawers: tuple[str, ...]  # the structure's own, then the next one if what is near may lie there
    place_x: RealArray  # cell and positions, flat, angstrom

    @property
    def stem(self) -> str:
        """Name of the small file."""
        return f"{self.drawers[0]}.{self.digest}"


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

    def key(self, cell_cc: RealArray, periodic: Sequence[bool], positions_ac: RealArray, symbols: Sequence[str]) -> Key:
        """What the structure's result is found by."""
        law = hashlib.sha256(self.identity.encode())
        law.update(bytes(bool(p) for p in periodic))
        species = np.array([atomic_numbers[symbol] for symbol in symbols], dtype="<i4").tobytes()
        place_x = np.concatenate([np.ravel(cell_cc), np.ravel(positions_ac)]).astype("<f8") + 0.0  # + 0.0: -0 is 0
        exact = law.copy()
        exact.update(place_x.tobytes() + species)
        weight_x = np.random.default_rng(len(place_x)).uniform(0.5, 1.0, len(place_x))
        mean = float(weight_x @ place_x / weight_x.sum())
        drawers = []
        for shift in (0.0, -2.0 * NEAR, 2.0 * NEAR):
            drawer = law.copy()
            drawer.update(species + str(np.floor((mean + shift) / _DRAWER)).encode())
            drawers.append(drawer.hexdigest()[:32])
        return Key(exact.hexdigest(), tuple(dict.fromkeys(drawers)), place_x)

    def digest(
        self, cell_cc: RealArray, periodic: Sequence[bool], positions_ac: RealArray, symbols: Sequence[str]
    ) -> str:
        """Name of a structure's result: a digest of law, cell, periodicity, positions (to the bit) and species."""
        return self.key(cell_cc, periodic, positions_ac, symbols).digest

    def read(self, key: Key) -> Evaluated | None:
        """The result of that structure or of one that differs by at most `NEAR`, None if there is none."""
        return self.known([key]).get(key.digest)

    def known(self, keys: Iterable[Key]) -> dict[str, Evaluated]:
        """Those of the results that are there, by digest."""
        wanted = {key.digest: key for key in keys}
        found: dict[str, Evaluated] = {}
        with contextlib.suppress(OSError), h5py.File(self.path, "r", locking=False) as file:
            for digest, key in wanted.items():
                result = _exact_or_near(key, file)
                if result is not None:
                    found[digest] = result
        left = [key for digest, key in wanted.items() if digest not in found]
        small = sorted(path.name for path in self.fresh.glob("*.h5")) if left and self.fresh.is_dir() else []
        for key in left:
            for name in small:
                if key.digest in found or not name.startswith((key.digest, *key.drawers)):
                    continue
                # not there any more, torn, or being merged at this moment
                with contextlib.suppress(OSError), h5py.File(self.fresh / name, "r", locking=False) as file:
                    if "result" in file and (key.digest in name or _is_near(key, file["result"])):
                        found[key.digest] = _evaluated(file["result"])
        return found

    def write(self, key: Key, result: Evaluated) -> None:
        """Keep a result; when this returns it is on the disk.

        Raises
        ------
        DataError
            The file cannot be written.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._write(key, result)
                return
            except OSError as error:
                if not isinstance(error, FileNotFoundError) or attempt == _ATTEMPTS:
                    raise DataError(f"cannot keep a result of the reference in {self.fresh}: {error}") from error

    def _write(self, key: Key, result: Evaluated) -> None:
        part = self.fresh / f".{key.digest}.{os.getpid()}.part"
        try:
            self.fresh.mkdir(exist_ok=True)
            with h5py.File(part, "w", locking=False) as file:
                group = file.create_group("result")
                group.attrs["law"] = self.identity
                group.attrs["energy"] = result.energy
                group["place"] = key.place_x
                group["forces"] = result.forces_ac
                if result.virial_cc is not None:
                    group["virial"] = result.virial_cc
                if result.site_energies_a is not None:
                    group["site_energies"] = result.site_energies_a
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, self.fresh / f"{key.stem}.h5")
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
        key, comm = self.cache.key(cell_cc, periodic, positions_ac, symbols), self.comm
        if comm is None:
            found = self.cache.read(key)
            if found is None:
                found = self._kept(key, self.law.evaluate(cell_cc, periodic, positions_ac, symbols))
            return found
        found = on_root(comm, "reading a kept result", self.cache.read, key)
        if found is None:
            made = self.law.evaluate(cell_cc, periodic, positions_ac, symbols)
            found = on_root(comm, "keeping a result", self._kept, key, made)
        return found

    def _kept(self, key: Key, result: Evaluated) -> Evaluated:
        self.cache.write(key, result)
        return result


def _exact_or_near(key: Key, file: h5py.File) -> Evaluated | None:
    if key.digest in file:  # as files had them that knew no drawers
        return _evaluated(file[key.digest])
    for drawer in key.drawers:
        if drawer in file:
            inside = file[drawer]
            for name in [key.digest] if key.digest in inside else inside:
                if _is_near(key, inside[name]):
                    return _evaluated(inside[name])
    return None


def _is_near(key: Key, group: h5py.Group) -> bool:
    place_x = group["place"][()] if "place" in group else np.zeros(0)
    return place_x.shape == key.place_x.shape and bool(np.abs(place_x - key.place_x).max() <= NEAR)


def _evaluated(group: h5py.Group) -> Evaluated:
    virial_cc, site_a = (group[name][()] if name in group else None for name in ("virial", "site_energies"))
    return Evaluated(float(group.attrs["energy"]), group["forces"][()], virial_cc, site_a)


def _take(path: Path, into: h5py.File) -> None:
    try:
        with h5py.File(path, "r", locking=False) as file:
            name = path.stem.replace(".", "/")  # drawer and digest
            if name not in into:
                file.copy("result", into, name=name)
    except OSError:
        logger.warning("%s cannot be read: its result will be made anew", path)


def _readable(path: Path) -> bool:
    try:
        with h5py.File(path, "r", locking=False) as file:
            return str(file.attrs.get("format", "")) == _FORMAT
    except OSError:
        return False
