"""Energies of which some sites are clamped."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.crystal.supercell import Supercell
from parmlip.errors import GeometryError
from parmlip.mechanics.energy import MARGIN, Energy
from parmlip.potentials.base import SiteLaw


class ClampedEnergy(Energy):
    """An `Energy` whose clamped sites bear no forces, so that relaxations leave them where they start.

    Its Hessians (`mechanics.hessian`) have rows and columns of the identity there, Green's functions (`bulk_green`)
    zeros. Differences of energy are to the predictor; sites of the rim whose surroundings do not move add nothing.

    Collective on ``comm``.

    Parameters
    ----------
    free_a : ndarray of bool, shape (n_sites,)
        Sites that move, the same on every rank.
    predictor_ad : ndarray, shape (n_sites, d), optional
        u_0, where differences of energy begin, the same on every rank, angstrom; zero by default. The law must be valid
        there.
    counted_a : ndarray of bool, shape (n_sites,), optional
        Sites whose energies are summed, the same on every rank; all by default. They must hold those within the cutoff
        of free ones. Without the others, which may see the surface of the rim, differences to the crystal have a
        meaning.
    """

    def __init__(
        self,
        law: SiteLaw,
        supercell: Supercell,
        free_a: NDArray[np.bool_],
        predictor_ad: NDArray[np.float64] | None = None,
        counted_a: NDArray[np.bool_] | None = None,
        *,
        comm: MPI.Comm,
        margin: float = MARGIN,
    ) -> None:
        if free_a.shape != (supercell.n_sites,) or not free_a.any():
            raise GeometryError(f"clamped sites: {free_a.shape} labels for {supercell.n_sites} sites, one must be free")
        super().__init__(law, supercell, comm=comm, margin=margin)
        self.clamped_n = ~free_a[self.sites.global_n]
        self._counted_n = None if counted_a is None else counted_a[self.sites.global_n]
        if predictor_ad is not None:
            self.zero_nd = np.ascontiguousarray(self.sites.restrict(predictor_ad)[:, : self.dimension])

    def difference_and_forces(self, u_nd: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """E(u) - E(u_0), eV, and the forces on the owned sites, (n_owned, d), eV / angstrom; zero on clamped ones."""
        energy, f_nd = super().difference_and_forces(u_nd)
        f_nd[self.clamped_n] = 0.0
        return energy, f_nd

    def _sum(self, value_n: NDArray[np.float64], what: str) -> float:
        return super()._sum(value_n if self._counted_n is None else value_n[self._counted_n], what)
