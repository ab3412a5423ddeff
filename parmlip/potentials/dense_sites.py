"""Laws whose sites have few neighbours: Hessians and tangents from the dense Hessians of their site energies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from parmlip.errors import GeometryError
from parmlip.potentials.base import BlockPattern, Environments, FloatArray, IntArray
from parmlip.potentials.kernels.triplets import apply_site_hessians, scatter_site_hessians

# first_k, pair_k: pairs within the cutoff by centre; first_x, h_x: the (m, m, 3, 3) Hessians, flat.
DenseHessians = tuple[IntArray, IntArray, IntArray, FloatArray]


class SiteKernels(NamedTuple):
    """Compiled loops over sites, each of (first_n, r_pc, species_n, species_p, constants)."""

    energies: Callable[..., Any]
    gradients: Callable[..., Any]
    hessians: Callable[..., DenseHessians]


@dataclass(frozen=True)
class DenseSiteLaw:
    """A law of pairs and angles (Stillinger-Weber, bond order) with analytic site Hessians.

    A site has m neighbours within the cutoff, four or some more, and the Hessian of its energy 9 m^2 numbers.
    """

    species: tuple[str, ...]
    cutoff: float  # angstrom
    constants: Any  # as the kernels take them
    kernels: SiteKernels
    name: str
    citation: str
    closest: float = 0.0  # angstrom

    def site_energies(self, environments: Environments) -> FloatArray:
        """Site energies V_n, shape (n,), eV."""
        energies: FloatArray = self._call(self.kernels.energies, environments)
        return energies

    def site_gradients(self, environments: Environments) -> tuple[FloatArray, FloatArray]:
        """Site energies V_n (n,), eV, and dV_n / dr_pc (n_pairs, 3), eV / angstrom; exactly zero beyond the cutoff."""
        energies, g_pc = self._call(self.kernels.gradients, environments)
        return energies, g_pc

    def hessian_blocks(self, environments: Environments, site_p: IntArray, pattern: BlockPattern) -> FloatArray:
        """Sum of all site Hessians as blocks on `pattern`, shape (n_blocks, 3, 3), eV / angstrom^2.

        Complex `r_pc` give complex blocks: one more derivative by complex step.

        Raises
        ------
        GeometryError
            The pattern lacks a block: its pair list was shorter than twice the cutoff.
        """
        dense: DenseHessians = self._call(self.kernels.hessians, environments)
        blocks, found = scatter_site_hessians(*dense, site_p, pattern.first_r, pattern.column_b)
        if not found:
            raise GeometryError(
                f"{self.name}: the sparsity pattern of the Hessian lacks a pair of sites that interact (through a "
                f"third); it must hold all pairs up to twice the cutoff, {2 * self.cutoff:g} A"
            )
        hessian: FloatArray = blocks
        return hessian

    def linearised(self, environments: Environments) -> Callable[[FloatArray], FloatArray]:
        """The map dr_pc -> dg_pc at these environments, one small matrix a site."""
        dense: DenseHessians = self._call(self.kernels.hessians, environments)

        def tangent(dr_pc: FloatArray) -> FloatArray:
            dg_pc: FloatArray = apply_site_hessians(*dense, dr_pc)
            return dg_pc

        return tangent

    def _call(self, kernel: Callable[..., Any], e: Environments) -> Any:
        return kernel(e.first_n, e.r_pc, e.species_n, e.species_p, self.constants)
