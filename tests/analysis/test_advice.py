"""Error budgets and what they advise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parmlip.analysis.advice import Budget, Measured, Training, advice, budget
from parmlip.errors import DataError

GOOD = Measured(
    dimension=3, n_defects=2, length=13.0, n_sites=127, energy=1e-6, force=1e-4, force_constants_hom=1e-3, cubic=1e-2,
    stability=0.5, stiffness=4.0, far_square=1e-3, far_fourth=1e-8, bulk_energy=1e-8,
)  # fmt: skip
FITTED = Training(energy_weight=100.0, homogeneous=6, force_constants=False, total_degree=8, samples=40, overfit=1.0)


def causes(measured, training, geometry=1e-3, energy=1e-3):
    return [change.reason for change in advice(measured, training, geometry=geometry, energy=energy)]


def test_nothing_is_advised_where_the_bounds_are_met():
    assert causes(GOOD, FITTED) == []


@pytest.mark.parametrize(
    ("measured", "training", "cause", "key"),
    [
        ({"bulk_energy": 1e-3}, {"homogeneous": 0}, "no perfect cells", "fit.homogeneous"),
        ({"bulk_energy": 1e-3}, {"energy_weight": 0.0}, "energies were not fitted", "fit.weights.energy"),
        ({"energy": 1e-1}, {"energy_weight": 1e-4}, "energies weigh too little", "fit.weights.energy"),
        ({"energy": 1e-1}, {"energy_weight": 0.0}, "energies were not fitted", "fit.weights.energy"),
        ({"force": 1e-1}, {}, "basis is too small", "surrogate.total_degree"),
        ({"force": 1e-1}, {"overfit": 3.0}, "add configurations", "training.samples"),
        ({"force_constants_hom": 1.0}, {}, "force constants are off", "fit.weights.force_derivative_1"),
        ({"force_constants_hom": 1.0}, {"force_constants": True}, "too small", "training.scale"),
        ({"far_fourth": 1e-2}, {}, "too small", "training.scale"),
        (
            {"excursion": 5.0, "force": 1e-1},
            {"rattle": (0.01, "julip")},
            "outside the training ball",
            "training.rattle",
        ),
        ({"excursion": 5.0, "force": 1e-1}, {"rattle": (0.1, "julip")}, "outside the ", "training.scale"),
    ],
)
def test_each_fault_has_its_remedy_first(measured, training, cause, key):
    first = advice(replace(GOOD, **measured), replace(FITTED, **training), geometry=1e-3, energy=1e-3)[0]
    assert cause in first.reason
    assert key in first.keys


def test_outside_the_ball_something_is_advised_even_where_the_bounds_are_met():
    assert len(causes(replace(GOOD, excursion=1.1), FITTED)) == 1
    assert causes(replace(GOOD, excursion=0.9), FITTED) == []


def test_the_bound_holds_for_a_linear_chain_of_two_springs():
    """A quadratic energy: the surrogate's equilibrium is off by at most the error of the force over gamma."""
    rng = np.random.default_rng(1)
    h = np.diag([1.0, 3.0])
    for _ in range(20):
        f, error = rng.standard_normal(2), 1e-2 * rng.standard_normal(2)
        off = np.linalg.norm(np.linalg.solve(h, f) - np.linalg.solve(h, f + error))
        m = replace(
            GOOD, n_defects=1, stability=1.0, force=float(np.linalg.norm(error)), force_constants_hom=0.0, cubic=0.0
        )
        assert off <= Budget.total(budget(m).geometry) + 1e-15


def test_an_enlarged_cell_brings_the_dominating_term_below_the_wanted_error():
    m = replace(GOOD, far_fourth=1e-2, force=1e-8, force_constants_hom=1e-8)
    wanted = 0.5 * Budget.total(budget(m).geometry)
    (change,) = [c for c in advice(m, FITTED, geometry=wanted, energy=1.0) if "training.scale" in c.keys]
    scale = float(change.keys["training.scale"])
    larger = replace(m, far_square=m.far_square * scale**-3, far_fourth=m.far_fourth * scale**-9)
    assert Budget.total(budget(larger).geometry) <= 1.0001 * wanted


def test_states_that_are_not_stable_have_no_bound():
    with pytest.raises(DataError, match="not stable"):
        budget(replace(GOOD, stability=-0.1))
