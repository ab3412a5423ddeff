"""Vitek's maps of elastic screws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parmlip.analysis.differential_displacements import differential_displacements
from parmlip.crystal.dislocation_disc import build_disc
from parmlip.crystal.dislocation_field import Core
from parmlip.crystal.lattices import lattice_named

STIFFNESS = np.diag([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) * 0.8
STIFFNESS[:3, :3] = np.full((3, 3), 1.0) + np.eye(3) * 1.2


def screw(periods=1, core="easy", sign=1.0):
    """A disc about a screw 1/2<111>, seen from the core, and the screw's displacement along the line."""
    made = build_disc(
        lattice_named("bcc"), 3.16, ("W",), line=(1, 1, 1), plane=(-1, 1, 0), burgers=(0.5, 0.5, 0.5), radius=25.0,
        rim=6.0, core=core, periods=periods,
    )  # fmt: skip
    burgers = sign * made.core.burgers[2]
    made = replace(made, core=Core(made.core.position, (0.0, 0.0, burgers)))
    x_nc = made.supercell.positions_ac - np.array([*made.core.position, 0.0])
    return x_nc, made.predictor(STIFFNESS)[:, 2], burgers


def circulation(found, at, radius, width=1.4):
    """Sum of the differences from column to column, counter-clockwise, over a ring that is one column wide.

    The ring is walked over pairs of neighbours by the shortest way from each of its columns to the next one by angle.
    """
    n = len(found.place_kc)
    step = {}
    for (i, j), d in zip(found.pair_pk, found.difference_p, strict=True):
        step.setdefault(int(i), {})[int(j)] = d
        step.setdefault(int(j), {})[int(i)] = -d
    off_kc = found.place_kc - np.array(at)
    r_k, angle_k = np.linalg.norm(off_kc, axis=1), np.arctan2(off_kc[:, 1], off_kc[:, 0])
    ring = np.flatnonzero(np.abs(r_k - radius) < width)
    ring = ring[np.argsort(angle_k[ring])]
    inside = {k for k in range(n) if abs(r_k[k] - radius) < 2.5 * width}
    total = 0.0
    for start, end in zip(ring, np.roll(ring, -1), strict=True):
        reached, front = {int(start): 0.0}, [int(start)]
        while int(end) not in reached:
            front = [j for i in front for j in step[i] if j in inside and j not in reached
                     and reached.setdefault(j, reached[i] + step[i][j]) is not None]  # fmt: skip
        total += reached[int(end)]
    return total


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("radius", [6.0, 10.0, 15.0])
def test_differences_round_the_core_of_an_elastic_screw_add_up_to_its_burgers_vector(radius, sign):
    x_nc, u_n, burgers = screw(sign=sign)
    found = differential_displacements(x_nc, u_n, burgers)
    assert circulation(found, (0.0, 0.0), radius) == pytest.approx(1.0, abs=1e-9)  # in Burgers vectors
    assert circulation(differential_displacements(x_nc, u_n, abs(burgers)), (0.0, 0.0), radius) == pytest.approx(sign)


def test_beside_the_core_they_add_up_to_nothing():
    found = differential_displacements(*screw())
    assert circulation(found, (13.0, 4.0), 6.0) == pytest.approx(0.0, abs=1e-9)


def test_the_three_columns_round_an_easy_core_make_three_even_steps():
    found = differential_displacements(*screw())
    trio = np.argsort(np.linalg.norm(found.place_kc, axis=1))[:3]
    steps = found.difference_p[np.isin(found.pair_pk, trio).all(axis=1)]
    np.testing.assert_allclose(np.abs(steps), 1.0 / 3.0, atol=0.02)
    assert len(steps) == 3


def test_columns_of_body_centred_crystals_along_a_diagonal_have_six_neighbours_and_three_heights():
    found = differential_displacements(*screw())
    assert found.n_heights == 3
    inner = np.flatnonzero(np.linalg.norm(found.place_kc, axis=1) < 15.0)
    count_k = np.bincount(found.pair_pk.reshape(-1), minlength=len(found.place_kc))
    assert (count_k[inner] == 6).all()


def test_columns_of_several_sites_have_the_mean_modulo_the_burgers_vector():
    x_nc, u_n, burgers = screw(periods=3)
    one = differential_displacements(*screw())
    shifted_n = u_n + burgers * np.random.default_rng(0).integers(-2, 3, len(u_n))
    for values_n in (u_n, shifted_n):
        three = differential_displacements(x_nc, values_n, burgers)
        assert len(three.place_kc) == len(one.place_kc)
        assert np.abs(np.abs(three.difference_p) - np.abs(one.difference_p)).max() < 1e-6


def test_the_perfect_crystal_has_no_differences():
    x_nc, u_n, burgers = screw()
    assert not differential_displacements(x_nc, np.full_like(u_n, 0.7), burgers).difference_p.any()
