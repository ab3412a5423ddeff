"""The perfect crystal of a law: lattice constant, energy per site, elastic constants, force constants.

Everything here is the work of one unit cell: local, serial, and the same on every rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from parmlip.crystal.lattices import Lattice, hcp
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.errors import ConvergenceError
from parmlip.mechanics.domain import species_indices
from parmlip.potentials.base import BlockPattern, Environments, FloatArray, IntArray, SiteLaw
from parmlip.units import GPA_PER_EV_A3

_VOIGT = {1: ((0, 0),), 2: ((0, 0), (1, 1), (0, 1)), 3: ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))}


@dataclass(frozen=True)
class Bulk:
    """Properties of a perfect crystal at a stress-free state.

    Stiffness matrices are in Voigt order (xx yy zz yz xz xy; in the plane xx yy xy), in eV / angstrom^dimension.
    """

    lattice: Lattice
    lattice_constant: float  # angstrom
    energy_per_site: float  # eV
    clamped_vv: NDArray[np.float64]  # basis sites follow the strain
    relaxed_vv: NDArray[np.float64]  # basis sites find their equilibrium in the strained cell

    @property
    def relaxed_gpa(self) -> NDArray[np.float64]:
        """Stiffness of a three-dimensional crystal in GPa."""
        return self.relaxed_vv * GPA_PER_EV_A3


class UnitCell:
    """The environments of the basis sites of a perfect crystal.

    Parameters
    ----------
    law : SiteLaw
    lattice : Lattice
    lattice_constant : float
        In angstrom.
    species : tuple of str
        One symbol per slot of the lattice.
    """

    def __init__(self, law: SiteLaw, lattice: Lattice, lattice_constant: float, species: tuple[str, ...]) -> None:
        self.law = law
        self.dimension = lattice.dimension
        self.n_basis = lattice.n_basis
        cell_cc = lattice.cell(lattice_constant)
        self.volume = float(abs(np.linalg.det(cell_cc[: self.dimension, : self.dimension])))
        positions_bc = lattice.basis_bc @ cell_cc
        pairs = find_pairs(cell_cc, lattice.periodic, positions_bc, law.cutoff)
        self.site_p = pairs.site_p
        self.shift_pc = pairs.shift_pc
        self.centre_p = np.repeat(np.arange(self.n_basis), np.diff(pairs.first_n))
        species_b = species_indices(species, law.species)[lattice.slot_b]
        r_pc = pair_vectors(pairs, cell_cc, positions_bc)
        self.environments = Environments(pairs.first_n, r_pc, species_b, species_b[pairs.site_p])

    @property
    def energy(self) -> float:
        """Energy of the cell, eV."""
        return float(self.law.site_energies(self.environments).sum())

    def strain_gradient(self) -> NDArray[np.float64]:
        """dE / d(strain) of the cell, (d, d), eV."""
        _, g_pc = self.law.site_gradients(self.environments)
        d = self.dimension
        return np.array((self.environments.r_pc.T @ g_pc)[:d, :d], dtype=float)

    def stiffness(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Clamped and relaxed second derivatives of the energy with respect to symmetric strain, per volume.

        With w = (strain, inner displacement), E'' = [[C, L], [L^T, K]]: relaxed is C - L K^+ L^T (Born and Huang,
        Dynamical Theory of Crystal Lattices, 1954, sec. 11), all exact by the law's linearisation.
        """
        second = self.second_derivatives()
        n_v = len(_VOIGT[self.dimension])
        clamped, coupling, inner = second[:n_v, :n_v], second[:n_v, n_v:], second[n_v:, n_v:]
        relaxed = clamped - coupling @ np.linalg.pinv(inner, rcond=1e-9, hermitian=True) @ coupling.T
        return clamped / self.volume, relaxed / self.volume

    def directions(self) -> list[FloatArray]:
        """Changes of `r_pc` by unit symmetric strains (Voigt order), then by unit shifts of each basis site."""
        d = self.dimension
        r_pc = self.environments.r_pc
        directions = []
        for i, j in _VOIGT[d]:
            strain_cc = np.zeros((3, 3))
            strain_cc[i, j] += 0.5
            strain_cc[j, i] += 0.5
            directions.append(r_pc @ strain_cc)
        for b in range(self.n_basis):
            for c in range(d):
                shift_pc = np.zeros_like(r_pc)
                shift_pc[:, c] = (self.site_p == b).astype(float) - (self.centre_p == b)
                directions.append(shift_pc)
        return directions

    def second_derivatives(self) -> NDArray[np.float64]:
        """Of the cell's energy along `directions`, symmetric, eV (angstrom)."""
        directions = self.directions()
        tangent = self.law.linearised(self.environments)
        changes = [np.array(tangent(dr_pc)) for dr_pc in directions]
        second = np.array([[np.vdot(dr_pc, dg_pc) for dg_pc in changes] for dr_pc in directions])
        return np.asarray(0.5 * (second + second.T))

    def force_constants(self) -> tuple[IntArray, FloatArray]:
        """Blocks C[o] of the perfect lattice's Hessian between a cell and the cell at offset o.

        Returns
        -------
        offset_oc : ndarray, shape (n_offsets, 3)
        block_oij : ndarray, shape (n_offsets, n_basis * d, n_basis * d), eV / angstrom^2

        By translation invariance the row of one cell is a sum over the pairs of sites in the environments of one cell:
        d2V_b / dr_s dr_t belongs to the offset from the cell of s to the cell of t.
        """
        d, first_n = self.dimension, self.environments.first_n
        found: list[tuple[IntArray, IntArray, IntArray, FloatArray]] = []
        for b in range(self.n_basis):
            pairs = slice(first_n[b], first_n[b + 1])
            k = int(first_n[b + 1] - first_n[b]) + 1
            one = Environments(
                np.array([0, k - 1]),
                self.environments.r_pc[pairs],
                self.environments.species_n[b : b + 1],
                self.environments.species_p[pairs],
            )
            dense = BlockPattern(np.arange(k + 1) * k, np.tile(np.arange(k), k))
            block_xcd = np.array(self.law.hessian_blocks(one, np.arange(1, k), dense))[:, :d, :d]
            basis_s = np.concatenate([[b], self.site_p[pairs]])
            cell_sc = np.concatenate([np.zeros((1, 3), dtype=np.int64), self.shift_pc[pairs]])
            offset_xc = (cell_sc[None, :, :] - cell_sc[:, None, :]).reshape(-1, 3)
            found.append((offset_xc, np.repeat(basis_s, k), np.tile(basis_s, k), block_xcd))
        offset_oc, place_x = np.unique(np.concatenate([f[0] for f in found]), axis=0, return_inverse=True)
        block = np.zeros((len(offset_oc), self.n_basis, self.n_basis, d, d))
        where = (place_x.ravel(), np.concatenate([f[1] for f in found]), np.concatenate([f[2] for f in found]))
        np.add.at(block, where, np.concatenate([f[3] for f in found]))
        m = self.n_basis * d
        return offset_oc, block.transpose(0, 1, 3, 2, 4).reshape(len(offset_oc), m, m)


