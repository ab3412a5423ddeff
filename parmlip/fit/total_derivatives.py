"""Derivatives of laws of whole structures: by linear response of tight binding, else by differences of forces.

Differences are centred, at two steps, and extrapolated (`tight_binding_response.Difference` says what their error is).
Their structures are known beforehand, so that a farm can be asked for all of them at once (`asked_at_once`). All is
local.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import pair_vectors
from parmlip.crystal.supercell import Supercell, build_supercell
from parmlip.errors import DataError
from parmlip.io.answers import Structure
from parmlip.potentials.tight_binding import NRLTightBinding
from parmlip.potentials.tight_binding_response import Difference, differentiate, force_curvature, respond
from parmlip.potentials.total import Evaluated

RealArray = NDArray[np.float64]
Evaluate = Callable[[Structure], Evaluated]
T = TypeVar("T")

# Shorter of the two steps, angstrom, and of the deformation; wider for second differences, which magnify noise more.
# Third ones are short again, since three of them together reach far and law after law is C1 at its cutoff. Second
# derivatives by response have no noise: at twice the steps of their second differences no pair of silicon crosses the
# cutoff of the NRL law, 0.03 A away.
_FIRST: Final = 0.01
_SECOND: Final = 0.02
_FIRST_STRAIN: Final = 0.002
_SECOND_STRAIN: Final = 0.004
_THIRD: Final = 0.01
_THIRD_STRAIN: Final = 0.0025
_OF_RESPONSE: Final = 0.0025
_OF_RESPONSE_STRAIN: Final = 0.0005


def asked_at_once(work: Callable[[Evaluate], T], answer: Callable[[list[Structure]], Sequence[Evaluated]]) -> T:
    """`work` with answers that are all asked for at once; the structures must not depend on the answers."""
    structures: list[Structure] = []

    def noted(structure: Structure) -> Evaluated:
        structures.append(structure)
        return Evaluated(0.0, np.zeros_like(structure[2]), np.zeros((3, 3)))

    work(noted)
    answers = iter(answer(structures))
    return work(lambda _: next(answers))


class CrystalDerivatives(Protocol):
    """Derivatives of a law in a supercell of the perfect crystal; sites move with all their images."""

    def forces(self, site: int) -> Difference:
        """dF_d(site) / du_ae, (3, n_sites, 3), eV / angstrom^2."""

    def force_curvature(self, site: int, other: int) -> Difference:
        """d2 F_d(site) / du_c(other) du_ae, (3, 3, n_sites, 3) in the order d, c, a, e, eV / angstrom^3."""

    def density_first(self) -> Difference:
        """Derivatives (n,) of the energy density W(F, p), as `CauchyBorn` orders the parameters."""

    def density_second(self) -> Difference:
        """(n, n)."""

    def density_higher(self, second: Sequence[int], last: Sequence[int], scale: float = 1.0) -> Difference:
        """(n_second, n): derivatives by any parameter, each of `second` and all of `last`, orders 3 and 4.

        `scale` multiplies the steps of the differences.
        """


class PerfectCell:
    """A supercell of the perfect crystal and its states F (r + p), the parameters being those of `CauchyBorn`."""

    def __init__(
        self, lattice: Lattice, lattice_constant: float, repeats: Sequence[int], species: tuple[str, ...]
    ) -> None:
        self.cell: Supercell = build_supercell(lattice, lattice_constant, repeats, species)
        self.symbols = tuple(self.cell.species[s] for s in self.cell.species_a)
        self.basis_a = np.arange(self.cell.n_sites) % lattice.n_basis  # sites of a conventional cell are neighbours
        d = self.cell.dimension
        self.n_strain, self.n_parameters = d * d, d * d + lattice.n_basis * d

    def structure(self, u_ac: RealArray | None = None) -> Structure:
        """With displaced sites."""
        cell = self.cell
        moved_ac = cell.positions_ac if u_ac is None else cell.positions_ac + u_ac
        return cell.cell_cc, cell.periodic, moved_ac, self.symbols

    def unit(self, site: int, component: int) -> RealArray:
        """One site's displacement by one."""
        u_ac = np.zeros_like(self.cell.positions_ac)
        u_ac[site, component] = 1.0
        return u_ac

    def parts(self, theta_x: RealArray) -> tuple[RealArray, RealArray]:
        """F (3, 3) and the shifts of all sites (n_sites, 3)."""
        d = self.cell.dimension
        f_cc, shift_bc = np.eye(3), np.zeros((int(self.basis_a.max()) + 1, 3))
        f_cc[:d, :d] += theta_x[: d * d].reshape(d, d)
        shift_bc[:, :d] = theta_x[d * d :].reshape(-1, d)
        return f_cc, shift_bc[self.basis_a]

    def deformed(self, theta_x: RealArray) -> Structure:
        """The state of parameters that differ from those of the perfect crystal by `theta_x`."""
        f_cc, shift_ac = self.parts(theta_x)
        cell = self.cell
        return cell.cell_cc @ f_cc.T, cell.periodic, cell.positions_ac @ f_cc.T + shift_ac, self.symbols

    def along(
        self, function: Callable[[RealArray], RealArray], by: Sequence[int], steps: tuple[float, float]
    ) -> Difference:
        """The derivative of a function of the parameters by all of `by`; steps of strains, and of shifts (angstrom)."""
        axes = [np.eye(self.n_parameters)[x] for x in by]
        return _mixed(function, axes, [steps[0] if x < self.n_strain else steps[1] for x in by])


