"""The scalar toy law of locality studies on the chain and the square lattice.

A bond between neighbouring sites has the energy phi(D) = C D^2 + delta D^3 + D^4 of the *signed* difference D of
their displacements, the one further along the axis minus the other; a bond is counted once, half at each site, and its
stiffness is kappa = 2 C + 6 delta D + 12 D^2. Where more than one component moves (the square lattice in its plane),
each component is a scalar field of its own with the same bonds, uncoupled from the other: the scalar model is the
first component, and the second stays at zero where it starts there. Bonds are known by rounding their vectors to steps
of the lattice, so that differences of displacements must stay below half the spacing.

References
----------
Locality of vibrational entropy, the toy model of section 3.2 (eq. 3.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from parmlip.errors import ConfigError
from parmlip.potentials.dense_sites import DenseSiteLaw, SiteKernels
from parmlip.potentials.kernels import toy as kernels
from parmlip.potentials.kernels.toy import Constants

KERNELS: Final = SiteKernels(kernels.site_energies, kernels.site_gradients, kernels.site_hessians)
DIMENSION: Final = MappingProxyType({"chain-toy": 1, "square-toy": 2})
# Symbols stand for places only: H is the crystal, a bond He-He the impurity of the chain, He-Li the square's second.
SPECIES: Final = ("H", "He", "Li")
STIFFNESS: Final = MappingProxyType({("He", "He"): 2.0, ("He", "Li"): 1.5})  # eV / angstrom^2; 1 for all others
DELTA: Final = 0.5  # eV / angstrom^3


def toy(
    dimension: int,
    delta: float = DELTA,
    stiffness: Mapping[tuple[str, str], float] = STIFFNESS,
    spacing: float = 1.0,
    name: str = "toy",
) -> DenseSiteLaw:
    """The toy law with its bond stiffnesses C by pairs of species (1 where none is given), eV / angstrom^2.

    Raises
    ------
    ConfigError
        A stiffness or the spacing is not greater than 0, delta is not finite, or a species is unknown.
    """
    if dimension not in (1, 2):
        raise ConfigError(f"{name}: dimension = {dimension}: must be 1 (chain) or 2 (square)")
    if not (spacing > 0.0 and np.isfinite(delta)):
        raise ConfigError(f"{name}: spacing = {spacing:g}, delta = {delta:g}: must be greater than 0, and finite")
    stiffness_st = np.ones((len(SPECIES), len(SPECIES)))
    for (s, t), value in stiffness.items():
        if s not in SPECIES or t not in SPECIES:
            raise ConfigError(f"{name}: stiffness of {s} {t}: species must be of {', '.join(SPECIES)}")
        if not value > 0.0:
            raise ConfigError(f"{name}: stiffness of {s} {t} = {value:g}: must be greater than 0")
        i, j = SPECIES.index(s), SPECIES.index(t)
        stiffness_st[i, j] = stiffness_st[j, i] = value
    constants = Constants(dimension, float(spacing), float(delta), stiffness_st)
    reach = spacing * (1.5**2 + 0.5**2 * (dimension - 1)) ** 0.5  # farthest vector that is rounded to one step
    return DenseSiteLaw(SPECIES, reach, constants, KERNELS, name, "toy model, section 3.2, eq. (3.5)")


def builtin(name: str, delta: float = DELTA) -> DenseSiteLaw:
    """The toy law by name: chain-toy, square-toy; lattice constant 1 angstrom.

    Raises
    ------
    ConfigError
        Unknown name.
    """
    if name not in DIMENSION:
        raise ConfigError(f"unknown toy law {name!r}; built in are {', '.join(DIMENSION)}")
    return toy(DIMENSION[name], delta, name=name)
