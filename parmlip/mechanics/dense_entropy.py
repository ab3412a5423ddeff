"""Vibrational entropy of a small cell by dense algebra: total, per site, and what its derivatives are traces with.

Two decompositions into sites: of log+(F H F), F = H_hom^(-1/2), relative to the perfect crystal, or of log+ H. All is
local, for a Hessian that every caller holds whole.

References
----------
Torabi, Wang, Ortner (2024), eqs. (2.8) to (2.12).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from parmlip.errors import DataError
from parmlip.mechanics.third_derivatives import within
from parmlip.numerics.divided_differences import log_divided_differences
from parmlip.potentials.base import BlockPattern, Environments, IntArray, SiteLaw

FloatArray = NDArray[np.float64]

# Zero modes come out at 1e-15 to 1e-13 of the largest eigenvalue, true ones of 10^4 sites are above 1e-5.
_NULL = 1e-9


def dense_hessian(law: SiteLaw, environments: Environments, site_p: IntArray, dimension: int) -> FloatArray:
    """d2E/du2 over the components that move, (n_sites d, n_sites d), eV / angstrom^2; centre n is site n."""
    near, near_p = within(environments, site_p, law.cutoff)
    n = len(near.first_n) - 1
    pattern = BlockPattern(n * np.arange(n + 1), np.tile(np.arange(n), n))
    h_xx = law.hessian_blocks(near, near_p, pattern).reshape(n, n, 3, 3)[:, :, :dimension, :dimension]
    return np.ascontiguousarray(h_xx.swapaxes(1, 2)).reshape(n * dimension, n * dimension)


@dataclass(frozen=True, eq=False)
class LogModes:
    """Positive modes of F H F for a symmetric F (the identity if there is none), the zero modes taken out.

    Attributes
    ----------
    value_j : ndarray, shape (n_modes,)
        Eigenvalues, ascending.
    vector_xj : ndarray, shape (n, n_modes)
        Orthonormal.
    dimension : int
        Components of a site.
    root_xx : ndarray, shape (n, n), optional
        F.
    """

    value_j: FloatArray
    vector_xj: FloatArray
    dimension: int
    root_xx: FloatArray | None = None

    @property
    def total(self) -> float:
        """-1/2 sum log of the eigenvalues."""
        return -0.5 * float(np.log(self.value_j).sum())

    @property
    def site_values(self) -> FloatArray:
        """S_l of every site, (n_sites,); they add up to `total`."""
        weight_aj = (self.vector_xj**2).reshape(-1, self.dimension, len(self.value_j)).sum(axis=1)
        return np.asarray(-0.5 * weight_aj @ np.log(self.value_j))

    @property
    def total_trace(self) -> FloatArray:
        """M with dS = Tr(M dH): -1/2 F (F H F)^+ F."""
        y_xj = self._outer
        return np.asarray(-0.5 * (y_xj / self.value_j) @ y_xj.T)

    def site_trace(self, site: int) -> FloatArray:
        """M with dS_l = Tr(M dH) of site l, (n, n), by divided differences of log."""
        row_cj = self.vector_xj[site * self.dimension : (site + 1) * self.dimension]
        return np.asarray(-0.5 * self._outer @ (self._differences * (row_cj.T @ row_cj)) @ self._outer.T)

    @cached_property
    def _outer(self) -> FloatArray:
        return self.vector_xj if self.root_xx is None else self.root_xx @ self.vector_xj

    @cached_property
    def _differences(self) -> FloatArray:
        return log_divided_differences(self.value_j)


def log_modes(
    h_xx: FloatArray, dimension: int, n_null: int, root_xx: FloatArray | None = None, *, n_negative: int = 0
) -> LogModes:
    """Modes of F H F, whose zero modes are counted and taken out.

    Parameters
    ----------
    h_xx : ndarray, shape (n, n)
        Symmetric.
    dimension : int
        Components of a site.
    n_null : int
        Zero modes that there must be: the translations, and with F those of every vacant site.
    root_xx : ndarray, shape (n, n), optional
        F = H_hom^(-1/2).
    n_negative : int
        Negative modes that there may be, as about a saddle: left out of the logarithm (log+).

    Raises
    ------
    DataError
        More modes are negative, or there are more or fewer zero modes.
    """
    whole_xx = h_xx if root_xx is None else root_xx @ h_xx @ root_xx
    value_j, vector_xj = np.linalg.eigh(0.5 * (whole_xx + whole_xx.T))
    floor = _NULL * float(np.abs(value_j).max(initial=0.0))
    n = int((value_j < -floor).sum())
    if n > n_negative:
        raise DataError(
            f"{n} negative mode(s), the lowest {value_j[0]:.3e} (largest {value_j[-1]:.3e}): the state is no minimum, "
            "its vibrational entropy is not defined; rattle less or relax it"
        )
    found = int((np.abs(value_j) <= floor).sum())
    if found != n_null:
        raise DataError(f"{found} zero modes instead of {n_null}: a site or a part of the cell is loose")
    return LogModes(value_j[n + n_null :], vector_xj[:, n + n_null :], dimension, root_xx)


def inverse_root(h_xx: FloatArray, dimension: int, n_extra: int = 0) -> FloatArray:
    """F = (H_hom^+)^(1/2), and kappa^(-1/2) for `n_extra` sites behind the perfect ones, (n, n).

    kappa = det(H_gg)^(1/d), H_gg the mean on-site block of H_hom: the extra sites' Einstein reference.
    """
    modes = log_modes(h_xx, dimension, dimension)
    n, d = len(h_xx), dimension
    root_xx = np.zeros((n + n_extra * d, n + n_extra * d))
    root_xx[:n, :n] = (modes.vector_xj / np.sqrt(modes.value_j)) @ modes.vector_xj.T
    if n_extra:
        diagonal = [h_xx[i : i + d, i : i + d] for i in range(0, n, d)]
        kappa = float(np.linalg.det(np.mean(diagonal, axis=0)) ** (1.0 / d))
        root_xx[n:, n:] = np.eye(n_extra * d) / np.sqrt(kappa)
    return root_xx


def embedded(h_xx: FloatArray, number_a: IntArray, n_grid: int, dimension: int) -> tuple[FloatArray, IntArray]:
    """H on the perfect grid and the extra sites behind it, zero on vacant sites, and the place of every site there.

    `number_a` is the site's number on the grid, -1 for an extra one (`crystal.supercell.Grid`).
    """
    place_a = np.array(number_a, dtype=np.int64)
    off = place_a < 0
    place_a[off] = n_grid + np.arange(int(off.sum()))
    rows = (dimension * place_a[:, None] + np.arange(dimension)).ravel()
    n = dimension * (n_grid + int(off.sum()))
    whole_xx = np.zeros((n, n))
    whole_xx[np.ix_(rows, rows)] = h_xx
    return whole_xx, place_a
