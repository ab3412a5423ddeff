"""An independent reader of potential files of LAMMPS' pair style pace: what such a file means, in plain NumPy.

It shares nothing with the writer and the kernels: the file's text alone gives the energies, by the formulas that
libpace evaluates. Slow; it is there to certify exported files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import factorial, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial.legendre import Legendre
from numpy.typing import NDArray

from parmlip.errors import DataError
from parmlip.potentials.base import Environments

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


def read_document(path: Path) -> dict[str, Any]:
    """The file's content: blocks of at most three levels whose values are written as in JSON, a part of YAML.

    Keys of the second level are species numbers, or tuples of them.

    Raises
    ------
    DataError
        The file is missing, or is not laid out as parmlip writes it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"potential file {path} cannot be read: {error}") from None
    document: dict[str, Any] = {}
    section: dict[Any, Any] = {}
    rows: list[Any] = []
    for number, line in enumerate(lines, start=1):
        body = line.strip()
        if not body or body.startswith("#"):
            continue
        try:
            if line.startswith("    - "):
                rows.append(json.loads(body[2:]))
            elif line.startswith("  "):
                head, tail = body.split("]:", 1) if body.startswith("[") else body.split(":", 1)
                key = tuple(json.loads(head + "]")) if body.startswith("[") else int(head)
                section[key] = rows = json.loads(tail) if tail.strip() else []
            else:
                head, tail = body.split(":", 1)
                document[head] = section = json.loads(tail) if tail.strip() else {}
        except (ValueError, AttributeError, TypeError):
            raise DataError(f"potential file {path}, line {number}: not laid out as parmlip writes it") from None
    for name in ("elements", "E0", "lmax", "embeddings", "bonds", "functions"):
        if name not in document:
            raise DataError(f"potential file {path}: '{name}' is missing")
    return document


def site_energies_and_gradients(
    document: Mapping[str, Any], environments: Environments
) -> tuple[FloatArray, FloatArray]:
    """Site energies V_n (n,), eV, and dV_n / dr_pc (n_pairs, 3), eV / angstrom; species are in the file's order.

    Raises
    ------
    DataError
        The file has an embedding or radial functions other than what parmlip exports.
    """
    e = environments
    for embedding in document["embeddings"].values():
        if embedding["ndensity"] != 1 or embedding["FS_parameters"] != [1, 1]:
            raise DataError("the potential's embedding is not linear in one density")
    for bond in document["bonds"].values():
        if bond["radbasename"] != "ACE.jl.Basic":
            raise DataError(f"radial functions {bond['radbasename']!r} are not known, only 'ACE.jl.Basic'")
    energy_n, g_pc = np.zeros(len(e.species_n)), np.zeros(e.r_pc.shape)
    for n, centre in enumerate(e.species_n):
        mine = slice(e.first_n[n], e.first_n[n + 1])
        energy_n[n], g_pc[mine] = _site(document, int(centre), e.species_p[mine], e.r_pc[mine])
    return energy_n, g_pc


def _site(
    document: Mapping[str, Any], centre: int, species_j: NDArray[np.int64], r_jc: FloatArray
) -> tuple[float, FloatArray]:
    """V = E0 + sum over functions and m of c Re prod A_(mu, n, l, m), and its gradient."""
    l_max, n_max = document["lmax"], max(bond["maxn"] for bond in document["bonds"].values())
    distance_j = np.linalg.norm(r_jc, axis=1)
    p_jn, dp_jn = np.zeros((len(r_jc), n_max)), np.zeros((len(r_jc), n_max))
    for j, (species, r) in enumerate(zip(species_j, distance_j, strict=True)):
        bond = document["bonds"][centre, int(species)]
        p_jn[j, : bond["maxn"]], dp_jn[j, : bond["maxn"]] = _radial(bond, r)
    y_jlm, dy_jlmc = _harmonics(l_max, r_jc, distance_j)
    shape = (len(document["elements"]), n_max, l_max + 1, 2 * l_max + 1)
    a = np.zeros(shape, complex)
    for j, species in enumerate(species_j):
        a[species] += p_jn[j, :, None, None] * y_jlm[j]
    value, slope = 0.0, np.zeros(shape, complex)
    for function in document["functions"][centre]:
        mus, ns, ls = (np.array(function[name]) for name in ("mus", "ns", "ls"))
        m_tf = np.reshape(function["ms_combs"], (function["num_ms_combs"], function["rank"]))
        weight_t = np.array(function["ctildes"], float)
        slots = (np.broadcast_to(mus, m_tf.shape), ns - 1 + 0 * m_tf, ls + 0 * m_tf, m_tf + l_max)
        factor_tf = a[slots]
        value += float(weight_t @ np.prod(factor_tf, axis=1).real)
        for f in range(function["rank"]):
            others = weight_t * np.prod(np.delete(factor_tf, f, axis=1), axis=1)
            np.add.at(slope, tuple(s[:, f] for s in slots), others)
    g_jc = np.zeros(r_jc.shape)
    for j, species in enumerate(species_j):
        along = r_jc[j] / distance_j[j]
        g_jc[j] = np.einsum("nlm,n,lm->", slope[species], dp_jn[j], y_jlm[j]).real * along
        g_jc[j] += np.einsum("nlm,n,lmc->c", slope[species], p_jn[j], dy_jlmc[j]).real
    return document["E0"][centre] + value, g_jc


