"""The universal screened repulsion of two nuclei and the switch that ends it; any scalar type."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

COULOMB: Final = 14.399645  # e^2 / (4 pi epsilon_0), eV angstrom
SCREENING: Final = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))


@njit(cache=True, error_model="numpy")
def repulsion(r: Any, z: float, z_other: float) -> Any:
    """Z Z' e^2 / (4 pi eps_0 r) phi(r / a), a = 0.46850 / (Z^0.23 + Z'^0.23) angstrom, and two derivatives by r.

    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter (1985), with the digits of LAMMPS' pair_zbl.
    """
    scale = (z**0.23 + z_other**0.23) / 0.46850
    inverse = 1.0 / r
    value, first, second = 0.0 * r, 0.0 * r, 0.0 * r
    for weight, rate in SCREENING:
        b = rate * scale
        part = COULOMB * z * z_other * weight * np.exp(-b * r) * inverse
        value += part
        first -= part * (b + inverse)
        second += part * (b * b + 2.0 * b * inverse + 2.0 * inverse * inverse)
    return value, first, second


@njit(cache=True, error_model="numpy")
def switch(r: Any, inner: float, outer: float) -> Any:
    """One below `inner`, zero beyond `outer`, with three continuous derivatives; and two derivatives by r."""
    width = outer - inner
    x = (r - inner) / width
    if x.real <= 0.0:
        return 1.0 + 0.0 * x, 0.0 * x, 0.0 * x
    if x.real >= 1.0:
        return 0.0 * x, 0.0 * x, 0.0 * x
    y = 1.0 - x
    return (
        1.0 - x * x * x * x * (35.0 - x * (84.0 - x * (70.0 - 20.0 * x))),
        -140.0 * x * x * x * y * y * y / width,
        -420.0 * x * x * y * y * (1.0 - 2.0 * x) / (width * width),
    )


@njit(cache=True)
def switched_repulsions(r_k: Any, z_k: Any, z_other_k: Any, inner: float, outer: float) -> Any:
    """Repulsion times switch of each pair and two derivatives, (3, n), eV / angstrom^k."""
    found = np.empty((3, len(r_k)), r_k.dtype)
    for k in range(len(r_k)):
        v, v1, v2 = repulsion(r_k[k], z_k[k], z_other_k[k])
        s, s1, s2 = switch(r_k[k], inner, outer)
        found[0, k] = v * s
        found[1, k] = v1 * s + v * s1
        found[2, k] = v2 * s + 2.0 * v1 * s1 + v * s2
    return found
