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
    h_xy, s_xy = builtin("Si-NRLTB", variant).matrices(cell_cc, PERIODIC, positions_ac, np.array(k_c))
    stored = ORACLES[f"bands_a5.43_{STORED[variant]}"]["eigs_at_points"][point]
    np.testing.assert_allclose(scipy.linalg.eigh(h_xy, s_xy, eigvals_only=True), stored, rtol=0, atol=1e-10)


def test_bad_names_are_told_with_what_there_is():
    with pytest.raises(ConfigError, match=r"unknown tight-binding law 'Si-TB'.*Si-NRLTB"):
        builtin("Si-TB")
    with pytest.raises(ConfigError, match=r"cutoff_variant = 'sharp' is unknown.*force_shift"):
        builtin("Si-NRLTB", "sharp")
