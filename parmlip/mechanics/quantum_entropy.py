"""What quantum statistics change in the harmonic free energy of a defect, at cells of any size.

F = E + sum k_B T log(2 sinh(x)), x = hbar omega / (2 k_B T), is the classical k_B T log(2 x) plus k_B T phi(x^2) with
phi(s) = log(sinh(sqrt s) / sqrt s): smooth at zero modes, so that the trace of phi of the dynamical matrix needs no
Green's function and few Lanczos steps (its singularities are at s = -(pi n)^2, the Matsubara frequencies). As with the
entropy, the first order in the change of the dynamical matrix is an exact trace, sites near to defects are done one by
one and those far away by probes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.defect_sites import equivalent_sites, sites_by_distance
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green_trace import trace_with
from parmlip.mechanics.probes import probes
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.numerics.krylov import lanczos
from parmlip.numerics.lattice_fourier import BlockCirculant
from parmlip.units import BOLTZMANN_EV, PLANCK_EV_S, THZ_PER_ROOT

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_SERIES = 1e-2  # below it phi is a series: (s / 6) (1 - s / 30 + ...)


@dataclass(frozen=True)
class QuantumCorrection:
    """phi summed over the defective cell's modes minus N_def / N_hom times that of the perfect one: F / (k_B T)."""

    value: float
    error: float  # standard error of the probes
    steps: int


def quantum_phi(s: NDArray[Any]) -> FloatArray:
    """log(sinh(sqrt s) / sqrt s)."""
    s = np.asarray(s, dtype=float)
    root = np.sqrt(np.maximum(s, _SERIES))
    large = root + np.log1p(-np.exp(-2.0 * root)) - np.log(2.0 * root)
    series = s / 6.0 * (1.0 - s / 30.0 * (1.0 - 2.0 * s / 31.5 * (1.0 - 3.0 * s / 40.0)))
    return np.where(s > _SERIES, large, series)


def quantum_slope(s: NDArray[Any]) -> FloatArray:
    """Derivative of `quantum_phi`, (sqrt s coth sqrt s - 1) / 2 s."""
    s = np.asarray(s, dtype=float)
    root = np.sqrt(np.maximum(s, _SERIES))
    large = (root / np.tanh(root) - 1.0) / (2.0 * root**2)
    series = 1.0 / 6.0 - s / 90.0 + s**2 / 945.0 - s**3 / 9450.0
    return np.where(s > _SERIES, large, series)


def reduced(temperature: float) -> float:
    """s of an eigenvalue of 1 eV / (angstrom^2 amu) of the dynamical matrix."""
    return float((PLANCK_EV_S * 1e12 * THZ_PER_ROOT / (2.0 * BOLTZMANN_EV * temperature)) ** 2)


def quantum_correction(
    relative: RelativeHessian,
    energy: Energy,
    u_nd: FloatArray,
    mass_of: dict[str, float],
    temperature: float,
    *,
    n_near: int,
    n_probes: int,
    tolerance: float = 1e-8,
    batch: int = 12,
    seed: int = 1,
) -> QuantumCorrection:
    """At the displacement at which the Hessian of `relative` was made, for a cell without replaced sites.

    Collective on ``energy.comm``.

    Parameters
    ----------
    mass_of : dict
        Of every species, atomic mass units.
    n_near : int
        Sites next to defects that are done one by one, in the order of `sites_by_distance`.
    n_probes : int
        Random vectors for all others.
    """
    cell, d = energy.supercell, energy.dimension
    scale, n_basis = reduced(temperature), relative.n_components // d
    mass_b = np.array([mass_of[symbol] for symbol in relative.species_b])
    weight_i = np.repeat(mass_b**-0.5, d)
    symbol = relative.bulk.symbol_xqij * (scale * weight_i[:, None] * weight_i)
    perfect = BlockCirculant(relative.bulk.transform, symbol)
    null_im = np.sqrt(np.repeat(mass_b / mass_b.sum(), d))[:, None] * np.tile(np.eye(d), (n_basis, 1))
    phi, slope = perfect.function(quantum_phi, null_im), perfect.function(quantum_slope, null_im)
    weighted = BlockCirculant(slope.transform, slope.symbol_xqij * (scale * weight_i[:, None] * weight_i))
    total = trace_with(weighted, energy, u_nd, 0.0) - perfect.whole_trace(slope)
    total += (len(relative.vacant) - relative.n_extra) / relative.n_grid * phi.whole_trace()

    weight_x = np.sqrt(scale) * relative.local_weights(mass_of)

    def changed(x_xb: FloatArray) -> FloatArray:
        return weight_x[:, None] * relative.apply_h(weight_x[:, None] * x_xb)

    def rest(x_xb: FloatArray) -> tuple[FloatArray, int]:
        """x^T [phi(D) - phi(D_hom) - phi'(D_hom) (D - D_hom)] x, and the Lanczos steps."""
        spaces = lanczos(
            changed, lambda y_xb: y_xb, x_xb, reduce=relative.reduce, function=quantum_phi, tolerance=tolerance
        )
        of_perfect, by, change = (relative.on_grid(a, x_xb) for a in (phi, slope, perfect))
        linear = np.einsum("xb,xb->b", by, changed(x_xb) - change) + np.einsum("xb,xb->b", x_xb, of_perfect)
        return spaces.function(quantum_phi) - relative.reduce(linear), int(spaces.steps_b.max(initial=0))

    site_s, _ = sites_by_distance(cell)
    near_s, far_s = site_s[:n_near], site_s[n_near:]
    first_s = equivalent_sites(cell, near_s, energy.sites.gather_to_all(u_nd))
    one, count = np.unique(first_s, return_counts=True)
    site_v, component_v, count_v = np.repeat(near_s[one], d), np.tile(np.arange(d), len(one)), np.repeat(count, d)
    steps = 0
    for first in range(0, len(site_v), batch):
        part = slice(first, first + batch)
        value_b, n = rest(relative.unit(site_v[part], component_v[part]))
        total, steps = total + float(value_b @ count_v[part]), max(steps, n)
    value_k: list[float] = []
    for first in range(0, n_probes if len(far_s) else 0, batch):
        numbers = range(first, min(first + batch, n_probes))
        value_b, n = rest(probes(relative, far_s, (seed, 8), numbers))
        value_k, steps = value_k + value_b.tolist(), max(steps, n)
    error = float(np.std(value_k, ddof=1) / np.sqrt(len(value_k))) if len(value_k) > 1 else 0.0
    return QuantumCorrection(total + (float(np.mean(value_k)) if value_k else 0.0), error, steps)
