"""What the key `dislocations` of a table with kind = "loop" stands for."""

from __future__ import annotations

from typing import Any, cast

from parmlip.config import Simulation, Study, Training
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.loops import LoopAsked, LoopCell, build_loop

Crystal = tuple[Lattice, float]


def is_loop(table: Simulation | Training) -> bool:
    """Whether the table asks for a loop."""
    return table.dislocations is not None and table.dislocations.kind == "loop"


def looped(study: Study, table: Simulation | Training, of: Crystal) -> LoopCell | None:
    """The cell with its loop; None if the table asks for none."""
    if not is_loop(table):
        return None
    return build_loop(*of, table.repeats, study.crystal.species, asked_loop(study, table))


def asked_loop(study: Study, table: Simulation | Training) -> LoopAsked:
    """The key in the builder's words."""
    given = cast(Any, table.dislocations)
    return LoopAsked(
        given.plane, given.burgers, given.diameter, given.shape, given.platelet, given.centre, given.corner, given.tilt,
        given.noise, study.run.seed,
    )  # fmt: skip
