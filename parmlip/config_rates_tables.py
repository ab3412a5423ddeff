"""The table [rates] of the input file, with every default. Lengths in angstrom, masses in atomic mass units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parmlip.config_schema import key, show
from parmlip.errors import ConfigError


@dataclass(frozen=True)
class Jump:
    """One member of `jumps`: a site goes from one place to another, in units of the conventional cell vectors."""

    from_: tuple[float, ...] = key(length=(1, 3), about="where the site that jumps is on the lattice")
    to: tuple[float, ...] = key(length=(1, 3), about="where it goes: a vacant place")
    name: str = key("", about="by default jump-<number>")


@dataclass(frozen=True)
class Rates:
    """[rates]: jumps of the simulation cell's defects in harmonic transition state theory."""

    jumps: tuple[Jump, ...] = key((), about="a list of { from = ..., to = ... }, see below")
    images: int = key(7, least=1, about="of the path between the two equilibria")
    path_tolerance: float = key(0.05, above=0.0, about="force across the path at its top before Newton's steps, eV/A")
    path_iterations: int = key(60, least=1, about="steps of the path, at most")
    force_tolerance: float = key(1e-10, above=0.0, about="at equilibria and saddles, largest component, eV/angstrom")
    max_iterations: int = key(60, least=1, about="steps from the top of the path to the saddle, at most")
    dense_sites: int = key(
        600, least=0, about="up to as many sites all eigenvalues are found, beyond differences are estimated"
    )
    entropy_tolerance: float = key(3e-3, above=0.0, about="error bar of estimated differences of entropies, k_B")
    connect: bool = key(True, about="the saddle's two slopes must end in the jump's two equilibria")
    temperatures: tuple[float, ...] = key((300.0, 600.0, 900.0, 1200.0), above=0.0, about="kelvin")
    masses: dict[str, float] = field(
        default_factory=dict, metadata={"above": 0.0, "about": "by species; ASE's by default"}
    )
    laws: tuple[str, ...] = key(
        (), choices=("reference", "surrogate"), length=(0, 2), about="whose rates; by default the laws of [relax]"
    )

    def names(self) -> tuple[str, ...]:
        """Names of the jumps."""
        return tuple(jump.name or f"jump-{i + 1}" for i, jump in enumerate(self.jumps))


def check_around(tables: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for training cells about a saddle that cannot be found."""
    crystal, reference = tables.get("crystal"), tables.get("reference")
    for i, t in enumerate(tables.get("training", ())):
        where = f"[[training]] {i + 1}"
        if t.around == "equilibrium" and t.jump is None:
            continue
        if t.around == "equilibrium":
            raise ConfigError(f'{where} jump: is for around = "saddle"')
        if t.jump is None:
            raise ConfigError(f'{where} around = "saddle": needs jump = {{ from = ..., to = ... }}')
        if not t.relax or t.dislocations is not None:
            raise ConfigError(f'{where} around = "saddle": needs relax = true and no dislocations')
        if crystal is not None and crystal.lattice is None:
            raise ConfigError(f'{where} around = "saddle": needs [crystal] lattice, not a structure file')
        if reference is not None and reference.is_total:
            raise ConfigError(f'{where} around = "saddle": needs second derivatives, which [reference] kind = '
                              f"{show(reference.kind)} does not give")  # fmt: skip
        for word, place in (("from", t.jump.from_), ("to", t.jump.to)):
            if crystal is not None and len(place) != crystal.dimensions:
                raise ConfigError(f"{where} jump {word} = {show(place)}: must have {crystal.dimensions} members")


def check_rates(tables: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for jumps that cannot be done, where the stage is asked for."""
    if "rates" not in tables["run"].stages:
        return
    rates, crystal, reference = tables["rates"], tables.get("crystal"), tables.get("reference")
    if not rates.jumps:
        raise ConfigError(
            '[run] stages: "rates" needs [rates] jumps, such as jumps = [{ from = [0.5, 0.5, 0], to = [0, 0, 0] }]'
        )
    if crystal is not None and crystal.lattice is None:
        raise ConfigError('[run] stages: "rates" needs [crystal] lattice, not a structure file')
    if reference is not None and reference.is_total:
        raise ConfigError(f'[run] stages: "rates" needs second derivatives, which [reference] kind = '
                          f"{show(reference.kind)} does not give")  # fmt: skip
    names = rates.names()
    for i, jump in enumerate(rates.jumps):
        where = f"[rates] jumps[{i}]"
        for word, place in (("from", jump.from_), ("to", jump.to)):
            if crystal is not None and len(place) != crystal.dimensions:
                raise ConfigError(f"{where} {word} = {show(place)}: must have {crystal.dimensions} members")
        if jump.from_ == jump.to:
            raise ConfigError(f"{where} to = {show(jump.to)}: is where the jump begins")
        if names.index(names[i]) != i:
            raise ConfigError(f"{where} name = {show(names[i])}: is the name of an earlier jump")
        if "/" in names[i] or "." in names[i]:
            raise ConfigError(f"{where} name = {show(names[i])}: must be without '/' and '.'")
    for law in rates.laws:
        if law not in tables["relax"].laws:
            raise ConfigError(f"[rates] laws: {show(law)} is not in [relax] laws, whose equilibria jumps start from")
    cell = tables.get("simulation")
    present = {*(crystal.species if crystal is not None else ()), *(d.species for d in getattr(cell, "defects", ()))}
    for symbol in rates.masses:
        if symbol not in present:
            here = ", ".join(sorted(s for s in present if s))
            raise ConfigError(f"[rates] masses: {symbol} is not in the simulation cell, which has {here}")
