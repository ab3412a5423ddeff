"""Several starts of dislocated cells, cores moved against the crystal: which equilibrium is taken."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.config import Study
from parmlip.construct_dislocations import oriented_lattice
from parmlip.crystal.lattices import Lattice
from parmlip.errors import ConfigError, ConvergenceError, GeometryError
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics.relax import bulk_green, relax
from parmlip.mechanics.stability import stability
from parmlip.parallel.logs import timed
from parmlip.potentials.base import SiteLaw
from parmlip.stages_dislocations import core_fields, start
from parmlip.stages_domain import energy_of

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
Crystal = tuple[Lattice, float]
RealArray = NDArray[np.float64]

_DIGITS: Final = 5  # of eV: energies that are the same to these are equal


@dataclass(frozen=True)
class Scanned:
    """End of one start."""

    offset: tuple[float, float]  # angstrom
    energy: float  # eV
    n_miscoordinated: int
    present: bool  # whether all cores have stayed
    stable: bool  # no negative mode


def scanned_start(
    study: Study, results: Results, of: Crystal | None, law: SiteLaw, comm: MPI.Comm, which: str
) -> tuple[RealArray | None, Fields]:
    """The start of [simulation] from which the lowest equilibrium is reached, and what the others came to.

    See `chosen`. Without `offsets` it is the start that is asked for, and nothing is told. Collective on ``comm``.

    Raises
    ------
    ConvergenceError
        None of the starts keeps its cores.
    """
    given = study.simulation.dislocations
    if of is None or given is None or given.offsets == 1:
        return start(study, results, study.simulation, of), {}
    shifts = offsets_of(study, of)
    energy, domain, _ = energy_of(study, results, of, law, construct.supercell(study, study.simulation, of), comm=comm)
    green = bulk_green(energy)
    found = []
    for number, shift in enumerate(shifts):
        what = f"{which}, start {number + 1} of {len(shifts)}, cores moved by ({shift[0]:.4f}, {shift[1]:.4f}) A"
        try:
            start_ad = start(study, results, study.simulation, of, shift)
            assert start_ad is not None
            with timed("offsets"):
                end = relax(energy, energy.sites.restrict(start_ad), study.relax, green=green, what=what)
            cores = core_fields(study, results, of, energy.sites.gather(end.u_nd), which)
        except ConfigError as error:
            if not isinstance(given.offsets, int):
                raise
            logger.info("%s: left out, %s", what, error)
        except (ConvergenceError, GeometryError) as error:
            logger.warning("%s: left out, %s", what, error)
        else:
            with timed("stability"):
                stable = stability(energy, end.u_nd, green).stable
            present = bool(cores["cores_present"].value)
            found.append(Scanned(shift, end.energy, int(cores["n_miscoordinated"].value), present, stable))
    best = chosen(found)
    for one in found:
        logger.info(
            "%s from (%.4f, %.4f) A: %s%s", which, *one.offset, _in_words(one), ", taken" if one is best else ""
        )
    if best is None:
        raise ConvergenceError(
            f"{which}: of {len(shifts)} starts of [simulation] dislocations offsets none ends with its cores", None
        )
    fields = {
        "offset": Field(np.array(best.offset), "A", "of the cores at the start that was taken"),
        "scan_offsets": Field(np.array([one.offset for one in found]), "A", "of the cores, of starts that converged"),
        "scan_energies": Field(np.array([one.energy for one in found]), "eV"),
        "scan_miscoordinated": Field(np.array([one.n_miscoordinated for one in found])),
        "scan_cores_present": Field(np.array([one.present for one in found])),
        "scan_stable": Field(np.array([one.stable for one in found])),
    }
    return start(study, results, study.simulation, of, best.offset), fields


def offsets_of(study: Study, of: Crystal) -> list[tuple[float, float]]:
    """Shifts of the cores, angstrom: those given in lattice constants, or some within a cell along x. Local."""
    given = study.simulation.dislocations
    assert given is not None
    if not isinstance(given.offsets, int):
        return [(float(x) * of[1], float(y) * of[1]) for x, y in given.offsets]
    width = float(oriented_lattice(study.simulation, of)[0].cell_cc[0, 0]) * of[1]
    return [(width * k / given.offsets, 0.0) for k in range(given.offsets)]


def chosen(found: list[Scanned]) -> Scanned | None:
    """The lowest of those that keep their cores, the first of equal ones. Local.

    Those whose sites all have the crystal's number of neighbours go before others, and among them minima before others.
    """
    kept = [one for one in found if one.present]
    perfect = [one for one in kept if one.n_miscoordinated == 0] or kept
    minima = [one for one in perfect if one.stable] or perfect
    return min(minima, key=lambda one: round(one.energy, _DIGITS), default=None)


def _in_words(one: Scanned) -> str:
    faults = ("" if one.present else ", cores gone") + ("" if one.stable else ", no minimum")
    return f"{one.energy:.6f} eV, {one.n_miscoordinated} sites of other coordination{faults}"
