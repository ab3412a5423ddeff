"""Where the elastic field of a dislocation in a disc has its centre. Local."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from parmlip.crystal.dislocation_disc import Disc
from parmlip.crystal.dislocation_field import Core, slip_corrected
from parmlip.crystal.elasticity import full_tensor, rotated, stroh

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_INNER, _OUTER = 2.0, 4.0  # Burgers vectors: the ring in which fields are compared
_SPREADS: Final = 3.0  # the ring's outer radius: partials lie at one spread from their middle
_LARGEST: Final = 0.5  # of the disc's radius: the rim holds the field of the core as it was put
_ROUNDS: Final = 20  # of ring and centre
_STILL: Final = 1e-4  # angstrom: the ring is where the centre is
_FEW: Final = 6  # sites in the ring


@dataclass(frozen=True, eq=False)
class CorePlace:
    """Centre of the elastic field that is nearest to a displacement."""

    position: tuple[float, float]  # x, y on the reference lattice, angstrom
    misfit: float  # root mean square of what the field leaves in the ring, angstrom


def elastic_centre(
    disc: Disc, stiffness_vv: RealArray, u_ac: RealArray, near: tuple[float, float], spread: float = 0.0
) -> CorePlace | None:
    """The place of the core whose predictor leaves least of a displacement, in a ring round it; None off the disc.

    The ring lies between 2 and 4 Burgers vectors, farther out where the core is spread, and within half of the disc's
    radius. Fields are compared up to a translation and to Burgers vectors: where a core has glided, the cut is another.
    With an edge part the core stays on the glide plane where it was put: the field of a core's dilatation falls as
    r^-1, like that of a climb.

    Parameters
    ----------
    disc : Disc
        Whose `core` has the Burgers vector; positions are its perfect crystal's.
    stiffness_vv : ndarray, shape (6, 6)
        Relaxed, crystal's frame.
    u_ac : ndarray, shape (n_sites, 3)
        Displacement, angstrom.
    near : (float, float)
        Start of the search, such as the centre of Nye's density, angstrom.
    spread : float
        Of the core, such as the root mean square radius of that density, angstrom.
    """
    solution = stroh(rotated(full_tensor(stiffness_vv), disc.orientation.axes_cc))
    b_c = np.array(disc.core.burgers)
    size = float(np.linalg.norm(b_c))
    outer = min(max(_OUTER * size, _SPREADS * spread), _LARGEST * disc.radius)
    x_ac = disc.supercell.positions_ac
    at = np.array(near if b_c[0] == 0.0 else (near[0], disc.core.position[1]))
    n_free = 2 if b_c[0] == 0.0 else 1
    for _ in range(_ROUNDS):
        distance_a = np.linalg.norm(x_ac[:, :2] - at, axis=1)
        ring_n = np.flatnonzero((distance_a > _INNER / _OUTER * outer) & (distance_a < outer) & disc.free_a)
        if len(ring_n) < _FEW:
            return None
        # smooth at its ends: sites that come and go would make steps
        weight_n = np.sin(pi * (distance_a[ring_n] / outer - _INNER / _OUTER) / (1.0 - _INNER / _OUTER)) ** 2
        weight_n /= weight_n.sum()

        def left(off: RealArray, at: RealArray = at, ring_n: IntArray = ring_n, w_n: RealArray = weight_n) -> RealArray:
            core = Core((at[0] + off[0], at[1] + (off[1] if len(off) > 1 else 0.0)), disc.core.burgers)
            off_nc = u_ac[ring_n] - slip_corrected(solution, core, x_ac[ring_n], disc.slip_radius)
            along_n = off_nc @ b_c / size**2
            off_nc = off_nc - np.rint(along_n - np.median(along_n))[:, None] * b_c
            return np.asarray(((off_nc - w_n @ off_nc) * np.sqrt(w_n)[:, None]).reshape(-1))

        found = least_squares(left, np.zeros(n_free), bounds=(-size, size), x_scale=0.1 * size, diff_step=1e-6,
                              xtol=1e-10, ftol=1e-12)  # fmt: skip
        at[:n_free] += found.x
        if np.abs(found.x).max() < _STILL:
            break
    return CorePlace((float(at[0]), float(at[1])), float(np.linalg.norm(found.fun)))
