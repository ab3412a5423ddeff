"""Laws that give total energies only: tight binding, programs of others behind ASE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mpi4py import MPI

RealArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What a law says about one structure; what it does not give is None."""

    energy: float  # eV; the quantity of which the forces are the derivative
    forces_ac: RealArray  # (n_sites, 3) eV / angstrom
    virial_cc: RealArray | None = None  # (3, 3) -dE / d(strain), eV
    site_energies_a: RealArray | None = None  # (n_sites,) eV, adding up to `energy`


class TotalLaw(Protocol):
    """An interaction law of whole structures. Every method is local: it knows nothing of ranks."""

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols that the law knows; empty if that cannot be told beforehand."""

    @property
    def closest(self) -> float:
        """Distances below this are outside the law's range of validity (0 if there is none), angstrom."""

    def evaluate(
        self, cell_cc: RealArray, periodic: tuple[bool, bool, bool], positions_ac: RealArray, symbols: Sequence[str]
    ) -> Evaluated:
        """Energy, forces and, where the law has them, virial and site energies of one structure.

        Raises
        ------
        ConfigError
            The law has no parameters for a species.
        GeometryError
            Sites are closer than `closest`.
        DataError
            The law fails, or gives what is not finite.
        """


@runtime_checkable
class SharedLaw(TotalLaw, Protocol):
    """A law whose work on one structure several ranks can share."""

    def shared(self, comm: MPI.Comm) -> TotalLaw:
        """The same law, whose `evaluate` is collective on `comm`: the same numbers as alone, to rounding."""
