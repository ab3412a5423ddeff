"""What stages share: the perfect crystal as `build` found it, its constants, and the equilibrium of a large cell."""

from __future__ import annotations

import logging
import math

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip import construct
from parmlip.config import Study
from parmlip.crystal.defects import DUMBBELLS
from parmlip.crystal.lattices import Lattice, lattice_named
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics.bulk import UnitCell
from parmlip.mechanics.memory import PROGRAM, PeakMemory, bytes_per_site, lbfgs_bytes
from parmlip.mechanics.relax import bulk_green, relax
from parmlip.mechanics.stability import stability
from parmlip.parallel.logs import timed
from parmlip.potentials.base import SiteLaw
from parmlip.stages_bars import equilibrium_bars
from parmlip.stages_dislocations import core_fields, line_energy
from parmlip.stages_domain import clamped_residual_fields, energy_of, predictor_energy
from parmlip.stages_errors import residual_fields
from parmlip.units import GPA_PER_EV_A3

logger = logging.getLogger(__name__)

_MANY_SITES, _MUCH = 10_000, 1e8  # sites and bytes from which the measured memory says something of a site

Fields = dict[str, Field]
Crystal = tuple[Lattice, float]


def crystal_of(study: Study, results: Results) -> Crystal | None:
    """Lattice and lattice constant as `build` found them; None for a structure file. Collective."""
    if "crystal" not in study.tables or study.crystal.lattice is None:
        return None
    names = results.names("build")
    if "dataset" in study.tables and not names:
        return None  # a fit alone, which needs no lattice
    ratio = results.read("build", "c_over_a") if "c_over_a" in names else None
    return lattice_named(study.crystal.lattice, ratio), results.read("build", "lattice_constant")


def bulk_fields(law: SiteLaw, of: Crystal, study: Study) -> Fields:
    """Energy per site, stress and elastic constants of a law's perfect crystal at the study's lattice constant."""
    unit = UnitCell(law, *of, study.crystal.species)
    clamped, relaxed = unit.stiffness()
    d = unit.dimension
    scale, units = (GPA_PER_EV_A3, "GPa") if d == 3 else (1.0, f"eV/A^{d}")
    return {
        "bulk_energy": Field(unit.energy / unit.n_basis, "eV", "per site of the perfect crystal"),
        "bulk_stress": Field(unit.strain_gradient() / unit.volume * scale, units),
        "elastic_constants_clamped": Field(clamped * scale, units, "Voigt order"),
        "elastic_constants": Field(relaxed * scale, units, "Voigt order, inner displacements relaxed"),
        "C11": Field(float(relaxed[0, 0] * scale), units),
        **({"C12": Field(float(relaxed[0, 1] * scale), units)} if d > 1 else {}),
        **({"C44" if d == 3 else "C66": Field(float(relaxed[-1, -1] * scale), units)} if d > 1 else {}),
    }


def not_a_minimum(study: Study, lowest: float, *, relative: bool) -> str:
    """Why a state is no minimum, and what to try. Local.

    `relative`: whether the eigenvalue is one of the bulk Hessian's pencil, or in eV / angstrom^2.
    """
    unit = "relative to the bulk's (1: the perfect crystal)" if relative else "eV/A^2"
    text = f"is not a minimum: lowest eigenvalue {lowest:.3e} {unit}"
    placed = [d for d in study.simulation.defects if d.kind == "interstitial"]
    if not placed and study.simulation.dislocations is not None:
        other = "`centre`" if study.simulation.dislocations.kind == "loop" else "`polarity` or `core`"
        return f"{text}; start elsewhere: [simulation] dislocations with noise = 0.02, or another {other}"
    if not placed:
        return text
    named = DUMBBELLS.get(study.crystal.lattice or "", {})
    others = [f'"{name}"' for name in named if any(d.site != name for d in placed)]
    start = f"site = {' or '.join(others)}" if others else "another position"
    return f"{text}; start the interstitial elsewhere: [simulation] defects with {start}"


