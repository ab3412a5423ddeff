"""Errors of a surrogate's equilibria: geometry in the stencil norm, energies, and their rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from mpi4py import MPI
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from parmlip.crystal.neighbours import Pairs
from parmlip.crystal.norms import stencil_square, stencil_squares
from parmlip.errors import DataError

RealArray = NDArray[np.float64]

# Beyond this difference two relaxed states are different minima, not better and worse ones.
SAME_BASIN = 0.5  # angstrom


@dataclass(frozen=True)
class GeometryComparison:
    """Difference of two displacement fields on one reference lattice; norms are those of all ranks."""

    error: float  # ||D(u_ref - u_sur)||, angstrom
    reference_norm: float  # ||D u_ref||, angstrom
    surrogate_norm: float  # ||D u_sur||, angstrom
    max_difference: float  # max |u_ref - u_sur| over sites, angstrom
    same_basin: bool

    @property
    def relative(self) -> float:
        """Error relative to the reference's norm; NaN where nothing was displaced."""
        return self.error / self.reference_norm if self.reference_norm > 0.0 else np.nan


def compare_geometry(
    pairs: Pairs, reference_md: RealArray, surrogate_md: RealArray, same_basin: float = SAME_BASIN, *, comm: MPI.Comm
) -> GeometryComparison:
    """Geometry error ||D u_ref - D u_sur|| over nearest neighbours, both directions of every bond.

    Collective on ``comm``.

    Parameters
    ----------
    pairs : Pairs
        Nearest neighbours of the centres that this rank owns, on the reference lattice; `centre_n` and `site_p` number
        the rows of the displacements.
    reference_md, surrogate_md : ndarray, shape (m, d)
        Displacements from the same reference lattice, in the same order, owned and ghost sites (or all), angstrom.
    same_basin : float
        Limit of max |u_ref - u_sur|, angstrom.

    Raises
    ------
    DataError
        A displacement is not finite (on all ranks).
    """
    difference_md = reference_md - surrogate_md
    fields = (difference_md, reference_md, surrogate_md)
    squares = np.array([stencil_square(pairs, u_md) for u_md in fields])
    comm.Allreduce(MPI.IN_PLACE, squares, op=MPI.SUM)
    owned = np.linalg.norm(difference_md[pairs.centre_n], axis=1)
    largest = np.array([np.max(owned, initial=0.0)])  # NaN is caught by the squares: MPI's maximum may pass it over
    comm.Allreduce(MPI.IN_PLACE, largest, op=MPI.MAX)
    if not np.isfinite(squares).all():
        raise DataError("compare: a displacement is not finite")
    error, reference_norm, surrogate_norm = np.sqrt(squares).tolist()
    return GeometryComparison(error, reference_norm, surrogate_norm, float(largest[0]), bool(largest[0] <= same_basin))


def core_and_far(
    pairs: Pairs, difference_ad: RealArray, core_a: NDArray[np.bool_], *, comm: MPI.Comm
) -> tuple[float, float]:
    """The parts of ||D(u_ref - u_sur)|| of core sites and of all others, angstrom; their squares add up to its square.

    Collective on ``comm``. `pairs` are the nearest neighbours of this rank's share of sites; the difference
    (n_sites, d) and the flags (n_sites,) are those of all sites.
    """
    square_n, in_core_n = stencil_squares(pairs, difference_ad), core_a[pairs.centre_n]
    squares = np.array([square_n[in_core_n].sum(), square_n[~in_core_n].sum()])
    comm.Allreduce(MPI.IN_PLACE, squares, op=MPI.SUM)
    return sqrt(squares[0]), sqrt(squares[1])


def errors_beyond(
    pairs: Pairs, difference_ad: RealArray, distance_a: RealArray, radii: RealArray, *, comm: MPI.Comm
) -> RealArray:
    """||D(u_ref - u_sur)|| of the sites farther than each of the radii from all defects, (n_radii,), angstrom.

    Collective on ``comm``. `pairs` are the nearest neighbours of this rank's share of sites; the difference
    (n_sites, d) and the distances (n_sites,) are those of all sites.
    """
    square_n, distance_n = stencil_squares(pairs, difference_ad), distance_a[pairs.centre_n]
    squares = np.array([square_n[distance_n > radius].sum() for radius in radii])
    comm.Allreduce(MPI.IN_PLACE, squares, op=MPI.SUM)
    return np.sqrt(squares)


def formation_energy(energy: float, counts: Mapping[str, int], chemical_potentials: Mapping[str, float]) -> float:
    """E_f = E - sum_s N_s mu_s, eV; for an element mu is the energy per site of the perfect crystal of the same law.

    Raises
    ------
    DataError
        A species has no chemical potential.
    """
    for symbol in counts:
        if symbol not in chemical_potentials:
            raise DataError(f"formation energy: no chemical potential for species {symbol!r}")
    return energy - sum(n * chemical_potentials[symbol] for symbol, n in counts.items())


@dataclass(frozen=True)
class Slope:
    """A straight line through (log x, log y): y = exp(intercept) x^slope."""

    slope: float
    intercept: float
    standard_error: float  # of the slope; NaN for two points
    n: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the slope (Student's t with n - 2 degrees of freedom); infinite for two points."""
        if self.n < 3:
            return -np.inf, np.inf
        half = float(stdtrit(self.n - 2, 0.5 + 0.5 * level)) * self.standard_error
        return self.slope - half, self.slope + half

    def at(self, x: ArrayLike) -> RealArray:
        """The fitted line at x."""
        return np.asarray(np.exp(self.intercept) * np.asarray(x, dtype=float) ** self.slope)


def fit_slope(x: ArrayLike, y: ArrayLike) -> Slope:
    """Least-squares line through (log x, log y).

    Raises
    ------
    DataError
        Fewer than two different x, or a value is not positive and finite.
    """
    x_o, y_o = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x_o.shape != y_o.shape or x_o.ndim != 1:
        raise DataError(f"slope: {x_o.size} abscissas and {y_o.size} ordinates")
    if not (np.isfinite(x_o).all() and np.isfinite(y_o).all() and (x_o > 0).all() and (y_o > 0).all()):
        raise DataError("slope: values must be positive and finite to have logarithms")
    if len(np.unique(x_o)) < 2:
        raise DataError("slope: two different abscissas are needed")
    log_x, log_y = np.log(x_o), np.log(y_o)
    centred = log_x - log_x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ log_y) / spread
    intercept = float(log_y.mean() - slope * log_x.mean())
    residual = log_y - intercept - slope * log_x
    n = len(x_o)
    error = sqrt(float(residual @ residual) / (n - 2) / spread) if n > 2 else np.nan
    return Slope(slope, intercept, error, n)
