"""Dislocations in the stages: starts of relaxations, what became of the cores, how two equilibria differ at them."""

from __future__ import annotations

import logging

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.analysis.core_place import CorePlace, elastic_centre
from parmlip.analysis.dislocation_cores import CoreState, core_state
from parmlip.analysis.errors import core_and_far, errors_beyond
from parmlip.config import Simulation, Study, Training
from parmlip.construct_controlled import core_radius
from parmlip.construct_dislocations import given_stiffness
from parmlip.construct_loops import is_loop
from parmlip.crystal.defects import nearest_distance
from parmlip.crystal.dislocation_disc import Disc
from parmlip.crystal.dislocations import DislocatedCell
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import Pairs
from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.parallel.comm import on_root
from parmlip.stages_loops import compared_loops, loop_build_fields, loop_energy, loop_fields, loop_start
from parmlip.units import GPA_PER_EV_A3

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
RealArray = NDArray[np.float64]
Crystal = tuple[Lattice, float]
Offset = tuple[float, float]

# Cores of one basin are no farther apart than this part of the Burgers vector, and have polarities of one sign.
_SAME_CORE = 0.5
_POLAR = 0.05  # Burgers vectors: less is no polarity


def build_fields(study: Study, of: Crystal | None) -> Fields:
    """Cores as asked for. Local."""
    if of is not None and is_loop(study.simulation):
        return loop_build_fields(study, of)
    made = None if of is None else construct.dislocated_cell(study, study.simulation, of)
    if made is None or of is None:
        return {}
    if isinstance(made, Disc):
        shown = ", ".join(f"{b:.4f}" for b in made.core.burgers)
        logger.info("a dislocation with the Burgers vector (%s) A along x, y, z", shown)
        return {**_core_fields(made), "axes": _axes(made)}
    logger.info(
        "%d dislocations, Burgers vector (%s) A along x, y, z, cores %.2f A apart",
        len(made.cores), ", ".join(f"{b:.4f}" for b in made.cores[0].burgers), made.separation,
    )  # fmt: skip
    return {
        **_core_fields(made),
        "core_separation": Field(made.separation, "A", "L_D, least distance of two cores, images included"),
        "axes": _axes(made),
    }


def _core_fields(made: DislocatedCell | Disc) -> Fields:
    return {
        "n_cores": Field(len(made.cores)),
        "core_positions": Field(np.array([c.position for c in made.cores]), "A", "x, y before the tilt"),
        "core_burgers": Field(np.array([c.burgers for c in made.cores]), "A", "along x, y, z"),
    }


def _axes(made: DislocatedCell | Disc) -> Field:
    return Field(made.orientation.axes_cc, "", "rows are x, y, z in the crystal's frame")


def stiffness(results: Results, table: Simulation | Training) -> RealArray:
    """Relaxed stiffness (6, 6), eV / angstrom^3, that predictors take: given, or the reference's, or the surrogate's.

    Collective.
    """
    given = given_stiffness(table)
    if given is not None:
        return given
    for step in ("reference", "train"):
        if "elastic_constants" in results.names(step):
            return np.asarray(results.read(step, "elastic_constants")) / GPA_PER_EV_A3
    raise ConfigError(
        "dislocations elastic_constants: the law gives none; write { C11 = , C12 = , C44 = } in GPa, or take a law "
        "with site energies"
    )


def start(
    study: Study, results: Results, table: Simulation | Training, of: Crystal | None, offset: Offset = (0.0, 0.0)
) -> RealArray | None:
    """The predictor (n_sites, 3), angstrom, of cores moved by `offset` (x, y in angstrom); None without dislocations.

    Collective on ``results.comm``.
    """
    if table.dislocations is None or of is None:
        return None
    c_vv = stiffness(results, table)
    if is_loop(table):
        return loop_start(study, table, of, c_vv, results.comm)

    def predicted() -> RealArray:
        made = construct.dislocated_cell(study, table, of)
        assert made is not None
        if isinstance(made, Disc):
            return made.start(c_vv, offset)
        return (made.shifted(offset) if any(offset) else made).predictor(c_vv)

    return on_root(results.comm, "dislocations", predicted)


