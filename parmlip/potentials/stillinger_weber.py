"""Stillinger-Weber laws of one or several species: half the pair functions and all angles at the site.

References
----------
Stillinger, Weber, Phys. Rev. B 31, 5262 (1985), eqs. 2.3 to 2.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from parmlip.errors import ConfigError
from parmlip.potentials.dense_sites import DenseSiteLaw, SiteKernels
from parmlip.potentials.kernels import stillinger_weber as kernels
from parmlip.potentials.kernels.stillinger_weber import Tables


@dataclass(frozen=True)
class Triplet:
    """Constants of a centre and two neighbours; those of a pair stand in the triplet with that neighbour twice.

    The constants of the equations of the paper: A, B, p, q, a and sigma of the pair function, lambda, gamma and the
    angle of the three-body function; epsilon multiplies both.
    """

    epsilon: float  # eV
    sigma: float  # angstrom
    a: float  # cutoff in units of sigma
    strength: float  # lambda
    gamma: float
    cosine: float
    A: float
    B: float
    p: float
    q: float


KERNELS: Final = SiteKernels(kernels.site_energies, kernels.site_gradients, kernels.site_hessians)
SILICON: Final = Triplet(2.1683, 2.0951, 1.80, 21.0, 1.20, -1 / 3, 7.049556277, 0.6022245584, 4.0, 0.0)
CITATION: Final = "Stillinger, Weber, Phys. Rev. B 31, 5262 (1985)"
# The paper's 50 kcal/mol is read as 2.1683 eV by LAMMPS and matscipy, 2.1682 by KIM models, 2.1675 by QUIP and JuLIP.
EPSILON: Final = MappingProxyType({"Si-SW": 2.1683, "Si-SW-2.1682": 2.1682, "Si-SW-2.1675": 2.1675})


def stillinger_weber(
    species: tuple[str, ...], triplets: Mapping[tuple[str, str, str], Triplet], name: str = "Stillinger-Weber"
) -> DenseSiteLaw:
    """A law from the constants of all ordered triplets (centre, neighbour, neighbour).

    As in LAMMPS: the triplet (i, j, k) has epsilon, lambda and the angle, gamma, sigma and a are those of the pairs
    (i, j, j) and (i, k, k).

    Raises
    ------
    ConfigError
        A triplet is missing, or its constants depend on the order of the neighbours or, for a pair, on which is centre.
    """
    n = len(species)
    pair_kst = np.zeros((8, n, n))
    strength_stu, cosine_stu = np.zeros((n, n, n)), np.zeros((n, n, n))
    for i, s in enumerate(species):
        for j, t in enumerate(species):
            for k, u in enumerate(species):
                if (s, t, u) not in triplets:
                    raise ConfigError(f"{name}: no constants for the triplet {s} {t} {u} (centre first)")
                c = triplets[s, t, u]
                strength_stu[i, j, k], cosine_stu[i, j, k] = c.epsilon * c.strength, c.cosine
            c = triplets[s, t, t]
            if min(c.sigma, c.a) <= 0.0 or c.gamma < 0.0:
                raise ConfigError(f"{name}: {s} {t}: sigma, a must be greater than 0 and gamma not less")
            cutoff = c.a * c.sigma
            end = cutoff - min(c.gamma or 1.0, 1.0) * c.sigma / 800.0  # exp(-x) underflows to zero from x = 746 on
            pair_kst[:, i, j] = c.epsilon * c.A, c.B, c.p, c.q, c.sigma, cutoff, c.gamma * c.sigma, end
    for i, s in enumerate(species):
        for j, t in enumerate(species):
            if not np.array_equal(pair_kst[:6, i, j], pair_kst[:6, j, i]):
                raise ConfigError(f"{name}: the pair constants of {s} {t} {t} and {t} {s} {s} differ")
            for k, u in enumerate(species):
                if strength_stu[i, j, k] != strength_stu[i, k, j] or cosine_stu[i, j, k] != cosine_stu[i, k, j]:
                    raise ConfigError(f"{name}: the constants of {s} {t} {u} and {s} {u} {t} differ")
    tables = Tables._make([*pair_kst, strength_stu, cosine_stu])
    return DenseSiteLaw(species, float(tables.cutoff_st.max()), tables, KERNELS, name, CITATION)


def builtin(name: str) -> DenseSiteLaw:
    """Silicon with one of the published values of epsilon: Si-SW (2.1683 eV), Si-SW-2.1682, Si-SW-2.1675.

    Raises
    ------
    ConfigError
        Unknown name.
    """
    if name not in EPSILON:
        raise ConfigError(f"unknown Stillinger-Weber law {name!r}; built in are {', '.join(EPSILON)}")
    constants = Triplet(**{**vars(SILICON), "epsilon": EPSILON[name]})
    return stillinger_weber(("Si",), {("Si", "Si", "Si"): constants}, name)
