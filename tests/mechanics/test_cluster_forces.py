"""Forces on QM sites from laws of whole structures: identities, periodicity, sharing, and what a cache saves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.clamped_domain import build_domain
from parmlip.crystal.clusters import VACUUM, site_clusters
from parmlip.crystal.defects import Vacancy, apply_defects
from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.structure_symmetry import operations_of
from parmlip.crystal.supercell import build_supercell, supercell_from_arrays
from parmlip.errors import ConfigError, GeometryError
from parmlip.io.reference_cache import CachedLaw, ReferenceCache
from parmlip.mechanics.cluster_forces import ClusterForces, SeparateForces
from parmlip.mechanics.domain import partitioned
from parmlip.mechanics.energy import Energy
from parmlip.potentials import eam, tight_binding
from parmlip.potentials.external import ase_law
from parmlip.potentials.tight_binding_contour import ContourTightBinding
from parmlip.potentials.tight_binding_local import LocalTightBinding
from parmlip.potentials.total import Evaluated

SELF = MPI.COMM_SELF
COPPER, A_COPPER = lattice_named("fcc"), 3.615
SILICON, A_SILICON = lattice_named("diamond"), 5.43


class Whole:
    """A site law that tells whole structures only, and counts how often it is asked."""

    species, closest = ("Cu",), 0.0

    def __init__(self, law):
        self.law, self.asked = law, []

    def evaluate(self, cell_cc, periodic, positions_ac, symbols):
        self.asked.append((periodic, len(positions_ac)))
        cell = supercell_from_arrays(cell_cc, periodic, positions_ac, list(symbols), 3)
        energy = Energy(self.law, cell, comm=SELF)
        f_nd = energy.difference_and_forces(np.zeros((cell.n_sites, 3)))[1]
        return Evaluated(energy.total(np.zeros((cell.n_sites, 3))), energy.sites.gather_to_all(f_nd))


def disc(lattice, a, species, radius, rim):
    return build_domain(lattice, a, (species,), [Vacancy((0, 0, 0))], kind="disc", radius=radius, rim=rim)


def displacement(cell, size=0.05):
    return np.random.default_rng(3).uniform(-size, size, (cell.n_sites, 3))


def forces(law, cell, qm_a, cluster_a, u_ad, comm=SELF, **options):
    sites = partitioned(cell, comm=comm)
    found = ClusterForces(law, cell, qm_a, cluster_a, sites, link=4.0, **options)
    return sites.gather_to_all(found.forces(sites.restrict(u_ad))), found


def silicon_law(radius=7.0):
    law = tight_binding.builtin("Si-NRLTB", fermi_level=5.9, electronic_temperature=0.2)
    return ContourTightBinding(law, radius)


def test_cluster_forces_are_exact_with_a_buffer_of_twice_the_cutoff_and_not_with_once_the_cutoff():
    law = eam.builtin("Cu-Mishin2001")
    domain = disc(COPPER, A_COPPER, "Cu", 8.0, 2.2 * law.cutoff)
    cell, r_a = domain.supercell, domain.distances()
    u_ad, qm_a = displacement(cell), r_a < 5.0
    energy = Energy(law, cell, comm=SELF)
    exact_ad = energy.sites.gather_to_all(energy.difference_and_forces(u_ad)[1])
    whole = Whole(law)
    for width, agree in ((2.0 * law.cutoff + 0.2, True), (law.cutoff, False)):
        f_ad, _ = forces(whole, cell, qm_a, r_a < 5.0 + width, u_ad)
        assert (f_ad[~qm_a] == 0.0).all()
        wrong = np.abs(f_ad - exact_ad)[qm_a].max()
        assert wrong < 1e-12 if agree else wrong > 1e-4
    assert whole.asked[0][0] == (False, False, True)


def test_sites_in_clusters_of_their_own_have_the_same_forces():
    law = eam.builtin("Cu-Mishin2001")
    domain = disc(COPPER, A_COPPER, "Cu", 8.0, 2.2 * law.cutoff)
    cell = domain.supercell
    u_ad, wanted_a = displacement(cell), np.zeros(cell.n_sites, dtype=bool)
    wanted_a[np.argsort(domain.distances())[[3, 20, 21]]] = True
    place_ac = cell.positions_ac[:, :2]

    def near(one_a):
        return np.linalg.norm(place_ac - place_ac[one_a], axis=1) < 2.0 * law.cutoff + 0.2

    sites, whole = partitioned(cell, comm=SELF), Whole(law)
    found = SeparateForces(whole, cell, wanted_a, near, sites, link=4.0)
    f_ad = sites.gather_to_all(found.forces(sites.restrict(u_ad)))
    energy = Energy(law, cell, comm=SELF)
    exact_ad = energy.sites.gather_to_all(energy.difference_and_forces(u_ad)[1])
    np.testing.assert_allclose(f_ad[wanted_a], exact_ad[wanted_a], rtol=0, atol=1e-12)
    assert (f_ad[~wanted_a] == 0.0).all()
    assert [n for _, n in whole.asked] == list(found.n_sites)
    assert len(whole.asked) == 3


def test_qm_everywhere_is_the_whole_cell():
    law = eam.builtin("Cu-Mishin2001")
    cell = apply_defects(build_supercell(COPPER, A_COPPER, (3, 3, 1), ["Cu"]), [Vacancy((1, 1, 0))])
    u_ad, every_a = displacement(cell), np.ones(cell.n_sites, dtype=bool)
    energy = Energy(law, cell, comm=SELF)
    exact_ad = energy.sites.gather_to_all(energy.difference_and_forces(u_ad)[1])
    whole = Whole(law)
    f_ad, _ = forces(whole, cell, every_a, every_a, u_ad)
    assert whole.asked == [((True, True, True), cell.n_sites)]
    np.testing.assert_allclose(f_ad, exact_ad, rtol=0, atol=1e-12)


def test_a_cluster_across_the_boundary_of_the_cell_is_put_together():
    law = Whole(eam.builtin("Cu-Mishin2001"))
    cell = build_supercell(COPPER, A_COPPER, (9, 9, 1), ["Cu"])
    u_ad = displacement(cell)
    length = 9 * A_COPPER

    def about(x):
        d_ac = cell.positions_ac[:, :2] - x
        r_a = np.linalg.norm(d_ac - length * np.rint(d_ac / length), axis=1)
        return r_a < 3.0, r_a < 11.0

    # the same displacements about either centre
    qm_a, cluster_a = about(0.0)
    at_corner, _ = forces(law, cell, qm_a, cluster_a, u_ad)
    shift = 4 * A_COPPER
    index = {tuple(np.round(x % length, 6)): i for i, x in enumerate(cell.positions_ac)}
    moved_a = np.array([index[tuple(np.round((x + [shift, shift, 0]) % length, 6))] for x in cell.positions_ac])
    v_ad = np.empty_like(u_ad)
    v_ad[moved_a] = u_ad
    at_middle, _ = forces(law, cell, *about(shift), v_ad)
    assert law.asked[0] == law.asked[1] == ((False, False, True), int(cluster_a.sum()))
    np.testing.assert_allclose(at_middle[moved_a], at_corner, rtol=0, atol=1e-12)


def test_regions_that_do_not_touch_are_clusters_of_their_own():
    law = Whole(eam.builtin("Cu-Mishin2001"))
    cell = build_supercell(COPPER, A_COPPER, (12, 4, 1), ["Cu"])
    x_a = cell.positions_ac[:, 0] % (6 * A_COPPER)
    cluster_a = x_a < 3 * A_COPPER
    f_ad, found = forces(law, cell, x_a < A_COPPER, cluster_a, displacement(cell))
    assert found.n_sites == (int(cluster_a.sum()) // 2,) * 2
    assert law.asked == [((False, True, True), int(cluster_a.sum()) // 2)] * 2
    part = site_clusters(cell, cluster_a, 4.0)[0]
    width = np.ptp(cell.positions_ac[part.site_m, 0])
    assert part.cell_cc[0, 0] == pytest.approx(width + VACUUM)
    assert np.abs(f_ad[x_a < A_COPPER]).min() > 0.0


def test_tight_binding_on_some_sites_is_that_of_the_whole_structure_there():
    cell = build_supercell(SILICON, A_SILICON, (2, 2, 1), ["Si"])
    positions_ac, symbols = cell.positions_ac + displacement(cell), ["Si"] * cell.n_sites
    law, chosen = silicon_law(), np.array([3, 10, 11])
    whole = law.evaluate(cell.cell_cc, cell.periodic, positions_ac, symbols)
    local = LocalTightBinding(law, chosen).evaluate(cell.cell_cc, cell.periodic, positions_ac, symbols)
    np.testing.assert_allclose(local.forces_ac[chosen], whole.forces_ac[chosen], rtol=0, atol=1e-12)
    assert local.energy == pytest.approx(whole.site_energies_a[chosen].sum(), abs=1e-11)
    assert (np.delete(local.forces_ac, chosen, axis=0) == 0.0).all()


def test_symmetric_structures_give_the_same_forces_with_fewer_clusters(monkeypatch):
    domain = disc(SILICON, A_SILICON, "Si", 7.5, 9.0)
    cell, r_a = domain.supercell, domain.distances()
    chosen_a = r_a < 4.0
    u_ad = symmetrised(cell, chosen_a, displacement(cell, 0.1))
    symbols = ["Si"] * cell.n_sites
    state = (cell.cell_cc, cell.periodic, cell.positions_ac + u_ad, symbols)
    law = LocalTightBinding(silicon_law(), np.flatnonzero(chosen_a))
    solved = []
    from parmlip.potentials import tight_binding_local

    real = tight_binding_local.cluster_of
    monkeypatch.setattr(tight_binding_local, "cluster_of", lambda b, a, r: (solved.append(a), real(b, a, r))[1])
    few = law.evaluate(*state)
    n_few = len(solved)
    monkeypatch.setattr(tight_binding_local, "SYMMETRIC", -1.0)
    every = law.evaluate(*state)
    assert 5 * n_few < len(solved) - n_few
    assert np.abs(every.forces_ac).max() > 0.1
    np.testing.assert_allclose(few.forces_ac, every.forces_ac, rtol=0, atol=1e-10)


def symmetrised(cell, chosen_a, u_ad):
    """The mean over the operations of the cell, eight for a vacancy in a disc of diamond."""
    group = operations_of(cell.cell_cc, cell.periodic, cell.positions_ac, chosen_a.astype(np.int64), tolerance=1e-9)
    assert len(group.q_gcc) == 8
    mean_ad = np.zeros_like(u_ad)
    for q_cc, to_a in zip(group.q_gcc, group.to_ga, strict=True):
        mean_ad[to_a] += u_ad @ q_cc.T / len(group.q_gcc)
    return mean_ad


def test_tight_binding_of_clusters_is_exact_within_its_buffer():
    law = silicon_law()
    domain = disc(SILICON, A_SILICON, "Si", 7.5, 20.0)
    cell, r_a = domain.supercell, domain.distances()
    qm_a = r_a < 2.5
    u_ad = displacement(cell)
    needed = law.cluster_radius + 2.0 * law.law.cutoff
    exact_ad, _ = forces(law, cell, qm_a, np.ones(cell.n_sites, dtype=bool), u_ad)
    f_ad, _ = forces(law, cell, qm_a, r_a < 2.5 + needed, u_ad)
    np.testing.assert_allclose(f_ad, exact_ad, rtol=0, atol=1e-12)
    narrow_ad, _ = forces(law, cell, qm_a, r_a < 8.0, u_ad)
    assert np.abs(narrow_ad - exact_ad).max() > 1e-3


def test_calculators_of_ase_are_qm_laws():
    law = ase_law("ase.calculators.emt.EMT")
    domain = disc(COPPER, A_COPPER, "Cu", 8.0, 12.0)
    cell, r_a = domain.supercell, domain.distances()
    u_ad, qm_a = displacement(cell), r_a < 4.0
    exact = law.evaluate(cell.cell_cc, cell.periodic, cell.positions_ac + u_ad, ["Cu"] * cell.n_sites)
    f_ad, _ = forces(law, cell, qm_a, r_a < 18.0, u_ad)
    np.testing.assert_allclose(f_ad[qm_a], exact.forces_ac[qm_a], rtol=0, atol=1e-10)


@pytest.mark.mpi(3)
def test_forces_do_not_depend_on_the_number_of_ranks(comm):
    domain = disc(SILICON, A_SILICON, "Si", 7.5, 9.0)
    cell, r_a = domain.supercell, domain.distances()
    u_ad = displacement(cell)
    alone, _ = forces(silicon_law(), cell, r_a < 2.5, r_a < 13.0, u_ad)
    shared, _ = forces(silicon_law(), cell, r_a < 2.5, r_a < 13.0, u_ad, comm)
    assert comm.allreduce(np.abs(shared - alone).max(), op=MPI.MAX) < 1e-11
    copper = disc(COPPER, A_COPPER, "Cu", 8.0, 4.0).supercell
    v_ad, inner_a = displacement(copper), np.linalg.norm(copper.positions_ac - copper.positions_ac.mean(0), axis=1) < 4
    every_a, law = np.ones(copper.n_sites, dtype=bool), ase_law("ase.calculators.emt.EMT")
    alone, _ = forces(law, copper, inner_a, every_a, v_ad)
    shared, _ = forces(law, copper, inner_a, every_a, v_ad, comm, ranks_per_group=2)
    assert comm.allreduce(np.abs(shared - alone).max(), op=MPI.MAX) < 1e-12


def test_sites_that_are_in_no_cluster_and_laws_that_are_not_local_are_refused():
    cell = build_supercell(SILICON, A_SILICON, (2, 2, 1), ["Si"])
    none_a, one_a = np.zeros(cell.n_sites, dtype=bool), np.arange(cell.n_sites) == 3
    for qm_a, cluster_a in ((none_a, one_a), (one_a, none_a)):
        with pytest.raises(GeometryError, match="QM sites"):
            ClusterForces(silicon_law(), cell, qm_a, cluster_a, partitioned(cell, comm=SELF), link=4.0)
    free = tight_binding.builtin("Si-NRLTB", electronic_temperature=0.2)
    with pytest.raises(ConfigError, match="fermi_level"):
        LocalTightBinding(ContourTightBinding(free, 7.0), np.array([0]))
    with pytest.raises(ConfigError, match="cluster_radius"):
        LocalTightBinding(ContourTightBinding(silicon_law().law), np.array([0]))
    u_ad = np.full((cell.n_sites, 3), np.nan)
    with pytest.raises(GeometryError, match="not finite"):
        forces(silicon_law(), cell, one_a, np.ones(cell.n_sites, dtype=bool), u_ad)


@pytest.mark.mpi
def test_ranks_share_the_k_points_of_one_cluster(comm, monkeypatch):
    domain = disc(SILICON, A_SILICON, "Si", 7.5, 6.0)
    cell, r_a = domain.supercell, domain.distances()
    law = tight_binding.builtin(
        "Si-NRLTB", fermi_level=5.9, electronic_temperature=0.2, k_points=(1, 1, 3), k_scheme="gamma_centred"
    )
    solved, real = [], tight_binding.NRLTightBinding._eigenstates
    monkeypatch.setattr(
        tight_binding.NRLTightBinding, "_eigenstates", lambda *args: (solved.append(args[-1][2]), real(*args))[1]
    )
    args = law, cell, r_a < 3.0, r_a < 8.0, displacement(cell)
    alone_ad, _ = forces(*args)
    assert len(solved) == 2
    solved.clear()
    shared_ad, _ = forces(*args, comm=comm)
    assert len(solved) == (2 if comm.size == 1 else 1 if comm.rank < 2 else 0)
    np.testing.assert_allclose(shared_ad, alone_ad, rtol=0, atol=1e-11)


RUN = """
import sys, time
from pathlib import Path
import numpy as np
from tests.mechanics import test_cluster_forces as t

