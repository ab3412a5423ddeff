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
from parmlip.potentials.kernels.vectors import add, load, multiply_add, spread, store
from tests.potentials.ace_environments import environments

ROUNDS = 9
CRYSTALS = {"W": ("bcc", 3.1434, 2.72), "Si": ("diamond", 5.431, 2.35)}  # structure, lattice constant, r0
CUTOFF = 5.5
LAWS = [(3, 10), (3, 16), (4, 16), (4, 18)]  # 110, 668, 1445, 2849 functions
DESIGNS = [(3, 14), (3, 16)]  # 383, 668 functions
LARGE_DESIGNS = [(4, 16), (4, 18)]  # 1445, 2849 functions, without the peer: its basis of order four is another one


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


def in_turn(function, n_sites, peer, rounds=ROUNDS):
    """Medians of ours and the peer's, microseconds per atom."""
    ours, theirs = [], []
    for _ in range(rounds):
        start = time.thread_time()
        function()
        ours.append((time.thread_time() - start) / n_sites * 1e6)
        theirs.append(peer.microseconds())
    return float(np.median(ours)), float(np.median(theirs))


@njit
def _multiply_add(x_j, repeats):
    """Twelve independent chains of multiply-adds of eight numbers each, in registers: 2 * 12 * 8 operations a turn."""
    factor, term = spread(0.999999), spread(1e-7)
    a, b, c, d = load(x_j, 0), load(x_j, 8), load(x_j, 16), load(x_j, 24)
    e, f, g, h = load(x_j, 32), load(x_j, 40), load(x_j, 48), load(x_j, 56)
    i, j, k, m = load(x_j, 64), load(x_j, 72), load(x_j, 80), load(x_j, 88)
    for _ in range(repeats):
        a, b, c = multiply_add(a, factor, term), multiply_add(b, factor, term), multiply_add(c, factor, term)
        d, e, f = multiply_add(d, factor, term), multiply_add(e, factor, term), multiply_add(f, factor, term)
        g, h, i = multiply_add(g, factor, term), multiply_add(h, factor, term), multiply_add(i, factor, term)
        j, k, m = multiply_add(j, factor, term), multiply_add(k, factor, term), multiply_add(m, factor, term)
    store(x_j, 0, add(add(add(a, b), add(c, d)), add(e, f)))
    store(x_j, 8, add(add(add(g, h), add(i, j)), add(k, m)))


def peak():
    """Floating-point operations per second of one core: independent multiply-adds, float64, one thread; the best."""
    x_j, repeats, rates = np.random.default_rng(0).random(96), 200000, []
    _multiply_add(x_j, 1)
    for _ in range(ROUNDS):
        start = time.thread_time()
        _multiply_add(x_j, repeats)
        rates.append(2 * 12 * 8 * repeats / (time.thread_time() - start))
    return max(rates)


def operations(law, n_neighbours):
    """Multiplications and additions per atom of energy and forces, as the kernels arrange them, without padding.

    With n_A sums A, n_P pair products, n_X = n_A + n_P, n_T quadratic terms, n_n radial functions, n_Y harmonics:
    products: n_P (values) + 4 n_T (each term seen from both ends) + 4 n_X (linear part, energy) + 4 n_P (adjoint);
    per neighbour: 2 n_A (A) + 4 n_A (contraction of P_n and P_n' with dV/dA) + 8 n_n (recursion and its derivative)
    + 5 n_Y (harmonics) + 19 n_Y (five-term gradients, radial part). Square roots, envelope, geometry are not counted.
    """
    basis = law.basis
    tables, n_a = basis.products.tables, basis.couplings.one_particle.size
    n_p, n_t = len(tables.left_p), len(tables.column_t)
    products = n_p + 4 * n_t + 4 * (n_a + n_p) + 4 * n_p
    n_y, n_radial = len(basis.one_particle_tables.upward_hk), len(basis.one_particle_tables.recursion_nk)
    return products + n_neighbours * (6 * n_a + 8 * n_radial + 24 * n_y)


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
    rate, best = operations(law, len(site) / len(atoms)) / (ours * 1e-6), peak()
    print(
        f"{symbol:2s} #B {basis.n_basis:5d}  neighbours {len(site) / len(atoms):.0f}  E+F us/atom: ours {ours:6.1f}"
        f"  PACE recursive {theirs:6.1f}  ratio {theirs / ours:5.1f}  {rate / 1e9:.1f} of"
        f" {best / 1e9:.0f} GF/s = {rate / best:.2f} of peak  forces differ by {error:.0e}"
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
    ours, theirs = in_turn(lambda: basis.design(e, site, len(atoms)), len(atoms), peer, 3 if order > 3 else 5)
    peer.close()
    print(
        f"{symbol:2s} #B {basis.n_basis:5d} (PACE {peer.first['size']})  design us/atom: ours {ours:6.1f}"
        f"  PACE basis gradients {theirs:8.1f}  ratio {theirs / ours:5.1f}"
    )
    return theirs / ours


@pytest.mark.benchmark
@pytest.mark.parametrize("symbol", CRYSTALS)
@pytest.mark.parametrize(("order", "degree"), LAWS)
def test_energies_and_forces_are_six_times_faster_than_pace(symbol, order, degree, tmp_path):
    assert compare_forces(symbol, order, degree, tmp_path) >= 6.0


@pytest.mark.benchmark
@pytest.mark.parametrize("symbol", CRYSTALS)
@pytest.mark.parametrize(("order", "degree"), DESIGNS)
def test_design_rows_are_fifty_times_faster_than_paces_basis_gradients(symbol, order, degree):
    assert compare_design(symbol, order, degree) >= 50.0


@pytest.mark.benchmark
@pytest.mark.parametrize("symbol", CRYSTALS)
def test_a_design_row_costs_at_most_twice_as_much_in_large_bases(symbol):
    atoms, e, _, site = crystal(symbol, (4, 4, 4) if symbol == "W" else (2, 2, 3))
    cost = []
    for basis in (basis_of(symbol, *of) for of in (DESIGNS[-1], *LARGE_DESIGNS)):
        basis.design(e, site, len(atoms))
        seconds = []
        for _ in range(5):
            start = time.thread_time()
            basis.design(e, site, len(atoms))
            seconds.append(time.thread_time() - start)
        cost.append(float(np.median(seconds)) / len(atoms) / basis.n_basis)
        print(f"{symbol:2s} #B {basis.n_basis:5d}  design us/atom: {cost[-1] * basis.n_basis * 1e6:.1f}")
    assert max(cost) <= 2.0 * cost[0]


if __name__ == "__main__":
    pytest.main(["-s", "-q", __file__])
