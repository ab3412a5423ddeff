"""Site Hessians on block patterns: the row-wise assembly of embedded atoms and the general scatter."""

import numpy as np
import pytest

from parmlip.errors import GeometryError
from parmlip.potentials.base import BlockPattern, Environments
from parmlip.potentials.eam import builtin
from parmlip.potentials.kernels.scatter import add_site_hessian, find_block, group_by_site
from tests.potentials.eam_cells import BCC, FCC, alloy, crystal, dense, full_pattern

CELLS = {
    "images of the centre": lambda: crystal(builtin("W-Zhou", (5.0, 6.0)), BCC, 3.2, repeats=1, rattle=0.1),
    "density shorter than phi": lambda: crystal(builtin("W-EAM4"), BCC, 3.2, rattle=0.05),
    "copper": lambda: crystal(builtin("Cu-Mishin2001"), FCC, 3.5, rattle=0.05),
    "two elements": lambda: crystal(alloy(True), BCC, 3.2, rattle=0.1, species_b=[0, 1]),
}


@pytest.mark.parametrize("name", CELLS)
def test_assembly_by_rows_equals_the_hessian_times_vectors_and_is_symmetric(name):
    cell = CELLS[name]()
    hessian = cell.hessian()
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12 * abs(hessian).max())
    np.testing.assert_allclose(hessian.reshape(len(hessian), -1, 3).sum(1), 0.0, atol=1e-11 * abs(hessian).max())
    v_ac = np.random.default_rng(2).normal(size=cell.positions_ac.shape)
    expected = cell.hessian_times(np.zeros_like(v_ac), v_ac).ravel()
    np.testing.assert_allclose(hessian @ v_ac.ravel(), expected, atol=1e-11 * abs(expected).max())


@pytest.mark.parametrize("name", CELLS)
def test_the_general_scatter_of_dense_site_hessians_gives_the_same_blocks(name):
    cell = CELLS[name]()
    n = len(cell.positions_ac)
    pattern = full_pattern(n)
    blocks = np.zeros((n * n, 3, 3))
    environments = cell.environments()
    for centre in range(n):
        mine = slice(cell.pairs.first_n[centre], cell.pairs.first_n[centre + 1])
        one = Environments(
            np.array([0, mine.stop - mine.start]),
            environments.r_pc[mine],
            cell.species_a[centre : centre + 1],
            environments.species_p[mine],
        )
        tangent = cell.law.linearised(one)
        basis = np.eye(3 * (mine.stop - mine.start)).reshape(-1, mine.stop - mine.start, 3)
        h_qqcd = np.stack([tangent(e) for e in basis]).reshape(len(one.r_pc), 3, len(one.r_pc), 3).transpose(0, 2, 1, 3)
        assert add_site_hessian(centre, cell.site_p[mine], h_qqcd, pattern.first_r, pattern.column_b, blocks)
    expected = cell.hessian()
    np.testing.assert_allclose(dense(blocks), expected, atol=1e-12 * abs(expected).max())


def test_complex_vectors_give_the_derivative_of_the_blocks():
    cell = crystal(builtin("W-Zhou", (3.8, 5.0)), BCC, 3.16, rattle=0.1)
    n = len(cell.positions_ac)
    v_ac = np.random.default_rng(4).normal(size=cell.positions_ac.shape)

    def blocks(u_ac):
        return cell.law.hessian_blocks(cell.environments(u_ac), cell.site_p, full_pattern(n))

    exact = blocks(1e-20j * v_ac).imag / 1e-20
    difference = (blocks(1e-5 * v_ac) - blocks(-1e-5 * v_ac)) / 2e-5
    np.testing.assert_allclose(difference, exact, atol=1e-6 * abs(exact).max())


def test_rows_may_outnumber_centres_and_the_parts_add_up():
    cell = CELLS["two elements"]()
    n, half = len(cell.positions_ac), len(cell.positions_ac) // 2
    order_a = np.concatenate([np.arange(half, n), np.arange(half)])  # the second half as owned sites, then as ghosts
    total = np.zeros((3 * n, 3 * n))
    for first in (0, half):
        mine = slice(cell.pairs.first_n[first], cell.pairs.first_n[first + half])
        site_p = cell.site_p[mine] if first == 0 else order_a[cell.site_p[mine]]
        environments = cell.environments()
        part = Environments(
            cell.pairs.first_n[first : first + half + 1] - cell.pairs.first_n[first],
            environments.r_pc[mine],
            cell.species_a[first : first + half],
            environments.species_p[mine],
        )
        h = dense(cell.law.hessian_blocks(part, site_p, full_pattern(n)))
        rows = np.arange(3 * n) if first == 0 else (3 * order_a[:, None] + np.arange(3)).ravel()
        total += h[np.ix_(rows, rows)]
    np.testing.assert_allclose(total, cell.hessian(), atol=1e-12 * abs(total).max())


def test_a_pattern_without_a_needed_block_is_an_error_that_names_the_remedy():
    cell = CELLS["density shorter than phi"]()
    n = len(cell.positions_ac)
    full = full_pattern(n)
    keep = np.ones(n * n, bool)
    keep[5 * n + 9] = False
    short = BlockPattern(np.concatenate([[0], np.cumsum(keep.reshape(n, n).sum(1))]), full.column_b[keep])
    with pytest.raises(GeometryError, match="twice the cutoff, 10.92"):
        cell.law.hessian_blocks(cell.environments(), cell.site_p, short)
    h_qqcd = np.ones((2, 2, 3, 3))
    assert not add_site_hessian(5, np.array([9, 3]), h_qqcd, short.first_r, short.column_b, np.zeros((n * n - 1, 3, 3)))


def test_blocks_are_found_from_any_start_in_a_row():
    first_r, column_b = np.array([0, 0, 7]), np.array([0, 2, 3, 5, 8, 9, 12])
    for column in range(14):
        for start in range(8):
            expected = [b for b in range(start, 7) if column_b[b] == column]
            assert find_block(first_r, column_b, 1, column, start) == (expected[0] if expected else -1)
    assert find_block(first_r, column_b, 0, 0, 0) == -1


def test_grouping_by_site_lists_every_pair_once_in_rising_order():
    site_p = np.random.default_rng(1).integers(0, 6, 50)
    first_m, pair_k = group_by_site(site_p, 8)
    for m in range(8):
        assert pair_k[first_m[m] : first_m[m + 1]].tolist() == np.flatnonzero(site_p == m).tolist()
