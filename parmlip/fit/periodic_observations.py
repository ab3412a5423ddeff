"""Derivatives of the force in a periodic cell of the perfect crystal, for laws without a cutoff. Local."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.errors import ConfigError
from parmlip.fit.lattice_observations import tuple_rows
from parmlip.fit.observations import IntArray, LinearBasis, RealArray
from parmlip.fit.patches import Crystal, Patch, Tangent, patch_of, symmetries, tuple_orbits
from parmlip.fit.total_derivatives import CrystalDerivatives, PerfectCell
from parmlip.potentials.base import SiteLaw
from parmlip.potentials.tight_binding_response import Difference


@dataclass(frozen=True)
class PeriodicForceDerivative:
    """d^order F_0 / d(positions of sites) of the force on one basis site, sites moving with their images: eps^F_order.

    Tuples are all of the cell, reduced by the isometries that keep the site and the cell's translations, and weighted
    with prod exp(gamma |rho|), |rho| the distance of the nearest image, as for `ForceDerivative`.

    References
    ----------
    Chen, Ortner, Wang (2021), QM/MM III, eq. (3.3), sec. 4: periodic cells of 200 (W) and 800 (Si) sites.
    """

    crystal: Crystal
    order: int  # 1 or 2
    repeats: tuple[int, int, int]  # conventional cells
    site: int = 0  # basis site of the lattice
    gamma: float = 0.0  # 1 / angstrom

    def __post_init__(self) -> None:
        """Refuse an order that is not offered."""
        if self.order not in (1, 2):
            raise ConfigError(f"derivatives of the force in a periodic cell are of order 1 or 2, not {self.order}")

    @cached_property
    def perfect(self) -> PerfectCell:
        """The cell."""
        return PerfectCell(self.crystal.lattice, self.crystal.lattice_constant, self.repeats, self.crystal.species)

    def patch(self, radius: float) -> Patch:
        """All sites as centres; pairs across the boundary lead to the same sites."""
        cell = self.perfect.cell
        pairs = find_pairs(cell.cell_cc, cell.periodic, cell.positions_ac, radius)
        r_pc = pair_vectors(pairs, cell.cell_cc, cell.positions_ac)
        return Patch(cell.positions_ac, pairs.first_n, pairs.site_p, r_pc, cell.species, cell.species_a)

    @cached_property
    def symmetries(self) -> IntArray:
        """Where each isometry that keeps the site and the periodic cell takes its sites, (n_isometries, n_sites)."""
        crystal, cell = self.crystal, self.perfect.cell
        d = cell.dimension
        near = patch_of(crystal, self.site, 1.01 * float(np.linalg.norm(crystal.lattice.cell(1.0)[:d], axis=1).max())
                        * crystal.lattice_constant)  # fmt: skip
        fraction_ac = (cell.positions_ac - cell.positions_ac[self.site]) @ np.linalg.inv(cell.cell_cc)
        tree, found = cKDTree(fraction_ac % 1.0 % 1.0, boxsize=1.0), []
        inverse = np.linalg.inv(cell.cell_cc[:d, :d])
        for to_a in symmetries(near, d):
            turn_cc = np.eye(3)
            turn_cc[:d, :d] = np.linalg.lstsq(near.positions_ac[:, :d], near.positions_ac[to_a, :d], rcond=None)[0]
            translations = cell.cell_cc[:d, :d] @ turn_cc[:d, :d] @ inverse
            if np.abs(translations - np.round(translations)).max() > 1e-6:
                continue
            turned_ac = (cell.positions_ac - cell.positions_ac[self.site]) @ turn_cc @ np.linalg.inv(cell.cell_cc)
            distance_a, goes_a = tree.query(turned_ac % 1.0 % 1.0)
            if distance_a.max() < 1e-6 and (cell.species_a[goes_a] == cell.species_a).all():
                found.append(goes_a)
        return np.array(found, dtype=np.int64)

    @cached_property
    def _orbits(self) -> tuple[IntArray, RealArray]:
        """Tuples of sites, and what their components are multiplied with."""
        tuples, counts = tuple_orbits(self.symmetries, self.order)
        cell = self.perfect.cell
        shift_xc = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])
        image_xc = (shift_xc * np.array(cell.periodic)) @ cell.cell_cc
        r_ac = cell.positions_ac - cell.positions_ac[self.site]
        distance_a = np.linalg.norm(r_ac[:, None] + image_xc, axis=2).min(axis=1)
        return tuples, np.asarray(np.sqrt(counts) * np.exp(self.gamma * distance_a[tuples].sum(axis=1)))

    @property
    def n_parts(self) -> int:
        """One, or one for each site that is displaced first."""
        return 1 if self.order == 1 else len(np.unique(self._orbits[0][:, 0]))

    def _part(self, part: int) -> tuple[list[int], IntArray, RealArray]:
        """Sites displaced first, those displaced last, their factors."""
        tuples, scale_t = self._orbits
        if self.order == 1:
            return [], tuples[:, 0], scale_t
        moved = int(np.unique(tuples[:, 0])[part])
        mine = tuples[:, 0] == moved
        return [moved], tuples[mine, 1], scale_t[mine]

    def n_rows(self, part: int) -> int:
        """Number of observations of a part."""
        return int(len(self._part(part)[1]) * self.crystal.lattice.dimension ** (self.order + 1))

    def of_total(self, derivatives: CrystalDerivatives, part: int) -> Difference:
        """Observations (n_rows,) of a part, eV / angstrom^(order + 1)."""
        d = self.crystal.lattice.dimension
        moved, last, scale_t = self._part(part)
        found = derivatives.force_curvature(self.site, *moved) if moved else derivatives.forces(self.site)
        values = found.values[(slice(d),) * self.order][..., last, :d] * scale_t[:, None]
        return Difference(values.reshape(-1), found.error)

    def values(self, law: SiteLaw, part: int | None = None) -> RealArray:
        """(n_observations,) of a law with site energies."""
        patch = self.patch(law.cutoff)
        tangent = patch.tangent_of_law(law)
        parts = range(self.n_parts) if part is None else [part]
        return np.concatenate(
            [self._rows(patch, lambda r, dr: tangent(r, dr)[..., None], law.cutoff, p)[:, 0] for p in parts]
        )

    def rows(self, basis: LinearBasis, part: int | None = None) -> RealArray:
        """(n_observations, n_basis)."""
        patch = self.patch(basis.cutoff)
        parts = range(self.n_parts) if part is None else [part]
        return np.concatenate([self._rows(patch, patch.tangent_of_basis(basis), basis.cutoff, p) for p in parts])

    def _rows(self, patch: Patch, tangent: Tangent, cutoff: float, part: int) -> RealArray:
        moved, last, scale_t = self._part(part)
        d = self.crystal.lattice.dimension
        return -tuple_rows(patch, tangent, cutoff, d, [self.site, *moved], last, scale_t)
