"""Derivatives of the Cauchy-Born energy density at the undeformed crystal, orders 1 to 4.

Everything here is the work of one unit cell: local, serial, and the same on every rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.mechanics.domain import species_indices
from parmlip.potentials.base import BlockPattern, Environments, FloatArray, SiteLaw

RealArray = NDArray[np.float64]

_COMPLEX_STEP: Final = 1e-20
FOURTH_STEP: Final = 4e-3  # of the differences of order four; the shorter of the two steps is half of it


@dataclass(frozen=True)
class Fourth:
    """A tensor that was found by differences, and how far they have not converged."""

    tensor: RealArray  # (n, n, n, n), eV / angstrom^dimension (per angstrom for each inner shift)
    error: float  # largest change that the extrapolation made, same unit


class CauchyBorn:
    """W(F, p): energy per volume of the crystal r -> F r + p_neighbour - p_centre; its derivatives at F = I, p = 0.

    A parameter is an entry F_ij (row by row), then a component of the shift of each basis site. Vectors are linear in
    the parameters, so a derivative of order j is the site energies' derivative of order j contracted with directions.
    Orders one to three are exact to rounding: the third is the complex step of the Hessian.

    Parameters
    ----------
    law : SiteLaw
        Its Hessian must be generic in the scalar type for orders three and four.
    lattice : Lattice
    lattice_constant : float
        Angstrom.
    species : tuple of str
        One symbol per slot of the lattice.

    References
    ----------
    Wang, Patel, Ortner (2023), dislocations; Born, Huang, Dynamical Theory of Crystal Lattices (1954), sec. 11.
    """

    def __init__(self, law: SiteLaw, lattice: Lattice, lattice_constant: float, species: tuple[str, ...]) -> None:
        self.law = law
        d = lattice.dimension
        self.n_strain = d * d
        cell_cc = lattice.cell(lattice_constant)
        self.volume = float(abs(np.linalg.det(cell_cc[:d, :d])))
        positions_bc = lattice.basis_bc @ cell_cc
        # A margin, since the differences of order four stretch pairs into the cutoff.
        reach = law.cutoff * (1.0 + 2.0 * FOURTH_STEP) + 2.0 * FOURTH_STEP
        pairs = find_pairs(cell_cc, lattice.periodic, positions_bc, reach)
        r_pc = pair_vectors(pairs, cell_cc, positions_bc)
        species_b = species_indices(species, law.species)[lattice.slot_b]
        self.environments = Environments(pairs.first_n, r_pc, species_b, species_b[pairs.site_p])
        centre_p = np.repeat(np.arange(lattice.n_basis), np.diff(pairs.first_n))
        direction_xpc = np.zeros((d * d + lattice.n_basis * d, *r_pc.shape))
        for i in range(d):
            for j in range(d):
                direction_xpc[i * d + j, :, i] = r_pc[:, j]
        for b in range(lattice.n_basis):
            for c in range(d):
                direction_xpc[d * d + b * d + c, :, c] = (pairs.site_p == b).astype(float) - (centre_p == b)
        self.direction_xpc: RealArray = direction_xpc

    def first(self) -> RealArray:
        """(n,): first Piola-Kirchhoff stress, then minus the forces per volume."""
        _, g_pc = self.law.site_gradients(self.environments)
        return np.asarray(np.einsum("xpc,pc->x", self.direction_xpc, g_pc) / self.volume)

    def second(self) -> RealArray:
        """(n, n)."""
        return np.asarray(self._second(self.environments.r_pc))

    def relaxed_second(self) -> RealArray:
        """(d d, d d): second derivatives by F alone, when the basis sites follow to their equilibrium.

        W_FF - W_Fp W_pp^+ W_pF; the translation is in the kernel of W_pp.
        """
        second, s = self.second(), self.n_strain
        inner = np.linalg.pinv(second[s:, s:], rcond=1e-9, hermitian=True)
        return np.asarray(second[:s, :s] - second[:s, s:] @ inner @ second[s:, :s])

    def third(self) -> RealArray:
        """(n, n, n), the last index being that of the complex step."""
        return np.stack([self.third_along(x) for x in range(len(self.direction_xpc))], axis=-1)

    def fourth(self) -> Fourth:
        """Differences of the third derivatives by every parameter, extrapolated once: error of order step^4."""
        n = len(self.direction_xpc)
        parts = [[self.fourth_along(y, z) for z in range(n)] for y in range(n)]
        tensor = np.stack([np.stack([t for t, _ in of_y], axis=-1) for of_y in parts], axis=-2)
        return Fourth(tensor, max(error for of_y in parts for _, error in of_y))

    def third_along(self, x: int) -> RealArray:
        """(n, n): the third derivatives of which the last is by parameter x."""
        return self._third(self.environments.r_pc, x)

    def fourth_along(self, y: int, z: int) -> tuple[RealArray, float]:
        """(n, n): those of which the last are by y and, by differences, z; how far they have not converged."""
        r_pc, dr_pc = self.environments.r_pc, self.direction_xpc[z]
        coarse, fine = (
            (self._third(r_pc + h * dr_pc, y) - self._third(r_pc - h * dr_pc, y)) / (2.0 * h)
            for h in (FOURTH_STEP, FOURTH_STEP / 2)
        )
        tensor = (4.0 * fine - coarse) / 3.0
        return tensor, float(np.abs(tensor - fine).max())

    def _third(self, r_pc: RealArray, x: int) -> RealArray:
        moved = r_pc + 1j * _COMPLEX_STEP * self.direction_xpc[x]
        return np.asarray(self._second(moved).imag / _COMPLEX_STEP)

    def _second(self, r_pc: FloatArray) -> FloatArray:
        """Hessian of every site energy, contracted with the directions (the centre itself rests)."""
        e, n = self.environments, len(self.direction_xpc)
        total: NDArray[Any] = np.zeros((n, n), r_pc.dtype)
        for b, (first, last) in enumerate(zip(e.first_n[:-1], e.first_n[1:], strict=True)):
            k = int(last - first) + 1
            one = Environments(np.array([0, k - 1]), r_pc[first:last], e.species_n[b : b + 1], e.species_p[first:last])
            dense = BlockPattern(np.arange(k + 1) * k, np.tile(np.arange(k), k))
            block = self.law.hessian_blocks(one, np.arange(1, k), dense).reshape(k, k, 3, 3)[1:, 1:]
            along = self.direction_xpc[:, first:last].reshape(n, -1)
            total += along @ block.transpose(0, 2, 1, 3).reshape(3 * (k - 1), 3 * (k - 1)) @ along.T
        return total / self.volume
