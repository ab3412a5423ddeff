"""Points of a sweep whose coupled equilibria are saddles, or of which that is not known, as lines of text."""

from __future__ import annotations

from pathlib import Path

from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.report.sweep import key_at


def stability_lines(path: Path) -> list[str]:
    """A line for the saddles, one for every reason why stability is not known; none where all is well. Local."""
    values = scalars(path)
    saddles: list[tuple[int, float]] = []
    unknown: dict[str, list[int]] = {}
    for i in range(len(ResultFile(path).points())):
        stable, how = (values.get(key_at(values, i, f"qmmm.{name}")) for name in ("stable", "stability"))
        if stable is None and how is not None:
            unknown.setdefault(str(how), []).append(i)
        elif stable is not None and not stable:
            saddles.append((i, float(values[key_at(values, i, "qmmm.lowest_eigenvalue")])))
    lines = []
    if saddles:
        told = ", ".join(f"{i} ({value:.3g})" for i, value in saddles)
        lines.append(f"coupled equilibria that are saddles, by point, with the lowest eigenvalue: {told}")
    for why, points in unknown.items():
        lines.append(f"stability of the coupled equilibria {why} (points {', '.join(map(str, points))})")
    return lines
