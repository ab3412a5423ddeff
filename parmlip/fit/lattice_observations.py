"""Observations on the perfect crystal: derivatives of the site energy, of the force, of the Cauchy-Born energy density.

Each falls into parts, which ranks share; rows of a part are made for all basis functions at once. Local.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from math import factorial, prod
from typing import Final, Protocol, cast

import numpy as np

from parmlip.errors import ConfigError
from parmlip.fit.observations import IntArray, LinearBasis, RealArray
from parmlip.fit.parameter_orbits import component_orbits
from parmlip.fit.patches import Crystal, Patch, Tangent, along, patch_of, symmetries, tuple_orbits
from parmlip.mechanics.cauchy_born import FOURTH_STEP, CauchyBorn
from parmlip.potentials.base import SiteLaw

# The configuration type of these observations.
LATTICE: Final = "lattice"
_PROBE_SEED: Final = 20260


class LatticeObservation(Protocol):
    """What a law says about the perfect crystal, linear in the coefficients; rows and values are in one order."""

    @property
    def n_parts(self) -> int:
        """Number of parts."""

    def n_rows(self, part: int) -> int:
        """Number of observations of a part."""

    def values(self, law: SiteLaw, part: int | None = None) -> RealArray:
        """(n_observations,) of one part, or of all one after the other."""

    def rows(self, basis: LinearBasis, part: int | None = None) -> RealArray:
        """(n_observations, n_basis)."""


@dataclass(frozen=True)
class SiteEnergyDerivative:
    """d^order V / d(positions of neighbours) of one basis site in the perfect crystal: eps^E_order of QM/MM coupling.

    Tuples of neighbours that an isometry of the crystal or a change of order takes into each other have the same
    derivatives up to a rotation: one of each orbit is observed, times the square root of the orbit's size. The sum of
    squares is that over all tuples. Every component is multiplied by prod_i exp(gamma |rho_i|) over its neighbours
    rho_i, so that squares have the inverse of the weights (3.2), prod_i exp(-2 gamma |rho_i|).

    References
    ----------
    Chen, Ortner, Wang (2021), QM/MM III, eq. (3.1).
    """

    crystal: Crystal
    order: int  # 0 to 3
    radius: float  # angstrom, at least the cutoffs of the reference and of the basis
    site: int = 0  # basis site of the lattice
    gamma: float = 0.0  # 1 / angstrom

    def __post_init__(self) -> None:
        """Refuse an order that is not offered."""
        if self.order not in (0, 1, 2, 3):
            raise ConfigError(f"derivatives of the site energy are of order 0 to 3, not {self.order}")

    @cached_property
    def patch(self) -> Patch:
        """The site and its neighbours."""
        return patch_of(self.crystal, self.site, self.radius)

    @cached_property
    def _orbits(self) -> tuple[IntArray, RealArray]:
        """Tuples of neighbours, and what their components are multiplied with."""
        to_ga = symmetries(self.patch, self.crystal.lattice.dimension)[:, 1:] - 1
        tuples, counts = tuple_orbits(to_ga, self.order)
        return tuples + 1, _scales(self.patch, tuples + 1, counts, self.gamma)

    @cached_property
    def _prefixes(self) -> IntArray:
        return np.unique(self._orbits[0][:, :-1], axis=0)

    @property
    def n_parts(self) -> int:
        """One for each set of all neighbours but the last."""
        return 1 if self.order < 2 else len(self._prefixes)

    def n_rows(self, part: int) -> int:
        """Number of observations of a part."""
        if self.order == 0:
            return 1
        mine = (self._orbits[0][:, :-1] == self._prefixes[part]).all(axis=1)
        return int(np.count_nonzero(mine)) * self.crystal.lattice.dimension**self.order

    def values(self, law: SiteLaw, part: int | None = None) -> RealArray:
        """(n_observations,) eV / angstrom^order."""
        _check_radius(self.radius, law.cutoff)
        if self.order == 0:
            return np.array(law.site_energies(self.patch.environments(law.species)), dtype=float)
        if self.order == 1:
            return self._first(self.patch.gradient_of_law(law)[..., None])[:, 0]
        tangent = self.patch.tangent_of_law(law)
        return _parts(self, part, lambda p: self._part(lambda r, dr: tangent(r, dr)[..., None], law.cutoff, p))[:, 0]

    def rows(self, basis: LinearBasis, part: int | None = None) -> RealArray:
        """(n_observations, n_basis)."""
        _check_radius(self.radius, basis.cutoff)
        if self.order == 0:
            return np.array(basis.site_values(self.patch.environments(basis.species)), dtype=float)
        if self.order == 1:
            return self._first(self.patch.gradient_of_basis(basis))
        tangent = self.patch.tangent_of_basis(basis)
        return _parts(self, part, lambda p: self._part(tangent, basis.cutoff, p))

    def _first(self, gradient_ack: RealArray) -> RealArray:
        tuples, scale_t = self._orbits
        d = self.crystal.lattice.dimension
        chosen = gradient_ack[tuples[:, 0], :d] * scale_t[:, None, None]
        return np.asarray(chosen.reshape(-1, gradient_ack.shape[2]))

    def _part(self, tangent: Tangent, cutoff: float, part: int) -> RealArray:
        tuples, scale_t = self._orbits
        prefix = self._prefixes[part]
        mine = (tuples[:, :-1] == prefix).all(axis=1)
        return tuple_rows(self.patch, tangent, cutoff, self.crystal.lattice.dimension, prefix, tuples[mine, -1],
                           scale_t[mine])  # fmt: skip


@dataclass(frozen=True)
class ForceDerivative:
    """d^order F_0 / d(positions of sites) of the force on one basis site in the perfect crystal: eps^F_order.

    Tuples are reduced by symmetry and weighted as for `SiteEnergyDerivative`, also over the site itself (distance 0).
    Orders 1 and 2 are complete. Order 3 is taken twice along each of `probes` random displacements v of all sites, of
    length exp(-|x| / nearest distance): d^3 F_0 / (dv dv dx_rho) for every rho, without weights and symmetry.

    References
    ----------
    Chen, Ortner, Wang (2021), QM/MM III, eq. (3.3).
    """

    crystal: Crystal
    order: int  # 1 to 3
    radius: float  # angstrom, at least the cutoffs of the reference and of the basis
    site: int = 0
    gamma: float = 0.0  # 1 / angstrom
    probes: int = 2  # of order 3

    def __post_init__(self) -> None:
        """Refuse an order that is not offered."""
        if self.order not in (1, 2, 3):
            raise ConfigError(f"derivatives of the force are of order 1 to 3, not {self.order}")

    @cached_property
    def patch(self) -> Patch:
        """All centres that see the site."""
        return patch_of(self.crystal, self.site, self.radius, self.radius)

    @cached_property
    def _orbits(self) -> tuple[IntArray, RealArray]:
        """Tuples of sites that a centre sees together, and what their components are multiplied with."""
        tuples, counts = tuple_orbits(symmetries(self.patch, self.crystal.lattice.dimension), self.order)
        seen_na = self.patch.seen_na
        together = np.array([seen_na[:, t].all(axis=1).any() for t in tuples])
        tuples, counts = tuples[together], counts[together]
        return tuples, _scales(self.patch, tuples, counts, self.gamma)

    @property
    def n_parts(self) -> int:
        """One, one for each displaced site, or one for each probe."""
        return len(np.unique(self._orbits[0][:, 0])) if self.order == 2 else (1 if self.order == 1 else self.probes)

    def n_rows(self, part: int) -> int:
        """Number of observations of a part."""
        d = self.crystal.lattice.dimension
        if self.order == 3:
            return d * d * self.patch.n_sites
        first = self._orbits[0][:, 0]
        n = len(first) if self.order == 1 else np.count_nonzero(first == np.unique(first)[part])
        return int(n) * d ** (self.order + 1)

    def values(self, law: SiteLaw, part: int | None = None) -> RealArray:
        """(n_observations,) eV / angstrom^(order + 1)."""
        _check_radius(self.radius, law.cutoff)

        def tangent(patch: Patch) -> Tangent:
            of_patch = patch.tangent_of_law(law)
            return lambda r, dr: of_patch(r, dr)[..., None]

        return _parts(self, part, lambda p: self._part(tangent, law.cutoff, p))[:, 0]

    def rows(self, basis: LinearBasis, part: int | None = None) -> RealArray:
        """(n_observations, n_basis)."""
        _check_radius(self.radius, basis.cutoff)
        return _parts(self, part, lambda p: self._part(lambda x: x.tangent_of_basis(basis), basis.cutoff, p))

    def _part(self, tangent_of: Callable[[Patch], Tangent], cutoff: float, part: int) -> RealArray:
        d = self.crystal.lattice.dimension
        if self.order == 3:
            return -self._probed(tangent_of(self.patch), cutoff, part)
        tuples, scale_t = self._orbits
        if self.order == 1:
            return -tuple_rows(self.patch, tangent_of(self.patch), cutoff, d, [0], tuples[:, 0], scale_t)
        moved = np.unique(tuples[:, 0])[part]
        mine = tuples[:, 0] == moved
        patch, new_a = self.patch.only(self.patch.seen_na[:, moved])  # others do not feel it
        return -tuple_rows(patch, tangent_of(patch), cutoff, d, new_a[[0, moved]], new_a[tuples[mine, 1]],
                            scale_t[mine])  # fmt: skip

    def _probed(self, tangent: Tangent, cutoff: float, part: int) -> RealArray:
        patch, d = self.patch, self.crystal.lattice.dimension
        v_ac = np.zeros((patch.n_sites, 3))
        v_ac[:, :d] = np.random.default_rng([_PROBE_SEED, part]).standard_normal((patch.n_sites, d))
        distance_a = np.linalg.norm(patch.positions_ac, axis=1)
        v_ac *= (np.exp(-distance_a / distance_a[1]) / np.linalg.norm(v_ac, axis=1))[:, None]
        dr_pc = patch.bonds(v_ac)
        blocks = []
        for a in range(d):
            change = along(tangent, patch.r_pc, patch.bonds(_unit(patch, 0, a)), [dr_pc, dr_pc], cutoff)
            blocks.append(change[:, :d].reshape(-1, change.shape[2]))
        return np.concatenate(blocks)


@dataclass(frozen=True)
class CauchyBornDerivative:
    """Derivatives of W(F, p) by all parameters of `CauchyBorn`, orders 1 to 4, eV / angstrom^d; clamped.

    Symmetric components are there once, times the square root of how often they stand in the tensor; from order 3 on
    one of each orbit of the isometries, times the square root of the orbit's size. With eps^V_j = d^(j+1) W, order 2
    gives the elastic constants. A relaxed second derivative is not linear in the coefficients: match the joint tensors
    instead, of which it is a function. Order 4 is found by differences of the third, for law and rows alike
    (`CauchyBorn.fourth` tells their error).
    """

    crystal: Crystal
    order: int

    def __post_init__(self) -> None:
        """Refuse an order that is not offered."""
        if self.order not in (1, 2, 3, 4):
            raise ConfigError(f"derivatives of the Cauchy-Born energy density are of order 1 to 4, not {self.order}")

    @property
    def _n(self) -> int:
        lattice = self.crystal.lattice
        return lattice.dimension**2 + lattice.n_basis * lattice.dimension

    @property
    def n_parts(self) -> int:
        """One for each different parameter (order 3) or pair of them (order 4) behind the first two."""
        return 1 if self.order < 3 else int(self._orbits[2].max()) + 1

    @cached_property
    def _orbits(self) -> tuple[IntArray, RealArray, IntArray]:
        """Tuples of parameters, what their components are multiplied with, the part of each."""
        tuples, scale_o = component_orbits(self.crystal, *sorted_tuples(self._n, self.order))
        part_o = np.unique(tuples[:, 2:], axis=0, return_inverse=True)[1]
        return tuples, scale_o, part_o.reshape(-1)

    def components(self, part: int) -> tuple[IntArray, RealArray]:
        """Tuples of parameters of a part, and what their components are multiplied with."""
        if self.order < 3:
            return sorted_tuples(self._n, self.order)
        tuples, scale_o, part_o = self._orbits
        return tuples[part_o == part], scale_o[part_o == part]

    def n_rows(self, part: int) -> int:
        """Number of observations of a part."""
        return len(self.components(part)[0])

    def values(self, law: SiteLaw, part: int | None = None) -> RealArray:
        """(n_observations,)."""
        c = self.crystal
        density = CauchyBorn(law, c.lattice, c.lattice_constant, c.species)
        if self.order < 3:
            index, scale_o = sorted_tuples(self._n, self.order)
            return np.asarray((density.first, density.second)[self.order - 1]()[tuple(index.T)] * scale_o)

        def one(p: int) -> RealArray:
            index, scale_o = self.components(p)
            last = index[0, 2:].tolist()
            tensor = density.third_along(*last) if self.order == 3 else density.fourth_along(*last)[0]
            return np.asarray(tensor[index[:, 0], index[:, 1]] * scale_o)

        return _parts(self, part, one)

    def rows(self, basis: LinearBasis, part: int | None = None) -> RealArray:
        """(n_observations, n_basis)."""
        c = self.crystal
        density = CauchyBorn(cast(SiteLaw, _NoLaw(basis)), c.lattice, c.lattice_constant, c.species)
        e, direction_xpc = density.environments, density.direction_xpc
        n, pairs = len(e.first_n) - 1, len(e.r_pc)
        site_p = n + np.arange(pairs)  # each pair's neighbour for itself: the forces are gradients by the pairs

        def slopes(r_pc: RealArray, imaginary_pc: RealArray | None = None) -> RealArray:
            moved = e.with_vectors(r_pc if imaginary_pc is None else r_pc + 1e-20j * imaginary_pc)
            force = basis.design(moved, site_p, n + pairs)[1][n:]
            gradient = -force if imaginary_pc is None else force.imag / -1e-20
            return np.asarray(np.tensordot(direction_xpc, gradient, 2) / density.volume)

        def one(p: int) -> RealArray:
            index, scale_o = self.components(p)
            if self.order == 1:
                return np.asarray(slopes(e.r_pc) * scale_o[:, None])
            seen, place_o = np.unique(index[:, 1], return_inverse=True)

            def higher(r_pc: RealArray, others: list[RealArray]) -> RealArray:
                """By the first two parameters of every tuple and along `others`."""
                by_y = [along(slopes, r_pc, direction_xpc[y], others, basis.cutoff) for y in seen]
                return np.asarray([by_y[y][x] for x, y in zip(index[:, 0], place_o, strict=True)])

            others = [direction_xpc[z] for z in index[0, 2:]]
            if self.order < 4:
                return higher(e.r_pc, others) * scale_o[:, None]
            dr_pc = others.pop()  # as `CauchyBorn.fourth_along` does
            coarse, fine = (
                (higher(e.r_pc + h * dr_pc, others) - higher(e.r_pc - h * dr_pc, others)) / (2.0 * h)
                for h in (FOURTH_STEP, FOURTH_STEP / 2)
            )
            return np.asarray((4.0 * fine - coarse) / 3.0 * scale_o[:, None])

        return _parts(self, part, one)


class _NoLaw:
    """Cutoff and species of a basis, for the geometry of `CauchyBorn`."""

    closest = 0.0

    def __init__(self, basis: LinearBasis) -> None:
        self.cutoff, self.species = basis.cutoff, basis.species


def lattice_observations(
    names: tuple[str, ...], crystal: Crystal, radius: float, gamma: float
) -> Mapping[str, tuple[LatticeObservation, ...]]:
    """The observations that weights name, for every inequivalent site where they belong to one."""
    found: dict[str, tuple[LatticeObservation, ...]] = {}
    for name in names:
        kind, _, order = name.rpartition("_")
        if kind == "site_energy":
            found[name] = tuple(
                SiteEnergyDerivative(crystal, int(order), radius, b, gamma) for b in crystal.inequivalent
            )
        elif kind == "force_derivative":
            found[name] = tuple(ForceDerivative(crystal, int(order), radius, b, gamma) for b in crystal.inequivalent)
        elif kind == "cauchy_born":
            found[name] = (CauchyBornDerivative(crystal, int(order)),)
    return found


def tuple_rows(
    patch: Patch, tangent: Tangent, cutoff: float, d: int, prefix: IntArray | list[int], last: IntArray,
    scale_t: RealArray,
) -> RealArray:  # fmt: skip
    """Derivatives by the sites of `prefix` (all components) and each of `last`, components running fastest."""
    blocks = []
    for components in np.ndindex(*[d] * len(prefix)):
        first, *others = (patch.bonds(_unit(patch, i, a)) for i, a in zip(prefix, components, strict=True))
        change_ack = along(tangent, patch.r_pc, first, others, cutoff)
        blocks.append((change_ack[last, :d] * scale_t[:, None, None]).reshape(-1, change_ack.shape[2]))
    return np.concatenate(blocks)


def _unit(patch: Patch, site: int, component: int) -> RealArray:
    v_ac = np.zeros((patch.n_sites, 3))
    v_ac[site, component] = 1.0
    return v_ac


def _scales(patch: Patch, tuples: IntArray, counts: IntArray, gamma: float) -> RealArray:
    distance_t = np.linalg.norm(patch.positions_ac, axis=1)[tuples].sum(axis=1)
    return np.asarray(np.sqrt(counts) * np.exp(gamma * distance_t))


def sorted_tuples(n: int, order: int) -> tuple[IntArray, RealArray]:
    """Tuples in rising order, and the square root of how many orderings each has."""
    tuples = list(combinations_with_replacement(range(n), order))
    orderings = [factorial(order) // prod(factorial(t.count(i)) for i in set(t)) for t in tuples]
    return np.array(tuples, dtype=np.int64).reshape(-1, order), np.sqrt(orderings)


def _parts(observation: LatticeObservation, part: int | None, make: Callable[[int], RealArray]) -> RealArray:
    """What `make` gives for a part, or for all."""
    if part is not None:
        return np.asarray(make(part))
    return np.concatenate([make(p) for p in range(observation.n_parts)])


def _check_radius(radius: float, cutoff: float) -> None:
    if cutoff > radius:
        raise ConfigError(f"radius {radius:g} A of the observed neighbours is below the cutoff {cutoff:g} A")
