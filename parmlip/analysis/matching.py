"""Matching conditions: by how much a surrogate misses its reference near a training cell's equilibrium.

Ortner and Wang (2022), (3.3)-(3.6). The maxima over the ball of training displacements are sought by random samples, as
the training set has them, and by ascent: a few steps along the sign of the error's gradient, which within the cube of
+-h per component is the steepest one. Both are lower bounds of the theory's maxima.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, cast

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.analysis.matching_conditions import Condition
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.supercell import Supercell
from parmlip.errors import GeometryError
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.line_search import dot
from parmlip.mechanics.stability import Product
from parmlip.mechanics.stencil_space import StencilSpace
from parmlip.mechanics.total_energy import TotalEnergy
from parmlip.potentials.base import SiteLaw
from parmlip.potentials.total import TotalLaw

FloatArray = NDArray[np.float64]

_PROBES: Final = 8  # random directions of the Hessians' RMSE
_SEED: Final = 3
# Largest displacement of a component in centred differences of a whole-structure law's forces, angstrom, of which those
# at twice the step take off the error of second order (3e-4 of the Hessian of tungsten; 1e-7 are left).
_STEP: Final = 0.003

FieldMap = Callable[[FloatArray], FloatArray]


class CellPair:
    """Reference and surrogate on one cell. Collective on ``comm``, as are all methods.

    The reference may be a law of whole structures: its Hessian is then known by what it does to vectors, by centred
    differences of forces, four structures each.
    """

    def __init__(
        self,
        reference: SiteLaw | TotalLaw,
        surrogate: SiteLaw,
        supercell: Supercell,
        kind: Literal["voronoi", "nearest"] = "voronoi",
        *,
        comm: MPI.Comm,
    ) -> None:
        self.comm = comm
        self.reference = _energy(reference, supercell, comm)
        self.surrogate = Energy(surrogate, supercell, comm=comm)
        self.sites = self.reference.sites
        self.space = StencilSpace(supercell, self.sites, kind)

    def __enter__(self) -> CellPair:
        return self

    def __exit__(self, *_: object) -> None:
        self.space.__exit__()

    def errors(self, u_nd: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """E - E~, eV; its gradient by u, and the reference's forces, (n_owned, d), eV / angstrom."""
        e_ref, f_ref = self.reference.difference_and_forces(u_nd)
        e_sur, f_sur = self.surrogate.difference_and_forces(u_nd)
        return e_ref - e_sur, f_sur - f_ref, f_ref

    @contextmanager
    def products(self, u_nd: FloatArray) -> Iterator[tuple[FieldMap, FieldMap]]:
        """v -> H v of the reference and of the surrogate at a state, (n_owned, d), eV / angstrom."""
        with Product(self.surrogate, u_nd) as h_sur:
            if isinstance(self.reference, TotalEnergy):
                yield self._by_differences(self.reference, u_nd), h_sur
            else:
                with Product(self.reference, u_nd) as h_ref:
                    yield h_ref, h_sur

    def _by_differences(self, energy: TotalEnergy, u_nd: FloatArray) -> FieldMap:
        def product(v_nd: FloatArray) -> FloatArray:
            largest = self.comm.allreduce(float(np.abs(v_nd).max(initial=0.0)), op=MPI.MAX)
            if largest == 0.0:
                return np.zeros_like(v_nd)

            def difference(t: float) -> FloatArray:
                back_nd, ahead_nd = (energy.difference_and_forces(u_nd + x * v_nd)[1] for x in (-t, t))
                return np.asarray((back_nd - ahead_nd) / (2.0 * t))

            t = _STEP / largest
            return (4.0 * difference(t) - difference(2.0 * t)) / 3.0

        return product

    def hessian_error(self, u_nd: FloatArray) -> Condition:
        """eps^FC at a state: (3.5), or (3.6) for a perfect cell at u = 0; eV / angstrom^2.

        The RMSE is that of the components of (H - H~) v for random v of +-1: a row's entries add up as squares.
        """
        n, d = self.sites.n_sites, self.reference.dimension
        probes = np.random.default_rng(_SEED).choice([-1.0, 1.0], (_PROBES, n, d))
        with self.products(u_nd) as (h_ref, h_sur):

            def difference(v_nd: FloatArray) -> FloatArray:
                return h_ref(v_nd) - h_sur(v_nd)

            images = [difference(self.sites.restrict(v_ad)) for v_ad in probes]
            error = self.space.operator_norm(difference)
            return Condition(error, self._rms(images), self.space.operator_norm(h_ref))

    def ball_errors(
        self, centre_nd: FloatArray, samples: list[FloatArray], half_width: float, n_ascent: int
    ) -> tuple[Condition, Condition]:
        """eps^E, eV, and eps^F, eV / angstrom: of the displacements `samples`, and of those that ascent then finds.

        Ascent starts from the worst sample of each error and stays within centre +- half_width per component; a state
        that a law refuses (sites too close) ends it. RMSEs are over the samples: energies of the cell, components of
        forces.

        Raises
        ------
        ValueError
            There are no samples.
        """
        if not samples:
            raise ValueError("no samples")
        energies, duals, errors, references, own = [], [], [], [], []
        for u_nd in samples:
            error, g_nd, f_nd = self.errors(u_nd)
            energies.append(abs(error))
            duals.append(self.space.dual_norm(g_nd))
            errors.append(g_nd)
            references.append(self.space.dual_norm(f_nd))
            own.append(abs(self.reference.difference(u_nd)))
        energy_s, dual_s = np.array(energies), np.array(duals)
        rms_energy, rms_force = float(np.sqrt(np.mean(energy_s**2))), self._rms(errors)
        energy, force = (
            self._ascend(samples[int(of_s.argmax())], centre_nd, half_width, n_ascent, error, float(of_s.max()))
            for of_s, error in ((energy_s, self._energy_error), (dual_s, self._force_error))
        )
        return (
            Condition(energy, rms_energy, max(own), float(energy_s.max())),
            Condition(force, rms_force, max(references), float(dual_s.max())),
        )

    def _rms(self, fields: list[FloatArray]) -> float:
        """Root mean square over all components of all fields, of all ranks."""
        sums = np.array([sum(float(np.vdot(g_nd, g_nd)) for g_nd in fields), sum(g_nd.size for g_nd in fields)])
        self.comm.Allreduce(MPI.IN_PLACE, sums, op=MPI.SUM)
        return float(np.sqrt(sums[0] / sums[1]))

    def _energy_error(self, u_nd: FloatArray) -> tuple[float, FloatArray]:
        """|E - E~| and its gradient."""
        error, g_nd, _ = self.errors(u_nd)
        return abs(error), np.sign(error) * g_nd

    def _force_error(self, u_nd: FloatArray) -> tuple[float, FloatArray]:
        """Dual norm of the force error g and its gradient (H - H~) K^+ g / norm."""
        _, g_nd, _ = self.errors(u_nd)
        w_nd = self.space.inverse(g_nd)
        norm = float(np.sqrt(max(dot(g_nd, w_nd, self.comm), 0.0)))  # w has no translation, so that of g does not count
        with self.products(u_nd) as (h_ref, h_sur):
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
        if n_steps == 0:
            return best
        u_nd = start_nd
        for step in range(n_steps + 1):  # the last one tells its value alone
            try:
                value, gradient_nd = error(u_nd)
            except GeometryError:
                break
            best = max(best, value)
            if step < n_steps:
                u_nd = centre_nd + half_width * np.sign(gradient_nd)
        return float(best)


