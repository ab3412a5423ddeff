"""The key `dislocations` of [simulation] and [[training]]: what is put in, with every default, and its checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parmlip.config_loop_tables import check_loop_keys
from parmlip.config_schema import key, show
from parmlip.errors import ConfigError

_LATTICES = ("bcc", "fcc", "sc", "diamond", "b2", "hcp")


@dataclass(frozen=True)
class DislocationInput:
    """Straight dislocations along one line, of which `cell` counts oriented cells (z the line); or a loop."""

    kind: str = key(
        choices=("quadrupole", "dipole", "given", "single", "loop"),
        about="quadrupole: orthogonal cell, four cores; dipole: two in a sheared, tilted cell; given: those of cores; "
        "single: one in a disc; loop: in conventional cells",
    )
    plane: tuple[int, ...] = key(
        length=(3, 3), about="Miller indices of the glide plane, which holds the line; of a loop's habit plane"
    )
    burgers: tuple[float, ...] = key(length=(3, 3), about="in conventional cell vectors, such as [0.5, 0.5, 0.5]")
    line: tuple[int, ...] | None = key(
        None, length=(3, 3), about="direction [u, v, w] of the line, which all but loops need"
    )
    core: str | tuple[float, ...] = key(
        "auto", choices=("auto", "easy", "hard"), length=(2, 2),
        about="place of +b in the oriented cell; or [x, y] in lattice constants; easy, hard: screws in bcc",
    )  # fmt: skip
    core_minus: tuple[float, ...] | None = key(None, length=(2, 2), about="place of -b, if not that of +b")
    cores: tuple[tuple[float, ...], ...] = key((), about="given: [x, y, factor of burgers], x, y in oriented cells")
    polarity: float = key(
        0.0, least=-0.5, most=0.5, about="start: shift of the three columns at every core, in Burgers vectors"
    )
    offsets: int | tuple[tuple[float, ...], ...] = key(
        1,
        about="starts: shifts [x, y] of the cores, in lattice constants, or how many along x; the lowest is taken",
    )
    elastic_constants: dict[str, float] | None = key(
        None, about="of the start: { C11 = , C12 = , C44 = } in GPa, cubic; by default those of the law"
    )
    noise: float = key(0.0, least=0.0, most=0.5, about="start: random displacements up to this, angstrom")
    diameter: float | None = key(None, above=0.0, about="loop: L_D in lattice constants")
    shape: str = key(
        "circle", choices=("circle", "hexagon"), about="loop: of its line; a hexagon's diameter is over corners"
    )
    platelet: str = key(
        "none", choices=("none", "insert", "remove"),
        about="loop: sites put in or taken out, where burgers leaves the plane; none: slip",
    )  # fmt: skip
    centre: tuple[float, ...] | None = key(
        None,
        length=(3, 3),
        about="loop: in conventional cell vectors, moved to a gap between planes; by default the cell's",
    )
    corner: tuple[float, ...] | None = key(
        None, length=(3, 3), about="loop: direction of a corner; by default of the shortest lattice vector in the plane"
    )
    tilt: float = key(
        0.0, least=0.0, about="loop: strain of the cell in its mean plastic distortions: 1 takes the mean stress away"
    )


def check_dislocations(where: str, given: DislocationInput, table: Any, crystal: Any) -> None:
    """Raise `ConfigError` for values that are right one by one but not together."""
    where = f"{where} dislocations"
    if crystal.lattice not in _LATTICES:
        raise ConfigError(f"{where}: need [crystal] lattice, one of {', '.join(_LATTICES)}")
    if table.defects:
        raise ConfigError(f"{where}: cannot stand beside 'defects' in one cell")
    if getattr(table, "shape", "conventional") != "conventional":
        raise ConfigError(f"{where}: choose the cell; remove shape = {show(table.shape)}")
    check_loop_keys(where, given)
    if (given.kind == "given") != bool(given.cores):
        raise ConfigError(f'{where} cores: are for kind = "given", which needs them')
    if given.kind == "given" and (given.core != "auto" or given.core_minus is not None):
        raise ConfigError(f'{where} core: is not for kind = "given"')
    if given.core_minus is not None and isinstance(given.core, str):
        raise ConfigError(f"{where} core_minus: needs core = [x, y]")
    if given.kind == "single" and not hasattr(table, "domain"):
        raise ConfigError(f'{where} kind = "single": is for [simulation] with domain = "disc"; take a dipole here')
    if given.kind == "single" and given.core_minus is not None:
        raise ConfigError(f'{where} core_minus: is not for kind = "single"')
    constants = given.elastic_constants
    if constants is not None and (set(constants) != {"C11", "C12", "C44"} or crystal.lattice == "hcp"):
        raise ConfigError(
            f"{where} elastic_constants = {show(constants)}: must have C11, C12 and C44 of a cubic crystal"
        )
    for i, core in enumerate(given.cores):
        if len(core) != 3:
            raise ConfigError(f"{where} cores[{i}] = {show(core)}: must be [x, y, factor of burgers]")


def check_offsets(tables: Mapping[str, Any]) -> None:
    """Scans of starts are for cores in the simulation cell and laws that Newton's method or L-BFGS can ask often."""
    for i, table in enumerate(tables.get("training", ())):
        if table.dislocations is not None and table.dislocations.offsets != 1:
            raise ConfigError(
                f"[[training]] {i + 1} dislocations offsets: are for [simulation]; give the place of the core that it "
                "finds as core = [x, y]"
            )
    given = getattr(tables.get("simulation"), "dislocations", None)
    if given is None or given.offsets == 1:
        return
    where = f"[simulation] dislocations offsets = {show(given.offsets)}"
    if isinstance(given.offsets, int):
        if given.offsets < 1:
            raise ConfigError(f"{where}: must be at least 1")
    elif not given.offsets or any(len(shift) != 2 for shift in given.offsets):
        raise ConfigError(f"{where}: must be a number, or a list of [x, y]")
    reference = tables.get("reference")
    if reference is not None and reference.is_total:
        raise ConfigError(f"{where}: need a [reference] with site energies")


