"""What the key `dislocations` of a table stands for."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from parmlip.config import Simulation, Study, Training
from parmlip.crystal.dislocation_disc import Disc, build_disc
from parmlip.crystal.dislocations import DislocatedCell, Dislocations, build_dislocations
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.oriented import oriented
from parmlip.units import GPA_PER_EV_A3

Crystal = tuple[Lattice, float]
Triple = tuple[float, float, float]
Indices = tuple[int, int, int]


def dislocated(study: Study, table: Simulation | Training, of: Crystal) -> DislocatedCell | None:
    """The periodic cell with its cores; None if the table asks for none in one."""
    if table.dislocations is None or table.dislocations.kind in ("single", "loop"):
        return None
    return build_dislocations(*of, table.repeats, study.crystal.species, asked(study, table))


def single(study: Study, table: Simulation, of: Crystal, rim: float) -> Disc:
    """The disc with one dislocation and a rim of at least that width, angstrom."""
    of_key = asked(study, table)
    assert table.radius is not None
    return build_disc(
        *of, study.crystal.species, line=of_key.line, plane=of_key.plane, burgers=of_key.burgers, core=of_key.core,
        radius=table.radius, rim=rim, periods=table.periods, polarity=of_key.polarity, noise=of_key.noise,
        seed=of_key.seed,
    )  # fmt: skip


def oriented_lattice(table: Simulation | Training, of: Crystal) -> Crystal:
    """The lattice in the cell that `cell` of such a table repeats: orthogonal, along the line; of a loop its own."""
    given = table.dislocations
    assert given is not None
    if given.line is None:
        return of
    return oriented(of[0], given.line, given.plane).lattice, of[1]


def given_stiffness(table: Simulation | Training) -> NDArray[np.float64] | None:
    """Stiffness (6, 6), eV / angstrom^3, of the constants that the table gives; None if it gives none."""
    given = table.dislocations
    if given is None or given.elastic_constants is None:
        return None
    c = given.elastic_constants
    stiffness_vv = np.zeros((6, 6))
    stiffness_vv[:3, :3] = c["C12"]
    stiffness_vv[range(6), range(6)] = [c["C11"]] * 3 + [c["C44"]] * 3
    return stiffness_vv / GPA_PER_EV_A3


def asked(study: Study, table: Simulation | Training) -> Dislocations:
    """The key in the builder's words."""
    given = table.dislocations
    assert given is not None
    pair = cast(tuple[float, float] | None, given.core_minus)
    return Dislocations(
        given.kind, cast(Indices, given.line), cast(Indices, given.plane), cast(Triple, given.burgers),
        cast(str | tuple[float, float], given.core), pair, cast(tuple[Triple, ...], given.cores), given.polarity,
        given.noise, study.run.seed,
    )  # fmt: skip
