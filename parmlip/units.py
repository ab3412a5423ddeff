"""Physical constants and conversions. Inside: eV, angstrom, amu, kelvin; entropies in k_B."""

from __future__ import annotations

from typing import Final

# CODATA 2018 (exact by the 2019 SI): elementary charge in C gives 1 eV in J.
ELECTRON_VOLT_J: Final = 1.602176634e-19
# 1 eV / angstrom^3 in GPa.
GPA_PER_EV_A3: Final = ELECTRON_VOLT_J * 1e30 * 1e-9
