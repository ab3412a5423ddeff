"""The universal screened repulsion of nuclei, switched off smoothly: a fixed part of laws that are fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase.data import atomic_numbers

from parmlip.errors import ConfigError, GeometryError
from parmlip.potentials.base import BlockPattern, Environments, FloatArray, IntArray, complex_step
from parmlip.potentials.kernels.pair_blocks import add_pair_blocks
from parmlip.potentials.kernels.zbl import switched_repulsions


@dataclass(frozen=True)
class ZBL:
    """Half of Z Z' e^2 / (4 pi eps_0 r) phi(r / a) s(r) for each neighbour; a = 0.46850 / (Z^0.23 + Z'^0.23) angstrom.

    The switch s is one below `inner` and zero beyond `outer`, with three continuous derivatives.

    References
    ----------
    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter (1985).
    """

    species: tuple[str, ...]
    inner: float  # angstrom
    outer: float  # angstrom

    def __post_init__(self) -> None:
        """Refuse a switch that is none."""
        if not 0.0 <= self.inner < self.outer:
            raise ConfigError(f"zbl: range [{self.inner:g}, {self.outer:g}] A must rise from at least 0")

    @property
    def cutoff(self) -> float:
        """Angstrom."""
        return self.outer

    @property
    def closest(self) -> float:
        """Zero: it is made for small distances."""
        return 0.0

    @cached_property
    def _charge_s(self) -> FloatArray:
        return np.array([float(atomic_numbers[symbol]) for symbol in self.species])

    def pair_energy(self, r: FloatArray, z: FloatArray, z_other: FloatArray) -> tuple[FloatArray, ...]:
        """Energy of pairs inside `outer` and its first two derivatives by r, in the scalar type of r."""
        return tuple(switched_repulsions(r, z, z_other, self.inner, self.outer))

    def site_energies(self, environments: Environments) -> FloatArray:
        """Site energies V_n, shape (n,), eV."""
        return self.site_gradients(environments)[0]

    def site_gradients(self, environments: Environments) -> tuple[FloatArray, FloatArray]:
        """Site energies V_n (n,), eV, and g_pc (n_pairs, 3), eV / angstrom, in the scalar type of `r_pc`."""
        e = environments
        near_p, centre_p, r, (value, first, _) = self._near(e)
        value_n, g_pc = np.zeros(len(e.species_n), e.r_pc.dtype), np.zeros_like(e.r_pc)
        np.add.at(value_n, centre_p, 0.5 * value)
        g_pc[near_p] = (0.5 * first / r)[:, None] * e.r_pc[near_p]
        return value_n, g_pc

    def hessian_blocks(self, environments: Environments, site_p: IntArray, pattern: BlockPattern) -> FloatArray:
        """Sum of all site Hessians as 3 x 3 blocks on `pattern`, shape (n_blocks, 3, 3), eV / angstrom^2.

        Raises
        ------
        GeometryError
            The pattern lacks a block.
        """
        e = environments
        near_p, centre_p, r, (_, first, second) = self._near(e)
        u_pc = e.r_pc[near_p] / r[:, None]
        k_pcd = (second - first / r)[:, None, None] * u_pc[:, :, None] * u_pc[:, None, :]
        k_pcd = 0.5 * (k_pcd + (first / r)[:, None, None] * np.eye(3))
        blocks: FloatArray = np.zeros((len(pattern.column_b), 3, 3), e.r_pc.dtype)
        if not add_pair_blocks(centre_p, site_p[near_p], k_pcd, pattern.first_r, pattern.column_b, blocks):
            raise GeometryError("the block pattern lacks the blocks of a pair that repels")
        return blocks

    def linearised(self, environments: Environments) -> Callable[[FloatArray], FloatArray]:
        """The map dr_pc -> dg_pc of `site_gradients` at these environments (both (n_pairs, 3)), exact to rounding."""
        return complex_step(self, environments)

    def _near(self, e: Environments) -> tuple[IntArray, IntArray, FloatArray, tuple[FloatArray, ...]]:
        """Pairs inside `outer`, their centres, distances, energies and derivatives."""
        square_p = np.sum(e.r_pc * e.r_pc, axis=1)
        near_p = np.flatnonzero(square_p.real < self.outer**2)
        centre_p = np.searchsorted(e.first_n, near_p, side="right") - 1
        r = np.sqrt(square_p[near_p])
        charges = self._charge_s[e.species_n[centre_p]], self._charge_s[e.species_p[near_p]]
        return near_p, centre_p, r, self.pair_energy(r, *charges)
