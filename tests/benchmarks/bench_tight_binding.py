"""Time of tight-binding evaluations of silicon at Gamma, in turn with a plain NumPy and SciPy program of the same law.

python -m tests.benchmarks.bench_tight_binding [largest number of atoms, 216]
pytest -s tests/benchmarks/bench_tight_binding.py
"""

import sys
import time

import numpy as np
import pytest
import scipy.linalg
from scipy.special import expit

from parmlip.potentials.tight_binding_response import respond
from tests.benchmarks.bench_eam import seconds
from tests.potentials.silicon_cells import DIAMOND
from tests.potentials.tight_binding_cells import LATTICE_CONSTANT, PERIODIC, evaluate, silicon


def cube(repeats):
    """Rattled crystal of 8 repeats^3 atoms."""
    shift_nc = np.array(list(np.ndindex(repeats, repeats, repeats)))
    positions_ac = LATTICE_CONSTANT * (shift_nc[:, None] + DIAMOND).reshape(-1, 3)
    positions_ac += np.random.default_rng(8).normal(0.0, 0.03, positions_ac.shape)
    return LATTICE_CONSTANT * repeats * np.eye(3), positions_ac


def radial(r, k):
    """Value and derivative of all nine functions of the distance, the cutoff function included: (9, n) twice."""
    y = np.exp((r - k.cutoff) / k.width + k.offset)
    x = np.clip((r - k.cutoff + k.width) / k.width, 0.0, 1.0)
    c, c1 = 0.5 * (1.0 + np.cos(np.pi * x)), -0.5 * np.pi / k.width * np.sin(np.pi * x)
    f, f1 = c / (1.0 + y), c1 / (1.0 + y) - c * y / (1.0 + y) ** 2 / k.width
    rows = [(*row[:-1], row[-1]) for row in (*k.hopping_kn, *k.overlap_kn)] + [(1.0, k.density_rate)]
    v, v1 = np.empty((9, len(r))), np.empty((9, len(r)))
    for n, row in enumerate(rows):
        p, e = np.polynomial.Polynomial(row[:-1]), np.exp(-row[-1] * r)
        v[n], v1[n] = p(r) * e * f, (p.deriv()(r) - row[-1] * p(r)) * e * f + p(r) * e * f1
    return v, v1


def blocks(u, v):
    """(n, 4, 4) of the functions ss, sp, pp sigma, pp pi."""
    b = np.empty((u.shape[0], 4, 4))
    b[:, 0, 0] = v[0]
    b[:, 0, 1:], b[:, 1:, 0] = u * v[1][:, None], -u * v[1][:, None]
    b[:, 1:, 1:] = u[:, :, None] * u[:, None] * (v[2] - v[3])[:, None, None] + np.eye(3) * v[3][:, None, None]
    return b


def block_slopes(u, r, v, v1):
    """d blocks / d r_c, (n, 3, 4, 4)."""
    turn = (np.eye(3) - u[:, :, None] * u[:, None]) / r[:, None, None]  # d u_a / d r_c
    b = np.zeros((len(r), 3, 4, 4))
    b[:, :, 0, 0] = u * v1[0][:, None]
    b[:, :, 0, 1:] = u[:, :, None] * u[:, None] * v1[1][:, None, None] + turn * v[1][:, None, None]
    b[:, :, 1:, 0] = -b[:, :, 0, 1:]
    uu = u[:, :, None] * u[:, None]
    b[:, :, 1:, 1:] = np.einsum("nc,nab->ncab", u * (v1[2] - v1[3])[:, None], uu)
    b[:, :, 1:, 1:] += np.einsum("n,nca,nb->ncab", v[2] - v[3], turn, u)
    b[:, :, 1:, 1:] += np.einsum("n,ncb,na->ncab", v[2] - v[3], turn, u)
    b[:, :, 1:, 1:] += np.einsum("nc,ab->ncab", u * v1[3][:, None], np.eye(3))
    return b


