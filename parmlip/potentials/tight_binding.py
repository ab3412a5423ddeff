"""Tight binding with s and p orbitals and overlap: total energies, forces and site energies from dense matrices.

References
----------
Bernstein et al., Phys. Rev. B 62, 4477 (2000): the law of silicon.
Chen, Ortner, Multiscale Model. Simul. 14, 232 (2016), eq. 2.8: site energies.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from parmlip.crystal.neighbours import Pairs, find_pairs, pair_vectors
from parmlip.errors import ConfigError, DataError, GeometryError
from parmlip.parallel.comm import in_step
from parmlip.potentials.kernels import tight_binding as kernels
from parmlip.potentials.tight_binding_constants import (
    BOHR_A,
    CUTOFF_VARIANTS,
    RYDBERG_EV,
    TABLES,
    SlaterKosterTable,
)
from parmlip.potentials.tight_binding_electrons import Convention, Electrons, Filling, k_mesh
from parmlip.potentials.tight_binding_mirror import ComplexArray, gauged, real_gauge, ungauged
from parmlip.potentials.total import Evaluated

if TYPE_CHECKING:
    from mpi4py import MPI

RealArray = NDArray[np.float64]
N_ORBITALS: Final = 4
KScheme = Literal["monkhorst_pack", "gamma_centred"]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Hamiltonian and overlap of a structure as 4 x 4 blocks of directed pairs and onsite levels.

    Orbitals s, p_x, p_y, p_z. Block p stands in the rows of the centre of pair p and the columns of its neighbour; the
    overlap of a site with itself is one. Derivatives are None unless asked for.
    """

    pairs: Pairs
    r_pc: RealArray  # (n_pairs, 3) neighbour minus centre, angstrom
    hopping_pij: RealArray  # (n_pairs, 4, 4) eV
    overlap_pij: RealArray  # (n_pairs, 4, 4)
    onsite_ai: RealArray  # (n_sites, 4) eV
    slope_ai: RealArray  # (n_sites, 4) d onsite_ai / d(density of site a), eV
    hopping_pcij: RealArray | None = None  # (n_pairs, 3, 4, 4) d hopping_pij / d r_pc, eV / angstrom
    overlap_pcij: RealArray | None = None  # (n_pairs, 3, 4, 4) 1 / angstrom
    density_pc: RealArray | None = None  # (n_pairs, 3) d(density of the centre of pair p) / d r_pc, 1 / angstrom

    def phases(self, k_c: RealArray | None) -> NDArray[Any]:
        """exp(2 pi i k . shift) of all pairs, `k_c` in reciprocal cell vectors; real where k and -k are one point."""
        if k_c is None or not np.any(k_c):
            return np.ones(self.pairs.n_pairs)
        k_c = np.asarray(k_c, float)
        turns_p = self.pairs.shift_pc @ k_c
        if np.all(2.0 * k_c == np.round(2.0 * k_c)):
            return 1.0 - 2.0 * (np.round(2.0 * turns_p) % 2.0)
        return np.exp(2j * np.pi * turns_p)

    def matrices(self, k_c: RealArray | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Dense Hamiltonian, eV, and overlap, (4 n_sites, 4 n_sites); Hermitian, real where the phases are."""
        phase_p, ones_ai = self.phases(k_c), np.ones_like(self.onsite_ai)
        first_n, site_p = self.pairs.first_n, self.pairs.site_p
        return (
            kernels.assemble(first_n, site_p, self.hopping_pij, phase_p, self.onsite_ai),
            kernels.assemble(first_n, site_p, self.overlap_pij, phase_p, ones_ai),
        )


@dataclass(frozen=True, eq=False)
class States:
    """Eigenstates of a structure at every k point: H psi = eps S psi with psi^T S psi = 1.

    On mirror planes (`real_gauge`) they are real but for phases of the orbitals, which takes an eighth of the time.
    With a communicator every rank has those of some k points.
    """

    blocks: Blocks
    point_kc: RealArray  # (n_k, 3) reciprocal cell vectors
    real_k: list[NDArray[Any]]  # (4 n_sites, n_states) each, real in its gauge; another rank's without states
    gauge_k: list[ComplexArray | None]  # (4 n_sites,) each, None where states are as they are
    filling: Filling
    comm: MPI.Comm | None = None

    @cached_property
    def vectors_k(self) -> list[NDArray[Any]]:
        """The states, (4 n_sites, n_states) at each k point."""
        return [
            v_xs if gauge_x is None else gauge_x[:, None] * v_xs
            for v_xs, gauge_x in zip(self.real_k, self.gauge_k, strict=True)
        ]

    def density(self, weight_kx: RealArray) -> tuple[RealArray, RealArray]:
        """Blocks of 2 sum psi w psi^T on the pairs (n_pairs, 4, 4), and its diagonal (n_sites, 4). Collective."""
        pairs = self.blocks.pairs
        pair_pij, site_ai = np.zeros((pairs.n_pairs, 4, 4)), np.zeros_like(self.blocks.onsite_ai)
        for k, vectors in enumerate(self.real_k):
            used = np.flatnonzero(np.abs(weight_kx[k]) > 1e-18)
            if len(used) == 0 or vectors.size == 0:
                continue
            columns = slice(used[0], used[-1] + 1)
            held = vectors[:, columns]
            # conj() of a real array would be a copy
            density_xy = (held * weight_kx[k, columns]) @ (held.conj().T if np.iscomplexobj(held) else held.T)
            density_xy = ungauged(density_xy, self.gauge_k[k])
            phase_p = self.blocks.phases(self.point_kc[k])
            kernels.gather(
                pairs.first_n, pairs.site_p, phase_p, density_xy, self.filling.weight_kx[k, 0], pair_pij, site_ai
            )
        return self._sum(pair_pij), self._sum(site_ai)

    def _sum(self, local: RealArray) -> RealArray:
        if self.comm is None:
            return local
        total = np.empty_like(local)
        self.comm.Allreduce(local, total)
        return total


@dataclass(frozen=True)
class NRLTightBinding:
    """The NRL tight-binding law of one species; a `TotalLaw`.

    The matrices are dense: time grows with the third power of the number of sites, memory with the second. With a
    communicator its ranks share the k points, and `states` and `evaluate` are collective on it.
    """

    table: SlaterKosterTable
    cutoff_variant: str = "quip"
    electrons: Electrons = field(default_factory=Electrons)
    k_points: tuple[int, int, int] = (1, 1, 1)
    k_scheme: KScheme = "monkhorst_pack"
    comm: MPI.Comm | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.cutoff_variant not in CUTOFF_VARIANTS:
            there = ", ".join(CUTOFF_VARIANTS)
            raise ConfigError(f"cutoff_variant = {self.cutoff_variant!r} is unknown; there are {there}")
        object.__setattr__(self, "k_points", tuple(self.k_points))
        if len(self.k_points) != 3 or any(not isinstance(q, int) or q < 1 for q in self.k_points):
            raise ConfigError(f"k_points = {list(self.k_points)}: three whole numbers greater than 0 are needed")
        if self.k_scheme not in ("monkhorst_pack", "gamma_centred"):
            raise ConfigError(f"k_scheme = {self.k_scheme!r} is unknown; there are monkhorst_pack, gamma_centred")

    @property
    def species(self) -> tuple[str, ...]:
        """The law's element."""
        return (self.table.species,)

    def shared(self, comm: MPI.Comm) -> NRLTightBinding:
        """The same law, its k points shared by the ranks of `comm`. Local."""
        return replace(self, comm=comm)

    @property
    def closest(self) -> float:
        """Below this distance the orbitals of a pair are not independent: its overlap is not positive, angstrom."""
        return self.table.closest * BOHR_A

    @property
    def cutoff(self) -> float:
        """Largest distance at which two orbitals interact, angstrom."""
        return self.table.cutoff * BOHR_A

    @cached_property
    def constants(self) -> kernels.Constants:
        """The table in eV and angstrom."""
        table, bohr = self.table, BOHR_A
        hopping_kn, overlap_kn = np.array(table.hopping), np.array(table.overlap)
        hopping_kn[:, :3] *= RYDBERG_EV / bohr ** np.arange(3)
        overlap_kn[:, :4] /= bohr ** np.arange(4)
        for rows in (hopping_kn, overlap_kn):
            rows[:, -1] = rows[:, -1] ** 2 / bohr
        return kernels.Constants(
            CUTOFF_VARIANTS.index(self.cutoff_variant),
            self.cutoff,
            table.width * bohr,
            table.offset,
            table.density_exponent**2 / bohr,
            RYDBERG_EV * np.array(table.onsite),
            hopping_kn,
            overlap_kn,
        )

    def blocks(
        self,
        cell_cc: RealArray,
        periodic: tuple[bool, bool, bool],
        positions_ac: RealArray,
        *,
        derivatives: bool = False,
    ) -> Blocks:
        """Pair blocks and onsite levels of a structure; with `derivatives` also those of the blocks.

        Raises
        ------
        GeometryError
            Two sites are closer than `closest`, or the cell has no volume.
        """
        pairs = find_pairs(cell_cc, periodic, positions_ac, self.cutoff, closest=self.closest)
        r_pc = pair_vectors(pairs, np.ascontiguousarray(cell_cc, float), np.ascontiguousarray(positions_ac))
        h_pij, s_pij, density_p = kernels.pair_blocks(self.constants, r_pc)
        onsite_ai, slope_ai = kernels.onsite_levels(self.constants, pairs.first_n, density_p)
        gradients = kernels.pair_block_gradients(self.constants, r_pc) if derivatives else (None, None, None)
        return Blocks(pairs, r_pc, h_pij, s_pij, onsite_ai, slope_ai, *gradients)

    def matrices(
        self,
        cell_cc: RealArray,
        periodic: tuple[bool, bool, bool],
        positions_ac: RealArray,
        k_c: RealArray | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Dense Hamiltonian, eV, and overlap, (4 n_sites, 4 n_sites), row 4 a + i for orbital i of site a.

        `k_c` (3,) in reciprocal cell vectors: matrices of Bloch sums with the phase of the cell, Hermitian. Without it
        the matrices are real.
        """
        return self.blocks(cell_cc, periodic, positions_ac).matrices(k_c)

    def states(self, cell_cc: RealArray, periodic: tuple[bool, bool, bool], positions_ac: RealArray) -> States:
        """All levels and eigenstates of the k points, filled.

        Raises
        ------
        GeometryError
            Two sites are closer than `closest`, or so many so close that the overlap is not positive definite.
        DataError
            The electrons do not fit.
        """
        blocks = self.blocks(cell_cc, periodic, positions_ac)
        point_kc, weight_k = k_mesh(self.k_points, self.k_scheme == "gamma_centred", periodic)
        rank, size = (0, 1) if self.comm is None else (self.comm.rank, self.comm.size)
        n = N_ORBITALS * len(positions_ac)
        level_kx, vectors, gauges = np.zeros((len(point_kc), n)), [], []
        with nullcontext() if self.comm is None else in_step(self.comm, "solving k points"):
            for k, k_c in enumerate(point_kc):
                found = None
                if k % size == rank:
                    found = self._eigenstates(blocks, cell_cc, positions_ac, k_c)
                    level_kx[k] = found[0]
                vectors.append(np.zeros((n, 0)) if found is None else found[1])
                gauges.append(None if found is None else found[2])
        if self.comm is not None:
            level_kx = self.comm.allreduce(level_kx)
        n_electrons = self.table.electrons * len(positions_ac) - self.electrons.charge
        filling = self.electrons.fill(level_kx, weight_k, n_electrons)
        return States(blocks, point_kc, vectors, gauges, filling, self.comm)

    def _eigenstates(
        self, blocks: Blocks, cell_cc: RealArray, positions_ac: RealArray, k_c: RealArray
    ) -> tuple[RealArray, NDArray[Any], ComplexArray | None]:
        """Levels, and states in their gauge, of one k point."""
        matrices = blocks.matrices(k_c)
        gauge_x = real_gauge(cell_cc, positions_ac, k_c) if np.iscomplexobj(matrices[0]) else None
        h_xy, s_xy = (gauged(matrix_xy, gauge_x) for matrix_xy in matrices)
        try:
            level_x, psi_xs = scipy.linalg.eigh(
                h_xy, s_xy, driver="gvd", overwrite_a=True, overwrite_b=True, check_finite=False
            )
        except np.linalg.LinAlgError as error:
            raise GeometryError(
                f"{self.table.species} tight binding: {error} (k point {k_c.tolist()}, {len(positions_ac)} sites, "
                f"nearest {_nearest(blocks):.3g} angstrom): sites too close for these orbitals"
            ) from error
        return level_x, psi_xs, gauge_x

    def evaluate(
        self, cell_cc: RealArray, periodic: tuple[bool, bool, bool], positions_ac: RealArray, symbols: Sequence[str]
    ) -> Evaluated:
        """Energy that the convention names, its forces, virial and site energies.

        Raises
        ------
        ConfigError
            A species other than the law's.
        GeometryError
            Two sites are closer than `closest`, or so many so close that the overlap is not positive definite.
        DataError
            No sites; the electrons do not fit; at zero temperature, a degenerate
            level is filled in part, so that forces are not defined.
        """
        other = sorted(set(symbols) - set(self.species))
        if other:
            raise ConfigError(f"tight binding has no parameters for {', '.join(other)}, only for {self.table.species}")
        if len(positions_ac) == 0:
            raise DataError("tight binding of a structure without sites")
        states = self.states(cell_cc, periodic, positions_ac)
        blocks, filling = states.blocks, states.filling
        if not filling.sharp:
            raise DataError(
                f"electronic_temperature = 0: the level at {filling.fermi_level:.6g} eV is degenerate and filled in "
                "part, so that forces are not defined; set a temperature above 0"
            )
        pairs = blocks.pairs
        weight_kx = filling.force_weights()
        density_pij, density_ai = states.density(weight_kx)
        weighted_pij, weighted_ai = states.density(weight_kx * filling.level_kx)
        # By Hellmann and Feynman d(level) = psi^T (dH - level dS) psi; onsite levels depend on all pairs of their site.
        onsite_a = np.sum(density_ai * blocks.slope_ai, axis=1)
        g_pc = kernels.contract(self.constants, pairs.first_n, blocks.r_pc, density_pij, weighted_pij, onsite_a)
        g_ac = kernels.on_sites(pairs.first_n, pairs.site_p, g_pc)
        virial_cc = -blocks.r_pc.T @ g_pc
        shift, rest_kx = filling.site_terms()
        rest_pij, rest_ai = states.density(rest_kx)
        value_pij, value_ai = weighted_pij - shift * density_pij + rest_pij, weighted_ai - shift * density_ai + rest_ai
        shared_p = np.einsum("pij,pij->p", value_pij, blocks.overlap_pij)
        site_a = value_ai.sum(axis=1) + np.bincount(pairs.centre_p, shared_p, len(positions_ac))
        return Evaluated(filling.energy, -g_ac, 0.5 * (virial_cc + virial_cc.T), site_a)


def _nearest(blocks: Blocks) -> float:
    return float(np.sqrt(np.min(np.sum(blocks.r_pc**2, axis=1), initial=np.inf)))


def builtin(
    name: str,
    *,
    cutoff: str = "quip",
    k_points: tuple[int, int, int] = (1, 1, 1),
    k_scheme: KScheme = "monkhorst_pack",
    electronic_temperature: float = 0.01,
    fermi_level: float | None = None,
    charge: float = 0.0,
    convention: Convention = "free_energy",
) -> NRLTightBinding:
    """The law `Si-NRLTB`.

    Parameters
    ----------
    cutoff : str
        How the functions end at 6.61 angstrom, one of `CUTOFF_VARIANTS`.
    k_points, k_scheme
        The mesh (Gamma by default).
    electronic_temperature : float
        k_B T, eV.
    fermi_level : float, optional
        Fixes the Fermi level, eV; else it follows from the number of electrons.
    charge : float
        Electrons missing from the neutral structure.
    convention : str
        `Electrons`.

    Raises
    ------
    ConfigError
        Unknown name, or a value that has no meaning.
    """
    if name not in TABLES:
        raise ConfigError(f"unknown tight-binding law {name!r}; built in are {', '.join(TABLES)}")
    electrons = Electrons(electronic_temperature, fermi_level, charge, convention)
    return NRLTightBinding(TABLES[name], cutoff, electrons, k_points, k_scheme)
