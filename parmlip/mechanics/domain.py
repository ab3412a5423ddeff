"""A rank's share of a supercell: owned sites, ghosts, and the pairs of every owned site."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.crystal.supercell import Supercell
from parmlip.errors import ConfigError
from parmlip.mechanics.assembly import bond_vectors
from parmlip.parallel.comm import in_step
from parmlip.parallel.halo import Halo
from parmlip.parallel.partition import bisect
from parmlip.parallel.sites import Sites
from parmlip.potentials.base import Environments, FloatArray, Origin

# Pairs that are worked on at a time: 0.8 MB an array of vectors. Smaller pieces cost calls (measured on copper: 8192
# pairs 10 % more time, 2048 a half), larger ones memory.
PAIRS_OF_PIECE: Final = 32768
# Sites whose pairs are sought at a time, at least: shifts of pairs, as large as their vectors, live as long. Every
# search sorts all sites near the rank's (0.3 us each), so that there are no more searches than these.
_SITES_OF_PIECE: Final = 16384
_PIECES: Final = 16
_PAIRS_TO_NUMBER: Final = 1 << 20
_SPARE: Final = 1.1  # room for lists beyond what the first piece lets expect; what is not written takes no memory


class Domain:
    """Pairs of the owned sites of `supercell` closer than `reach` in a given state, and the halo that they need.

    Collective on ``sites.comm``.

    Parameters
    ----------
    supercell : Supercell
        The same on every rank.
    sites : Sites
    reach : float
        Interaction cutoff and margin, angstrom.
    species : tuple of str
        Species of the law, in its order.
    displacement_ad : ndarray, shape (n_sites, d), optional
        State in which the pairs are found (all sites, same on every rank); the reference if left out.

    Attributes
    ----------
    halo : Halo
    first_n, site_p : ndarray
        Pairs of owned site n are first_n[n] .. first_n[n + 1]; site_p is the neighbour's local number.
    bond_pc : ndarray, shape (n_pairs, 3)
        Vectors from centre to neighbour in the *reference* configuration, angstrom: differences of displacements are
        added to them, so that no large coordinates cancel.
    """

    def __init__(
        self,
        supercell: Supercell,
        sites: Sites,
        reach: float,
        species: tuple[str, ...],
        displacement_ad: NDArray[np.float64] | None = None,
    ) -> None:
        self.dimension = supercell.dimension
        positions_ac = supercell.positions_ac
        with in_step(sites.comm, "finding neighbours"):
            if displacement_ad is not None:
                positions_ac = positions_ac.copy()
                positions_ac[:, : self.dimension] += displacement_ad
            self.first_n, self.site_p, self.bond_pc, ghosts = _lists(supercell, positions_ac, reach, sites.global_n)
        del positions_ac
        self.halo = Halo(sites, ghosts)
        number = np.full(supercell.n_sites, -1, dtype=np.int64)
        number[self.halo.global_m] = np.arange(self.halo.n_local)
        for part in range(0, len(self.site_p), _PAIRS_TO_NUMBER):  # in place: of 10^6 sites another list is 0.6 GB
            some = slice(part, part + _PAIRS_TO_NUMBER)
            self.site_p[some] = number[self.site_p[some]]
        self._origin = Origin(self.bond_pc, sites.global_n)
        index_of = species_indices(supercell.species, species)
        self._species_m = index_of[supercell.species_a[self.halo.global_m]]
        self._species_p = self._species_m[self.site_p]

    def with_ghosts(self, x_nd: NDArray[Any]) -> NDArray[Any]:
        """A local array (n_local, ...) whose ghosts have their owners' values. Collective."""
        x_md = np.empty((self.halo.n_local, *x_nd.shape[1:]), dtype=x_nd.dtype)
        x_md[: self.halo.n_owned] = x_nd
        self.halo.forward(x_md)
        return x_md

    def environments(self, u_md: FloatArray) -> Environments:
        """Environments of the owned sites displaced by `u_md` (ghosts filled), in its scalar type."""
        r_pc = np.empty(self.bond_pc.shape, dtype=u_md.dtype)
        bond_vectors(self.first_n, self.site_p, self.bond_pc, u_md, r_pc)
        return Environments(self.first_n, r_pc, self._species_m[: self.halo.n_owned], self._species_p, self._origin)

    def pieces(self, u_md: FloatArray, whole: bool = False) -> Iterator[tuple[slice, slice, Environments]]:
        """`environments` piece by piece, with the centres and the pairs of each; one piece if `whole`.

        What a law makes of one piece is used up before the next, so that there are never arrays of all pairs but of
        their sites and reference vectors.
        """
        n_owned = self.halo.n_owned
        starts = np.searchsorted(self.first_n, np.arange(0, self.first_n[-1], PAIRS_OF_PIECE))
        cuts = [0, n_owned] if whole else np.unique(np.concatenate([[0], starts, [n_owned]])).tolist()
        for start, end in zip(cuts[:-1], cuts[1:]):
            pairs = slice(int(self.first_n[start]), int(self.first_n[end]))
            first_n = self.first_n[start : end + 1] - self.first_n[start]
            bond_pc = self.bond_pc[pairs]
            r_pc = np.empty(bond_pc.shape, dtype=u_md.dtype)
            bond_vectors(first_n, self.site_p[pairs], bond_pc, u_md, r_pc, start)
            centres = slice(start, end)
            origin = self._origin if whole else Origin(bond_pc, self._origin.global_n[centres])
            yield centres, pairs, Environments(first_n, r_pc, self._species_m[centres], self._species_p[pairs], origin)


