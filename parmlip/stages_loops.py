"""Dislocation loops in the stages: starts of relaxations, what became of the line, how two equilibria differ at it."""

from __future__ import annotations

import logging
from typing import Final

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.analysis.errors import core_and_far
from parmlip.analysis.loop_state import loop_state
from parmlip.config import Simulation, Study, Training
from parmlip.construct_controlled import core_radius
from parmlip.construct_loops import looped
from parmlip.crystal.elasticity import full_tensor
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.loop_field import average_poisson
from parmlip.crystal.loops import check_overlap
from parmlip.crystal.neighbours import Pairs
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics.domain import partitioned
from parmlip.parallel.comm import in_step

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
RealArray = NDArray[np.float64]
Crystal = tuple[Lattice, float]

_LEFT: Final = 0.5  # of the start's area along the Burgers vector: with less the loop has gone
_SAME_AREA: Final = 0.2  # of the reference's: loops of one basin do not differ by more
_SAME_PLACE: Final = 0.5  # Burgers vectors between their centres


def loop_build_fields(study: Study, of: Crystal) -> Fields:
    """The loop as asked for. Local."""
    made = looped(study, study.simulation, of)
    assert made is not None
    loop = made.loop
    put = {1: "put in", -1: "taken out", 0: "put in or taken out"}[int(np.sign(made.n_platelet))]
    logger.info(
        "a loop of %.2f A round %.2f A^2, Burgers vector (%s) A, %d sites %s",
        loop.length, loop.area, ", ".join(f"{b:.4f}" for b in made.loop.burgers_c), abs(made.n_platelet), put,
    )  # fmt: skip
    return {
        "loop_corners": Field(loop.corner_vc @ made.strain_cc, "A", "of the polygon"),
        "loop_burgers": Field(loop.burgers_c, "A", "displacement above minus below"),
        "loop_normal": Field(loop.normal_c, ""),
        "loop_area": Field(loop.area, "A^2"),
        "loop_length": Field(loop.length, "A"),
        "n_platelet": Field(made.n_platelet, about="sites put in (positive) or taken out (negative)"),
        "core_separation": Field(made.asked.diameter * made.lattice_constant, "A", "L_D, diameter of the loop"),
    }


