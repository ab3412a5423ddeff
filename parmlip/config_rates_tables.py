"""The table [rates] of the input file, with every default. Lengths in angstrom, masses in atomic mass units."""

from __future__ import annotations

from dataclasses import dataclass, field

from parmlip.config_schema import key


@dataclass(frozen=True)
class Jump:
    """One member of `jumps`: the site at `site` goes to `to`, both in units of the conventional cell vectors."""

    site: tuple[float, ...] = key(length=(1, 3), about="where the atom that moves is on the lattice")
    to: tuple[float, ...] = key(length=(1, 3), about="where it goes")
    name: str = key("", about="by default jump-<number>")


@dataclass(frozen=True)
class Rates:
    """[rates]: jumps of the simulation cell's defects in harmonic transition state theory."""

    jumps: tuple[Jump, ...] = ()
    images: int = key(7, least=3, about="of the band between the two minima, ends included")
    band_tolerance: float = key(0.05, above=0.0, about="largest force on the band before Newton's steps, eV/A")
    force_tolerance: float = key(1e-10, above=0.0)  # at the saddle, eV / angstrom
    max_iterations: int = key(500, least=1, about="steps of the band")
    temperatures: tuple[float, ...] = key((300.0, 600.0, 900.0, 1200.0), above=0.0, about="kelvin")
    masses: dict[str, float] = field(default_factory=dict)  # by species; ASE's by default
