"""Nearest neighbours on a reference configuration: the bonds over which the stencil norm ||Du|| sums.

Voronoi neighbours, eq. (6.3) of Ortner and Wang (2022): l and m are neighbours if a point exists to which both are at
least as near as any other site. "At least" makes co-spherical ties neighbours of each other: all sites on the sphere
of a Delaunay simplex are mutual neighbours. On the perfect lattice they are known from one conventional cell, so that
only the surroundings of defects are triangulated.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import Delaunay, QhullError, cKDTree

from parmlip.crystal.defects import nearest_distance
from parmlip.crystal.lattices import Lattice
from parmlip.crystal.neighbours import Pairs, find_pairs, pair_vectors
from parmlip.crystal.supercell import Grid, Supercell, build_supercell, lattice_positions
from parmlip.errors import ConfigError, GeometryError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

TIE: Final = 1e-6  # relative to a sphere's radius: sites within it are on the sphere
_FLAT: Final = 1e-9  # simplices of less volume (relative to edge^d) have no reliable circumcentre; a full one shares it
_BATCH: Final = 4096  # sites that are triangulated together
_KEPT_PAIRS: Final = range(500, 1_000_000)  # results that are kept: up to 40 MB, and not those of a unit cell
_LARGEST_VOID: Final = 3.0  # in nearest-neighbour distances, where the crystal has surfaces


def nearest_neighbours(
    supercell: Supercell, kind: Literal["voronoi", "nearest"] = "voronoi", centre_n: IntArray | None = None
) -> Pairs:
    """Nearest neighbours of the sites of a reference configuration, with every periodic image and both directions.

    Around vacancies the cells of "voronoi" close over the void (the six sites around a triangular vacancy become
    mutual neighbours). "nearest" takes the bonds no longer than the perfect lattice's first shell (without a grid:
    1.07 times the median distance of nearest sites) and leaves voids open.

    Parameters
    ----------
    supercell : Supercell
        Where its sites stand on its grid's perfect lattice, nothing is computed; without a grid everything is.
        A direction along which it is not periodic has surfaces, and there spheres larger than three nearest-neighbour
        distances count as outside.
    centre_n : ndarray of int, shape (n,), optional
        Sites whose neighbours are wanted; all by default. They do not depend on which others are asked for.

    Raises
    ------
    GeometryError
        Sites coincide, or they have no Voronoi cells (all on a plane or line).
    """
    centre_n = np.arange(supercell.n_sites) if centre_n is None else np.asarray(centre_n, dtype=np.int64)
    if kind == "nearest":
        return _within_first_shell(supercell, centre_n)
    if kind != "voronoi":
        raise ConfigError(f"[compare] neighbours = '{kind}' should be 'voronoi' or 'nearest'")
    if supercell.grid is None:
        return _grouped(*voronoi_neighbours(supercell, centre_n)[:3], centre_n)
    return _from_stencil(supercell, supercell.grid, centre_n)


@lru_cache(maxsize=64)
def perfect_stencil(lattice: Lattice) -> tuple[Pairs, float]:
    """Voronoi neighbours of the sites of one conventional cell, and the largest sphere's radius, at lattice constant 1.

    Shifts count conventional cells.
    """
    cell = build_supercell(lattice, 1.0, (1, 1, 1), ["X"] * lattice.n_slots)
    basis_b = np.arange(lattice.n_basis)
    centre_p, site_p, shift_pc, radius = voronoi_neighbours(cell, basis_b)
    return _grouped(centre_p, site_p, shift_pc, basis_b), radius


_kept: dict[bytes, tuple[IntArray, IntArray, IntArray, float]] = {}  # the last two results


def voronoi_neighbours(supercell: Supercell, centre_n: IntArray) -> tuple[IntArray, IntArray, IntArray, float]:
    """Voronoi neighbours of some sites by triangulation of their surroundings, in no particular order.

    The last two results are kept (not to be written to): residuals and errors of all points of a sweep are about the
    same structure, and where it has no lattice, as with dislocations, to triangulate it is most of their work.

    Returns
    -------
    centre_p, site_p : ndarray of int, shape (n_pairs,)
    shift_pc : ndarray of int, shape (n_pairs, 3)
    radius : float
        Of the largest sphere that touches a centre, angstrom.
    """
    cell_cc, periodic, positions_ac = supercell.cell_cc, supercell.periodic, supercell.positions_ac
    d = supercell.dimension
    digest = blake2b(repr((periodic, d, len(centre_n))).encode())
    for array in (cell_cc, positions_ac, np.sort(centre_n)):
        digest.update(np.ascontiguousarray(array).tobytes())
    if digest.digest() in _kept:
        return _kept[digest.digest()]
    if all(periodic[:d]):
        limit, reach = np.inf, 3.0 * (supercell.volume / supercell.n_sites) ** (1.0 / d)
    else:
        limit = _LARGEST_VOID * _nearest_distance(supercell)
        reach = 2.01 * limit
    none = np.zeros(0, dtype=np.int64)
    parts, largest = [(none, none, none.reshape(0, 3))], 0.0
    for batch_n in _batches(supercell, centre_n):
        while True:
            around = find_pairs(cell_cc, periodic, positions_ac, reach, batch_n)
            site_k, shift_kc, home_k = _images(around)
            x_kc = positions_ac[site_k] + shift_kc @ cell_cc
            first_p, second_p, radius = _bonds(x_kc[:, :d], home_k, limit)
            # A sphere is known to be empty if all points within it are within reach of the centre that it touches.
            if 2.0 * radius * (1.0 + 2.0 * TIE) <= reach:
                break
            reach *= 1.5
        parts.append((site_k[first_p], site_k[second_p], shift_kc[second_p]))
        largest = max(largest, radius)
    centre_p, site_p, shift_pc = (np.concatenate(arrays) for arrays in zip(*parts))
    if len(centre_p) in _KEPT_PAIRS:
        while len(_kept) >= 2:
            del _kept[next(iter(_kept))]
        _kept[digest.digest()] = centre_p, site_p, shift_pc, largest
    return centre_p, site_p, shift_pc, largest


def _images(around: Pairs) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
    """Centres and neighbours of pairs, each image once: site, shift, and whether it is a centre."""
    base = 2 * int(np.abs(around.shift_pc).max(initial=0)) + 1
    digit_c = np.array([base * base, base, 1])
    zero = int(digit_c.sum()) * (base // 2)
    home_n = around.centre_n * base**3 + zero
    key_k = np.unique(np.concatenate([around.site_p * base**3 + around.shift_pc @ digit_c + zero, home_n]))
    shift_kc = key_k[:, None] // digit_c % base - base // 2
    return key_k // base**3, shift_kc, np.isin(key_k, home_n)


def _bonds(x_kd: FloatArray, home_k: NDArray[np.bool_], limit: float) -> tuple[IntArray, IntArray, float]:
    """Pairs (first is a home point) that share a Delaunay sphere of radius up to `limit`, and the largest radius.

    The radius is infinite if a home point lies on the hull although there is no limit.
    """
    d = x_kd.shape[1]
    simplex_tv, on_hull_k = _triangulation(x_kd)
    if np.isinf(limit) and (on_hull_k & home_k).any():
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.inf
    simplex_tv = simplex_tv[home_k[simplex_tv].any(axis=1)]
    edge_ted = x_kd[simplex_tv[:, 1:]] - x_kd[simplex_tv[:, :1]]
    square_te = (edge_ted**2).sum(axis=2)
    full_t = np.abs(np.linalg.det(edge_ted)) > _FLAT * square_te.max(axis=1) ** (0.5 * d)
    centre_td = np.linalg.solve(edge_ted[full_t], 0.5 * square_te[full_t][..., None])[..., 0]
    radius_t = np.linalg.norm(centre_td, axis=1)
    centre_td += x_kd[simplex_tv[full_t, 0]]
    within_t = radius_t <= limit
    if not within_t.any():
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), 0.0
    centre_td, radius_t = centre_td[within_t], radius_t[within_t]
    # Simplices of one sphere have one centre; those that rounding splits only repeat work.
    distinct_t = np.unique(np.rint(centre_td / (1e-9 * radius_t.max())), axis=0, return_index=True)[1]
    centre_td, reach_t = centre_td[distinct_t], radius_t[distinct_t] * (1.0 + TIE)

    tree, n_points = cKDTree(x_kd), len(x_kd)
    bond_p = [np.zeros(0, dtype=np.int64)]
    n_nearest, left_t = 4 * d, np.arange(len(centre_td))
    while len(left_t):
        n_nearest = min(n_nearest, n_points)
        distance_tq, point_tq = tree.query(centre_td[left_t], k=n_nearest)
        count_t = (distance_tq <= reach_t[left_t, None]).sum(axis=1)
        for count in np.unique(count_t[(count_t < n_nearest) | (n_nearest == n_points)]):
            point_tv = point_tq[count_t == count, :count]
            first_tvw, second_tvw = np.broadcast_arrays(point_tv[:, :, None], point_tv[:, None, :])
            keep_tvw = home_k[first_tvw] & (first_tvw != second_tvw)
            bond_p.append(np.unique(first_tvw[keep_tvw] * n_points + second_tvw[keep_tvw]))
        left_t = left_t[(count_t == n_nearest) & (n_nearest < n_points)]
        n_nearest *= 2
    bonds = np.unique(np.concatenate(bond_p))
    return bonds // n_points, bonds % n_points, float(radius_t.max())


def _triangulation(x_kd: FloatArray) -> tuple[IntArray, NDArray[np.bool_]]:
    """Delaunay simplices, (n_simplices, d + 1), and which points lie on the convex hull."""
    on_hull_k = np.zeros(len(x_kd), dtype=bool)
    if x_kd.shape[1] == 1:
        order_k = np.argsort(x_kd[:, 0])
        on_hull_k[order_k[[0, -1]]] = True
        return np.column_stack([order_k[:-1], order_k[1:]]), on_hull_k
    try:
        delaunay = Delaunay(x_kd - x_kd.mean(axis=0))
    except (QhullError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise GeometryError(f"{len(x_kd)} sites have no Voronoi cells ({x_kd.shape[1]} dimensions; {line})") from error
    on_hull_k[delaunay.convex_hull] = True
    return delaunay.simplices.astype(np.int64), on_hull_k


def _batches(supercell: Supercell, centre_n: IntArray) -> list[IntArray]:
    """Centres in blocks of the cell, so that one block's surroundings are not much more than itself."""
    fraction_nc = supercell.positions_ac[centre_n] @ np.linalg.inv(supercell.cell_cc)
    low_c, high_c = fraction_nc.min(axis=0, initial=np.inf), fraction_nc.max(axis=0, initial=-np.inf)
    inside_nc = (fraction_nc - low_c) / np.maximum(high_c - low_c, 1e-12)
    fraction_nc = np.where(supercell.periodic, fraction_nc - np.floor(fraction_nc), inside_nc)
    n_blocks = int(np.ceil((len(centre_n) / _BATCH) ** (1.0 / supercell.dimension)))
    block_nc = np.minimum((fraction_nc * n_blocks).astype(np.int64), n_blocks - 1)
    block_nc[:, supercell.dimension :] = 0
    block_n = (block_nc[:, 0] * n_blocks + block_nc[:, 1]) * n_blocks + block_nc[:, 2]
    order_n = np.argsort(block_n, kind="stable")
    return [part for part in np.split(centre_n[order_n], np.flatnonzero(np.diff(block_n[order_n])) + 1) if len(part)]


