"""Fingerprints of cores of relaxed and of displaced cells."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.analysis.dislocation_cores import core_state
from parmlip.config import Relax
from parmlip.crystal.dislocation_disc import build_disc
from parmlip.crystal.dislocations import Dislocations, build_dislocations
from parmlip.crystal.lattices import lattice_named
from parmlip.mechanics.bulk import bulk_properties
from parmlip.mechanics.clamped import ClampedEnergy
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.relax import relax
from parmlip.potentials import bond_order, eam
from parmlip.potentials.eam_files import read_setfl
from parmlip.units import GPA_PER_EV_A3
from tests.potentials.eam_cells import potential_file

SCREW = Dislocations("quadrupole", (1, 1, 1), (-1, 1, 0), (0.5, 0.5, 0.5), polarity=0.107)
EDGE = Dislocations("quadrupole", (1, -1, 0), (0, 0, 1), (0.5, 0.5, 0.0))


@pytest.fixture(scope="module")
def tungsten():
    law = eam.builtin("W-Zhou", (5.0, 6.0))
    return law, bulk_properties(law, lattice_named("bcc"), ("W",))


@pytest.fixture(scope="module")
def silicon():
    law = bond_order.builtin("Si-PPM2017", "lammps")
    return law, bulk_properties(law, lattice_named("diamond"), ("Si",))


def relaxed(law, bulk, asked, repeats, species):
    """Cell, displacement, energy against the perfect crystal, iterations."""
    made = build_dislocations(bulk.lattice, bulk.lattice_constant, repeats, species, asked)
    energy = Energy(law, made.supercell, comm=MPI.COMM_SELF)
    settings = Relax(method="lbfgs", force_tolerance=1e-6)
    found = relax(energy, made.predictor(bulk.relaxed_vv), settings)
    total = energy.total(np.zeros_like(found.u_nd)) - made.supercell.n_sites * bulk.energy_per_site + found.energy
    return made, found.u_nd, total, found.iterations


@pytest.mark.parametrize(
    ("repeats", "energy"), [((4, 4, 1), 6.290624), ((6, 5, 1), 7.356690), ((8, 7, 1), 8.366177), ((12, 10, 1), 9.59881)]
)
def test_tilted_dipoles_of_tungsten_have_the_prototypes_energies(tungsten, repeats, energy):
    _, _, total, _ = relaxed(*tungsten, replace(SCREW, kind="dipole"), repeats, ("W",))
    assert total == pytest.approx(energy, abs=2e-6)


def test_a_quadrupole_of_tungsten_has_the_prototypes_energy_and_its_cores_stay_polarised(tungsten):
    made, u, total, iterations = relaxed(*tungsten, SCREW, (12, 21, 1), ("W",))
    assert total == pytest.approx(19.3574, abs=5e-5)
    assert iterations <= 15
    state = core_state(made, tungsten[1].relaxed_vv, u)
    np.testing.assert_allclose(state.position_nc, [c.position for c in made.cores], atol=0.05)
    contents = [state.burgers_nc[n] @ c.burgers / np.dot(c.burgers, c.burgers) for n, c in enumerate(made.cores)]
    np.testing.assert_allclose(contents, 1.0, atol=1e-12)
    np.testing.assert_allclose(state.polarity_n, 0.104, atol=0.002)
    assert (state.spread_n < 2.5).all()


def test_the_papers_quadrupole_of_tungsten_relaxes_in_fifteen_steps(tungsten):
    made, _, total, iterations = relaxed(*tungsten, SCREW, (49, 84, 1), ("W",))
    assert made.supercell.n_sites == 24696
    assert total == pytest.approx(28.45725, abs=5e-6)
    assert iterations <= 15


def test_the_start_decides_the_polarity(tungsten):
    made, u, _, _ = relaxed(*tungsten, replace(SCREW, polarity=-0.107), (12, 15, 1), ("W",))
    assert (core_state(made, tungsten[1].relaxed_vv, u).polarity_n < -0.1).all()


def test_quadrupoles_of_silicon_edges_are_fourfold_with_the_prototypes_energy(silicon):
    made, u, total, _ = relaxed(*silicon, EDGE, (28, 20, 1), ("Si",))
    assert total == pytest.approx(28.383202, abs=1e-5)
    state = core_state(made, silicon[1].relaxed_vv, u)
    assert state.perfect == 4
    assert state.n_miscoordinated == 0
    assert np.abs(state.position_nc - [c.position for c in made.cores]).max() < 0.5 * 3.84


def test_a_core_that_has_glided_is_seen_at_its_new_place(tungsten):
    _, bulk = tungsten
    made = build_dislocations(bulk.lattice, bulk.lattice_constant, (12, 21, 1), ("W",), SCREW)
    width, height = np.diag(made.orientation.lattice.cell_cc)[:2] * bulk.lattice_constant
    moved = tuple((c.position[0] / width, c.position[1] / height, np.sign(c.burgers[2])) for c in made.cores)
    moved = ((moved[0][0] + 1.0, *moved[0][1:]), *moved[1:])
    other = build_dislocations(
        bulk.lattice, bulk.lattice_constant, (12, 21, 1), ("W",), replace(SCREW, kind="given", core="auto", cores=moved)
    )
    state = core_state(made, bulk.relaxed_vv, other.predictor(bulk.relaxed_vv))
    shift = state.position_nc - [c.position for c in made.cores]
    assert shift[0] == pytest.approx([width, 0.0], abs=0.3)
    assert np.abs(shift[1:]).max() < 0.3


def test_the_perfect_crystal_has_no_burgers_vector(tungsten):
    _, bulk = tungsten
    made = build_dislocations(bulk.lattice, bulk.lattice_constant, (8, 12, 1), ("W",), SCREW)
    state = core_state(made, bulk.relaxed_vv, np.zeros((made.supercell.n_sites, 3)))
    assert np.abs(state.nye_ac).max() < 1e-12
    assert state.n_miscoordinated == 0


def test_screws_of_a_compound_start_on_a_saddle_and_noise_finds_lower_states_with_their_cores():
    law = read_setfl(potential_file("NiAlH_jea.eam.alloy"))
    bulk = bulk_properties(law, lattice_named("b2"), ("Ni", "Al"))
    asked = Dislocations("quadrupole", (0, 0, 1), (0, 1, 0), (0.0, 0.0, 1.0))
    _, _, symmetric, _ = relaxed(law, bulk, asked, (20, 20, 1), ("Ni", "Al"))
    made, u, broken, _ = relaxed(law, bulk, replace(asked, noise=0.03), (20, 20, 1), ("Ni", "Al"))
    assert broken < symmetric - 0.1
    np.testing.assert_allclose(core_state(made, bulk.relaxed_vv, u).burgers_nc, [c.burgers for c in made.cores])


def test_the_core_of_the_four_parameter_law_is_not_polarised_and_its_hard_core_becomes_an_easy_one_beside_it():
    law = eam.builtin("W-EAM4")
    bulk = bulk_properties(law, lattice_named("bcc"), ("W",))
    made, u, easy, _ = relaxed(law, bulk, SCREW, (12, 15, 1), ("W",))
    state = core_state(made, bulk.relaxed_vv, u)
    assert np.abs(state.polarity_n).max() < 1e-3
    assert np.abs(state.position_nc - [c.position for c in made.cores]).max() < 0.05
    made, u, hard, _ = relaxed(law, bulk, replace(SCREW, core="hard", polarity=0.0), (12, 15, 1), ("W",))
    shift = np.linalg.norm(core_state(made, bulk.relaxed_vv, u).position_nc - [c.position for c in made.cores], axis=1)
    # centres of neighbouring triangles are a sqrt(2) / 3 apart
    np.testing.assert_allclose(shift, bulk.lattice_constant * 2**0.5 / 3, atol=0.1)
    assert hard == pytest.approx(easy, abs=0.2)


def test_the_tilt_leaves_a_hundredth_of_the_stress_of_an_untilted_cell(tungsten):
    law, bulk = tungsten
    stress = {}
    for kind in ("dipole", "given"):
        if kind == "dipole":
            made = build_dislocations(
                bulk.lattice, bulk.lattice_constant, (12, 10, 1), ("W",), replace(SCREW, kind="dipole")
            )
            at = [c.position for c in made.cores]
        else:
            width, height = np.diag(made.orientation.lattice.cell_cc)[:2] * bulk.lattice_constant
            cores = tuple((x / width, y / height, s) for (x, y), s in zip(at, (1.0, -1.0), strict=True))
            made = build_dislocations(
                bulk.lattice, bulk.lattice_constant, (12, 10, 1), ("W",), replace(SCREW, kind="given", cores=cores)
            )
        energy = Energy(law, made.supercell, comm=MPI.COMM_SELF)
        found = relax(energy, made.predictor(bulk.relaxed_vv), Relax(method="lbfgs", force_tolerance=1e-5))
        virial = energy.virial(found.u_nd) / made.supercell.volume * GPA_PER_EV_A3
        stress[kind] = np.abs([virial[0, 2], virial[1, 2]]).max()
    assert stress["given"] > 1.0
    assert stress["dipole"] < 0.02 * stress["given"]


COPPER = {"line": (1, 1, -2), "plane": (1, 1, 1), "burgers": (0.5, -0.5, 0.0)}


def test_edges_of_copper_that_annihilate_and_leave_stacking_faults_are_gone_whatever_circuits_say():
    law = eam.builtin("Cu-Mishin2001", None)
    bulk = bulk_properties(law, lattice_named("fcc"), ("Cu",))
    asked = Dislocations("quadrupole", **COPPER, noise=0.01)
    made, u, _, _ = relaxed(law, bulk, asked, (40, 12, 1), ("Cu",))
    state = core_state(made, bulk.relaxed_vv, u)
    burgers = np.array([c.burgers for c in made.cores])
    circuits = np.sum(state.burgers_nc * burgers, axis=1) / np.sum(burgers**2, axis=1)
    assert (np.abs(circuits) > 0.9).any()  # the trap
    np.testing.assert_allclose(state.density_n, 0.0, atol=1e-3)
    assert not state.present(burgers).any()


def test_a_dissociated_edge_of_copper_alone_in_a_disc_is_present():
    law = eam.builtin("Cu-Mishin2001", None)
    bulk = bulk_properties(law, lattice_named("fcc"), ("Cu",))
    made = build_disc(bulk.lattice, bulk.lattice_constant, ("Cu",), **COPPER, radius=30.0, rim=14.6)
    energy = ClampedEnergy(law, made.supercell, made.free_a, comm=MPI.COMM_SELF)
    found = relax(
        energy,
        made.predictor(bulk.relaxed_vv),
        Relax(method="lbfgs", force_tolerance=1e-3, max_iterations=500),
    )
    state = core_state(made, bulk.relaxed_vv, found.u_nd)
    assert state.present(np.array([made.core.burgers])).all()
    assert 0.5 < state.density_n[0] < 1.0
    assert 5.0 < state.spread_n[0] < 12.0  # two partials
    assert (np.abs(state.nye_ac).max(axis=1)[~made.free_a] == 0.0).all()


def test_a_crystal_without_dislocations_has_none_of_those_that_were_wanted(tungsten):
    law, bulk = tungsten
    made = build_dislocations(bulk.lattice, bulk.lattice_constant, (8, 14, 1), ("W",), SCREW)
    state = core_state(made, bulk.relaxed_vv, np.zeros((made.supercell.n_sites, 3)))
    assert not state.present(np.array([c.burgers for c in made.cores])).any()
