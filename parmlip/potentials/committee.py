"""A law with the spread of its members: what a fit leaves open, as laws. All is local."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parmlip.potentials.base import Environments, SiteLaw

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Committee:
    """Deviations of n members from a fitted law that is linear in its coefficients.

    The standard deviation of a quantity q that is linear in the law is scale * sqrt(sum_i q_i^2 / n) with q_i that of
    deviation i: about the fitted law, not about the members' mean.

    Attributes
    ----------
    laws : tuple of SiteLaw
        Member minus fitted law, n of them.
    energy_scale, force_scale : float
        Calibration: what the spread is multiplied by so that it tells the errors seen on a test set.
    """

    laws: tuple[SiteLaw, ...]
    energy_scale: float = 1.0
    force_scale: float = 1.0

    def __len__(self) -> int:
        return len(self.laws)

    def site_gradients(self, environments: Environments) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Site energies (n,), eV, and pair gradients (n_pairs, 3), eV / angstrom, of one deviation after the other."""
        for law in self.laws:
            yield law.site_gradients(environments)


def root_mean_square(values_i: FloatArray) -> FloatArray:
    """Over the first axis: the spread of members about the law."""
    return np.asarray(np.sqrt(np.mean(np.square(values_i), axis=0)))
