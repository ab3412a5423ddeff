"""Forces that mix two laws: those of a QM law on QM sites, those of an MM law on all others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from parmlip.crystal.supercell import Supercell
from parmlip.mechanics import hessian
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.energy import MARGIN, Energy
from parmlip.parallel.sites import Sites
from parmlip.potentials.base import SiteLaw

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class QMForces(Protocol):
    """What gives the forces on QM sites, F_l of (3.17): those in the cluster of QM region and buffer.

    Displacements are the whole ones, predictor and corrector, from the reference configuration of the supercell that
    the object was made for, and so are the rows of the `Sites` that it was made with: (n_owned, d), angstrom.
    """

    def forces(self, u_nd: FloatArray) -> FloatArray:
        """Forces on the owned sites, (n_owned, d), eV / angstrom; zero off the QM region. Collective."""


@runtime_checkable
class LinearisedQMForces(Protocol):
    """Forces whose derivatives are known. Without them the force balance is found by a quasi-Newton method."""

    def forces(self, u_nd: FloatArray) -> FloatArray:
        """As of `QMForces`."""

    def linearised(self, u_nd: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """The map du -> dF, both (n_owned, d), exact to rounding; zero off the QM region. Collective, and the map."""


class Part:
    """Some sites of a supercell as a configuration of its own, with an ownership of its own, and the way to and fro.

    Every rank works on a like share of the part, wherever its sites are owned in the whole. Collective on
    ``sites.comm``, as are all methods.

    Parameters
    ----------
    supercell : Supercell
    sites : Sites
        Ownership of the whole supercell's sites.
    chosen_a : ndarray of bool, shape (n_sites,)
        The part, the same on every rank.
    """

    def __init__(self, supercell: Supercell, sites: Sites, chosen_a: BoolArray) -> None:
        self.supercell = replace(
            supercell,
            positions_ac=supercell.positions_ac[chosen_a],
            species_a=supercell.species_a[chosen_a],
            grid=None,
        )
        self.site_of_part = np.flatnonzero(chosen_a)
        self._whole = sites
        self._dimension = supercell.dimension

    def connect(self, part: Sites) -> None:
        """Plan the exchange with the ownership `part` of the part's sites."""
        d, comm, integer = self._dimension, self._whole.comm, PETSc.IntType
        self._of_whole = PETSc.Vec().createMPI((self._whole.n_owned * d, None), comm=comm)
        self._of_part = PETSc.Vec().createMPI((part.n_owned * d, None), comm=comm)
        numbers = self._whole.number_a[self.site_of_part[part.global_n]].astype(integer)
        there = PETSc.IS().createBlock(d, numbers, comm=comm)
        here = PETSc.IS().createBlock(d, (part.start + np.arange(part.n_owned)).astype(integer), comm=comm)
        self._plan = PETSc.Scatter().create(self._of_whole, there, self._of_part, here)
        there.destroy()
        here.destroy()

    def fetch(self, x_nd: FloatArray) -> FloatArray:
        """Rows of the part's owned sites from those of the whole's."""
        self._of_whole.getArray()[:] = x_nd.reshape(-1)
        self._plan.scatter(self._of_whole, self._of_part, PETSc.InsertMode.INSERT, PETSc.ScatterMode.FORWARD)
        return np.asarray(self._of_part.getArray(readonly=True).reshape(-1, self._dimension).copy())

    def give(self, y_nd: FloatArray) -> FloatArray:
        """Rows of the whole's owned sites from those of the part's, zero for other sites: the transpose of `fetch`."""
        self._of_part.getArray()[:] = y_nd.reshape(-1)
        self._of_whole.set(0.0)
        self._plan.scatter(self._of_part, self._of_whole, PETSc.InsertMode.INSERT, PETSc.ScatterMode.REVERSE)
        return np.asarray(self._of_whole.getArray(readonly=True).reshape(-1, self._dimension).copy())

    def destroy(self) -> None:
        """Free PETSc's objects."""
        for held in (self._plan, self._of_whole, self._of_part):
            held.destroy()


