"""Labels of entropies: levels, sums over sites, gradients, storage, ranks."""

from __future__ import annotations

import numpy as np
import pytest

from parmlip.crystal.defects import Interstitial, Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import DataError
from parmlip.fit.dataset import Dataset
from parmlip.fit.design import OBSERVATIONS
from parmlip.fit.entropy_labels import entropies_labelled, entropy_label, perfect_cell
from parmlip.fit.observations import configuration_of
from parmlip.fit.sampling import rattled
from parmlip.potentials.stillinger_weber import builtin
from tests.mechanics.entropy_cells import ORACLE, chain

LAW = builtin("Si-SW")
PERFECT = build_supercell(LATTICES["diamond"], 5.430949777364731, (2, 2, 2), ("Si",))
DEFECTS = {
    "bulk": [],
    "vacancy": [Vacancy((0, 0, 0))],
    "interstitial": [Interstitial("Si", position=(0.5, 0.5, 0.5))],
}


def state(kind, amplitude=0.03, index=0):
    cell = apply_defects(PERFECT, DEFECTS[kind])
    moved = rattled(cell.positions_ac, amplitude, "uniform", seed=3, index=(index,), dimension=3)
    return configuration_of(cell, kind, moved, difference=False), perfect_cell(LAW, PERFECT, cell)


def test_the_perfect_crystal_has_no_formation_entropy_and_no_site_entropies():
    for decomposition in ("relative", "absolute"):
        given = entropy_label(LAW, *state("bulk", 0.0), decomposition=decomposition, sites=True)
        assert abs(given.energy) < 1e-9
        assert np.abs(given.site_values_a).max() < 1e-10
        assert np.abs(given.forces_ac).max() < 1e-10


def test_the_formation_entropy_of_the_unrelaxed_vacancy_is_the_independent_one():
    given = entropy_label(LAW, *state("vacancy", 0.0))
    assert given.energy == pytest.approx(3.529160525486077, abs=1e-6)  # this vacancy does not relax


@pytest.mark.parametrize("decomposition", ["relative", "absolute"])
def test_site_entropies_and_their_gradients_add_up_to_the_whole_in_bulk(decomposition):
    given = entropy_label(LAW, *state("bulk"), decomposition=decomposition, site_gradients=True)
    assert given.site_values_a.sum() == pytest.approx(given.energy, abs=1e-9)
    np.testing.assert_allclose(given.site_gradients_aac.sum(axis=0), -given.forces_ac, atol=1e-11)


@pytest.mark.parametrize("kind", ["vacancy", "bulk"])
def test_gradients_of_labels_are_the_differences_of_labels(kind):
    here, perfect = state(kind)
    given = entropy_label(LAW, here, perfect, site_gradients=True)
    along = np.random.default_rng(4).standard_normal(here.positions_ac.shape)

    def values(h):
        moved = configuration_of(apply_defects(PERFECT, DEFECTS[kind]), kind, here.positions_ac + h * along)
        of = entropy_label(LAW, moved, perfect, sites=True)
        return np.append(of.site_values_a, of.energy)

    fine, coarse = ((values(h) - values(-h)) / (2.0 * h) for h in (1e-4, 2e-4))
    change = (4.0 * fine - coarse) / 3.0
    np.testing.assert_allclose(np.sum(given.site_gradients_aac * along, axis=(1, 2)), change[:-1], atol=1e-8)
    assert -np.sum(given.forces_ac * along) == pytest.approx(change[-1], abs=2e-8)


@pytest.mark.mpi(3)
def test_labels_are_the_same_on_any_number_of_ranks_and_come_back_from_storage(comm):
    pairs = [state("bulk", index=i) for i in range(3)] + [state("vacancy", index=9)]
    perfect = {here.name: cell for here, cell in pairs}
    asked = {"sites": True, "site_gradients": True}
    found = entropies_labelled(LAW, [here for here, _ in pairs], perfect, comm=comm, what="labels", **asked)
    for (here, cell), labels in zip(pairs, Dataset.unpacked(found.packed()).labels, strict=True):
        alone = entropy_label(LAW, here, cell, **asked)
        assert labels.energy == alone.energy
        for name in ("site_entropy", "site_entropy_gradient"):
            values = OBSERVATIONS[name].values(here, labels)
            np.testing.assert_array_equal(values, OBSERVATIONS[name].values(here, alone))
            assert len(values) == {"site_entropy": here.n_sites}.get(name, 3 * here.n_sites**2)


@pytest.mark.mpi(2)
def test_a_state_that_is_no_minimum_is_told_with_its_number_and_type(comm):
    fine, cell = state("interstitial", 0.0)
    wild = configuration_of(apply_defects(PERFECT, DEFECTS["interstitial"]), "interstitial", fine.positions_ac)
    wild.positions_ac[3] += 0.8
    with pytest.raises(DataError, match=r"configuration 0 \(type 'interstitial'\): \d+ negative mode"):
        entropies_labelled(LAW, [wild], {"interstitial": cell}, comm=comm, what="labels")


@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_labels_of_an_impure_chain_of_several_species_are_the_independent_ones(delta):
    law, cell, u_ad = chain(delta)
    perfect = build_supercell(LATTICES["chain"], 1.0, (800, 1, 1), ("H",))
    moved = cell.positions_ac.copy()
    moved[:, :1] += u_ad
    here = configuration_of(cell, "chain", moved, difference=False)
    given = ORACLE["toy1d"]["res"][str(delta)]
    found = entropy_label(law, here, perfect_cell(law, perfect, cell), sites=True)
    assert found.energy == pytest.approx(given["S_total"], abs=1e-8)
    np.testing.assert_allclose(found.site_values_a[[0, 400]], [given["l0"]["S_l"], given["l400"]["S_l"]], atol=1e-10)
    absolute = entropy_label(law, here, perfect_cell(law, perfect, cell), sites=True, decomposition="absolute")
    assert absolute.site_values_a.sum() == pytest.approx(given["S_total"], abs=1e-8)
    assert absolute.site_values_a[0] - absolute.site_values_a[400] == pytest.approx(
        given["l0"]["S_l_logH"] - given["l400"]["S_l_logH"], abs=1e-8
    )
