"""Laws that are Taylor expansions of another law's site energies about given environments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.errors import ConfigError, GeometryError
from parmlip.potentials.base import BlockPattern, Environments, FloatArray, IntArray, SiteLaw
from parmlip.potentials.taylor_perturbation import HarmonicError

STEP = 1e-20  # of complex steps: no difference is taken


class ReferenceState(Protocol):
    """What a Taylor law expands about."""

    def vectors(self, environments: Environments) -> FloatArray:
        """Vectors (n_pairs, 3) of the pairs of `environments` in the state, angstrom."""

    def is_homogeneous(self, environments: Environments) -> NDArray[np.bool_]:
        """Centres (n,) whose second derivatives have the prescribed error."""


class LatticeState:
    """The perfect crystal: each pair is the nearest of the crystal's vectors; missing neighbours stay missing.

    Parameters
    ----------
    vector_kc : array_like, shape (k, 3)
        All vectors between sites of the crystal, of all sublattices, as far as the law's list may reach, angstrom.
    """

    def __init__(self, vector_kc: NDArray[np.float64]) -> None:
        self._vector_kc = np.asarray(vector_kc, dtype=float)
        self._tree = cKDTree(self._vector_kc)
        nearest, _ = self._tree.query(self._vector_kc, k=2)
        self.largest = 0.5 * float(nearest[:, 1].min())  # differences of displacements below this are never mistaken

    def vectors(self, environments: Environments) -> FloatArray:
        """The crystal's vectors nearest to those of `environments`, (n_pairs, 3), angstrom.

        Raises
        ------
        GeometryError
            A vector is as far from all of the crystal's as they are from each other: an interstitial, or a site that
            has moved to another's place.
        """
        return self.nearest(environments.r_pc.real)

    def nearest(self, r_pc: NDArray[np.float64]) -> FloatArray:
        """The crystal's vectors nearest to those given, (n_pairs, 3), angstrom; raises as `vectors` does."""
        if not np.isfinite(r_pc).all():
            return np.full(r_pc.shape, np.nan)
        distance_p, k_p = self._tree.query(r_pc)
        if len(r_pc) and distance_p.max() >= self.largest:
            raise GeometryError(
                f"Taylor law: a pair is {distance_p.max():.3f} A from all vectors of the crystal, which are known from "
                f"each other within {self.largest:.3f} A only: sites must stay near those of a crystal, with "
                "vacancies; in QM/MM take a larger [qmmm] radius"
            )
        found: FloatArray = self._vector_kc[k_p]
        return found

    def is_homogeneous(self, environments: Environments) -> NDArray[np.bool_]:
        """All centres."""
        return np.ones(len(environments.species_n), dtype=bool)


