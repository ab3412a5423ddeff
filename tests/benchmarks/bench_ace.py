"""Microseconds per atom of the cluster expansion in bcc W, cutoff 5.5 angstrom, against its plain NumPy specification.

    python tests/benchmarks/bench_ace.py [order degree ...]
    pytest -s tests/benchmarks/bench_ace.py

Processor time (other programs do not count), least of several rounds, ours and the peer in turn. The peer gives
values only (no derivatives), of two atoms.
"""

import sys
import time

import numpy as np
import pytest

from parmlip.potentials.ace import ACE, ACEBasis
from tests.potentials.ace_environments import block_pattern, environments, rattled
from tests.potentials.ace_specification import site_values

ROUNDS = 7


def seconds(*functions):
    """Least time of each function, called in turn."""
    best = [float("inf")] * len(functions)
    for _ in range(ROUNDS):
        for k, function in enumerate(functions):
            start = time.thread_time()
            function()
            best[k] = min(best[k], time.thread_time() - start)
    return best


def compare(order, degree):
    """One line for one basis; returns the peer's time over that of energies and forces."""
    atoms = rattled((4, 4, 4), 0.05)
    e, centre, site = environments(atoms, ("W",), 5.5)
    n = len(atoms)
    basis = ACEBasis(("W",), order, degree, cutoff=5.5, r0=2.72)
    law = ACE(basis, np.random.default_rng(0).normal(size=basis.n_basis))
    pattern = block_pattern(centre, site, n)
    tangent = law.linearised(e)
    first = [slice(e.first_n[k], e.first_n[k + 1]) for k in range(2)]
    ours = [
        lambda: law.site_energies(e),
        lambda: law.site_gradients(e),
        lambda: law.basis.site_values(e),
        lambda: law.basis.design(e, site, n),
        lambda: law.hessian_blocks(e, site, pattern),
        lambda: tangent(e.r_pc),
    ]
    for function in ours:
        function()  # compiles
    *times, peer = seconds(*ours, lambda: [site_values(basis, e.r_pc[k], e.species_p[k]) for k in first])
    micro = [t / n * 1e6 for t in times]
    peer = peer / 2 * 1e6
    print(
        f"#B {basis.n_basis:5d} neighbours {len(site) / n:.0f}  us/atom: energy {micro[0]:.1f}"
        f"  energy + forces {micro[1]:.1f}  values {micro[2]:.1f}  design {micro[3]:.1f}"
        f"  hessian {micro[4]:.0f}  H.v {micro[5]:.1f}  specification (values) {peer:.0f};"
        f" ratios {peer / micro[2]:.0f} (values), {peer / micro[1]:.0f} (energy + forces)"
    )
    return peer / micro[1]


@pytest.mark.benchmark
@pytest.mark.parametrize(("order", "degree"), [(3, 10), (3, 16)])
def test_kernels_are_far_faster_than_the_specification(order, degree):
    assert compare(order, degree) > 100.0


if __name__ == "__main__":
    chosen = [int(v) for v in sys.argv[1:]] or [3, 10, 3, 16]
    for o, d in zip(chosen[::2], chosen[1::2]):
        compare(o, d)
