"""Vineyard's formula against its definition by products of frequencies."""

from __future__ import annotations

import numpy as np
import pytest

from parmlip.analysis.rates import crossover_temperature, rate
from parmlip.units import BOLTZMANN_EV, THZ_PER_ROOT


def springs(rng, n: int, lowest: float) -> np.ndarray:
    """A Hessian (3 n, 3 n) with three translations and one eigenvalue of the sign of `lowest` among positive ones."""
    translations = np.tile(np.eye(3), (n, 1)) / np.sqrt(n)
    basis, _ = np.linalg.qr(np.hstack([translations, rng.standard_normal((3 * n, 3 * n - 3))]))
    values = np.concatenate([[0.0, 0.0, 0.0, lowest], rng.uniform(1.0, 10.0, 3 * n - 4)])
    return basis @ np.diag(values) @ basis.T


def positive(h_xx: np.ndarray) -> np.ndarray:
    values = np.linalg.eigvalsh(h_xx)
    return values[values > 1e-9]


def test_one_barrier_has_the_rate_of_the_ratio_of_all_frequencies_with_any_masses():
    rng = np.random.default_rng(1)
    n = 5
    minimum, saddle = springs(rng, n, 0.7), springs(rng, n, -1.3)
    root_x = np.repeat(1.0 / np.sqrt(rng.uniform(1.0, 200.0, n)), 3)
    weighted = [h * np.outer(root_x, root_x) for h in (minimum, saddle)]
    logs = [0.5 * np.log(positive(h)).sum() for h in weighted]
    wanted = THZ_PER_ROOT * np.exp(logs[0] - logs[1])
    entropy = 0.5 * (np.log(positive(minimum)).sum() - np.log(positive(saddle)).sum())
    found = rate(0.5, entropy, np.linalg.eigvalsh(saddle)[0], np.linalg.eigvalsh(weighted[1])[0])
    assert found.attempt_frequency == pytest.approx(wanted, rel=1e-10)
    assert found.at([400.0, 800.0]) == pytest.approx(1e12 * wanted * np.exp(-0.5 / BOLTZMANN_EV / np.array([400, 800])))


def test_one_mass_gives_the_entropy_alone():
    assert pytest.approx(15.6333, abs=1e-4) == THZ_PER_ROOT
    # Mishin copper, 2 x 2 x 1: 2.6226 THz at 63.55 amu
    found = rate(0.87337, 0.29067214510774875, -2.58, -2.58 / 63.55, entropy_error=0.01)
    assert found.attempt_frequency == pytest.approx(2.6225894570832065, abs=1e-5)
    assert found.attempt_frequency_error == pytest.approx(0.01 * found.attempt_frequency)


def test_the_crossover_temperature_is_that_of_the_unstable_frequency():
    omega2 = -1.0 / THZ_PER_ROOT**2  # 1 THz
    assert crossover_temperature(omega2) == pytest.approx(47.9924 / (2 * np.pi), rel=1e-5)  # h THz / k_B = 47.9924 K
