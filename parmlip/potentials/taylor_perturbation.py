"""Harmonic perturbations of site energies with prescribed elastic constants, or with none."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from parmlip.errors import ConfigError, GeometryError
from parmlip.potentials.base import BlockPattern, Environments, FloatArray, IntArray
from parmlip.potentials.kernels.triplets import scatter_site_hessians

RealArray = NDArray[np.float64]


@dataclass(frozen=True)
class HarmonicError:
    """v/2 c E E + k/2 sum_p |d_p - F rho_p|^2 of each site, for changes d_p of its vectors rho_p in a crystal.

    F is the least-squares deformation of the vectors within `reach`, E its symmetric part. The first term changes the
    elastic constants by c, exactly; the second one vanishes where the deformation is homogeneous: it changes the force
    constants but no Cauchy-Born derivative of any order.

    Parameters
    ----------
    c_ijkl : ndarray, shape (3, 3, 3, 3)
        With the symmetries of elastic constants, in the frame of the vectors, eV / angstrom^3.
    volume : float
        Of a site, angstrom^3.
    reach : float
        Vectors of the crystal below it count; they must span space, angstrom.
    short_wave : float
        k, eV / angstrom^2.
    """

    c_ijkl: RealArray = field(repr=False, compare=False)
    volume: float
    reach: float
    short_wave: float = 0.0

    def gradient(self, at: Environments, chosen_n: NDArray[np.bool_], d_pc: FloatArray) -> FloatArray:
        """Derivative (n_pairs, 3) by the vectors' changes `d_pc` about `at`, at the chosen centres: linear in `d_pc`.

        The energies are half of its products with `d_pc`.
        """
        near_p, centre_k = self._stencil(at, chosen_n)
        g_pc = np.zeros(d_pc.shape, d_pc.dtype)
        if len(near_p):
            n = len(at.species_n)
            rho_kc, d_kc = at.r_pc[near_p], d_pc[near_p]
            dual_kc = self._dual(rho_kc, centre_k, n)
            f_ncd = _summed(d_kc[:, :, None] * dual_kc[:, None, :], centre_k, n)
            stress_ncd = self.volume * np.einsum("ijkl,nkl->nij", self.c_ijkl, f_ncd, optimize=True)
            g_kc = np.einsum("kij,kj->ki", stress_ncd[centre_k], dual_kc)
            if self.short_wave != 0.0:
                g_kc = g_kc + self.short_wave * (d_kc - np.einsum("kij,kj->ki", f_ncd[centre_k], rho_kc))
            g_pc[near_p] = g_kc
        return g_pc

    def hessian_blocks(
        self, at: Environments, chosen_n: NDArray[np.bool_], site_p: IntArray, pattern: BlockPattern
    ) -> RealArray:
        """Sum of the chosen sites' Hessians as blocks on `pattern`, (n_blocks, 3, 3), eV / angstrom^2.

        Raises
        ------
        GeometryError
            The pattern lacks a pair.
        """
        near_p, centre_k = self._stencil(at, chosen_n)
        n = len(at.species_n)
        dual_kc = self._dual(at.r_pc[near_p], centre_k, n)
        first_k = np.searchsorted(centre_k, np.arange(n + 1)).astype(np.int64)
        first_x = np.concatenate([[0], np.cumsum(9 * np.diff(first_k) ** 2)]).astype(np.int64)
        h_x = np.empty(first_x[-1])
        for i, (a, b) in enumerate(zip(first_k[:-1], first_k[1:], strict=True)):
            q_kc, rho_kc = dual_kc[a:b], at.r_pc[near_p[a:b]]
            h = self.volume * np.einsum("kj,iajb,lb->klia", q_kc, self.c_ijkl.transpose(0, 2, 1, 3), q_kc)
            if self.short_wave != 0.0:
                h += self.short_wave * (np.eye(b - a) - rho_kc @ q_kc.T)[:, :, None, None] * np.eye(3)
            h_x[first_x[i] : first_x[i + 1]] = h.ravel()
        blocks, found = scatter_site_hessians(
            first_k, near_p.astype(np.int64), first_x, h_x, site_p, pattern.first_r, pattern.column_b
        )
        if not found:
            raise GeometryError(
                f"Taylor law: the sparsity pattern of the Hessian must hold all pairs up to {2 * self.reach:g} A"
            )
        return np.asarray(blocks)

    def _stencil(self, at: Environments, chosen_n: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
        """Pairs within reach of the chosen centres, and their centres."""
        centre_p = np.repeat(np.arange(len(chosen_n)), np.diff(at.first_n))
        near_p = np.flatnonzero(chosen_n[centre_p] & (np.einsum("pc,pc->p", at.r_pc, at.r_pc) < self.reach**2))
        return near_p, centre_p[near_p]

    def _dual(self, rho_kc: RealArray, centre_k: IntArray, n: int) -> RealArray:
        """M^-1 rho with M the sum of rho rho of the pair's centre: F = sum d (M^-1 rho)."""
        m_ncd = _summed(rho_kc[:, :, None] * rho_kc[:, None, :], centre_k, n)
        present_n = np.bincount(centre_k, minlength=n) > 0
        m_ncd[~present_n] = np.eye(3)
        if present_n.any() and np.linalg.cond(m_ncd).max() > 1e8:
            raise ConfigError(f"Taylor law: a site's vectors below {self.reach:.3f} A do not span space")
        return np.asarray(np.einsum("kij,kj->ki", np.linalg.inv(m_ncd)[centre_k], rho_kc))


def _summed(value_kcd: FloatArray, centre_k: IntArray, n: int) -> FloatArray:
    """Sums (n, 3, 3) over the pairs of each centre; `centre_k` ascends."""
    first_n = np.searchsorted(centre_k, np.arange(n + 1))
    total_ncd = np.zeros((n, 3, 3), value_kcd.dtype)
    present_n = np.diff(first_n) > 0
    if present_n.any():
        total_ncd[present_n] = np.add.reduceat(value_kcd, first_n[:-1][present_n], axis=0)
    return total_ncd
