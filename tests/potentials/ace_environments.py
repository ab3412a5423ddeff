"""Crystals, neighbour lists and block patterns for the tests of the cluster expansion."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from parmlip.potentials.base import BlockPattern, Environments


def rattled(repeats=(3, 3, 3), amplitude=0.1, seed=0, symbols=("W",)) -> Atoms:
    """Conventional bcc or B2 cells, displaced by +-amplitude per component."""
    a = 3.1434 if len(symbols) == 1 else 2.86
    atoms = bulk(symbols[0], "bcc", a=a, cubic=True)
    if len(symbols) == 2:
        atoms.set_chemical_symbols(symbols)
    atoms *= repeats
    atoms.positions += np.random.default_rng(seed).uniform(-amplitude, amplitude, atoms.positions.shape)
    return atoms


def environments(atoms: Atoms, species: tuple[str, ...], cutoff: float) -> tuple[Environments, np.ndarray, np.ndarray]:
    """The environments of all atoms, and centre and neighbour of every pair."""
    centre, site, vector = neighbor_list("ijD", atoms, cutoff)
    order = np.lexsort((site, centre))
    centre, site, vector = centre[order].astype(np.int64), site[order].astype(np.int64), vector[order]
    kind = np.array([species.index(s) for s in atoms.get_chemical_symbols()], np.int64)
    first = np.searchsorted(centre, np.arange(len(atoms) + 1)).astype(np.int64)
    return Environments(first, vector, kind, kind[site]), centre, site


def random_environments(n, n_neighbours, n_species, cutoff, seed, inner=2.0) -> Environments:
    """n centres with neighbours at random in a shell, of random species."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n * n_neighbours, 3))
    u /= np.linalg.norm(u, axis=1)[:, None]
    r = u * rng.uniform(inner, 0.98 * cutoff, size=(len(u), 1))
    first = np.arange(n + 1, dtype=np.int64) * n_neighbours
    return Environments(first, r, rng.integers(0, n_species, n), rng.integers(0, n_species, len(u)))


def block_pattern(centre, site, n: int) -> BlockPattern:
    """Blocks of all pairs of sites that some centre sees."""
    seen = np.zeros((n, n), int)
    seen[centre, site] = 1
    seen += np.eye(n, dtype=int)
    rows, columns = np.nonzero(seen.T @ seen)
    return BlockPattern(np.searchsorted(rows, np.arange(n + 1)).astype(np.int64), columns.astype(np.int64))


def dense(blocks, pattern: BlockPattern) -> np.ndarray:
    """The block matrix as a dense one, shape (3 n, 3 n)."""
    n = len(pattern.first_r) - 1
    out = np.zeros((n, 3, n, 3), blocks.dtype)
    for row in range(n):
        for b in range(pattern.first_r[row], pattern.first_r[row + 1]):
            out[row, :, pattern.column_b[b], :] = blocks[b]
    return out.reshape(3 * n, 3 * n)
