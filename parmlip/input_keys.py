"""Every table and key of the input in words, from the dataclasses themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

from parmlip.config_dislocation_tables import DislocationInput
from parmlip.config_fit_tables import Weights
from parmlip.config_locality_tables import Displacement
from parmlip.config_rates_tables import Jump
from parmlip.config_schema import key_name, plain, toml_value
from parmlip.config_tables import LATTICE_SLOTS, TABLES, Defect, HessianProbes, Noise, Rattle
from parmlip.crystal.defects import DUMBBELLS, OFFSETS


def key_reference() -> list[str]:
    """Lines of text: a block for each table, a line for each key."""
    lines: list[str] = []
    for name, kind in TABLES.items():
        header = f"[[{name}]]" if name == "training" else f"[{name}]"
        lines += [header + " " + (kind.__doc__ or "").strip().splitlines()[0].partition(": ")[2], *_keys(kind), ""]
    lines += ["members of defects, { kind = ..., at = ... }: coordinates in units of the conventional cell vectors,"]
    lines += ["counted from the cell's first site, in a disc or ball from its centre"]
    lines += [*_keys(Defect), "  named sites: " + "; ".join(_sites()), ""]
    lines += ["members of [rates] jumps, { from = ..., to = ... }: in the same coordinates", *_keys(Jump), ""]
    lines += ["dislocations = { kind = ..., line = ..., plane = ..., burgers = ... } of [simulation], [[training]]"]
    lines += [*_keys(DislocationInput), ""]
    lines += ["weights = { energy = ..., ... } of [fit]", *_keys(Weights), ""]
    lines += ["rattle = { amplitude = ..., kind = ... } of [[training]]; a number is the amplitude", *_keys(Rattle), ""]
    lines += ["hessian = { kind = ..., number = ... } of [[training]]", *_keys(HessianProbes), ""]
    lines += ["noise = { energy = ..., ... } of [dataset]: standard deviations", *_keys(Noise), ""]
    lines += ["displacement = { kind = ..., ... } of [locality]", *_keys(Displacement), ""]
    lines += ['[sweep] "table.key" = [values]: the stages that depend on the key are done for every value']
    return [*lines, '        "table.key, table.key" = [[value, value], ...]: keys that go together, row by row']


def _sites() -> list[str]:
    """Interstitial sites by lattice."""
    return [f"{name} " + " ".join([*OFFSETS.get(name, ()), *DUMBBELLS.get(name, ())]) for name in LATTICE_SLOTS]


def _keys(kind: Any) -> list[str]:
    lines = []
    for field in dataclasses.fields(kind):
        about = field.metadata
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = "required" if required else "{}" if field.default is dataclasses.MISSING else _shown(field.default)
        words = [str(about["about"])] if about.get("about") else []
        if about.get("choices"):
            words.append("one of " + " ".join(about["choices"]))
        bounds = {"greater than": about.get("above"), "at least": about.get("least"), "at most": about.get("most")}
        words += [f"{what} {bound:g}" for what, bound in bounds.items() if bound is not None]
        lines.append(f"  {key_name(field):<20} {default:<30} {'; '.join(words)}".rstrip())
    return lines


def _shown(default: Any) -> str:
    if default is None:
        return "-"
    return toml_value(plain(default))