def loop_start(study: Study, table: Simulation | Training, of: Crystal, c_vv: RealArray, comm: MPI.Comm) -> RealArray:
    """The start (n_sites, 3), angstrom, in a solid with the Voigt average of a stiffness (6, 6).

    Collective on ``comm``: each rank does its share of the sites.
    """
    with in_step(comm, "placing the loop"):
        made = looped(study, table, of)
        assert made is not None
        n_sites = made.supercell.n_sites
        bounds = np.array([n_sites * r // comm.size for r in range(comm.size + 1)])
        share_n = np.arange(bounds[comm.rank], bounds[comm.rank + 1])
        mine_nc = made.start(average_poisson(full_tensor(c_vv)), share_n)
    u_ac = np.empty((n_sites, 3))
    counts = 3 * np.diff(bounds)
    comm.Allgatherv([mine_nc, len(mine_nc) * 3], [u_ac, (counts.tolist(), (3 * bounds[:-1]).tolist())])
    u_ac -= u_ac.mean(axis=0)
    with in_step(comm, "checking the loop's start"):
        check_overlap(made, u_ac, share_n)
    return u_ac


def loop_fields(
    study: Study, of: Crystal, u_ad: RealArray | None, which: str, c_vv: RealArray, comm: MPI.Comm
) -> Fields:
    """What became of the loop; `u_ad` of all sites counts on rank 0. Collective on ``comm``."""
    made = looped(study, study.simulation, of)
    assert made is not None
    u_ac = np.empty((made.supercell.n_sites, 3))
    if u_ad is not None:
        u_ac[:] = u_ad
    comm.Bcast(u_ac, root=0)
    sites = partitioned(made.supercell, comm=comm)
    before = loop_state(made, sites, loop_start(study, study.simulation, of, c_vv, comm))
    found = loop_state(made, sites, u_ac)
    left = found.share / before.share if before.share > 0.0 else 0.0
    shift_c = found.centre_c - before.centre_c
    present = left >= _LEFT
    logger.info(
        "%s: loop has %.2f of its area, line of %.1f A (start %.1f), moved %.3f A, %d sites have not %d neighbours",
        which, left, found.length, before.length, float(np.linalg.norm(shift_c)) if present else 0.0,
        found.n_miscoordinated, found.perfect,
    )  # fmt: skip
    if not present:
        logger.warning("%s: the loop has gone from its place or shrunk away", which)
    shapes = {"coordination": sites.gather(found.coordination_n), "nye": sites.gather(found.line_nc)}
    return {
        "loop_present": Field(present),
        "loop_share": Field(left, about="of the start's area along the Burgers vector (of slip: the normal)"),
        "loop_area_vector": Field(found.area_c, "A^2", "by Nye's tensor"),
        "loop_length": Field(found.length, "A", "of the line, by Nye's tensor"),
        "loop_length_put": Field(made.loop.length, "A", "of the line as it was put"),
        "loop_centre": Field(found.centre_c, "A"),
        **({"loop_shift": Field(float(np.linalg.norm(shift_c)), "A", "from where it was put")} if present else {}),
        "n_miscoordinated": Field(found.n_miscoordinated),
        "coordination": Field(shapes["coordination"]),
        "nye": Field(shapes["nye"], "1/A", "density along x, y, z of lines with the loop's Burgers vector, by site"),
    }


def compared_loops(
    study: Study, results: Results, of: Crystal, pairs: Pairs, difference_ad: RealArray, comm: MPI.Comm
) -> Fields:
    """The surrogate's loop against the reference's; the geometry error near the line and far from it.

    Near is within half of the smallest training cell's length (else a quarter of the diameter). Collective on ``comm``.
    """
    made = looped(study, study.simulation, of)
    assert made is not None
    centre, area, present = (
        [np.asarray(results.read(f"relax_{law}", name)) for law in ("reference", "surrogate")]
        for name in ("loop_centre", "loop_area_vector", "loop_present")
    )
    size = float(np.linalg.norm(made.loop.burgers_c))
    shift = float(np.linalg.norm(centre[1] - centre[0]))
    change = float(np.linalg.norm(area[1] - area[0]) / max(float(np.linalg.norm(area[0])), 1e-12))
    both = bool(present[0] and present[1])
    same = both and shift < _SAME_PLACE * size and change < _SAME_AREA
    if not same:
        logger.warning("the surrogate's loop is not the reference's: %.3f A apart, areas differ by %.2f", shift, change)
    radius = core_radius(study, of, 0.25 * made.asked.diameter * made.lattice_constant)
    distance_a = made.line_distances()
    core, far = core_and_far(pairs, difference_ad, distance_a <= radius, comm=comm)
    return {
        **_energies(results),
        "max_core_shift": Field(shift, "A", "of the surrogate's loop against the reference's"),
        "loop_area_change": Field(change, "", "of the area vector, relative"),
        "same_cores": Field(same),
        "distance": Field(distance_a, "A", "of each site to the line as it was put"),
        "core_radius": Field(radius, "A"),
        "geometry_error_core": Field(core, "A", "of the sites within it of the line"),
        "geometry_error_far": Field(far, "A", "of all others"),
    }


def _energies(results: Results) -> Fields:
    """Energies against each law's own crystal, where they are known. Collective.

    Reference configurations with a platelet are crowded or open at its rim as nothing else is: differences to them are
    ruled by what laws make of that.
    """
    steps = ("relax_reference", "relax_surrogate")
    if not all("formation_energy" in results.names(step) for step in steps):
        return {}
    reference, surrogate = (float(results.read(step, "formation_energy")) for step in steps)
    about = "against the law's own perfect crystal"
    return {
        "energy_reference": Field(reference, "eV", about),
        "energy_surrogate": Field(surrogate, "eV", about),
        "energy_error": Field(abs(reference - surrogate), "eV", about),
    }


def loop_energy(fields: Fields, which: str) -> Fields:
    """Energy of a relaxed loop per length of the line that was asked for. Local."""
    energy = float((fields.get("formation_energy") or fields["energy"]).value)
    found = energy / float(fields["loop_length_put"].value)
    logger.info("%s: energy of the loop in this cell %.6f eV/A of its line", which, found)
    return {"line_energy": Field(found, "eV/A", "per length of the loop's line as it was put")}
