"""Linear response of tight-binding states: force constants, site-energy gradients, second derivatives by deformation.

With H psi = eps S psi and psi^T S psi = 1, a matrix P = C phi(eps) C^T of all states changes to first order by

    dP = C [D(phi) o (C^T dH C) - D(eps phi) o (C^T dS C)] C^T,

D the divided differences over pairs of levels, o the product by elements; their diagonals are derivatives, so that
degenerate and fractionally filled levels need no care at finite temperature. A free Fermi level follows the levels
so that the number of electrons stays.

References
----------
Baroni, de Gironcoli, Dal Corso, Giannozzi, Rev. Mod. Phys. 73, 515 (2001), section II.C.4: metals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.errors import ConfigError, DataError
from parmlip.potentials.kernels import tight_binding as kernels
from parmlip.potentials.tight_binding import NRLTightBinding, States

RealArray = NDArray[np.float64]
Periodic = tuple[bool, bool, bool]

# Derivatives of blocks along a direction are taken by a complex step: exact to rounding.
_STEP: Final = 1e-20


@dataclass(frozen=True, eq=False)
class Response:
    """First-order changes of the states of one structure. `respond` makes it."""

    law: NRLTightBinding
    states: States

    @cached_property
    def _divided(self) -> list[tuple[RealArray, RealArray, RealArray]]:
        """Divided differences of f, f eps and f eps^2 at every k point."""
        filling = self.states.filling

        def first(level: RealArray, f: RealArray) -> tuple[RealArray, RealArray]:
            return f, filling.slope(level, f)

        def second(level: RealArray, f: RealArray) -> tuple[RealArray, RealArray]:
            return f * level, f + level * filling.slope(level, f)

        return [(filling.divided(k, first)[0], *filling.divided(k, second)) for k in range(len(self.states.vectors_k))]

    @cached_property
    def _densities(self) -> tuple[RealArray, RealArray, RealArray]:
        """Pair blocks of the density and the energy-weighted density matrix, and the diagonal of the first."""
        filling = self.states.filling
        density_pij, density_ai = self.states.density(filling.occupation_kx)
        return density_pij, self.states.density(filling.occupation_kx * filling.level_kx)[0], density_ai

    @property
    def _slope_kx(self) -> RealArray:
        """Weights w_kx of dmu = sum w d(level), adding up to one; zero if the Fermi level does not move."""
        filling = self.states.filling
        slope_kx = filling.weight_kx * filling.slope_kx
        total = float(slope_kx.sum())
        return slope_kx / total if filling.canonical and total != 0.0 else np.zeros_like(slope_kx)

    def tangent(self, dr_pc: RealArray) -> RealArray:
        """Change of g_pc = dE / dr_pc per change `dr_pc` of all pair vectors, (n_pairs, 3), eV / angstrom^2.

        E is the free energy, or the grand potential at a fixed Fermi level; `dr_pc` as displacements of sites or
        deformations of the cell make it.
        """
        constants, states, blocks = self.law.constants, self.states, self.states.blocks
        filling, pairs = states.filling, blocks.pairs
        r_pc = blocks.r_pc + 1j * _STEP * dr_pc
        h_pij, s_pij, density_p = kernels.pair_blocks(constants, r_pc)
        onsite_ai, slope_ai = kernels.onsite_levels(constants, pairs.first_n, density_p)
        dh_pij, ds_pij, donsite_ai = h_pij.imag / _STEP, s_pij.imag / _STEP, onsite_ai.imag / _STEP
        none_ai = np.zeros_like(donsite_ai)
        changes, dlevel_kx = [], np.empty_like(filling.level_kx)
        for k, psi in enumerate(states.vectors_k):
            phase_p = blocks.phases(states.point_kc[k])
            dh_xy = psi.conj().T @ kernels.assemble(pairs.first_n, pairs.site_p, dh_pij, phase_p, donsite_ai) @ psi
            ds_xy = psi.conj().T @ kernels.assemble(pairs.first_n, pairs.site_p, ds_pij, phase_p, none_ai) @ psi
            changes.append((dh_xy, ds_xy))
            dlevel_kx[k] = np.diag(dh_xy).real - filling.level_kx[k] * np.diag(ds_xy).real
        shift_kx = -np.sum(self._slope_kx * dlevel_kx) * filling.slope_kx
        dp_pij, dw_pij = np.zeros_like(dh_pij), np.zeros_like(dh_pij)
        dp_ai, dw_ai = np.zeros_like(none_ai), np.zeros_like(none_ai)
        for k, (dh_xy, ds_xy) in enumerate(changes):
            d0_xy, d1_xy, d2_xy = self._divided[k]
            for (da_xy, db_xy, shift_x), out in (
                ((d0_xy, d1_xy, shift_kx[k]), (dp_pij, dp_ai)),
                ((d1_xy, d2_xy, shift_kx[k] * filling.level_kx[k]), (dw_pij, dw_ai)),
            ):
                y_xy = da_xy * dh_xy - db_xy * ds_xy
                y_xy[np.diag_indices_from(y_xy)] += shift_x
                self._gather(k, y_xy, *out)
        density_pij, weighted_pij, density_ai = self._densities
        onsite_a = np.sum((density_ai + 1j * _STEP * dp_ai) * slope_ai, axis=1)
        g_pc = kernels.contract(
            constants,
            pairs.first_n,
            r_pc,
            density_pij + 1j * _STEP * dp_pij,
            weighted_pij + 1j * _STEP * dw_pij,
            onsite_a,
        )
        return np.asarray(g_pc.imag / _STEP)

    def _gather(self, k: int, y_xy: NDArray[Any], pair_pij: RealArray, site_ai: RealArray) -> None:
        """Add the pair blocks of C y C^T at one k point, with its weight."""
        blocks, psi = self.states.blocks, self.states.vectors_k[k]
        phase_p = blocks.phases(self.states.point_kc[k])
        weight = float(self.states.filling.weight_kx[k, 0])
        density_xy = psi @ y_xy @ psi.conj().T
        kernels.gather(blocks.pairs.first_n, blocks.pairs.site_p, phase_p, density_xy, weight, pair_pij, site_ai)

    def gradient_change(self, v_ac: RealArray) -> RealArray:
        """Hessian times displacements `v_ac` (n_sites, 3) of all sites and their images, eV / angstrom^2 times v."""
        pairs = self.states.blocks.pairs
        dg_pc = self.tangent(v_ac[pairs.site_p] - v_ac[pairs.centre_p])
        return np.asarray(kernels.on_sites(pairs.first_n, pairs.site_p, dg_pc))

    def force_constants(self, sites: Sequence[int]) -> RealArray:
        """d2E / du_lc du_ad of the chosen sites l with all sites a, (n_chosen, 3, n_sites, 3), eV / angstrom^2."""
        n = len(self.states.blocks.onsite_ai)
        k_lcad = np.empty((len(sites), 3, n, 3))
        for m, site in enumerate(sites):
            for c in range(3):
                v_ac = np.zeros((n, 3))
                v_ac[site, c] = 1.0
                k_lcad[m, c] = self.gradient_change(v_ac)
        return k_lcad

    def site_gradients(self, sites: Sequence[int]) -> tuple[RealArray, RealArray]:
        """Energies (n_chosen,), eV, of sites l and their derivatives by all positions, (n_chosen, n_sites, 3)."""
        constants, states, blocks = self.law.constants, self.states, self.states.blocks
        filling, pairs = states.filling, blocks.pairs
        e_kx, _, e_mu_kx = filling.site_function(filling.level_kx, filling.occupation_kx)
        slope_kx = self._slope_kx / filling.weight_kx
        divided, held = [], []
        for k, psi in enumerate(states.vectors_k):
            divided.append(filling.divided(k, lambda level, f: filling.site_function(level, f)[:2]))
            held.append((blocks.matrices(states.point_kc[k])[1] @ psi, (psi * e_kx[k]) @ psi.conj().T))
        energy_l, gradient_lac = np.zeros(len(sites)), np.empty((len(sites), len(blocks.onsite_ai), 3))
        for m, site in enumerate(sites):
            mine = slice(4 * site, 4 * site + 4)
            q_kxy, to_mu = [], 0.0
            for k, psi in enumerate(states.vectors_k):
                half_xy = held[k][0][mine].conj().T @ psi[mine]
                q_kxy.append(0.5 * (half_xy + half_xy.conj().T))
                q_x = filling.weight_kx[k] * np.diag(q_kxy[k]).real
                energy_l[m] += q_x @ e_kx[k]
                to_mu += q_x @ e_mu_kx[k]
            p_pij, w_pij = np.zeros_like(blocks.hopping_pij), np.zeros_like(blocks.hopping_pij)
            p_ai, w_ai = np.zeros_like(blocks.onsite_ai), np.zeros_like(blocks.onsite_ai)
            for k, q_xy in enumerate(q_kxy):
                shift_x = to_mu * slope_kx[k]
                for d_xy, diagonal_x, out in (
                    (divided[k][0], shift_x, (p_pij, p_ai)),
                    (divided[k][1], shift_x * filling.level_kx[k], (w_pij, w_ai)),
                ):
                    y_xy = d_xy * q_xy
                    y_xy[np.diag_indices_from(y_xy)] += diagonal_x
                    self._gather(k, y_xy, *out)
                # The overlap that projects on the site changes too.
                own_xy = np.zeros_like(held[k][1])
                own_xy[mine] -= 0.5 * held[k][1][mine]
                own_xy[:, mine] -= 0.5 * held[k][1][:, mine]
                phase_p, weight = blocks.phases(states.point_kc[k]), float(filling.weight_kx[k, 0])
                kernels.gather(pairs.first_n, pairs.site_p, phase_p, own_xy, weight, w_pij, w_ai)
            onsite_a = np.sum(p_ai * blocks.slope_ai, axis=1)
            g_pc = kernels.contract(constants, pairs.first_n, blocks.r_pc, p_pij, w_pij, onsite_a)
            gradient_lac[m] = kernels.on_sites(pairs.first_n, pairs.site_p, g_pc)
        return energy_l, gradient_lac


def respond(law: NRLTightBinding, cell_cc: RealArray, periodic: Periodic, positions_ac: RealArray) -> Response:
    """The response of a structure.

    Raises
    ------
    DataError
        As `NRLTightBinding.states`, or a degenerate level is filled in part at zero temperature.
    """
    states = law.states(cell_cc, periodic, positions_ac)
    if not states.filling.sharp:
        raise DataError("electronic_temperature = 0: a degenerate level is filled in part; set a temperature above 0")
    return Response(law, states)


@dataclass(frozen=True, eq=False)
class Difference:
    """Derivatives by centred differences of analytic derivatives, extrapolated from two steps, with their error.

    The error left is of fourth order in the step; the one that is told is that of the smaller step before
    extrapolation, of second order, and so larger. Where a pair crosses the end of the cutoff function of the law (C1)
    neither order holds, and the error tells.
    """

    values: RealArray
    error: float  # the largest of all values, in their unit


def differentiate(function: Callable[[float], RealArray], step: float) -> Difference:
    """The derivative of `function` at zero, by steps of `step` and twice that."""
    slopes = [(function(h) - function(-h)) / (2.0 * h) for h in (step, 2.0 * step)]
    values = (4.0 * slopes[0] - slopes[1]) / 3.0
    return Difference(values, float(np.abs(values - slopes[0]).max()))


def _stack(parts: Sequence[Difference], *shape: int) -> Difference:
    values = np.array([part.values for part in parts])
    return Difference(values.reshape(*shape, *values.shape[1:]), max(part.error for part in parts))


def force_curvature(
    law: NRLTightBinding,
    cell_cc: RealArray,
    periodic: Periodic,
    positions_ac: RealArray,
    site: int,
    others: Sequence[int],
    step: float = 0.01,
) -> Difference:
    """d2 F_d / du_lc du_ae of the force on `site`, of chosen sites l with all sites a: (n_chosen, 3, 3, n_sites, 3).

    In eV / angstrom^3, by differences of force constants over displacements of `step`, angstrom. Every l costs twelve
    solutions.

    Raises
    ------
    ConfigError
        A law whose energy is not the free energy.
    """
    require_free_energy(law)

    def moved(other: int, c: int) -> Callable[[float], RealArray]:
        def constants(h: float) -> RealArray:
            moved_ac = positions_ac.copy()
            moved_ac[other, c] += h
            return -respond(law, cell_cc, periodic, moved_ac).force_constants([site])[0]

        return constants

    return _stack([differentiate(moved(a, c), step) for a in others for c in range(3)], len(others), 3)


def response_law(law: object) -> NRLTightBinding | None:
    """`law` itself if it is one whose energy has second derivatives by linear response, else None."""
    if isinstance(law, NRLTightBinding) and law.electrons.convention == "free_energy":
        return law
    return None


def require_free_energy(law: NRLTightBinding) -> None:
    """Refuse a law whose forces are not those of the free energy (or grand potential).

    Raises
    ------
    ConfigError
        `convention` is not free_energy.
    """
    if law.electrons.convention != "free_energy":
        raise ConfigError(
            f"convention = {law.electrons.convention!r}: second derivatives are those of convention = 'free_energy'"
        )
