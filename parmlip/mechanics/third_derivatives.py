"""Third derivatives of the energy along displacements, and traces of a matrix with the derivative of the Hessian.

Second derivatives are the law's own, the third is a complex step of them: exact to rounding. Laws whose second
derivatives are themselves a complex step (ACE) take differences instead, of relative error 1e-9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from mpi4py import MPI
from numba import njit
from numpy.typing import NDArray

from parmlip.mechanics.assembly import bond_differences, site_gradient
from parmlip.mechanics.energy import Energy
from parmlip.parallel.comm import in_step
from parmlip.potentials.base import Environments, FloatArray, IntArray, SiteLaw

RealArray = NDArray[np.float64]
Tangent = Callable[[FloatArray], FloatArray]

_COMPLEX: Final = 1e-20  # angstrom per unit of the direction; no difference is taken
_DIFFERENCE: Final = 2e-3  # angstrom, of the largest component: the error of order step^4 meets that of rounding


def tangent_change(law: SiteLaw, environments: Environments, a_pc: RealArray) -> Tangent:
    """b -> d/dt of the law's linearised map at r + t a, applied to b: T[a, b, .] of every site, (n_pairs, 3).

    Local. `a_pc`, `b_pc` are changes of the pair vectors; b may be any number of them, one call each.
    """
    e = environments
    size = float(np.abs(a_pc).max(initial=0.0))
    if size == 0.0:
        return np.zeros_like
    stepped = law.linearised(e.with_vectors(e.r_pc + 1j * _COMPLEX / size * a_pc))
    if np.iscomplexobj(stepped(np.zeros(a_pc.shape, dtype=complex))):
        return lambda b_pc: np.asarray(stepped(b_pc.astype(complex)).imag * (size / _COMPLEX))
    steps = (-2.0, -1.0, 1.0, 2.0)
    near = [law.linearised(e.with_vectors(e.r_pc + s * _DIFFERENCE / size * a_pc)) for s in steps]

    def change(b_pc: FloatArray) -> FloatArray:
        far_minus, minus, plus, far_plus = (np.asarray(tangent(b_pc)) for tangent in near)
        return (8.0 * (plus - minus) - (far_plus - far_minus)) * (size / (12.0 * _DIFFERENCE))

    return change


def within(environments: Environments, site_p: IntArray, cutoff: float) -> tuple[Environments, IntArray]:
    """The pairs closer than `cutoff`: lists are built with a margin. Local."""
    e = environments
    keep = np.einsum("pc,pc->p", e.r_pc, e.r_pc) < cutoff**2
    first_n = np.concatenate([[0], np.cumsum(keep)])[e.first_n]
    origin = None if e.origin is None else type(e.origin)(e.origin.bond_pc[keep], e.origin.global_n)
    return Environments(first_n, e.r_pc[keep], e.species_n, e.species_p[keep], origin), site_p[keep]


class HessianTraces:
    """Tr(M dH/du_n) at one state for dense symmetric matrices M over the sites of a (small) configuration.

    H is the sum of site Hessians h over pair vectors, Tr(M H) = sum_l sum_pq h_pq : K_pq with K the differences of M
    over the bonds, so that one sweep over the neighbours p, component by component, gives the trace with dH for all
    sites at once: sum_p T[e_p, K_p, .]. Local; centre n is site n.

    Parameters
    ----------
    law : SiteLaw
    environments : Environments
    site_p : ndarray, shape (n_pairs,)
        Site of each pair's neighbour.
    dimension : int
        Components that move: M has `dimension` rows and columns a site.
    """

    def __init__(self, law: SiteLaw, environments: Environments, site_p: IntArray, dimension: int) -> None:
        self._environments, self._site_p = within(environments, site_p, law.cutoff)
        self._d = dimension
        e = self._environments
        count_n = np.diff(e.first_n)
        self._directions: list[tuple[int, int, Tangent]] = []
        for rank in range(int(count_n.max(initial=0))):
            pair = e.first_n[:-1][count_n > rank] + rank
            for c in range(dimension):
                a_pc = np.zeros(e.r_pc.shape)
                a_pc[pair, c] = 1.0
                self._directions.append((rank, c, tangent_change(law, e, a_pc)))

    def __call__(self, matrix_xx: RealArray) -> RealArray:
        """Tr(M dH/du) for every site and component, (n_sites, d); M is (n_sites d, n_sites d)."""
        e, d = self._environments, self._d
        n_sites = len(e.first_n) - 1
        m_acbd = np.ascontiguousarray(matrix_xx).reshape(n_sites, d, n_sites, d)
        g_pc = np.zeros(e.r_pc.shape)
        b_pc = np.zeros(e.r_pc.shape)
        for rank, c, change in self._directions:
            _bond_column(e.first_n, self._site_p, m_acbd, rank, c, b_pc)
            g_pc += change(b_pc)
        result_nd = np.zeros((n_sites, d))
        site_gradient(e.first_n, self._site_p, g_pc, result_nd)
        return result_nd


@njit(cache=True)
def _bond_column(first_n: IntArray, site_p: IntArray, m_acbd: RealArray, rank: int, c: int, out_pc: RealArray) -> None:
    """Column (p, c) of K over the pairs q of every centre, p its pair number `rank`; zero where it has not so many."""
    d = m_acbd.shape[1]
    for n in range(len(first_n) - 1):
        p = first_n[n] + rank
        if p >= first_n[n + 1]:
            out_pc[first_n[n] : first_n[n + 1]] = 0.0
            continue
        j = site_p[p]
        for q in range(first_n[n], first_n[n + 1]):
            i = site_p[q]
            for k in range(d):
                out_pc[q, k] = m_acbd[i, k, j, c] - m_acbd[i, k, n, c] - m_acbd[n, k, j, c] + m_acbd[n, k, n, c]


class ThirdDerivative:
    """d/du of bilinear forms of the Hessian of a distributed energy at one state.

    Collective on ``energy.comm``, as are its methods unless they say otherwise.

    Parameters
    ----------
    energy : Energy
    u_nd : ndarray, shape (n_owned, d)
        Displacement of the owned sites, angstrom.
    """

    def __init__(self, energy: Energy, u_nd: RealArray) -> None:
        self.energy = energy
        self.environments = energy.environments(u_nd)

    def quadratic(self, v_ndk: RealArray, weight_k: RealArray) -> RealArray:
        """d/du of sum_k weight_k v_k^T H v_k, (n_owned, d), in eV / angstrom^3 times the square of v's unit.

        `v_ndk` (n_owned, d, n_vectors) are the owned sites' shares.
        """
        g_pc = np.zeros(self.environments.r_pc.shape)
        domain = self.energy.domain
        v_mdk = domain.with_ghosts(np.ascontiguousarray(v_ndk))
        with in_step(self.energy.comm, "third derivatives"):
            dv_pc = np.empty_like(g_pc)
            for k, weight in enumerate(weight_k.tolist()):
                bond_differences(domain.first_n, domain.site_p, np.ascontiguousarray(v_mdk[:, :, k]), dv_pc)
                g_pc += weight * tangent_change(self.energy.law, self.environments, dv_pc)(dv_pc)
        return np.asarray(self.energy.gradient_from_pairs(g_pc))

    def columns(self, sites: IntArray | None = None) -> TraceByColumns:
        """Accumulates Tr(M dH/du) while the columns of M come in; by the displacements of `sites` only, if given."""
        return TraceByColumns(self, sites)


class TraceByColumns:
    """Tr(M dH/du_n) = sum over sites a and components c of e_ac^T (dH/du_n) M e_ac: only environments of a are touched.

    Collective on ``energy.comm``, as are `add` and `result`.

    Parameters
    ----------
    third : ThirdDerivative
    sites : ndarray of int, optional
        Global numbers of the sites n wanted, the same on every rank; all if left out.

    Attributes
    ----------
    needed : ndarray of int
        Global numbers of the sites whose columns must be added: those that share an environment with one of `sites`.
    """

    def __init__(self, third: ThirdDerivative, sites: IntArray | None = None) -> None:
        self._third = third
        energy = third.energy
        self._domain = energy.domain
        self._local = np.full(energy.sites.n_sites, -1, dtype=np.int64)
        self._local[self._domain.halo.global_m] = np.arange(self._domain.halo.n_local)
        first_n, site_p = self._domain.first_n, self._domain.site_p
        centre_p = np.repeat(np.arange(len(first_n) - 1), np.diff(first_n))
        r_pc = third.environments.r_pc
        near = np.einsum("pc,pc->p", r_pc, r_pc) < energy.law.cutoff**2
        order = np.flatnonzero(near)[np.argsort(site_p[near], kind="stable")]
        self._centre_x = centre_p[order]
        self._first_m = np.searchsorted(site_p[order], np.arange(self._domain.halo.n_local + 1))
        self._g_pc = np.zeros(r_pc.shape)
        self._use_n = np.ones(len(first_n) - 1, dtype=bool)  # centres whose site energies matter
        needed = np.ones(energy.sites.n_sites, dtype=np.uint8)
        if sites is not None:
            wanted = np.zeros(energy.sites.n_sites, dtype=bool)
            wanted[sites] = True
            global_m = self._domain.halo.global_m
            self._use_n = wanted[global_m[: len(self._use_n)]]
            self._use_n[centre_p[near & wanted[global_m[site_p]]]] = True
            needed[:] = 0
            needed[global_m[: len(self._use_n)][self._use_n]] = 1
            needed[global_m[site_p[near & self._use_n[centre_p]]]] = 1
            energy.comm.Allreduce(MPI.IN_PLACE, needed, op=MPI.MAX)
        self.needed = np.flatnonzero(needed)

    def add(self, site_b: IntArray, column_ndcb: RealArray) -> None:
        """Columns M e_ac of global sites `site_b` for all d components, (n_owned, d, d, n_b): site, row, c, b."""
        d = self._third.energy.dimension
        x_md = self._domain.with_ghosts(np.ascontiguousarray(column_ndcb))
        with in_step(self._third.energy.comm, "third derivatives"):
            for b, site in enumerate(site_b.tolist()):
                local = int(self._local[site])
                if local >= 0:
                    self._one(local, np.ascontiguousarray(x_md[..., b]), d)

    def _one(self, local: int, x_mdc: RealArray, d: int) -> None:
        e = self._third.environments
        centres = self._centre_x[self._first_m[local] : self._first_m[local + 1]]
        if local < self._domain.halo.n_owned:
            centres = np.append(centres, local)
        centres = np.unique(centres)
        centres = centres[self._use_n[centres]]
        if len(centres) == 0:
            return
        count_n = np.diff(e.first_n)[centres]
        first_n = np.concatenate([[0], np.cumsum(count_n)])
        pair = np.repeat(e.first_n[centres] - first_n[:-1], count_n) + np.arange(first_n[-1])
        centre_p, site_p = np.repeat(centres, count_n), self._domain.site_p[pair]
        origin = None if e.origin is None else type(e.origin)(e.origin.bond_pc[pair], e.origin.global_n[centres])
        part = Environments(first_n, e.r_pc[pair], e.species_n[centres], e.species_p[pair], origin)
        unit_p = (site_p == local).astype(float) - (centre_p == local)
        for c in range(d):
            a_pc, b_pc = np.zeros(part.r_pc.shape), np.zeros(part.r_pc.shape)
            a_pc[:, c] = unit_p
            b_pc[:, :d] = x_mdc[site_p, :, c] - x_mdc[centre_p, :, c]
            self._g_pc[pair] += tangent_change(self._third.energy.law, part, a_pc)(b_pc)

    def result(self) -> RealArray:
        """Tr(M dH/du) of the owned sites, (n_owned, d); right at the sites wanted."""
        return np.asarray(self._third.energy.gradient_from_pairs(self._g_pc))
