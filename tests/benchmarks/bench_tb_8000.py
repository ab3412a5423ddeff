"""One force evaluation of tight binding by clusters in 7,998 sites of silicon with two vacancies, from sampled sites.

python -m tests.benchmarks.bench_tb_8000 [cubic cells along the edge, 10 by default] [sampled sites, 24 by default]
"""

import resource
import sys
from time import process_time

import numpy as np

from parmlip.potentials.tight_binding import builtin
from parmlip.potentials.tight_binding_contour import ContourTightBinding, cluster_of
from tests.potentials.test_tight_binding_contour import PERIODIC, silicon

LEVEL = 5.9  # in the gap, eV
RADIUS = 9.0  # of the clusters, angstrom
EVALUATIONS = 14  # that relax the vacancy of 215 sites to 1e-4 eV/A (inputs/point_defects/si_tb_vacancy.toml)


def two_vacancies(edge):
    """Cell and positions without the sites nearest to two points that are half a cell apart along every edge."""
    cell_cc, positions_ac = silicon(edge)
    kept = np.ones(len(positions_ac), dtype=bool)
    for fraction in (0.25, 0.75):
        kept[np.argmin(np.linalg.norm(positions_ac - fraction * cell_cc.sum(axis=0), axis=1))] = False
    return cell_cc, positions_ac[kept]


def measure(edge=10, sample=24):
    """Processor seconds of the blocks, of a site's columns of all three functions, and of the whole evaluation."""
    cell_cc, positions_ac = two_vacancies(edge)
    law = builtin("Si-NRLTB", fermi_level=LEVEL, electronic_temperature=0.1)
    local = ContourTightBinding(law, RADIUS)
    start = process_time()
    blocks = law.blocks(cell_cc, PERIODIC, positions_ac)
    assembly = process_time() - start
    functions = local._functions(LEVEL)
    sites = np.random.default_rng(1).choice(len(positions_ac), sample, replace=False)
    local.columns(cluster_of(blocks, int(sites[0]), RADIUS), functions, LEVEL)
    start = process_time()
    for site in sites:
        local.columns(cluster_of(blocks, int(site), RADIUS), functions, LEVEL)
    a_site = (process_time() - start) / sample
    whole = assembly + a_site * len(positions_ac)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{len(positions_ac)} sites, clusters of {RADIUS} A: blocks {assembly:.1f} s, {1e3 * a_site:.0f} ms a site, "
        f"one force evaluation {whole:.0f} s of one core, {memory:.2f} GB; a relaxation of {EVALUATIONS} evaluations "
        f"{EVALUATIONS * whole / 3600.0:.1f} hours"
    )
    return whole


if __name__ == "__main__":
    measure(*(int(word) for word in sys.argv[1:]))
