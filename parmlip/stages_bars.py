"""Error bars in the stages: the committee of a fit, what its spread says on the test set and of an equilibrium."""

from __future__ import annotations

import logging
import math

import numpy as np
from mpi4py import MPI

from parmlip import construct
from parmlip.analysis.error_bars import error_bars, first
from parmlip.config import Study
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.errors import ConfigError
from parmlip.fit.dataset import Dataset
from parmlip.fit.observations import RealArray
from parmlip.fit.posterior import calibrated, draws, spread
from parmlip.fit.prediction import Prediction
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics.bulk import UnitCell
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen
from parmlip.numerics.regression import Regression
from parmlip.parallel.logs import timed
from parmlip.potentials.ace import ACEBasis

logger = logging.getLogger(__name__)

Fields = dict[str, Field]


def committee_fields(
    study: Study,
    basis: ACEBasis,
    solution: Regression,
    test: Dataset | None,
    predicted: Prediction | None,
    comm: MPI.Comm,
) -> Fields:
    """Members of [fit] committee, and with a test set their calibration and coverage.

    Collective on ``comm``. Nothing if no committee is asked for.
    """
    n = study.fit.committee
    if n == 0 or solution.covariance_factor is None:
        return {}
    deviation_ik = draws(np.zeros(basis.n_basis), solution.covariance_factor, n, study.run.seed)
    fields = {"committee": Field(deviation_ik, about="coefficients of the members less those of the fit")}
    if test is None or predicted is None:
        logger.warning("error bars are not calibrated, since there is no test set")
        return {**fields, "calibration_energy": Field(1.0), "calibration_force": Field(1.0)}
    with timed("error bars"):
        found = spread(basis, test, deviation_ik.T / math.sqrt(n), comm=comm)
        scales = calibrated(predicted, found)
    fields["calibration_energy"] = Field(scales.energy_scale, about="factor of the energies' error bars")
    fields["calibration_force"] = Field(scales.force_scale, about="factor of the forces' error bars")
    fields["test_energies_std"] = Field(scales.energy_scale * found.energy_o, "eV", "calibrated")
    fields["test_forces_std"] = Field(scales.force_scale * found.force_o, "eV/A", "calibrated")
    for name in ("energy", "force"):
        one, two = (getattr(scales, f"{name}_coverage_{k}sigma") for k in (1, 2))
        if math.isnan(two):
            continue
        about = "part of the test errors within the bars; calibrated on the other half of the set"
        fields[f"test_{name}_coverage_1sigma"] = Field(one, about=about)
        fields[f"test_{name}_coverage_2sigma"] = Field(two, about=about)
        logger.info(
            "error bars of the test set, %s: factor %.3g, %.1f %% of the errors within one and %.1f %% within two",
            name, getattr(scales, f"{name}_scale"), 100.0 * one, 100.0 * two,
        )  # fmt: skip
    return fields


def equilibrium_bars(
    study: Study,
    results: Results,
    energy: Energy,
    u_nd: RealArray,
    green: BulkGreen | None,
    of: tuple[Lattice, float] | None,
) -> Fields:
    """Standard deviations of an equilibrium of the surrogate by [relax] error_bars members; nothing if that is 0.

    Collective on ``energy.comm``.
    """
    n = study.relax.error_bars
    if n == 0:
        return {}
    committee = construct.surrogate_committee(results)
    if committee is None or len(committee) < n:
        has = 0 if committee is None else len(committee)
        raise ConfigError(f"[relax] error_bars = {n}: needs as many members, but the surrogate's committee has {has}")
    cell, comm = energy.supercell, energy.comm
    pairs = nearest_neighbours(cell, study.compare.stencil, np.arange(comm.rank, cell.n_sites, comm.size))
    one_species = of is not None and len(set(study.crystal.species)) == 1 and len(cell.species) == 1
    perfect = UnitCell(energy.law, *of, study.crystal.species) if of is not None and one_species else None
    with timed("error bars"):
        bars = error_bars(energy, u_nd, first(committee, n), green, pairs, perfect)
    about = f"standard deviation by {n} members, to first order"
    fields = {
        "energy_std": Field(bars.energy, "eV", about),
        "geometry_std": Field(bars.geometry, "A", about + ", ||D du||"),
        "displacement_std": Field(bars.displacement_a, "A", about),
        "energy_deviations": Field(bars.energy_i, "eV", "of each member"),
        "geometry_deviations": Field(bars.geometry_i, "A", "of each member"),
    }
    if bars.formation is not None and bars.formation_i is not None:
        fields["formation_energy_std"] = Field(bars.formation, "eV", about)
        fields["formation_energy_deviations"] = Field(bars.formation_i, "eV", "of each member")
        logger.info("error bars: formation energy %.2e eV, geometry %.2e A", bars.formation, bars.geometry)
    else:
        logger.info("error bars: relaxation energy %.2e eV, geometry %.2e A", bars.energy, bars.geometry)
    return fields
