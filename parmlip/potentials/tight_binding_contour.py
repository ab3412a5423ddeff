"""Tight binding without eigenstates of the whole: columns of the density matrix, site by site, on clusters.

Columns of f(S^-1 H) S^-1 are contour integrals of (z S - H)^-1 and local (near-sightedness): those of a site come from
the principal submatrices of H and S on the sites within `cluster_radius`: time is linear in the number of sites.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from parmlip.errors import ConfigError, ConvergenceError, DataError, GeometryError
from parmlip.numerics.contour import fermi, fermi_contour, grand_potential, nodes_for
from parmlip.parallel.comm import in_step
from parmlip.potentials.kernels import tight_binding as kernels
from parmlip.potentials.tight_binding import Blocks, NRLTightBinding
from parmlip.potentials.tight_binding_electrons import k_mesh
from parmlip.potentials.total import Evaluated

if TYPE_CHECKING:
    from mpi4py import MPI

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Function = Callable[[NDArray[Any]], NDArray[Any]]
Method = Literal["eigen", "contour"]


@dataclass(frozen=True)
class Cluster:
    """Sites within reach of a centre and the matrices on them; rows 0 to 3 are the centre's orbitals."""

    site_m: IntArray  # site of each member, images included; the centre first
    hopping: scipy.sparse.csr_array
    overlap: scipy.sparse.csr_array
    neighbour_p: IntArray  # member at the end of each pair of the centre

    @property
    def n_orbitals(self) -> int:
        """Rows of the matrices."""
        return int(self.hopping.shape[0])


