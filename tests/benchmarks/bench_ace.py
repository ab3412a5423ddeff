"""Microseconds per atom of the cluster expansion against PACE (python-ace 0.4.0rc1), and its share of the peak.

    PARMLIP_PACE_PYTHON=/path/to/python pytest -s tests/benchmarks/bench_ace.py
    PARMLIP_PACE_PYTHON=/path/to/python python -m tests.benchmarks.bench_ace

The variable names a Python with `pip install --pre python-ace` (an environment of its own). Processor time of one
evaluation of a rattled crystal, ours and the peer in turn, medians; neighbour lists are built before, on both sides.
Energies and forces: PACE's recursive evaluator reads the same law from its exported `.yace`, and must give the same
forces. Design rows: its basis gradients, with a basis of the same factors.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from numba import njit

from parmlip.io.pace import write_yace
from parmlip.potentials.ace import ACE, ACEBasis
from tests.potentials.ace_environments import environments

ROUNDS = 9
CRYSTALS = {"W": ("bcc", 3.1434, 2.72), "Si": ("diamond", 5.431, 2.35)}  # structure, lattice constant, r0
CUTOFF = 5.5
LAWS = [(3, 10), (3, 16), (4, 16), (4, 18)]  # 110, 668, 1445, 2849 functions
DESIGNS = [(3, 14), (3, 16)]  # 383, 668 functions


class Peer:
    """PACE in its own environment, one evaluation on request."""

    def __init__(self, atoms, symbol, **what):
        python = os.environ.get("PARMLIP_PACE_PYTHON")
        if not python:
            pytest.skip("PARMLIP_PACE_PYTHON does not name a Python with python-ace")
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("pace_peer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        job = {"symbol": symbol, "positions": atoms.positions.tolist(), "cell": atoms.cell.tolist(), "cutoff": CUTOFF}
        self.first = json.loads(self._ask(json.dumps({**job, **what})))

    def _ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def microseconds(self):
        return float(self._ask(""))

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


def crystal(symbol, repeats):
    structure, a, _ = CRYSTALS[symbol]
    atoms = bulk(symbol, structure, a=a, cubic=True) * repeats
    atoms.rattle(0.05, seed=0)
    return atoms, *environments(atoms, (symbol,), CUTOFF)


def basis_of(symbol, order, degree):
    return ACEBasis((symbol,), order, degree, cutoff=CUTOFF, r0=CRYSTALS[symbol][2])


def in_turn(function, n_sites, peer):
    """Medians of ours and the peer's, microseconds per atom."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        start = time.thread_time()
        function()
        ours.append((time.thread_time() - start) / n_sites * 1e6)
        theirs.append(peer.microseconds())
    return float(np.median(ours)), float(np.median(theirs))


@njit(fastmath={"contract"})
def _multiply_add(x_j, repeats):
    for _ in range(repeats):
        for j in range(len(x_j)):
            x_j[j] = x_j[j] * 0.999999 + 1e-7


def peak():
    """Floating-point operations per second of one core: multiply-adds in the first cache, or dgemm."""
    x_j, a = np.ones(256), np.ones((512, 512))
    rates = []
    for function, count in ((lambda: _multiply_add(x_j, 100000), 2 * 256 * 100000), (lambda: a @ a, 2 * 512**3)):
        function()
        for _ in range(ROUNDS):
            start = time.thread_time()
            function()
            rates.append(count / (time.thread_time() - start))
    return max(rates)


def operations(law, n_neighbours):
    """Multiplications and additions per atom that energy and forces need at least, as the kernels arrange them."""
    basis = law.basis
    tables, n_a = basis.products.tables, basis.couplings.one_particle.size
    products = 5 * len(tables.left_p) + 4 * len(tables.column_t)
    return products + n_neighbours * (2 + 4) * n_a


def compare_forces(symbol, order, degree, directory):
    """One line for energies and forces; returns the ratio."""
    atoms, e, centre, site = crystal(symbol, (4, 4, 4) if symbol == "W" else (2, 2, 3))
    basis = basis_of(symbol, order, degree)
    law = ACE(basis, np.random.default_rng(0).normal(size=basis.n_basis))
    file = Path(directory) / f"{symbol}-{basis.n_basis}.yace"
    write_yace(file, law)
    peer = Peer(atoms, symbol, yace=str(file))
    value_n, g_pc = law.site_gradients(e)
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, centre, g_pc)
    np.add.at(forces, site, -g_pc)
    error = np.abs(forces - peer.first["forces"]).max() / np.abs(forces).max()
    ours, theirs = in_turn(lambda: law.site_gradients(e), len(atoms), peer)
    peer.close()
    share = operations(law, len(site) / len(atoms)) / (ours * 1e-6) / peak()
    print(
        f"{symbol:2s} #B {basis.n_basis:5d}  neighbours {len(site) / len(atoms):.0f}  E+F us/atom: ours {ours:6.1f}"
        f"  PACE recursive {theirs:6.1f}  ratio {theirs / ours:5.1f}  share of peak {share:.2f}"
        f"  forces differ by {error:.0e}"
    )
    assert error < 1e-10
    return theirs / ours


def compare_design(symbol, order, degree):
    """One line for design rows; returns the ratio."""
    atoms, e, _, site = crystal(symbol, (4, 4, 4) if symbol == "W" else (2, 2, 3))
    basis = basis_of(symbol, order, degree)
    slots = [[[n for n, _, _ in s], [ell for _, ell, _ in s]] for s in basis.couplings.slots_k]
    peer = Peer(atoms, symbol, slots=slots)
    basis.design(e, site, len(atoms))
    ours, theirs = in_turn(lambda: basis.design(e, site, len(atoms)), len(atoms), peer)
    peer.close()
    print(
        f"{symbol:2s} #B {basis.n_basis:5d} (PACE {peer.first['size']})  design us/atom: ours {ours:6.1f}"
        f"  PACE basis gradients {theirs:8.1f}  ratio {theirs / ours:5.1f}"
    )
    return theirs / ours


@pytest.mark.benchmark
@pytest.mark.parametrize("symbol", CRYSTALS)
@pytest.mark.parametrize(("order", "degree"), LAWS)
def test_energies_and_forces_are_several_times_faster_than_pace(symbol, order, degree, tmp_path):
    assert compare_forces(symbol, order, degree, tmp_path) >= (6.0 if order == 3 else 4.0)


@pytest.mark.benchmark
@pytest.mark.parametrize("symbol", CRYSTALS)
@pytest.mark.parametrize(("order", "degree"), DESIGNS)
def test_design_rows_are_fifty_times_faster_than_paces_basis_gradients(symbol, order, degree):
    assert compare_design(symbol, order, degree) >= 50.0


if __name__ == "__main__":
    pytest.main(["-s", "-q", __file__])
