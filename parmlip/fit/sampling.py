"""Displaced configurations of a cell, reproducible on any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError
from parmlip.fit.observations import Configuration, configuration_of

# Half of the range of a component over the amplitude. The last two are the ways to read the vibrational-entropy paper
# of Torabi, Wang and Ortner (2024), section 4.2: its program's, and its text's.
WIDTHS: Final = MappingProxyType(
    {"uniform": 1.0, "julip": 1.0 / sqrt(3.0), "julip_random": 1.0 / sqrt(3.0), "half_random": 0.5}
)


def rattled(
    positions_ac: NDArray[np.float64], amplitude: float, kind: str, *, seed: int, index: Sequence[int], dimension: int
) -> NDArray[np.float64]:
    """Positions with independent uniform displacements of every component that moves.

    The random numbers are those of the stream (seed, *index) in the order of the sites: the same on every rank.

    Parameters
    ----------
    positions_ac : ndarray, shape (n_sites, 3)
        Angstrom.
    amplitude : float
        a, angstrom.
    kind : str
        "uniform": in +-a; "julip": in +-a / sqrt(3), what JuLIP's `rattle!` does; "julip_random": the same with a
        times a number uniform in (0, 1), one for each configuration; "half_random": likewise in +-a / 2.
    seed : int
    index : sequence of int
        Names the sample, such as (table, number).
    dimension : int
        Components that move.
    """
    if kind not in WIDTHS:
        raise ConfigError(f'unknown kind of rattle "{kind}"; known are {", ".join(WIDTHS)}')
    stream = np.random.default_rng([seed, *index])
    half_width = amplitude * WIDTHS[kind] * (stream.uniform() if kind.endswith("_random") else 1.0)
    moved = positions_ac.copy()
    moved[:, :dimension] += stream.uniform(-half_width, half_width, (len(positions_ac), dimension))
    return moved


def sample(
    supercell: Supercell,
    centre_ac: NDArray[np.float64],
    n_samples: int,
    amplitude: float,
    kind: str,
    *,
    name: str,
    seed: int,
    index: Sequence[int],
    with_reference: bool = True,
    absolute: bool = False,
) -> list[Configuration]:
    """Rattled states of a cell about `centre_ac`, their energies against the unrelaxed cell, and that cell itself.

    With `absolute` all energies are absolute, and the centre stands first in the place of the unrelaxed cell. That of a
    dipole is a crystal strained by some per cent: what a fit errs in it enters all differences against it.

    Parameters
    ----------
    supercell : Supercell
        The unrelaxed cell: the reference of all energies.
    centre_ac : ndarray, shape (n_sites, 3)
        Equilibrium or lattice positions about which the sites are rattled, angstrom.
    n_samples : int
    amplitude, kind, seed, index
        As for `rattled`; sample i has the stream (seed, *index, i).
    name : str
        Configuration type.
    with_reference : bool
        Put the unrelaxed cell first, with its absolute energy (test sets that share a cell can leave it out).
    absolute : bool
        The loss has the energies of the states themselves, the equilibrium among them.
    """
    first = configuration_of(supercell, name, centre_ac.copy() if absolute else None, difference=False)
    states = [first] if with_reference else []
    for i in range(n_samples):
        moved = rattled(centre_ac, amplitude, kind, seed=seed, index=(*index, i), dimension=supercell.dimension)
        states.append(configuration_of(supercell, name, moved, difference=not absolute))
    return states