class ByDifferences:
    """Of any law that gives forces (and virials, for the energy density)."""

    def __init__(self, perfect: PerfectCell, evaluate: Evaluate) -> None:
        self.perfect, self.evaluate = perfect, evaluate

    def _forces(self, u_ac: RealArray) -> RealArray:
        return self.evaluate(self.perfect.structure(u_ac)).forces_ac

    def forces(self, site: int) -> Difference:
        """Row of the site in the matrix of force constants: all forces when it moves."""
        units = [self.perfect.unit(site, c) for c in range(3)]
        return _stacked([differentiate(_along(self._forces, u_ac), _FIRST) for u_ac in units])

    def force_curvature(self, site: int, other: int) -> Difference:
        """All forces when both sites move."""
        one_d, other_c = ([self.perfect.unit(a, c) for c in range(3)] for a in (site, other))
        return _stacked([
            _stacked([_mixed(self._forces, [one_ac, other_ac], [_SECOND, _SECOND]) for other_ac in other_c])
            for one_ac in one_d
        ])  # fmt: skip

    def _gradient(self, theta_x: RealArray) -> RealArray:
        """dW / d theta at a state."""
        perfect = self.perfect
        found = self.evaluate(perfect.deformed(theta_x))
        if found.virial_cc is None:
            raise DataError("the law gives no stress, of which Cauchy-Born derivatives are made")
        d, (f_cc, shift_ac) = perfect.cell.dimension, perfect.parts(theta_x)
        # r = F r0 + p: the virial has the work on both parts
        by_f_cc = (-found.virial_cc + found.forces_ac.T @ shift_ac) @ np.linalg.inv(f_cc).T
        n_basis = (perfect.n_parameters - perfect.n_strain) // d
        by_p_bc = np.zeros((n_basis, 3))
        np.add.at(by_p_bc, perfect.basis_a, -found.forces_ac)
        flat = np.concatenate([by_f_cc[:d, :d].ravel(), by_p_bc[:, :d].ravel()])
        return np.asarray(flat / perfect.cell.volume)

    def density_first(self) -> Difference:
        """The law's own stress and forces."""
        return Difference(self._gradient(np.zeros(self.perfect.n_parameters)), 0.0)

    def density_second(self) -> Difference:
        """Differences of these by every parameter."""
        perfect = self.perfect
        steps = (_FIRST_STRAIN, _FIRST)
        both = _stacked([perfect.along(self._gradient, [x], steps) for x in range(perfect.n_parameters)])
        return Difference(0.5 * (both.values + both.values.T), both.error)

    def density_higher(self, second: Sequence[int], last: Sequence[int], scale: float = 1.0) -> Difference:
        """Second or third differences of these."""
        strain, shift = (_SECOND_STRAIN, _SECOND) if len(last) == 1 else (_THIRD_STRAIN, _THIRD)
        steps = (scale * strain, scale * shift)
        return _stacked([self.perfect.along(self._gradient, [y, *last], steps) for y in second])


