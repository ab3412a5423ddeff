"""Patches of the perfect crystal, and derivatives of their energy for a law or for all functions of a basis at once.

Local: the same on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import find_pairs
from parmlip.errors import ConfigError
from parmlip.fit.observations import IntArray, LinearBasis, RealArray
from parmlip.mechanics.assembly import bond_differences, site_gradient
from parmlip.mechanics.domain import species_indices
from parmlip.potentials.base import Environments, SiteLaw

_COMPLEX_STEP: Final = 1e-20
# Central differences of order eight for first and of order twelve for second derivatives: for bases of degree 18 the
# largest steps leave 1e-13 and 2e-12 of what is differentiated.
_FIRST: Final = ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))
_SECOND: Final = (
    (0, -5369 / 1800), (1, 12 / 7), (2, -15 / 56), (3, 10 / 189), (4, -1 / 112), (5, 2 / 1925), (6, -1 / 16632),
)  # fmt: skip
_FIRST_STEP: Final = 5e-3  # angstrom
_SECOND_STEP: Final = 1.5e-2

# (r_pc, dr_pc) -> change of the gradient by the sites' positions, (n_sites, 3) or (n_sites, 3, n_basis)
Tangent = Callable[[RealArray, RealArray], RealArray]


@dataclass(frozen=True)
class Crystal:
    """A perfect crystal."""

    lattice: Lattice
    lattice_constant: float  # angstrom
    species: tuple[str, ...]  # one symbol per slot of the lattice

    @property
    def inequivalent(self) -> tuple[int, ...]:
        """One basis site of each slot: the other sites of a slot are images of it in every named lattice."""
        slots = self.lattice.slot_b.tolist()
        return tuple(slots.index(s) for s in sorted(set(slots)))


@dataclass(frozen=True, eq=False)
class Patch:
    """Centres, which come first, and all sites that they see; its energy is the sum of the centres' site energies."""

    positions_ac: RealArray  # (n_sites, 3) angstrom
    first_n: IntArray  # (n_centres + 1,)
    site_p: IntArray
    r_pc: RealArray  # (n_pairs, 3) angstrom
    symbols: tuple[str, ...]
    species_a: IntArray  # (n_sites,) index of `symbols`

    @property
    def n_sites(self) -> int:
        """Centres and the others."""
        return len(self.positions_ac)

    @property
    def seen_na(self) -> NDArray[np.bool_]:
        """Whether the energy of a centre depends on a site, (n_centres, n_sites)."""
        n = len(self.first_n) - 1
        seen_na = np.eye(n, self.n_sites, dtype=bool)
        seen_na[np.repeat(np.arange(n), np.diff(self.first_n)), self.site_p] = True
        return seen_na

    def bonds(self, v_ac: RealArray) -> RealArray:
        """Changes of the pair vectors (n_pairs, 3) with displacements of the sites."""
        dr_pc = np.empty(self.r_pc.shape)
        bond_differences(self.first_n, self.site_p, v_ac, dr_pc)
        return dr_pc

    def only(self, keep_n: NDArray[np.bool_]) -> tuple[Patch, IntArray]:
        """The patch of some of the centres; the number that each of its sites has here (no site is left out)."""
        n = len(keep_n)
        old_a = np.concatenate([np.flatnonzero(keep_n), np.flatnonzero(~keep_n), np.arange(n, self.n_sites)])
        new_a = np.argsort(old_a)
        count_n = np.diff(self.first_n)
        keep_p = np.repeat(keep_n, count_n)
        first_n = np.concatenate([[0], np.cumsum(count_n[keep_n])])
        return Patch(
            self.positions_ac[old_a], first_n, new_a[self.site_p[keep_p]], self.r_pc[keep_p], self.symbols,
            self.species_a[old_a],
        ), new_a  # fmt: skip

    def environments(self, species: tuple[str, ...]) -> Environments:
        """As a law or basis of these species takes it."""
        species_a = species_indices(self.symbols, species)[self.species_a]
        return Environments(self.first_n, self.r_pc, species_a[: len(self.first_n) - 1], species_a[self.site_p])

    def gradient_of_law(self, law: SiteLaw) -> RealArray:
        """Derivative of the energy by the positions of the sites, (n_sites, 3) eV / angstrom."""
        out_ac = np.zeros((self.n_sites, 3))
        site_gradient(self.first_n, self.site_p, law.site_gradients(self.environments(law.species))[1], out_ac)
        return out_ac

    def gradient_of_basis(self, basis: LinearBasis) -> RealArray:
        """The same of every basis function, (n_sites, 3, n_basis)."""
        return np.asarray(-basis.design(self.environments(basis.species), self.site_p, self.n_sites)[1])

    def tangent_of_law(self, law: SiteLaw) -> Tangent:
        """Exact by the law's linearisation."""
        e = self.environments(law.species)

        def tangent(r_pc: RealArray, dr_pc: RealArray) -> RealArray:
            out_ac = np.zeros((self.n_sites, 3))
            site_gradient(self.first_n, self.site_p, law.linearised(e.with_vectors(r_pc))(dr_pc), out_ac)
            return out_ac

        return tangent

    def tangent_of_basis(self, basis: LinearBasis) -> Tangent:
        """Exact: the design rows are generic in the scalar type, so that one complex step serves all functions."""
        e = self.environments(basis.species)

        def tangent(r_pc: RealArray, dr_pc: RealArray) -> RealArray:
            moved = e.with_vectors(r_pc + 1j * _COMPLEX_STEP * dr_pc)
            return np.asarray(basis.design(moved, self.site_p, self.n_sites)[1].imag / -_COMPLEX_STEP)

        return tangent


