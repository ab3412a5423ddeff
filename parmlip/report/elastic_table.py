"""Elastic constants of surrogates over a sweep of what the loss knows of them: the direction that nothing fixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.report.columns import in_words
from parmlip.report.published import aligned
from parmlip.report.sweep import key_at

# Swept keys that say what the fit is told of the elastic response.
LOSSES: Final = ("fit.elasticity", "fit.constraints")
_CONSTANTS: Final = ("C11", "C12", "C44")


def elastic_lines(path: Path) -> list[str]:
    """Lines of text: errors of stress, C11, C12, C44 in GPa for each point; none if no loss was swept, or not cubic.

    (C12, C44) is also split into p (1, -1/2), what p det F changes (it changes no energy and no force in a fixed cell),
    and q (1/2, 1), which forces know.
    """
    values, file = scalars(path), ResultFile(path)
    points = file.points()
    keys = list(dict.fromkeys(key for point in points for key in point))
    if not any(key in LOSSES for key in keys):
        return []
    rows = []
    for i, point in enumerate(points):
        found = {
            law: [values.get(key_at(values, i, f"{law}.{name}")) for name in _CONSTANTS]
            for law in ("reference", "train")
        }
        if any(value is None for constants in found.values() for value in constants):
            continue
        c11, c12, c44 = np.array(found["train"], dtype=float) - np.array(found["reference"], dtype=float)
        p, q = (c12 - 0.5 * c44) / 1.25, (0.5 * c12 + c44) / 1.25
        rows.append(
            [*(in_words(point.get(key, "")) for key in keys), _stress(file, i), *map(_gpa, (c11, c12, c44, p, q))]
        )
    if not rows:
        return []
    columns = ("stress", "C11", "C12", "C44", "p", "q")
    headings = [[*keys, *columns], [*[""] * len(keys), *["GPa"] * len(columns)]]
    return [
        "",
        "errors of the perfect crystal; (C12, C44) = p (1, -1/2) + q (1/2, 1): p det F changes no energy or force in a "
        "fixed cell, so that rows of states leave p open",
        *aligned([*headings, *rows]),
    ]


def _stress(file: ResultFile, point: int) -> str:
    """The pressure's negative: a third of the trace of the surrogate's stress; that of the reference is zero."""
    if "bulk_stress" not in file.names("train", point):
        return "-"
    stress: Any = np.asarray(file.read("train", "bulk_stress", point), dtype=float)
    return _gpa(float(stress[:3].mean() if stress.ndim == 1 else np.trace(stress) / 3.0))


def _gpa(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 5e-5 else f"{value:.1e}"