def relaxed_equilibrium(
    study: Study, results: Results, comm: MPI.Comm, law: SiteLaw, which: str, start_ad: NDArray[np.float64] | None
) -> Fields:
    """Relax the simulation cell with a law and say what was found."""
    of = crystal_of(study, results)
    cell = construct.supercell(study, study.simulation, of)
    peak = PeakMemory(comm)
    energy, domain, predictor_ad = energy_of(study, results, of, law, cell, comm=comm)
    estimate = bytes_per_site(law, cell, energy.margin, assembled=study.relax.hessian == "assembled")
    if study.relax.method == "lbfgs" and not study.relax.stability:  # no Hessian is made
        each, _ = lbfgs_bytes(law, cell, cell.n_sites, energy.margin, comm.size)
        estimate = (each - PROGRAM) * comm.size / cell.n_sites
    shape = (energy.sites.n_owned, energy.dimension)
    start_nd = np.zeros(shape) if start_ad is None else energy.sites.restrict(start_ad)
    if domain is not None and predictor_ad is not None:  # another law's equilibrium may have another predictor
        predictor_nd = energy.sites.restrict(predictor_ad)
        start_nd = np.where(domain.free_a[energy.sites.global_n, None], start_nd, predictor_nd)
    green = bulk_green(energy)
    found = relax(energy, start_nd, study.relax, green=green, what=f"{which} equilibrium")
    modes = None
    if study.relax.stability:
        with timed("stability"):
            modes = stability(energy, found.u_nd, green)
    if modes is not None and not modes.stable:
        logger.warning("the %s's state %s", which, not_a_minimum(study, modes.lowest[0], relative=modes.relative))
    memory = (peak.growth() or 0) / cell.n_sites
    # later relaxations live in what the first one has left; small cells in what the start of the program takes
    if (start_ad is None or which == "reference") and cell.n_sites >= _MANY_SITES and memory * cell.n_sites >= _MUCH:
        logger.info("memory: %.1f kB a site (estimate %.1f)", memory / 1e3, estimate / 1e3)
    fields = {
        "displacement": Field(energy.sites.gather(found.u_nd), "A", "global site order"),
        "forces": Field(energy.sites.gather(found.f_nd), "eV/A"),
        "energy": Field(found.energy, "eV", "E(u) - E(0)" if domain is None else "the same to the middle of the rim"),
        "max_force": Field(found.max_force, "eV/A"),
        "iterations": Field(found.iterations),
        "inner_iterations": Field(np.array(found.inner_iterations)),
        "memory_per_site": Field(memory, "B", "growth of the resident memory of all ranks"),
        "memory_per_site_estimate": Field(estimate, "B"),
    }
    if modes is not None:
        fields["stable"] = Field(modes.stable)
        scale = "" if modes.relative else "eV/A^2"
        fields["lowest_eigenvalue"] = Field(modes.lowest[0], scale, "relative to the bulk's")
    if predictor_ad is not None:
        fields["predictor"] = Field(predictor_ad, "A", "u_0, which clamped sites keep")
        fields |= predictor_energy(energy, predictor_ad, found.energy, which)
    if of is not None and len(set(study.crystal.species)) == 1 and len(cell.species) == 1:
        # in the frame of the cell, which laws that keep places know
        unit = UnitCell(law, *construct.cell_of(study.simulation, of), study.crystal.species)
        excess_n = energy.site_energies(np.zeros(shape)) - unit.energy / unit.n_basis
        if domain is not None:  # beyond, sites have the crystal around them, or the surface of the rim
            excess_n = excess_n[domain.inner(law.cutoff)[energy.sites.global_n]]
        unrelaxed = comm.allreduce(math.fsum(excess_n))
        if study.simulation.dislocations is None:  # else the crystal before the cut, not the predictor
            fields["formation_energy_unrelaxed"] = Field(unrelaxed, "eV")
        if domain is None or study.simulation.dislocations is None:
            fields["formation_energy"] = Field(unrelaxed + found.energy, "eV", "against the law's own perfect crystal")
            logger.info("%s: formation energy %.6f eV", which, unrelaxed + found.energy)
    fields |= core_fields(study, results, of, fields["displacement"].value, which)
    fields |= line_energy(cell, fields, which)
    if which == "surrogate" and (modes is None or modes.stable):  # about another state the response means nothing
        fields |= equilibrium_bars(study, results, energy, found.u_nd, green, of)
        if domain is None:
            fields |= residual_fields(study, energy, found.u_nd, green)
        else:
            fields |= clamped_residual_fields(study, energy, found.u_nd, green, domain)
    return fields
