"""Displaced configurations of a cell, reproducible on any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError
from parmlip.fit.observations import Configuration, configuration_of


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
        "uniform": in +-a; "julip": in +-a / sqrt(3), what JuLIP's `rattle!` does.
    seed : int
    index : sequence of int
        Names the sample, such as (table, number).
    dimension : int
        Components that move.
    """
    if kind not in ("uniform", "julip"):
        raise ConfigError(f'unknown kind of rattle "{kind}"; write "uniform" or "julip"')
    half_width = amplitude / sqrt(3.0) if kind == "julip" else amplitude
    stream = np.random.default_rng([seed, *index])
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
) -> list[Configuration]:
    """Rattled states of a cell about `centre_ac`, their energies against the unrelaxed cell, and that cell itself.

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
    """
    states = [configuration_of(supercell, name)] if with_reference else []
    for i in range(n_samples):
        moved = rattled(centre_ac, amplitude, kind, seed=seed, index=(*index, i), dimension=supercell.dimension)
        states.append(configuration_of(supercell, name, moved))
    return states
