"""Tight-binding silicon against quippy and an independent program."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from parmlip.errors import ConfigError
from parmlip.potentials.tight_binding import builtin

ORACLES = json.loads((Path(__file__).parents[1] / "data/tight_binding_oracles.json").read_text())
PERIODIC = (True, True, True)
# Our names of the variants, and those of the stored values.
STORED = {"quip": "quip", "original": "original", "energy_shift": "energyshift", "force_shift": "forceshift"}
LATTICE_CONSTANT = 5.43
FCC_CELL = 0.5 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])


def primitive(a=LATTICE_CONSTANT):
    return a * FCC_CELL, a * np.array([[0.0, 0.0, 0.0], [0.25, 0.25, 0.25]])


@pytest.mark.parametrize("variant", STORED)
@pytest.mark.parametrize(("point", "k_c"), [("Gamma", (0, 0, 0)), ("X", (0.5, 0.5, 0)), ("L", (0.5, 0, 0))])
def test_bands_at_special_points_are_those_of_an_independent_program(variant, point, k_c):
    cell_cc, positions_ac = primitive()
    h_xy, s_xy = builtin("Si-NRLTB", cutoff=variant).matrices(cell_cc, PERIODIC, positions_ac, np.array(k_c))
    stored = ORACLES[f"bands_a5.43_{STORED[variant]}"]["eigs_at_points"][point]
    np.testing.assert_allclose(scipy.linalg.eigh(h_xy, s_xy, eigvals_only=True), stored, rtol=0, atol=1e-10)


def config(number):
    stored = ORACLES["configs"][number]
    return stored, np.array(stored["cell"]), np.array(stored["positions"])


def evaluate(law, cell_cc, positions_ac, periodic=PERIODIC):
    return law.evaluate(cell_cc, periodic, positions_ac, len(positions_ac) * ["Si"])


@pytest.mark.parametrize("number", [0, 1])
def test_energy_forces_and_stress_agree_with_quippy(number):
    stored, cell_cc, positions_ac = config(number)
    result = evaluate(builtin("Si-NRLTB", convention="band_energy"), cell_cc, positions_ac)
    assert result.energy == pytest.approx(stored["energy_eV"], rel=1e-9)
    np.testing.assert_allclose(result.forces_ac, stored["forces_eV_A"], rtol=0, atol=1e-9)
    stress_cc = -result.virial_cc / np.linalg.det(cell_cc)
    np.testing.assert_allclose(stress_cc, stored["stress_eV_A3"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("variant", STORED)
def test_energies_at_zero_and_finite_temperature_agree_with_an_independent_program(number, variant):
    stored, cell_cc, positions_ac = config(number)
    stored = stored[f"numpy_{STORED[variant]}"]
    cold = builtin("Si-NRLTB", cutoff=variant, electronic_temperature=0.0).states(cell_cc, PERIODIC, positions_ac)
    assert cold.filling.energy == pytest.approx(stored["E_T0_2sum"], rel=1e-12)
    np.testing.assert_allclose(np.sort(cold.filling.level_kx[0])[127:129], [stored["HOMO"], stored["LUMO"]], atol=1e-11)
    warm = builtin("Si-NRLTB", cutoff=variant).states(cell_cc, PERIODIC, positions_ac).filling
    assert warm.band_energy == pytest.approx(stored["E_T0p01"], rel=1e-11)
    assert warm.free_energy == pytest.approx(stored["F_T0p01"], rel=1e-11)
    assert warm.energy == warm.free_energy
    assert warm.n_electrons == pytest.approx(256, abs=1e-10)
    # SKTB counts every state once and fixes the Fermi level.
    law = builtin("Si-NRLTB", cutoff=variant, electronic_temperature=0.0, fermi_level=5.5212408)
    fixed = law.states(cell_cc, PERIODIC, positions_ac).filling
    assert fixed.n_electrons == 2 * stored["SKTB_n_occupied"]
    sktb = stored["SKTB_ZeroTGrand_eF5p5212408_energy_sum_occ_eps_no_spin_factor"]
    assert 0.5 * fixed.band_energy == pytest.approx(sktb, rel=1e-12)


def test_bad_names_are_told_with_what_there_is():
    with pytest.raises(ConfigError, match=r"unknown tight-binding law 'Si-TB'.*Si-NRLTB"):
        builtin("Si-TB")
    with pytest.raises(ConfigError, match=r"cutoff_variant = 'sharp' is unknown.*force_shift"):
        builtin("Si-NRLTB", cutoff="sharp")
