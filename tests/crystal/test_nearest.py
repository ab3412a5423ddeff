"""Voronoi nearest neighbours: known stencils, one triangulation of everything, and the shells around defects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import Delaunay

from parmlip.crystal.defects import DUMBBELLS, OFFSETS, Divacancy, Interstitial, Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES, hcp
from parmlip.crystal.nearest import nearest_neighbours, perfect_stencil
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.crystal.supercell import build_supercell, supercell_from_arrays
from parmlip.errors import ConfigError, GeometryError

# Shells of point_defects.md section 1 (bcc to triangular); in units of a, with the number of neighbours.
SHELLS = {
    "bcc": {0.8660: 8, 1.0: 6},
    "b2": {0.8660: 8, 1.0: 6},
    "fcc": {0.7071: 12, 1.0: 6},
    "sc": {1.0: 6, 1.4142: 12, 1.7321: 8},
    "diamond": {0.4330: 4, 0.7071: 12, 0.8292: 12},
    "hcp": {1.0: 12, 1.4142: 6},
    "triangular": {1.0: 6},
    "square": {1.0: 4, 1.4142: 4},
    "chain": {1.0: 2},
}


def perfect(name, n, lattice_constant=3.0):
    lattice = LATTICES[name]
    repeats = n[: lattice.dimension] if isinstance(n, tuple) else (n,) * lattice.dimension
    return build_supercell(lattice, lattice_constant, repeats, ["A", "B"][: lattice.n_slots])


def as_tuples(pairs):
    return [tuple(row) for row in np.column_stack([pairs.centre_p, pairs.site_p, pairs.shift_pc]).tolist()]


def by_one_triangulation(supercell):
    """All images within six mean spacings, one Delaunay triangulation, every sphere compared with every point."""
    d, n = supercell.dimension, supercell.n_sites
    cell_dd, x_ad = supercell.cell_cc[:d, :d], supercell.positions_ac[:, :d]
    pad = 6.0 * (supercell.volume / n) ** (1.0 / d)
    inverse = np.linalg.inv(cell_dd)
    fraction = pad * np.linalg.norm(inverse, axis=0)
    spread = np.ptp(x_ad @ inverse, axis=0)
    m = np.ceil(fraction + spread).astype(int)
    shifts = np.array(list(np.ndindex(*(2 * m + 1)))) - m
    x_kd = (x_ad[None] + (shifts @ cell_dd)[:, None]).reshape(-1, d)
    site_k, shift_k = np.tile(np.arange(n), len(shifts)), np.repeat(shifts, n, axis=0)
    f_kd = x_kd @ inverse
    low, high = (x_ad @ inverse).min(axis=0), (x_ad @ inverse).max(axis=0)
    inside = ((f_kd > low - fraction) & (f_kd < high + fraction)).all(axis=1)
    x_kd, site_k, shift_k = x_kd[inside], site_k[inside], shift_k[inside]
    home_k = ~shift_k.any(axis=1)
    if d == 1:
        order = np.argsort(x_kd[:, 0])
        simplices = np.column_stack([order[:-1], order[1:]])
    else:
        simplices = Delaunay(x_kd).simplices
    simplex_tv = simplices[home_k[simplices].any(axis=1)]
    edge_ted = x_kd[simplex_tv[:, 1:]] - x_kd[simplex_tv[:, :1]]
    longest_t = np.linalg.norm(edge_ted, axis=2).max(axis=1)
    full_t = abs(np.linalg.det(edge_ted)) >= 1e-7 * longest_t**d
    simplex_tv, edge_ted = simplex_tv[full_t], edge_ted[full_t]
    off_td = np.linalg.solve(edge_ted, 0.5 * (edge_ted**2).sum(axis=2)[..., None])[..., 0]
    centre_td, radius_t = x_kd[simplex_tv[:, 0]] + off_td, np.linalg.norm(off_td, axis=1)
    x2_k, bonds = (x_kd**2).sum(axis=1), set()
    # |x - c|^2 - |c|^2 for all spheres at once
    near_tk = x2_k - 2.0 * centre_td @ x_kd.T <= ((radius_t * (1.0 + 1e-6)) ** 2 - (centre_td**2).sum(axis=1))[:, None]
    for near_k in near_tk:
        members = np.flatnonzero(near_k)
        for i in members[home_k[members]]:
            for j in members:
                if i != j:
                    bonds.add((int(site_k[i]), int(site_k[j]), *shift_k[j].tolist(), *([0] * (3 - d))))
    return sorted(bonds)


def defects_for(name):
    at = (1.0,) * LATTICES[name].dimension
    named = [Interstitial("A", site=site, at=at) for site in [*OFFSETS[name], *DUMBBELLS[name]]]
    origin = (0.0,) * LATTICES[name].dimension
    return [[], [Vacancy(origin)], [Vacancy(origin), named[0]], *[[defect] for defect in named]]


CASES = [(name, which) for name in LATTICES for which in range(len(defects_for(name)))]


@pytest.mark.parametrize("name", LATTICES)
def test_perfect_lattices_have_the_known_shells(name):
    stencil, _ = perfect_stencil(LATTICES[name])
    r_pc = pair_vectors(stencil, LATTICES[name].cell_cc, LATTICES[name].basis_bc @ LATTICES[name].cell_cc)
    for b in range(LATTICES[name].n_basis):
        distance = np.linalg.norm(r_pc[stencil.first_n[b] : stencil.first_n[b + 1]], axis=1)
        values, counts = np.unique(np.round(distance, 4), return_counts=True)
        assert dict(zip(values, counts)) == pytest.approx(SHELLS[name], abs=1e-4)


@pytest.mark.parametrize(("name", "which"), CASES)
def test_neighbours_around_defects_are_those_of_one_triangulation_of_everything(name, which):
    n = {"fcc": 2, "diamond": 2}.get(name, 3)
    supercell = apply_defects(perfect(name, n), defects_for(name)[which])
    assert as_tuples(nearest_neighbours(supercell)) == by_one_triangulation(supercell)


@pytest.mark.parametrize(("name", "which"), CASES)
def test_the_known_stencils_change_nothing_against_triangulating_every_site(name, which):
    supercell = apply_defects(perfect(name, (5, 3, 4)), defects_for(name)[which])
    assert as_tuples(nearest_neighbours(supercell)) == as_tuples(nearest_neighbours(replace(supercell, grid=None)))


@pytest.mark.parametrize(("name", "which"), CASES)
@pytest.mark.parametrize("kind", ["voronoi", "nearest"])
def test_every_bond_is_seen_from_both_ends(name, which, kind):
    supercell = apply_defects(perfect(name, (4, 3, 4)), defects_for(name)[which])
    bonds = as_tuples(nearest_neighbours(supercell, kind))
    assert sorted((j, i, -x, -y, -z) for i, j, x, y, z in bonds) == bonds


def test_the_six_sites_around_a_triangular_vacancy_become_mutual_neighbours():
    whole = perfect("triangular", 12)
    ring = np.unique(nearest_neighbours(whole, centre_n=np.array([0])).site_p)
    supercell = apply_defects(whole, [Vacancy((0, 0))])
    ring = np.searchsorted(supercell.grid.number_a, ring)
    pairs = nearest_neighbours(supercell)
    for i in ring:
        others = pairs.site_p[pairs.first_n[i] : pairs.first_n[i + 1]]
        assert set(ring) - {i} <= set(others)
        assert len(others) == 8
    open_void = nearest_neighbours(supercell, "nearest").count_n
    assert (open_void[ring] == 5).all()
    assert open_void.sum() == 6 * 143 - 6


def test_sites_far_from_a_defect_keep_their_stencil():
    supercell = apply_defects(perfect("bcc", 8), [Divacancy((4, 4, 4), (0.5, 0.5, 0.5))])
    count_n = nearest_neighbours(supercell).count_n
    far = np.linalg.norm(supercell.positions_ac - 12.75, axis=1) > 6.0
    assert (count_n[far] == 14).all()
    assert (count_n[~far] != 14).any()


def test_a_subset_of_centres_gets_the_same_neighbours():
    dumbbell = Interstitial("A", site="dumbbell_110", at=(3, 3, 3))
    supercell = apply_defects(perfect("bcc", 6), [Vacancy((0, 0, 0)), dumbbell])
    whole = nearest_neighbours(supercell)
    bonds = as_tuples(whole)
    centre_n = np.arange(supercell.n_sites)[::-3]
    some = nearest_neighbours(supercell, centre_n=centre_n)
    assert as_tuples(some) == [bond for i in centre_n for bond in bonds[whole.first_n[i] : whole.first_n[i + 1]]]


def test_what_has_no_lattice_is_triangulated_once_and_anew_where_anything_is_different(monkeypatch):
    rng = np.random.default_rng(11)
    whole = perfect("bcc", 4)
    moved = replace(whole, grid=None, positions_ac=whole.positions_ac + rng.uniform(-0.2, 0.2, (whole.n_sites, 3)))
    bonds = as_tuples(nearest_neighbours(moved))

    def refused(x_kd):
        raise RuntimeError("again")

    monkeypatch.setattr("parmlip.crystal.nearest._triangulation", refused)
    turned = nearest_neighbours(replace(moved), centre_n=np.arange(moved.n_sites)[::-1])
    assert turned.centre_n[0] == moved.n_sites - 1
    assert sorted(as_tuples(turned)) == bonds
    x_ac = moved.positions_ac.copy()
    x_ac[0, 0] += 1e-3
    for other, centre_n in (
        (replace(moved, positions_ac=x_ac), None),
        (replace(moved, cell_cc=1.001 * moved.cell_cc), None),
        (replace(moved, periodic=(True, True, False)), None),
        (moved, np.arange(5)),
    ):
        with pytest.raises(RuntimeError, match="again"):
            nearest_neighbours(other, centre_n=centre_n)


@pytest.mark.parametrize("kind", ["voronoi", "nearest"])
def test_a_rank_that_owns_no_site_gets_no_neighbours(kind):
    whole = apply_defects(perfect("bcc", 3), [Vacancy((0, 0, 0))])
    for supercell in (whole, replace(whole, grid=None)):
        pairs = nearest_neighbours(supercell, kind, np.zeros(0, dtype=np.int64))
        assert pairs.n_pairs == 0
        assert pairs.first_n.tolist() == [0]


def test_neighbours_do_not_change_under_rotation_relabelling_and_small_rounding():
    rng = np.random.default_rng(2)
    supercell = replace(apply_defects(perfect("bcc", 4), [Vacancy((0, 0, 0))]), grid=None)
    rotation, order = np.linalg.qr(rng.normal(size=(3, 3)))[0], rng.permutation(supercell.n_sites)
    rounding = rng.uniform(-5e-9, 5e-9, (supercell.n_sites, 3))
    turned = replace(
        supercell,
        cell_cc=supercell.cell_cc @ rotation.T,
        positions_ac=((supercell.positions_ac + rounding + 0.7) @ rotation.T)[order],
    )
    bonds = {(order[i], order[j], *shift) for i, j, *shift in as_tuples(nearest_neighbours(turned))}
    assert bonds == set(as_tuples(nearest_neighbours(supercell)))


def test_random_structures_agree_with_one_triangulation_of_everything():
    rng = np.random.default_rng(4)
    for dimension in (1, 2, 3):
        cell = np.diag([8.0, 7.0, 9.0]) + 0.5 * rng.normal(size=(3, 3))
        cell[:dimension, dimension:] = 0.0
        x_ac = np.zeros((30, 3))
        x_ac[:, :dimension] = rng.uniform(-1.0, 2.0, (30, dimension)) @ cell[:dimension, :dimension]
        supercell = supercell_from_arrays(cell, (True,) * 3, x_ac, ["W"] * 30, dimension)
        assert as_tuples(nearest_neighbours(supercell)) == by_one_triangulation(supercell)


def test_a_big_void_is_closed_by_the_cells_around_it():
    whole = perfect("bcc", 8)
    centre = np.array([12.0, 12.0, 12.0])
    holes = np.flatnonzero(np.linalg.norm(whole.positions_ac - centre, axis=1) < 7.0)
    supercell = apply_defects(whole, [Vacancy(tuple(whole.positions_ac[a] / 3.0)) for a in holes])
    pairs = nearest_neighbours(supercell)
    assert np.linalg.norm(pair_vectors(pairs, supercell.cell_cc, supercell.positions_ac), axis=1).max() > 10.0
    assert as_tuples(pairs) == as_tuples(nearest_neighbours(replace(supercell, grid=None)))


def test_bulk_sites_of_a_slab_have_the_bulk_stencil_and_nothing_spans_the_vacuum():
    whole = perfect("bcc", (3, 3, 6))
    cell_cc = whole.cell_cc + np.diag([0.0, 0.0, 15.0])
    for periodic in ((True, True, False), (True, True, True)):
        slab = supercell_from_arrays(cell_cc, periodic, whole.positions_ac, ["W"] * whole.n_sites)
        pairs = nearest_neighbours(slab)
        depth = np.minimum(slab.positions_ac[:, 2], slab.positions_ac[:, 2].max() - slab.positions_ac[:, 2])
        assert (pairs.count_n[depth > 2.9] == 14).all()
        if not periodic[2]:
            assert np.linalg.norm(pair_vectors(pairs, cell_cc, slab.positions_ac), axis=1).max() < 6.1


def test_hcp_away_from_the_ideal_ratio_keeps_eighteen_voronoi_neighbours():
    supercell = build_supercell(hcp(1.58), 3.2, (3, 3, 3), ["Mg"])
    assert (nearest_neighbours(supercell).count_n == 18).all()
    assert as_tuples(nearest_neighbours(supercell)) == as_tuples(nearest_neighbours(replace(supercell, grid=None)))


def test_a_grid_that_its_sites_have_left_is_not_trusted():
    rng = np.random.default_rng(7)
    whole = perfect("fcc", 3)
    moved = replace(whole, positions_ac=whole.positions_ac + rng.uniform(-0.3, 0.3, (whole.n_sites, 3)))
    assert as_tuples(nearest_neighbours(moved)) == as_tuples(nearest_neighbours(replace(moved, grid=None)))


@pytest.mark.parametrize("name", LATTICES)
def test_the_first_shell_is_found_with_and_without_grid(name):
    supercell = apply_defects(perfect(name, 4), [Vacancy((0,) * LATTICES[name].dimension)])
    shell = nearest_neighbours(supercell, "nearest")
    assert shell.n_pairs == min(SHELLS[name].items())[1] * (supercell.n_sites - 1)
    assert as_tuples(shell) == as_tuples(nearest_neighbours(replace(supercell, grid=None), "nearest"))


def test_structures_without_voronoi_cells_and_unknown_kinds_are_refused():
    x_ac = np.random.default_rng(0).random((9, 3)) * [9.0, 9.0, 0.0]
    plane = supercell_from_arrays(np.zeros((3, 3)), (False,) * 3, x_ac, ["C"] * 9)
    with pytest.raises(GeometryError, match="no Voronoi cells"):
        nearest_neighbours(plane)
    with pytest.raises(GeometryError, match="without any neighbour"):
        nearest_neighbours(supercell_from_arrays(np.zeros((3, 3)), (False,) * 3, np.zeros((1, 3)), ["C"]))
    with pytest.raises(ConfigError, match="should be 'voronoi' or 'nearest'"):
        nearest_neighbours(perfect("bcc", 2), "first")  # type: ignore[arg-type]
    doubled = supercell_from_arrays(3.0 * np.eye(3), (True,) * 3, np.ones((2, 3)), ["W"] * 2)
    with pytest.raises(GeometryError, match="0 angstrom apart"):
        nearest_neighbours(doubled)


def test_no_pair_is_missing_within_the_voronoi_bound():
    """Sites nearer than the smallest shell distance are always neighbours: the midpoint is nearest to both."""
    rng = np.random.default_rng(9)
    whole = perfect("bcc", 3)
    moved = replace(whole, grid=None, positions_ac=whole.positions_ac + rng.uniform(-0.4, 0.4, (whole.n_sites, 3)))
    bonds = set(as_tuples(nearest_neighbours(moved)))
    closest = find_pairs(moved.cell_cc, moved.periodic, moved.positions_ac, 4.0)
    distance = np.linalg.norm(pair_vectors(closest, moved.cell_cc, moved.positions_ac), axis=1)
    for n in range(moved.n_sites):
        mine = slice(closest.first_n[n], closest.first_n[n + 1])
        p = closest.first_n[n] + int(np.argmin(distance[mine]))
        assert (n, int(closest.site_p[p]), *closest.shift_pc[p].tolist()) in bonds
