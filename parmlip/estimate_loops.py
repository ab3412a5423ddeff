"""What a cell with a dislocation loop asks for: memory and time of its relaxation, without making its sites."""

from __future__ import annotations

import contextlib
import time
from typing import Final

import numpy as np
from mpi4py import MPI

from parmlip.config import Relax, Study, Surrogate
from parmlip.construct_loops import asked_loop
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.loops import loop_sites
from parmlip.crystal.supercell import Supercell, build_supercell
from parmlip.errors import ConvergenceError
from parmlip.mechanics.energy import MARGIN, Energy
from parmlip.mechanics.memory import lbfgs_bytes, pairs_per_site
from parmlip.mechanics.relax import bulk_green, relax
from parmlip.potentials.base import SiteLaw

_SAMPLE: Final = 8000  # sites of the crystal in which steps are timed
_ROUGH: Final = 0.05  # angstrom, of its start
_TIMED: Final = 6  # steps
_STEPS: Final = (25, 100)  # what relaxations of loops in tungsten took, 8,000 to 1.5 million sites
_AROUND: Final = 50  # steps as long as lists, Green's function, start and fingerprints: 1.3e5 and 1.6e6 sites, one rank
_MANY_RANKS: Final = 64
_LARGE: Final = 1_000_000  # sites from which many ranks are told, too


def loop_lines(study: Study, law: SiteLaw | Surrogate, of: tuple[Lattice, float], n_ranks: int) -> list[str]:
    """Sites, memory and time of [simulation] with a loop, relaxed by L-BFGS. Local."""
    loop, n_sites = loop_sites(*of, study.simulation.repeats, asked_loop(study, study.simulation))
    sample = build_supercell(of[0], of[1], _repeats(of[0]), study.crystal.species)
    pairs = pairs_per_site(sample, law.cutoff + MARGIN)
    lines = [f"simulation cell: {n_sites} sites, a loop of {loop.length:.1f} A; {pairs:.0f} pairs a site"]
    seconds = None if isinstance(law, Surrogate) else seconds_per_site(law, sample)
    for ranks in sorted({n_ranks, *((_MANY_RANKS,) if n_sites >= _LARGE else ())}):
        each, on_all = lbfgs_bytes(law, sample, n_sites, MARGIN, ranks)
        lines.append(
            f"relaxation by L-BFGS on {ranks} ranks: {each / 1e9:.2f} GB each, of which {on_all / 1e9:.2f} GB on all "
            f"alike; {each * ranks / 1e9:.1f} GB together"
        )
        if seconds is not None:
            step = seconds * n_sites / ranks
            low, high = (step * (n + _AROUND) for n in _STEPS)
            unit, of_unit = ("minutes", 60.0) if high > 60.0 else ("s", 1.0)
            lines.append(
                f"    a step takes {step:.2f} s, as {sample.n_sites} sites do here; {_STEPS[0]} to {_STEPS[1]} of them "
                f"and what is around {low / of_unit:.1f} to {high / of_unit:.1f} {unit}, "
                "if each rank has a core to itself"
            )
    if study.relax.method != "lbfgs" or study.relax.stability:
        lines.append('    (with [relax] method = "lbfgs", stability = false; Hessians take more)')
    return lines


def seconds_per_site(law: SiteLaw, crystal: Supercell) -> float:
    """Processor time of a step of L-BFGS for each site on one core, measured in a rough crystal. Local."""
    energy = Energy(law, crystal, comm=MPI.COMM_SELF)
    start_ad = np.random.default_rng(0).uniform(-_ROUGH, _ROUGH, (crystal.n_sites, crystal.dimension))
    marks: list[float] = []
    settings = Relax(method="lbfgs", force_tolerance=1e-14, max_iterations=_TIMED)
    with contextlib.suppress(ConvergenceError):  # it is stopped
        relax(
            energy, start_ad, settings, green=bulk_green(energy), what="timing",
            each_iteration=lambda _: marks.append(time.process_time()),
        )  # fmt: skip
    return float(np.median(np.diff(marks))) / crystal.n_sites


def _repeats(lattice: Lattice) -> tuple[int, int, int]:
    n = max(4, round((_SAMPLE / lattice.n_basis) ** (1.0 / 3.0)))
    return n, n, n
