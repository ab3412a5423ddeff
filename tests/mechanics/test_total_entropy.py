"""Total entropies: first-order trace, determinants, identities, methods, probes."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import Relax
from parmlip.crystal.defect_sites import equivalent_sites, sites_by_distance
from parmlip.crystal.defects import Divacancy, Interstitial, Substitution, Vacancy, apply_defects
from parmlip.crystal.lattices import LATTICES
from parmlip.crystal.supercell import build_supercell
from parmlip.errors import ConvergenceError
from parmlip.mechanics import hessian
from parmlip.mechanics.energy import Energy
from parmlip.mechanics.entropy_dense import dense_entropy
from parmlip.mechanics.entropy_reference import entropy_reference
from parmlip.mechanics.green_trace import trace_with
from parmlip.mechanics.log_determinant import log_determinant
from parmlip.mechanics.relax import relax
from parmlip.mechanics.resolvent import RelativeHessian
from parmlip.mechanics.site_entropy import site_entropies
from parmlip.mechanics.total_entropy import Work, total_entropy
from parmlip.potentials import stillinger_weber, toy
from parmlip.potentials.eam import builtin
from tests.mechanics.entropy_cells import ORACLE, defect
from tests.potentials.oracle_sections import splined_copper

SI, CU, W = stillinger_weber.builtin("Si-SW"), builtin("Cu-Mishin2001"), builtin("W-EAM4")
# Numbers of the oracle that tests/data/entropy_sites_oracle.json leaves out (shared/oracles/entropy.json, defects).
FORMATION = {"Si_vac_n2": 3.529160525486077, "Cu_vac_n3": 2.9066302623023716}
LOGDET_HOM = {"Si_vac_n2": 476.0306899688901, "Cu_vac_n3": 580.485522607421}
LOGDET_DEF = {"Si_vac_n2": 461.534389387154, "Cu_vac_n3": 569.2973961327475}
DUMBBELL = [Interstitial("Cu", site="dumbbell_100", at=(1, 1, 1))]


class Case:
    """A relaxed cell, or one at a given displacement."""

    def __init__(self, law, lattice, a, repeats, defects, comm, u_ad=None):
        self.law = law
        self.perfect = build_supercell(LATTICES[lattice], a, repeats, law.species[:1])
        self.cell = apply_defects(self.perfect, defects)
        self.energy = Energy(law, self.cell, comm=comm, margin=0.5 if u_ad is None else 0.02)
        if u_ad is None:
            start_ad = 0.02 * np.random.default_rng(1).standard_normal((self.cell.n_sites, self.cell.dimension))
            self.u_nd = relax(self.energy, self.energy.sites.restrict(start_ad), Relax(force_tolerance=1e-9)).u_nd
            self.energy = Energy(law, self.cell, comm=comm, margin=0.02)
        else:
            self.u_nd = self.energy.sites.restrict(u_ad)
        self.reference = entropy_reference(law, self.cell, comm=comm)

    def dense(self):
        perfect = Energy(self.law, self.perfect, comm=self.energy.comm)
        return dense_entropy(self.energy, perfect, self.u_nd, self.reference)

    def total(self, shell=False, **work):
        matrix = (hessian.operator if shell else hessian.assembled)(self.energy, self.u_nd)
        with RelativeHessian(matrix, self.law, self.cell, self.energy.sites) as relative:
            found = total_entropy(relative, self.energy, self.u_nd, Work(**work))
        matrix.destroy()
        return found


@pytest.mark.mpi(2)
@pytest.mark.parametrize("key", ["Si_vac_n2", "Cu_vac_n3"])
def test_vacancies_of_the_oracle(key, comm):
    law, cell, u_ad, _ = defect(key)
    if key[:2] == "Cu":
        law = splined_copper()  # the oracle's tables
    energy = Energy(law, cell, comm=comm)
    u_nd = energy.sites.restrict(u_ad)
    reference = entropy_reference(law, cell, comm=comm)
    tolerance = {"Si": 1e-7, "Cu": 1e-6}[key[:2]]  # splines of tables that were written with 16 digits
    assert reference.logdet == pytest.approx(LOGDET_HOM[key], abs=tolerance)
    matrix = hessian.assembled(energy, u_nd)
    assert log_determinant(matrix, 3).value == pytest.approx(LOGDET_DEF[key], abs=tolerance)
    with RelativeHessian(matrix, law, cell, energy.sites) as relative:
        found = total_entropy(relative, energy, u_nd, Work())
    matrix.destroy()
    assert found.value == pytest.approx(ORACLE["defects"][key]["S_FHF_total"], abs=tolerance)
    assert reference.formation(found.value) == pytest.approx(FORMATION[key], abs=tolerance)
    assert found.steps <= 10
    assert found.near_entropy_s.sum() == pytest.approx(found.value, abs=1e-9)
    assert found.error < 1e-8


CASES = [
    pytest.param(SI, "diamond", 5.430949777364731, (2, 2, 2), [Vacancy((0, 0, 0))], id="Si vacancy"),
    pytest.param(CU, "fcc", 3.615, (3, 3, 3), [Divacancy((0, 0, 0), (0.5, 0.5, 0))], id="Cu divacancy"),
    pytest.param(CU, "fcc", 3.615, (3, 3, 2), [Vacancy((0, 0, 0)), Vacancy((1.5, 1.5, 1))], id="Cu vacancies"),
    pytest.param(CU, "fcc", 3.615, (3, 3, 3), DUMBBELL, id="Cu dumbbell"),
    pytest.param(CU, "fcc", 3.615, (3, 3, 3), [Vacancy((0, 0, 0)), *DUMBBELL], id="Cu Frenkel pair"),
    pytest.param(SI, "diamond", 5.43, (2, 2, 2), [Interstitial("Si", site="tetrahedral")], id="Si tetrahedral"),
    pytest.param(W, "bcc", 3.14, (3, 3, 3), [Vacancy((0, 0, 0))], id="W vacancy"),
]


@pytest.mark.parametrize(("law", "lattice", "a", "repeats", "defects"), CASES)
def test_formation_entropy_and_that_of_fhf_differ_by_the_identity(law, lattice, a, repeats, defects, comm):
    case = Case(law, lattice, a, repeats, defects, comm)
    found = case.dense()
    assert found.identity_error < 1e-8
    if len(defects) == 1 and case.reference.n_extra == 0 and case.reference.n_vacant == 1:  # as the theory writes it
        n = case.reference.n_hom
        c = 0.5 * (case.reference.logdet_vacant - case.reference.logdet / n)
        assert found.formation - found.relative == pytest.approx(c + 1.5 * np.log(n / (n - 1)), abs=1e-8)
    total = case.total()
    assert total.value == pytest.approx(found.relative, abs=1e-8)
    assert total.lowest > 0.01
    matrix = hessian.assembled(case.energy, case.u_nd)
    share = case.reference.n_def / case.reference.n_hom
    factorised = -0.5 * log_determinant(matrix, 3).value - share * case.reference.entropy
    matrix.destroy()
    assert factorised == pytest.approx(found.formation, abs=1e-8)


@pytest.mark.mpi(3)
def test_first_order_term_is_the_trace_of_dense_algebra(comm):
    for law, lattice, a, repeats, defects in (
        (CU, "fcc", 3.615, (2, 2, 4), [Vacancy((0, 0, 0))]),
        (SI, "diamond", 5.43, (2, 1, 2), [Interstitial("Si", site="tetrahedral")]),
        (W, "bcc", 3.14, (9, 2, 2), []),
    ):
        cell = apply_defects(build_supercell(LATTICES[lattice], a, repeats, law.species), defects)
        away_ad = 0.03 * np.random.default_rng(2).standard_normal((cell.n_sites, 3))

        def traced(of, law=law, cell=cell, away_ad=away_ad):
            energy = Energy(law, cell, comm=of)
            u_nd = energy.sites.restrict(away_ad)
            matrix = hessian.assembled(energy, u_nd)
            with RelativeHessian(matrix, law, cell, energy.sites) as relative:
                value = trace_with(relative.inverse, energy, u_nd, 1.0 / relative.kappa)
                whole = relative.apply_green(relative.apply_h(np.eye(relative.n_local))) if of.size == 1 else None
            matrix.destroy()
            return value, whole

        value, _ = traced(comm)
        alone, whole = traced(MPI.COMM_SELF)
        assert alone == pytest.approx(np.trace(whole), rel=1e-12)
        assert value == pytest.approx(alone, rel=1e-12)


@pytest.mark.mpi(2, 4)
def test_three_methods_have_one_answer_on_any_number_of_ranks(comm):
    case = Case(CU, "fcc", 3.615, (3, 3, 3), [Vacancy((0, 0, 0))], comm)
    few = {"near_radius": 2.0, "max_probes": 4, "tolerance": 0.1}
    contour, ritz = case.total(method="contour", **few), case.total(method="ritz", **few)
    assert len(contour.probe_value_k) == 4
    assert len(contour.near_site_s) == 1
    assert ritz.value == pytest.approx(contour.value, abs=1e-10)
    everywhere = case.energy.sites.gather_to_all(case.u_nd)
    alone = Case(CU, "fcc", 3.615, (3, 3, 3), [Vacancy((0, 0, 0))], MPI.COMM_SELF, everywhere)
    assert alone.total(method="contour", **few).value == pytest.approx(contour.value, abs=1e-10)
    if comm.size == 1:
        assert case.total(method="ksp", **few).value == pytest.approx(contour.value, abs=1e-10)
        assert case.total(method="contour", shell=True, **few).value == pytest.approx(contour.value, abs=1e-10)


def test_probes_tell_the_far_sites_within_their_error_bar(comm):
    case = Case(CU, "fcc", 3.615, (4, 4, 4), [Vacancy((0, 0, 0))], comm)
    exact = case.total(near_radius=100.0, shell=True)
    assert exact.probe_error == 0.0
    assert len(exact.near_site_s) == 256
    scaled = []
    for seed in range(4):
        found = case.total(shell=True, tolerance=0.004, seed=seed)
        assert 16 <= len(found.probe_value_k) < 100
        assert found.error < 0.004
        scaled.append((found.value - exact.value) / found.probe_error)
    assert np.abs(scaled).max() < 4.0
    assert len(set(scaled)) == 4
    loose, tight = case.total(shell=True, tolerance=0.02), case.total(shell=True, tolerance=0.001)
    assert tight.n_vectors > 1.5 * loose.n_vectors  # the tolerance decides the work
    assert tight.error < 0.001


def test_a_probe_is_nearly_free_of_the_first_order(comm):
    """Without the exact trace its spread would be some thousand times as large."""
    case = Case(CU, "fcc", 3.615, (5, 5, 5), [Vacancy((0, 0, 0))], comm)
    found = case.total(near_radius=5.5, max_probes=16, tolerance=1e-6)
    assert found.probe_value_k.std() < 0.01
    assert found.probe_error > 1e-6  # and what is missing is told
    assert found.error == found.probe_error + found.krylov_error


def test_work_does_not_grow_with_the_cell(comm):
    steps = [
        Case(SI, "diamond", 5.43, (n, n, n), [Vacancy((0, 0, 0))], comm, np.zeros((8 * n**3 - 1, 3)))
        .total(tolerance=0.01)
        .steps
        for n in (2, 4, 6)
    ]
    assert max(steps) <= 10


@pytest.mark.mpi(4)
def test_a_perfect_cell_has_no_entropy_of_its_own(comm):
    case = Case(W, "bcc", 3.14, (3, 3, 3), [], comm, np.zeros((54, 3)))
    found = case.total()
    assert found.value == pytest.approx(0.0, abs=1e-10)
    assert case.reference.formation(found.value) == pytest.approx(0.0, abs=1e-10)


def test_displaced_cells_without_point_defects_are_done_by_probes_alone(comm):
    u_ad = 0.02 * np.random.default_rng(5).standard_normal((216, 3))
    case = Case(W, "bcc", 3.14, (6, 6, 3), [], comm, u_ad)
    found, exact = case.total(tolerance=0.05), case.dense().relative
    assert len(found.near_site_s) == 0
    assert found.near_radius == 0.0
    assert abs(found.value - exact) < 4.0 * found.error
    whole = case.total(near_radius=np.inf)
    assert whole.value == pytest.approx(exact, abs=1e-8)
    assert np.isfinite(whole.near_distance_s).all()


@pytest.mark.mpi(3)
def test_negative_modes_are_told(comm):
    cell = apply_defects(build_supercell(LATTICES["fcc"], 3.615, (3, 3, 3), ("Cu",)), [Vacancy((0, 0, 0))])
    u_ad = np.zeros((107, 3))
    neighbour = int(np.argmin(np.linalg.norm(cell.positions_ac - 3.615 * np.array([0.5, 0.5, 0.0]), axis=1)))
    u_ad[neighbour, :2] = -0.25 * 3.615  # half of the jump into the vacancy
    case = Case(CU, "fcc", 3.615, (3, 3, 3), [Vacancy((0, 0, 0))], comm, u_ad)
    with pytest.raises(
        ConvergenceError, match=r"at least 1 negative mode\(s\), the lowest -0\.\d+e|at least 1 negative"
    ):
        case.total()
    with pytest.raises(ConvergenceError, match="1 negative and 3 zero modes instead of 0 and 3"):
        case.dense()
    matrix = hessian.assembled(case.energy, case.u_nd)
    with pytest.raises(ConvergenceError, match=r"1 negative mode\(s\) in the factors"):
        log_determinant(matrix, 3)
    matrix.destroy()


def test_the_infinite_crystal_is_the_limit_of_large_ones(comm):
    for law, lattice, a, shape in ((CU, "fcc", 3.615, 3), (toy.builtin("square-toy", 0.5), "square", 1.0, 2)):
        small, large = (
            entropy_reference(law, build_supercell(LATTICES[lattice], a, shape * (n,), law.species[:1]), comm=comm)
            for n in (8, 16)
        )
        # what is missing goes as log(N) / N, from the translations that are left out
        off = [abs(r.logdet / r.n_hom - r.logdet_density) * r.n_hom / np.log(r.n_hom) for r in (small, large)]
        assert off[1] == pytest.approx(off[0], rel=0.5)
        assert small.logdet_density == large.logdet_density


@pytest.mark.parametrize(
    ("law", "lattice", "a", "repeats", "defects", "kinds"),
    [
        # round a vacancy in diamond: itself, then shells of 4, 12, 12, 6 and 12 sites, each one kind (6.1 angstrom)
        (SI, "diamond", 5.430949777364731, (3, 3, 3), [Vacancy((0, 0, 0))], (6, 47)),
        (CU, "fcc", 3.615, (3, 3, 3), [Vacancy((0.5, 0.5, 0))], (6, 67)),  # 1, 12, 6, 24, 12, 12 (half of 24)
        (CU, "fcc", 3.615, (3, 3, 3), DUMBBELL, None),
    ],
)
def test_equivalent_sites_have_equal_entropies(law, lattice, a, repeats, defects, kinds, comm):
    case = Case(law, lattice, a, repeats, defects, comm)
    u_ad = case.energy.sites.gather_to_all(case.u_nd)
    site_s, distance_s = sites_by_distance(case.cell)
    n = int(np.searchsorted(distance_s, 5.95))
    first_s = equivalent_sites(case.cell, site_s[:n], u_ad)
    if kinds is not None:
        assert (len(np.unique(first_s)), n) == kinds
    assert len(np.unique(first_s)) < n / 3
    np.testing.assert_allclose(distance_s[:n], distance_s[:n][first_s], rtol=0, atol=1e-6 + 5.0 * (kinds is None))
    matrix = hessian.assembled(case.energy, case.u_nd)
    with RelativeHessian(matrix, law, case.cell, case.energy.sites) as relative:
        value_s = site_entropies(relative, site_s[:n], tolerance=1e-12).values
    matrix.destroy()
    np.testing.assert_allclose(value_s, value_s[first_s], rtol=0, atol=1e-7)
    u_ad[site_s[n - 1]] += [1e-4, 0.0, 0.0]  # and no others
    assert len(np.unique(equivalent_sites(case.cell, site_s[:n], u_ad))) > len(np.unique(first_s))


def test_sites_come_in_the_order_of_their_distance_from_defects():
    perfect = build_supercell(LATTICES["bcc"], 3.0, (4, 4, 4), ("W",))
    defects = [Vacancy((0, 0, 0)), Substitution((2, 2, 2), "Mo")]
    site_s, distance_s = sites_by_distance(apply_defects(perfect, defects))
    assert site_s[0] == -1
    assert distance_s[:2].tolist() == [0.0, 0.0]
    assert distance_s[2:10] == pytest.approx(3.0 * np.sqrt(0.75))
    assert sorted(site_s[1:]) == list(range(127))
    assert np.isinf(sites_by_distance(perfect)[1]).all()
