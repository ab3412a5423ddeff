"""Time of the neighbour search against ASE and matscipy, in turn, and of nearest neighbours at a million sites.

Run by name: python -m pytest tests/benchmarks/bench_neighbours.py -s
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import primitive_neighbor_list

from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.neighbours import find_pairs
from parmlip.crystal.supercell import build_supercell

pytestmark = pytest.mark.benchmark

CUTOFF = 5.5  # angstrom; 58 neighbours in bcc W


def least_times(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least processor time of each, seconds; the runs take turns, so that other load meets all of them."""
    least = dict.fromkeys(runs, np.inf)
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            least[name] = min(least[name], time.process_time() - start)
    return least


@pytest.mark.parametrize("order", ["lattice", "random"])
@pytest.mark.parametrize("n", [5, 20])
def test_neighbour_search_is_faster_than_its_peers(n, order):
    matscipy = pytest.importorskip("matscipy.neighbours")
    supercell = build_supercell(LATTICES["bcc"], 3.165, (n, n, n), ["W"])
    rng = np.random.default_rng(0)
    x_ac = supercell.positions_ac + rng.uniform(-0.05, 0.05, (supercell.n_sites, 3))
    if order == "random":
        x_ac = rng.permutation(x_ac)
    atoms = Atoms(f"W{len(x_ac)}", positions=x_ac, cell=supercell.cell_cc, pbc=True)
    found = find_pairs(supercell.cell_cc, (True,) * 3, x_ac, CUTOFF)  # compiles
    least = least_times(
        {
            "parmlip": lambda: find_pairs(supercell.cell_cc, (True,) * 3, x_ac, CUTOFF),
            "matscipy": lambda: matscipy.neighbour_list("ijS", atoms, CUTOFF),
            "ase": lambda: primitive_neighbor_list("ijS", (True,) * 3, supercell.cell_cc, x_ac, CUTOFF),
        },
        rounds=5 if n < 10 else 3,
    )
    line = ", ".join(f"{name} {t / len(x_ac) * 1e6:.2f} us" for name, t in least.items())
    ratios = ", ".join(f"{name} / parmlip = {least[name] / least['parmlip']:.1f}" for name in ("matscipy", "ase"))
    print(f"\n{len(x_ac)} sites in {order} order, {found.n_pairs / len(x_ac):.1f} neighbours, a site: {line}; {ratios}")
    assert least["parmlip"] < least["matscipy"]
    assert least["parmlip"] < least["ase"]


def test_voronoi_neighbours_of_a_million_sites_with_two_vacancies_take_seconds():
    supercell = build_supercell(LATTICES["bcc"], 3.165, (80, 80, 80), ["W"])
    defective = apply_defects(supercell, [Vacancy((0, 0, 0)), Vacancy((6, 6, 6))])
    nearest_neighbours(apply_defects(build_supercell(LATTICES["bcc"], 3.165, (4, 4, 4), ["W"]), [Vacancy((0, 0, 0))]))
    start = time.process_time()
    pairs = nearest_neighbours(defective)
    seconds = time.process_time() - start
    print(f"\n{defective.n_sites} sites, {pairs.n_pairs} nearest-neighbour pairs: {seconds:.2f} s")
    assert seconds < 10.0