def plain(constants, cell_cc, positions_ac, temperature=0.01):
    """Free energy and forces with array operations alone."""
    n = len(positions_ac)
    reach = np.ceil(constants.cutoff / np.linalg.norm(cell_cc, axis=1)).astype(int)
    pairs = []
    for s in np.ndindex(*(2 * reach + 1)):
        d = positions_ac + (np.array(s) - reach) @ cell_cc - positions_ac[:, None]
        r = np.linalg.norm(d, axis=2)
        i, j = np.nonzero((r < constants.cutoff) & (r > 0.0))
        pairs.append((i, j, d[i, j], r[i, j]))
    i, j, d, r = (np.concatenate(x) for x in zip(*pairs))
    u = d / r[:, None]
    v, v1 = radial(r, constants)
    rho = np.bincount(i, v[8], n)
    q = np.cbrt(rho)[:, None] ** np.array([0, 2, 4, 6])
    level = (q @ constants.onsite_kn.T)[:, [0, 1, 1, 1]]
    slope = ((q / rho[:, None] * np.array([0, 2, 4, 6]) / 3.0) @ constants.onsite_kn.T)[:, [0, 1, 1, 1]]
    h, s = np.zeros((n, n, 4, 4)), np.zeros((n, n, 4, 4))
    np.add.at(h, (i, j), blocks(u, v[:4]))
    np.add.at(s, (i, j), blocks(u, v[4:8]))
    h, s = (m.transpose(0, 2, 1, 3).reshape(4 * n, 4 * n) for m in (h, s))
    h += np.diag(level.ravel())
    s += np.eye(4 * n)
    eps, c = scipy.linalg.eigh(h, s)
    mu = 0.5 * (eps[2 * n - 1] + eps[2 * n])  # a gap of many k_B T
    f = expit((mu - eps) / temperature)
    x = (eps - mu) / temperature
    energy = 2.0 * np.sum(f * eps - temperature * (f * np.logaddexp(0, x) + (1 - f) * np.logaddexp(0, -x)))
    p, w = 2.0 * (c * f) @ c.T, 2.0 * (c * (f * eps)) @ c.T
    p4, w4 = (m.reshape(n, 4, n, 4)[i, :, j] for m in (p, w))
    g = np.einsum("nab,ncab->nc", p4, block_slopes(u, r, v[:4], v1[:4]))
    g -= np.einsum("nab,ncab->nc", w4, block_slopes(u, r, v[4:8], v1[4:8]))
    g += np.sum(np.diag(p).reshape(n, 4) * slope, axis=1)[i, None] * v1[8][:, None] * u
    forces = np.zeros((n, 3))
    np.add.at(forces, i, g)
    np.add.at(forces, j, -g)
    return energy, forces


def compare(repeats):
    """Seconds of ours and of the plain program, after a check that both give the same; prints a line."""
    law, (cell_cc, positions_ac) = silicon(), cube(repeats)
    ours, theirs = evaluate(law, cell_cc, positions_ac), plain(law.constants, cell_cc, positions_ac)
    assert ours.energy == pytest.approx(theirs[0], rel=1e-11)
    np.testing.assert_allclose(ours.forces_ac, theirs[1], rtol=0, atol=1e-9)
    h_xy, s_xy = law.matrices(cell_cc, PERIODIC, positions_ac)
    times = seconds(
        lambda: evaluate(law, cell_cc, positions_ac),
        lambda: plain(law.constants, cell_cc, positions_ac),
        lambda: law.matrices(cell_cc, PERIODIC, positions_ac),
        lambda: scipy.linalg.eigh(h_xy, s_xy, driver="gvd", check_finite=False),
    )
    print(
        f"{len(positions_ac):5d} atoms: energy, forces, virial, site energies {times[0]:.4f} s "
        f"(matrices {times[2]:.4f}, eigensolver {times[3]:.4f}); "
        f"plain NumPy, energy and forces {times[1]:.4f} s, {times[1] / times[0]:.1f} times ours"
    )
    return times


def estimate(n_atoms, known_n, known_times):
    """Prints the time by the third power of the number of atoms and the memory of six dense matrices."""
    t = known_times[2] * n_atoms / known_n + (known_times[0] - known_times[2]) * (n_atoms / known_n) ** 3
    print(f"{n_atoms:5d} atoms: {t:.0f} s, {6 * 8 * (4 * n_atoms) ** 2 / 1e9:.1f} GB (estimate)")


def responses(repeats):
    """Prints the time of a column of the Hessian and of the gradient of a site energy."""
    cell_cc, positions_ac = cube(repeats)
    response = respond(silicon(), cell_cc, PERIODIC, positions_ac)
    v_ac = np.zeros_like(positions_ac)
    v_ac[0, 0] = 1.0
    times = []
    for function in (lambda: response.gradient_change(v_ac), lambda: response.site_gradients([0])):
        function()  # compiles, and makes what all columns share
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    print(
        f"{len(positions_ac):5d} atoms: a column of the Hessian {times[0]:.4f} s, "
        f"gradient of a site energy {times[1]:.4f} s"
    )


@pytest.mark.benchmark
def test_an_evaluation_is_faster_than_that_of_plain_numpy():
    times = compare(2)
    # The eigensolver is the same; of the rest ours takes a small part.
    assert times[1] > 1.2 * times[0]
    assert times[1] - times[3] > 3.0 * (times[0] - times[3])


if __name__ == "__main__":
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 216
    for repeats in (2, 3, 4):
        if 8 * repeats**3 <= largest:
            last = 8 * repeats**3, compare(repeats)
    for n_atoms in (512, 8000):
        if n_atoms > last[0]:
            estimate(n_atoms, *last)
    responses(2)