def bulk_properties(law: SiteLaw, lattice: Lattice, species: tuple[str, ...], *, guess: float | None = None) -> Bulk:
    """Relax the lattice constant (hcp: a and c) and give the properties of the crystal there; see `relaxed_lattice`."""
    relaxed, lattice_constant = relaxed_lattice(law, lattice, species, guess=guess)
    cell = UnitCell(law, relaxed, lattice_constant, species)
    clamped_vv, relaxed_vv = cell.stiffness()
    return Bulk(relaxed, lattice_constant, cell.energy / cell.n_basis, clamped_vv, relaxed_vv)


def relaxed_lattice(
    law: SiteLaw, lattice: Lattice, species: tuple[str, ...], *, guess: float | None = None
) -> tuple[Lattice, float]:
    """The lattice constant at which the crystal's stress vanishes, to 1e-12 relative.

    The lowest minimum among nearest-neighbour distances between the law's `closest` (at least 1 A, or half of a cutoff
    below 2 A) and its cutoff, or the one nearest to `guess` (angstrom) within 25 %. The lattice is returned too because
    hcp's c/a changes.

    Raises
    ------
    ConvergenceError
        There is no minimum in that range.
    """

    def pull(log_a: float) -> float:
        """dE / d log a."""
        return float(np.trace(UnitCell(law, lattice, float(np.exp(log_a)), species).strain_gradient()))

    if guess is None:
        nearest = nearest_distance(lattice)
        least = max(law.closest * (1.0 + 1e-9), min(1.0, 0.5 * law.cutoff))
        low, high = least / nearest, 0.999 * law.cutoff / nearest
    else:
        low, high = 0.75 * guess, 1.25 * guess
    bracket = _bracket(lambda log_a: UnitCell(law, lattice, float(np.exp(log_a)), species), low, high, guess)
    if bracket is None:
        raise ConvergenceError(
            f"{lattice.name} {' '.join(species)} has no stress-free lattice constant between {low:.4f} and {high:.4f} "
            "A; with this law give [crystal] lattice_constant as a number, or another lattice"
        )
    lattice_constant = float(np.exp(brentq(pull, *bracket, xtol=1e-14, rtol=1e-14)))
    if lattice.name == "hcp":
        return _relax_ratio(law, lattice, lattice_constant, species)
    return lattice, lattice_constant


