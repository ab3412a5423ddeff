"""QM regions that a tolerance led through, with the estimated errors and the true ones, as lines of text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from parmlip.io.hdf5 import ResultFile
from parmlip.report.columns import in_words


def growth_lines(path: Path) -> list[str]:
    """A table for the run, or for every point of its sweep; none without [qmmm] tolerance."""
    file, lines = ResultFile(path), []
    points = file.points()
    for number in [None, *range(len(points))]:
        if "growth" not in file.names("qmmm", number):
            continue
        growth = file.read("qmmm", "growth", number)
        met = "met" if file.read("qmmm", "tolerance_met", number) else "not met"
        title = "" if number is None else ", " + ", ".join(f"{k} = {in_words(v)}" for k, v in points[number].items())
        lines += ["", f"growth of the QM region{title}: tolerance {met}"]
        lines.append(f"{'R_QM':>9} {'QM sites':>9} {'estimate':>11} {'+-':>9} {'true error':>11}")
        lines.append(f"{'A':>9} {'':>9} {'A':>11} {'A':>9} {'A':>11}")
        true = growth.get("geometry_error", np.full(len(growth["n_qm"]), np.nan))
        for radius, n_qm, estimate, noise, error in zip(
            growth["radius_angstrom"], growth["n_qm"], growth["estimate"], growth["noise"], true, strict=True
        ):
            known = f"{error:11.3e}" if np.isfinite(error) else f"{'-':>11}"
            lines.append(f"{radius:9.3f} {n_qm:9d} {estimate:11.3e} {noise:9.1e} {known}")
    return lines
