"""Functions of the Hessian relative to the perfect crystal's, F H F with F = H_hom^(-1/2), by resolvents.

A PETSc Hessian (assembled or shell) of the sites that exist meets block-circulant powers on the perfect grid. Vacant
sites have zero rows in H; an interstitial has an Einstein reference kappa, F = kappa^(-1/2) (Torabi, Wang,
Ortner 2024, sec. 2; with kappa = det(H_gg)^(1/3), H_gg the bulk's on-site block).

Vectors are local shares (n_local, n_vectors): the rank's slab of the grid, then its interstitial sites.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError, ConvergenceError
from parmlip.mechanics.bulk import UnitCell
from parmlip.mechanics.green import GridPlan, perfect_species, translations
from parmlip.numerics.contour import Contour, Function, ShiftSum
from parmlip.numerics.krylov import LanczosSpaces, lanczos
from parmlip.numerics.lattice_fourier import BlockCirculant, LatticeTransform
from parmlip.parallel.sites import Sites
from parmlip.potentials.base import SiteLaw

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ShiftedSolves:
    """Outcome of method "ksp"."""

    value_b: FloatArray
    iterations: int  # of all solves together
    residual: float  # largest, relative to the right-hand side, in the solver's norm


class RelativeHessian:
    """H and the perfect crystal's H_hom on one space.

    Collective on ``sites.comm``, as are all methods unless they say otherwise. `matrix` stays the caller's.

    Parameters
    ----------
    matrix : PETSc.Mat
        Hessian of the existing sites, eV / angstrom^2, with the distribution of `sites`.
    law : SiteLaw
        Gives the perfect crystal's force constants.

    Raises
    ------
    ConfigError
        The supercell has no perfect grid.
    UnstableLattice
        The perfect crystal has a mode that is not positive.
    """

    def __init__(self, matrix: PETSc.Mat, law: SiteLaw, supercell: Supercell, sites: Sites) -> None:
        if supercell.grid is None:
            raise ConfigError("a configuration read from a file has no perfect grid: its Green's function is not known")
        grid, d = supercell.grid, supercell.dimension
        self.matrix, self.sites, self.comm, self.dimension = matrix, sites, sites.comm, d
        self.transform = LatticeTransform(grid.repeats, comm=sites.comm)
        self.plan = GridPlan(supercell, sites, self.transform)
        of_slot = perfect_species(supercell)
        cell = UnitCell(law, grid.lattice, grid.lattice_constant, of_slot)
        self.species_b = tuple(of_slot[slot] for slot in grid.lattice.slot_b)  # of the sites of a perfect cell
        self._extra_species = tuple(
            supercell.species[s] for s in supercell.species_a[sites.global_n[grid.number_a[sites.global_n] < 0]]
        )
        offset_oc, block_oij = cell.force_constants()
        # the supercell's own: with the images of the site, where the cell is smaller than the cutoff
        onsite_ij = block_oij[~(offset_oc % np.array(grid.repeats)).any(axis=1)].sum(axis=0)
        mean_cd = np.mean([onsite_ij[i : i + d, i : i + d] for i in range(0, len(onsite_ij), d)], axis=0)
        self.kappa = float(np.linalg.det(mean_cd) ** (1.0 / d))
        self.bulk = BlockCirculant.from_blocks(self.transform, offset_oc, block_oij)
        self._translations = translations(cell.n_basis, d)
        self.inverse = self.bulk.power(-1.0, self._translations)
        self._root: BlockCirculant | None = None
        self.n_components = cell.n_basis * d
        self.n_slab = int(np.prod(self.plan.shape[:3])) * self.n_components
        self._off = np.flatnonzero(self.plan.off_grid_n)
        self.n_local = self.n_slab + len(self._off) * d
        self.null_xc = np.zeros((self.n_local, d))
        n_grid = int(np.prod(grid.repeats)) * cell.n_basis
        self.null_xc[: self.n_slab] = np.tile(np.eye(d), (self.n_slab // d, 1)) / np.sqrt(n_grid)
        self._in, self._out = matrix.createVecs()
        number_a = grid.number_a
        self._grid_of_site = number_a
        self.n_grid, self.n_extra = n_grid, int((number_a < 0).sum())
        self.vacant = np.setdiff1d(np.arange(n_grid), number_a[number_a >= 0])
        self._slab_start = int(self.transform.x_bounds[self.comm.rank]) * n_grid // grid.repeats[0]
        self._first_off = sites.global_n[self._off]

    def destroy(self) -> None:
        """Free the work vectors."""
        self._in.destroy()
        self._out.destroy()

    def __enter__(self) -> RelativeHessian:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    @property
    def root(self) -> BlockCirculant:
        """H_hom^(1/2)."""
        if self._root is None:
            self._root = self.bulk.power(0.5, self._translations)
        return self._root

    def reduce(self, local: FloatArray) -> FloatArray:
        """Sum over all ranks."""
        total = np.empty_like(local)
        self.comm.Allreduce(np.ascontiguousarray(local), total, op=MPI.SUM)
        return total

    def apply_h(self, y_xb: FloatArray) -> FloatArray:
        """H y, zero on vacant sites."""
        y_ncb = self.to_sites(y_xb)
        w_ncb = np.empty_like(y_ncb)
        for b in range(y_xb.shape[1]):
            self._in.getArray()[:] = y_ncb[:, :, b].reshape(-1)
            self.matrix.mult(self._in, self._out)
            w_ncb[:, :, b] = self._out.getArray(readonly=True).reshape(-1, self.dimension)
        return self.from_sites(w_ncb)

    def to_sites(self, y_xb: FloatArray) -> FloatArray:
        """Values at the owned existing sites, (n_owned, d, n_vectors), of vectors on the grid."""
        d, n_b = self.dimension, y_xb.shape[1]
        slab = y_xb[: self.n_slab].reshape(*self.plan.shape[:3], self.n_components * n_b)
        y_ncb = self.plan.from_grid(slab, d * n_b).reshape(-1, d, n_b)
        y_ncb[self._off] = y_xb[self.n_slab :].reshape(-1, d, n_b)
        return y_ncb

    def from_sites(self, w_ncb: FloatArray) -> FloatArray:
        """The transpose of `to_sites`: zero on vacant sites."""
        d, n_b = w_ncb.shape[1:]
        w_xb = np.empty((self.n_local, n_b))
        w_xb[: self.n_slab] = self.plan.to_grid(w_ncb.reshape(-1, d * n_b)).reshape(-1, n_b)
        w_xb[self.n_slab :] = w_ncb[self._off].reshape(-1, n_b)
        return w_xb

    def apply_bulk(self, y_xb: FloatArray) -> FloatArray:
        """H_hom y."""
        return self._circulant(self.bulk, self.kappa, y_xb)

    def apply_green(self, p_xb: FloatArray) -> FloatArray:
        """G p, G = H_hom^+."""
        return self._circulant(self.inverse, 1.0 / self.kappa, p_xb)

    def _circulant(self, operator: BlockCirculant, extra: float, x_xb: FloatArray) -> FloatArray:
        slab = x_xb[: self.n_slab].reshape(*self.plan.shape[:3], self.n_components, x_xb.shape[1])
        result = np.empty_like(x_xb)
        result[: self.n_slab] = operator.apply(slab).reshape(-1, x_xb.shape[1])
        result[self.n_slab :] = extra * x_xb[self.n_slab :]
        return result

    def start(self, site_b: IntArray, component_b: IntArray) -> FloatArray:
        """F^-1 e for unit vectors e at sites, made orthogonal to the null vectors of the vacant sites: p of `lanczos`.

        `site_b` are global numbers of existing sites, or -1 - g for the grid site g, vacant or not; the same on every
        rank. Null vectors of F H F at a vacant site are H_hom^(1/2) e_g: without them p vanishes there.
        """
        return self.lift(self.unit(site_b, component_b))

    def unit(self, site_b: IntArray, component_b: IntArray) -> FloatArray:
        """Unit vectors at sites given as in `start`. Local."""
        d = self.dimension
        unit_xb = np.zeros((self.n_local, len(site_b)))
        for b, (site, c) in enumerate(zip(site_b.tolist(), component_b.tolist(), strict=True)):
            number = -1 - site if site < 0 else int(self._grid_of_site[site])
            if number >= 0:
                row = (number - self._slab_start) * d + c
                if 0 <= row < self.n_slab:
                    unit_xb[row, b] = 1.0
            else:
                unit_xb[self.n_slab + np.flatnonzero(self._first_off == site) * d + c, b] = 1.0
        return unit_xb

    def on_grid(self, operator: BlockCirculant, x_xb: FloatArray) -> FloatArray:
        """Any operator of the perfect grid, zero at extra sites."""
        return self._circulant(operator, 0.0, x_xb)

    def local_weights(self, mass_of: dict[str, float]) -> FloatArray:
        """mass^(-1/2) of every component of the local vectors, grid sites with the perfect crystal's species. Local."""
        slab = np.repeat([mass_of[s] for s in self.species_b], self.dimension)
        extra = np.repeat([mass_of[s] for s in self._extra_species], self.dimension)
        return np.asarray(np.concatenate([np.tile(slab, self.n_slab // self.n_components), extra]) ** -0.5)

    def lift(self, x_xb: FloatArray) -> FloatArray:
        """F^-1 x without the null vectors of the vacant sites: what `start` does, for any vectors on the grid."""
        return self.without_vacant(self._circulant(self.root, np.sqrt(self.kappa), x_xb))

    def grid_number(self, site_s: IntArray) -> IntArray:
        """Numbers on the perfect grid of sites given as in `start`, -1 for extra ones. Local."""
        return np.where(site_s < 0, -1 - site_s, self._grid_of_site[np.maximum(site_s, 0)])

    @property
    def grid_number_s(self) -> IntArray:
        """Numbers on the perfect grid of the sites of this rank's slab, in their order. Local."""
        return self._slab_start + np.arange(self.n_slab // self.dimension)

    def without_vacant(self, p_xb: FloatArray) -> FloatArray:
        """p minus its components along the null vectors H_hom e_g of the vacant sites g: zero there afterwards.

        Beside extra sites a null vector moves these too: e_g - (all sites, moved by 1 / n_grid) has no forces, and on
        the grid it is e_g but for a translation.
        """
        if len(self.vacant) == 0:
            return p_xb
        d = self.dimension
        row_v = ((self.vacant - self._slab_start)[:, None] * d + np.arange(d)).ravel()
        here = (row_v >= 0) & (row_v < self.n_slab)
        unit_xv = np.zeros((self.n_local, len(row_v)))
        unit_xv[row_v[here], np.flatnonzero(here)] = 1.0
        extra = np.tile(np.eye(d), ((self.n_local - self.n_slab) // d, len(self.vacant)))
        unit_xv[self.n_slab :] = -extra / self.n_grid
        column_xv = self.apply_bulk(unit_xv)
        at = self.reduce(unit_xv.T @ np.hstack([column_xv, p_xb]))
        p_xb = p_xb - column_xv @ np.linalg.solve(at[:, : len(row_v)], at[:, len(row_v) :])
        if self.n_extra == 0:
            p_xb[row_v[here]] = 0.0  # exactly: H keeps it so
        return p_xb

    def spaces(
        self,
        start_xb: FloatArray,
        function: Function,
        *,
        floor: float = 1e-8,
        tolerance: float = 1e-10,
        max_steps: int = 200,
        keep_basis: bool = False,
    ) -> LanczosSpaces:
        """Krylov spaces of `start_xb`, see `numerics.krylov.lanczos`: for "contour" and "ritz" alike.

        Raises
        ------
        ConvergenceError
            A vector did not converge in `max_steps`; its `result` are the spaces.
        """
        result = lanczos(
            self.apply_h, self.apply_green, start_xb, reduce=self.reduce, function=function, floor=floor,
            tolerance=tolerance, max_steps=max_steps, null_xc=self.null_xc, keep_basis=keep_basis,
        )  # fmt: skip
        if not result.converged:
            n = int((~result.converged_b).sum())
            raise ConvergenceError(
                f"{n} of {len(result.converged_b)} vectors did not converge to {tolerance:g} in {max_steps} Lanczos "
                f"steps; the largest change is {result.residual_b.max():.1e}",
                result,
            )
        return result

    def solve_shifts(self, start_xb: FloatArray, rule: ShiftSum, *, tolerance: float = 1e-12) -> ShiftedSolves:
        """p^T G f(H G) p of every vector for f = `rule`: one CG on H + shift H_hom, preconditioned by G, per shift.

        Raises
        ------
        ConvergenceError
            A solve failed (H + shift H_hom may be indefinite: the cell is unstable).
        """
        value_b = rule.constant * self._norm2(start_xb)
        counts, worst = 0, 0.0
        for shift, residue in zip(rule.shift_q, rule.residue_q, strict=True):

            def shifted(x_xb: FloatArray, shift: float = shift) -> FloatArray:
                return self.apply_h(x_xb) + shift * self.apply_bulk(x_xb)

            with _Solver(self.comm, shifted, self.apply_green, self.n_local, "cg", tolerance) as solver:
                for b in range(start_xb.shape[1]):
                    x_x = solver.solve(start_xb[:, b])
                    value_b[b] += residue * self._dot(start_xb[:, b], x_x)
                counts, worst = counts + solver.iterations, max(worst, solver.residual)
        return ShiftedSolves(value_b, counts, worst)

    def solve_nodes(
        self, start_xb: FloatArray, contour: Contour, f: Function, *, tolerance: float = 1e-12
    ) -> ShiftedSolves:
        """The same by a contour: (z H_hom - H) x = p as a real system of twice the size, by GMRES with G on both parts.

        Raises
        ------
        ConvergenceError
            A solve failed.
        """
        value_b = np.zeros(start_xb.shape[1])
        counts, worst, n = 0, 0.0, self.n_local

        def both(p_xb: FloatArray) -> FloatArray:
            return np.vstack([self.apply_green(p_xb[:n]), self.apply_green(p_xb[n:])])

        for node, weight in zip(contour.node_q, contour.weights(f), strict=True):

            def shifted(x_xb: FloatArray, node: complex = node) -> FloatArray:
                pair = np.hstack([x_xb[:n], x_xb[n:]])
                bulk, own = self.apply_bulk(pair), self.apply_h(pair)
                k = x_xb.shape[1]
                real = node.real * bulk - own
                return np.vstack([real[:, :k] - node.imag * bulk[:, k:], real[:, k:] + node.imag * bulk[:, :k]])

            with _Solver(self.comm, shifted, both, 2 * n, "gmres", tolerance) as solver:
                for b in range(start_xb.shape[1]):
                    x_x = solver.solve(np.concatenate([start_xb[:, b], np.zeros(n)]))
                    z = complex(self._dot(start_xb[:, b], x_x[:n]), self._dot(start_xb[:, b], x_x[n:]))
                    value_b[b] += (weight * z).imag
                counts, worst = counts + solver.iterations, max(worst, solver.residual)
        return ShiftedSolves(value_b, counts, worst)

    def _dot(self, a_x: FloatArray, b_x: FloatArray) -> float:
        return float(self.reduce(np.array([a_x @ b_x]))[0])

    def _norm2(self, p_xb: FloatArray) -> FloatArray:
        """p^T G p of every vector."""
        return self.reduce(np.einsum("xb,xb->b", p_xb, self.apply_green(p_xb)))


class _Solver:
    """A PETSc KSP around a callable operator and a callable preconditioner on local shares. Collective."""

    def __init__(
        self,
        comm: MPI.Comm,
        operator: Callable[[FloatArray], FloatArray],
        preconditioner: Callable[[FloatArray], FloatArray],
        n_local: int,
        kind: str,
        tolerance: float,
    ) -> None:
        self._operator, self._preconditioner = operator, preconditioner
        self._matrix = PETSc.Mat().createPython(((n_local, None), (n_local, None)), self, comm=comm)
        self._matrix.setUp()
        self._ksp = PETSc.KSP().create(comm=comm)
        self._ksp.setOperators(self._matrix)
        self._ksp.setType(kind)
        self._ksp.setNormType(PETSc.KSP.NormType.NATURAL if kind == "cg" else PETSc.KSP.NormType.PRECONDITIONED)
        pc = self._ksp.getPC()
        pc.setType(PETSc.PC.Type.PYTHON)
        pc.setPythonContext(self)
        if kind == "gmres":
            self._ksp.setGMRESRestart(200)
        self._ksp.setTolerances(rtol=tolerance, atol=1e-300, max_it=1000)
        self._x, self._b = self._matrix.createVecs()
        self.iterations, self.residual = 0, 0.0

    def mult(self, _matrix: PETSc.Mat, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = operator(x)."""
        y.getArray()[:] = self._operator(x.getArray(readonly=True)[:, None])[:, 0]

    def apply(self, _pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = preconditioner(x)."""
        y.getArray()[:] = self._preconditioner(x.getArray(readonly=True)[:, None])[:, 0]

    def solve(self, rhs_x: FloatArray) -> FloatArray:
        """Solution for one right-hand side; zero for a zero one."""
        self._b.getArray()[:] = rhs_x
        self._x.set(0.0)
        size = self._b.norm()
        if size == 0.0:
            return np.zeros_like(rhs_x)
        self._ksp.solve(self._b, self._x)
        reason = self._ksp.getConvergedReason()
        self.iterations += self._ksp.getIterationNumber()
        if reason <= 0:
            raise ConvergenceError(
                f"a shifted solve ended with PETSc's reason {reason} after {self._ksp.getIterationNumber()} steps, "
                f"residual {self._ksp.getResidualNorm():.1e}"
            )
        self.residual = max(self.residual, float(self._ksp.getResidualNorm()) / size)
        return np.array(self._x.getArray(readonly=True))

    def __enter__(self) -> _Solver:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in (self._ksp, self._matrix, self._x, self._b):
            handle.destroy()