@dataclass(frozen=True)
class TaylorLaw:
    """Site energies of `law` expanded to second or third order about `state`, as functions of the pair vectors.

    V(r0 + d) = V + V' d + (1 + e) V'' d d / 2 [+ (1 + e') V''' d d d / 6] [+ Q d d / 2], where e, e' and Q are
    `force_constant_error`, `third_order_error` and `harmonic_error` on homogeneous sites and 0 elsewhere. A site beside
    a vacancy is expanded about its own environment on the lattice, without the missing neighbours. Third derivatives
    are exact, by complex steps, if the law's second ones are generic.

    References
    ----------
    Ortner, Wang, "A framework for a generalisation analysis of machine-learned interatomic potentials" (2022),
    section 4: surrogates that meet the matching conditions on the homogeneous crystal.
    """

    law: SiteLaw
    state: ReferenceState
    order: int = 2
    force_constant_error: float = 0.0
    third_order_error: float = 0.0
    harmonic_error: HarmonicError | None = None
    margin: float = 1.0  # angstrom by which pairs may lengthen without being lost
    keeps_places: ClassVar[bool] = True  # the state keeps the vectors of the supercell that it was last asked about

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            raise ConfigError(f"order = {self.order}: of a Taylor law must be 2 or 3")
        if not self.force_constant_error > -1.0:
            raise ConfigError(f"force_constant_error = {self.force_constant_error:g}: must be greater than -1")
        if self.third_order_error != 0.0 and self.order != 3:
            raise ConfigError(f"third_order_error = {self.third_order_error:g}: needs order = 3")

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols in the order of the law's species indices."""
        return self.law.species

    @property
    def cutoff(self) -> float:
        """The law's cutoff and the margin, angstrom."""
        return self.law.cutoff + self.margin

    @property
    def closest(self) -> float:
        """Zero: polynomials hold at any distance."""
        return 0.0

    def site_energies(self, environments: Environments) -> FloatArray:
        """Site energies V_n, shape (n,), eV."""
        return self.site_gradients(environments)[0]

    def site_gradients(self, environments: Environments) -> tuple[FloatArray, FloatArray]:
        """Site energies V_n (n,), eV, and dV_n / dr_pc (n_pairs, 3), eV / angstrom."""
        at = environments.with_vectors(self.state.vectors(environments))
        d_pc = environments.r_pc - at.r_pc
        energy_n, first_pc = self.law.site_gradients(at)
        second_pc = self._scale(environments, self.force_constant_error) * _complex_linear(
            self.law.linearised(at), d_pc
        )
        if self.harmonic_error is not None:
            second_pc = second_pc + self.harmonic_error.gradient(at, self.state.is_homogeneous(environments), d_pc)
        energy_n = energy_n + _by_centre(environments.first_n, np.sum((first_pc + 0.5 * second_pc) * d_pc, axis=1))
        g_pc = first_pc + second_pc
        if self.order == 3:
            third_pc = self._scale(environments, self.third_order_error) * self._third(at, d_pc, d_pc)
            energy_n = energy_n + _by_centre(environments.first_n, np.sum(third_pc * d_pc, axis=1)) / 6.0
            g_pc = g_pc + 0.5 * third_pc
        return energy_n, g_pc

    def hessian_blocks(self, environments: Environments, site_p: IntArray, pattern: BlockPattern) -> FloatArray:
        """Sum of all site Hessians as blocks on `pattern`, shape (n_blocks, 3, 3), eV / angstrom^2."""
        at = environments.with_vectors(self.state.vectors(environments))
        blocks = self.law.hessian_blocks(at, site_p, pattern)
        if self.force_constant_error != 0.0:
            part, kept_p = _of_centres(at, self.state.is_homogeneous(environments))
            blocks = blocks + self.force_constant_error * self.law.hessian_blocks(part, site_p[kept_p], pattern)
        if self.order == 3:
            d_pc = self._scale(environments, self.third_order_error) * (environments.r_pc - at.r_pc)

            def along(v_pc: FloatArray) -> FloatArray:
                stepped = at.with_vectors(at.r_pc + 1j * STEP * v_pc)
                derivative: FloatArray = self.law.hessian_blocks(stepped, site_p, pattern).imag / STEP
                return derivative

            blocks = blocks + _complex_linear(along, d_pc)
        if self.harmonic_error is not None:
            homogeneous_n = self.state.is_homogeneous(environments)
            blocks = blocks + self.harmonic_error.hessian_blocks(at, homogeneous_n, site_p, pattern)
        return blocks

    def linearised(self, environments: Environments) -> Callable[[FloatArray], FloatArray]:
        """The map dr_pc -> dg_pc of `site_gradients` at these environments."""
        at = environments.with_vectors(self.state.vectors(environments))
        scale_p = self._scale(environments, self.force_constant_error)
        homogeneous_n = self.state.is_homogeneous(environments)
        second = self.law.linearised(at)
        third = None
        if self.order == 3:
            d_pc = self._scale(environments, self.third_order_error) * (environments.r_pc.real - at.r_pc)
            third = self.law.linearised(at.with_vectors(at.r_pc + 1j * STEP * d_pc))

        def tangent(dr_pc: FloatArray) -> FloatArray:
            dg_pc: FloatArray = scale_p * _complex_linear(second, dr_pc)
            if third is not None:
                dg_pc = dg_pc + third(dr_pc.astype(np.complex128)).imag / STEP
            if self.harmonic_error is not None:
                dg_pc = dg_pc + self.harmonic_error.gradient(at, homogeneous_n, dr_pc)
            return dg_pc

        return tangent

    def about(self, state: ReferenceState) -> TaylorLaw:
        """The same expansion about another state."""
        return replace(self, state=state)

    def _third(self, at: Environments, a_pc: FloatArray, b_pc: FloatArray) -> FloatArray:
        """V''' a b, (n_pairs, 3); bilinear, so complex vectors are done part by part."""
        if np.iscomplexobj(a_pc):
            real = self._third(at, a_pc.real, b_pc.real)
            mixed = self._third(at, a_pc.real, b_pc.imag) + self._third(at, a_pc.imag, b_pc.real)
            found: FloatArray = real - self._third(at, a_pc.imag, b_pc.imag) + 1j * mixed
            return found
        tangent = self.law.linearised(at.with_vectors(at.r_pc + 1j * STEP * a_pc))
        third: FloatArray = tangent(b_pc.astype(np.complex128)).imag / STEP
        return third

    def _scale(self, environments: Environments, error: float) -> FloatArray:
        """1 + error at the pairs of homogeneous centres, 1 at others, (n_pairs, 1)."""
        scale_n: FloatArray = np.where(self.state.is_homogeneous(environments), 1.0 + error, 1.0)
        scaled: FloatArray = scale_n[_centres(environments.first_n)][:, None]
        return scaled


def _complex_linear(tangent: Callable[[FloatArray], FloatArray], d_pc: FloatArray) -> FloatArray:
    if not np.iscomplexobj(d_pc):
        return tangent(d_pc)
    found: FloatArray = tangent(np.ascontiguousarray(d_pc.real)) + 1j * tangent(np.ascontiguousarray(d_pc.imag))
    return found


def _centres(first_n: IntArray) -> IntArray:
    return np.repeat(np.arange(len(first_n) - 1), np.diff(first_n))


def _by_centre(first_n: IntArray, value_p: FloatArray) -> FloatArray:
    total_n: Any = np.zeros(len(first_n) - 1, value_p.dtype)
    np.add.at(total_n, _centres(first_n), value_p)
    return total_n  # type: ignore[no-any-return]


def _of_centres(environments: Environments, chosen_n: NDArray[np.bool_]) -> tuple[Environments, NDArray[np.bool_]]:
    """Environments with the pairs of the chosen centres only (the others are isolated), and those pairs."""
    count_n = np.diff(environments.first_n)
    kept_p = np.repeat(chosen_n, count_n)
    first_n = np.concatenate([[0], np.cumsum(np.where(chosen_n, count_n, 0))]).astype(np.int64)
    e = environments
    return Environments(first_n, e.r_pc[kept_p], e.species_n, e.species_p[kept_p]), kept_p


def lattice_vectors(lattice: Lattice, lattice_constant: float, reach: float) -> FloatArray:
    """All vectors between sites of a crystal that are shorter than `reach`, each once, (k, 3), angstrom."""
    cell_cc = lattice.cell(lattice_constant)
    basis_bc = lattice.basis_bc @ cell_cc
    pairs = find_pairs(cell_cc, lattice.periodic, basis_bc, reach)
    r_pc = pair_vectors(pairs, cell_cc, basis_bc)
    _, first = np.unique(np.rint(r_pc * 1e6).astype(np.int64), axis=0, return_index=True)
    vectors: FloatArray = r_pc[first]
    return vectors
