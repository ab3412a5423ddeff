"""Hessians and tangents of laws whose sites have few neighbours, from the dense Hessians of their site energies."""

from __future__ import annotations

from collections.abc import Callable

from parmlip.errors import GeometryError
from parmlip.potentials.base import BlockPattern, FloatArray, IntArray
from parmlip.potentials.kernels.triplets import apply_site_hessians, scatter_site_hessians

# first_k, pair_k: pairs within the cutoff by centre; first_x, h_x: the (m, m, 3, 3) Hessians, flat.
DenseSites = tuple[IntArray, IntArray, IntArray, FloatArray]


def assembled(dense: DenseSites, site_p: IntArray, pattern: BlockPattern, name: str, cutoff: float) -> FloatArray:
    """Sum of all site Hessians as blocks on `pattern`, shape (n_blocks, 3, 3), eV / angstrom^2."""
    blocks, found = scatter_site_hessians(*dense, site_p, pattern.first_r, pattern.column_b)
    if not found:
        raise GeometryError(
            f"{name}: the sparsity pattern of the Hessian lacks a pair of sites that interact (through a third); it "
            f"must hold all pairs up to twice the cutoff, {2 * cutoff:g} A"
        )
    hessian: FloatArray = blocks
    return hessian


def tangent_of(dense: DenseSites) -> Callable[[FloatArray], FloatArray]:
    """The map dr_pc -> dg_pc, one small matrix a site."""

    def tangent(dr_pc: FloatArray) -> FloatArray:
        dg_pc: FloatArray = apply_site_hessians(*dense, dr_pc)
        return dg_pc

    return tangent
