"""What a surrogate of the entropy predicts for the simulation cell, beside the direct numbers."""

from __future__ import annotations

import logging
import time

import numpy as np
from mpi4py import MPI

from parmlip import construct
from parmlip.config import Study
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics.energy import Energy
from parmlip.stages_equilibrium import crystal_of

logger = logging.getLogger(__name__)

Fields = dict[str, Field]


def predicted_fields(study: Study, results: Results, comm: MPI.Comm) -> Fields:
    """Formation entropy, its share of every site and its gradient at the reference's equilibrium. Collective."""
    of = crystal_of(study, results)
    cell = construct.supercell(study, study.simulation, of)
    begin = time.perf_counter()
    energy = Energy(construct.surrogate_law(results), cell, comm=comm)
    u_nd = energy.sites.restrict(np.asarray(results.read("relax_reference", "displacement")))
    site_n = energy.site_energies(u_nd)
    total = energy.total(u_nd)
    gradient_ad = -energy.sites.gather_to_all(energy.difference_and_forces(u_nd)[1])
    seconds = time.perf_counter() - begin
    direct = float(results.read("entropy", "formation"))
    logger.info("formation entropy %.5f k_B by the surrogate, %.5f directly (%.2f s)", total, direct, seconds)
    fields = {
        "formation": Field(total, "k_B", "by the surrogate of the entropy"),
        "formation_direct": Field(direct, "k_B"),
        "formation_error": Field(abs(total - direct), "k_B"),
        "site_entropy": Field(energy.sites.gather_to_all(site_n), "k_B", "by the surrogate, global site order"),
        "gradient": Field(gradient_ad, "k_B/A", "by the surrogate, global site order"),
        "seconds": Field(seconds, "s", "of the surrogate, all together"),
    }
    if "gradient" in results.names("entropy"):
        error_ad = gradient_ad - np.asarray(results.read("entropy", "gradient"))
        fields["gradient_rmse"] = Field(float(np.sqrt(np.mean(error_ad**2))), "k_B/A", "against the direct gradient")
        fields["max_gradient_error"] = Field(float(np.abs(error_ad).max()), "k_B/A")
    return fields
