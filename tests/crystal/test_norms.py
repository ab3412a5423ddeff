"""The stencil norm: its definition, its matrix, and what leaves it unchanged."""

from __future__ import annotations

import numpy as np
import pytest

from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.nearest import nearest_neighbours
from parmlip.crystal.norms import stencil_matrix, stencil_norm, stencil_square
from parmlip.crystal.supercell import build_supercell


def defective(name, n=4):
    lattice = LATTICES[name]
    supercell = build_supercell(lattice, 3.0, (n,) * lattice.dimension, ["A", "B"][: lattice.n_slots])
    return apply_defects(supercell, [Vacancy((0,) * lattice.dimension)])


@pytest.mark.parametrize("name", LATTICES)
def test_the_norm_is_its_definition_and_its_matrix(name):
    supercell = defective(name)
    pairs = nearest_neighbours(supercell)
    u_ac = np.random.default_rng(1).normal(size=(supercell.n_sites, supercell.dimension))
    square = ((u_ac[pairs.site_p] - u_ac[pairs.centre_p]) ** 2).sum()
    k_ab = stencil_matrix(pairs, supercell.n_sites)
    assert stencil_norm(pairs, u_ac) ** 2 == pytest.approx(square, rel=1e-13)
    assert np.einsum("ac,ac->", u_ac, k_ab @ u_ac) == pytest.approx(square, rel=1e-13)
    assert abs(k_ab - k_ab.T).max() == 0.0
    assert abs(k_ab @ np.ones(supercell.n_sites)).max() == 0.0


def test_shares_of_centres_add_up_to_the_whole():
    supercell = defective("bcc")
    u_ac = np.random.default_rng(2).normal(size=(supercell.n_sites, 3))
    whole = nearest_neighbours(supercell)
    shares = [nearest_neighbours(supercell, centre_n=part) for part in np.array_split(np.arange(supercell.n_sites), 5)]
    assert sum(stencil_square(share, u_ac) for share in shares) == pytest.approx(stencil_square(whole, u_ac), rel=1e-13)
    matrix = sum(stencil_matrix(share, supercell.n_sites) for share in shares)
    assert abs(matrix - stencil_matrix(whole, supercell.n_sites)).max() == 0.0


def test_translations_have_no_norm_and_every_bond_counts_twice():
    supercell = build_supercell(LATTICES["bcc"], 3.0, (4, 4, 4), ["W"])
    pairs = nearest_neighbours(supercell)
    u_ac = np.zeros((supercell.n_sites, 3))
    assert stencil_norm(pairs, u_ac + 0.3) == 0.0
    u_ac[5, 1] = 1.0
    assert stencil_square(pairs, u_ac) == pytest.approx(2 * 14)


def test_a_site_that_is_its_own_neighbour_adds_nothing():
    supercell = build_supercell(LATTICES["sc"], 3.0, (1, 1, 2), ["Po"])
    pairs = nearest_neighbours(supercell)
    u_ac = np.array([[0.0, 0.0, 0.0], [0.1, 0.2, 0.2]])
    # 9 of the 26 neighbours above and 9 below are the other site; the other 8 are images of the site itself.
    assert stencil_square(pairs, u_ac) == pytest.approx(2 * 18 * 0.09)
