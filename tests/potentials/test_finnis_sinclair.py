"""The law of Finnis and Sinclair for tungsten, on the triangular lattice, where its cutoffs are far from the shells."""

import numpy as np
import pytest

from parmlip.crystal.lattices import LATTICES
from parmlip.mechanics.bulk import bulk_properties
from parmlip.potentials.eam import builtin
from tests.potentials.eam_cells import BCC, crystal, radial
from tests.potentials.silicon_cells import orders


def test_the_bcc_crystal_has_the_energy_and_lattice_constant_it_was_fitted_to():
    bulk = bulk_properties(builtin("W-FS84"), LATTICES["bcc"], ("W",))
    assert bulk.lattice_constant == pytest.approx(3.1652, abs=1e-4)
    assert bulk.energy_per_site == pytest.approx(-8.90, abs=0.005)


def test_its_functions_have_the_derivatives_of_their_complex_steps_and_end_at_their_cutoffs():
    law = builtin("W-FS84")
    r_k = np.linspace(2.2, 4.3, 40)
    table = radial(law, 0, 0, r_k)
    stepped = radial(law, 0, 0, r_k + 1e-20j).imag / 1e-20
    for value, derivative in ((0, 1), (1, 2), (3, 4), (4, 5)):
        np.testing.assert_allclose(
            stepped[:, value], table[:, derivative], atol=1e-12 * abs(table[:, derivative]).max()
        )
    assert np.abs(radial(law, 0, 0, np.array([3.25]))[0, :2]).max() == 0.0
    assert np.abs(radial(law, 0, 0, np.array([4.400224]))[0, 3:5]).max() == 0.0


def test_differences_converge_with_order_two_where_no_pair_is_near_a_cutoff():
    cell = crystal(builtin("W-FS84"), BCC, 2.9, rattle=0.02)
    assert orders(cell, np.array([4e-3, 2e-3, 1e-3])) == pytest.approx([2.0, 2.0, 2.0], abs=0.1)
