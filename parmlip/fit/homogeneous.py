"""Exact properties of the perfect crystal as linear equations for the coefficients.

Local: one unit cell, the same on every rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from parmlip.crystal.lattices import Lattice
from parmlip.errors import ConfigError
from parmlip.fit.observations import RealArray
from parmlip.mechanics.bulk import UnitCell
from parmlip.numerics.regression import Constraints
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.base import SiteLaw

# Properties that a fit can be made to share with the reference.
PROPERTIES: Final = ("energy", "stress", "elastic", "force")
_STEP: Final = 1e-20


def constraints_of(
    names: Iterable[str],
    basis: ACEBasis,
    reference: SiteLaw,
    lattice: Lattice,
    lattice_constant: float,
    species: tuple[str, ...],
) -> Constraints:
    """Equations by which a fit gives what the reference gives on its perfect crystal.

    - "energy": energy of the unit cell.
    - "stress": all components of the strain gradient; zero at the reference's lattice constant, which the fit then has.
    - "elastic": all second derivatives with respect to strain and inner displacement, hence clamped and relaxed elastic
      constants.
    - "force": forces on the basis sites.

    Parameters
    ----------
    names : names in `PROPERTIES`
    basis : ACEBasis
    reference : SiteLaw
    lattice, lattice_constant, species
        As for `UnitCell`.
    """
    asked = tuple(dict.fromkeys(names))
    for name in asked:
        if name not in PROPERTIES:
            raise ConfigError(f"unknown constraint {name!r}; known are {', '.join(PROPERTIES)}")
    unit = UnitCell(reference, lattice, lattice_constant, species)
    rows = property_rows(basis, lattice, lattice_constant, species)
    d = unit.dimension
    second = unit.second_derivatives()
    _, g_pc = unit.law.site_gradients(unit.environments)
    first = np.array([np.vdot(dr_pc, g_pc) for dr_pc in unit.directions()])
    n_v = d * (d + 1) // 2
    above = np.triu_indices(len(second))
    values = {"energy": np.array([unit.energy]), "stress": first[:n_v], "elastic": second[above], "force": first[n_v:]}
    # A row that symmetry makes zero has only rounding, to be measured beside those of its kind.
    strain = np.linalg.norm(rows["stress"], axis=1).max()
    size = {"energy": np.linalg.norm(rows["energy"]), "stress": strain, "force": strain / lattice_constant,
            "elastic": np.linalg.norm(rows["elastic"], axis=1).max()}  # fmt: skip
    count = {name: len(values[name]) for name in asked}
    return Constraints(
        np.concatenate([np.zeros((0, basis.n_basis)), *(rows[name] for name in asked)]),
        np.concatenate([np.zeros(0), *(values[name] for name in asked)]),
        np.concatenate([np.zeros(0), *(np.full(count[name], size[name]) for name in asked)]),
    )


def constraints_of_numbers(
    names: Iterable[str],
    basis: ACEBasis,
    lattice: Lattice,
    lattice_constant: float,
    species: tuple[str, ...],
    *,
    energy: float | None = None,
    elastic: Mapping[str, float] | None = None,
) -> Constraints:
    """The same equations from numbers: the crystal is free of stress and of forces at its lattice constant.

    "elastic" asks for "stress" too, without which elastic constants are not defined. It sets the second derivatives by
    strain alone, so every site must be a centre of inversion (else the crystal's constants have a relaxed part).

    Parameters
    ----------
    energy : float
        Energy a site for "energy", eV.
    elastic : mapping
        C11, C12, C44 of a cubic crystal for "elastic", eV / angstrom^3.
    """
    asked = tuple(dict.fromkeys([*names, *(["stress"] if elastic is not None else [])]))
    rows = property_rows(basis, lattice, lattice_constant, species)
    strain = np.linalg.norm(rows["stress"], axis=1).max()
    parts: list[tuple[RealArray, RealArray, float]] = []
    for name in asked:
        rows_ok = rows[name]
        values, size = np.zeros(len(rows_ok)), strain if name == "stress" else strain / lattice_constant
        if name == "energy":
            if energy is None:
                raise ConfigError('constraint "energy": needs the energy of the crystal')
            values, size = np.array([energy * lattice.n_basis]), float(np.linalg.norm(rows_ok))
        elif name == "elastic":
            if elastic is None:
                raise ConfigError('constraint "elastic": needs C11, C12 and C44')
            n = lattice.dimension**2 + lattice.dimension  # twice the number of strains
            upper = [i for i, (a, b) in enumerate(_upper(rows_ok)) if max(a, b) < n // 2]
            c_vv = np.zeros((6, 6))
            c_vv[:3, :3] = elastic["C12"]
            c_vv[range(6), range(6)] = [elastic["C11"]] * 3 + [elastic["C44"]] * 3
            size = float(np.linalg.norm(rows_ok, axis=1).max())
            volume = abs(np.linalg.det(lattice.cell(lattice_constant)))
            rows_ok, values = rows_ok[upper], c_vv[np.triu_indices(6)] * volume
        parts.append((rows_ok, values, size))
    return Constraints(
        np.concatenate([rows_ok for rows_ok, _, _ in parts]),
        np.concatenate([values for _, values, _ in parts]),
        np.concatenate([np.full(len(values), size) for _, values, size in parts]),
    )


def _upper(rows_ok: RealArray) -> list[tuple[int, int]]:
    """Indices of the upper triangle whose entries are `rows_ok`."""
    n = round((np.sqrt(8 * len(rows_ok) + 1) - 1) / 2)
    return list(zip(*(index.tolist() for index in np.triu_indices(n)), strict=True))


def property_rows(
    basis: ACEBasis, lattice: Lattice, lattice_constant: float, species: tuple[str, ...]
) -> dict[str, RealArray]:
    """Energy, strain gradient, second derivatives and forces of every basis function on the unit cell.

    By name in `PROPERTIES`, each of shape (n_equations, n_basis): derivatives along `UnitCell.directions`, "elastic"
    the upper triangle of the second ones, row by row. The first derivatives are the design rows; the second ones the
    change of these by a complex step, exact to rounding. With r -> r (1 + h e_a) the design's virial also changes by
    its own factor r, which is taken away: d(r e_b . g) = (r e_a e_b) . g + (r e_b) . dg.
    """
    unit = UnitCell(ACE(basis, np.zeros(basis.n_basis)), lattice, lattice_constant, species)
    d, e = unit.dimension, unit.environments
    voigt = {1: [(0, 0)], 2: [(0, 0), (1, 1), (0, 1)], 3: [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]}
    place = [voigt[3].index(pair) for pair in voigt[d]]
    n_v = len(place)

    def along(design: tuple[RealArray, RealArray, RealArray]) -> RealArray:
        """First derivatives along the directions, (n_directions, n_basis)."""
        return np.concatenate([-design[2][place], -design[1][:, :d].reshape(-1, basis.n_basis)])

    here = basis.design(e, unit.site_p, unit.n_basis)
    stress_cck = np.zeros((3, 3, basis.n_basis))
    for v, (i, j) in enumerate(voigt[3]):
        stress_cck[i, j] = stress_cck[j, i] = -here[2][v]
    first = along(here)
    second = np.zeros((len(first), len(first), basis.n_basis))
    for a, dr_pc in enumerate(unit.directions()):
        moved = basis.design(e.with_vectors(e.r_pc + 1j * _STEP * dr_pc), unit.site_p, unit.n_basis)
        second[a] = along(moved).imag / _STEP
        if a < n_v:
            for b in range(n_v):
                product_cc = _strain(voigt[d][a]) @ _strain(voigt[d][b])
                second[a, b] -= np.tensordot(product_cc, stress_cck, 2)
        else:
            # the virial's own factor r moves with the shift: (dr e_b) . g
            second[a, :n_v] = 0.0
    for a in range(n_v, len(first)):
        second[a, :n_v] = second[:n_v, a]
    above = np.triu_indices(len(first))
    return {"energy": here[0][None], "stress": first[:n_v], "elastic": second[above], "force": first[n_v:]}


def _strain(pair: tuple[int, int]) -> RealArray:
    strain_cc = np.zeros((3, 3))
    strain_cc[pair] += 0.5
    strain_cc[pair[::-1]] += 0.5
    return strain_cc