@dataclass(frozen=True)
class ContourTightBinding:
    """Total energy, forces, virial and site energies of `law` by local density matrices; a `TotalLaw`.

    With a communicator the sites (or, on the whole cell, the nodes) are shared by its ranks and `evaluate` is
    collective. Forces are those of Hellmann and Feynman from the columns rho_ba and energy-weighted rho_ba of each
    site a; they add up to zero, and are the exact derivative of the energy in the limit of large clusters only.

    Parameters
    ----------
    cluster_radius : float, optional
        Angstrom, at least the law's cutoff; None takes the whole periodic cell with the law's k points.
        On clusters give the law a `fermi_level`: one found from the number of electrons makes up for the truncation's
        charge, which takes it out of a gap (to 5.10 instead of 5.78 eV for silicon at 9 angstrom and k_B T = 0.05 eV).
    method : str
        On clusters: "eigen", one eigendecomposition, or "contour", a dense solve at every node. They agree to
        `tolerance`; the first is 15 to 17 times faster at 300 to 1,100 orbitals. (Lanczos for S^-1 H took
        200 steps and 4 to 60 times longer.) The whole cell goes by the contour.
    tolerance : float
        Of the contour's functions, relative to their size.
    """

    law: NRLTightBinding
    cluster_radius: float | None = None
    method: Method = "eigen"
    tolerance: float = 1e-10
    comm: MPI.Comm | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        electrons = self.law.electrons
        if electrons.temperature <= 0.0:
            raise ConfigError('electronic_temperature = 0: evaluator = "contour" needs a temperature above 0')
        if electrons.convention != "free_energy":
            raise ConfigError(f'convention = "{electrons.convention}": evaluator = "contour" has "free_energy" only')
        if self.method not in ("eigen", "contour"):
            raise ConfigError(f"method = {self.method!r} is unknown; there are eigen, contour")
        if self.cluster_radius is not None and not self.cluster_radius >= self.law.cutoff:
            raise ConfigError(
                f"cluster_radius = {self.cluster_radius:g} must be at least the law's cutoff, {self.law.cutoff:.4g} A"
            )

    @property
    def species(self) -> tuple[str, ...]:
        """The law's element."""
        return self.law.species

    @property
    def closest(self) -> float:
        """The law's, angstrom."""
        return self.law.closest

    def shared(self, comm: MPI.Comm) -> ContourTightBinding:
        """The same law, its sites shared by the ranks of `comm`. Local."""
        return replace(self, comm=comm)

    def evaluate(
        self, cell_cc: RealArray, periodic: tuple[bool, bool, bool], positions_ac: RealArray, symbols: Any
    ) -> Evaluated:
        """See `NRLTightBinding.evaluate`; collective on ``comm`` if there is one.

        Raises
        ------
        ConfigError, GeometryError, DataError
            As the dense evaluator.
        ConvergenceError
            A function did not converge, or the Fermi level was not found.
        """
        other = sorted(set(symbols) - set(self.species))
        if other:
            raise ConfigError(f"tight binding has no parameters for {', '.join(other)}, only for {self.species[0]}")
        if len(positions_ac) == 0:
            raise DataError("tight binding of a structure without sites")
        blocks = self.law.blocks(cell_cc, periodic, positions_ac)
        if self.cluster_radius is None:
            return self._whole_cell(blocks, periodic)
        low, high = self._share(len(positions_ac))
        level = self.fermi_level(blocks)
        site_a = np.zeros(len(positions_ac))
        span = slice(blocks.pairs.first_n[low], blocks.pairs.first_n[high])
        density_pij = np.zeros((span.stop - span.start, 4, 4))
        weighted_pij = np.zeros_like(density_pij)
        density_ai = np.zeros((len(positions_ac), 4))
        functions = self._functions(level)
        with self._step("solving clusters"):
            for a in range(low, high):
                cluster = cluster_of(blocks, a, self.cluster_radius)
                occupied, weighted, energy = self.columns(cluster, functions, level)
                site_a[a] = 2.0 * np.sum(cluster.overlap[:4].toarray() * energy.T)
                mine = slice(blocks.pairs.first_n[a] - span.start, blocks.pairs.first_n[a + 1] - span.start)
                for columns, pair_pij in ((occupied, density_pij), (weighted, weighted_pij)):
                    # rows a, columns b of the symmetric density matrix
                    pair_pij[mine] = 2.0 * columns.reshape(-1, 4, 4)[cluster.neighbour_p].swapaxes(1, 2)
                density_ai[a] = 2.0 * np.diag(occupied[:4])
        return self._assemble(blocks, site_a, density_pij, weighted_pij, density_ai, low, high, level)

    def site_energies(self, blocks: Blocks, sites_x: IntArray, fermi_level: float) -> RealArray:
        """Site energies of some sites at a given Fermi level, eV. Local."""
        assert self.cluster_radius is not None
        energy_x = np.zeros(len(sites_x))
        for x, a in enumerate(sites_x.tolist()):
            cluster = cluster_of(blocks, a, self.cluster_radius)
            column = self.columns(cluster, self._functions(fermi_level)[2:], fermi_level)[0]
            energy_x[x] = 2.0 * np.sum(cluster.overlap[:4].toarray() * column.T)
        return energy_x

    def fermi_level(self, blocks: Blocks) -> float:
        """The given Fermi level, or that at which the clusters' centres hold the structure's electrons, eV.

        Collective on ``comm``. The charge at any level follows from the local spectra: every cluster is solved once
        for the level and, as states are too many to be kept, once more by `evaluate`.
        """
        electrons = self.law.electrons
        if electrons.fermi_level is not None:
            return electrons.fermi_level
        assert self.cluster_radius is not None
        n_sites = len(blocks.onsite_ai)
        wanted = self.law.table.electrons * n_sites - electrons.charge
        if not 0.0 < wanted < 8.0 * n_sites:
            raise DataError(f"{wanted:g} electrons do not fit into the {8 * n_sites} places of these orbitals")
        low, high = self._share(n_sites)
        with self._step("local spectra"):
            spectra = [spectrum(cluster_of(blocks, a, self.cluster_radius)) for a in range(low, high)]
        return self._root(spectra, wanted)

    def columns(self, cluster: Cluster, functions: tuple[Function, ...], fermi_level: float) -> list[RealArray]:
        """Columns (n_orbitals, 4) of f(S^-1 H) S^-1 at the centre, one array per function. Local."""
        n = cluster.n_orbitals
        if self.method == "eigen":
            level_s, psi_xs = eigenstates(cluster)
            return [(psi_xs * f(level_s)) @ psi_xs[:4].T for f in functions]
        h_xy, s_xy = cluster.hopping.toarray(), cluster.overlap.toarray()
        contour = self._contour(*spectral_ends(h_xy, s_xy), fermi_level)
        weight_fq = [contour.weights(f) for f in functions]
        results = [np.zeros((n, 4)) for _ in functions]
        unit_xi = np.eye(n, 4, dtype=complex)
        for q, z in enumerate(contour.node_q):
            x_xi = scipy.linalg.solve(z * s_xy - h_xy, unit_xi, overwrite_a=True, check_finite=False)
            for result, weight_q in zip(results, weight_fq, strict=True):
                result += (weight_q[q] * x_xi).imag
        return results

    def _functions(self, level: float) -> tuple[Function, Function, Function]:
        """Occupation, its product with the level, and the energy per state."""
        t = self.law.electrons.temperature
        canonical = self.law.electrons.fermi_level is None
        return (
            lambda z: fermi(z, level, t),
            lambda z: z * fermi(z, level, t),
            lambda z: grand_potential(z, level, t) + (level * fermi(z, level, t) if canonical else 0.0),
        )

    def _contour(self, lowest: float, highest: float, level: float) -> Any:
        t = self.law.electrons.temperature
        n = nodes_for(fermi_contour(lowest, highest, level, t, 4), self.tolerance * t / (highest - lowest))
        return fermi_contour(lowest, highest, level, t, n)

    def _root(self, spectra: list[tuple[RealArray, RealArray]], wanted: float) -> float:
        """Fermi level at which these local spectra hold `wanted` electrons. Collective on ``comm``."""
        comm = self.comm
        t = self.law.electrons.temperature
        level_x = np.concatenate([s[0] for s in spectra]) if spectra else np.zeros(0)
        weight_x = np.concatenate([s[1] for s in spectra]) if spectra else np.zeros(0)

        def total(value: float) -> float:
            return value if comm is None else float(comm.allreduce(value))

        def excess(mu: float) -> float:
            return total(2.0 * float(weight_x @ expit((mu - level_x) / t))) - wanted

        ends = [level_x.min(initial=np.inf), -level_x.max(initial=-np.inf)]
        if comm is not None:
            ends = np.min(comm.allgather(ends), axis=0).tolist()
        low, high = ends[0] - 60.0 * t - 1.0, -ends[1] + 60.0 * t + 1.0
        if excess(low) > 0.0 or excess(high) < 0.0:
            raise ConvergenceError(f"no Fermi level between {low:.4g} and {high:.4g} eV holds {wanted:g} electrons")
        return float(brentq(excess, low, high, xtol=1e-13, rtol=1e-14, maxiter=300))

    def _whole_cell(self, blocks: Blocks, periodic: tuple[bool, bool, bool]) -> Evaluated:
        """The periodic cell by the contour, nodes shared by the ranks; the Fermi level comes from the levels alone."""
        n_sites = len(blocks.onsite_ai)
        point_kc, weight_k = k_mesh(self.law.k_points, self.law.k_scheme == "gamma_centred", periodic)
        matrices = [blocks.matrices(k_c) for k_c in point_kc]
        level_kx = np.array([scipy.linalg.eigvalsh(h, s, check_finite=False) for h, s in matrices])
        wanted = self.law.table.electrons * n_sites - self.law.electrons.charge
        level = self.law.electrons.fill(level_kx, weight_k, wanted).fermi_level
        contour = self._contour(float(level_kx.min()) - 0.1, float(level_kx.max()) + 0.1, level)
        functions = self._functions(level)
        weights = [contour.weights(f) for f in functions]
        pairs = blocks.pairs
        pair_fpij = np.zeros((3, pairs.n_pairs, 4, 4))
        site_fai = np.zeros((3, n_sites, 4))
        rank, size = (0, 1) if self.comm is None else (self.comm.rank, self.comm.size)
        with self._step("solving nodes"):
            for (h_xy, s_xy), k_c, weight in zip(matrices, point_kc, weight_k, strict=True):
                sums = [np.zeros(h_xy.shape, complex) for _ in functions]
                for q in range(rank, len(contour.node_q), size):
                    inverse_xy = scipy.linalg.inv(contour.node_q[q] * s_xy - h_xy, check_finite=False)
                    for total_xy, weight_q in zip(sums, weights, strict=True):
                        total_xy += weight_q[q] * inverse_xy
                phase_p = blocks.phases(k_c)
                for f, total_xy in enumerate(sums):
                    density_xy = (total_xy - total_xy.conj().T) / 2j  # Im, for Hermitian matrices
                    density_xy = np.ascontiguousarray(density_xy.real if phase_p.dtype.kind == "f" else density_xy)
                    kernels.gather(
                        pairs.first_n, pairs.site_p, phase_p, density_xy, 2.0 * weight, pair_fpij[f], site_fai[f]
                    )
        pair_fpij, site_fai = self._sum(pair_fpij), self._sum(site_fai)
        site_a = site_fai[2].sum(axis=1)
        site_a += np.bincount(pairs.centre_p, np.einsum("pij,pij->p", pair_fpij[2], blocks.overlap_pij), n_sites)
        low, high = self._share(n_sites)
        span = slice(pairs.first_n[low], pairs.first_n[high])
        site_a[:low], site_a[high:] = 0.0, 0.0
        return self._assemble(blocks, site_a, pair_fpij[0, span], pair_fpij[1, span], site_fai[0], low, high, level)

    def _assemble(
        self,
        blocks: Blocks,
        site_a: RealArray,
        density_pij: RealArray,
        weighted_pij: RealArray,
        density_ai: RealArray,
        low: int,
        high: int,
        level: float,
    ) -> Evaluated:
        """Forces and sums from the density matrices of the pairs of sites `low` to `high`. Collective."""
        pairs = blocks.pairs
        span = slice(pairs.first_n[low], pairs.first_n[high])
        r_pc = np.ascontiguousarray(blocks.r_pc[span])
        onsite_a = np.sum(density_ai * blocks.slope_ai, axis=1)[low:high]
        first_n = pairs.first_n[low : high + 1] - span.start
        g_pc = kernels.contract(self.law.constants, first_n, r_pc, density_pij, weighted_pij, onsite_a)
        g_ac = np.zeros((len(site_a), 3))
        np.add.at(g_ac, pairs.site_p[span], g_pc)
        np.add.at(g_ac, np.repeat(np.arange(low, high), np.diff(first_n)), -g_pc)
        virial_cc = -r_pc.T @ g_pc
        site_a, g_ac, virial_cc = self._sum(site_a), self._sum(g_ac), self._sum(virial_cc)
        if not (np.isfinite(g_ac).all() and np.isfinite(site_a).all()):
            raise DataError(f"tight binding by contours gave what is not finite (Fermi level {level:.6g} eV)")
        return Evaluated(float(site_a.sum()), -g_ac, 0.5 * (virial_cc + virial_cc.T), site_a)

    def _share(self, n_sites: int) -> tuple[int, int]:
        """First and last + 1 of this rank's sites."""
        if self.comm is None:
            return 0, n_sites
        return n_sites * self.comm.rank // self.comm.size, n_sites * (self.comm.rank + 1) // self.comm.size

    def _sum(self, local: RealArray) -> RealArray:
        """Sum over the ranks."""
        if self.comm is None:
            return local
        total = np.empty_like(local)
        self.comm.Allreduce(np.ascontiguousarray(local), total)
        return total

    def _step(self, what: str) -> AbstractContextManager[None]:
        return nullcontext() if self.comm is None else in_step(self.comm, what)


