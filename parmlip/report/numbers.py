"""Results as numbers for scripts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from parmlip.io.hdf5 import scalars, short_lists
from parmlip.report.bounds import bound_scalars


def numbers(path: Path) -> dict[str, Any]:
    """Every scalar and short list of a result file by its dotted key; None for what is not finite, as JSON has none.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    found = scalars(path) | bound_scalars(path) | short_lists(path)
    return {key: _finite(value) for key, value in found.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
