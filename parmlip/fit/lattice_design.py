"""Values and factors of the observations on the perfect crystal, their parts spread over the ranks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from mpi4py import MPI

from parmlip.errors import DataError
from parmlip.fit.design import Factors
from parmlip.fit.lattice_observations import LATTICE, LatticeObservation
from parmlip.fit.observations import LinearBasis, RealArray
from parmlip.numerics.lstsq import RFactor, tsqr_reduce
from parmlip.parallel.comm import in_step
from parmlip.parallel.logs import Progress
from parmlip.potentials.base import SiteLaw

# One or, for several inequivalent sites, more of each name.
Observations = Mapping[str, tuple[LatticeObservation, ...]]


def lattice_values(law: SiteLaw, observations: Observations, *, comm: MPI.Comm) -> dict[str, RealArray]:
    """What a law gives, by name, the parts of all observations of a name one after the other; the same on every rank.

    Collective on ``comm``. Each part is one rank's work, so that values do not depend on how many there are.
    """
    tasks = _tasks(observations)
    mine = {}
    share = range(comm.rank, len(tasks), comm.size)
    with in_step(comm, "lattice labels"), Progress("lattice labels", len(share), comm=comm) as progress:
        for number in share:
            name, of, part = tasks[number]
            mine[number] = of.values(law, part)
            if not np.isfinite(mine[number]).all():
                raise DataError(f"{name}: the law's derivatives on the perfect crystal are not finite")
            progress.step()
    merged: dict[int, RealArray] = {}
    for values in comm.allgather(mine):
        merged |= values
    return {name: np.concatenate([merged[i] for i, t in enumerate(tasks) if t[0] == name]) for name in observations}


def lattice_factors(
    basis: LinearBasis, observations: Observations, values: Mapping[str, RealArray], *, comm: MPI.Comm
) -> Factors:
    """One factor for each observation, of configuration type "lattice", on rank 0; an empty dictionary elsewhere.

    Collective on ``comm``. `values` as `lattice_values` gave them. Rows of one part are all that is held at a time.

    Raises
    ------
    DataError
        The values are not those of these observations.
    """
    tasks = _tasks(observations)
    factors = {name: RFactor(basis.n_basis) for name in observations}
    with in_step(comm, "making lattice rows"), Progress("lattice rows", len(tasks), comm=comm) as progress:
        end = dict.fromkeys(observations, 0)
        for number, (name, of, part) in enumerate(tasks):
            n = of.n_rows(part)
            if number % comm.size == comm.rank:
                rows = of.rows(basis, part)
                mine = values[name][end[name] : end[name] + n]
                if rows.shape[0] != n or len(mine) != n:
                    raise DataError(f"{name}: {rows.shape[0]} rows for {len(mine)} labels; label anew")
                factors[name].add(rows, mine, 1.0)
            end[name] += n
            progress.step()
        for name, length in end.items():
            if length != len(values[name]):
                raise DataError(f"{name}: {length} rows for {len(values[name])} labels; label anew")
    total: Factors = {}
    for name in observations:
        reduced = tsqr_reduce(factors.pop(name), comm)
        if reduced is not None:
            total[LATTICE, name] = reduced
    return total


def _tasks(observations: Observations) -> list[tuple[str, LatticeObservation, int]]:
    return [(name, of, p) for name, of_name in observations.items() for of in of_name for p in range(of.n_parts)]
