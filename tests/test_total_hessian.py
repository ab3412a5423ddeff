"""`evaluate` with laws of whole structures: site energies and Hessians, each Hessian with its error."""

from __future__ import annotations

import ase.io
import h5py
import numpy as np
import pytest
from ase.build import bulk

from parmlip.config import loads
from parmlip.crystal.lattices import lattice_named
from parmlip.evaluate import evaluate
from parmlip.fit.total_derivatives import ByDifferences, ByResponse, PerfectCell, asked_at_once
from parmlip.potentials.external import ase_law
from parmlip.potentials.tight_binding import builtin
from tests.program import parmlip

SILICON = '[reference]\nkind = "tight_binding"\nparameters = "Si-NRLTB"\nelectronic_temperature = 0.2\n'
COPPER = '[reference]\nkind = "ase"\ncalculator = "ase.calculators.emt.EMT"\n'


def cells(symbol, count=2):
    made = []
    for i in range(count):
        atoms = bulk(symbol, cubic=True)
        atoms.rattle(0.05, seed=i)
        made.append(atoms)
    return made


def dense(path, number):
    with h5py.File(path, "r") as file:
        group = file[str(number)]
        n = len(group["indptr"]) - 1
        h_xy = np.zeros((n, 3, n, 3))
        rows = np.repeat(np.arange(n), np.diff(group["indptr"][()]))
        h_xy[rows, :, group["indices"][()], :] = group["blocks"][()]
        return h_xy.reshape(3 * n, 3 * n), float(group["blocks"].attrs["error"])


def forces(law, atoms, positions_ac):
    return law.evaluate(atoms.cell.array, (True, True, True), positions_ac, atoms.get_chemical_symbols()).forces_ac


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("text", "symbol", "bound"),
    [(SILICON, "Si", 1e-9), (SILICON + 'convention = "band_energy"\n', "Si", 1e-2), (COPPER, "Cu", 1e-2)],
    ids=["by response", "band energy by differences", "calculator by differences"],
)
def test_hessians_are_derivatives_of_the_forces_within_the_error_that_is_told(text, symbol, bound, comm, shared_tmp):
    structures, path = cells(symbol), shared_tmp / "h.h5"
    found = evaluate(loads(text), structures, "reference", None, comm, path)
    law = ase_law("ase.calculators.emt.EMT") if symbol == "Cu" else builtin(
        "Si-NRLTB", electronic_temperature=0.2, convention="band_energy" if "band" in text else "free_energy"
    )  # fmt: skip
    for i, atoms in enumerate(structures):
        np.testing.assert_allclose(found[i].get_forces(), forces(law, atoms, atoms.positions), rtol=0, atol=1e-10)
        h_xy, error = dense(path, i)
        assert error < bound
        np.testing.assert_array_equal(h_xy, h_xy.T)
        v_ac = np.random.default_rng(i).standard_normal(atoms.positions.shape)
        h = 1e-3
        slopes = [
            -(forces(law, atoms, atoms.positions + s * v_ac) - forces(law, atoms, atoms.positions - s * v_ac)) / (2 * s)
            for s in (h, 2 * h)
        ]
        along_ac = (4 * slopes[0] - slopes[1]) / 3
        rest = np.abs(h_xy @ v_ac.ravel() - along_ac.ravel()).max()
        assert rest < error * np.abs(v_ac).sum() + 1e-6
        np.testing.assert_allclose(h_xy.reshape(-1, len(atoms), 3).sum(axis=1), 0.0, atol=10 * error + 1e-8)
    comm.Barrier()


@pytest.mark.mpi
def test_site_energies_of_tight_binding_are_written_and_add_up(comm):
    (found,) = evaluate(loads(SILICON), cells("Si", 1), "reference", None, comm, None)
    site_a = found.get_potential_energies()
    assert site_a.sum() == pytest.approx(found.get_potential_energy(), abs=1e-9)
    assert np.ptp(site_a) > 1e-3


@pytest.mark.mpi(2)
def test_the_verb_tells_the_cost_before_and_the_error_after(comm, shared_tmp):
    if comm.rank == 0:
        (shared_tmp / "cu.toml").write_text(COPPER)
        ase.io.write(shared_tmp / "in.xyz", cells("Cu"), format="extxyz", parallel=False)
    comm.barrier()
    run = parmlip(shared_tmp, "evaluate", "cu.toml", "in.xyz", "-o", "out.xyz", "--hessian", "h.h5")
    assert run.returncode == 0, run.stderr
    if comm.rank == 0:
        assert "structure 1: Hessian by differences, 48 structures of 4 sites" in run.stdout
        assert "error " in run.stdout.partition("structure 1: Hessian up to")[2].splitlines()[0]
        assert dense(shared_tmp / "h.h5", 1)[1] > 0.0


def perfect_silicon():
    return PerfectCell(lattice_named("diamond"), 5.43, (1, 1, 1), ("Si",))


LAW = builtin("Si-NRLTB", electronic_temperature=0.3)


def by_differences():
    return ByDifferences(perfect_silicon(), lambda structure: LAW.evaluate(*structure))


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("forces", (0,), 2e-2),
        ("force_curvature", (0, 4), 2.0),
        ("density_first", (), 0.0),
        ("density_second", (), 2e-3),
        ("density_higher", ([0, 1], [1]), 0.5),
        ("density_higher", ([0, 9, 11], [11]), 0.5),
        ("density_higher", ([1, 10], [9, 0]), 5e-3),
        ("density_higher", ([9], [10, 1]), 5e-4),
    ],
)
def test_response_and_differences_agree_within_their_errors(name, arguments, error):
    exact = getattr(ByResponse(perfect_silicon(), LAW), name)(*arguments)
    found = getattr(by_differences(), name)(*arguments)
    a, b = exact.values, found.values
    assert found.error <= error
    assert np.abs(a).max() > 1e-2
    assert np.abs(a - b).max() <= found.error + exact.error + 1e-9
    assert found.error < 0.1 * np.abs(a).max()


def test_structures_are_asked_for_all_at_once():
    calls = []

    def answer(structures):
        calls.append(len(structures))
        return [LAW.evaluate(*structure) for structure in structures]

    at_once = asked_at_once(lambda evaluate: ByDifferences(perfect_silicon(), evaluate).forces(0), answer)
    assert calls == [12]
    np.testing.assert_array_equal(at_once.values, by_differences().forces(0).values)
