"""Energy and forces of a displaced supercell, distributed over sites."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.crystal.supercell import Supercell
from parmlip.errors import GeometryError, ParmlipError
from parmlip.mechanics.assembly import least_square, site_gradient
from parmlip.mechanics.domain import Domain, partitioned
from parmlip.parallel.comm import in_step
from parmlip.parallel.sites import Sites
from parmlip.potentials.base import Environments, FloatArray, SiteLaw

# Beyond the cutoff, angstrom: at half of it a site's displacement makes the pair lists anew. Relaxations of point
# defects seldom need that; each 0.1 costs 6 % more pairs at a cutoff of 5.5.
MARGIN: Final = 0.5


class Energy:
    """The energy of a law on a supercell as a function of the displacements of the owned sites.

    Collective on ``comm``, as are all methods. Displacements and forces are (n_owned, d): the components that move, of
    the owned sites in ascending global number (PETSc's layout).

    Parameters
    ----------
    law : SiteLaw
    supercell : Supercell
        The same on every rank.
    comm : MPI.Comm
    margin : float
        Pair lists reach this much beyond the cutoff, angstrom; they are made anew when a site has moved by half of it
        since they were made.
    """

    noise: Final = 0.0  # eV: differences are taken site by site, so that totals leave no rounding in them

    def __init__(self, law: SiteLaw, supercell: Supercell, *, comm: MPI.Comm, margin: float = MARGIN) -> None:
        self.law = law
        self.supercell = supercell
        self.comm = comm
        self.dimension = supercell.dimension
        self._whole = getattr(law, "keeps_places", False)  # it keeps what it knows of all sites, not of pieces
        self.margin = margin
        self.sites: Sites = partitioned(supercell, comm=comm)
        self.builds = 0  # how often the pair lists were made; whoever keeps a pattern compares it
        self._build(np.zeros((self.sites.n_owned, self.dimension)))
        self.zero_nd = np.zeros((self.sites.n_owned, self.dimension))  # where differences of energy begin
        self.clamped_n: NDArray[np.bool_] | None = None  # owned sites that do not move, where there are any at all
        self._reference_n: dict[str, NDArray[np.float64]] = {}  # V_n there as each of the law's functions rounds it

    def _build(self, u_nd: NDArray[np.float64]) -> None:
        everywhere = self.sites.gather_to_all(u_nd) if self.builds else None
        reach = self.law.cutoff + self.margin
        if self.builds:
            self.__dict__.pop("domain", None)  # beside the old lists the new ones would take the memory twice
        self.domain = Domain(self.supercell, self.sites, reach, self.law.species, everywhere)
        self._built_at_nd = u_nd.copy()
        self.builds += 1

    def environments(self, u_nd: NDArray[np.float64]) -> Environments:
        """Environments of the owned sites; pair lists are renewed when they no longer cover the cutoff.

        Raises
        ------
        GeometryError
            A displacement is not finite, or two sites are closer than the law allows.
        """
        u_md = self._with_ghosts(u_nd)
        environments = self.domain.environments(u_md)
        with in_step(self.comm, "checking distances"):
            self._check_distances(environments, 0)
        return environments

    def _with_ghosts(self, u_nd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacements of the local sites, whose pair lists cover the cutoff."""
        moved = np.sqrt(np.max(np.sum((u_nd - self._built_at_nd) ** 2, axis=1), initial=0.0))
        worst = np.array([moved if np.isfinite(moved) and np.isfinite(u_nd).all() else np.inf])
        self.comm.Allreduce(MPI.IN_PLACE, worst, op=MPI.MAX)
        if not np.isfinite(worst[0]):
            raise GeometryError("a displacement is not finite (NaN or infinite)")
        if worst[0] > 0.5 * self.margin or not hasattr(self, "domain"):  # a search that failed has left none
            self._build(u_nd)
        return self.domain.with_ghosts(u_nd)

    def _check_distances(self, environments: Environments, first_pair: int) -> None:
        """No two sites closer than the law's range of validity: its formulas say nothing there. Local."""
        if least_square(environments.r_pc) < self.law.closest**2:
            square_p = np.einsum("pc,pc->p", environments.r_pc, environments.r_pc)
            p = first_pair + int(np.argmin(square_p))
            n = int(np.searchsorted(self.domain.first_n, p, side="right")) - 1
            pair = self.domain.halo.global_m[[n, self.domain.site_p[p]]]
            raise GeometryError(
                f"sites {pair[0]} and {pair[1]} are {math.sqrt(square_p[p - first_pair]):.4f} A apart; "
                f"the law is valid from {self.law.closest:.4f} A; move them apart or take another [reference]"
            )

    def site_energies(self, u_nd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Energies of the owned sites, shape (n_owned,), eV."""
        u_md = self._with_ghosts(u_nd)
        energy_n = np.empty(self.sites.n_owned)
        with in_step(self.comm, "evaluating site energies"):
            for centres, pairs, environments in self.domain.pieces(u_md, self._whole):
                self._check_distances(environments, pairs.start)
                energy_n[centres] = self.law.site_energies(environments)
        return energy_n

    def total(self, u_nd: NDArray[np.float64]) -> float:
        """Energy of the whole cell, eV, the same on every rank."""
        return self._sum(self.site_energies(u_nd), "energy")

    def difference(self, u_nd: NDArray[np.float64]) -> float:
        """E(u) - E(0), eV, the same on every rank.

        Site by site, so that the rounding is that of the difference and not of the total (V_l(0) = 0 of the papers).
        """
        if "energies" not in self._reference_n:
            self._reference_n["energies"] = self.site_energies(self.zero_nd)
        return self._sum(self.site_energies(u_nd) - self._reference_n["energies"], "energy")

    def difference_and_forces(self, u_nd: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """E(u) - E(0), eV, and the forces on the owned sites, (n_owned, d), eV / angstrom."""
        if "gradients" not in self._reference_n:
            self._reference_n["gradients"] = self._energies_and_gradient(self.zero_nd)[0]
        energy_n, gradient_nd = self._energies_and_gradient(u_nd)
        return self._sum(energy_n - self._reference_n["gradients"], "energy"), -gradient_nd

    def virial(self, u_nd: NDArray[np.float64]) -> NDArray[np.float64]:
        """-dE / d(strain) of the whole cell, (3, 3), eV, the same on every rank."""
        environments = self.environments(u_nd)
        with in_step(self.comm, "evaluating the virial"):
            _, g_pc = self.law.site_gradients(environments)
        virial_cc: NDArray[np.float64] = np.ascontiguousarray(-(environments.r_pc.T @ g_pc), dtype=float)
        self.comm.Allreduce(MPI.IN_PLACE, virial_cc, op=MPI.SUM)
        return virial_cc

    def gradient_from_pairs(self, g_pc: FloatArray) -> FloatArray:
        """dE/du of the owned sites from the pair gradients of all ranks, (n_owned, d)."""
        halo = self.domain.halo
        gradient_md = np.zeros((halo.n_local, self.dimension), dtype=g_pc.dtype)
        site_gradient(self.domain.first_n, self.domain.site_p, g_pc, gradient_md)
        halo.reverse_add(gradient_md)
        return gradient_md[: halo.n_owned]

    def _energies_and_gradient(self, u_nd: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies of the owned sites and dE/du there."""
        u_md = self._with_ghosts(u_nd)
        domain = self.domain
        energy_n, gradient_md = np.empty(self.sites.n_owned), np.zeros_like(u_md)
        with in_step(self.comm, "evaluating forces"):
            for centres, pairs, environments in domain.pieces(u_md, self._whole):
                self._check_distances(environments, pairs.start)
                energy_n[centres], g_pc = self.law.site_gradients(environments)
                site_gradient(environments.first_n, domain.site_p[pairs], g_pc, gradient_md, centres.start)
        domain.halo.reverse_add(gradient_md)
        return energy_n, gradient_md[: domain.halo.n_owned]

    def _sum(self, value_n: NDArray[np.float64], what: str) -> float:
        total = np.array([math.fsum(value_n) if np.isfinite(value_n).all() else np.nan])
        self.comm.Allreduce(MPI.IN_PLACE, total, op=MPI.SUM)
        if not np.isfinite(total[0]):
            raise ParmlipError(f"the {what} is not finite: the law was evaluated outside its range")
        return float(total[0])