def core_fields(study: Study, results: Results, of: Crystal | None, u_ad: RealArray | None, which: str) -> Fields:
    """What became of the cores; `u_ad` of all sites counts on rank 0. Collective on ``results.comm``."""
    if study.simulation.dislocations is None or of is None:
        return {}
    c_vv = stiffness(results, study.simulation)
    if is_loop(study.simulation):
        return loop_fields(study, of, u_ad, which, c_vv, results.comm)

    def work() -> tuple[DislocatedCell | Disc, CoreState, CorePlace | None]:
        made = construct.dislocated_cell(study, study.simulation, of)
        assert made is not None
        assert u_ad is not None
        found = core_state(made, c_vv, u_ad)
        x, y = found.position_nc[0]
        if not isinstance(made, Disc):
            return made, found, None
        return made, found, elastic_centre(made, c_vv, u_ad, (x, y), float(found.spread_n[0]))

    made, found, place = on_root(results.comm, "fingerprints of cores", work)
    intended = np.array([c.burgers for c in made.cores])
    content_n = np.sum(found.burgers_nc * intended, axis=1) / np.sum(intended**2, axis=1)
    shift_n = np.linalg.norm(found.position_nc - np.array([c.position for c in made.cores]), axis=1)
    for n in range(len(made.cores)):
        logger.info(
            "%s core %d at (%.3f, %.3f) A: moved %.3f A, content %.3f b, density %.2f b, spread %.2f A, "
            "polarity %+.3f b",
            which, n, *found.position_nc[n], shift_n[n], content_n[n], found.density_n[n], found.spread_n[n],
            found.polarity_n[n],
        )  # fmt: skip
    gone = np.flatnonzero(~found.present(intended))
    if len(gone):
        logger.warning(
            "%s: core %s has gone from its place or annihilated; where cores attract, a larger cell or other `offsets` "
            "keep them apart",
            which, ", ".join(str(n) for n in gone),
        )  # fmt: skip
    if found.n_miscoordinated:
        logger.info("%d sites have not %d neighbours", found.n_miscoordinated, found.perfect)
    centre = {}
    if place is not None:
        logger.info("%s core: centre of its elastic field (%.3f, %.3f) A, misfit %.3f A", which, *place.position,
                    place.misfit)  # fmt: skip
        about = "centre of the elastic field that is nearest in a ring round the core, reference lattice"
        centre = {
            "core_elastic_position": Field(np.array([place.position]), "A", about),
            "core_elastic_misfit": Field(place.misfit, "A", "root mean square of what that field leaves there"),
        }
    return {
        **centre,
        "core_position": Field(found.position_nc, "A", "centres of the Burgers vector's density, reference lattice"),
        "core_shift": Field(shift_n, "A", "from where they were put"),
        "core_burgers": Field(found.burgers_nc, "A", "of a circuit within half of the cores' separation"),
        "core_density": Field(found.density_n, "b", "Nye's density of the sites nearest to each core, Burgers vectors"),
        "core_spread": Field(found.spread_n, "A", "root mean square radius of the density"),
        "polarity": Field(found.polarity_n, "b", "shift of the three columns at the intended core, Burgers vectors"),
        "cores_present": Field(not len(gone)),
        "n_miscoordinated": Field(found.n_miscoordinated),
        "coordination": Field(found.coordination_a),
        "nye": Field(found.nye_ac, "1/A", "Nye's tensor alpha_zx, alpha_zy, alpha_zz by site"),
    }


def line_energy(cell: Supercell, fields: Fields, which: str) -> Fields:
    """Energy of a relaxed cell per dislocation and length along the line; none without dislocations. Local.

    Of this cell: with the elastic interaction of the cores and their images, it grows as log L_D. A disc has none: its
    energy is that of its radius. Of a loop it is that of its line as it was put. Cores that are gone have none.
    """
    if "loop_present" in fields:
        return loop_energy(fields, which)
    if "core_position" not in fields or "predictor" in fields or not fields["cores_present"].value:
        return {}
    # of tilted cells u = 0 is strained: the formation energy, where it is known, is against the crystal
    energy = float((fields.get("formation_energy") or fields["energy"]).value)
    found = energy / (len(fields["core_position"].value) * float(np.linalg.norm(cell.cell_cc[2])))
    logger.info("%s: energy of a dislocation in this cell %.6f eV/A", which, found)
    return {"line_energy": Field(found, "eV/A", "per dislocation and length of its line, with those of the cell")}


def compared_cores(
    study: Study, results: Results, of: Crystal | None, pairs: Pairs, difference_ad: RealArray, comm: MPI.Comm
) -> Fields:
    """Shifts of the surrogate's cores against the reference's; the geometry error near cores and far from them.

    Near is within the core radius (without training cells half of the cores' separation). Collective on ``comm``.
    """
    if of is not None and is_loop(study.simulation):
        return compared_loops(study, results, of, pairs, difference_ad, comm)
    made = None if of is None else construct.dislocated_cell(study, study.simulation, of)
    if made is None or of is None:
        return {}
    at = [np.asarray(results.read(f"relax_{law}", "core_position")) for law in ("reference", "surrogate")]
    polarity = [np.asarray(results.read(f"relax_{law}", "polarity")) for law in ("reference", "surrogate")]
    shift_n = np.linalg.norm(at[1] - at[0], axis=1)
    size = float(np.linalg.norm(made.cores[0].burgers))
    polar = np.maximum(*np.abs(polarity)) > _POLAR
    flipped = polar & (np.abs(polarity[1] - polarity[0]) > _POLAR + 0.5 * np.abs(polarity[0]))
    radius = core_radius(study, of, 0.5 * made.separation)
    distance_a = made.distances()
    core, far = core_and_far(pairs, difference_ad, distance_a <= radius, comm=comm)
    spacing = nearest_distance(of[0]) * of[1]
    radii = spacing * np.arange(max(int(0.5 * made.separation / spacing), 1) + 1)
    beyond = errors_beyond(pairs, difference_ad, distance_a, radii, comm=comm)
    same = bool((shift_n < _SAME_CORE * size).all() and not flipped.any())
    if not same:
        logger.warning("cores moved by up to %.3f A, %d changed polarity", shift_n.max(), np.count_nonzero(flipped))
    return {
        "core_shift": Field(shift_n, "A", "of the surrogate's cores against the reference's"),
        "max_core_shift": Field(float(shift_n.max()), "A"),
        "polarities_changed": Field(int(np.count_nonzero(flipped))),
        "same_cores": Field(same),
        "distance": Field(distance_a, "A", "of each site to the nearest core"),
        "core_radius": Field(radius, "A"),
        "geometry_error_core": Field(core, "A", "of the sites within it of a core"),
        "geometry_error_far": Field(far, "A", "of all others"),
        "beyond_radius": Field(radii, "A", "from all cores: nearest distances"),
        "geometry_error_beyond": Field(beyond, "A", "of the sites farther than beyond_radius from all cores"),
    }
