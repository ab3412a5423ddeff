"""The repulsive core of embedded-atom laws that end at a shortest distance."""

import numpy as np
import pytest
from ase.data import atomic_numbers
from mpi4py import MPI

from parmlip.config import loads
from parmlip.construct import reference_law
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import supercell_from_arrays
from parmlip.errors import ConfigError, GeometryError
from parmlip.mechanics.bulk import bulk_properties
from parmlip.mechanics.energy import Energy
from parmlip.potentials.eam import builtin
from parmlip.potentials.zbl import ZBL
from tests.potentials.eam_cells import BCC, Cell, crystal, radial
from tests.potentials.silicon_cells import orders

LAW = builtin("W-EAM4")
CORE = LAW.with_core()
# distances 1.55, 1.93 and 2.78 A: in the core, where it ends, and outside; none near a knot, where W-EAM4 has a kink
TRIANGLE = np.array([[0.0, 0.0, 0.0], [1.55, 0.0, 0.0], [-0.848, 1.734, 0.0]])


def cluster(law):
    return Cell(law, 30.0 * np.eye(3), TRIANGLE, np.zeros(3, int), periodic=(False,) * 3)


def test_beyond_its_shortest_distance_the_law_is_unchanged():
    r_k = np.linspace(2.06, 5.4, 200)
    assert np.array_equal(radial(CORE, 0, 0, r_k), radial(LAW, 0, 0, r_k))
    first, second = (bulk_properties(law, LATTICES["bcc"], ("W",)) for law in (LAW, CORE))
    assert second.lattice_constant == pytest.approx(first.lattice_constant, rel=1e-13)
    np.testing.assert_allclose(second.relaxed_vv, first.relaxed_vv, atol=1e-11 * np.abs(first.relaxed_vv).max())


def test_at_short_distance_it_is_the_repulsion_of_nuclei_at_the_density_of_the_published_table():
    r_k = np.linspace(0.2, 1.02, 30)
    z = float(atomic_numbers["W"])
    found = radial(CORE, 0, 0, r_k)
    expected = ZBL(("W",), 5.0, 6.0).pair_energy(r_k, np.full(30, z), np.full(30, z))
    np.testing.assert_allclose(found[:, :3].T, expected, rtol=1e-13)
    np.testing.assert_allclose(found[:, 3], 1.1935471577929, rtol=1e-6)  # of w_eam4.fs below 2.0029 A
    assert np.abs(found[:, 4:]).max() == 0.0


def test_the_repulsion_falls_all_the_way_and_no_derivative_up_to_the_third_jumps():
    r_k = np.linspace(0.2, 2.4, 4001)
    table = radial(CORE, 0, 0, r_k)
    assert np.all(np.diff(table[:, 0]) < 0.0)
    stepped = radial(CORE, 0, 0, r_k + 1e-20j).imag / 1e-20
    for value, derivative in ((0, 1), (1, 2), (3, 4), (4, 5)):
        scale = 1.0 + np.abs(table[:, derivative])
        assert np.abs((stepped[:, value] - table[:, derivative]) / scale).max() < 1e-12
    for end in (0.5 * 2.06, 0.85 * 2.06, 2.06):
        either_side = radial(CORE, 0, 0, end + np.array([-1e-9 + 1e-20j, 1e-9 + 1e-20j]))
        values, thirds = either_side.real, either_side[:, [2, 5]].imag / 1e-20
        np.testing.assert_allclose(values[0], values[1], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(thirds[0], thirds[1], rtol=1e-5, atol=1e-3)


def test_energy_forces_and_hessian_are_derivatives_of_each_other_in_the_core():
    assert orders(cluster(CORE), np.array([4e-3, 2e-3, 1e-3])) == pytest.approx([2.0, 2.0, 2.0], abs=0.1)
    hessian = cluster(CORE).hessian()
    v_ac = np.random.default_rng(2).normal(size=(3, 3))
    expected = cluster(CORE).hessian_times(np.zeros((3, 3)), v_ac).ravel()
    np.testing.assert_allclose(hessian @ v_ac.ravel(), expected, atol=1e-12 * np.abs(expected).max())
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12 * np.abs(hessian).max())


def test_site_energies_share_a_pair_evenly_and_add_up():
    cell = cluster(CORE)
    energy_n = CORE.site_energies(cell.environments())
    np.testing.assert_allclose(energy_n, CORE.site_gradients(cell.environments())[0], rtol=1e-14)
    dimer = Cell(CORE, 30.0 * np.eye(3), TRIANGLE[:2], np.zeros(2, int), periodic=(False,) * 3)
    energy_n = CORE.site_energies(dimer.environments())
    assert energy_n[0] == energy_n[1]
    phi, density = radial(CORE, 0, 0, np.array([1.55]))[0, [0, 3]]
    a_1, a_2 = LAW.forms.constants[-2:]
    assert energy_n[0] == pytest.approx(0.5 * phi + a_1 * np.sqrt(density) + a_2 * density**2, rel=1e-13)


def test_close_sites_are_refused_without_the_core_and_evaluated_with_it():
    cell = supercell_from_arrays(30.0 * np.eye(3), (False,) * 3, TRIANGLE, ["W"] * 3, 3)
    with pytest.raises(GeometryError, match="the law is valid from 2.06"):
        Energy(LAW, cell, comm=MPI.COMM_SELF).total(np.zeros((3, 3)))
    expected = cluster(CORE).energy()
    assert Energy(CORE, cell, comm=MPI.COMM_SELF).total(np.zeros((3, 3))) == pytest.approx(expected, rel=1e-13)


def test_a_taper_may_come_before_or_after_the_core():
    before, after = LAW.tapered(5.0, 5.4).with_core(), CORE.tapered(5.0, 5.4)
    cell = crystal(before, BCC, 3.14, rattle=0.3)
    assert np.linalg.norm(cell.environments().r_pc, axis=1).min() < 2.06
    assert np.array_equal(before.site_energies(cell.environments()), after.site_energies(cell.environments()))


def test_the_input_file_asks_for_the_core():
    text = '[run]\nstages = ["build"]\n[crystal]\nlattice = "bcc"\nspecies = ["W"]\n[simulation]\ncell = [2, 2, 2]\n'
    text += '[reference]\nparameters = "W-EAM4"\n'
    r_k = np.array([0.8, 1.5, 2.5])
    for core, law in (("none", LAW), ("zbl", CORE)):
        found = reference_law(loads(text + f'core = "{core}"\n'))
        assert found.closest == law.closest
        assert np.array_equal(radial(found, 0, 0, r_k), radial(law, 0, 0, r_k))


def test_laws_without_a_shortest_distance_refuse_a_core():
    with pytest.raises(ConfigError, match=r'core = "zbl": .* such as W-EAM4; W-Zhou goes on to zero distance'):
        builtin("W-Zhou").with_core()
