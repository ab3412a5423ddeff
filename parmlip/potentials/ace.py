"""The linear atomic cluster expansion: its basis and the law of given coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.errors import ConfigError, DataError
from parmlip.potentials.ace_angular import Harmonics
from parmlip.potentials.ace_coupling import Couplings
from parmlip.potentials.ace_coupling_cache import cached_couplings
from parmlip.potentials.ace_products import ProductList, build_product_list, function_tables
from parmlip.potentials.ace_radial import Radial
from parmlip.potentials.base import BlockPattern, Environments, FloatArray, IntArray, complex_step
from parmlip.potentials.kernels.ace_pairs import OneParticleTables
from parmlip.potentials.kernels.ace_products import FunctionTables
from parmlip.potentials.kernels.ace_sites import basis_values, design_rows, energies_and_gradients, site_hessians
from parmlip.potentials.zbl import ZBL

# In units of r0. Pair functions go on below this distance, but are orthonormal above it, about where atoms are: from
# r_in = r0 / 2 on, where there are none, twelve of them had coefficients of 2e8 in place of 1e2 eV (W).
PAIR_INNER: Final = 0.8


@dataclass(frozen=True)
class ACEBasis:
    """Invariant polynomials B_k in A_znlm = sum over neighbours of species z of P_n(r) Y_lm, for sites of any species.

    Index of a basis function: blocks by the species of the centre; within a block the one-body function (if asked for),
    then by correlation order, then by the sorted tuple of slots (n, l, z), then by the coupling
    (`ace_coupling.build_couplings`); last the pair functions (if asked for) by (n, z).
    A site has values only in the block of its own species.

    Pair functions stand in place of those of order one, which they would nearly repeat: sums over neighbours of radial
    functions of their own, of another cutoff and with no inner end, so that they do not vanish where atoms are pressed
    together; or, beside a repulsive core that they would outweigh there, with the inner end of the others.

    References
    ----------
    Drautz, Phys. Rev. B 99, 014104 (2019); Bachmayr et al., J. Comput. Phys. 454, 110946 (2022).
    """

    species: tuple[str, ...]
    correlation_order: int  # 1 to 4
    total_degree: float | tuple[float, ...]  # sum over factors of n + weight_l l is at most this; or one for each order
    cutoff: float  # angstrom, largest distance at which sites interact
    r0: float  # angstrom, length of the radial transform: about the nearest-neighbour distance
    r_in: float = -1.0  # angstrom, inner end of the radial functions; negative: r0 / 2
    p_cut: int = 2
    p_in: int = 2
    weight_l: float = 1.5
    one_body: bool = False
    transform_power: int = 2
    dimension: int = 3  # 2: only |m| = l, invariant under rotations about z alone (`ace_coupling.planar_invariants`)
    pair_degree: int = 0  # pair functions of each pair of species
    pair_cutoff: float = 0.0  # angstrom, 0: `cutoff`; the larger of this and the next is `cutoff`
    many_body_cutoff: float = 0.0  # angstrom, 0: `cutoff`
    pair_p_in: int = 0  # power of the pair functions' inner end at r_in; 0: none
    repulsion: str = "none"  # "zbl": laws of this basis have the fixed part `ZBL` beside their functions
    repulsion_range: tuple[float, float] = (0.0, 0.0)  # angstrom, of its switch

    def __post_init__(self) -> None:
        """Refuse impossible parameters; set the default of r_in."""
        if not self.species or len(set(self.species)) != len(self.species):
            raise ConfigError(f"ace: species {self.species} must be named, each once")
        if self.correlation_order not in (1, 2, 3, 4):
            raise ConfigError(f"ace: correlation_order = {self.correlation_order} must be 1, 2, 3 or 4")
        if not isinstance(self.total_degree, (int, float)):
            object.__setattr__(self, "total_degree", tuple(self.total_degree))
            if len(self.degrees) != self.correlation_order:
                raise ConfigError(
                    f"ace: total_degree = {list(self.degrees)} must have one number for each of the "
                    f"{self.correlation_order} correlation orders"
                )
        if min(self.degrees) < 1:
            raise ConfigError(f"ace: total_degree = {self.total_degree} must be at least 1")
        if self.dimension not in (2, 3):
            raise ConfigError(f"ace: dimension = {self.dimension} must be 2 or 3")
        if self.weight_l <= 0.0:
            raise ConfigError(f"ace: weight_l = {self.weight_l} must be positive")
        if self.r_in < 0.0:
            object.__setattr__(self, "r_in", 0.5 * self.r0)
        if self.pair_degree < 0 or self.pair_p_in < 0:
            raise ConfigError(f"ace: pair_degree = {self.pair_degree}, pair_p_in = {self.pair_p_in} must be at least 0")
        if self.pair_degree and self.correlation_order == 1:
            raise ConfigError(
                "ace: pair functions stand in place of those of order one: correlation_order must be above 1"
            )
        reach = [self.many_body_cutoff or self.cutoff, *([self.pair_cutoff or self.cutoff] if self.pair_degree else [])]
        if max(reach) != self.cutoff:
            raise ConfigError(f"ace: cutoff = {self.cutoff} must be {max(reach)}, the larger of those of its functions")
        if self.repulsion not in ("none", "zbl"):
            raise ConfigError(f'ace: repulsion = "{self.repulsion}" must be "none" or "zbl"')
        if self.repulsion != "none" and self.repulsion_range[1] > self.cutoff:
            raise ConfigError(f"ace: repulsion_range {self.repulsion_range} must end within the cutoff {self.cutoff}")
        _ = self.radial, self.pairs, self.fixed_part

    @property
    def degrees(self) -> tuple[float, ...]:
        """The total degree of every correlation order."""
        if isinstance(self.total_degree, tuple):
            return self.total_degree
        return (self.total_degree,) * self.correlation_order

    @property
    def n_basis(self) -> int:
        """Number of basis functions, all blocks together."""
        return len(self.species) * self.n_block

    @property
    def n_block(self) -> int:
        """Number of basis functions of one centre species."""
        return len(self.couplings.slots_k) + int(self.one_body) + self.n_pair

    @property
    def n_pair(self) -> int:
        """Number of pair functions of one centre species."""
        return self.pair_degree * len(self.species)

    @cached_property
    def pairs(self) -> ACEBasis | None:
        """The pair functions as a basis of its own, of order one; None if there are none."""
        if not self.pair_degree:
            return None
        cutoff = self.pair_cutoff or self.cutoff
        inner = self.r_in if self.pair_p_in else min(max(self.r_in, PAIR_INNER * self.r0), PAIR_INNER * cutoff)
        return ACEBasis(
            self.species, 1, self.pair_degree, cutoff, self.r0, inner, self.p_cut, self.pair_p_in,
            transform_power=self.transform_power,
        )  # fmt: skip

    @cached_property
    def couplings(self) -> Couplings:
        """The invariants, the same for every centre species."""
        degrees = (0.0, *self.degrees[1:]) if self.pair_degree else self.degrees
        return cached_couplings(len(self.species), degrees, self.weight_l, self.dimension)

    @cached_property
    def fixed_part(self) -> ZBL | None:
        """What laws of this basis have beside its functions, not multiplied by coefficients; None if nothing."""
        return None if self.repulsion == "none" else ZBL(self.species, *self.repulsion_range)

    @property
    def linear_part(self) -> ACEBasis:
        """The same functions, of laws without a fixed part."""
        return replace(self, repulsion="none", repulsion_range=(0.0, 0.0))

    @cached_property
    def radial(self) -> Radial:
        """The radial functions, the same for every pair of species."""
        n_max = int(max(self.degrees) + 1e-9)
        cutoff = self.many_body_cutoff or self.cutoff
        return Radial(n_max, cutoff, self.r0, self.r_in, self.p_cut, self.p_in, self.transform_power)

    @cached_property
    def order_k(self) -> IntArray:
        """Correlation order of every basis function, 0 for one-body, shape (n_basis,)."""
        orders = [0] * int(self.one_body) + [len(slots) for slots in self.couplings.slots_k] + [1] * self.n_pair
        return np.tile(np.array(orders, np.int64), len(self.species))

    def smoothness(self, power: float = 4.0, weight: float | None = None) -> FloatArray:
        """Sum over factors of n^power + weight l^power of every function, 1 for one-body, shape (n_basis,).

        How rough a function is: the scale of the prior that asks for smooth fits. `weight` is `weight_l` by default.
        """
        w = self.weight_l if weight is None else weight
        rough = [1.0] * int(self.one_body)
        rough += [sum(n**power + w * ell**power for n, ell, _ in slots) for slots in self.couplings.slots_k]
        if self.pairs is not None:
            rough += self.pairs.smoothness(power)[: self.n_pair].tolist()
        return np.tile(np.array(rough), len(self.species))

    @cached_property
    def one_particle_tables(self) -> OneParticleTables:
        """Parameters of the one-particle functions as the kernels take them."""
        radial, one_particle = self.radial, self.couplings.one_particle
        harmonics = Harmonics(len(one_particle.n_max_l) - 1)
        inner = self.r_in if self.p_in > 0 else 0.0
        index, coefficient = harmonics.gradient
        return OneParticleTables(
            limits=np.array([radial.cutoff, inner, self.r0, *radial.ends]),
            powers=np.array([self.transform_power, self.p_cut, self.p_in], np.int64),
            recursion_nk=np.ascontiguousarray(radial.recursion_nk[: one_particle.n_max_l.max()]),
            n_species=len(self.species),
            n_max_l=one_particle.n_max_l,
            first_l=one_particle.first_l,
            diagonal_m=harmonics.diagonal_m,
            upward_hk=harmonics.upward_hk,
            gradient_index=index,
            gradient_coefficient=coefficient,
        )

    @cached_property
    def function_tables(self) -> FunctionTables:
        """The basis functions one by one as the kernels take them."""
        return function_tables(self.couplings)

    @cached_property
    def products(self) -> ProductList:
        """The list of products on which coefficients are folded."""
        return build_product_list(self.couplings)

    def site_values(self, environments: Environments) -> FloatArray:
        """Values B_nk of the basis at every centre, shape (n, n_basis), in the scalar type of `r_pc`."""
        e = environments
        tables, functions = self.one_particle_tables, self.function_tables
        values: FloatArray = basis_values(
            tables, functions, int(self.one_body), e.first_n, e.r_pc, e.species_n, e.species_p
        )
        if self.pairs is not None:
            values = np.ascontiguousarray(self._joined(values.T, self.pairs.site_values(e).T).T)
        return values

    def _joined(self, many_k: FloatArray, pair_k: FloatArray) -> FloatArray:
        """The functions' values, first axis, with the pair functions at the end of each block."""
        blocks = [of_k.reshape(len(self.species), -1, *of_k.shape[1:]) for of_k in (many_k, pair_k)]
        return np.concatenate(blocks, axis=1).reshape(self.n_basis, *many_k.shape[1:])

    def design(
        self, environments: Environments, site_p: IntArray, n_sites: int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Rows of the design matrix: energy, forces and virial of every basis function, summed over the centres.

        Parameters
        ----------
        environments : Environments
            Centre n is site n.
        site_p : ndarray, shape (n_pairs,)
            Site number of each pair's neighbour, below `n_sites`.
        n_sites : int

        Returns
        -------
        energy_k : ndarray, shape (n_basis,)
            Sum over centres of B_k.
        force_nck : ndarray, shape (n_sites, 3, n_basis)
            Minus the derivative of energy_k by the position of a site, 1 / angstrom. A transposed view: memory runs
            over (k, n, c), the column-major matrix that LAPACK wants.
        virial_vk : ndarray, shape (6, n_basis)
            Minus the derivative by strain, Voigt order xx yy zz yz xz xy; likewise a transposed view.
        """
        e = environments
        energy_k, force_knc, virial_kv = design_rows(
            self.one_particle_tables,
            self.function_tables,
            int(self.one_body),
            e.first_n,
            e.r_pc,
            e.species_n,
            e.species_p,
            site_p,
            n_sites,
        )
        if self.pairs is not None:
            pair_k, pair_nck, pair_vk = self.pairs.design(environments, site_p, n_sites)
            energy_k, virial_kv = self._joined(energy_k, pair_k), self._joined(virial_kv, pair_vk.T)
            force_knc = self._joined(force_knc, pair_nck.transpose(2, 0, 1))
        return energy_k, force_knc.transpose(1, 2, 0), virial_kv.T

    def parameters(self) -> dict[str, Any]:
        """All parameters as plain numbers and strings, for storage; `from_parameters` is the inverse."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> ACEBasis:
        """The basis that gave `parameters`."""
        known = {f.name for f in fields(cls)}
        later = {"dimension", "pair_degree", "pair_cutoff", "many_body_cutoff", "pair_p_in"}  # not in earlier files
        later |= {"repulsion", "repulsion_range"}
        if set(parameters) | later != known:
            raise DataError(f"ace: stored parameters {sorted(set(parameters) ^ known)} are unknown or missing")
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in parameters.items()}
        if isinstance(plain["total_degree"], (list, tuple, np.ndarray)):
            plain["total_degree"] = tuple(np.asarray(plain["total_degree"]).tolist())
        if "repulsion_range" in plain:
            low, high = (float(r) for r in plain["repulsion_range"])
            plain["repulsion_range"] = (low, high)
        return cls(**{**plain, "species": tuple(str(s) for s in parameters["species"])})