def _lists(
    supercell: Supercell, positions_ac: FloatArray, reach: float, centre_n: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray, NDArray[np.int64]]:
    """Pairs of some sites, found at `positions_ac`, and their vectors in the reference configuration.

    Returns
    -------
    first_n : ndarray, shape (n + 1,)
    site_p : ndarray, shape (n_pairs,)
        Global numbers.
    bond_pc : ndarray, shape (n_pairs, 3)
    others : ndarray
        Global numbers of the neighbours that are not among the centres, ascending.
    """
    mine = np.zeros(supercell.n_sites, dtype=bool)
    mine[centre_n] = True
    near = _near(supercell, positions_ac, reach, centre_n)
    reference_ac, periodic, home_n = supercell.positions_ac, supercell.periodic, centre_n
    if near is not None:
        near_s, wrap_sc, periodic = near
        home_n = np.searchsorted(near_s, centre_n)
        positions_ac, reference_ac = positions_ac[near_s] + wrap_sc, reference_ac[near_s] + wrap_sc
    first_n = np.zeros(len(centre_n) + 1, dtype=np.int64)
    site_p, bond_pc = np.empty(0, dtype=np.int64), np.empty((0, 3))
    others = [np.empty(0, dtype=np.int64)]
    size = max(_SITES_OF_PIECE, -(-len(centre_n) // _PIECES))
    for start in range(0, len(centre_n), size):
        end = min(start + size, len(centre_n))
        pairs = find_pairs(supercell.cell_cc, periodic, positions_ac, reach, centre_n=home_n[start:end])
        found_p = pairs.site_p if near is None else near_s[pairs.site_p]
        low, high = int(first_n[start]), int(first_n[start]) + pairs.n_pairs
        first_n[start + 1 : end + 1] = low + pairs.first_n[1:]
        others.append(np.unique(found_p[~mine[found_p]]))
        if start == 0 and end == len(centre_n):
            return first_n, found_p, pair_vectors(pairs, supercell.cell_cc, reference_ac), others[1]
        if high > len(site_p):
            room = max(high, int(_SPARE * high / end * len(centre_n)))
            more_p, more_pc = np.empty(room, dtype=np.int64), np.empty((room, 3))
            more_p[:low], more_pc[:low] = site_p[:low], bond_pc[:low]
            site_p, bond_pc = more_p, more_pc
        site_p[low:high] = found_p
        bond_pc[low:high] = pair_vectors(pairs, supercell.cell_cc, reference_ac)
    n_pairs = int(first_n[-1])
    return first_n, site_p[:n_pairs], bond_pc[:n_pairs], np.unique(np.concatenate(others))


def _near(
    supercell: Supercell, positions_ac: FloatArray, reach: float, centre_n: NDArray[np.int64]
) -> tuple[NDArray[np.int64], FloatArray, tuple[bool, bool, bool]] | None:
    """Sites (ascending) near the box of some, the vectors to their images there, and along which cell vectors the box
    does not fill the cell and nothing repeats; None where it fills all: searches then cost what a rank owns.
    """
    if len(centre_n) == 0:
        return None
    inverse_cc, periodic_c = np.linalg.inv(supercell.cell_cc), np.array(supercell.periodic)
    centre_nc = positions_ac[centre_n] @ inverse_cc
    margin_c = reach * np.linalg.norm(inverse_cc, axis=0) * (1.0 + 1e-9)
    low_c, high_c = centre_nc.min(axis=0) - margin_c, centre_nc.max(axis=0) + margin_c
    local_c = periodic_c & (high_c - low_c < 1.0)
    if not local_c.any():
        return None
    kept_s, wrap_sc = [], []
    for start in range(0, supercell.n_sites, _SITES_OF_PIECE):  # fractions of all sites at once would be another list
        fraction_ac = positions_ac[start : start + _SITES_OF_PIECE] @ inverse_cc
        wrap_ac = np.where(local_c, -np.floor(fraction_ac - low_c), 0.0)
        within_a = ((fraction_ac + wrap_ac <= high_c) | ~local_c).all(axis=1)
        kept_s.append(start + np.flatnonzero(within_a))
        wrap_sc.append(wrap_ac[within_a])
    periodic = tuple((periodic_c & ~local_c).tolist())
    return np.concatenate(kept_s), np.concatenate(wrap_sc) @ supercell.cell_cc, cast(tuple[bool, bool, bool], periodic)


def species_indices(of: tuple[str, ...], law_species: tuple[str, ...]) -> NDArray[np.int64]:
    """The law's index of each species in `of`; ConfigError if the law has no parameters for one."""
    for symbol in of:
        if symbol not in law_species:
            raise ConfigError(f"no parameters for species {symbol!r}: the interaction law has {', '.join(law_species)}")
    return np.array([law_species.index(symbol) for symbol in of], dtype=np.int64)


def partitioned(supercell: Supercell, *, comm: MPI.Comm) -> Sites:
    """Ownership of a supercell's sites by recursive bisection. Collective on ``comm``."""
    return Sites(bisect(supercell.positions_ac, comm.size), comm=comm)