def nearest_distance(lattice: Lattice) -> float:
    """Distance of nearest neighbours in units of the lattice constant."""
    cell_cc = lattice.cell(1.0)
    positions_bc = lattice.basis_bc @ cell_cc
    r_pc = pair_vectors(pairs := find_pairs(cell_cc, lattice.periodic, positions_bc, 1.0 + 1e-6), cell_cc, positions_bc)
    return sqrt(float(np.min(np.sum(r_pc**2, axis=1)))) if len(pairs.site_p) else 1.0


def _bracket(
    cell_at: Callable[[float], UnitCell], low: float, high: float, guess: float | None
) -> tuple[float, float] | None:
    """Logarithms of lattice constants, 2 % apart, between which a minimum lies."""
    grid = np.linspace(np.log(low), np.log(high), 2 + int(np.log(high / low) / 0.02))
    cells = [cell_at(log_a) for log_a in grid]
    pulls = np.array([np.trace(cell.strain_gradient()) for cell in cells])
    minima = [i for i in range(len(grid) - 1) if pulls[i] < 0.0 < pulls[i + 1]]
    if not minima:
        return None
    if guess is None:
        best = min(minima, key=lambda i: min(cells[i].energy, cells[i + 1].energy))
    else:
        best = min(minima, key=lambda i: abs(grid[i] + 0.01 - np.log(guess)))
    return float(grid[best]), float(grid[best + 1])


def _relax_ratio(
    law: SiteLaw, lattice: Lattice, lattice_constant: float, species: tuple[str, ...]
) -> tuple[Lattice, float]:
    """Newton's method in log a and log c of hcp."""
    ratio = float(lattice.cell_cc[2, 2])
    change = np.ones(2)
    for _ in range(50):
        cell = UnitCell(law, hcp(ratio), lattice_constant, species)
        gradient_cc = cell.strain_gradient()
        gradient = np.array([gradient_cc[0, 0] + gradient_cc[1, 1], gradient_cc[2, 2]]) / cell.volume
        stiffness, _ = cell.stiffness()
        mixed = stiffness[:2, 2].sum()
        second = np.array([[stiffness[:2, :2].sum(), mixed], [mixed, stiffness[2, 2]]])
        change = np.clip(-np.linalg.solve(second, gradient), -0.05, 0.05)
        lattice_constant *= float(np.exp(change[0]))
        ratio *= float(np.exp(change[1] - change[0]))
        if np.max(np.abs(change)) < 1e-13:
            return hcp(ratio), lattice_constant
    raise ConvergenceError(
        f"hcp {' '.join(species)}: a = {lattice_constant:.6f} A, c/a = {ratio:.6f} still change by "
        f"{np.max(np.abs(change)):.1e} (tolerance 1e-13) after 50 Newton steps"
    )
