"""Runs of the stage qmmm with laws of whole structures as QM."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from mpi4py import MPI

from parmlip import construct_qmmm
from parmlip.analysis.sampled_residual import Estimate
from parmlip.config import loads
from parmlip.construct import total_law
from parmlip.construct_qmmm import check_everywhere, cluster_warnings, coupling, perfect_domain
from parmlip.crystal.lattices import lattice_named
from parmlip.errors import ConfigError
from parmlip.estimate import _regions
from parmlip.io.hdf5 import ResultFile
from parmlip.pipeline import run
from parmlip.stages import build
from parmlip.stages_qmmm_errors import truth_of
from parmlip.stages_qmmm_estimate import Growth
from tests import program

ROOT = Path(__file__).parents[1]
INPUTS = ROOT / "inputs/qmmm"
DIAMOND = (lattice_named("diamond"), 5.4266)
COPPER = """
[run]
stages = ["build", "reference", "train", "qmmm", "report"]
output = "{output}"
[crystal]
lattice = "fcc"
species = ["Cu"]
lattice_constant = 3.61
[reference]
kind = "ase"
calculator = "ase.calculators.emt.EMT"
options = {{ asap_cutoff = true }}
[simulation]
domain = "disc"
radius = 14.0
rim = 11.0
defects = [{{ kind = "vacancy", at = [0, 0, 0] }}]
[[training]]
cell = [2, 2, 2]
defects = [{{ kind = "vacancy", at = [0, 0, 0] }}]
relax = false
samples = 5
test_samples = 1
rattle = {{ amplitude = 0.05, kind = "uniform" }}
[surrogate]
cutoff = 4.5
total_degree = 6
correlation_order = 2
[fit]
solver = "rrqr"
[relax]
force_tolerance = 1e-7
[qmmm]
kind = "force"
buffer = 6.0
truth = true
[sweep]
"qmmm.radius" = [3.0, 7.5]
"""


@pytest.mark.mpi
def test_a_calculator_as_qm_law_converges_to_qm_everywhere(comm, shared_tmp):
    study = loads(COPPER.format(output=shared_tmp / "cu.h5"))
    run(study, comm)
    if comm.rank == 0:
        file = ResultFile(shared_tmp / "cu.h5")
        errors, forces, calls = (
            [float(file.read("qmmm", name, point=i)) for i in (0, 1)]
            for name in ("geometry_error", "residual_force", "qm_evaluations")
        )
        assert max(forces) <= 1e-7
        assert 0.0 < errors[1] < 0.3 * errors[0]
        assert max(calls) <= 12
        assert np.abs(file.read("qmmm", "truth", point=0)).max() > 0.01
    comm.Barrier()


@pytest.mark.parametrize(
    ("law", "asked", "ranks"),
    [
        ("emt.EMT", 0, 1),
        ("emt.EMT", 2, 2),
        ("espresso.Espresso", 0, 6),
        ("espresso.Espresso", 3, 3),
        ("vasp.Vasp", 0, 6),
    ],
)
def test_programs_that_give_qm_forces_run_one_at_a_time_unless_more_are_asked_for(monkeypatch, law, asked, ranks):
    class Recorded:
        """In the place of QM forces: how many of six ranks share a calculator."""

        def __init__(self, *_, ranks_per_group, **__):
            self.ranks = ranks_per_group

    monkeypatch.setattr(construct_qmmm, "ClusterForces", Recorded)
    settings = [f"reference={{ kind = 'ase', calculator = 'ase.calculators.{law}', ranks_per_calculator = {asked} }}"]
    study = loads(COPPER.format(output="cu.h5"), [*settings, "sweep={}", "qmmm.radius=6.0"])
    of = (lattice_named("fcc"), 3.61)
    sites = SimpleNamespace(comm=SimpleNamespace(size=6))
    assert construct_qmmm.qm_forces(study, of, coupling(study, of), sites).ranks == ranks


def test_a_truth_of_whole_structures_is_made_only_if_it_is_asked_for():
    text = COPPER.format(output="cu.h5")
    assert loads(text).qmmm.truth is True
    assert loads(text.replace("truth = true\n", "")).qmmm.truth == "auto"
    with pytest.raises(ConfigError, match=r"buffer = \"auto\": must be a number"):
        loads(text, ["qmmm.buffer='auto'"])
    with pytest.raises(ConfigError, match=r"kind = \"energy\": cannot be done .*\"ase\", which has no site en"):
        loads(text, ["qmmm.kind='energy'"])
    with pytest.raises(
        ConfigError, match=r"patch_test: cannot be done with .*; the patch test of laws of whole struct"
    ):
        loads(text, ["qmmm.patch_test=true"])
    needs = r"\"tight_binding\": it needs gradients and Hessians of single site energies, which tight binding does not"
    with pytest.raises(ConfigError, match=needs):
        loads(SILICON, ["qmmm.kind='energy'"])


def test_the_surface_of_qm_clusters_is_seen_on_the_perfect_crystal_and_told(tmp_path, capsys):
    """Against the calculator itself; it falls with the buffer, which the estimate from like clusters cannot see."""
    text = COPPER.format(output=tmp_path / "cu.h5").replace("truth = true", "truth = false").split("[sweep]")[0]
    study = loads(text, ["qmmm.radius=3.0", "relax.force_tolerance=1e-3", "sweep.qmmm.buffer=[2.6, 6.0]"])
    run(study, MPI.COMM_SELF)
    file, of = ResultFile(tmp_path / "cu.h5"), (lattice_named("fcc"), 3.61)
    forces, errors = (
        [float(file.read("qmmm", name, point=i)) for i in (0, 1)] for name in ("buffer_force", "buffer_error")
    )
    for point, force in zip(study.points(), forces, strict=True):
        found = coupling(point.study, of, perfect_domain(point.study, of))
        cell, r = found.domain.supercell, found.regions
        atoms = Atoms(f"Cu{r.cluster_a.sum()}", cell.positions_ac[r.cluster_a], cell=cell.cell_cc, pbc=(0, 0, 1))
        atoms.calc = EMT(asap_cutoff=True)
        assert force == pytest.approx(np.abs(atoms.get_forces()[r.qm_a[r.cluster_a]]).max(), rel=1e-9)
    assert forces[0] > 100.0 * forces[1] > 0.0
    assert errors[0] > 100.0 * errors[1] > 0.0
    told = [line for line in capsys.readouterr().out.splitlines() if "see the surface" in line]
    assert len(told) == 1
    assert told[0].startswith("[qmmm] buffer = 2.6: QM forces see the surface of their cluster, by ")


def test_a_tolerance_is_not_met_where_the_buffer_alone_makes_a_larger_error():
    growth = Growth(1e-3, 2.5)
    growth.record(5.0, Estimate(1e-8, 0.0, 1.0), 10, float("nan"), 0.5e-3)
    assert growth.met
    growth.record(6.0, Estimate(1e-8, 0.0, 1.0), 10, float("nan"), 0.95e-3)
    assert not growth.met
    assert growth.next_radius(20.0) == pytest.approx(9.6)  # 1.6 times as far
    growth.record(7.0, Estimate(1e-8, 0.0, 1.0), 10, float("nan"), 2e-3)
    assert growth.next_radius(20.0) is None
    assert "the surface of QM clusters alone makes an error of 2.0e-03 A" in growth.obstacle(loads(SILICON))


def test_qm_sites_on_the_surface_of_their_cluster_are_refused():
    study = loads(COPPER.format(output="cu.h5"), ["sweep={}", "qmmm.radius=6.0", "qmmm.buffer=2.5"])
    with pytest.raises(ConfigError, match=r"buffer = 2.5: must be at least 2.55266 A, the distance of nearest neigh"):
        check_everywhere(study, (lattice_named("fcc"), 3.61))


@pytest.mark.parametrize("name", ["figure_4_5", "figure_4_5_edge", "fit_si_tb"])
def test_the_inputs_of_silicon_are_right(name):
    path = INPUTS / f"{name}.toml"
    study = loads(path.read_text(), [], path)
    if "qmmm" in study.run.stages:
        check_everywhere(study, DIAMOND)


def test_clusters_of_tight_binding_reach_as_far_as_its_forces_know_and_into_the_far_field():
    path = INPUTS / "figure_4_5.toml"
    study = loads(path.read_text(), ["sweep={}", "qmmm.radius=20.0"], path)
    found = coupling(study, DIAMOND)
    law = total_law(study)
    assert found.regions.buffer == pytest.approx(law.cluster_radius + 2.0 * law.law.cutoff + 0.5)
    assert (found.regions.cluster_a & ~found.regions.free_a).any()
    assert not (found.regions.qm_a & ~found.regions.free_a).any()
    thin = loads(path.read_text(), ["sweep={}", "qmmm.radius=20.0", "simulation.rim=14.0"], path)
    with pytest.raises(ConfigError, match="its rim of 14 A included; make radius at most 1[0-9.]*, buffer smaller"):
        coupling(thin, DIAMOND)


def about_an_edge_in_silicon(without, *settings):
    """The study of an input, without some keys."""
    path = INPUTS / "figure_4_5_edge.toml"
    lines = [line for line in path.read_text().splitlines() if line.partition(" ")[0] not in without]
    return loads("\n".join(lines), ["sweep={}", "qmmm.radius=7.0", *settings], path)


CLUSTERS = ("reference.evaluator=contour", "reference.cluster_radius=7.36", "reference.k_points=[1, 1, 1]")


@pytest.mark.parametrize(
    ("law", "setting", "message"),
    [
        (
            CLUSTERS,
            "qmmm.buffer=9.0",
            "buffer = 9: is less than 20.59 A, cluster_radius and twice the range 6.615 A of",
        ),
        ((), "qmmm.buffer=9.0", "buffer = 9: is less than 13.23 A, twice the range 6.615 A of the law, so that QM"),
        (CLUSTERS, "sweep.qmmm.buffer=[20.6, 12.0]", "buffer = 12: is less than 20.59 A"),
        (CLUSTERS, "qmmm.buffer=20.6", None),
        (CLUSTERS, "qmmm.buffer=auto", None),
        ((), "qmmm.buffer=13.3", None),
    ],
)
def test_clusters_whose_surface_qm_forces_see_are_told(law, setting, message):
    lines = cluster_warnings(about_an_edge_in_silicon((), setting, *law))
    assert len(lines) == (message is not None)
    assert message is None or lines[0].startswith(f"[qmmm] {message}")


@pytest.mark.parametrize("law", [(), CLUSTERS], ids=["dense", "clusters"])
def test_a_fermi_level_that_surfaces_of_clusters_move_is_told_by_the_run_and_before(law, caplog):
    study = about_an_edge_in_silicon(("fermi_level",), "qmmm.buffer=20.6", *law)
    build(study, None, MPI.COMM_SELF)
    (told,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert told.startswith("[reference] fermi_level: is not given; surfaces of QM clusters have levels in the gap")
    assert _regions(study, DIAMOND)[-1] == f"WARNING: {told}"
    assert cluster_warnings(loads(COPPER.format(output="cu.h5"))) == []  # what a calculator of ASE sees is not known


@pytest.mark.mpi(2, 3)
def test_answers_kept_by_a_run_on_several_ranks_serve_one_on_another_number(comm, shared_tmp):
    """Whose states are the same but for rounding."""
    text = COPPER.format(output=shared_tmp / "cu.h5").replace("truth = true", "truth = false").split("[sweep]")[0]
    given = ["qmmm.radius=3.0", f"reference.cache={shared_tmp}/kept.h5"]
    run(loads(text, given), comm)
    calls, solved = (int(ResultFile(shared_tmp / "cu.h5").read("qmmm", n)) for n in ("qm_evaluations", "qm_solved"))
    assert solved == calls > 4
    comm.Barrier()
    alone = comm.Split(0 if comm.rank == 0 else 1)
    if comm.rank == 0:
        run(loads(text, [*given, f"run.output={shared_tmp}/alone.h5"]), alone)
        file = ResultFile(shared_tmp / "alone.h5")
        assert (file.read("qmmm", "qm_evaluations"), file.read("qmmm", "qm_solved")) == (calls, 0)
    comm.Barrier()
    alone.Free()


def test_the_truth_is_found_once_in_a_sweep(tmp_path):
    text = COPPER.format(output=tmp_path / "cu.h5").replace("[3.0, 7.5]", "[3.0, 4.0]")
    run(loads(text, ["relax.force_tolerance=1e-4"]), MPI.COMM_SELF)
    file = ResultFile(tmp_path / "cu.h5")
    has = ["truth" in file.names("qmmm", point=i) for i in (0, 1)]
    assert has == [True, False]
    assert float(file.read("qmmm", "geometry_norm", point=0)) == float(file.read("qmmm", "geometry_norm", point=1))


def test_a_truth_belongs_to_its_predictor_which_may_be_the_surrogates_and_to_its_tolerance():
    text = COPPER.format(output="cu.h5").partition("[sweep]")[0]

    def name(shift, *settings):
        predictor_ad = np.array([[0.0, 0.1, -0.2], [shift, 0.0, 1.0]])
        return truth_of(SimpleNamespace(study=loads(text, settings), predictor_ad=predictor_ad))

    assert name(0.1) == name(0.1 + 1e-9, "qmmm.radius=5.0", "surrogate.total_degree=8")
    assert name(0.1) != name(0.1001)
    assert name(0.1) != name(0.1, "relax.force_tolerance=1e-3")
    assert name(0.1) != name(0.1, "reference.options={ asap_cutoff = false }")


def test_a_tolerance_samples_the_forces_of_a_calculator_and_finds_the_truth_once(tmp_path):
    text = COPPER.format(output=tmp_path / "cu.h5").partition("[sweep]")[0]
    settings = ["qmmm.radius=6.0", "qmmm.tolerance=5e-4", "qmmm.samples=4", "relax.force_tolerance=1e-3"]
    run(loads(text, settings), MPI.COMM_SELF)
    file = ResultFile(tmp_path / "cu.h5")
    growth = file.read("qmmm", "growth")
    assert growth["radius_angstrom"][-1] == pytest.approx(14.0, abs=0.01)  # all that moves: buffers may be in the rim
    assert growth["geometry_error"][1] < 0.5 * growth["geometry_error"][0]
    assert file.read("qmmm", "tolerance_met")
    assert (growth["noise"][:-1] > 0.0).all()
    assert growth["estimate"][-1] == 0.0
    assert file.read("qmmm", "n_samples") == 0
    assert len(growth["n_qm"]) == 3


SILICON = """
[run]
stages = ["build", "reference", "train", "qmmm"]
output = "si.h5"
[crystal]
lattice = "diamond"
species = ["Si"]
lattice_constant = 5.43
[reference]
kind = "tight_binding"
parameters = "Si-NRLTB"
fermi_level = 5.9
electronic_temperature = 0.2
[simulation]
domain = "disc"
radius = 8.0
rim = 8.0
defects = [{ kind = "vacancy", at = [0, 0, 0] }]
[[training]]
cell = [2, 2, 1]
relax = false
samples = 4
test_samples = 1
rattle = { amplitude = 0.05, kind = "uniform" }
[surrogate]
cutoff = 4.0
total_degree = 6
correlation_order = 2
[relax]
force_tolerance = 1e-9
laws = ["surrogate"]
[qmmm]
radius = 4.0
buffer = 6.0
"""


def kept(cache):
    """Names of the answers about the QM cluster, 88 sites, that the cache holds; none while it is being changed."""
    if not cache.exists():
        return set()
    with contextlib.suppress(OSError), h5py.File(cache, "r", locking=False) as file:
        return {name for drawer in file.values() for name in drawer if len(drawer[name]["forces"]) == 88}
    return set()


def test_a_killed_run_with_tight_binding_goes_on_and_solves_no_cluster_twice(tmp_path):
    (tmp_path / "si.toml").write_text(SILICON)
    command = [sys.executable, "-m", "parmlip", "si.toml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    cache, results = tmp_path / "si.cache.h5", tmp_path / "si.h5"
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 100.0
        while len(kept(cache)) < 3:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    before = kept(cache) | {path.stem.split(".")[1] for path in cache.with_name("si.cache.h5.new").glob("*.h5")}
    assert not ResultFile(results).names("qmmm")
    again = program.parmlip(tmp_path, "si.toml", "--resume")
    assert again.returncode == 0, again.stderr
    calls, solved = (int(ResultFile(results).read("qmmm", name)) for name in ("qm_evaluations", "qm_solved"))
    assert len(before) >= 3
    assert solved == calls - len(before) > 0
    assert len(kept(cache)) == calls
    assert f"QM forces: asked for {calls} times, {solved} clusters solved, {len(before)} kept" in again.stdout
