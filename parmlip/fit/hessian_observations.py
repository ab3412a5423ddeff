"""Directional derivatives of forces: the Hessian times chosen vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from parmlip.fit.observations import Configuration, LinearBasis, RealArray, environments
from parmlip.mechanics.assembly import site_gradient
from parmlip.potentials.base import SiteLaw

_STEP: Final = 1e-20


@dataclass(frozen=True)
class HessianDirections:
    """d(forces) / dt = -H v for random unit vectors v of displacements, eV / angstrom^2.

    The vectors depend on the seed and the configuration alone, hence on no rank and no order of configurations.
    """

    n_directions: int
    seed: int = 0

    def directions(self, configuration: Configuration) -> RealArray:
        """(n_directions, n_sites, 3), of norm 1; components that do not move are zero."""
        key = np.frombuffer(configuration.key, dtype=np.uint32).tolist()
        random = np.random.default_rng([self.seed, *key])
        v_vac = np.zeros((self.n_directions, configuration.n_sites, 3))
        moving = v_vac[..., : configuration.dimension]
        moving[...] = random.standard_normal(moving.shape)
        return v_vac / np.sqrt(np.einsum("vac,vac->v", v_vac, v_vac))[:, None, None]

    def values(self, law: SiteLaw, configuration: Configuration) -> RealArray:
        """(n_directions * n_sites * d,), exact by the law's linearisation."""
        around, site_p = environments(configuration, law.species, law.cutoff)
        tangent = law.linearised(around)
        centre_p = np.repeat(np.arange(configuration.n_sites), np.diff(around.first_n))
        change_vac = np.zeros((self.n_directions, configuration.n_sites, 3))
        for v_ac, change_ac in zip(self.directions(configuration), change_vac, strict=True):
            site_gradient(around.first_n, site_p, tangent(v_ac[site_p] - v_ac[centre_p]), change_ac)
        return -change_vac[..., : configuration.dimension].reshape(-1)

    def rows(self, basis: LinearBasis, configuration: Configuration) -> RealArray:
        """(n_directions * n_sites * d, n_basis): complex steps of the rows of the forces."""
        around, site_p = environments(configuration, basis.species, basis.cutoff)
        centre_p = np.repeat(np.arange(configuration.n_sites), np.diff(around.first_n))
        rows = []
        for v_ac in self.directions(configuration):
            moved = around.with_vectors(around.r_pc + 1j * _STEP * (v_ac[site_p] - v_ac[centre_p]))
            force_ack = basis.design(moved, site_p, configuration.n_sites)[1].imag / _STEP
            rows.append(force_ack[:, : configuration.dimension].reshape(-1, basis.n_basis))
        return np.concatenate([np.zeros((0, basis.n_basis)), *rows])
