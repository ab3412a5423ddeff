"""Three methods for log(F H F) at the sites round a copper vacancy: steps or iterations, processor time, agreement.

python -m tests.benchmarks.bench_resolvent [cubic cells along the edge, 4 by default]
pytest -s tests/benchmarks/bench_resolvent.py
"""

import sys
from time import process_time

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.numerics.contour import gauss_legendre_log, nodes_for, slit_contour
from tests.mechanics.test_resolvent import CU, VACANCY, defective


def compare(edge, n_vectors=3, tolerance=1e-10):
    """Processor seconds of "ritz", "contour" (both with the Krylov space), "ksp" with real and with complex shifts."""
    energy, matrix = defective(CU, "fcc", (edge,) * 3, VACANCY, MPI.COMM_SELF)
    site_b = np.zeros(n_vectors, dtype=np.int64)
    with RelativeHessian(matrix, CU, energy.supercell, energy.sites) as relative:
        start_xb = relative.start(site_b, np.arange(n_vectors))
        begin = process_time()
        spaces = relative.spaces(start_xb, np.log, tolerance=tolerance)
        shared = process_time() - begin
        low, high = spaces.interval(1e-8)
        low, high = 0.8 * low, 1.2 * high
        contour = slit_contour(low, high, nodes_for(slit_contour(low, high, 4), tolerance))
        begin = process_time()
        ritz_b = spaces.function(np.log, floor=1e-8)
        ritz = shared + process_time() - begin
        begin = process_time()
        contour_b = spaces.contour(contour, np.log)
        nodes = shared + process_time() - begin
        begin = process_time()
        real = relative.solve_shifts(start_xb, gauss_legendre_log(low, high, len(contour.node_q)))
        shifts = process_time() - begin
        begin = process_time()
        both = relative.solve_nodes(start_xb, contour, np.log)
        systems = process_time() - begin
    spread = max(np.abs(x - ritz_b).max() for x in (contour_b, real.value_b, both.value_b))
    print(
        f"{energy.supercell.n_sites} sites, {n_vectors} vectors, spectrum [{low:.3f}, {high:.3f}], "
        f"{len(contour.node_q)} nodes: Lanczos {spaces.steps_b.max()} steps, Ritz values {ritz:.3f} s, contour "
        f"{nodes:.3f} s; real shifts {real.iterations} CG steps, {shifts:.3f} s ({shifts / nodes:.1f} times); complex "
        f"nodes {both.iterations} GMRES steps, {systems:.3f} s ({systems / nodes:.1f} times); agreement {spread:.1e}"
    )
    return nodes, shifts, systems, spread


@pytest.mark.benchmark
def test_one_krylov_space_is_cheaper_than_solves_node_by_node():
    nodes, shifts, systems, spread = compare(4)
    assert spread < 1e-9
    assert shifts > 3.0 * nodes
    assert systems > 3.0 * nodes


if __name__ == "__main__":
    compare(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
