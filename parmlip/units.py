"""Physical constants and conversions. Inside: eV, angstrom, amu, kelvin; entropies in k_B."""

from __future__ import annotations

from typing import Final

# CODATA 2018 (exact by the 2019 SI): elementary charge in C gives 1 eV in J.
ELECTRON_VOLT_J: Final = 1.602176634e-19
# 1 eV / angstrom^3 in GPa.
GPA_PER_EV_A3: Final = ELECTRON_VOLT_J * 1e30 * 1e-9
# CODATA 2018: Boltzmann's constant in eV / K, Planck's in eV s, the atomic mass unit in kg.
BOLTZMANN_EV: Final = 1.380649e-23 / ELECTRON_VOLT_J
PLANCK_EV_S: Final = 6.62607015e-34 / ELECTRON_VOLT_J
ATOMIC_MASS_KG: Final = 1.66053906660e-27
# Frequency omega / 2 pi, THz, of the eigenvalue 1 eV / (angstrom^2 amu) = omega^2.
THZ_PER_ROOT: Final = (ELECTRON_VOLT_J * 1e20 / ATOMIC_MASS_KG) ** 0.5 / (2.0 * 3.141592653589793) * 1e-12
