"""Formation entropy of a small cell by dense algebra: the answer that the other methods are checked with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.mechanics.dense_entropy import embedded, inverse_root, log_modes
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.entropy_reference import EntropyReference
from parmlip.mechanics.hessian import assembled
from parmlip.mechanics.spectrum import spectrum
from parmlip.parallel.farm import on_root_alone

FloatArray = NDArray[np.float64]

_MOST_RELATIVE: Final = 600  # sites up to which F H F is diagonalised too


@dataclass(frozen=True)
class DenseEntropy:
    """S_f and S_FHF, k_B; the same on every rank."""

    formation: float
    relative: float
    identity_error: float | None  # of the identity between the two, where both were computed
    value_j: FloatArray  # eigenvalues of H_def without its zero modes, eV / angstrom^2


def dense_entropy(energy: Energy, perfect: Energy, u_nd: FloatArray, reference: EntropyReference) -> DenseEntropy:
    """From all eigenvalues of the Hessian at `u_nd`; of small cells also from those of F H F.

    Collective on ``energy.comm``.

    Parameters
    ----------
    perfect : Energy
        Of the perfect supercell.

    Raises
    ------
    ConvergenceError
        There are negative modes, or other zero modes than the translations.
    """
    d, comm = energy.dimension, energy.comm
    modes = spectrum(energy, u_nd, n_zero=d, n_negative=0, what="the defective cell")
    formation = modes.entropy - reference.n_def / reference.n_hom * reference.entropy
    offset = reference.formation(0.0)
    if energy.sites.n_sites > _MOST_RELATIVE:
        return DenseEntropy(formation, formation - offset, None, modes.value_j)
    h_xx = dense(energy, u_nd)
    bulk_xx = dense(perfect, np.zeros((perfect.sites.n_owned, d)))
    grid, whole = energy.supercell.grid, perfect.supercell.grid
    assert grid is not None  # there is a reference
    assert whole is not None

    def work() -> float:
        root_xx = inverse_root(bulk_xx, d, reference.n_extra)
        embedded_xx, _ = embedded(h_xx, grid.number_a, reference.n_hom, d)
        return log_modes(embedded_xx, d, reference.n_null, root_xx).total

    relative = on_root_alone(comm, "eigenvalues of F H F", work)
    return DenseEntropy(formation, relative, abs(formation - relative - offset), modes.value_j)


def dense(energy: Energy, u_nd: FloatArray) -> FloatArray:
    """The Hessian as an array in global order on rank 0, empty elsewhere. Collective on ``energy.comm``."""
    d, sites = energy.dimension, energy.sites
    matrix = assembled(energy, u_nd)
    first, column, value = matrix.getValuesCSR()
    matrix.destroy()
    gathered = energy.comm.gather((np.diff(first), column, value))
    if gathered is None:
        return np.zeros((0, 0))
    width_x, column_x, value_x = (np.concatenate(parts) for parts in zip(*gathered, strict=True))
    place_x = (d * sites.site_at[:, None] + np.arange(d)).ravel()
    h_xx = np.zeros((sites.n_sites * d,) * 2)
    h_xx[place_x[np.repeat(np.arange(len(width_x)), width_x)], place_x[column_x]] = value_x
    return h_xx
