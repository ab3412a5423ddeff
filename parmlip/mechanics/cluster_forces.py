"""Forces on QM sites by a law of whole structures, asked about the cluster of QM region and buffer.

References
----------
Chen, Ortner, Wang, "QM/MM methods for crystalline defects. Part 3" (2021), eq. (3.17): F_l^QM, l in the QM region, is
the force on l in the cluster of QM region and buffer.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.clusters import SiteCluster, site_clusters
from parmlip.crystal.supercell import Supercell
from parmlip.errors import GeometryError
from parmlip.io.answers import Structure, ask
from parmlip.io.reference_cache import CachedLaw, ReferenceCache
from parmlip.parallel.sites import Sites
from parmlip.potentials.tight_binding_contour import ContourTightBinding
from parmlip.potentials.tight_binding_local import LocalTightBinding
from parmlip.potentials.total import SharedLaw, TotalLaw

logger = logging.getLogger(__name__)
RealArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Part:
    """One cluster and the law that is asked about it."""

    cluster: SiteCluster
    qm_m: BoolArray  # (n_members,) whose forces are wanted
    law: TotalLaw


_Cluster = tuple[SiteCluster, BoolArray]  # and its members whose forces are wanted


class ClusterForces:
    """`QMForces` of a law of whole structures: tight binding, calculators of ASE.

    Parts of QM region and buffer that do not touch are clusters of their own. A cluster is periodic along the
    directions in which it is linked to its images (z of a disc, all of them if it is the whole cell) and has free
    surfaces elsewhere, passivated by nothing but the buffer. Tight binding by clusters of sites is asked about the QM
    sites alone, which all ranks share; other laws about the structures, which groups of `ranks_per_group` ranks take
    in turn. With a `CachedLaw` what was found is kept in its file, as soon as it is there.

    There are no derivatives: about a vacancy in silicon forces of 1e-4 eV / angstrom are found in 7 to 8 calls by the
    quasi-Newton method of `balance_forces`, in 19 without its memory, in 25 by Newton's method with derivatives by
    differences of calls; about an edge dislocation, from the predictor, those of 1e-3 in 29. Clusters of sites
    (`ContourTightBinding`) want a radius between shells of neighbours: sites that cross it make forces jump, and the
    search ends there (in silicon at 6.7 angstrom, by the shell at 6.65, not at 7.36).

    Collective on ``sites.comm``, as is `forces`.

    Parameters
    ----------
    law : TotalLaw
        Best with a fixed Fermi level in the gap, if it has one: levels of the surfaces lie there, and where the number
        of electrons is given they move the Fermi level of the cluster.
    supercell : Supercell
        The same on every rank.
    qm_a : ndarray of bool, shape (n_sites,)
        Sites whose forces are wanted.
    cluster_a : ndarray of bool, shape (n_sites,)
        These and their buffer.
    sites : Sites
        Rows of the displacements.
    link : float
        Sites of the reference configuration closer than this are in one cluster, angstrom.
    ranks_per_group : int
        Ranks that one calculator is for (`group_size`).

    Attributes
    ----------
    calls, solved : int
        How often forces were asked for, and how many clusters were solved for it, not read from the cache.

    Raises
    ------
    GeometryError
        There is no QM site, or one that is not in the cluster.
    """

    def __init__(
        self,
        law: TotalLaw,
        supercell: Supercell,
        qm_a: BoolArray,
        cluster_a: BoolArray,
        sites: Sites,
        *,
        link: float,
        ranks_per_group: int = 1,
    ) -> None:
        if not qm_a.any() or (qm_a & ~cluster_a).any():
            raise GeometryError(f"{int(qm_a.sum())} QM sites, {int((qm_a & ~cluster_a).sum())} of them in no cluster")
        self._prepare(law, supercell, _clusters(supercell, qm_a, cluster_a, link), sites, ranks_per_group)
        for part in self._parts:
            along = "".join(c for c, p in zip("xyz", part.cluster.periodic, strict=True) if p) or "nothing"
            logger.info("QM cluster: %d sites, forces on %d, periodic along %s",
                        part.cluster.n_sites, int(part.qm_m.sum()), along)  # fmt: skip

    def _prepare(
        self, law: TotalLaw, supercell: Supercell, clusters: list[_Cluster], sites: Sites, ranks_per_group: int
    ) -> None:
        self.supercell, self.sites = supercell, sites
        self.calls = self.solved = 0
        self._ranks_per_group = min(ranks_per_group, sites.comm.size)
        self._symbols = np.array(supercell.species)[supercell.species_a]
        self._parts = [_Part(cluster, qm_m, law_for(law, qm_m)) for cluster, qm_m in clusters]

    @property
    def n_sites(self) -> tuple[int, ...]:
        """Number of sites of each cluster."""
        return tuple(part.cluster.n_sites for part in self._parts)

    def told(self) -> str:
        """How many clusters were solved, and how many were not for they were kept; for the log."""
        return f"{self.solved} clusters solved, {self.calls * len(self._parts) - self.solved} kept from before"

    def forces(self, u_nd: RealArray) -> RealArray:
        """Forces on the owned sites, (n_owned, d), eV / angstrom; zero off the QM region.

        Collective. Asked about the last state again, the same numbers without any work where there is a cache.

        Raises
        ------
        GeometryError
            A displacement is not finite, or sites are closer than the law allows.
        DataError, ConvergenceError
            The law fails.
        """
        u_ad = self.sites.gather_to_all(u_nd)
        if not np.isfinite(u_ad).all():
            raise GeometryError("a displacement is not finite (NaN or infinite)")
        self.calls += 1
        f_ad = np.zeros_like(u_ad)
        local = [part for part in self._parts if _inner(part.law) is not None]
        for part in local:  # all ranks share its sites
            self._ask(part.law, [part], u_ad, f_ad, self.sites.comm.size)
        whole = [part for part in self._parts if _inner(part.law) is None]
        if whole:  # one law for all
            ranks = self._ranks_per_group
            if _shares(whole[0].law):  # else ranks beyond the clusters would have nothing to do
                ranks = max(ranks, self.sites.comm.size // len(whole))
            self._ask(whole[0].law, whole, u_ad, f_ad, ranks)
        return self.sites.restrict(f_ad)

    def _ask(self, law: TotalLaw, parts: list[_Part], u_ad: RealArray, f_ad: RealArray, ranks_per_group: int) -> None:
        structures = [self._structure(part.cluster, u_ad) for part in parts]
        answers = ask(law, structures, comm=self.sites.comm, what="QM forces", ranks_per_group=ranks_per_group)
        self.solved += len(parts) - answers.n_kept
        for part, found in zip(parts, answers.results, strict=True):
            f_ad[part.cluster.site_m[part.qm_m]] = found.forces_ac[part.qm_m, : self.supercell.dimension]

    def _structure(self, cluster: SiteCluster, u_ad: RealArray) -> Structure:
        positions_mc = cluster.positions(self.supercell, u_ad)
        return cluster.cell_cc, cluster.periodic, positions_mc, tuple(self._symbols[cluster.site_m].tolist())


class SeparateForces(ClusterForces):
    """`QMForces` on some sites, each of which has a cluster of its own: for few sites, far from each other.

    Parameters are those of `ClusterForces`, with a function that says which sites are in the cluster of one: labels
    (n_sites,) of it to labels (n_sites,) of them.
    """

    def __init__(
        self,
        law: TotalLaw,
        supercell: Supercell,
        wanted_a: BoolArray,
        cluster_of: Callable[[BoolArray], BoolArray],
        sites: Sites,
        *,
        link: float,
        ranks_per_group: int = 1,
    ) -> None:
        clusters = []
        for site in np.flatnonzero(wanted_a):
            one_a = np.zeros_like(wanted_a)
            one_a[site] = True
            clusters += _clusters(supercell, one_a, cluster_of(one_a), link)
        self._prepare(law, supercell, clusters, sites, ranks_per_group)
        logger.info("reference forces on %d sites, in clusters of at most %d", len(clusters), max(self.n_sites))


def _clusters(supercell: Supercell, qm_a: BoolArray, cluster_a: BoolArray, link: float) -> list[_Cluster]:
    found = [c for c in site_clusters(supercell, cluster_a, link) if qm_a[c.site_m].any()]
    return [(c, qm_a[c.site_m]) for c in found]


def is_local(law: TotalLaw) -> bool:
    """Whether forces on some sites are known without those on the others. Local."""
    inner = law.law if isinstance(law, CachedLaw) else law
    return (
        isinstance(inner, ContourTightBinding)
        and inner.cluster_radius is not None
        and inner.law.electrons.fermi_level is not None
    )


def law_for(law: TotalLaw, wanted_a: BoolArray) -> TotalLaw:
    """`law` itself, or what it is on some sites alone where it can tell these without the others. Local.

    Results on some sites have a name of their own in the cache.
    """
    inner = law.law if isinstance(law, CachedLaw) else law
    if not is_local(law):
        return law
    assert isinstance(inner, ContourTightBinding)
    local = LocalTightBinding(inner, np.flatnonzero(wanted_a))
    if not isinstance(law, CachedLaw):
        return local
    digest = hashlib.sha256(np.packbits(wanted_a).tobytes()).hexdigest()
    return CachedLaw(local, ReferenceCache(law.cache.path, {"law": law.cache.identity, "sites": digest}))


def _shares(law: TotalLaw) -> bool:
    """Whether ranks can share its work on one structure."""
    return isinstance(law.law if isinstance(law, CachedLaw) else law, SharedLaw)


def _inner(law: TotalLaw) -> LocalTightBinding | None:
    inner = law.law if isinstance(law, CachedLaw) else law
    return inner if isinstance(inner, LocalTightBinding) else None
