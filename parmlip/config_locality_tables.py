"""The table [locality] of the input file, with every default. Lengths in angstrom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from parmlip.config_schema import key, show
from parmlip.errors import ConfigError


@dataclass(frozen=True)
class Displacement:
    """State of the sites at which site entropies are differentiated."""

    kind: str = key(
        "rough", choices=("rough", "chirp", "smooth", "equilibrium"),
        about="rough: H_hom^(1/2) x with x normal of this standard deviation; chirp: amplitude sin(1.3 k^2 + 0.5 k) of "
        "component k; smooth: a sine wave along every axis of the cell; equilibrium: of the stage relax",
    )  # fmt: skip
    amplitude: float = key(0.03, least=0.0, about="angstrom; rough: in units of x")
    components: tuple[int, ...] = key((), least=0, most=2, about="that are displaced; by default all")
    samples: int = key(1, least=1, about="rough: random states, of whose derivatives the largest are taken")


@dataclass(frozen=True)
class Locality:
    """[locality]: how fast the derivatives of a site entropy decay, and the error of its truncation."""

    at: tuple[float, ...] | None = key(
        None, length=(1, 3), about="the site, in units of the conventional cell vectors; by default next to the middle"
    )
    displacement: Displacement = key(Displacement(), about="state at which derivatives are taken, see below")
    components: tuple[int, ...] = key((), least=0, most=2, about="of the site entropy that are summed; by default all")
    cutoffs: tuple[float, ...] = key((), above=0.0, about="truncation radii, angstrom")
    bins: int = key(
        3, least=1, about="bins per factor of e in the distance, whose largest derivatives are the envelope"
    )
    fit: Literal["auto"] | tuple[float, ...] = key(
        "auto", above=0.0, length=(2, 2), about="distances between which slopes are fitted; by default 3 to L/8"
    )
    tolerance: float = key(1e-12, above=0.0, about="of derivatives and entropies, relative")


def check_locality(tables: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a study of locality that cannot be done, where the stage is asked for."""
    if "locality" not in tables["run"].stages:
        return
    asked, crystal, reference = tables["locality"], tables.get("crystal"), tables.get("reference")
    if crystal is not None and crystal.lattice is None:
        raise ConfigError('[run] stages: "locality" needs [crystal] lattice, not a structure file')
    if reference is not None and reference.is_total:
        raise ConfigError(f'[run] stages: "locality" needs second derivatives, which [reference] kind = '
                          f"{show(reference.kind)} does not give")  # fmt: skip
    if crystal is not None:
        d = crystal.dimensions
        if asked.at is not None and len(asked.at) != d:
            raise ConfigError(f"[locality] at = {show(asked.at)}: must have {d} members")
        for where, chosen in (
            ("components", asked.components),
            ("displacement components", asked.displacement.components),
        ):
            if any(c >= d for c in chosen) or len(set(chosen)) != len(chosen):
                raise ConfigError(f"[locality] {where} = {show(chosen)}: must be different numbers below {d}")
    if asked.displacement.samples > 1 and asked.displacement.kind != "rough":
        raise ConfigError(f'[locality] displacement samples = {asked.displacement.samples}: is for kind = "rough"')
    if not isinstance(asked.fit, str) and asked.fit[0] >= asked.fit[1]:
        raise ConfigError(f"[locality] fit = {show(asked.fit)}: must be [from, to] with from < to")
    if asked.displacement.kind == "equilibrium" and "reference" not in tables["relax"].laws:
        raise ConfigError('[locality] displacement kind = "equilibrium": needs "reference" in [relax] laws')
