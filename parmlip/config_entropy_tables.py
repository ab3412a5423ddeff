"""The table [entropy] of the input file, with every default. Entropies in k_B, lengths in angstrom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from parmlip.config_schema import key, show
from parmlip.errors import ConfigError


@dataclass(frozen=True)
class Entropy:
    """[entropy]: vibrational entropy of the simulation cell in the harmonic approximation."""

    method: str = key(
        "contour", choices=("contour", "ritz", "ksp", "dense", "factorise"),
        about="one Krylov space a vector, its resolvents on a contour or its Ritz values; a solve for each shift; "
        "all eigenvalues; determinants by sparse factorisation, for cells without a grid",
    )  # fmt: skip
    tolerance: float = key(
        0.005, above=0.0, about="error bar of the formation entropy that is wanted, k_B: decides the work"
    )
    laws: tuple[str, ...] = key(
        (), choices=("reference", "surrogate"), length=(0, 2), about="at whose equilibria; by default those of [relax]"
    )
    krylov_tolerance: float = key(1e-10, above=0.0, most=1e-2, about="of each vector, relative")
    near_radius: Literal["auto"] | float = key(
        "auto", above=0.0, about="sites this near to a defect are done one by one, angstrom; all others by probes"
    )
    max_probes: int = key(400, least=4, about="random vectors for the far sites, at most")
    batch: int = key(12, least=1, most=1000, about="vectors at a time; memory grows with it")
    finite_size: bool = key(True, about="estimate the limit of large cells by one of half the edges")
    temperatures: tuple[float, ...] = key((), above=0.0, about="kelvin, for the tables of free energies")
    masses: dict[str, float] = field(
        default_factory=dict, metadata={"above": 0.0, "about": "by species, atomic mass units; ASE's by default"}
    )
    sites: Literal["none", "all"] | tuple[int, ...] = key(
        "none", least=0, about="sites whose site entropies are wanted one by one"
    )
    decomposition: str = key(
        "relative", choices=("relative", "absolute"),
        about="site entropies of log+ F H F, F = H_hom^(-1/2), or of log+ H: more steps, the more the larger the cell",
    )  # fmt: skip
    gradients: Literal["sites"] | bool = key(
        False, about="derivatives by displacements: of the total (3 N solutions) and of `sites`; sites: of it by "
        "those of `sites` alone, as many solutions as there are neighbours",
    )  # fmt: skip
    truncation_radius: float | None = key(
        None, above=0.0, about="of `sites` also the entropies with displacements beyond it set to zero, angstrom"
    )


def check_entropy(tables: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for values of [entropy] that do not go with the other tables."""
    asked, crystal, cell = tables["entropy"], tables.get("crystal"), tables.get("simulation")
    if "entropy" in tables["run"].stages and not tables["relax"].stability:
        raise ConfigError('[relax] stability = false: must be true for the stage "entropy", which is for minima alone')
    if asked.truncation_radius is not None and asked.sites == "none":
        raise ConfigError(f"[entropy] truncation_radius = {show(asked.truncation_radius)}: needs 'sites'")
    present = {*(crystal.species if crystal is not None else ()), *(d.species for d in getattr(cell, "defects", ()))}
    for symbol in asked.masses:
        if symbol not in present:
            here = ", ".join(sorted(s for s in present if s))
            raise ConfigError(f"[entropy] masses: {symbol} is not in the simulation cell, which has {here}")
