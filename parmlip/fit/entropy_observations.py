"""Entropies as observations of a law that models the entropy itself: S = sum over sites of S_l, S_l = sum_k c_k B_k(l).

Totals and minus their gradients stand where energies and forces do (`Labels.energy`, `Labels.forces_ac`), so that their
rows are those; here are the rows of site entropies and of their gradients. Units are k_B and k_B / angstrom.

References
----------
Torabi, Wang, Ortner (2024), vibrational entropy, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parmlip.fit.observations import Configuration, Evaluation, IntArray, Labels, LinearBasis, RealArray, environments
from parmlip.potentials.base import Environments


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

    def values(self, configuration: Configuration, labels: Labels) -> RealArray | None:
        """(n_chosen,) k_B."""
        of = labels.site_values_a
        return None if of is None else of if self.sites is None else of[list(self.sites)]


@dataclass(frozen=True)
class SiteEntropyGradient:
    """dS_l / d(positions of all sites) for chosen sites l (all by default), every component that moves."""

    sites: tuple[int, ...] | None = None
    name: str = "site_entropy_gradient"

    def rows(self, evaluation: Evaluation) -> RealArray:
        """(n_chosen * n_sites * d, n_basis)."""
        basis, state = evaluation.basis, evaluation.configuration
        around, site_p = environments(state, basis.species, basis.cutoff)
        sites = range(state.n_sites) if self.sites is None else self.sites
        rows = [_gradient_rows(basis, state, around, site_p, site) for site in sites]
        return np.concatenate([np.zeros((0, basis.n_basis)), *rows])

    def values(self, configuration: Configuration, labels: Labels) -> RealArray | None:
        """(n_chosen * n_sites * d,) k_B / angstrom."""
        if labels.site_gradients_aac is None:
            return None
        of = labels.site_gradients_aac if self.sites is None else labels.site_gradients_aac[list(self.sites)]
        return of[:, :, : configuration.dimension].reshape(-1)


def _gradient_rows(
    basis: LinearBasis, state: Configuration, around: Environments, site_p: IntArray, site: int
) -> RealArray:
    """Rows of one site: every other centre is left without neighbours, since centre n of a design is site n."""
    mine = slice(around.first_n[site], around.first_n[site + 1])
    count_n = np.zeros(state.n_sites, dtype=np.int64)
    count_n[site] = mine.stop - mine.start
    alone = Environments(
        np.concatenate([[0], np.cumsum(count_n)]), around.r_pc[mine], around.species_n, around.species_p[mine]
    )
    gradient_ack = -basis.design(alone, site_p[mine], state.n_sites)[1][:, : state.dimension]
    return np.asarray(gradient_ack.reshape(-1, basis.n_basis))
