"""The input file: the strict loader and the validated input (`Study`); the tables are in `config_tables`.

`load` reads a file into a `Study`. Paths to potential and structure files are relative to the input file; results go
to the current directory. Lengths are in angstrom, energies in eV.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from parmlip.config_checks import check_tables
from parmlip.config_domain_tables import check_swept_domain
from parmlip.config_entropy_tables import Entropy
from parmlip.config_files import Contents, by_contents, read_contents
from parmlip.config_fit_tables import OBSERVATION_NAMES, WEIGHT_PRESETS, Fit, Surrogate, Weights, with_elasticity
from parmlip.config_locality_tables import Locality
from parmlip.config_qmmm_tables import QMMM
from parmlip.config_rates_tables import Rates
from parmlip.config_schema import plain, read_table, show, suggestion, toml_document
from parmlip.config_sweep import choices, read_sweep, swept_keys
from parmlip.config_tables import (
    TABLES,
    Advise,
    Compare,
    Crystal,
    Dataset,
    Defect,
    Match,
    Rattle,
    Reference,
    Relax,
    Report,
    Run,
    Simulation,
    Training,
)
from parmlip.errors import ConfigError

__all__ = [
    "Advise", "Compare", "Crystal", "Dataset", "Defect", "Entropy", "Fit", "Match", "Point", "Rates", "Rattle",
    "Reference", "Relax", "Report", "Run", "Simulation", "Study", "Surrogate", "Training", "Weights", "load", "loads",
]  # fmt: skip

# Tables whose every key has a default exist without being written; the others only where the input has them.
_WRITTEN: Final = ("crystal", "reference", "simulation", "training", "dataset")


@dataclass(frozen=True)
class Point:
    """One point of a sweep: the swept keys with their values, and the study that has them (without [sweep])."""

    index: int
    values: dict[str, Any]
    study: Study


@dataclass(frozen=True)
class Study:
    """A validated input. Reading a table that the input does not have raises `ConfigError`."""

    tables: Mapping[str, Any]
    sweep: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    source: Path = field(default=Path("input.toml"), compare=False)  # the input file
    text: str = field(default="", compare=False, repr=False)  # of the input file
    contents: Contents = field(default_factory=dict, compare=False, repr=False)  # of files it names: `config_files`

    def _table(self, name: str) -> Any:
        if name not in self.tables:
            brackets = "[[training]]" if name == "training" else f"[{name}]"
            raise ConfigError(f"missing table {brackets}: the stages or the verb asked for need it")
        return self.tables[name]

    @property
    def run(self) -> Run:
        """[run]."""
        return self._table("run")  # type: ignore[no-any-return]

    @property
    def crystal(self) -> Crystal:
        """[crystal]."""
        return self._table("crystal")  # type: ignore[no-any-return]

    @property
    def reference(self) -> Reference:
        """[reference]."""
        return self._table("reference")  # type: ignore[no-any-return]

    @property
    def simulation(self) -> Simulation:
        """[simulation]."""
        return self._table("simulation")  # type: ignore[no-any-return]

    @property
    def training(self) -> tuple[Training, ...]:
        """Every [[training]], in the order of the file."""
        return self._table("training")  # type: ignore[no-any-return]

    @property
    def dataset(self) -> Dataset:
        """[dataset]."""
        return self._table("dataset")  # type: ignore[no-any-return]

    @property
    def surrogate(self) -> Surrogate:
        """[surrogate]."""
        return self._table("surrogate")  # type: ignore[no-any-return]

    @property
    def fit(self) -> Fit:
        """[fit]."""
        return self._table("fit")  # type: ignore[no-any-return]

    @property
    def relax(self) -> Relax:
        """[relax]."""
        return self._table("relax")  # type: ignore[no-any-return]

    @property
    def match(self) -> Match:
        """[match]."""
        return self._table("match")  # type: ignore[no-any-return]

    @property
    def compare(self) -> Compare:
        """[compare]."""
        return self._table("compare")  # type: ignore[no-any-return]

    @property
    def qmmm(self) -> QMMM:
        """[qmmm]."""
        return self._table("qmmm")  # type: ignore[no-any-return]

    @property
    def advise(self) -> Advise:
        """[advise]."""
        return self._table("advise")  # type: ignore[no-any-return]

    @property
    def entropy(self) -> Entropy:
        """[entropy]."""
        return self._table("entropy")  # type: ignore[no-any-return]

    @property
    def rates(self) -> Rates:
        """[rates]."""
        return self._table("rates")  # type: ignore[no-any-return]

    @property
    def locality(self) -> Locality:
        """[locality]."""
        return self._table("locality")  # type: ignore[no-any-return]

    @property
    def report(self) -> Report:
        """[report]."""
        return self._table("report")  # type: ignore[no-any-return]

    @property
    def output(self) -> Path:
        """The result file, relative to the current directory."""
        return Path(self.run.output)

    def path(self, name: str) -> Path:
        """A file named in the input, which is relative to the input file."""
        return self.source.parent / name

    def as_dict(self) -> dict[str, Any]:
        """The resolved input, every default included, as tomllib would give it."""
        tables = {name: plain(self.tables[name]) for name in TABLES if name in self.tables}
        return {**tables, "sweep": plain(self.sweep)} if self.sweep else tables

    def by_contents(self) -> dict[str, Any]:
        """The same with what files hold in the place of their names: equal where results are."""
        return by_contents(self.as_dict(), self.contents)

    def with_contents(self, *, all_there: bool = True) -> Study:
        """The same study, which knows what the files hold that it names. Local.

        Raises
        ------
        ConfigError
            A file cannot be read, or, with `all_there`, is missing.
        """
        tables = [self.as_dict(), *(point.study.as_dict() for point in self.points())]
        return replace(self, contents=read_contents(tables, self.source.parent, all_there=all_there))

    def as_toml(self) -> str:
        """The resolved input as TOML; reading it gives an equal study."""
        return toml_document(self.as_dict())

    def with_value(self, dotted: str, value: Any) -> Study:
        """The same study with one key changed, checked anew.

        `surrogate.total_degree`; lists by number, `simulation.defects.0.at`; `training.cell` sets every [[training]].
        """
        values = self.as_dict()
        _assign(values, dotted, value)
        return _study(values, self.source, self.text, self.contents)

    @property
    def swept_keys(self) -> tuple[str, ...]:
        """Dotted keys of [sweep], those that go together one after the other."""
        return swept_keys(self.sweep)

    def points(self) -> tuple[Point, ...]:
        """The points of the sweep, the last key fastest; empty without [sweep]."""
        if not self.sweep:
            return ()
        fixed = {name: table for name, table in self.as_dict().items() if name != "sweep"}
        points = []
        for index, swept in enumerate(choices(self.sweep)):
            values = copy.deepcopy(fixed)
            for dotted, value in swept.items():
                _assign(values, dotted, value)
            try:
                points.append(Point(index, swept, _study(values, self.source, self.text, self.contents)))
            except ConfigError as error:
                raise ConfigError(f"[sweep] point {index}: {error}") from None
        return tuple(points)


def load(path: str | Path, overrides: Iterable[str] = ()) -> Study:
    """Read and check an input file; `overrides` are `table.key=value` with the value as in TOML.

    Raises
    ------
    ConfigError
        One line that names the table, the key, the value and what would be right.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"input file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"input file {path} cannot be read: {error}") from None
    study = loads(text, overrides, path)
    published = study.report.published
    if published is not None and not study.path(published).is_file():
        raise ConfigError(f"[report] published = {show(published)}: no such file in {path.parent.resolve()}")
    return study.with_contents()


