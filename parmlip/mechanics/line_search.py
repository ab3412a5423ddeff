"""A step along a descent direction that is safe against overshooting and against the rounding of energies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.errors import GeometryError
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.total_energy import TotalEnergy

FloatArray = NDArray[np.float64]

_SUFFICIENT = 1e-4  # Armijo's constant; also delta of Hager and Zhang
_TRIALS = 25
TWITCH: Final = 1e-13  # angstrom: moves too small to change anything but the rounding


@dataclass(frozen=True)
class State:
    """A displacement with its energy and forces."""

    u_nd: FloatArray  # angstrom, owned sites
    energy: float  # E(u) - E(0), eV, the same on every rank
    f_nd: FloatArray  # eV / angstrom, owned sites
    max_force: float  # largest component on any rank


@dataclass(frozen=True)
class Rounding:
    """By how much energies and force components change where nothing but the rounding does."""

    energy: float  # eV
    force: float  # eV / angstrom


def measured_rounding(energy: Energy, state: State, n: int = 2) -> Rounding:
    """The largest changes in `n` evaluations at the state, each moved by a random 1e-13 angstrom.

    Laws whose large coefficients cancel have more than the digits of their energies tell. Collective on
    ``energy.comm``.
    """
    energies, forces = [0.0], [0.0]
    rng = np.random.default_rng((energy.comm.rank, 1))
    for _ in range(n):
        value, f_nd = energy.difference_and_forces(state.u_nd + rng.uniform(-TWITCH, TWITCH, state.u_nd.shape))
        energies.append(abs(value - state.energy))
        forces.append(largest(f_nd - state.f_nd, energy.comm))
    return Rounding(max(energies), max(forces))


def evaluate(energy: Energy | TotalEnergy, u_nd: FloatArray) -> State:
    """The state at `u_nd`. Collective on ``energy.comm``."""
    value, f_nd = energy.difference_and_forces(u_nd)
    return State(u_nd, value, f_nd, largest(f_nd, energy.comm))


def largest(x_nd: FloatArray, comm: MPI.Comm) -> float:
    """Largest absolute component on any rank, inf for NaN. Collective on ``comm``."""
    here = float(np.max(np.abs(x_nd), initial=0.0))
    return float(comm.allreduce(here if np.isfinite(here) else np.inf, op=MPI.MAX))


def dot(x_nd: FloatArray, y_nd: FloatArray, comm: MPI.Comm) -> float:
    """Sum over all sites and components of the product. Collective on ``comm``."""
    return float(comm.allreduce(float(np.vdot(x_nd, y_nd)), op=MPI.SUM))


def search(
    energy: Energy | TotalEnergy, state: State, s_nd: FloatArray, *, step_cap: float, noise: float = 0.0
) -> State | None:
    """The first acceptable state u + t s, t = 1 or what `step_cap` (largest component, angstrom) allows, then less.

    Accepted is sufficient decrease, E(t) <= E(0) + delta t E'(0), or, where energies differ by no more than their
    rounding, a slope that tells the same from forces alone: E'(t) <= (1 - 2 delta) |E'(0)| (Hager and Zhang, SIAM J.
    Optim. 16, 170 (2005), "approximate Wolfe condition"). None if `s_nd` does not descend or no trial is accepted.
    `noise` is rounding beyond the usual, eV.

    Collective on ``energy.comm``.
    """
    comm = energy.comm
    slope = -dot(state.f_nd, s_nd, comm)
    size = largest(s_nd, comm)
    if not (slope < 0.0 and np.isfinite(size)):
        return None
    t = min(1.0, step_cap / size)
    # 1e-12 to 1e-10 eV was measured for laws of physics at 10^3 to 10^5 sites
    rounding = 1e-10 + 1e-12 * abs(state.energy) + energy.noise + noise
    for _ in range(_TRIALS):
        try:
            trial = evaluate(energy, state.u_nd + t * s_nd)
        except GeometryError:  # sites closer than the law allows: raised on all ranks alike
            t *= 0.5
            continue
        slope_there = -dot(trial.f_nd, s_nd, comm)
        enough = trial.energy <= state.energy + _SUFFICIENT * t * slope
        flat = trial.energy <= state.energy + rounding and slope_there <= (1.0 - 2.0 * _SUFFICIENT) * -slope
        if enough or flat:
            return trial
        # Minimum of the parabola through both slopes, kept well inside the interval.
        t *= min(0.5, max(0.1, slope / (slope - slope_there))) if slope_there > slope else 0.5
    return None
