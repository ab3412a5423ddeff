"""Whether the results of a file are those of this input: its resolved keys, and what the files that it names hold."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from parmlip.config import Study, loads
from parmlip.config_files import Contents, by_contents, changed, held
from parmlip.config_schema import show
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import ResultFile

# A resumed run may differ in these keys: no result depends on them.
_FREE: Final = (
    "run.stages", "run.output", "run.threads", "run.groups", "report.", "reference.cache",
    "reference.ranks_per_calculator",
)  # fmt: skip
_NONE: Final[Contents] = MappingProxyType({})


def kept_files(file: ResultFile) -> Contents:
    """What the files held that the input of a result file names; nothing where that was not kept."""
    return dict(json.loads(str(file.meta().get("files", "{}"))))


def files_told(study: Study, before: Contents = _NONE) -> str:
    """What a result file keeps of the files that its input names, as JSON; of one that is not here what it was."""
    return json.dumps({**before, **study.contents}, sort_keys=True)


def check_same(study: Study, stored: str, source: Path | None = None, *, files: Contents = _NONE) -> None:
    """Raise `ConfigError` naming the first key in which a stored resolved input differs from this one.

    With `source` it is that of a result file to be fitted again, where the keys of the fit are free too. A file's name
    may be another where it holds the same; what the stored input's held is in `files`.
    """
    free = _FREE if source is None else ("fit.", "compare.", *_FREE)
    now, before = study.as_dict(), _with_defaults(stored)
    ours, theirs = _flat(now), _flat(before)
    ours_held, theirs_held = (
        _flat(by_contents(tables, contents)) for tables, contents in ((now, study.contents), (before, files))
    )
    for name in sorted(ours.keys() | theirs.keys()):
        if name.startswith(free) or ours_held.get(name) == theirs_held.get(name):
            continue
        if ours.get(name) != theirs.get(name):
            was, is_now = (show(side[name]) if name in side else "absent" for side in (theirs, ours))
            if source is not None:
                raise ConfigError(f"fit: {name} was {was} in {source} and is {is_now} now; a refit only changes [fit]")
            raise ConfigError(
                f"--resume: {name} was {was} in {study.output} and is {is_now} now; use the old value or --overwrite"
            )
        for file in changed(study.contents, files):
            if held(ours[name], {file: ""}) != ours[name]:
                verb, results, instead = ("--resume", study.output, "bring the old one back or use --overwrite")
                if source is not None:
                    verb, results, instead = "fit", source, "bring the old one back"
                raise ConfigError(
                    f"{verb}: {name}: the file {show(file)} is not what it was when {results} was made; {instead}"
                )


def _with_defaults(stored: str) -> dict[str, Any]:
    """A stored input with today's defaults for keys that did not exist when it was stored."""
    try:
        return loads(stored).as_dict()
    except ConfigError:  # it has a key or a value that is gone: compared as it stands
        return tomllib.loads(stored)


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables as dotted keys; lists of tables are numbered."""
    flat: dict[str, Any] = {}
    for name, table in tables.items():
        blocks = [(f"{name}.{i}", t) for i, t in enumerate(table)] if isinstance(table, list) else [(name, table)]
        flat |= {f"{head}.{key}": value for head, block in blocks for key, value in block.items()}
    return flat