def along(
    tangent: Tangent, r_pc: RealArray, first_pc: RealArray, others: Sequence[RealArray], cutoff: float
) -> RealArray:
    """Derivative of `tangent` in the direction `first_pc` along `others` too, by nested differences.

    Steps stay on one side of the cutoff, where derivatives may jump, if no pair is closer to it than 0.011 A.
    """
    if not others:
        return tangent(r_pc, first_pc)
    dr_pc, *rest = others
    total: Any
    if rest and rest[0] is dr_pc:  # twice along the same direction
        h = _step(r_pc, dr_pc, cutoff, _SECOND_STEP, len(_SECOND))
        total = _SECOND[0][1] * along(tangent, r_pc, first_pc, rest[1:], cutoff)
        for m, weight in _SECOND[1:]:
            for sign in (1, -1):
                total = total + weight * along(tangent, r_pc + sign * m * h * dr_pc, first_pc, rest[1:], cutoff)
        return np.asarray(total / h**2)
    h, total = _step(r_pc, dr_pc, cutoff, _FIRST_STEP, len(_FIRST) + 1), 0.0
    for m, weight in _FIRST:
        ahead, behind = (along(tangent, r_pc + s * m * h * dr_pc, first_pc, rest, cutoff) for s in (1, -1))
        total = total + weight * (ahead - behind)
    return np.asarray(total / h)


def _step(r_pc: RealArray, dr_pc: RealArray, cutoff: float, largest: float, n: int) -> float:
    """A step along `dr_pc` that moves no pair by more than `largest`, nor n of them any pair over the cutoff."""
    gap = float(np.abs(np.linalg.norm(r_pc, axis=1) - cutoff).min(initial=np.inf))
    size = float(np.linalg.norm(dr_pc, axis=1).max(initial=0.0))
    return min(largest, max(gap / n, 0.1 * largest)) / max(size, 1e-300)


