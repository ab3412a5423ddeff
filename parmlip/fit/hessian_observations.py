"""Directional derivatives of forces: the Hessian times chosen vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.errors import DataError
from parmlip.fit.observations import (
    Configuration,
    Evaluation,
    Labels,
    LinearBasis,
    Probes,
    RealArray,
    environments,
)
from parmlip.mechanics.assembly import site_gradient
from parmlip.potentials.base import SiteLaw

_STEP: Final = 1e-20


# Distances within which sites of a reference state are told apart, angstrom.
_FINGERPRINT: Final = 6.0


@dataclass(frozen=True)
class HessianDirections:
    """d(forces) / dt = -H v for displacements v of norm 1, eV / angstrom^2.

    - "random": random vectors of all sites, `n_directions` of them;
    - "local": random vectors, each of one site alone;
    - "columns": the unit displacements of `n_directions` sites, d columns of the Hessian each.

    Sites are one of each kind in the configuration's reference state (by their distances to others), the rarest first,
    hence those at the defect; then a second one of each kind and so on. Random vectors depend on the seed and the
    configuration alone. So nothing depends on a rank or on the order of configurations.
    """

    n_directions: int
    seed: int = 0
    kind: str = "random"

    def directions(self, configuration: Configuration) -> RealArray:
        """(n_vectors, n_sites, 3); components that do not move are zero."""
        n, d = configuration.n_sites, configuration.dimension
        if self.kind == "columns":
            sites = chosen_sites(configuration, self.n_directions)
            v_vac = np.zeros((len(sites) * d, n, 3))
            for i, a in enumerate(sites):
                v_vac[np.arange(i * d, (i + 1) * d), a, np.arange(d)] = 1.0
            return v_vac
        key = np.frombuffer(configuration.key, dtype=np.uint32).tolist()
        random = np.random.default_rng([self.seed, *key])
        v_vac = np.zeros((self.n_directions, n, 3))
        moving = v_vac[..., :d]
        if self.kind == "local":
            sites = chosen_sites(configuration, self.n_directions)
            v_vac = v_vac[: len(sites)]
            v_vac[np.arange(len(sites)), sites, :d] = random.standard_normal((len(sites), d))
        else:
            moving[...] = random.standard_normal(moving.shape)
        return v_vac / np.sqrt(np.einsum("vac,vac->v", v_vac, v_vac))[:, None, None]

    def values(self, law: SiteLaw, configuration: Configuration) -> RealArray:
        """(n_vectors * n_sites * d,), exact by the law's linearisation."""
        around, site_p = environments(configuration, law.species, law.cutoff)
        tangent = law.linearised(around)
        centre_p = np.repeat(np.arange(configuration.n_sites), np.diff(around.first_n))
        v_vac = self.directions(configuration)
        change_vac = np.zeros(v_vac.shape)
        for v_ac, change_ac in zip(v_vac, change_vac, strict=True):
            site_gradient(around.first_n, site_p, tangent(v_ac[site_p] - v_ac[centre_p]), change_ac)
        return -change_vac[..., : configuration.dimension].reshape(-1)

    def rows(self, basis: LinearBasis, configuration: Configuration) -> RealArray:
        """(n_vectors * n_sites * d, n_basis): complex steps of the rows of the forces."""
        around, site_p = environments(configuration, basis.species, basis.cutoff)
        centre_p = np.repeat(np.arange(configuration.n_sites), np.diff(around.first_n))
        rows = []
        for v_ac in self.directions(configuration):
            moved = around.with_vectors(around.r_pc + 1j * _STEP * (v_ac[site_p] - v_ac[centre_p]))
            force_ack = basis.design(moved, site_p, configuration.n_sites)[1].imag / _STEP
            rows.append(force_ack[:, : configuration.dimension].reshape(-1, basis.n_basis))
        return np.concatenate([np.zeros((0, basis.n_basis)), *rows])


def chosen_sites(configuration: Configuration, number: int) -> list[int]:
    """At most `number` sites: one of each kind in the reference state, the rarest kind first, then the next ones."""
    state = configuration.reference or configuration
    pairs = find_pairs(state.cell_cc, state.periodic, state.positions_ac, _FINGERPRINT)
    distance_p = np.round(np.linalg.norm(pair_vectors(pairs, state.cell_cc, state.positions_ac), axis=1), 3)
    kinds: dict[object, list[int]] = {}
    for a, (first, last) in enumerate(zip(pairs.first_n[:-1], pairs.first_n[1:], strict=True)):
        around = sorted((float(distance_p[p]), state.species[pairs.site_p[p]]) for p in range(first, last))
        kinds.setdefault((state.species[a], tuple(around)), []).append(a)
    groups = sorted(kinds.values(), key=lambda sites: (len(sites), sites[0]))
    in_turn = [sites[i] for i in range(max(map(len, groups))) for sites in groups if i < len(sites)]
    return in_turn[:number]


@dataclass(frozen=True)
class Hessian:
    """The Hessian times the vectors that the labels were made with (`Labels.probes`)."""

    name: str = "hessian"

    def rows(self, evaluation: Evaluation) -> RealArray:
        """(n_vectors * n_sites * d, n_basis)."""
        if evaluation.probes is None:
            raise DataError("Hessian rows: the labels do not tell their directions")
        return of_probes(evaluation.probes).rows(evaluation.basis, evaluation.configuration)

    def values(self, configuration: Configuration, labels: Labels) -> RealArray | None:
        """(n_vectors * n_sites * d,) eV / angstrom^2."""
        return labels.hessian_o


def of_probes(probes: Probes) -> HessianDirections:
    """The directions that `probes` names."""
    return HessianDirections(probes.number, probes.seed, probes.kind)
