"""Batched Lanczos for G H in the inner product of G^-1: functions and resolvents of every vector from its own space.

The vectors may be shares of distributed ones: what is summed over them goes through one `reduce` a step.

References
----------
Golub, Meurant, Matrices, Moments and Quadrature (2010), ch. 4 and 7 (Gauss rules from the tridiagonal matrix).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parmlip.numerics.contour import Contour, Function

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Operator = Callable[[FloatArray], FloatArray]

# A next vector whose squared norm is below this times that of the whole step is round-off: the space is exhausted.
_EXHAUSTED = 1e-24


@dataclass(frozen=True)
class LanczosSpaces:
    """The tridiagonal matrix of each vector; vector b has `steps_b` rows, what stands beyond them is padding.

    `residual_b` is the largest change of the value y^T G^-1 f(G H) y over the last two steps.
    """

    norm2_b: FloatArray  # y^T G^-1 y of the start vectors
    alpha_bj: FloatArray
    beta_bj: FloatArray  # beta_bj[:, j] couples rows j and j + 1
    steps_b: IntArray
    residual_b: FloatArray
    exhausted_b: BoolArray  # the space is invariant: every function of it is exact
    converged_b: BoolArray
    basis_jxb: tuple[FloatArray, ...] = ()  # local share of the normalised vectors y_j, when asked for

    @property
    def converged(self) -> bool:
        """Whether all vectors met the tolerance."""
        return bool(self.converged_b.all())

    def ritz(self) -> tuple[FloatArray, FloatArray]:
        """Ritz values (n_vectors, n_steps) and first components squared; padding has the weight zero."""
        return _ritz(self.alpha_bj, self.beta_bj, self.steps_b)

    def interval(self, floor: float) -> tuple[float, float]:
        """Least Ritz value above `floor` and largest of all; raises ValueError if there is none."""
        theta_bj, weight_bj = self.ritz()
        theta = theta_bj[(weight_bj > 0.0) & (theta_bj > floor)]
        if theta.size == 0:
            raise ValueError(f"no Ritz value above {floor:g}")
        return float(theta.min()), float(theta.max())

    def function(self, f: Function, floor: float = -np.inf) -> FloatArray:
        """y^T G^-1 f(G H) y of every vector, f taken as zero on Ritz values up to `floor`; (n_vectors,)."""
        theta_bj, weight_bj = self.ritz()
        return self.norm2_b * _gauss(f, floor, theta_bj, weight_bj)

    def resolvents(self, node_q: ComplexArray) -> ComplexArray:
        """y^T G^-1 (z_q - G H)^-1 y at all nodes, (n_vectors, n_nodes), by elimination in the tridiagonal matrices.

        No eigenvalue is used: this is the check of `function`, and the other way round.
        """
        n_b, n_j = self.alpha_bj.shape
        # continued fraction from the last row up: r_j = 1 / (z - alpha_j - beta_j^2 r_{j+1})
        r_bq = np.zeros((n_b, len(node_q)), dtype=complex)
        for j in range(n_j - 1, -1, -1):
            inside = (j < self.steps_b)[:, None]
            below = (j + 1 < self.steps_b)[:, None] * self.beta_bj[:, j, None] ** 2
            value = 1.0 / (node_q[None, :] - self.alpha_bj[:, j, None] - below * r_bq)
            r_bq = np.where(inside, value, 0.0)
        return self.norm2_b[:, None] * r_bq

    def contour(self, contour: Contour, f: Function) -> FloatArray:
        """`function` by a contour; what lies outside it counts as zero. (n_vectors,)."""
        return np.asarray((self.resolvents(contour.node_q) @ contour.weights(f)).imag)

    def function_vectors(self, f: Function, floor: float = -np.inf) -> FloatArray:
        """Local share of f(G H) y, (n_local, n_vectors); wants the basis to have been kept."""
        if not self.basis_jxb:
            raise ValueError("the basis was not kept")
        result = np.zeros_like(self.basis_jxb[0])
        for b, n in enumerate(self.steps_b):
            if n == 0:
                continue
            beta = self.beta_bj[b, : n - 1]
            theta, s_ji = np.linalg.eigh(np.diag(self.alpha_bj[b, :n]) + np.diag(beta, 1) + np.diag(beta, -1))
            keep = theta > floor
            value = np.zeros(n)
            value[keep] = f(theta[keep])
            coefficient_j = np.sqrt(self.norm2_b[b]) * (s_ji * value) @ s_ji[0]
            for j in range(n):
                result[:, b] += coefficient_j[j] * self.basis_jxb[j][:, b]
        return result


def lanczos(
    apply_h: Operator,
    apply_g: Operator,
    start_xb: FloatArray,
    *,
    reduce: Callable[[FloatArray], FloatArray],
    function: Function,
    floor: float = -np.inf,
    tolerance: float = 1e-10,
    max_steps: int = 200,
    null_xc: FloatArray | None = None,
    keep_basis: bool = False,
) -> LanczosSpaces:
    """Lanczos for G H in the inner product of G^-1 from y = G p, every vector its own recursion.

    One product with H, one with G and one `reduce` a step: a vector is normalised when the next products are there,
    and y_{j+1} = G p_{j+1} needs no second recursion, so that y is always in the range of G. Null components of p are
    taken out last, right before its normalisation: they are multiplied by 1/beta in each step and would take over.

    Collective wherever `apply_h`, `apply_g` and `reduce` are.

    Parameters
    ----------
    apply_h, apply_g : callable
        Symmetric; (n_local, n_vectors) to the same. G positive definite up to `null_xc`; None of them may look at a
        vector's neighbours in the batch.
    start_xb : ndarray, shape (n_local, n_vectors)
        Local share of p = G^-1 y of the start vectors y. A zero vector has no steps and the value zero.
    reduce : callable
        Sum of an array over all ranks (the identity for whole vectors).
    function : callable
        f whose value y^T G^-1 f(G H) y is to converge.
    floor : float
        f counts as zero for Ritz values up to this.
    tolerance : float
        A vector stops when the last two steps changed the value by less than tolerance * max(|value|, n2 max|f|),
        n2 = y^T G^-1 y and max over its Ritz values.
    null_xc : ndarray, shape (n_local, n_null), optional
        Orthonormal (over all ranks) vectors that G maps to zero; removed from p.
    keep_basis : bool
        Keep the vectors y_j for `function_vectors`.
    """
    n_b = start_xb.shape[1]
    p_xb, y_xb = start_xb.copy(), apply_g(start_xb)
    p_before_xb = np.zeros_like(p_xb)
    norm2_b, size2_b = np.zeros(n_b), np.ones(n_b)
    alpha: list[FloatArray] = []
    beta: list[FloatArray] = []
    basis: list[FloatArray] = []
    steps_b = np.zeros(n_b, dtype=np.int64)
    active_b = np.ones(n_b, dtype=bool)
    exhausted_b = np.zeros(n_b, dtype=bool)
    converged_b = np.zeros(n_b, dtype=bool)
    residual_b = np.full(n_b, np.inf)
    history: list[FloatArray] = []
    while active_b.any() and len(alpha) < max_steps:
        w_xb = apply_h(y_xb)
        parts = [_columns(y_xb, p_xb), _columns(y_xb, w_xb)]
        if null_xc is not None:
            parts.extend(null_xc.T @ p_xb)
        sums = reduce(np.array(parts))
        if null_xc is not None:
            p_xb = p_xb - null_xc @ sums[2:]
        nu_b = np.maximum(sums[0], 0.0)
        ended_b = active_b & ~(nu_b > (_EXHAUSTED * size2_b if alpha else 0.0))
        exhausted_b |= ended_b
        converged_b |= ended_b
        residual_b[ended_b] = 0.0
        active_b &= ~ended_b
        if not active_b.any():
            break
        beta_b = np.where(active_b, np.sqrt(nu_b), 1.0)
        alpha_b = np.where(active_b, sums[1] / np.where(active_b, nu_b, 1.0), 0.0)
        if alpha:
            beta.append(np.where(active_b, beta_b, 0.0))
        else:
            norm2_b = np.where(active_b, nu_b, 0.0)
        alpha.append(alpha_b)
        steps_b += active_b
        live_b = active_b / beta_b  # zero ends a vector for good, so that it cannot overflow
        p_xb = p_xb * live_b
        if keep_basis:
            basis.append(y_xb * live_b)
        theta_bj, weight_bj = _ritz(np.array(alpha).T, np.array(beta).reshape(-1, n_b).T, steps_b)
        value_b, scale_b = _gauss(function, floor, theta_bj, weight_bj), _largest(function, floor, theta_bj, weight_bj)
        history.append(value_b)
        if len(history) >= 3:
            change_b = np.maximum(np.abs(value_b - history[-2]), np.abs(history[-2] - history[-3]))
            residual_b = np.where(active_b, norm2_b * change_b, residual_b)
            done_b = active_b & (change_b <= tolerance * np.maximum(np.abs(value_b), scale_b))
            converged_b |= done_b
            active_b &= ~done_b
        back_b = beta_b if len(alpha) > 1 else np.zeros(n_b)
        size2_b = np.maximum(size2_b * (len(alpha) > 1), alpha_b**2 + back_b**2)
        p_next_xb = w_xb * live_b - alpha_b * p_xb - back_b * p_before_xb
        p_before_xb, p_xb = p_xb, p_next_xb * active_b
        if not active_b.any():
            break
        y_xb = apply_g(p_xb)
    n_j = len(alpha)
    return LanczosSpaces(
        norm2_b=norm2_b,
        alpha_bj=np.array(alpha).reshape(n_j, n_b).T,
        beta_bj=np.array([*beta, np.zeros(n_b)] if n_j else np.zeros((0, n_b))).reshape(n_j, n_b).T,
        steps_b=steps_b,
        residual_b=residual_b,
        exhausted_b=exhausted_b,
        converged_b=converged_b,
        basis_jxb=tuple(basis),
    )


def _columns(a_xb: FloatArray, b_xb: FloatArray) -> FloatArray:
    """Products of matching columns, (n_b,)."""
    return np.asarray(np.einsum("xb,xb->b", a_xb, b_xb))


def _ritz(alpha_bj: FloatArray, beta_bj: FloatArray, steps_b: IntArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues of the leading blocks and squares of the first components; the padding's weight is zero."""
    n_b, n_j = alpha_bj.shape
    if n_j == 0:
        return np.zeros((n_b, 0)), np.zeros((n_b, 0))
    row = np.arange(n_j)
    inside_bj = row < steps_b[:, None]
    t_bij = np.zeros((n_b, n_j, n_j))
    t_bij[:, row, row] = np.where(inside_bj, alpha_bj, alpha_bj[:, :1])  # padding stays where f is defined
    coupling_bj = np.where(inside_bj[:, 1:], beta_bj[:, : n_j - 1], 0.0)
    t_bij[:, row[1:], row[:-1]] = coupling_bj
    t_bij[:, row[:-1], row[1:]] = coupling_bj
    theta_bj, s_bij = np.linalg.eigh(t_bij)
    # The padding is not coupled: its vectors have no first component (a coincident value is split, its sum is right).
    return theta_bj, s_bij[:, 0, :] ** 2 * (steps_b > 0)[:, None]


def _on_kept(f: Function, floor: float, theta_bj: FloatArray, weight_bj: FloatArray) -> FloatArray:
    """f at the Ritz values that count, zero elsewhere."""
    value_bj = np.zeros_like(theta_bj)
    keep = (theta_bj > floor) & (weight_bj > 0.0)
    value_bj[keep] = f(theta_bj[keep])
    return value_bj


def _gauss(f: Function, floor: float, theta_bj: FloatArray, weight_bj: FloatArray) -> FloatArray:
    """sum_j weight f(theta), (n_b,)."""
    return np.asarray((weight_bj * _on_kept(f, floor, theta_bj, weight_bj)).sum(axis=1))


def _largest(f: Function, floor: float, theta_bj: FloatArray, weight_bj: FloatArray) -> FloatArray:
    """Largest |f(theta)|, (n_b,)."""
    return np.asarray(np.abs(_on_kept(f, floor, theta_bj, weight_bj)).max(axis=1, initial=0.0))
