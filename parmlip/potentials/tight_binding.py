"""Tight binding with s and p orbitals and overlap: total energies, forces and site energies from dense matrices.

References
----------
Bernstein et al., Phys. Rev. B 62, 4477 (2000): the law of silicon.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.neighbours import Pairs, find_pairs, pair_vectors
from parmlip.errors import ConfigError
from parmlip.potentials.kernels import tight_binding as kernels
from parmlip.potentials.tight_binding_constants import (
    BOHR_A,
    CUTOFF_VARIANTS,
    RYDBERG_EV,
    TABLES,
    SlaterKosterTable,
)

RealArray = NDArray[np.float64]
N_ORBITALS = 4


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
        """exp(2 pi i k . shift) of all pairs, `k_c` in reciprocal cell vectors; ones (real) without `k_c`."""
        if k_c is None:
            return np.ones(self.pairs.n_pairs)
        return np.exp(2j * np.pi * (self.pairs.shift_pc @ np.asarray(k_c, float)))

    def matrices(self, k_c: RealArray | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Dense Hamiltonian, eV, and overlap, (4 n_sites, 4 n_sites); Hermitian, real without `k_c`."""
        phase_p, ones_ai = self.phases(k_c), np.ones_like(self.onsite_ai)
        first_n, site_p = self.pairs.first_n, self.pairs.site_p
        return (
            kernels.assemble(first_n, site_p, self.hopping_pij, phase_p, self.onsite_ai),
            kernels.assemble(first_n, site_p, self.overlap_pij, phase_p, ones_ai),
        )


@dataclass(frozen=True)
class NRLTightBinding:
    """The NRL tight-binding law of one species."""

    table: SlaterKosterTable
    cutoff_variant: str = "quip"

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
            Two sites coincide, or the cell has no volume.
        """
        pairs = find_pairs(cell_cc, periodic, positions_ac, self.cutoff)
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


def builtin(name: str, cutoff: str = "quip") -> NRLTightBinding:
    """The law `Si-NRLTB`; `cutoff` is one of `CUTOFF_VARIANTS`.

    Raises
    ------
    ConfigError
        Unknown name or variant.
    """
    if name not in TABLES:
        raise ConfigError(f"unknown tight-binding law {name!r}; built in are {', '.join(TABLES)}")
    if cutoff not in CUTOFF_VARIANTS:
        raise ConfigError(f"cutoff_variant = {cutoff!r} is unknown; there are {', '.join(CUTOFF_VARIANTS)}")
    return NRLTightBinding(TABLES[name], cutoff)
