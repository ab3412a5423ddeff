"""Energies that mix two laws site by site, and the dead load that takes the ghost force off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.energy import MARGIN
from parmlip.potentials.base import BlockPattern, Environments, FloatArray, IntArray, Origin, SiteLaw

RealArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_SAME_PLACE: Final = 1e-3  # angstrom


class MixedLaw:
    """Site energies of `qm` on QM sites, of `mm` on all others: the sum of (3.8). A `SiteLaw` of one supercell.

    Parameters
    ----------
    qm, mm : SiteLaw
        With the same species.
    qm_a : ndarray of bool, shape (n_sites,)
        QM sites of the supercell, the same on every rank.

    References
    ----------
    Chen, Ortner, Wang, "QM/MM methods for crystalline defects. Part 3" (2021), eq. (3.8). Site energies of a law with a
    cutoff are those of the cluster of QM region and buffer where the buffer is as wide as the cutoff.
    """

    def __init__(self, qm: SiteLaw, mm: SiteLaw, qm_a: BoolArray) -> None:
        for symbol in qm.species:
            if symbol not in mm.species:
                raise ConfigError(f"[qmmm] mm: the MM law has no parameters for species {symbol!r} of the reference")
        self.species = tuple(qm.species)
        self.cutoff = max(qm.cutoff, mm.cutoff)
        self.closest = max(qm.closest, mm.closest)
        self.keeps_places = bool(getattr(qm, "keeps_places", False) or getattr(mm, "keeps_places", False))
        self._qm_a = qm_a
        self._laws = (qm, mm)
        self._number_s = np.array([mm.species.index(symbol) for symbol in self.species], dtype=np.int64)
        self._last: tuple[RealArray, tuple[_Share, _Share]] | None = None

    def site_energies(self, environments: Environments) -> FloatArray:
        """Site energies V_n, shape (n,), eV."""
        energy_n = np.empty(len(environments.species_n), dtype=environments.r_pc.dtype)
        for law, share in zip(self._laws, self._shares(environments), strict=True):
            energy_n[share.chosen_n] = law.site_energies(share.of(environments))
        return energy_n

    def site_gradients(self, environments: Environments) -> tuple[FloatArray, FloatArray]:
        """Site energies V_n (n,), eV, and dV_n / dr_pc (n_pairs, 3), eV / angstrom."""
        energy_n = np.empty(len(environments.species_n), dtype=environments.r_pc.dtype)
        g_pc = np.empty_like(environments.r_pc)
        for law, share in zip(self._laws, self._shares(environments), strict=True):
            energy_n[share.chosen_n], g_pc[share.kept_p] = law.site_gradients(share.of(environments))
        return energy_n, g_pc

    def hessian_blocks(self, environments: Environments, site_p: IntArray, pattern: BlockPattern) -> FloatArray:
        """Sum of all site Hessians as blocks on `pattern`, shape (n_blocks, 3, 3), eV / angstrom^2."""
        qm, mm = (
            law.hessian_blocks(share.in_place(environments), site_p[share.kept_p], pattern)
            for law, share in zip(self._laws, self._shares(environments), strict=True)
        )
        return qm + mm

    def linearised(self, environments: Environments) -> Callable[[FloatArray], FloatArray]:
        """The map dr_pc -> dg_pc of `site_gradients` at these environments."""
        shares = self._shares(environments)
        tangents = [law.linearised(share.of(environments)) for law, share in zip(self._laws, shares, strict=True)]

        def tangent(dr_pc: FloatArray) -> FloatArray:
            dg_pc = np.empty_like(dr_pc)
            for apply, share in zip(tangents, shares, strict=True):
                dg_pc[share.kept_p] = apply(np.ascontiguousarray(dr_pc[share.kept_p]))
            return dg_pc

        return tangent

    def _shares(self, environments: Environments) -> tuple[_Share, _Share]:
        """The centres of either law. Kept, with their `Origin`, which laws that keep places know again.

        Environments without an origin are those of the perfect crystal far away, which is MM.
        """
        origin = environments.origin
        unchanged = np.arange(len(self.species))
        if origin is None:
            none_n = np.zeros(len(environments.species_n), dtype=bool)
            return _share(environments, none_n, unchanged), _share(environments, ~none_n, self._number_s)
        if self._last is None or self._last[0] is not origin.bond_pc:
            qm_n = self._qm_a[origin.global_n]
            shares = (_share(environments, qm_n, unchanged), _share(environments, ~qm_n, self._number_s))
            self._last = origin.bond_pc, shares
        return self._last[1]


@dataclass(frozen=True, eq=False)
class _Share:
    """Some centres of environments and their pairs."""

    chosen_n: BoolArray
    kept_p: BoolArray
    first_n: IntArray  # of the chosen centres alone
    first_in_place_n: IntArray  # of all centres, of which the others have no pairs
    origin: Origin | None
    origin_in_place: Origin | None
    number_s: IntArray  # the law's index of each species

    def of(self, e: Environments) -> Environments:
        """Environments of the chosen centres alone."""
        return Environments(
            self.first_n, np.ascontiguousarray(e.r_pc[self.kept_p]), self.number_s[e.species_n[self.chosen_n]],
            self.number_s[e.species_p[self.kept_p]], self.origin,
        )  # fmt: skip

    def in_place(self, e: Environments) -> Environments:
        """Environments of all centres, of which the others are isolated: a centre keeps its row of the Hessian."""
        return Environments(
            self.first_in_place_n, np.ascontiguousarray(e.r_pc[self.kept_p]), self.number_s[e.species_n],
            self.number_s[e.species_p[self.kept_p]], self.origin_in_place,
        )  # fmt: skip


def _share(environments: Environments, chosen_n: BoolArray, number_s: IntArray) -> _Share:
    count_n, whole = np.diff(environments.first_n), environments.origin
    kept_p = np.repeat(chosen_n, count_n)
    origin = in_place = None
    if whole is not None:
        bond_pc = np.ascontiguousarray(whole.bond_pc[kept_p])
        origin, in_place = Origin(bond_pc, whole.global_n[chosen_n]), Origin(bond_pc, whole.global_n)
    first_n, first_in_place_n = _first(count_n[chosen_n]), _first(np.where(chosen_n, count_n, 0))
    return _Share(chosen_n, kept_p, first_n, first_in_place_n, origin, in_place, number_s)


def _first(count_n: IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(count_n)]).astype(np.int64)


class MixedEnergy(ClampedEnergy):
    """E^H(u) of (3.8), or with a dead load E^GFC(u) = E^H(u) - <dE^H(0), beta u> of (3.10).

    Forces are (n_owned, d), zero on clamped sites; Hessians are those of E^H. Collective on ``comm``.

    Parameters
    ----------
    qm, mm : SiteLaw
    supercell : Supercell
    qm_a, free_a : ndarray of bool, shape (n_sites,)
        Sites with the QM law, sites that move; the same on every rank.
    predictor_ad : ndarray, shape (n_sites, d), optional
        u_0, where differences of energy begin, angstrom.
    load_ad : ndarray, shape (n_sites, d), optional
        beta dE^H(0), eV / angstrom: `ghost_gradient` where beta is 1, else 0. The same on every rank.
    """

    def __init__(
        self,
        qm: SiteLaw,
        mm: SiteLaw,
        supercell: Supercell,
        qm_a: BoolArray,
        free_a: BoolArray,
        predictor_ad: RealArray | None = None,
        load_ad: RealArray | None = None,
        *,
        comm: MPI.Comm,
        margin: float = MARGIN,
    ) -> None:
        super().__init__(MixedLaw(qm, mm, qm_a), supercell, free_a, predictor_ad, comm=comm, margin=margin)
        self._load_nd: RealArray | None = None
        if load_ad is not None:
            self._load_nd = np.where(self.sites.restrict(free_a)[:, None], self.sites.restrict(load_ad), 0.0)

    def difference(self, u_nd: RealArray) -> float:
        """E(u) - E(u_0), eV, the same on every rank."""
        return super().difference(u_nd) - self._work(u_nd)

    def difference_and_forces(self, u_nd: RealArray) -> tuple[float, RealArray]:
        """E(u) - E(u_0), eV, and the forces on the owned sites, (n_owned, d), eV / angstrom; zero on clamped ones."""
        energy, f_nd = super().difference_and_forces(u_nd)
        return energy - self._work(u_nd), f_nd if self._load_nd is None else f_nd + self._load_nd

    def _work(self, u_nd: RealArray) -> float:
        """Of the dead load from u_0 to u, eV."""
        if self._load_nd is None:
            return 0.0
        return float(self.comm.allreduce(float(np.vdot(self._load_nd, u_nd - self.zero_nd)), op=MPI.SUM))


def ghost_gradient(
    qm: SiteLaw, mm: SiteLaw, supercell: Supercell, qm_a: BoolArray, free_a: BoolArray, *, comm: MPI.Comm
) -> RealArray:
    """dE^H(0) of (3.10) on a homogeneous crystal, (n_sites, d), eV / angstrom: minus its ghost forces.

    Collective on ``comm``; the same on every rank. The supercell is the perfect crystal, of which an MM law that keeps
    places knows the sites. Zero on clamped sites, of which some see the surface.
    """
    energy = MixedEnergy(qm, mm, supercell, qm_a, free_a, comm=comm)
    _, f_nd = energy.difference_and_forces(energy.zero_nd)
    return -energy.sites.gather_to_all(f_nd)


def on_same_places(perfect: Supercell, supercell: Supercell, value_ad: RealArray) -> RealArray:
    """Values (n, d) of the sites of a perfect crystal for those of one with defects: zero where it has no such site.

    Local. Both have the same frame and origin.
    """
    tree = cKDTree(perfect.positions_ac)
    apart_a, number_a = tree.query(supercell.positions_ac)
    return np.asarray(np.where((apart_a < _SAME_PLACE)[:, None], value_ad[number_a], 0.0))
