"""How stiff a law's perfect crystal is against its waves, beside another law's. Local and serial."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.lattices import Lattice
from parmlip.mechanics.bulk import UnitCell
from parmlip.potentials.base import SiteLaw

RealArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

_MESH: Final = 8  # waves along each reciprocal vector
_LONG: Final = 0.1  # of them for the waves that elastic constants rule


@dataclass(frozen=True)
class Stiffness:
    """Least and largest stiffness of a law's crystal over its waves."""

    low: float  # times the reference's stiffness against the same wave; without one, of the law's own largest
    high: float
    relative: bool  # to a reference

    @property
    def error(self) -> float:
        """Largest relative error; infinite without a reference."""
        return max(abs(self.low - 1.0), abs(self.high - 1.0)) if self.relative else np.inf


def stiffness(
    law: SiteLaw, reference: SiteLaw | None, lattice: Lattice, lattice_constant: float, species: tuple[str, ...]
) -> Stiffness:
    """Extreme eigenvalues of D(q) v = lambda D_ref(q) v, force constants in Fourier space, over a mesh of waves q.

    A negative one is a wave into which the crystal falls. Where the reference's own crystal is not stable, or there is
    no reference, they are those of D(q) v = lambda v, of the largest of them.
    """
    cell = UnitCell(law, lattice, lattice_constant, species)
    q_qc = _waves(lattice.dimension)
    of_law_qij = _dynamical(cell, q_qc)
    if reference is not None:
        of_reference_qij = _dynamical(UnitCell(reference, lattice, lattice_constant, species), q_qc)
        try:
            inverse_qij = np.linalg.inv(np.linalg.cholesky(of_reference_qij))
        except np.linalg.LinAlgError:  # not positive
            pass
        else:
            found = np.linalg.eigvalsh(inverse_qij @ of_law_qij @ inverse_qij.conj().swapaxes(-1, -2))
            return Stiffness(float(found.min()), float(found.max()), True)
    found = np.linalg.eigvalsh(of_law_qij)
    return Stiffness(float(found.min() / found.max()), 1.0, False)


def _waves(d: int) -> RealArray:
    """Wave vectors (n, 3) in reciprocal vectors of the cell, none of them zero."""
    mesh = np.array(list(itertools.product(range(_MESH), repeat=d)), dtype=float)[1:] / _MESH
    long = _LONG * np.array([x for x in itertools.product((-1, 0, 1), repeat=d) if any(x)], dtype=float) / _MESH
    return np.pad(np.concatenate([mesh, long]), ((0, 0), (0, 3 - d)))


def _dynamical(cell: UnitCell, q_qc: RealArray) -> ComplexArray:
    offset_oc, block_oij = cell.force_constants()
    d_qij = np.tensordot(np.exp(2j * np.pi * (q_qc @ offset_oc.T)), block_oij, axes=1)
    return np.asarray(0.5 * (d_qij + d_qij.conj().swapaxes(-1, -2)))
