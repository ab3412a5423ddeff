"""Vibrational formation entropies in words: which number to quote, what its error bar is of, and free energies."""

from __future__ import annotations

from typing import Final

import numpy as np

from parmlip.io.hdf5 import ResultFile

_STEPS: Final = {"entropy": "reference", "entropy_surrogate": "surrogate"}


def formation_lines(file: ResultFile, point: int | None) -> list[str]:
    """Lines of text for the stages entropy and entropy_surrogate; none where they gave no formation entropy.

    At a point of a sweep free energies alone, since entropies have columns in the table of the sweep.
    """
    lines: list[str] = []
    for step, law in _STEPS.items():
        if file.complete(step, point) and "formation" in file.names(step, point):
            if point is None:
                lines += ["", f"vibrational formation entropy by the {law}, k_B", *_entropies(file, step)]
            lines += _free_energies(file, step, point)
    return lines


def _entropies(file: ResultFile, step: str) -> list[str]:
    def read(name: str) -> float:
        return float(file.read(step, name))

    infinite = "formation_infinite" in file.names(step)
    n_sites = int(file.read("build", "n_sites"))
    rows = []
    if infinite:
        value = f"{read('formation_infinite'):.6f} +- {read('formation_infinite_error'):.1e}"
        rows.append((value, "formation_infinite", "infinite cell, error bar with the finite size: quote this"))
    only = "" if infinite else f": quote it with its {n_sites} sites; no estimate of the infinite cell"
    value = f"{read('formation'):.6f} +- {read('formation_error'):.1e}"
    rows.append((value, "formation", f"this cell, error bar numerical: says nothing of the cell's size{only}"))
    rows.append(
        (f"{read('formation_limit'):.6f}", "formation_limit", "this cell, crystal's determinants of infinite size")
    )
    rows.append((f"{read('fhf'):.6f}", "fhf", "S_FHF, a part of the above: not to be quoted as S_f"))
    rows.append(
        (f"{read('perfect'):.6f}", "perfect", "of the perfect cell, in units of its eigenvalues: not to be quoted")
    )
    width = max(len(value) for value, _, _ in rows)
    return [f"    {value:<{width}}  {name:<19} {meaning}" for value, name, meaning in rows]


def _free_energies(file: ResultFile, step: str, point: int | None) -> list[str]:
    if "formation_free_energy" not in file.names(step, point):
        return []
    names = ("temperature", "formation_free_energy", "formation_free_energy_quantum")
    columns = [np.asarray(file.read(step, name, point)) for name in names]
    where = "" if point is None else f"point {point}: "
    lines = [
        "",
        f"{where}free energy of formation by the {_STEPS[step]}, E_f - T S_f with the entropy of this cell, eV",
    ]
    lines.append(f"    {'T (K)':>8}  {'classical':>12}  {'quantum':>12}")
    return lines + [f"    {t:>8.6g}  {f:>12.6f}  {q:>12.6f}" for t, f, q in zip(*columns, strict=True)]
