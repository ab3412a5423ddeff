"""What is looked at before results are written: where they go, and that they are numbers."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parmlip.config import Study
from parmlip.config_schema import show
from parmlip.errors import ConfigError, ConvergenceError, DataError
from parmlip.io.hdf5 import Field, ResultFile


def check_place(study: Study) -> None:
    """Raise `ConfigError` if the result file cannot be where the input wants it."""
    where = f"[run] output = {show(study.run.output)}"
    if study.output.is_dir():
        raise ConfigError(f"{where}: is a directory")
    if not study.output.parent.is_dir():
        raise ConfigError(f"{where}: there is no directory {study.output.parent}")
    if not os.access(study.output.parent, os.W_OK):
        raise ConfigError(f"{where}: the directory {study.output.parent} is not writable")


def is_begun(file: ResultFile) -> bool:
    """Whether it is a result file without any complete step: nothing is lost with it."""
    try:
        return not file.stages()
    except DataError:
        return False


def set_aside(study: Study) -> None:
    """Keep the result file that a run is to replace until the run has results of its own."""
    if study.output.exists() and not is_begun(ResultFile(study.output)):
        os.replace(study.output, _aside(study))


def bring_back(study: Study) -> None:
    """Undo `set_aside` if the run that was to replace the results has none."""
    aside = _aside(study)
    if aside.exists() and (not study.output.exists() or is_begun(ResultFile(study.output))):
        os.replace(aside, study.output)


def let_go(study: Study) -> None:
    """Delete what `set_aside` keeps: there are new results."""
    _aside(study).unlink(missing_ok=True)


def _aside(study: Study) -> Path:
    return study.output.with_name(study.output.name + ".replaced")


def published_text(study: Study) -> str:
    """What the file of [report] published says, which the result file keeps; empty without one."""
    if study.report.published is None:
        return ""
    try:
        text = study.path(study.report.published).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"[report] published = {show(study.report.published)}: cannot be read: {error}") from None
    # Only now: the reports bring numba, which takes its time.
    importlib.import_module("parmlip.report.published").read_published(text, study.swept_keys)
    return text


def refuse_nan(step: str, name: str, field: Any) -> None:
    """Raise `ConvergenceError` if a result of a step has NaN, at any depth."""
    value = field.value if isinstance(field, Field) else field
    if isinstance(value, Mapping):
        for inner, member in value.items():
            refuse_nan(step, f"{name}.{inner}", member)
    elif isinstance(value, (float, np.floating, np.ndarray)):
        numbers = np.asarray(value)
        if numbers.dtype.kind in "fc" and np.isnan(numbers).any():
            count = int(np.isnan(numbers).sum())
            raise ConvergenceError(f"stage {step}: result '{name}' has {count} NaN of {numbers.size} numbers")