def loads(text: str, overrides: Iterable[str] = (), source: Path = Path("input.toml")) -> Study:
    """`load` for text; the name of `source` stands in messages and gives the default output."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source.name} is not valid TOML: {error}") from None
    given = [_parse_override(override) for override in overrides]
    for dotted, value in given:
        _assign(values, dotted, value)
    run = values.setdefault("run", {})
    if isinstance(run, dict):
        run.setdefault("output", source.with_suffix(".h5").name)
    study = _study(values, source, text)
    for dotted, value in given:
        if dotted in study.swept_keys:  # it would change nothing
            instead = f"write --set sweep.{dotted}=[{show(value)}], or " if dotted in study.sweep else ""
            raise ConfigError(
                f"--set {dotted}={show(value)}: [sweep] gives its values; {instead}--set sweep={{}} for none"
            )
    return study


def _study(values: Mapping[str, Any], source: Path, text: str, contents: Contents | None = None) -> Study:
    tables: dict[str, Any] = {}
    for name in values:
        if name not in TABLES and name != "sweep":
            raise ConfigError(f"unknown table [{name}]{suggestion(name, [*TABLES, 'sweep'], '[{}]')}")
    for name, kind in TABLES.items():
        if name == "training":
            if name in values:
                tables[name] = _read_training(values[name])
        elif name in values or name not in _WRITTEN:
            tables[name] = read_table(kind, _prepared(name, values.get(name, {})), f"[{name}]")
    check_tables(tables)
    study = Study(tables, read_sweep(values.get("sweep", {})), source, text, contents or {})
    check_swept_domain(tables, study.swept_keys)
    if study.sweep and "advise" in study.run.stages:
        raise ConfigError('[run] stages: "advise" is about one fit; choose a point: --set sweep={} and the swept keys')
    study.points()  # every point must be a right input
    return study


def _prepared(name: str, table: Any) -> Any:
    """The table with named weights in the place of a preset's name."""
    if name != "fit" or not isinstance(table, Mapping):
        return table
    if isinstance(table.get("weights"), str):
        preset = table["weights"]
        if preset != "balanced" and preset not in WEIGHT_PRESETS:
            known = [*WEIGHT_PRESETS, "balanced"]
            raise ConfigError(f"[fit] weights = {show(preset)}: no such preset{suggestion(preset, known)}")
        if preset == "balanced":
            table = {**table, "weights": {}, "balance": True}
        else:
            weights = {**dict.fromkeys(OBSERVATION_NAMES, 0.0), **WEIGHT_PRESETS[preset]}
            table = {**table, "weights": weights, "cauchy_born_per": "site"}
    return with_elasticity(table)


