"""Which products of one-particle functions couple to invariants, and with what coefficients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, product
from math import factorial, floor, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from parmlip.potentials.ace_angular import complex_from_real

Slot = tuple[int, int, int]  # (n, l, z): radial number from 1, angular degree, species of the neighbour
Pattern = tuple[tuple[int, int], ...]  # (l, how many factors share one slot), sorted


@dataclass(frozen=True)
class OneParticle:
    """Where A_(z, l, m, n) stands in a flat array: n fastest, then m, then l, then the neighbour's species z."""

    n_species: int
    n_max_l: NDArray[np.int64]  # (l_max + 1,) largest n that occurs with each l

    @property
    def first_l(self) -> NDArray[np.int64]:
        """Offsets of the blocks of l within one species, shape (l_max + 2,)."""
        width = (2 * np.arange(len(self.n_max_l)) + 1) * self.n_max_l
        return np.concatenate([[0], np.cumsum(width)]).astype(np.int64)

    @property
    def size(self) -> int:
        """Number of A."""
        return int(self.n_species * self.first_l[-1])

    def index_m(self, slot: Slot) -> NDArray[np.int64]:
        """Flat indices of A for m = -l .. l."""
        n, ell, z = slot
        first = self.first_l
        return z * first[-1] + first[ell] + np.arange(2 * ell + 1) * self.n_max_l[ell] + (n - 1)


@dataclass(frozen=True)
class Couplings:
    """Invariants B_k = sum_t coefficient_t product over f of A[factor_tf], terms first_k[k] .. first_k[k + 1]."""

    one_particle: OneParticle
    slots_k: tuple[tuple[Slot, ...], ...]  # the slots that function k multiplies
    first_k: NDArray[np.int64]  # (n_functions + 1,)
    coefficient_t: NDArray[np.float64]
    factor_tf: NDArray[np.int64]  # (n_terms, correlation_order), ascending, -1 behind the last factor


def build_couplings(
    n_species: int,
    correlation_order: int,
    total_degree: float | Sequence[float],
    weight_l: float,
    dimension: int = 3,
) -> Couplings:
    """All invariants with sum (n + weight_l l) <= total_degree, orders 1 .. correlation_order, in a fixed order.

    `total_degree` is one number, or one for every correlation order. The order of functions: by correlation order;
    within it by the sorted tuple of slots (n, l, z); within one tuple by the row of `invariants`. They are linearly
    independent, symmetric under permutation of neighbours and under O(3), or, if `dimension` is 2, under rotations
    about the z axis and reflections in planes through it and across it.
    """
    degrees = [total_degree] * correlation_order if isinstance(total_degree, (int, float)) else list(total_degree)
    chosen = [
        slots
        for order in range(1, correlation_order + 1)
        for slots in slot_tuples(n_species, order, degrees[order - 1], weight_l)
        if len(invariants(_arranged(slots)[0], dimension)[1])
    ]
    l_max = max((ell for slots in chosen for _, ell, _ in slots), default=0)
    n_max = np.ones(l_max + 1, np.int64)
    for slots in chosen:
        for n, ell, _ in slots:
            n_max[ell] = max(n_max[ell], n)
    one_particle = OneParticle(n_species, n_max)
    index = {s: one_particle.index_m(s) for slots in chosen for s in slots}
    names, lengths, values, factors = [], [], [], []
    for slots in chosen:
        pattern, arranged = _arranged(slots)
        order_tf, coefficient_kt = invariants(pattern, dimension)
        flat = np.full((len(order_tf), correlation_order), -1, np.int64)
        flat[:, : len(slots)] = np.sort(
            np.stack([index[slot][order_tf[:, f]] for f, slot in enumerate(arranged)], axis=1), axis=1
        )
        for row in coefficient_kt:
            used = np.flatnonzero(row)
            names.append(slots)
            lengths.append(len(used))
            values.append(row[used])
            factors.append(flat[used])
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Couplings(one_particle, tuple(names), first, np.concatenate(values), np.concatenate(factors))


