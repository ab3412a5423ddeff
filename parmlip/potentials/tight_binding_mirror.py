"""Structures all of whose sites are on mirror planes: matrices at k points across the planes are real, not complex."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RealArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# Sites this near to the planes, angstrom, count as on them: forces then differ by 1e-6 eV / angstrom.
PLANAR: Final = 1e-7


def real_gauge(cell_cc: RealArray, positions_ac: RealArray, k_c: RealArray) -> ComplexArray | None:
    """Phases g (4 n_sites,) of the orbitals s, p_x, p_y, p_z with which H and S are real; None if there are none.

    Mirrors at planes normal to a cell vector take k to -k, as complex conjugation does. Of Bloch sums with the phases
    of their sites' places, even orbitals then have real matrix elements among each other, and imaginary ones with the
    odd p along the normal, which is given the factor i. Sites stay on the planes as they are, half a period apart.
    Straight dislocations whose line is normal to a mirror of the crystal, [1-10] in silicon, are such structures.
    """
    along = np.flatnonzero(k_c)
    if len(along) != 1:
        return None
    axis = int(along[0])
    normal = int(np.argmax(np.abs(cell_cc[axis])))
    across_cc = cell_cc.copy()
    across_cc[axis, normal] = 0.0
    period = cell_cc[axis, normal]
    if across_cc[axis].any() or across_cc[:, normal].any():
        return None
    turns_a = positions_ac[:, normal] / period
    planes_a = 2.0 * (turns_a - turns_a[0])
    if np.abs(planes_a - np.rint(planes_a)).max() * abs(period) > 2.0 * PLANAR:
        return None
    phase_ai = np.repeat(np.exp(2j * np.pi * k_c[axis] * turns_a)[:, None], 4, axis=1)
    phase_ai[:, 1 + normal] *= 1j
    return phase_ai.ravel()


def gauged(matrix_xy: NDArray[Any], gauge_x: ComplexArray | None) -> NDArray[Any]:
    """The matrix in that gauge, real; as it is without one."""
    if gauge_x is None or not np.iscomplexobj(matrix_xy):
        return matrix_xy
    return np.ascontiguousarray((gauge_x.conj()[:, None] * matrix_xy * gauge_x).real)


def ungauged(matrix_xy: NDArray[Any], gauge_x: ComplexArray | None) -> NDArray[Any]:
    """Of a real matrix in that gauge, the complex one without it."""
    return matrix_xy if gauge_x is None else gauge_x[:, None] * matrix_xy * gauge_x.conj()