def _energy(law: SiteLaw | TotalLaw, supercell: Supercell, comm: MPI.Comm) -> Energy | TotalEnergy:
    if hasattr(law, "evaluate"):
        return TotalEnergy(cast(TotalLaw, law), supercell, comm=comm)
    return Energy(law, supercell, comm=comm)


def cauchy_born_errors(
    reference: SiteLaw, surrogate: SiteLaw, lattice: Lattice, lattice_constant: float, species: tuple[str, ...]
) -> dict[int, Condition]:
    """eps^V_j, j = 0, 1, 2: Frobenius norms of the error of d^(j+1) W at I and of the reference's own, eV / angstrom^d.

    Of the joint derivatives by strain and inner displacements (see `CauchyBorn`); the RMSE is over the components.
    Local, the same on every rank. Wang, Patel and Ortner (2023), (4.15), (4.16).
    """
    ref, sur = (CauchyBorn(law, lattice, lattice_constant, species) for law in (reference, surrogate))
    tensors = [(ref.first(), sur.first()), (ref.second(), sur.second()), (ref.third(), sur.third())]
    found = {}
    for j, (a, b) in enumerate(tensors):
        error = float(np.linalg.norm(a - b))
        found[j] = Condition(error, error / float(np.sqrt(a.size)), float(np.linalg.norm(a)))
    return found
