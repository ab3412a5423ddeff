"""Entropies as observations of a law that models the entropy itself: S = sum over sites of S_l, S_l = sum_k c_k B_k(l).

Rows are those of energies, gradients (not forces), site energies and their gradients; units are those of the labels
(k_B, k_B / angstrom).

References
----------
Torabi, Wang, Ortner (2024), vibrational entropy, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parmlip.fit.observations import Configuration, Evaluation, LinearBasis, RealArray, environments


@dataclass(frozen=True)
class TotalEntropy:
    """Entropy of the cell, against the configuration's reference state if it has one."""

    name: str = "entropy"

    def rows(self, evaluation: Evaluation) -> RealArray:
        """(1, n_basis)."""
        return np.asarray(evaluation.design[0] - evaluation.reference_energy_k)[None, :]


@dataclass(frozen=True)
class EntropyGradient:
    """dS / d(positions), every component that moves, site by site."""

    name: str = "entropy_gradient"

    def rows(self, evaluation: Evaluation) -> RealArray:
        """(n_sites * d, n_basis)."""
        moving = -evaluation.design[1][:, : evaluation.configuration.dimension]
        return np.asarray(moving.reshape(-1, evaluation.basis.n_basis))


@dataclass(frozen=True)
class SiteEntropy:
    """S_l of chosen sites (all by default)."""

    sites: tuple[int, ...] | None = None
    name: str = "site_entropy"

    def rows(self, evaluation: Evaluation) -> RealArray:
        """(n_chosen, n_basis)."""
        basis, state = evaluation.basis, evaluation.configuration
        values_ak = basis.site_values(environments(state, basis.species, basis.cutoff)[0])
        return values_ak if self.sites is None else values_ak[list(self.sites)]


@dataclass(frozen=True)
class SiteEntropyGradient:
    """dS_l / d(positions of all sites) for chosen sites l, every component that moves."""

    sites: tuple[int, ...]
    name: str = "site_entropy_gradient"

    def rows(self, evaluation: Evaluation) -> RealArray:
        """(n_chosen * n_sites * d, n_basis)."""
        basis, state = evaluation.basis, evaluation.configuration
        return np.concatenate([np.zeros((0, basis.n_basis)), *(self._one(basis, state, site) for site in self.sites)])

    def _one(self, basis: LinearBasis, state: Configuration, site: int) -> RealArray:
        around, site_p = environments(state, basis.species, basis.cutoff)
        mine = slice(around.first_n[site], around.first_n[site + 1])
        # Centre n of the design is site n: every other centre is left without neighbours.
        count_n = np.zeros(state.n_sites, dtype=np.int64)
        count_n[site] = mine.stop - mine.start
        alone = type(around)(
            np.concatenate([[0], np.cumsum(count_n)]), around.r_pc[mine], around.species_n, around.species_p[mine]
        )
        gradient_ack = -basis.design(alone, site_p[mine], state.n_sites)[1][:, : state.dimension]
        return np.asarray(gradient_ack.reshape(-1, basis.n_basis))
