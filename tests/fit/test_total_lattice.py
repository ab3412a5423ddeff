"""Matching conditions of laws of whole structures: periodic cells against site laws, labels and rows, whole runs."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import loads
from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.supercell import supercell_from_arrays
from parmlip.errors import ConfigError, DataError
from parmlip.fit.lattice_observations import CauchyBornDerivative
from parmlip.fit.patches import Crystal
from parmlip.fit.periodic_observations import PeriodicForceDerivative
from parmlip.fit.total_derivatives import ByDifferences, ByResponse, PerfectCell
from parmlip.fit.total_lattice import in_one_cell, observed, periodic_observations, total_lattice_labels
from parmlip.io.hdf5 import ResultFile
from parmlip.io.reference_cache import CachedLaw, ReferenceCache
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.mechanics.energy import Energy
from parmlip.pipeline import refit, run
from parmlip.potentials import stillinger_weber
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.tight_binding import builtin
from parmlip.potentials.total import Evaluated

DIAMOND = Crystal(lattice_named("diamond"), 5.431, ("Si",))
NAMES = ("force_derivative_1", "force_derivative_2", "cauchy_born_1", "cauchy_born_2", "cauchy_born_3")


class Whole:
    """A site law that tells whole structures only."""

    species, closest = ("Si",), 0.0

    def __init__(self, law, *, virial=True):
        self.law, self.virial = law, virial

    def evaluate(self, cell_cc, periodic, positions_ac, symbols):
        cell = supercell_from_arrays(cell_cc, periodic, positions_ac, list(symbols), 3)
        energy = Energy(self.law, cell, comm=MPI.COMM_SELF)
        u_nd = np.zeros((cell.n_sites, 3))
        _, f_nd = energy.difference_and_forces(u_nd)
        forces_ac = energy.sites.gather_to_all(f_nd)
        return Evaluated(energy.total(u_nd), forces_ac, energy.virial(u_nd) if self.virial else None)


def cached(law, directory):
    return CachedLaw(law, ReferenceCache(directory / "kept.h5", {"of": repr(type(law))}))


def labels(law, names, directory, comm, crystal=DIAMOND, repeats=(1, 1, 1)):
    asked = periodic_observations(names, crystal, repeats, 0.1)
    return total_lattice_labels(cached(law, directory), asked, crystal, repeats, comm=comm, ranks_per_group=1), asked


def test_labels_by_differences_are_those_of_the_site_law_within_their_error(tmp_path):
    law = stillinger_weber.builtin("Si-SW")
    found, asked = labels(Whole(law), NAMES[:-1], tmp_path, MPI.COMM_SELF)
    for name in NAMES[:-1]:
        (of,) = asked[name]
        exact = of.values(law)
        assert found.values[name].shape == exact.shape
        # weights and symmetry multiply the errors
        scale = 1.0 if name.startswith("cauchy") else np.sqrt(24 * 2) * np.exp(0.2 * 2 * 5.0)
        assert np.abs(found.values[name] - exact).max() <= scale * found.errors[name] + 1e-8
        assert np.abs(found.values[name] - exact).max() <= 1e-2 * np.abs(exact).max() + 1e-8


def unit_cell(law):
    """Derivatives by differences in one cell."""
    perfect = PerfectCell(DIAMOND.lattice, DIAMOND.lattice_constant, (1, 1, 1), DIAMOND.species)
    return ByDifferences(perfect, lambda structure: Whole(law).evaluate(*structure))


@pytest.mark.parametrize(("order", "part"), [(3, 1), (3, 2), (4, 1), (4, 12)])
def test_higher_cauchy_born_derivatives_by_differences_are_those_of_the_site_law(order, part):
    law = stillinger_weber.builtin("Si-SW")
    of = CauchyBornDerivative(DIAMOND, order)
    found, exact = observed(of, part, unit_cell(law)), of.values(law, part)
    scale_o = of.components(part)[1]
    assert (np.abs(found.values - exact) / scale_o).max() <= found.error
    assert 0.0 < found.error < 1e-2 * np.abs(exact / scale_o).max()


def test_a_killed_run_goes_on_with_the_structures_that_were_answered(tmp_path):
    class Dying(Whole):
        left, asked = 30, 0

        def evaluate(self, *structure):
            if self.left == 0:
                raise DataError("killed")
            self.left, self.asked = self.left - 1, self.asked + 1
            return super().evaluate(*structure)

    law, cubic = Dying(stillinger_weber.builtin("Si-SW")), Crystal(lattice_named("sc"), 2.6, ("Si",))
    with pytest.raises(DataError, match="killed"):
        labels(law, ("cauchy_born_4",), tmp_path, MPI.COMM_SELF, cubic)
    law.left = -1
    found, asked = labels(law, ("cauchy_born_4",), tmp_path, MPI.COMM_SELF, cubic)
    (of,) = asked["cauchy_born_4"]
    scale_o = np.concatenate([of.components(part)[1] for part in range(of.n_parts)])
    assert (np.abs(found.values["cauchy_born_4"] - of.values(law.law)) / scale_o).max() <= found.errors["cauchy_born_4"]
    with h5py.File(tmp_path / "kept.h5") as file:
        assert sum(map(len, file.values())) == law.asked > 30


@pytest.mark.parametrize("last", [[0, 0], [9, 4]])
def test_fourth_cauchy_born_derivatives_by_differences_converge_with_the_fourth_power_of_the_step(last):
    """Against the third derivatives of the site law, differentiated once with short steps."""
    law = stillinger_weber.builtin("Si-SW")
    exact = CauchyBorn(law, DIAMOND.lattice, DIAMOND.lattice_constant, DIAMOND.species).fourth_along(*last)[0][0]
    scales = np.array([1.5, 2.0, 3.0])
    errors, told = [], []
    for scale in scales:
        found = unit_cell(law).density_higher([0], last, scale)
        errors.append(np.abs(found.values[0] - exact).max())
        told.append(found.error)
    assert np.polyfit(np.log(scales), np.log(errors), 1)[0] == pytest.approx(4.0, abs=0.2)
    assert np.polyfit(np.log(scales), np.log(told), 1)[0] == pytest.approx(2.0, abs=0.1)


def test_fourth_cauchy_born_derivatives_of_tight_binding_converge_with_the_fourth_power_of_the_step():
    law = builtin("Si-NRLTB", electronic_temperature=0.3, k_points=(2, 2, 2))
    perfect = PerfectCell(DIAMOND.lattice, 5.4266, (1, 1, 1), DIAMOND.species)
    finest, fine, coarse = (ByResponse(perfect, law).density_higher([0], [1, 1], s) for s in (0.5, 1.0, 2.0))
    changes = [np.abs(a.values - b.values).max() for a, b in ((finest, fine), (fine, coarse))]
    assert np.log2(changes[1] / changes[0]) == pytest.approx(4.0, abs=0.2)
    assert changes[0] < 1e-2 * fine.error < 1e-5 * np.abs(fine.values).max()


@pytest.mark.parametrize("last", [[0, 0], [9, 1]])
def test_fourth_cauchy_born_derivatives_do_not_depend_on_which_are_by_differences(last):
    law = builtin("Si-NRLTB", electronic_temperature=0.3)
    perfect = PerfectCell(DIAMOND.lattice, 5.4266, (1, 1, 1), DIAMOND.species)
    one = ByResponse(perfect, law).density_higher([4], last)
    other = ByResponse(perfect, law).density_higher([last[0]], [4, last[1]])
    assert abs(one.values[0, 10] - other.values[0, 10]) <= 1e-2 * max(one.error, other.error)
    assert one.error < 1e-3 * np.abs(one.values).max()


@pytest.mark.parametrize(
    ("lattice", "species", "repeats"),
    [("diamond", ("Si",), (1, 1, 1)), ("diamond", ("Si",), (2, 1, 1)), ("b2", ("Si", "Si"), (2, 2, 2))],
)
def test_rows_of_one_tuple_of_each_orbit_have_the_square_sum_of_all(lattice, species, repeats):
    crystal = Crystal(lattice_named(lattice), {"diamond": 5.431, "b2": 3.0}[lattice], species)
    law = stillinger_weber.builtin("Si-SW")
    of = PeriodicForceDerivative(crystal, 1, repeats)
    n = of.perfect.cell.n_sites
    patch = of.patch(law.cutoff)
    tangent = patch.tangent_of_law(law)
    whole = 0.0
    for c in range(3):
        v_ac = np.zeros((n, 3))
        v_ac[0, c] = 1.0
        whole += (tangent(patch.r_pc, patch.bonds(v_ac)) ** 2).sum()
    assert len(of.symmetries) > 1
    assert sum(of.n_rows(p) for p in range(of.n_parts)) == len(of.values(law)) < 9 * n
    assert (of.values(law) ** 2).sum() == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_rows_times_coefficients_are_the_values_of_the_surrogate(order):
    basis = ACEBasis(species=("Si",), correlation_order=2, total_degree=5, cutoff=4.5, r0=2.35, r_in=1.8)
    law = ACE(basis, np.random.default_rng(1).standard_normal(basis.n_basis))
    of = PeriodicForceDerivative(DIAMOND, order, (1, 1, 1), gamma=0.1)
    for part in range(of.n_parts):
        rows = of.rows(basis, part)
        assert len(rows) == of.n_rows(part)
        values = of.values(law, part)
        np.testing.assert_allclose(rows @ law.coefficients, values, rtol=0, atol=1e-7 * np.abs(values).max() + 1e-9)


@pytest.mark.mpi
def test_labels_of_tight_binding_do_not_depend_on_the_number_of_ranks(comm, shared_tmp):
    law = builtin("Si-NRLTB", electronic_temperature=0.3)
    names = ("force_derivative_1", "cauchy_born_2")
    found, _ = labels(law, names, shared_tmp, comm)
    if comm.rank == 0:
        alone, asked = labels(law, names, shared_tmp, MPI.COMM_SELF)
        for name in names:
            np.testing.assert_array_equal(found.values[name], alone.values[name])
        assert found.errors == alone.errors == {"force_derivative_1": 0.0, "cauchy_born_2": 0.0}
    comm.Barrier()


@pytest.mark.mpi
def test_a_law_without_stress_is_told_after_one_structure(comm, shared_tmp):
    law = Whole(stillinger_weber.builtin("Si-SW"), virial=False)
    with pytest.raises(DataError, match="the law gives no stress"):
        labels(law, ("cauchy_born_2",), shared_tmp, comm)
    if comm.rank == 0:
        cache = ReferenceCache(shared_tmp / "kept.h5", {"of": repr(type(law))})
        cache.merge()
        with h5py.File(shared_tmp / "kept.h5") as file:
            assert sum(map(len, file.values())) == 1
    comm.Barrier()


def test_elastic_constants_of_tight_binding_are_derivatives_of_its_stress(tmp_path):
    law = builtin("Si-NRLTB", electronic_temperature=0.3, k_points=(2, 2, 2))
    found, _ = labels(law, ("cauchy_born_2", "cauchy_born_1"), tmp_path, MPI.COMM_SELF)
    h, a = 1e-3, DIAMOND.lattice_constant
    stress = []
    for sign in (1, -1):
        f_cc = np.diag([1.0 + sign * h, 1.0, 1.0])
        cell_cc = a * np.eye(3)
        positions_ac = DIAMOND.lattice.basis_bc @ cell_cc
        virial_cc = law.evaluate(cell_cc @ f_cc, (True,) * 3, positions_ac @ f_cc, ["Si"] * 8).virial_cc
        stress.append(-virial_cc[0, 0] / f_cc[0, 0] / a**3)
    # the first component of the joint tensor is d2 W / dF_xx dF_xx
    assert found.values["cauchy_born_2"][0] == pytest.approx((stress[0] - stress[1]) / (2 * h), rel=1e-4)


@pytest.mark.parametrize("scheme", ["gamma_centred", "monkhorst_pack"])
@pytest.mark.parametrize("k_points", [(1, 3, 1), (2, 2, 2), (1, 2, 1)])
def test_deformations_of_one_cell_with_all_k_points_are_those_of_the_supercell(scheme, k_points):
    law = builtin("Si-NRLTB", electronic_temperature=0.3, fermi_level=5.9, k_points=k_points, k_scheme=scheme)
    repeats = (2, 1, 1)
    perfect = PerfectCell(DIAMOND.lattice, DIAMOND.lattice_constant, repeats, DIAMOND.species)
    of_all, of_one = ByResponse(perfect, law), in_one_cell(DIAMOND, repeats, law)
    kept = scheme == "monkhorst_pack" and k_points == (1, 2, 1)
    assert (of_one.perfect.cell.n_sites < perfect.cell.n_sites) != kept
    exact = of_all.density_second().values
    np.testing.assert_allclose(of_one.density_second().values, exact, rtol=0, atol=1e-10 * np.abs(exact).max())


INPUT = """
[run]
stages = ["build", "reference", "train"]
output = "{output}"
[crystal]
lattice = "{lattice}"
species = ["{symbol}"]
lattice_constant = {a}
[reference]
{reference}
[simulation]
cell = [1, 1, 1]
[[training]]
cell = [1, 1, 1]
relax = false
samples = 2
test_samples = 1
[surrogate]
cutoff = {cutoff}
total_degree = 5
correlation_order = 2
[fit]
solver = "rrqr"
tolerance = 1e-8
observations = {observations}
weights = {{ energy = 10.0, force = 1.0, force_derivative_1 = 10.0, cauchy_born_2 = 10.0 }}
"""
SILICON = 'kind = "tight_binding"\nparameters = "Si-NRLTB"\nelectronic_temperature = 0.3'
COPPER = 'kind = "ase"\ncalculator = "ase.calculators.emt.EMT"\noptions = { asap_cutoff = true }'
FITTED = ["force_derivative_1", "cauchy_born_2"]
RUNS = {
    "tight binding": {"lattice": "diamond", "symbol": "Si", "a": 5.43, "reference": SILICON, "cutoff": 4.5,
                      "observations": [*FITTED, "cauchy_born_4"]},
    "calculator": {"lattice": "fcc", "symbol": "Cu", "a": 3.61, "reference": COPPER, "cutoff": 4.5,
                   "observations": [*FITTED, "cauchy_born_3"]},
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_an_input_fits_force_constants_and_cauchy_born_derivatives_of_such_a_law(name, tmp_path):
    run(loads(INPUT.format(output=tmp_path / "a.h5", **RUNS[name])), MPI.COMM_SELF)
    file = ResultFile(tmp_path / "a.h5")
    matching = file.read("train", "matching")
    assert set(matching) == {"energy", "force", *RUNS[name]["observations"]}
    for observation in FITTED:
        assert matching[observation]["relative"] < 0.2
    errors = file.read("label", "lattice_errors")
    assert set(errors) == set(RUNS[name]["observations"])
    # weighing them more makes them smaller: they are in the fit
    heavy = loads(INPUT.format(output=tmp_path / "b.h5", **RUNS[name]), ["fit.weights.cauchy_born_2=1e6"])
    refit(heavy, tmp_path / "a.h5", MPI.COMM_SELF)
    again = ResultFile(tmp_path / "b.h5").read("train", "matching")
    assert again["cauchy_born_2"]["rmse"] < matching["cauchy_born_2"]["rmse"]


@pytest.mark.parametrize("name", ["site_energy_1", "force_derivative_3", "hessian"])
def test_what_such_a_law_cannot_give_is_refused_before_any_work(name, tmp_path):
    text = INPUT.format(output=tmp_path / "a.h5", **RUNS["tight binding"])
    with pytest.raises(ConfigError, match=rf'{name}: \[reference\] kind = "tight_binding" gives only energy'):
        loads(text, [f"fit.weights.{name}=1.0"])
    with pytest.raises(ConfigError, match=rf"observations: {name}: "):
        loads(text, [f"fit.observations=['{name}']"])