def _nearest_distance(supercell: Supercell) -> float:
    """Median distance to the nearest site, angstrom, over at most a thousand sites."""
    sample_n = np.arange(0, supercell.n_sites, max(1, supercell.n_sites // 1000))
    d = supercell.dimension
    reach = 1.2 * (supercell.volume / supercell.n_sites) ** (1.0 / d)
    span = 2.0 * (np.ptp(supercell.positions_ac, axis=0).max() + np.abs(supercell.cell_cc).sum())
    while reach < span:
        pairs = find_pairs(supercell.cell_cc, supercell.periodic, supercell.positions_ac, reach, sample_n)
        distance_p = np.linalg.norm(pair_vectors(pairs, supercell.cell_cc, supercell.positions_ac), axis=1)
        some_n = pairs.count_n > 0
        if 2 * np.count_nonzero(some_n) >= len(sample_n):
            return float(np.median(np.minimum.reduceat(distance_p, pairs.first_n[:-1][some_n])))
        reach *= 1.5
    raise GeometryError(f"{supercell.n_sites} site(s) without any neighbour have no nearest-neighbour distance")


def _within_first_shell(supercell: Supercell, centre_n: IntArray) -> Pairs:
    if supercell.grid is not None:
        cutoff = nearest_distance(supercell.grid.lattice) * supercell.grid.lattice_constant * (1.0 + TIE)
    else:
        cutoff = 1.07 * _nearest_distance(supercell)
    return find_pairs(supercell.cell_cc, supercell.periodic, supercell.positions_ac, cutoff, centre_n)


def _from_stencil(supercell: Supercell, grid: Grid, centre_n: IntArray) -> Pairs:
    """Stencils of the perfect lattice where nothing was taken from or put into a site's surroundings, else bonds."""
    lattice, n_basis = grid.lattice, grid.lattice.n_basis
    stencil, radius = perfect_stencil(lattice)
    site_of_number = np.full(int(np.prod(grid.repeats)) * n_basis, -1, dtype=np.int64)
    on_lattice_a = grid.number_a >= 0
    # A dumbbell's host keeps its number but not its place.
    off_a = supercell.positions_ac[on_lattice_a] - lattice_positions(grid, grid.number_a[on_lattice_a])
    on_lattice_a[on_lattice_a] = (np.abs(off_a) < 1e-6 * grid.lattice_constant).all(axis=1)
    site_of_number[grid.number_a[on_lattice_a]] = np.flatnonzero(on_lattice_a)

    changed_a = ~on_lattice_a
    added_n = np.flatnonzero(changed_a)
    if len(added_n):
        reach = 2.0 * radius * grid.lattice_constant * (1.0 + 2.0 * TIE)
        near = find_pairs(supercell.cell_cc, supercell.periodic, supercell.positions_ac, reach, added_n)
        changed_a[near.site_p] = True
    n_pairs_n = np.empty(len(centre_n), dtype=np.int64)
    empty_number = np.flatnonzero(site_of_number < 0)
    if len(empty_number):
        first_n = np.concatenate([[0], np.cumsum(stencil.count_n[empty_number % n_basis])])
        around, shift = np.empty(first_n[-1], dtype=np.int64), np.empty((first_n[-1], 3), dtype=np.int64)
        _expand(
            stencil.first_n, stencil.site_p, stencil.shift_pc, np.array(grid.repeats), site_of_number,
            empty_number, np.ones(len(empty_number), dtype=bool), first_n, around, shift,
        )  # fmt: skip
        changed_a[around[around >= 0]] = True

    redone_n = changed_a[centre_n]
    bonds = _grouped(*voronoi_neighbours(supercell, centre_n[redone_n])[:3], centre_n[redone_n])
    n_pairs_n[redone_n] = bonds.count_n
    n_pairs_n[~redone_n] = stencil.count_n[grid.number_a[centre_n[~redone_n]] % n_basis]
    first_n = np.concatenate([[0], np.cumsum(n_pairs_n)])
    site_p, shift_pc = np.empty(first_n[-1], dtype=np.int64), np.empty((first_n[-1], 3), dtype=np.int64)
    _expand(
        stencil.first_n, stencil.site_p, stencil.shift_pc, np.array(grid.repeats), site_of_number,
        grid.number_a[centre_n], ~redone_n, first_n, site_p, shift_pc,
    )  # fmt: skip
    redone_p = np.repeat(redone_n, n_pairs_n)
    if redone_n.any():
        site_p[redone_p], shift_pc[redone_p] = bonds.site_p, bonds.shift_pc
    return Pairs(first_n, site_p, shift_pc, centre_n)


@njit(cache=True)
def _expand(
    first_b: Any, basis_q: Any, shift_qc: Any, repeats_c: Any, site_of_number: Any,
    number_n: Any, wanted_n: Any, first_n: Any, site_p: Any, shift_pc: Any,
) -> None:  # fmt: skip
    """Write the stencils of the wanted lattice numbers, sorted by site, then shift (-1: an empty site)."""
    n_basis = len(first_b) - 1
    for n in range(len(number_n)):
        if not wanted_n[n]:
            continue
        b = number_n[n] % n_basis
        cell = number_n[n] // n_basis
        z = cell % repeats_c[2]
        y = cell // repeats_c[2] % repeats_c[1]
        x = cell // repeats_c[2] // repeats_c[1]
        for count in range(first_b[b + 1] - first_b[b]):
            q = first_b[b] + count
            to_x, to_y, to_z = x + shift_qc[q, 0], y + shift_qc[q, 1], z + shift_qc[q, 2]
            s_x, s_y, s_z = to_x // repeats_c[0], to_y // repeats_c[1], to_z // repeats_c[2]
            to_cell = (to_x - s_x * repeats_c[0]) * repeats_c[1] + to_y - s_y * repeats_c[1]
            to_cell = to_cell * repeats_c[2] + to_z - s_z * repeats_c[2]
            site = site_of_number[to_cell * n_basis + basis_q[q]]
            p = first_n[n] + count
            while p > first_n[n]:
                o_site, o_x, o_y, o_z = site_p[p - 1], shift_pc[p - 1, 0], shift_pc[p - 1, 1], shift_pc[p - 1, 2]
                if (o_site, o_x, o_y, o_z) <= (site, s_x, s_y, s_z):
                    break
                site_p[p], shift_pc[p, 0], shift_pc[p, 1], shift_pc[p, 2] = o_site, o_x, o_y, o_z
                p -= 1
            site_p[p], shift_pc[p, 0], shift_pc[p, 1], shift_pc[p, 2] = site, s_x, s_y, s_z


def _grouped(centre_p: IntArray, site_p: IntArray, shift_pc: IntArray, centre_n: IntArray) -> Pairs:
    """Pairs in the order of `centre_n`, sorted within a centre."""
    position_a = np.zeros(int(centre_n.max(initial=-1)) + 1, dtype=np.int64)
    position_a[centre_n] = np.arange(len(centre_n))
    row_p = position_a[centre_p]
    order_p = np.lexsort((shift_pc[:, 2], shift_pc[:, 1], shift_pc[:, 0], site_p, row_p))
    first_n = np.concatenate([[0], np.cumsum(np.bincount(row_p, minlength=len(centre_n)))])
    return Pairs(first_n, site_p[order_p], shift_pc[order_p], centre_n)
