"""Observations on the perfect crystal: derivatives of the site energy and of the Cauchy-Born energy density.

Local: one unit cell, the same on every rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np

from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.errors import ConfigError
from parmlip.fit.observations import RealArray
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.mechanics.domain import species_indices
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.base import BlockPattern, Environments, SiteLaw

_STEP: Final = 1e-20


@dataclass(frozen=True)
class Crystal:
    """A perfect crystal."""

    lattice: Lattice
    lattice_constant: float  # angstrom
    species: tuple[str, ...]  # one symbol per slot of the lattice


@dataclass(frozen=True)
class SiteEnergyDerivative:
    """d^order V / d(neighbour positions) of one basis site in the perfect crystal.

    The lattice moves in d components; neighbours are those within `radius`, in the order of `find_pairs`. Orders 0, 1,
    2 are complete ((k d)^order components, the last two indices of order 2 both running); order 3 is the matrix of
    order 2 differentiated along one random unit vector drawn from `seed`, since (k d)^3 rows cannot be afforded.

    Every component is multiplied by prod_i exp(2 gamma |rho_i|) over its neighbours rho_i: the inverse of the weights
    of QM/MM matching conditions (Chen, Ortner, Wang 2021, eq. (3.1)). The random vector of order 3 has no weight.
    """

    crystal: Crystal
    order: int  # 0 to 3
    radius: float  # angstrom, at least the cutoffs of the reference and of the basis
    site: int = 0  # basis site of the lattice
    gamma: float = 0.0  # 1 / angstrom
    seed: int = 0  # of the random vector of order 3

    def __post_init__(self) -> None:
        """Refuse an order that is not offered."""
        if self.order not in (0, 1, 2, 3):
            raise ConfigError(f"derivatives of the site energy are of order 0 to 3, not {self.order}")

    def values(self, law: SiteLaw) -> RealArray:
        """(n_observations,) eV / angstrom^order."""
        here, d = self._environment(law.species, law.cutoff), self.crystal.lattice.dimension
        if self.order == 0:
            return np.array(law.site_energies(here), dtype=float)
        if self.order == 1:
            return self._weighted(np.array(law.site_gradients(here)[1], dtype=float)[:, :d].reshape(-1, 1))[:, 0]
        k = len(here.r_pc) + 1
        dense = BlockPattern(np.arange(k + 1) * k, np.tile(np.arange(k), k))
        if self.order == 3:
            here = here.with_vectors(here.r_pc + 1j * _STEP * self._probe(here))
        block = law.hessian_blocks(here, np.arange(1, k), dense).reshape(k, k, 3, 3)[1:, 1:, :d, :d]
        matrix = block.transpose(0, 2, 1, 3).reshape((k - 1) * d, -1)
        real = matrix.imag / _STEP if self.order == 3 else matrix.real
        return self._weighted(np.asarray(real).reshape(-1, 1))[:, 0]

    def rows(self, basis: ACEBasis) -> RealArray:
        """(n_observations, n_basis): orders 0, 1 by the design kernel, 2 by its complex step, 3 each function alone."""
        if self.order == 3:
            return _function_by_function(basis, self.values)
        here, d = self._environment(basis.species, basis.cutoff), self.crystal.lattice.dimension
        if self.order == 0:
            return np.array(basis.site_values(here), dtype=float)
        n = len(here.r_pc)

        def gradient(around: Environments) -> RealArray:
            """Derivatives by the neighbours' positions, ((n d), n_basis): minus the forces that one site makes."""
            force = basis.design(around, np.arange(1, n + 1), n + 1)[1]
            return np.asarray(-force[1:, :d].reshape(n * d, -1))

        if self.order == 1:
            return self._weighted(gradient(here))
        second = np.zeros((n * d, n * d, basis.n_basis))
        for x in range(n * d):
            step_pc = np.zeros_like(here.r_pc)
            step_pc[x // d, x % d] = 1.0
            second[x] = gradient(here.with_vectors(here.r_pc + 1j * _STEP * step_pc)).imag / _STEP
        return self._weighted(second.reshape(-1, basis.n_basis))

    def _environment(self, species: tuple[str, ...], cutoff: float) -> Environments:
        if cutoff > self.radius:
            raise ConfigError(f"radius {self.radius:g} A of the observed neighbours is below the cutoff {cutoff:g} A")
        lattice = self.crystal.lattice
        cell_cc = lattice.cell(self.crystal.lattice_constant)
        positions_bc = lattice.basis_bc @ cell_cc
        pairs = find_pairs(cell_cc, lattice.periodic, positions_bc, self.radius)
        mine = slice(pairs.first_n[self.site], pairs.first_n[self.site + 1])
        r_pc = pair_vectors(pairs, cell_cc, positions_bc)[mine]
        species_b = species_indices(self.crystal.species, species)[lattice.slot_b]
        return Environments(
            np.array([0, len(r_pc)]), r_pc, species_b[self.site : self.site + 1], species_b[pairs.site_p[mine]]
        )

    def _probe(self, here: Environments) -> RealArray:
        d = self.crystal.lattice.dimension
        probe_pc = np.zeros(here.r_pc.shape)
        probe_pc[:, :d] = np.random.default_rng(self.seed).standard_normal((len(probe_pc), d))
        return probe_pc / sqrt(float(np.vdot(probe_pc, probe_pc)))

    def _weighted(self, rows: RealArray) -> RealArray:
        """Rows of order 1, 2 or 3 times the weights of their one or two running neighbours."""
        if self.gamma == 0.0:
            return rows
        lattice, symbols = self.crystal.lattice, tuple(dict.fromkeys(self.crystal.species))
        r_pc = self._environment(symbols, 0.0).r_pc
        one = np.repeat(np.exp(2.0 * self.gamma * np.linalg.norm(r_pc, axis=1)), lattice.dimension)
        return rows * (one if self.order == 1 else np.outer(one, one).ravel())[:, None]


@dataclass(frozen=True)
class CauchyBornDerivative:
    """Derivatives of W(F, p) by all parameters of `CauchyBorn`, orders 1 to 4, eV / angstrom^d; clamped.

    Order 4 is found by differences (`CauchyBorn.fourth` tells their error). A relaxed second derivative is not linear
    in the coefficients: match the joint tensors instead, of which it is a function.
    """

    crystal: Crystal
    order: int

    def __post_init__(self) -> None:
        """Refuse an order that is not offered."""
        if self.order not in (1, 2, 3, 4):
            raise ConfigError(f"derivatives of the Cauchy-Born energy density are of order 1 to 4, not {self.order}")

    def values(self, law: SiteLaw) -> RealArray:
        """(n_parameters^order,)."""
        c = self.crystal
        density = CauchyBorn(law, c.lattice, c.lattice_constant, c.species)
        if self.order == 4:
            return density.fourth().tensor.ravel()
        return (density.first, density.second, density.third)[self.order - 1]().ravel()

    def rows(self, basis: ACEBasis) -> RealArray:
        """(n_parameters^order, n_basis), function by function."""
        return _function_by_function(basis, self.values)


def _function_by_function(basis: ACEBasis, values: Callable[[SiteLaw], RealArray]) -> RealArray:
    return np.column_stack([values(ACE(basis, unit_k)) for unit_k in np.eye(basis.n_basis)])