class SiteLawForces:
    """`QMForces` of a law with site energies, with exact derivatives: minus the gradient of the cluster's energy.

    Collective on ``sites.comm``, as are all methods; the sites of the cluster are shared out over all ranks anew.

    Parameters
    ----------
    law : SiteLaw
    supercell : Supercell
    sites : Sites
        Those of the energy whose displacements are given.
    qm_a, cluster_a : ndarray of bool, shape (n_sites,)
        The QM region, and it with its buffer. A buffer of twice the cutoff gives the forces of the whole crystal.
    """

    def __init__(
        self, law: SiteLaw, supercell: Supercell, sites: Sites, qm_a: BoolArray, cluster_a: BoolArray,
        *, margin: float = MARGIN,
    ) -> None:  # fmt: skip
        self._part = Part(supercell, sites, cluster_a)
        self.energy = Energy(law, self._part.supercell, comm=sites.comm, margin=margin)
        self._part.connect(self.energy.sites)
        self._off_n = ~qm_a[self._part.site_of_part[self.energy.sites.global_n]]
        self._pattern: hessian.HessianPattern | None = None
        self._matrix: PETSc.Mat | None = None  # that of the last linearisation

    def forces(self, u_nd: FloatArray) -> FloatArray:
        """Forces on the owned sites, (n_owned, d), eV / angstrom; zero off the QM region."""
        _, f_nd = self.energy.difference_and_forces(self._part.fetch(u_nd))
        return self._on_qm(f_nd)

    def linearised(self, u_nd: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """The map du -> dF, both (n_owned, d), good until the next is asked for."""
        of_part_nd = self._part.fetch(u_nd)
        self.energy.environments(of_part_nd)  # renews the pair lists if need be, so that the pattern below is theirs
        if self._pattern is None or self._pattern.builds != self.energy.builds:
            self._pattern = hessian.HessianPattern(self.energy)
        if self._matrix is not None:
            self._matrix.destroy()
        self._matrix = matrix = hessian.assembled(self.energy, of_part_nd, self._pattern)
        x, y = matrix.createVecs()

        def product(v_nd: FloatArray) -> FloatArray:
            x.getArray()[:] = self._part.fetch(v_nd).reshape(-1)
            matrix.mult(x, y)
            return self._on_qm(-y.getArray(readonly=True).reshape(-1, self.energy.dimension))

        return product

    def destroy(self) -> None:
        """Free PETSc's objects."""
        if self._matrix is not None:
            self._matrix.destroy()
        self._part.destroy()

    def _on_qm(self, f_nd: FloatArray) -> FloatArray:
        return self._part.give(np.where(self._off_n[:, None], 0.0, f_nd))


class HybridForces:
    """F^H(u) of (3.17) on the owned sites of a clamped domain: QM forces in QM, MM forces in MM, zero on clamped sites.

    Collective on ``energy.comm``, as are all methods.

    Parameters
    ----------
    energy : ClampedEnergy
        Of the MM law on the whole domain. Forces of sites deep in the QM region are computed and not used; its Hessian
        there is a part of the preconditioner.
    qm : QMForces
    qm_a : ndarray of bool, shape (n_sites,)
        The QM region, the same on every rank.

    Attributes
    ----------
    seconds_qm : float
        Spent in QM forces and their derivatives on this rank so far.
    evaluations : int
        Of QM forces so far.

    References
    ----------
    Chen, Ortner, Wang, "QM/MM methods for crystalline defects. Part 3" (2021), eqs. (3.16), (3.17).
    """

    def __init__(self, energy: ClampedEnergy, qm: QMForces, qm_a: BoolArray) -> None:
        self.energy = energy
        self.qm = qm
        self.comm = energy.comm
        self.dimension = energy.dimension
        self.qm_n = energy.sites.restrict(qm_a)
        self.clamped_n = energy.clamped_n if energy.clamped_n is not None else np.zeros(len(self.qm_n), dtype=bool)
        self.seconds_qm = 0.0
        self.evaluations = 0
        self._pattern: hessian.HessianPattern | None = None

    def forces(self, u_nd: FloatArray) -> FloatArray:
        """F^H at the whole displacement, (n_owned, d), eV / angstrom."""
        _, f_nd = self.energy.difference_and_forces(u_nd)
        begin = time.perf_counter()
        of_qm_nd = self.qm.forces(u_nd)
        self.seconds_qm += time.perf_counter() - begin
        self.evaluations += 1
        return np.where(self.clamped_n[:, None], 0.0, np.where(self.qm_n[:, None], of_qm_nd, f_nd))

    def mm_hessian(self, u_nd: FloatArray) -> PETSc.Mat:
        """Of the MM law on the whole domain, with the identity for clamped sites; the caller destroys it."""
        self.energy.environments(u_nd)  # renews the pair lists if need be, so that the pattern below is theirs
        if self._pattern is None or self._pattern.builds != self.energy.builds:
            self._pattern = hessian.HessianPattern(self.energy)
        return hessian.assembled(self.energy, u_nd, self._pattern)

    @property
    def has_jacobian(self) -> bool:
        """Whether QM gives derivatives."""
        return isinstance(self.qm, LinearisedQMForces)

    def jacobian(self, u_nd: FloatArray, mm: PETSc.Mat) -> PETSc.Mat:
        """-dF^H/du as a shell matrix, nonsymmetric: QM rows over the rows of `mm`. QM must give derivatives."""
        assert isinstance(self.qm, LinearisedQMForces)
        begin = time.perf_counter()
        product = _HybridProduct(self, self.qm.linearised(u_nd), mm)
        self.seconds_qm += time.perf_counter() - begin
        sizes = (mm.getSizes()[0], mm.getSizes()[1])
        matrix = PETSc.Mat().createPython(sizes, product, comm=self.comm)
        matrix.setUp()
        return matrix


class _HybridProduct:
    """Python context of the shell matrix."""

    def __init__(self, hybrid: HybridForces, of_qm: Callable[[FloatArray], FloatArray], mm: PETSc.Mat) -> None:
        self.hybrid = hybrid
        self.of_qm = of_qm
        self.mm = mm

    def mult(self, _matrix: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = J x."""
        hybrid = self.hybrid
        self.mm.mult(x, y)
        v_nd = np.array(x.getArray(readonly=True).reshape(-1, hybrid.dimension))
        v_nd[hybrid.clamped_n] = 0.0
        begin = time.perf_counter()
        df_nd = self.of_qm(v_nd)
        hybrid.seconds_qm += time.perf_counter() - begin
        y_nd = y.getArray().reshape(-1, hybrid.dimension)
        rows_n = hybrid.qm_n & ~hybrid.clamped_n
        y_nd[rows_n] = -df_nd[rows_n]
