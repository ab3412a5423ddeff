"""The bulk Green's function: inverse of the perfect crystal's Hessian, symmetric and definite on defective ones."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.defects import Interstitial, Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import Supercell, build_supercell
from parmlip.errors import ConfigError
from parmlip.mechanics import hessian
from parmlip.mechanics.bulk import relaxed_lattice
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.green import BulkGreen
from parmlip.mechanics.relax import bulk_green
from parmlip.numerics.lattice_fourier import UnstableLattice
from parmlip.potentials.eam import builtin

CASES = [
    ("W-EAM4", "bcc", (4, 3, 5)),
    ("Cu-Mishin2001", "fcc", (2, 3, 1)),  # smaller than the cutoff
    ("W-EAM4", "triangular", (8, 7, 1)),
    ("W-EAM4", "chain", (11, 1, 1)),
]


def perfect(name: str, lattice: str, repeats: tuple[int, int, int]) -> tuple:
    """A law and its perfect supercell."""
    law = builtin(name)
    species = law.species[:1]
    shape, a0 = relaxed_lattice(law, LATTICES[lattice], species)
    return law, build_supercell(shape, a0, repeats, species)


def balanced(energy: Energy, seed: int) -> np.ndarray:
    """Random forces without resultant, by global site number."""
    f_ad = np.random.default_rng(seed).standard_normal((energy.supercell.n_sites, energy.dimension))
    return energy.sites.restrict(f_ad - f_ad.mean(axis=0))


def defective(name: str, lattice: str, repeats: tuple[int, int, int]) -> tuple:
    """The same with a vacancy and an interstitial."""
    law, supercell = perfect(name, lattice, repeats)
    defects = [
        Vacancy(at=(0, 0, 0)),
        Interstitial(
            position=(1.31, 0.37, 0.21)[: supercell.dimension] + (0,) * (3 - supercell.dimension),
            species=law.species[0],
        ),
    ]
    return law, apply_defects(supercell, defects)


@pytest.mark.mpi
@pytest.mark.parametrize(("name", "lattice", "repeats"), CASES)
def test_hessian_of_the_perfect_crystal_undoes_it(name, lattice, repeats, comm):
    law, supercell = perfect(name, lattice, repeats)
    energy = Energy(law, supercell, comm=comm)
    green = BulkGreen(law, supercell, energy.sites)
    f_nd = balanced(energy, seed=1)
    matrix = hessian.assembled(energy, np.zeros_like(f_nd))
    x, y = matrix.createVecs()
    x.getArray()[:] = green(f_nd).reshape(-1)
    matrix.mult(x, y)
    error = comm.allreduce(np.abs(y.getArray().reshape(f_nd.shape) - f_nd).max(initial=0.0), MPI.MAX)
    assert error < 1e-11


@pytest.mark.mpi
@pytest.mark.parametrize(("name", "lattice", "repeats"), CASES)
def test_it_is_symmetric_definite_and_the_same_on_any_number_of_ranks(name, lattice, repeats, comm):
    law, supercell = defective(name, lattice, repeats)
    serial = Energy(law, supercell, comm=MPI.COMM_SELF)
    energy = Energy(law, supercell, comm=comm)
    alone, shared = BulkGreen(law, supercell, serial.sites), BulkGreen(law, supercell, energy.sites)
    f, g = (balanced(serial, seed) for seed in (1, 2))
    assert np.vdot(f, alone(g)) == pytest.approx(np.vdot(g, alone(f)), rel=1e-12)
    assert np.vdot(f, alone(f)) > 0.0
    whole = energy.sites.gather_to_all(shared(balanced(energy, 1)))
    np.testing.assert_allclose(whole, alone(f)[np.argsort(serial.sites.global_n)], rtol=0, atol=1e-13 * np.abs(f).max())
    np.testing.assert_allclose(whole.sum(axis=0), 0.0, atol=1e-11)


@pytest.mark.mpi(2)
def test_an_unstable_crystal_is_refused_and_relaxation_goes_on_without_it(comm, caplog):
    law = builtin("Cu-Mishin2001")
    _, a0 = relaxed_lattice(law, LATTICES["diamond"], ("Cu",))
    energy = Energy(law, build_supercell(LATTICES["diamond"], a0, (2, 2, 2), ("Cu",)), comm=comm)
    with pytest.raises(UnstableLattice, match=r"not stable: at wave vector \("):
        BulkGreen(law, energy.supercell, energy.sites)
    assert bulk_green(energy) is None
    assert "algebraic multigrid" in caplog.text or comm.rank > 0


def test_a_configuration_without_a_grid_has_none():
    law, supercell = perfect("W-EAM4", "bcc", (2, 2, 2))
    bare = Supercell(
        supercell.cell_cc, supercell.periodic, supercell.positions_ac, supercell.species_a, supercell.species, 3
    )
    energy = Energy(law, bare, comm=MPI.COMM_SELF)
    with pytest.raises(ConfigError, match="read from a file has no perfect"):
        BulkGreen(law, bare, energy.sites)
    assert bulk_green(energy) is None