print(t.walk(Path(sys.argv[1]), pause=float(sys.argv[2])), flush=True)
"""


def walk(directory, pause=0.0):
    """Three states, one after the other; how many of them were computed, and the sum of all forces' squares."""
    domain = disc(SILICON, A_SILICON, "Si", 7.5, 6.0)
    cell, r_a = domain.supercell, domain.distances()
    law = CachedLaw(silicon_law(), ReferenceCache(directory / "qm.cache.h5", {"law": "silicon"}))
    sites = partitioned(cell, comm=SELF)
    found = ClusterForces(law, cell, r_a < 2.5, r_a < 10.0, sites, link=4.0)
    total = 0.0
    for step in range(3):
        total += float(np.sum(found.forces(0.2 * step * displacement(cell)) ** 2))
        time.sleep(pause)
    return found.calls, found.solved, total


def test_a_killed_run_goes_on_without_solving_again_what_was_kept(tmp_path):
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([*command, "600"], cwd=root, env=environment, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 100.0
        while not (tmp_path / "qm.cache.h5").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    calls, solved, total = walk(tmp_path)
    assert (calls, solved) == (3, 2)
    again = walk(tmp_path)
    assert again[:2] == (3, 0)
    assert again[2] == pytest.approx(total, rel=1e-14)