@dataclass(frozen=True, eq=False)
class ACE:
    """The site law V_n = sum_k coefficient_k B_k(n), and the basis' fixed part if it has one."""

    basis: ACEBasis
    coefficients: NDArray[np.float64] = field(repr=False)  # (n_basis,) eV

    def __post_init__(self) -> None:
        """Refuse a wrong number of coefficients, or values that are not finite."""
        if self.coefficients.shape != (self.basis.n_basis,):
            raise DataError(f"ace: {self.coefficients.shape} coefficients for {self.basis.n_basis} basis functions")
        if not np.all(np.isfinite(self.coefficients)):
            raise DataError(f"ace: {np.sum(~np.isfinite(self.coefficients))} coefficients are not finite")

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the law's species indices."""
        return self.basis.species

    @property
    def cutoff(self) -> float:
        """Largest distance at which two sites interact, angstrom."""
        return self.basis.cutoff

    @property
    def closest(self) -> float:
        """Inner end of the radial functions, angstrom; 0 if there is none, or if a fixed part repels below."""
        return self.basis.r_in if self.basis.p_in > 0 and self.basis.fixed_part is None else 0.0

    def with_one_body(self, energies: Mapping[str, float]) -> ACE:
        """The same law with an energy of each species added to every site of it, eV."""
        blocks = self.coefficients.reshape(len(self.species), self.basis.n_block)
        constant_s = np.array([energies[symbol] for symbol in self.species])
        if self.basis.one_body:
            constant_s, blocks = constant_s + blocks[:, 0], blocks[:, 1:]
        return ACE(replace(self.basis, one_body=True), np.column_stack([constant_s, blocks]).ravel())

    @cached_property
    def _folded(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """One-body energies (n_species,), and product weights: linear (n_species, n_x), quadratic (., n_terms).

        The quadratic ones also in the order of `ProductTables.partner_s`, each twice.
        """
        blocks = self.coefficients.reshape(len(self.species), self.basis.n_block)
        skipped, end = int(self.basis.one_body), self.basis.n_block - self.basis.n_pair
        constant = blocks[:, 0].copy() if skipped else np.zeros(len(self.species))
        folded = [self.basis.products.fold(block[skipped:end]) for block in blocks]
        linear, quadratic = np.array([first for first, _ in folded]), np.array([q for _, q in folded])
        return constant, linear, quadratic, np.ascontiguousarray(quadratic[:, self.basis.products.tables.term_s])

    @cached_property
    def _pair_law(self) -> ACE | None:
        """The pair functions with their coefficients; None if there are none."""
        if self.basis.pairs is None:
            return None
        blocks = self.coefficients.reshape(len(self.species), self.basis.n_block)
        return ACE(self.basis.pairs, blocks[:, -self.basis.n_pair :].ravel())

    def site_energies(self, environments: Environments) -> FloatArray:
        """Site energies V_n, shape (n,), eV."""
        return self._evaluate(environments, False)[0]

    def site_gradients(self, environments: Environments) -> tuple[FloatArray, FloatArray]:
        """Site energies V_n (n,), eV, and g_pc (n_pairs, 3), eV / angstrom, in the scalar type of `r_pc`."""
        return self._evaluate(environments, True)

    def _evaluate(self, e: Environments, with_gradients: bool) -> tuple[FloatArray, FloatArray]:
        constant, linear, _, both_ways = self._folded
        value_n, g_pc = energies_and_gradients(
            self.basis.one_particle_tables,
            self.basis.products.tables,
            constant,
            linear,
            both_ways,
            e.first_n,
            e.r_pc,
            e.species_n,
            e.species_p,
            with_gradients,
        )
        if self._pair_law is not None:
            pair_n, pair_pc = self._pair_law._evaluate(e, with_gradients)
            value_n, g_pc = value_n + pair_n, g_pc + pair_pc
        if self.basis.fixed_part is not None:
            fixed_n, fixed_pc = self.basis.fixed_part.site_gradients(e)
            value_n, g_pc = value_n + fixed_n, g_pc + fixed_pc if with_gradients else g_pc
        return value_n, g_pc

    def hessian_blocks(self, environments: Environments, site_p: IntArray, pattern: BlockPattern) -> FloatArray:
        """Sum of all site Hessians as 3 x 3 blocks on `pattern`, shape (n_blocks, 3, 3), eV / angstrom^2."""
        e = environments
        blocks: FloatArray = np.zeros((len(pattern.column_b), 3, 3), e.r_pc.dtype)
        _, linear, quadratic, _ = self._folded
        failed = site_hessians(
            self.basis.one_particle_tables,
            self.basis.products.tables,
            linear,
            quadratic,
            e.first_n,
            e.r_pc,
            e.species_n,
            e.species_p,
            site_p,
            pattern.first_r,
            pattern.column_b,
            blocks,
        )
        if failed >= 0:
            raise ValueError(f"the block pattern lacks blocks of centre {failed}")
        if self._pair_law is not None:
            blocks += self._pair_law.hessian_blocks(environments, site_p, pattern)
        if self.basis.fixed_part is not None:
            blocks += self.basis.fixed_part.hessian_blocks(environments, site_p, pattern)
        return blocks

    def linearised(self, environments: Environments) -> Callable[[FloatArray], FloatArray]:
        """The map dr_pc -> dg_pc of `site_gradients` at these environments (both (n_pairs, 3)), exact to rounding."""
        return complex_step(self, environments)