def cluster_of(blocks: Blocks, centre: int, radius: float) -> Cluster:
    """The sites within `radius` of a site that are linked to it through pairs inside, and the matrices on them.

    Onsite levels are those of the whole structure, so that the surface of the cluster has no atoms of its own kind.
    """
    pairs = blocks.pairs
    member_of: dict[tuple[int, int, int, int], int] = {(centre, 0, 0, 0): 0}
    members, r_mc = [(centre, 0, 0, 0)], [np.zeros(3)]
    rows: list[IntArray] = []
    columns: list[IntArray] = []
    used: list[IntArray] = []
    head = 0
    while head < len(members):
        a, *shift = members[head]
        span = slice(pairs.first_n[a], pairs.first_n[a + 1])
        end_pc = r_mc[head] + blocks.r_pc[span]
        near_x = np.flatnonzero(np.einsum("pc,pc->p", end_pc, end_pc) <= radius**2)
        site_x = pairs.site_p[span][near_x].tolist()
        shift_xc = (pairs.shift_pc[span][near_x] + np.array(shift, dtype=np.int64)).astype(np.int64).tolist()
        column_x = np.empty(len(near_x), dtype=np.int64)
        for x, (b, (i, j, k)) in enumerate(zip(site_x, shift_xc, strict=True)):
            key = (b, i, j, k)
            m = member_of.get(key)
            if m is None:
                m = member_of[key] = len(members)
                members.append(key)
                r_mc.append(end_pc[near_x[x]])
            column_x[x] = m
        rows.append(np.full(len(near_x), head))
        columns.append(column_x)
        used.append(near_x + span.start)
        head += 1
    n = len(members)
    site_m = np.array([key[0] for key in members])
    row_x, column_x, pair_x = (np.concatenate(list_) for list_ in (rows, columns, used))
    order = np.lexsort((column_x, row_x))
    first_m = np.concatenate([[0], np.cumsum(np.bincount(row_x, minlength=n))])

    def matrix(block_pij: RealArray, diagonal_mi: RealArray) -> scipy.sparse.csr_array:
        off = scipy.sparse.bsr_array((block_pij[pair_x[order]], column_x[order], first_m), shape=(4 * n, 4 * n))
        return scipy.sparse.csr_array(off + scipy.sparse.diags_array(diagonal_mi.ravel()))

    return Cluster(
        site_m,
        matrix(blocks.hopping_pij, blocks.onsite_ai[site_m]),
        matrix(blocks.overlap_pij, np.ones((n, 4))),
        columns[0],
    )


