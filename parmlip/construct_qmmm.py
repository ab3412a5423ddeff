"""What the table [qmmm] stands for: domain and regions, the MM law, what gives QM forces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from parmlip import construct
from parmlip.config import Study
from parmlip.config_schema import read_table
from parmlip.config_tables import Reference
from parmlip.construct_controlled import lattice_law
from parmlip.crystal.clamped_domain import ClampedDomain
from parmlip.crystal.dislocation_disc import Disc
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import find_pairs
from parmlip.crystal.regions import Regions, build_regions, check_sizes
from parmlip.errors import ConfigError
from parmlip.io.answers import group_size
from parmlip.io.reference_cache import CachedLaw
from parmlip.io.results import Results
from parmlip.mechanics.bulk import nearest_distance
from parmlip.mechanics.cluster_forces import ClusterForces, SeparateForces, is_local
from parmlip.mechanics.force_mixing import QMForces, SiteLawForces
from parmlip.parallel.sites import Sites
from parmlip.potentials.base import SiteLaw
from parmlip.potentials.taylor import LatticeState, TaylorLaw, lattice_vectors
from parmlip.potentials.taylor_predicted import PredictedState
from parmlip.potentials.taylor_state import CellState
from parmlip.potentials.tight_binding import NRLTightBinding
from parmlip.potentials.tight_binding_contour import ContourTightBinding

Crystal = tuple[Lattice, float]
RealArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Of an automatic buffer beyond what the reference configuration needs, angstrom: sites move against each other.
_MARGIN: Final = 0.5
_DEEPER: Final = 0.75  # angstrom by which sites may come nearer to each other than in the predictor
# Vectors of the crystal are known this far beyond twice the cutoff and a Burgers vector, angstrom.
_BEYOND: Final = 5.0
_LINK: Final = 2.0  # nearest distances: parts of the QM region and buffer farther apart are clusters of their own


@dataclass(frozen=True, eq=False)
class Coupling:
    """The clamped domain of [simulation] and the regions of [qmmm] in it."""

    domain: ClampedDomain
    regions: Regions
    slip: float  # length of the Burgers vector, angstrom; 0 without a dislocation
    far_field: float  # part of the far field into which buffers may reach, angstrom

    def deep(self, mm: SiteLaw, predictor_ad: RealArray) -> NDArray[np.bool_]:
        """QM sites of which the forces on MM sites know nothing, (n_sites,): none of these is in the MM law's reach.

        Seen from the predictor, with a margin: pairs across the slip are not those of the reference configuration.
        """
        cell, qm_a = self.domain.supercell, self.regions.qm_a
        reach = (mm.law.cutoff if isinstance(mm, TaylorLaw) else mm.cutoff) + _DEEPER
        positions_ac = cell.positions_ac.copy()
        positions_ac[:, : cell.dimension] += predictor_ad
        pairs = find_pairs(cell.cell_cc, cell.periodic, positions_ac, reach, np.flatnonzero(qm_a))
        beside_n = np.zeros(len(pairs.centre_n), dtype=bool)
        number_p = np.repeat(np.arange(len(beside_n)), np.diff(pairs.first_n))
        beside_n[number_p[~qm_a[pairs.site_p]]] = True
        deep_a = qm_a.copy()
        deep_a[pairs.centre_n[beside_n]] = False
        return deep_a


def coupling(study: Study, of: Crystal, domain: ClampedDomain | None = None) -> Coupling:
    """Domain (that of [simulation], or `domain` in its place) and regions, checked. Local.

    Raises
    ------
    ConfigError
        The buffer is too small, the regions do not fit into the domain, or those of two cores exclude each other.
    """
    domain = construct.clamped_domain(study, study.simulation, of) if domain is None else domain
    assert domain is not None  # the input was checked
    given, slip = study.qmmm, 0.0
    if isinstance(domain, Disc):
        cores_nc, slip = domain.centre_c[None], float(np.linalg.norm(domain.core.burgers))
    else:
        cores_nc = construct.defect_middles(study, study.simulation, of)
    needed, why = _needed(study, of)
    if given.radius is None:  # a sweep may give it
        raise ConfigError("[qmmm] missing key 'radius': R_QM in angstrom, for the stage qmmm")
    width = max(needed, _exact(study)) + _MARGIN + slip if isinstance(given.buffer, str) else given.buffer
    regions = build_regions(
        domain.supercell, cores_nc, given.radius, width, domain.free_a, in_plane=domain.kind == "disc"
    )
    far_field = domain.rim if study.reference.is_total else 0.0  # clusters may hold sites that stand still
    check_sizes(regions, domain.radius, needed=needed, why=why, far_field=far_field)
    _check_mm(study, domain)
    return Coupling(domain, regions, slip, far_field)


def perfect_domain(study: Study, of: Crystal) -> ClampedDomain:
    """The same domain without its defects."""
    domain = construct.clamped_domain(study, replace(study.simulation, defects=()), of)
    assert domain is not None  # the input was checked
    return domain


def mm_law(
    study: Study, results: Results, of: Crystal, domain: ClampedDomain, predictor_ad: RealArray | None
) -> SiteLaw:
    """The MM law for the sites of a domain; one that keeps places takes those of the predictor.

    Collective on ``results.comm``.
    """
    if study.qmmm.mm == "reference":
        return construct.reference_law(study)
    if study.qmmm.mm == "law":
        return given_law(study)
    if study.surrogate.kind == "ace":
        return construct.surrogate_law(results)
    law = lattice_law(study, of, study.simulation)
    slip = float(np.linalg.norm(domain.core.burgers)) if isinstance(domain, Disc) else 0.0
    cell = construct.cell_of(study.simulation, of)
    lattice = LatticeState(lattice_vectors(*cell, 2.0 * law.law.cutoff + slip + _BEYOND))
    if isinstance(domain, Disc) and predictor_ad is not None:
        return law.about(PredictedState(lattice, domain.supercell, predictor_ad))
    return law.about(CellState(lattice, domain.supercell))


def given_law(study: Study) -> SiteLaw:
    """The law of [qmmm] mm_law, whose keys are those of [reference]."""
    table = read_table(Reference, study.qmmm.mm_law, "[qmmm] mm_law")
    return construct.reference_law(replace(study, tables={**study.tables, "reference": table}))


def qm_forces(study: Study, of: Crystal, found: Coupling, sites: Sites) -> QMForces:
    """What gives the forces on QM sites, whose displacements have the rows of `sites`. Collective on ``sites.comm``."""
    cell, r = found.domain.supercell, found.regions
    law = construct.any_law(study)
    if isinstance(law, CachedLaw):
        return _by_clusters(study, law, of, found, sites, r.qm_a, r.cluster_a)
    return SiteLawForces(law, cell, sites, r.qm_a, r.cluster_a)


def forces_everywhere(study: Study, of: Crystal, found: Coupling, sites: Sites) -> ClusterForces:
    """The same for all sites that move, of a law of whole structures, asked about the whole domain. Collective."""
    law, free_a = construct.any_law(study), found.domain.free_a
    assert isinstance(law, CachedLaw)
    return _by_clusters(study, law, of, found, sites, free_a, np.ones_like(free_a))


def _by_clusters(
    study: Study, law: CachedLaw, of: Crystal, found: Coupling, sites: Sites, qm_a: BoolArray, cluster_a: BoolArray
) -> ClusterForces:
    shared = group_size(law, study.reference.ranks_per_calculator, sites.comm.size)
    return ClusterForces(
        law, found.domain.supercell, qm_a, cluster_a, sites, link=_link(of, found), ranks_per_group=shared
    )


def _link(of: Crystal, found: Coupling) -> float:
    return _LINK * nearest_distance(of[0]) * of[1] + found.slip


def reference_forces_on(study: Study, of: Crystal, found: Coupling, sites: Sites, chosen_a: BoolArray) -> QMForces:
    """The reference's forces on some sites, each seen as QM sites are. Collective on ``sites.comm``.

    Of laws of whole structures every site is in a cluster of its own, unless they know sites without the others.
    """
    domain, law = found.domain, construct.any_law(study)
    cell, plane = domain.supercell, 2 if domain.kind == "disc" else 3
    place_ac = np.ascontiguousarray(cell.positions_ac[:, :plane])

    def near(sites_a: BoolArray, width: float) -> BoolArray:
        distance_a, _ = cKDTree(place_ac[sites_a]).query(place_ac, distance_upper_bound=width)
        return np.isfinite(distance_a)

    if not isinstance(law, CachedLaw):
        return SiteLawForces(law, cell, sites, chosen_a, near(chosen_a, 2.0 * law.cutoff + _MARGIN + found.slip))
    width = found.regions.buffer
    if is_local(law):
        return _by_clusters(study, law, of, found, sites, chosen_a, near(chosen_a, width))
    return SeparateForces(
        law, cell, chosen_a, lambda one_a: near(one_a, width), sites, link=_link(of, found),
        ranks_per_group=group_size(law, study.reference.ranks_per_calculator, sites.comm.size),
    )  # fmt: skip


def check_everywhere(study: Study, of: Crystal) -> None:
    """Raise `ConfigError` if the regions cannot be, at any point of the sweep. Local."""
    for one in [point.study for point in study.points()] or [study]:
        coupling(one, of)


def cluster_warnings(study: Study) -> list[str]:
    """Lines on clusters whose surface QM forces of tight binding see, at any point of the sweep. Local.

    Next to a vacancy in silicon (forces of 1.7 eV / angstrom, dense) buffers of 9.4, 11.8, 14.1 angstrom leave 1.9e-2,
    4.9e-3 and 2.1e-3 eV / angstrom; twice the cutoff is 13.2. What calculators of ASE see is not known.
    """
    lines = []
    for one in [point.study for point in study.points()] or [study]:
        law = construct.total_law(one) if one.reference.is_total else None
        if not isinstance(law, (NRLTightBinding, ContourTightBinding)):
            continue
        dense = law.law if isinstance(law, ContourTightBinding) else law
        exact, seen = _exact(one), f"twice the range {dense.cutoff:.4g} A of the law"
        seen = f"cluster_radius and {seen}" if exact else seen
        least, given = exact or 2.0 * dense.cutoff, one.qmmm.buffer
        if not isinstance(given, str) and given < least * (1.0 - 1e-12):
            lines.append(
                f"[qmmm] buffer = {given:g}: is less than {least:.4g} A, {seen}, so that QM forces see the surface of "
                "their cluster" + ('; or write "auto"' if exact else "")
            )
        if dense.electrons.fermi_level is None:
            lines.append(
                "[reference] fermi_level: is not given; surfaces of QM clusters have levels in the gap, which move the "
                "Fermi level of the cluster and all QM forces with it (silicon: by 1 eV/A); give one in the gap"
            )
    return list(dict.fromkeys(lines))


def radius_warnings(study: Study) -> list[str]:
    """Lines on QM regions that are smaller than the MM law's reach, at any point of the sweep. Local.

    And on a sweep of radii that a tolerance lets grow.
    """
    lines = []
    if "qmmm.radius" in study.sweep and (study.qmmm.tolerance is not None or "qmmm.tolerance" in study.swept_keys):
        lines.append(
            "[qmmm] tolerance: lets R_QM grow at every point, from each radius of the [sweep], so that all points end "
            'alike; take "qmmm.radius" out of [sweep], or tolerance out of [qmmm]'
        )
    for one in [point.study for point in study.points()] or [study]:
        cutoff, radius = _mm_cutoff(one), one.qmmm.radius
        if cutoff is None or radius is None:
            continue
        least = min(radius) if isinstance(radius, tuple) else radius
        if least < cutoff:
            lines.append(
                f"[qmmm] radius = {least:g}: is less than the MM law's cutoff {cutoff:g} A, so that MM sites see the "
                "core, which the MM law is not made for: energies and forces may be far off, or jump"
            )
    return list(dict.fromkeys(lines))


def _mm_cutoff(study: Study) -> float | None:
    """Of the MM law, angstrom; None for the reference itself, which is made for cores."""
    if study.qmmm.mm == "law":
        return given_law(study).cutoff
    if study.qmmm.mm == "reference":
        return None
    return study.surrogate.reach if study.surrogate.kind == "ace" else construct.reference_law(study).cutoff


def _exact(study: Study) -> float:
    """Width of the buffer beyond which QM forces do not change, angstrom; 0 if there is none, or `_needed` says it.

    Of tight binding by clusters: the force on a site is of the clusters of all sites that it interacts with, whose
    levels are of their neighbours.
    """
    law = construct.total_law(study) if study.reference.is_total else None
    if isinstance(law, ContourTightBinding) and law.cluster_radius is not None:
        return law.cluster_radius + 2.0 * law.law.cutoff
    return 0.0


def _needed(study: Study, of: Crystal) -> tuple[float, str]:
    """Least width of the buffer, angstrom, and why. How far laws of whole structures see is not known."""
    if study.reference.is_total:
        return nearest_distance(of[0]) * of[1], "the distance of nearest neighbours"
    cutoff = construct.reference_law(study).cutoff
    if study.qmmm.kind == "energy":
        return cutoff, "the reference's cutoff"
    return 2.0 * cutoff, "twice the reference's cutoff"


def _check_mm(study: Study, domain: ClampedDomain) -> None:
    """The MM law's energies that change must see no surface, and it must know all species."""
    if study.qmmm.mm == "law":
        law = given_law(study)
        for symbol in domain.supercell.species:
            if symbol not in law.species:
                raise ConfigError(f"[qmmm] mm_law: has no parameters for {symbol}, only for {', '.join(law.species)}")
        cutoff = law.cutoff
    elif study.qmmm.mm == "surrogate" and study.surrogate.kind == "ace":
        cutoff = study.surrogate.reach
    else:
        return  # an expansion reaches no farther than the reference, for which the rim was made
    if domain.rim < 2.0 * cutoff:
        raise ConfigError(
            f"[simulation] rim = {domain.rim:g}: must be at least {2.0 * cutoff:g} A, twice the MM law's cutoff "
            f"{cutoff:g} A"
        )
