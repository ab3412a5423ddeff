"""Tight binding on some sites of a structure: forces and site energies there, by clusters; linear in their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.structure_symmetry import Operations, operations_of
from parmlip.errors import ConfigError, DataError
from parmlip.potentials.kernels import tight_binding as kernels
from parmlip.potentials.tight_binding_contour import ContourTightBinding, cluster_of
from parmlip.potentials.total import Evaluated

if TYPE_CHECKING:
    from mpi4py import MPI

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Structures that are symmetric to this, angstrom, are taken as symmetric: forces then differ by 1e-6 eV / angstrom.
SYMMETRIC: Final = 1e-7


@dataclass(frozen=True, eq=False)
class LocalTightBinding:
    """What `ContourTightBinding` says about the sites `site_x` of a structure, and about no others; a `TotalLaw`.

    Forces on the other sites are zero, the energy is the sum of the site energies of `site_x`. A force needs the
    density matrix of the site and of all sites within the law's cutoff, each from its cluster: only these are solved,
    one of those that an operation of the structure takes into each other, shared by the ranks of ``comm`` if there is
    one. Numbers are those of the whole structure to rounding, and to 1e-6 eV / angstrom where it is symmetric.

    Raises
    ------
    ConfigError
        No clusters or no fixed Fermi level: one found from the number of electrons is a matter of all sites.
    """

    law: ContourTightBinding
    site_x: IntArray
    comm: MPI.Comm | None = None

    def __post_init__(self) -> None:
        """Refuse what is not local."""
        if self.law.cluster_radius is None:
            raise ConfigError("[reference] cluster_radius: is needed for forces on some sites alone")
        if self.law.law.electrons.fermi_level is None:
            raise ConfigError("[reference] fermi_level: must be given (in the gap) for forces on some sites alone")

    @property
    def species(self) -> tuple[str, ...]:
        """The law's."""
        return self.law.species

    @property
    def closest(self) -> float:
        """The law's, angstrom."""
        return self.law.closest

    def shared(self, comm: MPI.Comm) -> LocalTightBinding:
        """The same, its clusters shared by the ranks of `comm`. Local."""
        return replace(self, comm=comm)

    def evaluate(
        self, cell_cc: RealArray, periodic: tuple[bool, bool, bool], positions_ac: RealArray, symbols: Sequence[str]
    ) -> Evaluated:
        """See `ContourTightBinding.evaluate`; collective on ``comm`` if there is one."""
        contour, n_sites = self.law, len(positions_ac)
        other = sorted(set(symbols) - set(self.species))
        if other:
            raise ConfigError(f"tight binding has no parameters for {', '.join(other)}, only for {self.species[0]}")
        level, radius = contour.law.electrons.fermi_level, contour.cluster_radius
        assert level is not None
        assert radius is not None
        blocks = contour.law.blocks(cell_cc, periodic, positions_ac)
        pairs, functions = blocks.pairs, contour._functions(level)
        chosen = np.zeros(n_sites, dtype=bool)
        chosen[self.site_x] = True
        solved = chosen.copy()
        solved[pairs.site_p[np.repeat(chosen, pairs.count_n)]] = True
        group = operations_of(cell_cc, periodic, positions_ac, chosen.astype(np.int64), tolerance=SYMMETRIC)
        orbits = _orbits(group, np.flatnonzero(solved))
        rank, size = (0, 1) if self.comm is None else (self.comm.rank, self.comm.size)
        g_ac, site_a = np.zeros((n_sites, 3)), np.zeros(n_sites)
        with replace(contour, comm=self.comm)._step("solving clusters"):
            for a, images in orbits[rank::size]:
                cluster = cluster_of(blocks, a, radius)
                occupied, weighted, energy = contour.columns(cluster, functions, level)
                site_energy = 2.0 * np.sum(cluster.overlap[:4].toarray() * energy.T)
                mine = slice(int(pairs.first_n[a]), int(pairs.first_n[a + 1]))
                density_pij, weighted_pij = (  # rows a, columns b of the symmetric density matrix
                    np.ascontiguousarray(2.0 * columns.reshape(-1, 4, 4)[cluster.neighbour_p].swapaxes(1, 2))
                    for columns in (occupied, weighted)
                )
                onsite = np.array([2.0 * np.diag(occupied[:4]) @ blocks.slope_ai[a]])
                first, r_pc = np.array([0, mine.stop - mine.start]), np.ascontiguousarray(blocks.r_pc[mine])
                g_pc = kernels.contract(contour.law.constants, first, r_pc, density_pij, weighted_pij, onsite)
                for g, image in images:
                    turned_pc = g_pc @ group.q_gcc[g].T
                    np.add.at(g_ac, group.to_ga[g, pairs.site_p[mine]], turned_pc)
                    g_ac[image] -= turned_pc.sum(axis=0)
                    site_a[image] = site_energy
        g_ac[~chosen], site_a[~chosen] = 0.0, 0.0
        g_ac, site_a = (replace(contour, comm=self.comm)._sum(x) for x in (g_ac, site_a))
        if not (np.isfinite(g_ac).all() and np.isfinite(site_a).all()):
            raise DataError(f"tight binding by clusters gave what is not finite (Fermi level {level:.6g} eV)")
        return Evaluated(float(site_a.sum()), -g_ac)


def _orbits(group: Operations, site_x: IntArray) -> list[tuple[int, list[tuple[int, int]]]]:
    """One site of each orbit, and for every site of the orbit an operation that takes the first there."""
    left, found = set(site_x.tolist()), []
    for a in site_x.tolist():
        if a in left:
            images = {int(group.to_ga[g, a]): g for g in reversed(range(len(group.to_ga)))}
            left -= set(images)
            found.append((a, [(g, image) for image, g in images.items()]))
    return found
