"""What QM forces of laws of whole structures see of the surface of their cluster: their patch test.

How far such a law reaches is not known, and estimates from reference forces have buffers of the same width. On the
perfect crystal its forces are zero, but for the surface behind the buffer. Of dislocations it is the crystal before it
has slipped, the reference configuration of the domain.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np

from parmlip.analysis.sampled_residual import Estimate
from parmlip.construct_qmmm import coupling, mm_law, perfect_domain, qm_forces
from parmlip.io.hdf5 import Field
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.coupled_response import CoupledResponse
from parmlip.mechanics.line_search import largest
from parmlip.mechanics.stencil_space import StencilSpace
from parmlip.stages_qmmm_problem import Problem

logger = logging.getLogger(__name__)

_SHARE: Final = 0.3  # of the estimated error: more than that by the buffer is worth a warning
_ROUNDING: Final = 1e-12  # eV / angstrom: less moves nothing


@dataclass(frozen=True)
class BufferError:
    """What the surface of QM clusters does to the perfect crystal."""

    force: float  # largest component on QM sites, eV / angstrom
    geometry: float  # ||D u|| of the crystal that these forces displace, to first order, angstrom

    def fields(self) -> dict[str, Field]:
        """What the result file has of it."""
        return {
            "buffer_force": Field(self.force, "eV/A", "largest on QM sites of the perfect crystal, by its surface"),
            "buffer_error": Field(self.geometry, "A", "geometry error that these forces make, to first order"),
        }


def buffer_error(problem: Problem) -> BufferError:
    """One call of QM forces on the perfect crystal, and the response of the MM law. Collective on ``problem.comm``."""
    study, of, comm = problem.study, problem.of, problem.comm
    perfect = coupling(study, of, perfect_domain(study, of))
    domain = perfect.domain
    mm = mm_law(study, problem.results, of, domain, None)
    energy = ClampedEnergy(mm, domain.supercell, domain.free_a, comm=comm)
    u_nd = np.zeros((energy.sites.n_owned, energy.dimension))
    f_nd = np.where(
        energy.sites.restrict(domain.free_a)[:, None], qm_forces(study, of, perfect, energy.sites).forces(u_nd), 0.0
    )
    force, geometry = largest(f_nd, comm), 0.0
    if force > _ROUNDING:
        with (
            StencilSpace(domain.supercell, energy.sites, study.compare.stencil) as space,
            CoupledResponse(energy, u_nd, None) as response,
        ):
            geometry = space.norm(response(f_nd))
    logger.info(
        "QM forces on the perfect crystal, by the surface of its cluster: %.1e eV/A, which make an error of %.1e A",
        force, geometry,
    )  # fmt: skip
    return BufferError(force, geometry)


def warn_of_buffer(problem: Problem, found: BufferError, estimate: Estimate | None) -> None:
    """A warning where the buffer's error is a share of what is estimated without it, or of what forces are found to."""
    study, buffer = problem.study, problem.regions.buffer
    tolerance = study.relax.force_tolerance
    if estimate is None:
        seen, than = found.force > tolerance, f"[relax] force_tolerance = {tolerance:g}"
    else:
        seen, than = found.geometry > _SHARE * estimate.geometry, f"the estimated error, {estimate.geometry:.1e} A"
    if seen:
        logger.warning(
            "[qmmm] buffer = %g: QM forces see the surface of their cluster, by %.1e eV/A on the perfect crystal; with "
            "the error of %.1e A that this makes, beside %s, take a wider buffer",
            buffer, found.force, found.geometry, than,
        )  # fmt: skip
