"""Embedded-atom laws: V = F(rho) + 1/2 sum phi(r), rho = sum of the neighbours' densities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from ase.data import atomic_numbers

from parmlip.errors import ConfigError, GeometryError
from parmlip.potentials.base import BlockPattern, Environments, FloatArray, IntArray
from parmlip.potentials.eam_constants import CONSTANT_SETS
from parmlip.potentials.kernels import eam as kernels
from parmlip.potentials.kernels.eam_forms import Forms, pair_functions

CORE_LEAST: Final = 0.5  # angstrom; tables begin at their first distance, built-in sets without an end at zero


@dataclass(frozen=True)
class EAM:
    """An embedded-atom law (alloy and Finnis-Sinclair kinds: the density may depend on both species of a pair).

    The density that a neighbour t makes at a centre s belongs to the ordered pair (s, t) of `forms`.

    References
    ----------
    Daw, Baskes, Phys. Rev. B 29, 6443 (1984), eq. (6).
    """

    species: tuple[str, ...]
    cutoff: float  # angstrom
    closest: float  # angstrom
    forms: Forms
    name: str  # built-in name or file
    citation: str

    def site_energies(self, environments: Environments) -> FloatArray:
        """Site energies V_n, shape (n,), eV."""
        e = environments
        energies: FloatArray = kernels.site_energies(e.first_n, e.r_pc, e.species_n, e.species_p, self.forms)
        return energies

    def site_gradients(self, environments: Environments) -> tuple[FloatArray, FloatArray]:
        """Site energies V_n (n,), eV, and dV_n / dr_pc (n_pairs, 3), eV / angstrom; exactly zero beyond the cutoff."""
        e = environments
        energies, g_pc = kernels.site_gradients(e.first_n, e.r_pc, e.species_n, e.species_p, self.forms)
        return energies, g_pc

    def hessian_blocks(self, environments: Environments, site_p: IntArray, pattern: BlockPattern) -> FloatArray:
        """Sum of all site Hessians as blocks on `pattern`, shape (n_blocks, 3, 3), eV / angstrom^2.

        Complex `r_pc` give complex blocks: one more derivative by complex step. Only pairs within the cutoff need to be
        in the pattern.

        Raises
        ------
        GeometryError
            The pattern lacks a block: its pair list was shorter than twice the cutoff.
        """
        e = environments
        e_pc, t_p, a_p, rho1_p, f2_n = kernels.factors(e.first_n, e.r_pc, e.species_n, e.species_p, self.forms)
        blocks, found = kernels.hessian_blocks(
            e.first_n, site_p, e_pc, t_p, a_p, rho1_p, f2_n, pattern.first_r, pattern.column_b
        )
        if not found:
            raise GeometryError(
                f"{self.name}: the sparsity pattern of the Hessian lacks a pair of sites that interact (through a "
                f"third); it must hold all pairs up to twice the cutoff, {2 * self.cutoff:g} A"
            )
        hessian: FloatArray = blocks
        return hessian

    def linearised(self, environments: Environments) -> Callable[[FloatArray], FloatArray]:
        """The map dr_pc -> dg_pc at these environments, factored: pair part + b F'' b^T (7 numbers a pair are kept)."""
        e = environments
        e_pc, t_p, a_p, rho1_p, f2_n = kernels.factors(e.first_n, e.r_pc, e.species_n, e.species_p, self.forms)

        def tangent(dr_pc: FloatArray) -> FloatArray:
            dg_pc: FloatArray = kernels.tangent(e.first_n, e_pc, t_p, a_p, rho1_p, f2_n, dr_pc)
            return dg_pc

        return tangent

    def tapered(self, start: float, cutoff: float) -> EAM:
        """The same law, phi and rho times 1 - x^4 (35 - 84 x + 70 x^2 - 20 x^3), x = (r - start) / (cutoff - start)."""
        if not 0.0 < start < cutoff <= self.cutoff:
            raise ConfigError(
                f"{self.name}: taper = [{start:g}, {cutoff:g}] must rise and stay in (0, {self.cutoff:g}] A"
            )
        range_k = self.forms.range_k.copy()
        range_k[:2] = cutoff, start
        return replace(self, cutoff=cutoff, forms=self.forms._replace(range_k=range_k))

    def with_core(self) -> EAM:
        """The same law beyond `closest`; below, phi goes over to the screened repulsion of nuclei.

        It is reached at half of `closest`, and a constant density at 0.85 of it: the largest between there and
        `closest`, for W-EAM4 that of the published table, 1.19354. Both have three continuous derivatives. The
        repulsion is that of Ziegler, Biersack and Littmark (`potentials.zbl`).

        Raises
        ------
        ConfigError
            The law holds at all distances.
        """
        if self.closest < CORE_LEAST:
            raise ConfigError(
                f'[reference] core = "zbl": is for laws that end at a shortest distance, such as W-EAM4; {self.name} '
                'goes on to zero distance; write core = "none"'
            )
        n, n_r = len(self.species), 1001
        core_stk, r_k = np.zeros((n, n, 3)), np.linspace(0.85, 1.0, n_r) * self.closest
        f_kq = np.empty((4, n_r))
        for s, symbol in enumerate(self.species):
            for t, neighbour in enumerate(self.species):
                pair_functions(self.forms, s, t, r_k, n_r, 1, f_kq)
                core_stk[s, t] = atomic_numbers[symbol], atomic_numbers[neighbour], f_kq[2].max()
        range_k = np.array([*self.forms.range_k[:2], 0.5 * self.closest, 0.85 * self.closest, self.closest])
        return replace(self, closest=0.0, forms=self.forms._replace(range_k=range_k, core_stk=core_stk))


def builtin(name: str, taper: tuple[float, float] | None = None) -> EAM:
    """An embedded-atom law from its published constants.

    Parameters
    ----------
    name : str
        A key of `CONSTANT_SETS`: W-EAM4, W-Zhou, Cu-Mishin2001.
    taper : (start, cutoff), optional
        Radial functions are brought to zero smoothly between the two, angstrom. W-Zhou without it ends abruptly at
        8 A, where phi is -6e-13 eV.

    Raises
    ------
    ConfigError
        Unknown name or impossible taper.
    """
    if name not in CONSTANT_SETS:
        raise ConfigError(f"unknown embedded-atom law {name!r}; built in are {', '.join(CONSTANT_SETS)}")
    c = CONSTANT_SETS[name]
    forms = Forms(
        pair_form_st=np.array([[c.pair_form]]),
        pair_start_st=np.array([[0]]),
        embedding_form_s=np.array([c.embedding_form]),
        embedding_start_s=np.array([len(c.pair_constants)]),
        constants=np.array(c.pair_constants + c.embedding_constants),
        range_k=np.array([c.cutoff, c.cutoff, 0.0, 0.0, 0.0]),
        core_stk=np.zeros((1, 1, 3)),
    )
    law = EAM((c.species,), c.cutoff, c.closest, forms, name, c.citation)
    return law if taper is None else law.tapered(*taper)