def slot_tuples(n_species: int, order: int, total_degree: float, weight_l: float) -> Iterator[tuple[Slot, ...]]:
    """Sorted tuples of `order` slots within the total degree whose sum of l is even, in lexicographic order."""
    room = total_degree - (order - 1)  # every further factor costs at least 1
    slots = sorted(
        (n, ell, z)
        for ell in range(floor((room - 1) / weight_l + 1e-9) + 1 if weight_l > 0 and room >= 1 else 0)
        for n in range(1, floor(room - weight_l * ell + 1e-9) + 1)
        for z in range(n_species)
    )
    cost = [n + weight_l * ell for n, ell, _ in slots]

    def extend(start: int, chosen: tuple[Slot, ...], left: float) -> Iterator[tuple[Slot, ...]]:
        missing = order - len(chosen)
        if missing == 0:
            if sum(s[1] for s in chosen) % 2 == 0:
                yield chosen
            return
        for i in range(start, len(slots)):
            if cost[i] + (missing - 1) <= left + 1e-9:
                yield from extend(i, (*chosen, slots[i]), left - cost[i])

    yield from extend(0, (), total_degree)


@cache
def complex_invariants(pattern: Pattern) -> tuple[list[tuple[int, ...]], NDArray[np.float64]]:
    """Orthonormal invariant polynomials in complex A_lm with the pattern's slots.

    They are the null space of the raising operator, L+ A_lm = sqrt(l (l + 1) - m (m + 1)) A_l,m+1, on polynomials of
    weight zero. Monomials of a slot that occurs k times carry sqrt(k! / product of powers!): the inner product is then
    invariant. The null space is brought to echelon form before it is made orthonormal, so that the result is unique.

    Returns
    -------
    orders : list of tuple of int
        m of every factor, one tuple per monomial, factors in the order of the pattern.
    coefficient_kt : ndarray, shape (n_invariants, n_monomials)
    """
    zero, one = _monomials(pattern, 0), _monomials(pattern, 1)
    if not one:  # only l = 0
        return zero, np.array([[_weight(pattern, m)] for m in zero]).reshape(len(zero), 1)
    row = {m: i for i, m in enumerate(one)}
    bounds = np.concatenate([[0], np.cumsum([k for _, k in pattern])])
    raising = np.zeros((len(one), len(zero)))
    for j, orders in enumerate(zero):
        for (ell, _), lo, hi in zip(pattern, bounds[:-1], bounds[1:]):
            for f in range(lo, hi):
                if orders[f] < ell:
                    group = sorted((*orders[lo:f], orders[f] + 1, *orders[f + 1 : hi]))
                    raised = (*orders[:lo], *group, *orders[hi:])
                    value = sqrt(ell * (ell + 1) - orders[f] * (orders[f] + 1))
                    raising[row[raised], j] += value * _weight(pattern, orders) / _weight(pattern, raised)
    _, singular, vt = np.linalg.svd(raising)
    rank = int(np.sum(singular > 1e-9 * max(1.0, singular[0])))
    null = _echelon(vt[rank:])
    if len(null):
        null = np.linalg.qr(null.T)[0].T
        leading = np.argmax(np.abs(null) > 1e-9, axis=1)
        null *= np.sign(null[np.arange(len(null)), leading])[:, None]
    return zero, null * np.array([_weight(pattern, m) for m in zero])


@cache
def planar_invariants(pattern: Pattern) -> tuple[list[tuple[int, ...]], NDArray[np.float64]]:
    """Invariants of rotations and reflections in the plane: products of A_l,m with |m| = l, their m summing to zero.

    In the plane Y_l,+-l is e^(+-i l theta) up to a factor, so these are the harmonics of two dimensions; out of it the
    factor (rho / r)^l keeps them smooth on the z axis. A product and the one of opposite m have the same real part
    and are one function: the mean of both. Returned as by `complex_invariants`.
    """
    choices = [list(combinations_with_replacement((-ell, ell) if ell else (0,), k)) for ell, k in pattern]
    flat = [tuple(m for group in groups for m in group) for groups in product(*choices)]
    orders = [m for m in flat if sum(m) == 0]
    bounds = np.concatenate([[0], np.cumsum([k for _, k in pattern])])
    place = {m: t for t, m in enumerate(orders)}
    rows = []
    for t, m in enumerate(orders):
        opposite = place[tuple(-x for lo, hi in zip(bounds[:-1], bounds[1:]) for x in reversed(m[lo:hi]))]
        if opposite >= t:
            row = np.zeros(len(orders))
            row[[t, opposite]] = _weight(pattern, m) * (1.0 if opposite == t else sqrt(0.5))
            rows.append(row)
    return orders, np.array(rows).reshape(len(rows), len(orders))


