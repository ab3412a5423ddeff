"""What an interaction law is: functions of site-centred environments, without communication."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[Any]  # float64, or complex128 in a complex step
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Origin:
    """Where environments come from in a supercell: what laws need that depend on the place."""

    bond_pc: NDArray[np.float64]  # (n_pairs, 3) vectors of the pairs in the reference configuration, angstrom
    global_n: IntArray  # (n,) global site number of each centre


@dataclass(frozen=True)
class Environments:
    """Neighbour vectors of a set of centres, grouped by centre: pairs first_n[n] .. first_n[n + 1] belong to centre n.

    A law must take pairs beyond its cutoff (lists are built with a margin) and ignore them.
    """

    first_n: IntArray  # (n + 1,)
    r_pc: FloatArray  # (n_pairs, 3) neighbour minus centre, angstrom; complex128 in a complex step
    species_n: IntArray  # (n,) the law's index of the centre's species
    species_p: IntArray  # (n_pairs,) the law's index of the neighbour's species
    origin: Origin | None = None  # known in supercells only

    def with_vectors(self, r_pc: FloatArray) -> Environments:
        """The same pairs with other vectors."""
        return replace(self, r_pc=r_pc)


@dataclass(frozen=True)
class BlockPattern:
    """Sparsity of a block matrix over local sites (compressed rows, columns sorted within a row).

    Rows are all local sites (owned, then ghosts); a centre n of the environments is row n.
    """

    first_r: IntArray  # (n_rows + 1,)
    column_b: IntArray  # (n_blocks,) local site number


class SiteLaw(Protocol):
    """An interaction law that is a sum of site energies V_l({r_lj}).

    Every method is local: it knows nothing of ranks. `g_pc` always means dV_l / dr_lj for pair (l, j) of centre l.
    Energies and forces are asked for piece by piece (`Domain.pieces`), of all owned sites at once where the law has an
    attribute `keeps_places` that is true: it keeps something between calls that belongs to their places.
    """

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the law's species indices."""

    @property
    def cutoff(self) -> float:
        """Largest distance at which two sites interact, angstrom."""

    @property
    def closest(self) -> float:
        """Distances below this are outside the law's range of validity (0 if there is none), angstrom."""

    def site_energies(self, environments: Environments) -> FloatArray:
        """Site energies V_n, shape (n,), eV."""

    def site_gradients(self, environments: Environments) -> tuple[FloatArray, FloatArray]:
        """Site energies V_n (n,), eV, and g_pc (n_pairs, 3), eV / angstrom, in the scalar type of `r_pc`."""

    def hessian_blocks(self, environments: Environments, site_p: IntArray, pattern: BlockPattern) -> FloatArray:
        """Sum of all site Hessians as 3 x 3 blocks on `pattern`, shape (n_blocks, 3, 3), eV / angstrom^2.

        `site_p` (n_pairs,) is the local number of each pair's neighbour; several pairs may have the same neighbour
        (images), and a neighbour may be the centre itself.
        """

    def linearised(self, environments: Environments) -> Callable[[FloatArray], FloatArray]:
        """The map dr_pc -> dg_pc of `site_gradients` at these environments (both (n_pairs, 3)), exact to rounding."""


def complex_step(law: SiteLaw, environments: Environments) -> Callable[[FloatArray], FloatArray]:
    """`linearised` for any law whose kernels are generic in the scalar type: Im g(r + i h dr) / h.

    No difference is taken, hence no cancellation: h may be so small that the truncation error h^2 vanishes against
    rounding (1e-20 was measured to work with products written out, 1e-30 not).
    """
    h = 1e-20

    def tangent(dr_pc: FloatArray) -> FloatArray:
        _, g_pc = law.site_gradients(environments.with_vectors(environments.r_pc + 1j * h * dr_pc))
        return g_pc.imag / h

    return tangent
