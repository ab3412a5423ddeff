"""Polynomials of the neighbour sums A: value, adjoint, second derivatives, and rows of single basis functions."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from parmlip.potentials.kernels.ace_pairs import FAST, LANES


class ProductTables(NamedTuple):
    """V = linear . X + sum_t q_t X[row] X[column_t] with X = (A, pair products of A): all orders up to four."""

    left_p: Any  # (n_products,) X[n_A + p] = A[left_p] A[right_p]
    right_p: Any
    row_u: Any  # (n_rows,) entry of X
    first_u: Any  # (n_rows + 1,)
    column_t: Any  # (n_terms,) entry of X


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


@njit(cache=True, error_model="numpy", fastmath=FAST)
def values_and_adjoints(
    products: ProductTables, linear_x: Any, q_t: Any, n_a: int, x_xb: Any, g_xb: Any, value_b: Any, total_b: Any
) -> None:
    """`value_and_adjoint` of a batch of `LANES` centres (index b), of which one coefficient serves all."""
    left, right = products.left_p, products.right_p
    column, first = products.column_t, products.first_u
    for p in range(len(left)):
        i, k = left[p], right[p]
        for b in range(LANES):
            x_xb[n_a + p, b] = x_xb[i, b] * x_xb[k, b]
    for b in range(LANES):
        value_b[b] = 0.0
    for i in range(len(linear_x)):
        for b in range(LANES):
            g_xb[i, b] = linear_x[i]
        for b in range(LANES):
            value_b[b] += linear_x[i] * x_xb[i, b]
    for u in range(len(products.row_u)):
        row, t, last = products.row_u[u], first[u], first[u + 1]
        for b in range(LANES):
            total_b[b] = 0.0
        while t + 4 <= last:
            k0, k1, k2, k3 = column[t], column[t + 1], column[t + 2], column[t + 3]
            q0, q1, q2, q3 = q_t[t], q_t[t + 1], q_t[t + 2], q_t[t + 3]
            for b in range(LANES):
                total_b[b] += (q0 * x_xb[k0, b] + q1 * x_xb[k1, b]) + (q2 * x_xb[k2, b] + q3 * x_xb[k3, b])
            for b in range(LANES):
                g_xb[k0, b] += q0 * x_xb[row, b]
            for b in range(LANES):
                g_xb[k1, b] += q1 * x_xb[row, b]
            for b in range(LANES):
                g_xb[k2, b] += q2 * x_xb[row, b]
            for b in range(LANES):
                g_xb[k3, b] += q3 * x_xb[row, b]
            t += 4
        while t < last:
            k0, q0 = column[t], q_t[t]
            for b in range(LANES):
                total_b[b] += q0 * x_xb[k0, b]
            for b in range(LANES):
                g_xb[k0, b] += q0 * x_xb[row, b]
            t += 1
        for b in range(LANES):
            value_b[b] += total_b[b] * x_xb[row, b]
        for b in range(LANES):
            g_xb[row, b] += total_b[b]
    for p in range(len(left)):
        i, k = left[p], right[p]
        for b in range(LANES):
            g_xb[i, b] += g_xb[n_a + p, b] * x_xb[k, b]
        for b in range(LANES):
            g_xb[k, b] += g_xb[n_a + p, b] * x_xb[i, b]


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


@njit(cache=True, error_model="numpy", fastmath=FAST)
def function_gradient(functions: FunctionTables, k: int, a_a: Any, d_e: Any) -> Any:
    """B_k, and dB_k/dA on its entries."""
    factor, entry = functions.factor_tf, functions.entry_tf
    first, last = functions.first_k[k], functions.first_k[k + 1]
    for e in range(functions.first_entry_k[k + 1] - functions.first_entry_k[k]):
        d_e[e] = 0.0
    value = a_a.dtype.type(0.0)
    order = 1
    while order < 4 and factor[first, order] >= 0:
        order += 1
    for t in range(first, last):
        c = functions.coefficient_t[t]
        a0 = a_a[factor[t, 0]]
        if order == 1:
            d_e[entry[t, 0]] += c
            value += c * a0
        elif order == 2:
            a1 = a_a[factor[t, 1]]
            d_e[entry[t, 0]] += c * a1
            d_e[entry[t, 1]] += c * a0
            value += c * a0 * a1
        elif order == 3:
            a1, a2 = a_a[factor[t, 1]], a_a[factor[t, 2]]
            c0, c12 = c * a0, c * a1 * a2
            d_e[entry[t, 0]] += c12
            d_e[entry[t, 1]] += c0 * a2
            d_e[entry[t, 2]] += c0 * a1
            value += a0 * c12
        else:
            a1, a2, a3 = a_a[factor[t, 1]], a_a[factor[t, 2]], a_a[factor[t, 3]]
            c01, c23 = c * a0 * a1, a2 * a3
            d_e[entry[t, 0]] += c * a1 * c23
            d_e[entry[t, 1]] += c * a0 * c23
            d_e[entry[t, 2]] += c01 * a3
            d_e[entry[t, 3]] += c01 * a2
            value += c01 * c23
    return value