def _radial(bond: Mapping[str, Any], r: float) -> tuple[FloatArray, FloatArray]:
    """P_n and dP_n / dr of ``ACE.jl.Basic``."""
    power, left, right = bond["p"], bond["xl"], bond["xr"]
    a, b, c = (bond["recursion_coefficients"][name] for name in "ABC")
    p, dp = np.zeros(bond["maxn"]), np.zeros(bond["maxn"])
    x = ((1.0 + bond["r0"]) / (1.0 + r)) ** power
    dx = -power * x / (1.0 + r)
    if r >= bond["rcut"] or x < left or (x > right and bond["pr"] > 0):
        return p, dp
    low, high = (x - left) ** bond["pl"], (x - right) ** bond["pr"]
    d_low = bond["pl"] * (x - left) ** (bond["pl"] - 1)
    d_high = bond["pr"] * (x - right) ** (bond["pr"] - 1) if bond["pr"] else 0.0
    p[0], dp[0] = a[0] * low * high, a[0] * (d_low * high + low * d_high)
    for n in range(1, len(p)):
        p[n] = (a[n] * x + b[n]) * p[n - 1]
        dp[n] = a[n] * p[n - 1] + (a[n] * x + b[n]) * dp[n - 1]
        if n > 1:
            p[n] += c[n] * p[n - 2]
            dp[n] += c[n] * dp[n - 2]
    return p, dp * dx


def _harmonics(l_max: int, r_jc: FloatArray, distance_j: FloatArray) -> tuple[ComplexArray, ComplexArray]:
    """sqrt(4 pi) Y_lm (Condon-Shortley), (n, l, m + l_max), and its derivative by r, (n, l, m + l_max, 3)."""
    u_jc = r_jc / distance_j[:, None]
    plane_j = u_jc[:, 0] + 1j * u_jc[:, 1]
    y = np.zeros((len(r_jc), l_max + 1, 2 * l_max + 1), complex)
    dy = np.zeros((*y.shape, 3), complex)
    for ell in range(l_max + 1):
        for m in range(ell + 1):
            norm = (-1) ** m * sqrt((2 * ell + 1) * factorial(ell - m) / factorial(ell + m))
            polynomial = Legendre.basis(ell).deriv(m)
            ring, height = norm * plane_j**m, polynomial(u_jc[:, 2])
            d_ring = norm * m * plane_j ** (m - 1) if m else np.zeros_like(ring)
            y[:, ell, l_max + m] = ring * height
            by_u = np.stack([d_ring * height, 1j * d_ring * height, ring * polynomial.deriv(1)(u_jc[:, 2])], axis=1)
            across = by_u - np.einsum("jc,jc->j", by_u, u_jc)[:, None] * u_jc
            dy[:, ell, l_max + m] = across / distance_j[:, None]
            y[:, ell, l_max - m] = (-1) ** m * np.conj(y[:, ell, l_max + m])
            dy[:, ell, l_max - m] = (-1) ** m * np.conj(dy[:, ell, l_max + m])
    return y, dy
