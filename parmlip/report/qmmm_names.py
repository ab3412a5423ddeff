"""What series of a QM/MM sweep are called, and what a figure of them is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from parmlip.config_fit_tables import TAYLOR_KEYS, WEIGHT_PRESETS
from parmlip.report.columns import in_words, swept_value

_LAW: Final = {"surrogate.kind", "fit.weights"}  # where these are swept a series begins with its MM law
_STRAIGHT: Final = 1e-6
_TAYLOR: Final = {f"surrogate.{key}" for key in TAYLOR_KEYS}
_WORDS: Final = {
    ("qmmm.correction", "True"): "ghost forces corrected",
    ("qmmm.correction", "False"): "ghost forces not corrected",
}


def flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of an input as dotted keys; lists of tables are left out."""
    return {
        f"{name}.{key}": value
        for name, table in tables.items()
        if isinstance(table, Mapping)
        for key, value in table.items()
    }


def grows(points: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each R_QM of a sweep has an R_MM of its own: one series then, whose domain grows with the QM region."""
    pairs = {(str(p.get("qmmm.radius")), str(p.get("simulation.radius"))) for p in points}
    return len(pairs) > 1 and all(len({pair[i] for pair in pairs}) == len(pairs) for i in (0, 1))


def telling(point: Mapping[str, Any], here: Mapping[str, Any], told: set[str]) -> tuple[tuple[str, str], ...]:
    """Swept keys of a point, with their values in words, that its coupling depends on, less those `told`.

    A key of the other kind of surrogate says nothing, and `qmmm.kind` is told by every series.
    """
    return tuple(
        (key, in_words(value))
        for key, value in point.items()
        if key not in told and key != "qmmm.kind" and _counts(key, here)
    )


def _counts(key: str, here: Mapping[str, Any]) -> bool:
    table = key.partition(".")[0]
    if table not in ("surrogate", "fit") or key == "surrogate.kind":
        return True
    if here.get("qmmm.mm", "surrogate") != "surrogate":
        return False
    return (key in _TAYLOR) == (here.get("surrogate.kind") == "taylor")


def labels_of(found: Sequence[tuple[Mapping[str, Any], Sequence[tuple[str, str]]]], *, growing: bool) -> list[str]:
    """A label for every series, of the input at its points and its swept values: as short as tells it from the others.

    The MM law in words where that is swept, then those keys by which series of the same words differ.
    """
    begin = [_law(here, dict(values)) if _LAW & set(dict(values)) else "" for here, values in found]
    labels = []
    for words, (here, values) in zip(begin, found, strict=True):
        alike = [dict(other) for start, (_, other) in zip(begin, found, strict=True) if start == words]
        said = {"surrogate.kind", "fit.weights" if isinstance(here.get("fit.weights"), str) else ""} if words else set()
        if words and here.get("surrogate.kind") == "taylor":
            said.add("surrogate.order")
        parts = ["R_MM with R_QM"] if growing else []
        parts += [words] if words else []
        parts += [
            _plain(key, value)
            for key, value in values
            if key not in said and len({other.get(key, "") for other in alike}) > 1
        ]
        labels.append(", ".join(parts))
    return labels


def _law(here: Mapping[str, Any], values: Mapping[str, str]) -> str:
    if here.get("surrogate.kind") == "taylor":
        return f"expansion, order {here['surrogate.order']}"
    weights = here.get("fit.weights")
    return f"ACE, {weights}" if isinstance(weights, str) and "fit.weights" in values else "ACE"


def _plain(key: str, value: str) -> str:
    """A swept value in words."""
    if (key, value) in _WORDS:
        return _WORDS[key, value]
    if key == "simulation.radius":
        return f"R_MM = {float(value):g} A"
    name = key.rpartition(".")[2].replace("_", " ")
    return f"{name} {({'True': 'on', 'False': 'off'}).get(value, value)}"


def about(inputs: Mapping[str, Any], swept: Sequence[str]) -> str:
    """Material, defect and MM law of a run, for the heading of a figure; what is swept is left to its legend."""
    crystal, reference = inputs.get("crystal", {}), inputs.get("reference", {})
    law = (
        reference.get("parameters") or str(reference.get("calculator", "")).rpartition(".")[2] or reference.get("kind")
    )
    material = " ".join([*crystal.get("species", []), *([f"({crystal['lattice']})"] if "lattice" in crystal else [])])
    parts = [", ".join(str(x) for x in (material, law) if x), _defects(inputs.get("simulation", {}))]
    if not _LAW & set(swept):
        parts.append(_mm(inputs, swept))
    return "; ".join(x for x in parts if x)


def _defects(simulation: Mapping[str, Any]) -> str:
    lines = simulation.get("dislocations")
    if lines:
        return f"{lines.get('kind', '')} {_character(lines.get('burgers'), lines.get('line'))}dislocation".strip()
    kinds = Counter(str(d.get("kind", "defect")) for d in simulation.get("defects", []))
    return ", ".join(in_words([{"kind": kind}] * n) for kind, n in kinds.items())


def _character(burgers: Any, line: Any) -> str:
    """screw or edge; nothing for lines between them, or directions that are not given."""
    if not burgers or not line:
        return ""
    along = float(np.dot(burgers, line) / np.linalg.norm(burgers) / np.linalg.norm(line))
    return "screw " if abs(along) > 1.0 - _STRAIGHT else "edge " if abs(along) < _STRAIGHT else ""


def _mm(inputs: Mapping[str, Any], swept: Sequence[str]) -> str:
    coupling, surrogate = inputs.get("qmmm", {}), inputs.get("surrogate", {})
    if coupling.get("mm") == "reference":
        return "MM law: the reference"
    if coupling.get("mm") == "law":
        given = coupling.get("mm_law", {})
        return f"MM law: {given.get('parameters') or given.get('kind', '')}"
    if surrogate.get("kind") == "taylor":
        order = "" if "surrogate.order" in swept else f" of order {surrogate.get('order')}"
        return f"MM law: expansion{order} of the reference"
    return f"MM law: ACE, {_weights(inputs.get('fit', {}).get('weights'))}"


def _weights(weights: Any) -> str:
    """The preset that weights are, else the observations that have one."""
    given = swept_value(weights)
    if not isinstance(given, Mapping):
        return str(given)
    some = {key: float(value) for key, value in given.items() if value}
    preset = next((name for name, values in WEIGHT_PRESETS.items() if dict(values) == some), None)
    return preset or "fitted to " + ", ".join(some)
