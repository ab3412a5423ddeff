"""Cells of silicon and stored values that the tests of tight binding share."""

import json
from pathlib import Path

import numpy as np

from parmlip.potentials.tight_binding import builtin
from tests.potentials.silicon_cells import DIAMOND

ORACLES = json.loads((Path(__file__).parents[1] / "data/tight_binding_oracles.json").read_text())
PERIODIC = (True, True, True)
# Our names of the variants, and those of the stored values.
STORED = {"quip": "quip", "original": "original", "energy_shift": "energyshift", "force_shift": "forceshift"}
LATTICE_CONSTANT = 5.43
FCC_CELL = 0.5 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])


def silicon(**settings):
    return builtin("Si-NRLTB", **settings)


def primitive(a=LATTICE_CONSTANT, repeats=1):
    """Cell and positions of repeats^3 primitive cells."""
    shift_nc = np.array(list(np.ndindex(repeats, repeats, repeats))) @ FCC_CELL
    basis_bc = np.array([[0.0, 0.0, 0.0], [0.25, 0.25, 0.25]])
    return repeats * a * FCC_CELL, a * (shift_nc[:, None] + basis_bc).reshape(-1, 3)


def skewed():
    """Eight sites without any symmetry."""
    rng = np.random.default_rng(1)
    positions_ac = LATTICE_CONSTANT * DIAMOND + rng.normal(0.0, 0.1, (8, 3))
    return LATTICE_CONSTANT * np.eye(3) + rng.normal(0.0, 0.05, (3, 3)), positions_ac


def slightly_skewed():
    """As `skewed`, and no pair within 0.05 angstrom of where the cutoff functions jump in their second derivatives."""
    rng = np.random.default_rng(1)
    return 5.3 * np.eye(3) + rng.normal(0.0, 0.01, (3, 3)), 5.3 * DIAMOND + rng.normal(0.0, 0.015, (8, 3))


def stored_config(number):
    stored = ORACLES["configs"][number]
    return stored, np.array(stored["cell"]), np.array(stored["positions"])


def evaluate(law, cell_cc, positions_ac, periodic=PERIODIC):
    return law.evaluate(cell_cc, periodic, positions_ac, len(positions_ac) * ["Si"])


def order(errors, steps):
    """The order of errors (each a number or an array) in the steps."""
    sizes = [np.linalg.norm(e) for e in errors]
    return np.polyfit(np.log(steps), np.log(sizes), 1)[0]
