"""Parts of a supercell as structures of their own: periodic where the part is, with free surfaces elsewhere."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parmlip.crystal.neighbours import Pairs, find_pairs
from parmlip.crystal.supercell import Supercell

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Distances between the surfaces of a part and its next image in cells that programs want to have, angstrom.
VACUUM: Final = 15.0


@dataclass(frozen=True, eq=False)
class SiteCluster:
    """Linked sites of a supercell, shifted by cell vectors so that they lie together.

    A direction is periodic if the sites are linked to their own images along it: z of a disc one period thick, all
    directions if the sites are the whole cell.
    """

    site_m: IntArray  # (n_members,) sites of the supercell, ascending
    shift_mc: RealArray  # (n_members, 3) angstrom, to be added to their positions
    cell_cc: RealArray  # (3, 3) rows angstrom; `VACUUM` wider than the sites where it is not periodic
    periodic: tuple[bool, bool, bool]

    @property
    def n_sites(self) -> int:
        """Number of sites."""
        return len(self.site_m)

    def positions(self, supercell: Supercell, displacement_ad: RealArray) -> RealArray:
        """Positions (n_members, 3), angstrom, of the displaced sites; `displacement_ad` of all sites of the cell."""
        position_mc = supercell.positions_ac[self.site_m] + self.shift_mc
        position_mc[:, : supercell.dimension] += displacement_ad[self.site_m]
        return position_mc


def site_clusters(supercell: Supercell, in_cluster_a: NDArray[np.bool_], link: float) -> list[SiteCluster]:
    """The labelled sites as clusters, by their smallest sites; sites closer than `link`, angstrom, are linked. Local.

    Parameters
    ----------
    supercell : Supercell
    in_cluster_a : ndarray of bool, shape (n_sites,)
    link : float
        Of the reference positions. Clusters that are further apart do not know of each other.
    """
    chosen_m = np.flatnonzero(in_cluster_a)
    inside_ac = supercell.positions_ac[chosen_m]
    pairs = find_pairs(supercell.cell_cc, supercell.periodic, inside_ac, link)
    left = np.ones(len(chosen_m), dtype=bool)
    found = []
    while left.any():
        start = int(np.argmax(left))
        member_m, shift_mc, periodic_c = _linked(pairs, start)
        left[member_m] = False
        order = np.argsort(member_m)
        found.append(_cluster(supercell, chosen_m[member_m[order]], shift_mc[order], periodic_c))
    return found


def _linked(pairs: Pairs, start: int) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
    """Members that links lead to, the cell vectors added to each, and along which of them links lead back."""
    shift_of = {start: (0, 0, 0)}
    queue, periodic_c = deque([start]), np.zeros(3, dtype=bool)
    while queue:
        i = queue.popleft()
        mine = slice(int(pairs.first_n[i]), int(pairs.first_n[i + 1]))
        ends_pc = (pairs.shift_pc[mine] + np.array(shift_of[i])).tolist()
        for j, end in zip(pairs.site_p[mine].tolist(), ends_pc, strict=True):
            known = shift_of.get(j)
            if known is None:
                shift_of[j] = (end[0], end[1], end[2])
                queue.append(j)
            else:
                periodic_c |= np.array(known) != np.array(end)
    members = np.array(list(shift_of), dtype=np.int64)
    return members, np.array(list(shift_of.values()), dtype=np.int64), periodic_c


def _cluster(supercell: Supercell, site_m: IntArray, shift_mc: IntArray, periodic_c: NDArray[np.bool_]) -> SiteCluster:
    shift_mc = shift_mc * ~periodic_c  # along these any image is as good
    moved_mc = shift_mc @ supercell.cell_cc
    fraction_mc = (supercell.positions_ac[site_m] + moved_mc) @ np.linalg.inv(supercell.cell_cc)
    length_c = np.linalg.norm(supercell.cell_cc, axis=1)
    wanted_c = np.ptp(fraction_mc, axis=0) + VACUUM / length_c
    factor_c = np.where(periodic_c, 1.0, wanted_c)
    x, y, z = (bool(p) for p in periodic_c)
    return SiteCluster(site_m, moved_mc, supercell.cell_cc * factor_c[:, None], (x, y, z))