def check_controlled_lines(tables: Mapping[str, Any]) -> None:
    """A controlled surrogate of dislocations is learnt from a dipole, used in a larger one; screws in quadrupoles too.

    In a quadrupole the cuts of the second row of cores lie on the other side, where edges have the sites of other
    columns and cores that lie otherwise in the crystal.
    """
    where, training = '[surrogate] kind = "taylor"', tables["training"]
    if len(training) != 1 or training[0].dislocations is None:
        raise ConfigError(f"{where}: needs one [[training]] cell with dislocations, as [simulation] has")
    if "match" in tables["run"].stages:
        raise ConfigError(f'[run] stages: "match" is not for dislocations with {where}')
    kinds = {"[simulation]": ("dipole", "quadrupole"), "[[training]] 1": ("dipole",)}
    for name, table in (("[simulation]", tables["simulation"]), ("[[training]] 1", training[0])):
        if table.dislocations.kind not in kinds[name]:
            raise ConfigError(
                f"{name} dislocations kind = {show(table.dislocations.kind)}: must be "
                f"{' or '.join(map(show, kinds[name]))} with {where}"
            )
    given = tables["simulation"].dislocations
    if given.kind == "quadrupole" and not _parallel(given.burgers, given.line):
        raise ConfigError(
            f'[simulation] dislocations kind = "quadrupole": is for screws with {where}; write "dipole", since '
            f"burgers = {show(list(given.burgers))} is not along line = {show(list(given.line))}"
        )


def _parallel(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether vectors are along each other."""
    return all(abs(a[i] * b[j] - a[j] * b[i]) < 1e-9 for i in range(3) for j in range(i))


def check_elastic_error(given: Mapping[str, float] | None, crystal: Any) -> None:
    """Raise `ConfigError` unless the error is one of the constants of a cubic crystal."""
    where = f"[surrogate] elastic_error = {show(given)}"
    if given is not None and set(given) != {"C11", "C12", "C44"}:
        raise ConfigError(f"{where}: must have C11, C12 and C44, in GPa")
    if given is not None and crystal is not None and crystal.lattice not in _LATTICES[:-1]:
        raise ConfigError(f"{where}: needs [crystal] lattice, one of {', '.join(_LATTICES[:-1])}")
