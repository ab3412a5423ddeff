"""What became of a dislocation loop: area, length and place of its line by Nye's tensor, and coordination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.analysis.nye import nye_tensor
from parmlip.crystal.defects import nearest_distance
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.loops import LoopCell, wrapped_about
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.crystal.supercell import build_supercell
from parmlip.parallel.comm import in_step
from parmlip.parallel.sites import Sites

RealArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_FIRST: Final = 1.2  # in nearest-neighbour distances: shells that count as neighbours (two in bcc)
_WEAK: Final = 0.05  # of the largest density: less is noise
_LINE: Final = 0.01  # of b / (nearest distance)^2: densities below are no line's


@dataclass(frozen=True, eq=False)
class LoopState:
    """A loop as it is; the same on every rank but for the values of sites."""

    area_c: RealArray  # (3,) area vector (1/2) sum r x t of the line elements t, angstrom^2
    share: float  # area along the Burgers vector (of slip: along the normal) over that which was asked for: 0.8 to 0.9
    # of a loop in its place, 0.5 where sites were taken out and bonds end in the open; none of one that has gone
    length: float  # of the line, angstrom
    centre_c: RealArray  # (3,) of the line, angstrom
    line_nc: (
        RealArray  # (n_owned, 3) density of lines that bear the Burgers vector, along x, y, z, 1 / angstrom^2 times b
    )
    coordination_n: IntArray  # (n_owned,) neighbours, up to half-way between shells of the crystal
    perfect: int  # coordination of the perfect crystal
    n_miscoordinated: int  # sites with another


def loop_state(cell: LoopCell, sites: Sites, u_ac: RealArray) -> LoopState:
    """Fingerprints of a displaced cell.

    Collective on ``sites.comm``.

    Parameters
    ----------
    cell : LoopCell
    sites : Sites
        Who looks at which sites.
    u_ac : ndarray, shape (n_sites, 3)
        Displacement from the reference configuration, angstrom, the same on every rank.
    """
    s, comm, b_c = cell.supercell, sites.comm, cell.loop.burgers_c
    size = float(np.linalg.norm(b_c))
    with in_step(comm, "fingerprints of the loop"):
        x_ac = s.positions_ac + u_ac
        perfect, cutoff = first_shells(cell.of, cell.lattice_constant)
        coordination_n = find_pairs(s.cell_cc, s.periodic, x_ac, cutoff, sites.global_n).count_n
        alpha_njk = nye_tensor(s, cell.of, cell.lattice_constant, cell.basis_a, x_ac, sites.global_n)
        line_nc = -alpha_njk @ (b_c / size)  # u above minus below is b: lines run round the normal
        strength_n = np.linalg.norm(line_nc, axis=1)
    most = comm.allreduce(float(strength_n.max(initial=0.0)), op=MPI.MAX)
    least = max(_WEAK * most, _LINE * size / (nearest_distance(cell.of) * cell.lattice_constant) ** 2)
    in_line = strength_n >= least
    # line elements t: density times the volume of a site over the length of b
    element_nc = line_nc[in_line] * (s.volume / s.n_sites / size)
    weight_n = np.linalg.norm(element_nc, axis=1)
    centre_c = cell.loop.centre_c @ cell.strain_cc
    r_nc = wrapped_about(centre_c, s.cell_cc, x_ac[sites.global_n[in_line]]) - centre_c
    sums = np.concatenate(
        [
            0.5 * np.cross(r_nc, element_nc).sum(axis=0),
            weight_n @ r_nc,
            [weight_n.sum(), (coordination_n != perfect).sum()],
        ]
    )
    comm.Allreduce(MPI.IN_PLACE, sums, op=MPI.SUM)
    area_c, length = sums[:3], float(sums[6])
    along_c = cell.loop.normal_c if cell.asked.platelet == "none" else b_c / size
    share = float(area_c @ along_c) / (cell.loop.area * float(cell.loop.normal_c @ along_c))
    found_c = centre_c + (sums[3:6] / length if length > 0.0 else 0.0)
    return LoopState(area_c, share, length, found_c, line_nc, coordination_n, perfect, int(sums[7]))


def first_shells(lattice: Lattice, lattice_constant: float) -> tuple[int, float]:
    """Neighbours of a site of the perfect crystal, and half the way to the next shell, angstrom."""
    crystal = build_supercell(lattice, lattice_constant, (1, 1, 1), ["X"] * lattice.n_slots)
    nearest = nearest_distance(lattice) * lattice_constant
    around = find_pairs(crystal.cell_cc, crystal.periodic, crystal.positions_ac, 2.2 * nearest, np.array([0]))
    distance = np.sort(np.linalg.norm(pair_vectors(around, crystal.cell_cc, crystal.positions_ac), axis=1))
    perfect = int(np.count_nonzero(distance < _FIRST * nearest))
    return perfect, float(0.5 * (distance[perfect - 1] + distance[perfect]))
