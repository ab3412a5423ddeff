"""Whether the coupled equilibrium of the stage "qmmm" is stable."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from parmlip.io.hdf5 import Field
from parmlip.mechanics.coupled_stability import balance_stability
from parmlip.mechanics.relax import bulk_green
from parmlip.mechanics.stability import stability
from parmlip.parallel.logs import timed
from parmlip.stages_equilibrium import not_a_minimum
from parmlip.stages_qmmm_problem import Problem, hybrid_forces, linear

logger = logging.getLogger(__name__)

Fields = dict[str, Field]

_RESIDUAL = 1e-5  # relative to the largest eigenvalue: that of a Jacobian errs as its residual, not as the square


def stability_fields(problem: Problem, u_ad: NDArray[np.float64]) -> Fields:
    """The lowest eigenvalue at the coupled equilibrium (n_sites, d), or why it is not known. Collective.

    Of energy mixing that of the Hessian, of force mixing the least real part of the Jacobian's, both relative to the
    bulk Hessian of the MM law as in the stage relax.
    """
    study = problem.study
    if not study.relax.stability:
        return {"stability": Field("not looked at: [relax] stability = false")}
    if problem.reference is None:
        logger.info("whether the balance is stable is not known: the QM forces have no derivatives")
        return {"stability": Field("not known: the QM forces have no derivatives")}
    with timed("coupled stability"):
        if study.qmmm.kind == "energy":
            energy = linear(problem)
            u_nd = energy.sites.restrict(u_ad)
            modes = stability(energy, u_nd, bulk_green(energy), tolerance=_RESIDUAL, assembled=True)
            how, lowest, imaginary = "Lanczos, Hessian", modes.lowest[0], 0.0
            stable, residual, steps, relative = modes.stable, modes.residual, modes.steps, modes.relative
        else:
            with hybrid_forces(problem) as hybrid:
                u_nd, green = hybrid.energy.sites.restrict(u_ad), bulk_green(hybrid.energy)
                found = balance_stability(hybrid, u_nd, green, tolerance=_RESIDUAL)
            how, lowest, imaginary = "Arnoldi, Jacobian", found.lowest.real, found.lowest.imag
            stable, residual, steps, relative = found.stable, found.residual, found.steps, found.relative
    logger.info("%s mixing: lowest eigenvalue %.6g, %d steps (%s)", study.qmmm.kind, lowest, steps, how)
    if not stable:
        why = not_a_minimum(study, lowest, relative=relative)
        if study.qmmm.kind == "force":  # a search for balance goes to saddles as readily as to minima
            why += "; or take a larger [qmmm] radius, whose start is a minimum in more of the core"
        logger.warning("saddle: the coupled equilibrium %s", why)
    unit = "" if relative else "eV/A^2"
    fields = {
        "stable": Field(stable, "", "no negative mode"),
        "lowest_eigenvalue": Field(lowest, unit, "relative to the bulk's"),
        "lowest_eigenvalue_residual": Field(residual, unit),
        "stability": Field(how, "", "how it was found"),
        "stability_steps": Field(steps, "", "products with Hessian or Jacobian"),
    }
    if study.qmmm.kind == "force":
        fields["lowest_eigenvalue_imaginary"] = Field(imaginary, unit, "of the eigenvalue of least real part")
    return fields
