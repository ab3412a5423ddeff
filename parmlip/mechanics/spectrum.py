"""All eigenvalues of the Hessian of a small cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

from parmlip.errors import ConvergenceError
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.hessian import HessianPattern, block_rows
from parmlip.parallel.farm import on_root_alone

FloatArray = NDArray[np.float64]

# Zero modes come out at 1e-15 to 1e-13 of the largest eigenvalue; the softest true ones of 10^4 sites are above 1e-5.
_NULL: Final = 1e-9


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of H without its zero modes, ascending, eV / angstrom^2; the same on every rank."""

    value_j: FloatArray
    n_zero: int  # modes that were taken out

    @property
    def n_negative(self) -> int:
        """Unstable modes."""
        return int(np.count_nonzero(self.value_j < 0.0))

    @property
    def entropy(self) -> float:
        """-1/2 sum log of the positive eigenvalues, in k_B and with the unit of the eigenvalues (eq. 2.8)."""
        return -0.5 * float(np.log(self.value_j[self.value_j > 0.0]).sum())


def spectrum(energy: Energy, u_nd: FloatArray, *, n_zero: int, n_negative: int, what: str) -> Spectrum:
    """All eigenvalues of d2E/du2, by dense algebra on rank 0: 3 GB at 6,600 sites, 2 s at 700, with the cube.

    Collective on ``energy.comm``.

    Parameters
    ----------
    u_nd : ndarray, shape (n_owned, d)
        Displacement, angstrom.
    n_zero, n_negative : int
        Zero modes (translations) and unstable modes that there must be.
    what : str
        Names the state in messages.

    Raises
    ------
    ConvergenceError
        Other numbers were found; `result` is the array of all eigenvalues.
    """
    sites, d = energy.sites, energy.dimension
    energy.environments(u_nd)  # renews the pair lists, so that the pattern is theirs
    pattern = HessianPattern(energy)
    rows = (np.diff(pattern.first_r), pattern.number_b, block_rows(energy, u_nd, pattern))
    gathered = energy.comm.gather(rows)

    def work() -> FloatArray:
        assert gathered is not None
        width_r, number_b, h_bcd = (np.concatenate(parts) for parts in zip(*gathered, strict=True))
        h_xx = np.zeros((sites.n_sites, d, sites.n_sites, d))
        h_xx[np.repeat(np.arange(sites.n_sites), width_r), :, number_b] = h_bcd
        n = sites.n_sites * d
        return np.asarray(eigvalsh(h_xx.reshape(n, n), overwrite_a=True, check_finite=False))

    value_j = on_root_alone(energy.comm, f"eigenvalues of {what}", work)
    zero = np.abs(value_j) <= _NULL * np.abs(value_j).max()
    found = Spectrum(value_j[~zero], int(zero.sum()))
    if (found.n_zero, found.n_negative) != (n_zero, n_negative):
        raise ConvergenceError(
            f"{what}: {found.n_negative} negative and {found.n_zero} zero modes instead of {n_negative} and {n_zero} "
            f"(lowest eigenvalues {', '.join(f'{v:.3e}' for v in value_j[: n_zero + n_negative + 1])} eV/A^2)",
            value_j,
        )
    return found
