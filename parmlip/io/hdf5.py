"""The result file: HDF5 with `/meta`, one group per complete stage, and `/sweep/<i>/...`.

Every change is made in a copy in the same directory, which then takes the file's place: whatever happens while
writing (full disk, crash, kill), the file has all that was complete before. All functions are local; rank 0 calls them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from parmlip.errors import DataError

SCHEMA: Final = 1
Scalar = float | int | str | bool
_SHORT: Final = 64  # members of a row that reports tell in full


@dataclass(frozen=True)
class Field:
    """A result with its unit: float, int, bool, str, ndarray, list of strings, or a dict of such values (or Fields)."""

    value: Any
    units: str = ""
    about: str = ""


class ResultFile:
    """A result file by its path; nothing stays open between calls."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def create(self, meta: Mapping[str, Any]) -> None:
        """Begin a file that has only `/meta`; an existing file is replaced."""

        def change(file: h5py.File) -> None:
            file.attrs["format"] = "parmlip"
            file.attrs["schema"] = SCHEMA
            _write(file, "meta", Field({**meta, "start": _now(), "end": _now()}))

        self._switch(change, fresh=True, room=0)

    def derive(self, target: Path, emptied: Mapping[str, tuple[str, ...]], meta: Mapping[str, Any]) -> None:
        """Copy to `target` with other `meta`. Stages in `emptied` keep only the named results and are not complete."""

        def change(file: h5py.File) -> None:
            for parent in (file, *_points(file)):
                for stage, kept in emptied.items():
                    if stage in parent:
                        for name in [name for name in parent[stage] if name not in kept]:
                            del parent[stage][name]
                        parent[stage].attrs["complete"] = False
                        if not kept:
                            del parent[stage]
            for name, value in meta.items():
                _replace(file["meta"], name, value)

        self.meta()  # raises if it is not a result file
        ResultFile(target)._switch(change, source=self.path)

    def update_meta(self, meta: Mapping[str, Any]) -> None:
        """Replace members of `/meta`."""

        def change(file: h5py.File) -> None:
            for name, value in meta.items():
                _replace(file["meta"], name, value)

        self._switch(change)

    def write_stage(
        self,
        stage: str,
        fields: Mapping[str, Field],
        *,
        seconds: float = 0.0,
        point: int | None = None,
        swept: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the results of a complete stage (of sweep point `point`, which has the values `swept`)."""

        def change(file: h5py.File) -> None:
            parent: h5py.Group = file if point is None else _point(file, point, swept or {})
            if stage in parent:
                del parent[stage]
            group = parent.create_group(stage, track_order=True)
            for name, field in fields.items():
                _write(group, name, field)
            _replace(file["meta"], "end", _now())
            group.attrs["seconds"] = seconds
            group.attrs["complete"] = True

        self._switch(change, room=sum(_size(field) for field in fields.values()))

    def share_stage(self, stage: str, source: int, point: int, swept: Mapping[str, Any]) -> None:
        """Give a sweep point the results of another one: they are in the file once."""

        def change(file: h5py.File) -> None:
            parent = _point(file, point, swept)
            if stage in parent:
                del parent[stage]
            parent[stage] = file[_place(stage, source)]

        self._switch(change)

    def complete(self, stage: str, point: int | None = None) -> bool:
        """Whether the file has the stage."""
        with self._open() as file:
            group = file.get(_place(stage, point))
            return group is not None and bool(group.attrs.get("complete", False))

    def read(self, stage: str, name: str, point: int | None = None) -> Any:
        """A value that a stage wrote; nested values by `a/b`, groups as dict."""
        with self._open() as file:
            found = file.get(f"{_place(stage, point)}/{name}")
            if found is None:
                raise DataError(f"{self.path}: stage '{stage}' has no result '{name}'")
            return _read(found)

    def names(self, stage: str, point: int | None = None) -> list[str]:
        """Names of a stage's results, sorted; empty when the stage is not there."""
        with self._open() as file:
            group = file.get(_place(stage, point))
            return [] if group is None else sorted(group)

    def meta(self) -> dict[str, Any]:
        """All of `/meta`."""
        with self._open() as file:
            return dict(_read(file["meta"]))

    def points(self) -> list[dict[str, Scalar]]:
        """The swept values of every sweep point that has results."""
        with self._open() as file:
            return [_attributes(group) for group in _points(file)]

    def stages(self) -> list[tuple[str, int | None, float]]:
        """Stage, sweep point (or None) and seconds of all that is complete, in the order of writing."""
        with self._open() as file:
            found: list[tuple[str, int | None, h5py.Group]] = []
            found += [(name, None, group) for name, group in file.items() if name not in ("meta", "sweep")]
            found += [(name, i, group) for i, point in enumerate(_points(file)) for name, group in point.items()]
            return [(name, i, float(g.attrs["seconds"])) for name, i, g in found if g.attrs.get("complete", False)]

    @contextlib.contextmanager
    def _open(self) -> Iterator[h5py.File]:
        if not self.path.is_file():
            raise DataError(f"result file {self.path} does not exist")
        try:
            file = h5py.File(self.path, "r", locking="best-effort", track_order=True)
        except OSError as error:
            reason = "is truncated" if "truncated" in str(error) else "is not an HDF5 file"
            if isinstance(error, PermissionError):
                reason = "cannot be read: permission denied"
            raise DataError(f"result file {self.path} {reason}") from None
        with file:
            if file.attrs.get("format") != "parmlip" or "meta" not in file:
                raise DataError(f"{self.path} is not a parmlip result file")
            if file.attrs.get("schema") != SCHEMA:
                found = file.attrs.get("schema")
                raise DataError(f"result file {self.path} has schema version {found}; this parmlip reads {SCHEMA}")
            yield file

    def _switch(
        self,
        change: Callable[[h5py.File], None],
        *,
        fresh: bool = False,
        room: int = 0,
        source: Path | None = None,
    ) -> None:
        """Make `change` in a copy (of `source` if given) and put it in the file's place."""
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            if not fresh:
                shutil.copyfile(source or self.path, part)
                _reserve(part, room)
            with h5py.File(part, "w" if fresh else "r+", locking="best-effort", track_order=True) as file:
                change(file)
            _sync(part)
            os.replace(part, self.path)
            _sync(self.path.parent)
        except (OSError, RuntimeError) as error:  # h5py gives RuntimeError when closing fails
            kept = "" if fresh else "; what was complete before is kept"
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            raise DataError(f"cannot write {self.path}: {reason}{kept}") from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def scalars(path: Path) -> dict[str, Scalar]:
    """Every scalar result with its dotted key: `stage.quantity`, `sweep.<i>.stage.quantity`.

    `sweep.<i>.values.<table.key>` are the swept values.
    """
    file = Path(path)
    stat = file.stat() if file.is_file() else None
    return dict(_scalars(file, None if stat is None else (stat.st_ino, stat.st_mtime_ns, stat.st_size)))


@functools.lru_cache(maxsize=2)
def _scalars(path: Path, state: tuple[int, ...] | None) -> dict[str, Scalar]:
    """`scalars` of a file in a certain state: reports ask many times, and large sweeps have ten thousand."""
    return {key: value for key, value, _ in scalar_fields(path)}


def short_lists(path: Path) -> dict[str, list[Any]]:
    """Every row or table of at most 64 numbers with a unit, by its dotted key; tables are lists of rows.

    What has no unit is bookkeeping: names, flags and steps of solvers.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    with ResultFile(path)._open() as file:
        found: dict[str, list[Any]] = {}
        for name, group in file.items():
            if name not in ("meta", "sweep"):
                _collect_lists(group, name, found)
        for i, point in enumerate(_points(file)):
            for name, group in point.items():
                _collect_lists(group, f"sweep.{i}.{name}", found)
        return found


def scalar_fields(path: Path) -> list[tuple[str, Scalar, str]]:
    """Dotted key, value and unit of every scalar result, in the order of writing."""
    with ResultFile(path)._open() as file:
        found: list[tuple[str, Scalar, str]] = []
        for name, group in file.items():
            if name not in ("meta", "sweep"):
                _collect(group, name, found)
        for i, point in enumerate(_points(file)):
            found += [(f"sweep.{i}.values.{key}", value, "") for key, value in _attributes(point).items()]
            for name, group in point.items():
                _collect(group, f"sweep.{i}.{name}", found)
        return found


def _collect(group: h5py.Group, prefix: str, found: list[tuple[str, Scalar, str]]) -> None:
    for name, member in group.items():
        if isinstance(member, h5py.Group):
            _collect(member, f"{prefix}.{name}", found)
        elif member.shape == () and member.dtype.kind != "c":
            found.append((f"{prefix}.{name}", _read(member), str(member.attrs.get("units", ""))))


def _collect_lists(group: h5py.Group, prefix: str, found: dict[str, list[Any]]) -> None:
    for name, member in group.items():
        if isinstance(member, h5py.Group):
            _collect_lists(member, f"{prefix}.{name}", found)
        elif (
            len(member.shape) in (1, 2)
            and member.size <= _SHORT
            and member.dtype.kind == "f"
            and "units" in member.attrs
        ):
            found[f"{prefix}.{name}"] = member[()].tolist()


def _points(file: h5py.File) -> list[h5py.Group]:
    sweep = file.get("sweep")
    return [] if sweep is None else [sweep[name] for name in sorted(sweep, key=int)]


def _point(file: h5py.File, point: int, swept: Mapping[str, Any]) -> h5py.Group:
    """The group of a sweep point, made if it is not there."""
    place = f"sweep/{point}"
    group = file[place] if place in file else file.create_group(place, track_order=True)
    for key, value in swept.items():
        group.attrs[key] = value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
    return group


def _attributes(group: h5py.Group) -> dict[str, Scalar]:
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in group.attrs.items()}


def _place(stage: str, point: int | None) -> str:
    return stage if point is None else f"sweep/{point}/{stage}"


def _write(group: h5py.Group, name: str, field: Any) -> None:
    field = field if isinstance(field, Field) else Field(field)
    if not name or "/" in name or "." in name:
        raise ValueError(f"result name {name!r}: must be without '/' and '.'")
    value = field.value
    item: h5py.Group | h5py.Dataset
    if isinstance(value, Mapping):
        item = group.create_group(name, track_order=True)
        for inner, member in value.items():
            _write(item, inner, member)
    elif isinstance(value, (list, tuple)) and (not value or isinstance(value[0], str)):
        item = group.create_dataset(name, data=list(value), dtype=h5py.string_dtype(), shape=(len(value),))
    else:
        item = group.create_dataset(name, data=value)
    if field.units:
        item.attrs["units"] = field.units
    if field.about:
        item.attrs["about"] = field.about


def _replace(group: h5py.Group, name: str, value: Any) -> None:
    if name in group:
        del group[name]
    _write(group, name, value)


def _read(item: h5py.Group | h5py.Dataset) -> Any:
    if isinstance(item, h5py.Group):
        return {name: _read(member) for name, member in item.items()}
    if h5py.check_string_dtype(item.dtype) is not None:
        text = item.asstr()[()]
        return text if item.shape == () else [str(t) for t in text]
    value = item[()]
    return value.item() if item.shape == () else value


def _size(field: Any) -> int:
    """Bytes that a field takes in the file, from above for what is large."""
    value = field.value if isinstance(field, Field) else field
    if isinstance(value, Mapping):
        return 2000 + sum(_size(member) for member in value.values())
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
        return 2000 + sum(len(text.encode()) + 32 for text in value)
    return 2000 + (len(value.encode()) if isinstance(value, str) else int(np.asarray(value).nbytes))


def _reserve(path: Path, room: int) -> None:
    """Take the space before HDF5 writes: a full disk is then one clear OSError, not a half-closed HDF5 file.

    HDF5 cuts off what it does not use when it closes the file.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        size = os.fstat(descriptor).st_size
        os.posix_fallocate(descriptor, size, room + 65536)
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