class ByResponse:
    """Of dense tight binding: one derivative by perturbation theory, further ones by differences of it."""

    def __init__(self, perfect: PerfectCell, law: NRLTightBinding) -> None:
        self.perfect, self.law = perfect, law

    def forces(self, site: int) -> Difference:
        """Exact to rounding."""
        cell_cc, periodic, positions_ac, _ = self.perfect.structure()
        return Difference(-respond(self.law, cell_cc, periodic, positions_ac).force_constants([site])[0], 0.0)

    def force_curvature(self, site: int, other: int) -> Difference:
        """By differences of force constants."""
        cell_cc, periodic, positions_ac, _ = self.perfect.structure()
        found = force_curvature(self.law, cell_cc, periodic, positions_ac, site, [other])
        return Difference(found.values[0].transpose(1, 0, 2, 3), found.error)

    def density_first(self) -> Difference:
        """The law's own stress and forces."""
        return ByDifferences(self.perfect, lambda structure: self.law.evaluate(*structure)).density_first()

    def _second(self, theta_x: RealArray) -> RealArray:
        """d2 W / d theta d theta at a state."""
        perfect = self.perfect
        cell_cc, periodic, positions_ac, _ = perfect.deformed(theta_x)
        response = respond(self.law, cell_cc, periodic, positions_ac)
        pairs, d = response.states.blocks.pairs, perfect.cell.dimension
        before_pc = pair_vectors(pairs, perfect.cell.cell_cc, perfect.cell.positions_ac)
        direction_xpc = np.zeros((perfect.n_parameters, *before_pc.shape))
        for i in range(d):
            for j in range(d):
                direction_xpc[i * d + j, :, i] = before_pc[:, j]
        to_b, from_b = perfect.basis_a[pairs.site_p], perfect.basis_a[pairs.centre_p]
        for b in range((perfect.n_parameters - d * d) // d):
            for c in range(d):
                direction_xpc[d * d + b * d + c, :, c] = (to_b == b).astype(float) - (from_b == b)
        columns = [np.tensordot(direction_xpc, response.tangent(dr_pc), 2) for dr_pc in direction_xpc]
        return np.asarray(columns) / perfect.cell.volume

    def density_second(self) -> Difference:
        """Exact to rounding."""
        return Difference(self._second(np.zeros(self.perfect.n_parameters)), 0.0)

    def density_higher(self, second: Sequence[int], last: Sequence[int], scale: float = 1.0) -> Difference:
        """By first or second differences of the second derivatives."""
        strain, shift = (_FIRST_STRAIN, _FIRST) if len(last) == 1 else (_OF_RESPONSE_STRAIN, _OF_RESPONSE)
        found = self.perfect.along(self._second, last, (scale * strain, scale * shift))
        return Difference(found.values[list(second)], found.error)


def hessian_by_differences(evaluate: Evaluate, structure: Structure) -> Difference:
    """d2E / du_lc du_ad (n_sites, 3, n_sites, 3) by 12 n_sites evaluations, eV / angstrom^2; symmetric.

    The error is that of the differences or, if that is larger, half of what was not symmetric.
    """
    cell_cc, periodic, positions_ac, symbols = structure

    def moved(site: int, c: int) -> Callable[[float], RealArray]:
        def gradient(h: float) -> RealArray:
            moved_ac = positions_ac.copy()
            moved_ac[site, c] += h
            return -evaluate((cell_cc, periodic, moved_ac, symbols)).forces_ac

        return gradient

    n = len(positions_ac)
    return symmetric(_stacked([differentiate(moved(a, c), _FIRST) for a in range(n) for c in range(3)]), n)


def symmetric(rows: Difference, n: int) -> Difference:
    """A Hessian of n sites from its rows, (n, 3, n, 3)."""
    h_xy = rows.values.reshape(3 * n, 3 * n)
    error = max(rows.error, 0.5 * float(np.abs(h_xy - h_xy.T).max()))
    return Difference((0.5 * (h_xy + h_xy.T)).reshape(n, 3, n, 3), error)


def _along(function: Callable[[RealArray], RealArray], direction: RealArray) -> Callable[[float], RealArray]:
    return lambda h: function(h * direction)


def _stacked(parts: Sequence[Difference]) -> Difference:
    return Difference(np.array([part.values for part in parts]), max(part.error for part in parts))


def _mixed(
    function: Callable[[RealArray], RealArray], directions: Sequence[RealArray], steps: Sequence[float]
) -> Difference:
    """The derivative by all directions at zero, by these steps and twice these; each state is asked for once."""
    bends = []
    for s in (1.0, 2.0):
        states: dict[bytes, tuple[RealArray, int]] = {}
        for signs in product((1, -1), repeat=len(steps)):
            moves = [sign * s * h * x for sign, h, x in zip(signs, steps, directions, strict=True)]
            state = np.sum(moves, axis=0) + 0.0  # -0 is 0
            _, times = states.get(state.tobytes(), (state, 0))
            states[state.tobytes()] = state, times + prod(signs)
        change = sum(times * function(state) for state, times in states.values() if times)
        bends.append(np.asarray(change / prod(2.0 * s * h for h in steps)))
    values = (4.0 * bends[0] - bends[1]) / 3.0
    return Difference(values, float(np.abs(values - bends[0]).max()))
