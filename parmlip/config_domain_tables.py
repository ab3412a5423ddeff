"""Checks of clamped domains: the keys `domain`, `radius`, `rim`, `periods`, `line` and `plane` of [simulation]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from parmlip.config_schema import show
from parmlip.errors import ConfigError

_DOMAIN_KEYS: Final = ("radius", "rim", "periods", "line", "plane")
# Stages that know periodic cells alone.
_PERIODIC_STAGES: Final = ("advise", "entropy", "rates", "locality")
# What the width of the rim hangs on.
_CUTOFFS: Final = (
    "surrogate.cutoff", "surrogate.pair_cutoff", "surrogate.kind", "reference.taper", "reference.parameters",
    "reference.file", "relax.laws",
)  # fmt: skip


def check_domain(tables: Mapping[str, Any], dimensions: Mapping[str, int]) -> None:
    """Raise `ConfigError` for a domain that cannot be; `dimensions` are those of the named lattices."""
    given = tables.get("simulation")
    if given is None:
        return
    where = "[simulation]"
    single = given.dislocations is not None and given.dislocations.kind == "single"
    if given.domain == "periodic":
        if not given.cell:
            raise ConfigError(f"{where} missing key 'cell': conventional cells along each cell vector")
        for name in _DOMAIN_KEYS:
            if getattr(given, name) not in (None, 1):
                raise ConfigError(f'{where} {name}: is for domain = "disc" or "ball"')
        if single:
            raise ConfigError(f'{where} dislocations kind = "single": needs domain = "disc" and a radius')
        return
    asked = f'domain = "{given.domain}"'
    if given.cell:
        raise ConfigError(f"{where} cell = {show(given.cell)}: is not for {asked}, which has a radius")
    if given.radius is None:
        raise ConfigError(f"{where} missing key 'radius': of the free region, angstrom, with {asked}")
    lattice = tables["crystal"].lattice if "crystal" in tables else None
    if lattice is None:
        raise ConfigError(f"{where} {asked}: needs [crystal] lattice, not a structure file")
    d = dimensions[lattice]
    if d < (3 if given.domain == "ball" else 2):
        raise ConfigError(f"{where} {asked}: is not for lattice {show(lattice)} of {d} dimension(s)")
    if given.dislocations is not None and (given.domain != "disc" or not single):
        raise ConfigError(f'{where} dislocations kind = {show(given.dislocations.kind)}: a disc takes "single" alone')
    if given.domain == "ball" or d < 3:
        for name in _DOMAIN_KEYS[2:]:
            if getattr(given, name) not in (None, 1):
                raise ConfigError(f"{where} {name}: is for a disc of a crystal of three dimensions")
    if (given.line is None) != (given.plane is None):
        raise ConfigError(f"{where} line, plane: give both, or neither")
    if given.line is not None and given.dislocations is not None:
        raise ConfigError(f"{where} line: dislocations have their own line and plane")
    _check_others(tables, asked)


def _check_others(tables: Mapping[str, Any], asked: str) -> None:
    """Tables that are for periodic cells, or for laws with site energies."""
    stages, relax = tables["run"].stages, tables["relax"]
    for stage in _PERIODIC_STAGES:
        if stage in stages:
            raise ConfigError(f'[run] stages: "{stage}" needs [simulation] domain = "periodic", not {asked}')
    if relax.error_bars:
        raise ConfigError(f"[relax] error_bars = {relax.error_bars}: must be 0 with [simulation] {asked}")
    reference = tables.get("reference")
    if reference is not None and reference.is_total and "relax" in stages and "reference" in relax.laws:
        raise ConfigError(
            f'[relax] laws: "reference" of kind {show(reference.kind)} gives energies of whole structures only, those '
            f'of the clamped rim too; with [simulation] {asked} write laws = ["surrogate"]'
        )
    surrogate = tables["surrogate"]
    if surrogate.kind == "taylor" and surrogate.states == "equilibrium":
        raise ConfigError(f'[surrogate] kind = "taylor": with [simulation] {asked} write states = "lattice"')


def check_swept_domain(tables: Mapping[str, Any], swept: Iterable[str]) -> None:
    """The rim is as wide as the longest law needs, and must be one for all points of a sweep."""
    given = tables.get("simulation")
    if given is None or given.domain == "periodic" or given.rim is not None:
        return
    for name in swept:
        if name in _CUTOFFS:
            raise ConfigError(f"[simulation] rim: must be given where [sweep] changes {name}; twice the longest cutoff")
