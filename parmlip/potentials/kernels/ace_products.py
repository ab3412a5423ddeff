"""Polynomials of the neighbour sums A: value, adjoint, second derivatives, and rows of single basis functions."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from parmlip.potentials.kernels.ace_pairs import FAST
from parmlip.potentials.kernels.vectors import LANES, add, load, multiply, multiply_add, spread, store, total


class ProductTables(NamedTuple):
    """V = linear . X + sum_t q_t X[row] X[column_t] with X = (A, pair products of A): all orders up to four."""

    left_p: Any  # (n_products,) X[n_A + p] = A[left_p] A[right_p]
    right_p: Any
    row_u: Any  # (n_rows,) entry of X
    first_u: Any  # (n_rows + 1,)
    column_t: Any  # (n_terms,) entry of X
    first_x: Any  # (n_X + 1,) the same terms seen from each entry of X, hence twice:
    partner_s: Any  # (2 n_terms,) the other entry
    term_s: Any  # (2 n_terms,) number of the term
    first_a: Any  # (n_A + 1,) the pair products of each A, a square twice:
    pair_s: Any  # (2 n_products,) entry of X
    other_s: Any  # (2 n_products,) the other A


class FunctionTables(NamedTuple):
    """Basis functions one by one (ace_coupling.Couplings), with the list of A that each depends on."""

    first_k: Any  # (n_functions + 1,) terms of function k
    coefficient_t: Any
    factor_tf: Any  # (n_terms, 4) index of A, -1 behind the last factor
    entry_tf: Any  # (n_terms, 4) position of that A among the function's entries
    first_entry_k: Any  # (n_functions + 1,)
    entry_e: Any  # index of A, ascending within a function


@njit(cache=True, error_model="numpy", fastmath=FAST)
def value_and_adjoint(products: ProductTables, linear_x: Any, q_t: Any, n_a: int, x_x: Any, g_x: Any) -> Any:
    """V and its adjoint: on entry x_x[:n_a] is A, on return g_x[:n_a] is dV/dA and g_x[n_a:] belongs to the pairs."""
    left, right = products.left_p, products.right_p
    column, first = products.column_t, products.first_u
    for p in range(len(left)):
        x_x[n_a + p] = x_x[left[p]] * x_x[right[p]]
    value = x_x.dtype.type(0.0)
    for i in range(len(linear_x)):
        g_x[i] = linear_x[i]
        value += linear_x[i] * x_x[i]
    for u in range(len(products.row_u)):
        row = products.row_u[u]
        factor = x_x[row]
        total = x_x.dtype.type(0.0)
        for t in range(first[u], first[u + 1]):
            total += q_t[t] * x_x[column[t]]
            g_x[column[t]] += q_t[t] * factor
        value += factor * total
        g_x[row] += total
    for p in range(len(left)):
        weight = g_x[n_a + p]
        g_x[left[p]] += weight * x_x[right[p]]
        g_x[right[p]] += weight * x_x[left[p]]
    return value


@njit(cache=True, error_model="numpy")
def values_and_adjoints(
    products: ProductTables, linear_x: Any, q_s: Any, n_a: int, x_xb: Any, g_xb: Any, value_b: Any, with_adjoint: bool
) -> None:
    """`value_and_adjoint` of a batch of `LANES` centres (index b), of which one coefficient serves all.

    Sums are pulled (each entry of X from its partners, each A from its pairs) and not pushed: they stay in registers.
    `q_s` is `q_t` in the order of `partner_s`.
    """
    left, right = products.left_p, products.right_p
    partner, first = products.partner_s, products.first_x
    for p in range(len(left)):
        store(x_xb, (n_a + p) * LANES, multiply(load(x_xb, left[p] * LANES), load(x_xb, right[p] * LANES)))
    value = spread(x_xb.dtype.type(0.0))
    for i in range(len(linear_x)):
        t, last = first[i], first[i + 1]
        linear = spread(x_xb.dtype.type(linear_x[i]))
        s0, s1, s2, s3 = (
            linear,
            spread(x_xb.dtype.type(0.0)),
            spread(x_xb.dtype.type(0.0)),
            spread(x_xb.dtype.type(0.0)),
        )
        while t + 4 <= last:
            s0 = multiply_add(q_s[t], load(x_xb, partner[t] * LANES), s0)
            s1 = multiply_add(q_s[t + 1], load(x_xb, partner[t + 1] * LANES), s1)
            s2 = multiply_add(q_s[t + 2], load(x_xb, partner[t + 2] * LANES), s2)
            s3 = multiply_add(q_s[t + 3], load(x_xb, partner[t + 3] * LANES), s3)
            t += 4
        while t < last:
            s0 = multiply_add(q_s[t], load(x_xb, partner[t] * LANES), s0)
            t += 1
        s0 = add(add(s0, s1), add(s2, s3))
        value = multiply_add(add(s0, linear), load(x_xb, i * LANES), value)
        store(g_xb, i * LANES, s0)
    store(value_b, 0, multiply(0.5, value))
    if not with_adjoint:
        return
    for i in range(n_a):
        s0, s1 = load(g_xb, i * LANES), spread(x_xb.dtype.type(0.0))
        t, last = products.first_a[i], products.first_a[i + 1]
        while t + 2 <= last:
            s0 = multiply_add(load(g_xb, products.pair_s[t] * LANES), load(x_xb, products.other_s[t] * LANES), s0)
            s1 = multiply_add(
                load(g_xb, products.pair_s[t + 1] * LANES), load(x_xb, products.other_s[t + 1] * LANES), s1
            )
            t += 2
        if t < last:
            s0 = multiply_add(load(g_xb, products.pair_s[t] * LANES), load(x_xb, products.other_s[t] * LANES), s0)
        store(g_xb, i * LANES, add(s0, s1))


@njit(cache=True, error_model="numpy", fastmath=FAST)
def second_derivatives(products: ProductTables, q_t: Any, n_a: int, x_x: Any, g_x: Any, m_ab: Any) -> None:
    """d2V/dA2 after `value_and_adjoint`."""
    left, right = products.left_p, products.right_p
    one = x_x.dtype.type(1.0)
    m_ab[:] = 0.0
    for p in range(len(left)):
        m_ab[left[p], right[p]] += g_x[n_a + p]
    for u in range(len(products.row_u)):
        row = products.row_u[u]
        for t in range(products.first_u[u], products.first_u[u + 1]):
            other = products.column_t[t]
            for side in range(2):
                if row < n_a:
                    if side:
                        continue
                    i, di = row, q_t[t] * one
                elif side:
                    i, di = right[row - n_a], q_t[t] * x_x[left[row - n_a]]
                else:
                    i, di = left[row - n_a], q_t[t] * x_x[right[row - n_a]]
                if other < n_a:
                    m_ab[i, other] += di
                else:
                    m_ab[i, left[other - n_a]] += di * x_x[right[other - n_a]]
                    m_ab[i, right[other - n_a]] += di * x_x[left[other - n_a]]
    for i in range(n_a):
        m_ab[i, i] += m_ab[i, i]
        for k in range(i):
            total = m_ab[i, k] + m_ab[k, i]
            m_ab[i, k] = total
            m_ab[k, i] = total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def function_value(functions: FunctionTables, k: int, a_a: Any) -> Any:
    """B_k."""
    value = a_a.dtype.type(0.0)
    factor = functions.factor_tf
    for t in range(functions.first_k[k], functions.first_k[k + 1]):
        term = functions.coefficient_t[t] * a_a[factor[t, 0]]
        for f in range(1, 4):
            if factor[t, f] < 0:
                break
            term *= a_a[factor[t, f]]
        value += term
    return value


@njit(cache=True, error_model="numpy", forceinline=True)
def _add_to(x: Any, i: int, a: Any, b: Any) -> None:
    store(x, i, multiply_add(a, b, load(x, i)))


@njit(cache=True, error_model="numpy")
def function_gradients(functions: FunctionTables, a_ab: Any, value_k: Any, d_eb: Any) -> None:
    """Add B_k, summed over a batch of `LANES` centres (index b), to value_k; dB_k/dA on all entries for each of them.

    Idle lanes have A = 0, where every B_k is zero.
    """
    factor, entry, first_entry = functions.factor_tf, functions.entry_tf, functions.first_entry_k
    zero = spread(a_ab.dtype.type(0.0))
    for k in range(len(functions.first_k) - 1):
        first, last, own = functions.first_k[k], functions.first_k[k + 1], first_entry[k] * LANES
        for e in range(first_entry[k], first_entry[k + 1]):
            store(d_eb, e * LANES, zero)
        order = 1
        while order < 4 and factor[first, order] >= 0:
            order += 1
        value = zero
        for t in range(first, last):
            c = functions.coefficient_t[t]
            a0, e0 = load(a_ab, factor[t, 0] * LANES), own + entry[t, 0] * LANES
            if order == 1:
                store(d_eb, e0, add(spread(a_ab.dtype.type(c)), load(d_eb, e0)))
                value = multiply_add(c, a0, value)
                continue
            a1, e1 = load(a_ab, factor[t, 1] * LANES), own + entry[t, 1] * LANES
            if order == 2:
                _add_to(d_eb, e0, c, a1)
                _add_to(d_eb, e1, c, a0)
                value = multiply_add(multiply(c, a0), a1, value)
                continue
            a2, e2 = load(a_ab, factor[t, 2] * LANES), own + entry[t, 2] * LANES
            if order == 3:
                c0, c1 = multiply(c, a0), multiply(c, a1)
                _add_to(d_eb, e0, c1, a2)
                _add_to(d_eb, e1, c0, a2)
                _add_to(d_eb, e2, c0, a1)
                value = multiply_add(multiply(c0, a1), a2, value)
                continue
            a3, e3 = load(a_ab, factor[t, 3] * LANES), own + entry[t, 3] * LANES
            c0, c1, c23 = multiply(c, a0), multiply(c, a1), multiply(a2, a3)
            c01 = multiply(c0, a1)
            _add_to(d_eb, e0, c1, c23)
            _add_to(d_eb, e1, c0, c23)
            _add_to(d_eb, e2, c01, a3)
            _add_to(d_eb, e3, c01, a2)
            value = multiply_add(c01, c23, value)
        value_k[k] += total(value)
