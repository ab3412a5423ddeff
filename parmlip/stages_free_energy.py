"""Free energies of formation over temperature, E_f - T S_f, classical and quantum harmonic, of the stage entropy."""

from __future__ import annotations

import logging

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from parmlip.config import Study
from parmlip.io.hdf5 import Field
from parmlip.io.results import Results
from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.quantum_entropy import quantum_correction
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.parallel.logs import timed
from parmlip.units import BOLTZMANN_EV

logger = logging.getLogger(__name__)

Fields = dict[str, Field]
FloatArray = NDArray[np.float64]

_ALL_SITES = 400  # cells up to this size without probes
_NEAR, _PROBES = 60, 12


def free_energy_fields(
    study: Study, results: Results, relaxed: str, formation: float, error: float, energy: Energy, u_nd: FloatArray,
    *, assembled: bool,
) -> Fields:  # fmt: skip
    """At the temperatures of [entropy], where the formation energy is known. Collective on ``energy.comm``."""
    temperature_t = np.array(study.entropy.temperatures)
    if not len(temperature_t) or "formation_energy" not in results.names(relaxed):
        return {}
    formation_energy = float(results.read(relaxed, "formation_energy"))
    thermal_t = BOLTZMANN_EV * temperature_t
    classical_t = formation_energy - thermal_t * formation
    fields = {
        "temperature": Field(temperature_t, "K"),
        "formation_free_energy": Field(classical_t, "eV", "classical harmonic, E_f - T S_f"),
        "formation_free_energy_error": Field(thermal_t * error, "eV", "by the error bar of S_f"),
    }
    quantum = _quantum(study, energy, u_nd, temperature_t, assembled)
    quantum_t = classical_t + thermal_t * quantum[0]
    fields["formation_free_energy_quantum"] = Field(
        quantum_t, "eV", "quantum harmonic: zero-point motion, ASE's masses"
    )
    fields["quantum_error"] = Field(thermal_t * quantum[1], "eV", "of its difference to the classical one")
    logger.info("free energy of formation (eV): temperature (K), classical, quantum harmonic")
    for row in zip(temperature_t, classical_t, quantum_t, strict=True):
        logger.info("    %8.1f  %12.6f  %12.6f", *row)
    return fields


def _quantum(
    study: Study, energy: Energy, u_nd: FloatArray, temperature_t: FloatArray, assembled: bool
) -> tuple[FloatArray, FloatArray]:
    """Quantum correction in k_B T and its error, for every temperature. Collective."""
    cell, asked = energy.supercell, study.entropy
    mass_of = {s: asked.masses.get(s, float(atomic_masses[atomic_numbers[s]])) for s in cell.species}
    small = cell.n_sites <= _ALL_SITES
    matrix = hessian.assembled(energy, u_nd) if assembled else hessian.operator(energy, u_nd)
    try:
        with RelativeHessian(matrix, energy.law, cell, energy.sites) as relative, timed("entropy: quantum"):
            found = [
                quantum_correction(
                    relative, energy, u_nd, mass_of, float(t), n_near=2 * cell.n_sites if small else _NEAR,
                    n_probes=0 if small else _PROBES, batch=asked.batch, seed=study.run.seed,
                )
                for t in temperature_t
            ]  # fmt: skip
    finally:
        matrix.destroy()
    return np.array([f.value for f in found]), np.array([f.error for f in found])