def patch_of(crystal: Crystal, site: int, radius: float, reach: float = 0.0) -> Patch:
    """Basis site `site` (site 0, at the origin) and all within `reach` of it as centres that see `radius` far."""
    lattice = crystal.lattice
    cell_cc = lattice.cell(crystal.lattice_constant)
    positions_bc = lattice.basis_bc @ cell_cc
    pairs = find_pairs(cell_cc, lattice.periodic, positions_bc, radius + reach, np.array([site]))
    r_pc = pairs.shift_pc @ cell_cc + positions_bc[pairs.site_p] - positions_bc[site]
    distance_p = np.linalg.norm(r_pc, axis=1)
    order = np.argsort(np.round(distance_p, 8), kind="stable")
    positions_ac = np.concatenate([np.zeros((1, 3)), r_pc[order]])
    slot_a = np.concatenate([lattice.slot_b[[site]], lattice.slot_b[pairs.site_p[order]]])
    n = 1 + int(np.count_nonzero(distance_p < reach))
    box = 3.0 * (radius + reach) * np.eye(3)
    around = find_pairs(box, (False, False, False), positions_ac, radius, np.arange(n))
    centre_p = np.repeat(np.arange(n), np.diff(around.first_n))
    symbols = tuple(dict.fromkeys(crystal.species))
    species_s = np.array([symbols.index(symbol) for symbol in crystal.species])
    return Patch(
        positions_ac, around.first_n, around.site_p, positions_ac[around.site_p] - positions_ac[centre_p], symbols,
        species_s[slot_a],
    )  # fmt: skip


def symmetries(patch: Patch, dimension: int) -> IntArray:
    """Where each isometry of the patch that keeps the origin takes its sites, (n_isometries, n_sites).

    Energies do not change under them, so tuples of sites that they take into each other have the same derivatives.
    """
    x_ac = patch.positions_ac
    frame: list[int] = []
    for a in range(1, len(x_ac)):
        if np.linalg.matrix_rank(x_ac[[*frame, a], :dimension], tol=1e-6) == len(frame) + 1:
            frame.append(a)
        if len(frame) == dimension:
            break
    if len(frame) < dimension:
        return np.arange(len(x_ac))[None]
    gram = x_ac[frame] @ x_ac[frame].T
    images: list[list[int]] = [[]]
    for i, a in enumerate(frame):
        longer = []
        for image in images:
            for b in np.flatnonzero(patch.species_a == patch.species_a[a]):
                with_b = x_ac[[*image, b]] @ x_ac[b]
                if np.abs(with_b - gram[i, : i + 1]).max() < 1e-6:
                    longer.append([*image, int(b)])
        images = longer
    tree, found = cKDTree(x_ac), []
    inverse = np.linalg.inv(x_ac[frame, :dimension])
    for image in images:
        turned_ac = x_ac.copy()
        turned_ac[:, :dimension] = x_ac[:, :dimension] @ (inverse @ x_ac[image, :dimension])
        distance_a, to_a = tree.query(turned_ac)
        if distance_a.max() < 1e-4 and (patch.species_a[to_a] == patch.species_a).all():
            found.append(to_a)
    return np.array(found, dtype=np.int64)


def tuple_orbits(to_ga: IntArray, order: int) -> tuple[IntArray, IntArray]:
    """Sorted tuples of sites, one of each orbit, (n, order), and how many ordered tuples each stands for, (n,).

    `to_ga` (n_isometries, n_sites) as `symmetries` gives them, or its columns of sites that are taken into each other.
    """
    n = to_ga.shape[1]
    if order < 1:
        raise ConfigError(f"tuples of {order} sites have no orbits")
    tuples = np.arange(n)[:, None]
    for _ in range(order - 1):
        last = tuples[:, -1]
        rows = np.repeat(np.arange(len(tuples)), n - last)
        start = np.concatenate([[0], np.cumsum(n - last)[:-1]])
        tuples = np.column_stack([tuples[rows], np.arange(len(rows)) - start[rows] + last[rows]])
    weights_i = n ** np.arange(order - 1, -1, -1)
    lowest = np.full(len(tuples), n**order)
    for to_a in to_ga:
        np.minimum(lowest, np.sort(to_a[tuples], axis=1) @ weights_i, out=lowest)
    # orderings of a sorted tuple: order! over the factorials of its multiplicities
    orderings, run = np.full(len(tuples), 1), np.ones(len(tuples), dtype=np.int64)
    for i in range(1, order):
        run = np.where(tuples[:, i] == tuples[:, i - 1], run + 1, 1)
        orderings = orderings * (i + 1) // run
    codes, where = np.unique(lowest, return_inverse=True)
    counts = np.bincount(where, weights=orderings).astype(np.int64)
    return codes[:, None] // weights_i % n, counts
