"""The files that an input names for reading, and what they hold: results hang on contents, not on names.

Contents are a mapping from a name, as the input writes it, to the digest of that file. Plain tables are those of
`Study.as_dict`, or of a resolved input as a result file keeps it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from parmlip.config_schema import show
from parmlip.errors import ConfigError

Tables = Mapping[str, Any]
Contents = Mapping[str, str]

# Keys that name files, which are relative to the input file.
_NAMED: Final = (("crystal", "file"), ("reference", "file"), ("dataset", "train"), ("dataset", "test"))
# Keywords of calculators for what is written, or told elsewhere: such files change from run to run.
_WRITTEN: Final = (
    "command", "directory", "label", "log", "log_file", "logfile", "output", "outfile", "prefix", "restart",
    "tmp_dir", "trajectory", "txt",
)  # fmt: skip


def read_contents(tables: Iterable[Tables], directory: Path, *, all_there: bool) -> dict[str, str]:
    """Contents of all files that some tables name; names are relative to `directory`. Local.

    The strings in the options of a calculator, and their words, are names where there is such a file, in the current
    directory or in one that the options name.

    Raises
    ------
    ConfigError
        A file cannot be read, or, with `all_there`, is missing.
    """
    found: dict[str, str] = {}
    for plain in tables:
        for where, name in _names(plain):
            if name in found:
                continue
            path = directory / name
            if path.is_file():
                found[name] = _digest(path, f"{where} = {show(name)}")
            elif all_there:
                raise ConfigError(f"{where} = {show(name)}: no such file in {directory.resolve()}")
        options = plain.get("reference", {}).get("options", {})
        texts = list(_texts(options))
        places = [Path(), *(Path(text) for text in texts if _is(Path.is_dir, text))]
        for name in (name for text in texts for name in (text, *text.split())):
            for path in (place / name for place in places):
                if name not in found and _is(Path.is_file, path):
                    found[name] = _digest(path, f"[reference] options: {show(name)}")
    return found


def by_contents(plain: Tables, contents: Contents) -> dict[str, Any]:
    """Plain tables with what files hold in the place of their names: equal where results are."""
    found = dict(plain)
    for table, key in (*_NAMED, ("reference", "options"), ("qmmm", "mm_law")):
        if key in found.get(table, {}):
            found[table] = {**found[table], key: held(found[table][key], contents)}
    if "sweep" in found:
        found["sweep"] = held(found["sweep"], contents)
    return found


def held(value: Any, contents: Contents) -> Any:
    """A value with what files hold in the place of their names, at any depth."""
    if isinstance(value, str):
        return contents.get(value) or " ".join(contents.get(word, word) for word in value.split(" "))
    if isinstance(value, Mapping):
        return {key: held(member, contents) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(held(member, contents) for member in value)
    return value


def changed(ours: Contents, theirs: Contents) -> list[str]:
    """Names of which both know the contents, and not the same."""
    return [name for name in ours if name in theirs and theirs[name] != ours[name]]


def _names(plain: Tables) -> Iterator[tuple[str, str]]:
    """Key and name of each file, without those of calculators."""
    for table, key in _NAMED:
        given = plain.get(table, {}).get(key)
        for name in [given] if isinstance(given, str) else given or ():
            yield f"[{table}] {key}", name
    law = plain.get("qmmm", {}).get("mm_law", {})
    if isinstance(law.get("file"), str):
        yield "[qmmm] mm_law.file", law["file"]


def _texts(options: Any) -> Iterator[str]:
    """Strings in the options of a calculator, without those that name what is written."""
    if isinstance(options, str):
        yield options
    elif isinstance(options, Mapping):
        for name, value in options.items():
            if name not in _WRITTEN:
                yield from _texts(value)
    elif isinstance(options, (list, tuple)):
        for value in options:
            yield from _texts(value)


def _is(test: Any, path: Path | str) -> bool:
    """Whether a path is a file, or a directory; any text may be asked about."""
    try:
        return bool(test(Path(path)))
    except (OSError, ValueError):  # too long, or with a null byte
        return False


def _digest(path: Path, where: str) -> str:
    try:
        with open(path, "rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read: {error.strerror}") from None
