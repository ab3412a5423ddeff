"""What a law of whole structures says about many of them, farmed over groups of ranks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from parmlip.io.reference_cache import CachedLaw
from parmlip.parallel.comm import in_step, on_root
from parmlip.parallel.farm import Share, farm, grouped
from parmlip.potentials.external import AseLaw
from parmlip.potentials.total import Evaluated, SharedLaw, TotalLaw

logger = logging.getLogger(__name__)
RealArray = NDArray[np.float64]
Structure = tuple[
    RealArray, tuple[bool, bool, bool], RealArray, tuple[str, ...]
]  # cell, periodicity, positions, symbols


@dataclass(frozen=True, eq=False)
class Answers:
    """What a law says about structures, and how the work was shared; the same on every rank."""

    results: tuple[Evaluated, ...]
    n_kept: int  # results that were there already
    shares: tuple[Share, ...]  # of each group

    def table(self) -> list[str]:
        """Lines of text: where the results come from, and each group's share."""
        made = len(self.results) - self.n_kept
        lines = [f"{len(self.results)} structures: {self.n_kept} kept from before, {made} computed"]
        if made:
            lines.append(f"{'group':>5} {'structures':>10} {'seconds':>9} {'s each':>9}")
            lines += [
                f"{g:>5} {s.pieces:>10} {s.seconds:>9.2f} {s.seconds / max(s.pieces, 1):>9.3f}"
                for g, s in enumerate(self.shares)
            ]
        return lines


def group_size(law: TotalLaw, asked: int, n_ranks: int) -> int:
    """Ranks for each calculator: what is asked for, else 1, else (a law that starts programs) all ranks together.

    A program that a calculator starts brings its own processes and threads: one on every rank would overload the
    machine, so that more than one at a time must be asked for.
    """
    inner = law.law if isinstance(law, CachedLaw) else law
    if asked:
        return min(asked, n_ranks)
    return n_ranks if isinstance(inner, AseLaw) and inner.starts_program else 1


def ask(law: TotalLaw, structures: Sequence[Structure], *, comm: MPI.Comm, what: str, ranks_per_group: int) -> Answers:
    """What the law says about every structure; with a `CachedLaw` each result is kept as soon as it is there.

    Collective on ``comm``; results are the same on any number of ranks. One calculator serves a group of ranks, which
    share its work on each structure if the law is a `SharedLaw`.
    """
    kept: dict[int, Evaluated] = {}
    asked: TotalLaw = law
    if isinstance(law, CachedLaw):
        cache = law.cache
        on_root(comm, "gathering kept results", cache.merge)
        kept = on_root(comm, "reading kept results", _known, law, structures)
        asked = law.law
    if isinstance(asked, AseLaw) and asked.starts_program and asked.directory is not None:
        asked = asked.in_directory(asked.directory / f"group-{comm.rank // ranks_per_group}")
    left = [i for i in range(len(structures)) if i not in kept]
    shares: list[Share] = []
    if left:
        with in_step(comm, "making the calculator"):
            if isinstance(asked, AseLaw) and comm.rank % ranks_per_group == 0:
                asked.connect()
        working: TotalLaw = CachedLaw(asked, law.cache) if isinstance(law, CachedLaw) else asked
        with ExitStack() as stack:
            group = None
            if ranks_per_group > 1 and isinstance(asked, SharedLaw):
                group = stack.enter_context(grouped(comm, ranks_per_group))
                assert isinstance(working, SharedLaw)
                working = working.shared(group)

            def work(piece: int) -> Evaluated:
                return working.evaluate(*structures[left[piece]])

            made, shares = farm(work, len(left), comm=comm, what=what, ranks_per_group=ranks_per_group, group=group)
        if isinstance(law, CachedLaw):
            on_root(comm, "gathering kept results", law.cache.merge)
        kept = kept | dict(zip(left, made, strict=True))
    return Answers(tuple(kept[i] for i in range(len(structures))), len(structures) - len(left), tuple(shares))


def _known(law: CachedLaw, structures: Sequence[Structure]) -> dict[int, Evaluated]:
    keys = [law.cache.key(*structure) for structure in structures]
    found = law.cache.known(keys)
    return {i: found[key.digest] for i, key in enumerate(keys) if key.digest in found}
