"""Atoms of given structures that are closer than any law is made for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from ase.data import covalent_radii
from mpi4py import MPI

from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.errors import GeometryError
from parmlip.parallel.comm import in_step

logger = logging.getLogger(__name__)

# Of the sum of covalent radii, which is the length of a bond.
TOO_CLOSE: Final = 0.5
_TOLD: Final = 5  # structures of which a line is told


def warn_of_overlaps(structures: Sequence[Any], *, comm: MPI.Comm) -> None:
    """Tell of each structure (ASE Atoms) that has overlapping atoms the worst pair and its distance.

    Collective on ``comm``. Rank r looks at the structures r, r + size, ...
    """
    mine = {}
    with in_step(comm, "looking for atoms that overlap"):
        for number in range(comm.rank, len(structures), comm.size):
            found = _worst_pair(structures[number])
            if found is not None:
                mine[number] = found
    overlaps = {number: found for part in comm.allgather(mine) for number, found in part.items()}
    for number in sorted(overlaps)[:_TOLD]:
        logger.warning("structure %d: %s", number, overlaps[number])
    if len(overlaps) > _TOLD:
        logger.warning("%d structures of %d have overlapping atoms", len(overlaps), len(structures))


def _worst_pair(atoms: Any) -> str | None:
    """The pair whose distance is the least part of the sum of its radii, if that is less than `TOO_CLOSE`."""
    if len(atoms) == 0:
        return None
    radius_a = TOO_CLOSE * covalent_radii[atoms.numbers]
    cell_cc, positions_ac = atoms.cell.complete().array, np.array(atoms.positions, dtype=float)
    x, y, z = (bool(p) for p in atoms.pbc)
    try:
        pairs = find_pairs(cell_cc, (x, y, z), positions_ac, 2.0 * float(radius_a.max()))
    except GeometryError:
        return None  # the evaluation will tell what is wrong
    r_pc = pair_vectors(pairs, cell_cc, positions_ac)
    distance_p = np.sqrt(np.einsum("pc,pc->p", r_pc, r_pc))
    centre_p = np.repeat(np.arange(len(atoms)), np.diff(pairs.first_n))
    part_p = distance_p / (radius_a[centre_p] + radius_a[pairs.site_p])
    if part_p.min(initial=1.0) >= 1.0:
        return None
    p = int(part_p.argmin())
    i, j = sorted((int(centre_p[p]), int(pairs.site_p[p])))
    symbols = atoms.get_chemical_symbols()
    return (
        f"atoms {i} ({symbols[i]}) and {j} ({symbols[j]}) overlap: they are {distance_p[p]:.3g} A apart, "
        f"{TOO_CLOSE * part_p[p]:.2g} of the sum of their covalent radii"
    )
