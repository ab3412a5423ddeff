"""Matching conditions: by how much a surrogate misses its reference near a training cell's equilibrium.

Ortner and Wang (2022), (3.3)-(3.6). The maxima over the ball of training displacements are sought by random samples, as
the training set has them, and by ascent: a few steps along the sign of the error's gradient, which within the cube of
+-h per component is the steepest one. Both are lower bounds of the theory's maxima.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.crystal.lattices import Lattice
from parmlip.crystal.supercell import Supercell
from parmlip.errors import GeometryError
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.stability import Product
from parmlip.mechanics.stencil_space import StencilSpace
from parmlip.potentials.base import SiteLaw

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class BallErrors:
    """Errors over the states of a ball that were looked at."""

    energy_random: float  # eps^E by random samples, eV
    energy: float  # eps^E, ascent included
    energy_rms: float  # eV, over the random samples, per cell
    force_random: float  # eps^F by random samples, dual norm, eV / angstrom
    force: float  # eps^F, ascent included
    force_dual_rms: float  # root mean square of the dual norm over the random samples
    force_rms: float  # eV / angstrom, per component, over the random samples
    force_reference: float  # largest dual norm of the reference's own forces: a scale for `force`


@dataclass(frozen=True)
class OperatorError:
    """A Hessian's error in the operator norm relative to the stencil norm, and the reference's own norm."""

    error: float  # eV / angstrom^2
    reference: float  # eV / angstrom^2

    @property
    def relative(self) -> float:
        """Error over the reference's norm."""
        return self.error / self.reference


class CellPair:
    """Reference and surrogate on one cell. Collective on ``comm``, as are all methods."""

    def __init__(
        self,
        reference: SiteLaw,
        surrogate: SiteLaw,
        supercell: Supercell,
        kind: Literal["voronoi", "nearest"] = "voronoi",
        *,
        comm: MPI.Comm,
    ) -> None:
        self.comm = comm
        self.reference = Energy(reference, supercell, comm=comm)
        self.surrogate = Energy(surrogate, supercell, comm=comm)
        self.sites = self.reference.sites
        self.space = StencilSpace(supercell, self.sites, kind)

    def errors(self, u_nd: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """E - E~, eV; its gradient by u, and the reference's forces, (n_owned, d), eV / angstrom."""
        e_ref, f_ref = self.reference.difference_and_forces(u_nd)
        e_sur, f_sur = self.surrogate.difference_and_forces(u_nd)
        return e_ref - e_sur, f_sur - f_ref, f_ref

    def hessian_error(self, u_nd: FloatArray) -> OperatorError:
        """eps^FC at a state: (3.5), or (3.6) for a perfect cell at u = 0."""
        with Product(self.reference, u_nd) as h_ref, Product(self.surrogate, u_nd) as h_sur:
            error = self.space.operator_norm(lambda v_nd: h_ref(v_nd) - h_sur(v_nd))
            return OperatorError(error, self.space.operator_norm(h_ref))

    def ball_errors(
        self, centre_nd: FloatArray, samples: list[FloatArray], half_width: float, n_ascent: int
    ) -> BallErrors:
        """Errors at the given displacements `samples`, and at those that ascent within centre +- half_width finds.

        Ascent starts from the worst sample of each error. A state that a law refuses (sites too close) ends it.
        """
        if not samples:
            raise ValueError("no samples")
        seen = [self.errors(u_nd) for u_nd in samples]
        energy_s = np.array([abs(e) for e, _, _ in seen])
        dual_s = np.array([self.space.dual_norm(g_nd) for _, g_nd, _ in seen])
        squares = np.array([np.array([np.vdot(g_nd, g_nd), g_nd.size]) for _, g_nd, _ in seen]).sum(axis=0)
        self.comm.Allreduce(MPI.IN_PLACE, squares, op=MPI.SUM)
        energy = self._ascend(
            samples[int(energy_s.argmax())], centre_nd, half_width, n_ascent, self._energy_error, energy_s.max()
        )
        force = self._ascend(
            samples[int(dual_s.argmax())], centre_nd, half_width, n_ascent, self._force_error, dual_s.max()
        )
        return BallErrors(
            energy_random=float(energy_s.max()),
            energy=energy,
            energy_rms=float(np.sqrt(np.mean(energy_s**2))),
            force_random=float(dual_s.max()),
            force=force,
            force_dual_rms=float(np.sqrt(np.mean(dual_s**2))),
            force_rms=float(np.sqrt(squares[0] / squares[1])),
            force_reference=max(self.space.dual_norm(f_nd) for _, _, f_nd in seen),
        )

    def _energy_error(self, u_nd: FloatArray) -> tuple[float, FloatArray]:
        """|E - E~| and its gradient."""
        error, g_nd, _ = self.errors(u_nd)
        return abs(error), np.sign(error) * g_nd

    def _force_error(self, u_nd: FloatArray) -> tuple[float, FloatArray]:
        """Dual norm of the force error g and its gradient (H - H~) K^+ g / norm."""
        _, g_nd, _ = self.errors(u_nd)
        w_nd = self.space.inverse(g_nd)
        norm = self.space.dual_norm(g_nd)
        with Product(self.reference, u_nd) as h_ref, Product(self.surrogate, u_nd) as h_sur:
            gradient_nd = h_ref(w_nd) - h_sur(w_nd)
        return norm, gradient_nd / norm if norm > 0.0 else gradient_nd

    def _ascend(
        self,
        start_nd: FloatArray,
        centre_nd: FloatArray,
        half_width: float,
        n_steps: int,
        error: Callable[[FloatArray], tuple[float, FloatArray]],
        best: float,
    ) -> float:
        """Largest error on the way: the corner of the cube that the gradient points to, then the next one."""
        u_nd = start_nd
        for _ in range(n_steps):
            try:
                value, gradient_nd = error(u_nd)
                u_nd = centre_nd + half_width * np.sign(gradient_nd)
                best = max(best, value, error(u_nd)[0])
            except GeometryError:
                break
        return float(best)


def cauchy_born_errors(
    reference: SiteLaw, surrogate: SiteLaw, lattice: Lattice, lattice_constant: float, species: tuple[str, ...]
) -> dict[int, OperatorError]:
    """eps^V_j, j = 0, 1, 2: Frobenius norms of the error of d^(j+1) W at I and of the reference's own, eV / angstrom^d.

    Of the joint derivatives by strain and inner displacements (see `CauchyBorn`). Local, the same on every rank.
    Wang, Patel and Ortner (2023), (4.15), (4.16).
    """
    ref, sur = (CauchyBorn(law, lattice, lattice_constant, species) for law in (reference, surrogate))
    tensors = [(ref.first(), sur.first()), (ref.second(), sur.second()), (ref.third(), sur.third())]
    return {
        j: OperatorError(float(np.linalg.norm(a - b)), float(np.linalg.norm(a))) for j, (a, b) in enumerate(tensors)
    }
