"""From couplings to the kernels' tables: basis functions one by one, and coefficients folded onto shared products."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from parmlip.potentials.ace_coupling import Couplings
from parmlip.potentials.kernels.ace_products import FunctionTables, ProductTables


@dataclass(frozen=True)
class ProductList:
    """All monomials of a basis on shared pair products, and where each coupling term goes.

    V = linear . X + sum_t q_t X[row] X[column_t], X = (A, pair products): terms of order one and two are linear in X,
    those of order three are a pair times an A, those of order four a pair times a pair.
    """

    tables: ProductTables
    n_x: int
    n_terms: int
    place_t: NDArray[np.int64]  # (coupling terms,) entry of (linear, q)
    function_t: NDArray[np.int64]  # (coupling terms,) its function
    coefficient_t: NDArray[np.float64]

    def fold(self, weight_k: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`linear` (n_x,) and `q` (n_terms,) of sum_k weight_k B_k."""
        both = np.zeros(self.n_x + self.n_terms)
        np.add.at(both, self.place_t, self.coefficient_t * weight_k[self.function_t])
        return both[: self.n_x], both[self.n_x :]


def build_product_list(couplings: Couplings) -> ProductList:
    """Greedy choice of pair products: a monomial uses a pair that exists before it makes a new one."""
    n_a = couplings.one_particle.size
    monomials, of_term = np.unique(couplings.factor_tf, axis=0, return_inverse=True)
    pairs: dict[tuple[int, int], int] = {}

    def pair(i: int, j: int) -> int:
        return n_a + pairs.setdefault((i, j), len(pairs))

    linear: list[int] = []
    terms: list[tuple[int, int]] = []
    place: list[tuple[bool, int]] = []  # linear entry, or number of a term
    rows = sorted((tuple(f for f in m if f >= 0) for m in monomials.tolist()), key=lambda m: (len(m), m))
    number = {tuple(f for f in m if f >= 0): i for i, m in enumerate(monomials.tolist())}
    place = [(True, 0)] * len(rows)
    for m in rows:
        if len(m) <= 2:
            entry = m[0] if len(m) == 1 else pair(*m)
            linear.append(entry)
            place[number[m]] = (True, entry)
            continue
        splits = [
            (tuple(m[i] for i in chosen), tuple(m[i] for i in range(len(m)) if i not in chosen))
            for chosen in combinations(range(len(m)), 2)
        ]
        known = [(a in pairs) + (len(b) == 1 or b in pairs) for a, b in splits]
        a, b = splits[int(np.argmax(known))]
        u = pair(a[0], a[1])
        v = b[0] if len(b) == 1 else pair(b[0], b[1])
        place[number[m]] = (False, len(terms))
        terms.append((u, v))
    n_x = n_a + len(pairs)
    edges = np.array(terms, np.int64).reshape(-1, 2)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    edges = edges[order]
    row_u, counts = np.unique(edges[:, 0], return_counts=True)
    place_m = np.array([entry if is_linear else n_x + rank[entry] for is_linear, entry in place], np.int64)
    ends = np.array(list(pairs), np.int64).reshape(-1, 2)
    partners = _both_ways(edges, n_x)
    factors = _both_ways(ends, n_a)
    tables = ProductTables(
        left_p=ends[:, 0].astype(np.uint32),
        right_p=ends[:, 1].astype(np.uint32),
        row_u=row_u.astype(np.uint32),
        first_u=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        column_t=edges[:, 1].astype(np.uint32),
        first_x=partners[0],
        partner_s=partners[1].astype(np.uint32),
        term_s=partners[2].astype(np.uint32),
        first_a=factors[0],
        pair_s=(n_a + factors[2]).astype(np.uint32),
        other_s=factors[1].astype(np.uint32),
    )
    function_t = np.repeat(np.arange(len(couplings.slots_k)), np.diff(couplings.first_k))
    return ProductList(tables, n_x, len(edges), place_m[of_term.ravel()], function_t, couplings.coefficient_t)


def _both_ways(edges_ec: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each of n nodes its first entry in two lists: the other ends of its edges, and their numbers."""
    here, there = edges_ec.T.ravel(), edges_ec[:, ::-1].T.ravel()
    number = np.tile(np.arange(len(edges_ec)), 2)
    order = np.lexsort((there, here))
    first = np.concatenate([[0], np.cumsum(np.bincount(here, minlength=n))]).astype(np.int64)
    return first, there[order], number[order]


def function_tables(couplings: Couplings) -> FunctionTables:
    """Every basis function with the list of A it depends on."""
    factor = np.full((len(couplings.factor_tf), 4), -1, np.int64)
    factor[:, : couplings.factor_tf.shape[1]] = couplings.factor_tf
    entry = np.zeros_like(factor)
    entries, lengths = [], []
    for first, last in zip(couplings.first_k[:-1], couplings.first_k[1:]):
        rows = factor[first:last]
        used, place = np.unique(rows[rows >= 0], return_inverse=True)
        local = np.zeros(rows.shape, np.int64)
        local[rows >= 0] = place
        entry[first:last] = local
        entries.append(used)
        lengths.append(len(used))
    first_entry = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return FunctionTables(
        couplings.first_k, couplings.coefficient_t, factor, entry, first_entry, np.concatenate(entries)
    )
