"""Rates of jumps in harmonic transition state theory. Plain functions of numbers.

References
----------
Vineyard, J. Phys. Chem. Solids 3, 121 (1957), eq. (6); Torabi, Wang, Ortner (2024), section 4.4, with F = E - T S.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parmlip.units import BOLTZMANN_EV, PLANCK_EV_S, THZ_PER_ROOT

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """One direction of a jump."""

    barrier: float  # E(saddle) - E(equilibrium), eV
    entropy: float  # S(saddle) - S(equilibrium) over the positive eigenvalues (eq. 2.8), log of 1 / omega^2 in eV/A^2
    attempt_frequency: float  # THz
    attempt_frequency_error: float = 0.0  # THz

    def at(self, temperature_t: ArrayLike) -> FloatArray:
        """Jumps per second, nu* exp(-barrier / k_B T), at temperatures in kelvin."""
        exponent = -self.barrier / (BOLTZMANN_EV * np.asarray(temperature_t, dtype=float))
        return np.asarray(1e12 * self.attempt_frequency * np.exp(exponent))


def rate(barrier: float, entropy: float, unstable: float, unstable_mass: float, *, entropy_error: float = 0.0) -> Rate:
    """The rate of a jump from its barrier and the entropies of its two ends.

    nu* = prod' nu_min / prod' nu_saddle: by sum of logarithms, sqrt(|omega^2|) / 2 pi times
    exp(entropy) / sqrt(|unstable|), since zero modes and masses of all others are the same at both. With one mass m
    it is exp(entropy) / (2 pi sqrt(m)).

    Parameters
    ----------
    barrier : float
        eV.
    entropy : float
        S(saddle) - S(equilibrium), -1/2 sum log over the positive eigenvalues of H in eV / angstrom^2, k_B.
    unstable : float
        The negative eigenvalue of H at the saddle, eV / angstrom^2.
    unstable_mass : float
        That of H v = omega^2 m v, eV / (angstrom^2 amu).
    entropy_error : float
        Error bar of `entropy`, k_B.
    """
    frequency = THZ_PER_ROOT * float(np.exp(entropy) * np.sqrt(unstable_mass / unstable))
    return Rate(barrier, entropy, frequency, frequency * entropy_error)


def crossover_temperature(unstable_mass: float) -> float:
    """Temperature below which tunnelling takes over, h |nu_unstable| / (2 pi k_B), kelvin.

    Gillan, J. Phys. C 20, 3621 (1987).
    """
    frequency = 1e12 * THZ_PER_ROOT * float(np.sqrt(abs(unstable_mass)))
    return PLANCK_EV_S * frequency / (2.0 * np.pi * BOLTZMANN_EV)
