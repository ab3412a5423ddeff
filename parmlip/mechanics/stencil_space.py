"""Displacements of a supercell with the norm ||D.||: its matrix, dual norm of forces, operator norm of Hessians."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConvergenceError
from parmlip.mechanics.extremes import RitzValues, ritz_values
from parmlip.mechanics.green import without_translation
from parmlip.mechanics.line_search import dot
from parmlip.parallel.sites import Sites

FloatArray = NDArray[np.float64]

_RTOL: Final = 1e-11  # of the solves with K
_SEED: Final = 1


class StencilSpace:
    """K with ||Du||^2 = sum over components of u_c^T K u_c as a PETSc matrix, and what is measured with it.

    Collective on ``sites.comm``, as are all methods. Arrays are (n_owned, d).

    Parameters
    ----------
    supercell : Supercell
        The reference lattice, with its defects.
    sites : Sites
        Who owns which site.
    kind : str
        Nearest neighbours by "voronoi" or "nearest".

    References
    ----------
    Ortner and Wang (2022), (2.1), (3.4)-(3.6).
    """

    def __init__(self, supercell: Supercell, sites: Sites, kind: Literal["voronoi", "nearest"] = "voronoi") -> None:
        self.sites = sites
        self.dimension = supercell.dimension
        pairs = nearest_neighbours(supercell, kind, sites.global_n)
        degree_n = np.diff(pairs.first_n)
        n, start = sites.n_owned, sites.start
        row_x = np.concatenate([np.repeat(np.arange(n), degree_n), np.arange(n)])
        column_x = np.concatenate([sites.number_a[pairs.site_p], start + np.arange(n)])
        # Both directions of every bond are among the pairs, hence twice the graph's Laplacian.
        value_x = np.concatenate([np.full(pairs.n_pairs, -2.0), 2.0 * degree_n])
        order = np.lexsort((column_x, row_x))
        row_x, column_x, value_x = row_x[order], column_x[order], value_x[order]
        new_x = np.ones(len(row_x), dtype=bool)  # several images of one neighbour are one entry
        new_x[1:] = (row_x[1:] != row_x[:-1]) | (column_x[1:] != column_x[:-1])
        first = np.flatnonzero(new_x)
        value_x = np.add.reduceat(value_x, first) if len(first) else value_x
        row_x, column_x = row_x[first], column_x[first]
        first_n = np.searchsorted(row_x, np.arange(n + 1))
        integer = PETSc.IntType
        size = (n, sites.n_sites)
        self._matrix = PETSc.Mat().createAIJ(
            (size, size), csr=(first_n.astype(integer), column_x.astype(integer), value_x), comm=sites.comm
        )
        self._matrix.setOption(PETSc.Mat.Option.SYMMETRIC, True)
        null = PETSc.NullSpace().create(constant=True, comm=sites.comm)
        self._matrix.setNullSpace(null)
        self._matrix.setNearNullSpace(null)
        self._ksp = PETSc.KSP().create(comm=sites.comm)
        self._ksp.setOperators(self._matrix)
        self._ksp.setType(PETSc.KSP.Type.CG)
        self._ksp.getPC().setType(PETSc.PC.Type.GAMG if sites.n_sites > 2_000 else PETSc.PC.Type.JACOBI)
        self._ksp.setTolerances(rtol=_RTOL, max_it=10_000)
        self._in, self._out = self._matrix.createVecs()

    def __enter__(self) -> StencilSpace:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in (self._ksp, self._matrix, self._in, self._out):
            handle.destroy()

    def norm(self, u_nd: FloatArray) -> float:
        """||Du||, angstrom."""
        square = 0.0
        for c in range(self.dimension):
            self._in.getArray()[:] = u_nd[:, c]
            self._matrix.mult(self._in, self._out)
            square += self._in.dot(self._out)
        return sqrt(max(square, 0.0))

    def inverse(self, f_nd: FloatArray) -> FloatArray:
        """K^+ f of every component; translations are taken off.

        Raises
        ------
        ConvergenceError
        """
        f_nd = without_translation(f_nd, self.sites)
        w_nd = np.empty_like(f_nd)
        for c in range(self.dimension):
            self._in.getArray()[:] = f_nd[:, c]
            self._ksp.solve(self._in, self._out)
            reason = self._ksp.getConvergedReason()
            if reason < 0:
                raise ConvergenceError(f"the stencil norm's matrix could not be inverted (PETSc reason {reason})")
            w_nd[:, c] = self._out.getArray(readonly=True)
        return without_translation(w_nd, self.sites)

    def dual_norm(self, f_nd: FloatArray) -> float:
        """sup <f, v> / ||Dv|| of forces f, eV / angstrom: (f^T K^+ f)^(1/2)."""
        return sqrt(max(dot(without_translation(f_nd, self.sites), self.inverse(f_nd), self.sites.comm), 0.0))

    def extremes(self, product: Callable[[FloatArray], FloatArray], *, max_steps: int = 300) -> tuple[float, float]:
        """Least and largest <H v, v> / ||Dv||^2 of a symmetric H, eV / angstrom^2, to 2 and 1 %.

        Raises
        ------
        ConvergenceError
        """

        def done(found: RitzValues) -> bool:
            least, largest = abs(found.values[0]), abs(found.values[-1])
            return bool(found.residual_lowest <= 0.02 * least and found.residual_highest <= 0.01 * largest)

        found = ritz_values(product, self.inverse, done, self.sites, self.dimension, max_steps=max_steps, seed=_SEED)
        if not done(found) and len(found.values) == max_steps:
            raise ConvergenceError(f"stability constant {found.values[0]:.3g} eV/A^2: not found in {max_steps} steps")
        return float(found.values[0]), float(found.values[-1])

    def operator_norm(
        self, product: Callable[[FloatArray], FloatArray], *, tolerance: float = 1e-3, max_steps: int = 200
    ) -> float:
        """sup |<H v, w>| / (||Dv|| ||Dw||) of a symmetric H, eV / angstrom^2.

        The eigenvalue of largest magnitude of H v = lambda K v by Lanczos, to a relative residual of `tolerance`.

        Raises
        ------
        ConvergenceError
        """
        found = ritz_values(
            product, self.inverse, lambda r: r.residual_of_scale <= tolerance * r.scale, self.sites, self.dimension,
            max_steps=max_steps, seed=_SEED,
        )  # fmt: skip
        if found.residual_of_scale > tolerance * found.scale and len(found.values) == max_steps:
            raise ConvergenceError(
                f"operator norm {found.scale:.6g}: residual {found.residual_of_scale:.1e} after {max_steps} steps"
            )
        return found.scale
