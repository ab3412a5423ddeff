"""Differential displacements of columns of sites along a dislocation's line (Vitek's maps). Local."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_SAME: Final = 1e-2  # angstrom: sites of one column
_NEXT: Final = 1.2  # in least distances of columns: neighbours


@dataclass(frozen=True, eq=False)
class DifferentialDisplacements:
    """Columns of a piece of crystal, and by how much neighbouring ones have moved against each other."""

    place_kc: RealArray  # (n_columns, 2) in the reference configuration, angstrom
    height_k: RealArray  # (n_columns,) of a site of each in the reference configuration, Burgers vectors, in [0, 1)
    pair_pk: IntArray  # (n_pairs, 2) neighbouring columns, each pair once
    difference_p: RealArray  # (n_pairs,) second less first, Burgers vectors, in (-1/2, 1/2]

    @property
    def n_heights(self) -> int:
        """How many heights columns have: three along <111> of bcc."""
        turned = np.sort((self.height_k + 0.25 * _SAME) % 1.0)
        return int(np.count_nonzero(np.diff(turned, prepend=-1.0) > _SAME))


def differential_displacements(x_nc: RealArray, u_n: RealArray, burgers: float) -> DifferentialDisplacements:
    """Differences of the displacement along the line between neighbouring columns, modulo the Burgers vector.

    Parameters
    ----------
    x_nc : ndarray, shape (n, 3)
        Reference positions of some sites, the line along z, angstrom. Nothing repeats: sites are given as they lie
        round a core.
    u_n : ndarray, shape (n,)
        Their displacements along z, angstrom. Columns of several sites have the mean, modulo the Burgers vector.
    burgers : float
        Its screw part, a period of every column, angstrom.

    References
    ----------
    Vitek, Perrin, Bowen, Phil. Mag. 21, 1049 (1970).
    """
    key_n = np.unique(np.round(x_nc[:, :2] / _SAME).astype(np.int64), axis=0, return_inverse=True)[1].reshape(-1)
    n_columns = int(key_n.max(initial=-1)) + 1
    first_k = np.full(n_columns, len(x_nc))
    np.minimum.at(first_k, key_n, np.arange(len(x_nc)))
    off_n = u_n - u_n[first_k][key_n]
    off_n -= burgers * np.rint(off_n / burgers)
    u_k = u_n[first_k] + np.bincount(key_n, off_n, n_columns) / np.bincount(key_n, minlength=n_columns)
    place_kc = x_nc[first_k, :2]
    tree = cKDTree(place_kc)
    least = float(tree.query(place_kc, k=2)[0][:, 1].min()) if n_columns > 1 else 0.0
    pair_pk = tree.query_pairs(_NEXT * least, output_type="ndarray").astype(np.int64).reshape(-1, 2)
    difference_p = (u_k[pair_pk[:, 1]] - u_k[pair_pk[:, 0]]) / burgers
    difference_p -= np.ceil(difference_p - 0.5)  # into (-1/2, 1/2]
    return DifferentialDisplacements(place_kc, (x_nc[first_k, 2] / abs(burgers)) % 1.0, pair_pk, difference_p)