def _read_training(blocks: Any) -> tuple[Training, ...]:
    if not isinstance(blocks, list):
        raise ConfigError("[training] must be written [[training]]; there may be several")
    if not blocks:
        raise ConfigError("[[training]] is empty; give at least one")
    read = [read_table(Training, block, f"[[training]] {i + 1}") for i, block in enumerate(blocks)]
    named = tuple(
        t if t.name else read_table(Training, {**plain(t), "name": f"training-{i + 1}"}, "") for i, t in enumerate(read)
    )
    for i, t in enumerate(named):
        if t.name in (other.name for other in named[:i]):
            raise ConfigError(f"[[training]] {i + 1} name = {show(t.name)}: used twice; names must differ")
    return named


def _parse_override(text: str) -> tuple[str, Any]:
    dotted, sign, value = text.partition("=")
    dotted, value = dotted.strip().replace('"', ""), value.strip()  # sweep."surrogate.total_degree" as in the file
    if not sign or not dotted or not value or ("." not in dotted and value[0] not in "{["):
        raise ConfigError(f"--set {text}: must be table.key=value, or table={{ key = value }} for a whole table")
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        if not all(c.isalnum() or c in "_-./" for c in value):
            raise ConfigError(f"--set {text}: the value is not TOML (strings with special signs need quotes)") from None
        return dotted, value  # a bare word, since shells eat quotes
    if set(parsed) != {"value"}:
        raise ConfigError(f"--set {text}: must be one value")
    return dotted, parsed["value"]


def _assign(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key in plain tables; a key below a list of tables is set in each of them."""
    head, *rest = dotted.split(".")
    if not rest and isinstance(value, (dict, list)):  # the whole table, or every [[training]]
        values[head] = copy.deepcopy(value)
        return
    if head not in values:
        values[head] = {}
    if head == "sweep":  # its own keys are dotted
        values[head][".".join(rest)] = value
        return
    if not rest:
        raise ConfigError(f"{dotted}: must be table.key")
    _assign_below(values[head], rest, value, dotted)


def _assign_below(node: Any, parts: list[str], value: Any, dotted: str) -> None:
    name, *rest = parts
    if isinstance(node, list) and name.isdigit():
        if int(name) >= len(node):
            raise ConfigError(f"{dotted}: there are only {len(node)} members (counted from 0)")
        if rest:
            _assign_below(node[int(name)], rest, value, dotted)
        else:
            node[int(name)] = copy.deepcopy(value)
    elif isinstance(node, list):
        for member in node:
            _assign_below(member, parts, value, dotted)
    elif isinstance(node, dict):
        if rest:
            _assign_below(node.setdefault(name, {}), rest, value, dotted)
        else:
            node[name] = copy.deepcopy(value)
    else:
        raise ConfigError(f"{dotted}: '{name}' is below a value that is not a table")