def invariants_of(dimension: int, pattern: Pattern) -> tuple[list[tuple[int, ...]], NDArray[np.float64]]:
    """`complex_invariants`, or `planar_invariants` if `dimension` is 2."""
    return planar_invariants(pattern) if dimension == 2 else complex_invariants(pattern)


@cache
def invariants(pattern: Pattern, dimension: int = 3) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The same polynomials in real A_lm.

    Returns
    -------
    order_tf : ndarray, shape (n_monomials, n_factors)
        m + l of every factor.
    coefficient_kt : ndarray, shape (n_invariants, n_monomials)
    """
    orders, coefficient_kt = invariants_of(dimension, pattern)
    degrees = [ell for ell, k in pattern for _ in range(k)]
    shape = tuple(2 * ell + 1 for ell in degrees)
    if not len(coefficient_kt):
        return np.zeros((0, len(degrees)), np.int64), np.zeros((0, 0))
    position = tuple(np.array([[m + ell for m, ell in zip(t, degrees)] for t in orders]).T)
    bounds = np.concatenate([[0], np.cumsum([k for _, k in pattern])])
    all_orders = np.indices(shape).reshape(len(shape), -1).T
    for lo, hi in zip(bounds[:-1], bounds[1:]):
        all_orders[:, lo:hi] = np.sort(all_orders[:, lo:hi], axis=1)
    kept, place = np.unique(all_orders, axis=0, return_inverse=True)
    out = np.zeros((len(coefficient_kt), len(kept)))
    for k, row in enumerate(coefficient_kt):
        tensor = np.zeros(shape, complex)
        tensor[position] = row
        for axis, ell in enumerate(degrees):
            tensor = np.moveaxis(np.tensordot(tensor, complex_from_real(ell), axes=(axis, 0)), -1, axis)
        flat = tensor.ravel()
        out[k] = np.bincount(place.ravel(), weights=flat.real, minlength=len(kept))
    out[np.abs(out) < 1e-12] = 0.0
    used = np.any(out != 0.0, axis=0)
    return kept[used], out[:, used]


def _arranged(slots: tuple[Slot, ...]) -> tuple[Pattern, list[Slot]]:
    """The pattern of a slot tuple, and its slots in the pattern's order."""
    groups = sorted((slot[1], slots.count(slot), slot) for slot in dict.fromkeys(slots))
    return tuple((ell, k) for ell, k, _ in groups), [slot for _, k, slot in groups for _ in range(k)]


def _monomials(pattern: Pattern, weight: int) -> list[tuple[int, ...]]:
    choices = [list(combinations_with_replacement(range(-ell, ell + 1), k)) for ell, k in pattern]
    flat = (tuple(m for group in groups for m in group) for groups in product(*choices))
    return [m for m in flat if sum(m) == weight]


def _weight(pattern: Pattern, orders: tuple[int, ...]) -> float:
    """sqrt(k! / product of powers!) over the groups of the pattern."""
    value, start = 1.0, 0
    for _, k in pattern:
        group = orders[start : start + k]
        value *= factorial(k) / prod(factorial(group.count(m)) for m in set(group))
        start += k
    return sqrt(value)


def _echelon(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reduced row echelon form of linearly independent rows."""
    rows = rows.copy()
    done = 0
    for column in range(rows.shape[1]):
        if done == len(rows):
            break
        pivot = done + int(np.argmax(np.abs(rows[done:, column])))
        if abs(rows[pivot, column]) < 1e-9:
            continue
        rows[[done, pivot]] = rows[[pivot, done]]
        rows[done] /= rows[done, column]
        others = np.arange(len(rows)) != done
        rows[others] -= np.outer(rows[others, column], rows[done])
        done += 1
    return rows