def spectrum(cluster: Cluster) -> tuple[RealArray, RealArray]:
    """Levels and weights (n_orbitals,) of the centre (Mulliken): sum weight f(level) is the trace of its block f."""
    level_s, psi_xs = eigenstates(cluster)
    return level_s, np.sum(psi_xs[:4] * (cluster.overlap[:4] @ psi_xs), axis=0)


def eigenstates(cluster: Cluster) -> tuple[RealArray, RealArray]:
    """Levels, eV, and states of a cluster.

    Raises
    ------
    GeometryError
        The overlap is not positive definite.
    """
    h_xy, s_xy = cluster.hopping.toarray(), cluster.overlap.toarray()
    try:
        level_s, psi_xs = scipy.linalg.eigh(
            h_xy, s_xy, driver="gvd", overwrite_a=True, overwrite_b=True, check_finite=False
        )
    except np.linalg.LinAlgError as error:
        raise GeometryError(f"a cluster of {cluster.n_orbitals // 4} sites: {error}; sites too close") from error
    return level_s, psi_xs


def spectral_ends(h_xy: RealArray, s_xy: RealArray) -> tuple[float, float]:
    """Ends of the spectrum of S^-1 H, with a margin, eV."""
    n = len(h_xy)
    ends = [
        scipy.linalg.eigh(h_xy, s_xy, eigvals_only=True, subset_by_index=[i, i], check_finite=False)[0]
        for i in (0, n - 1)
    ]
    return float(ends[0]) - 0.1, float(ends[1]) + 0.1
