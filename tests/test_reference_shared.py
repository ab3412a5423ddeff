"""One large structure of a whole-structure law shared by the ranks of a group, from the input to the result."""

import numpy as np
import pytest
from ase import Atoms
from mpi4py import MPI

from parmlip.config import loads
from parmlip.construct import total_law
from parmlip.errors import GeometryError
from parmlip.evaluate_total import evaluate_total
from parmlip.io.hdf5 import ResultFile
from parmlip.pipeline import run
from parmlip.potentials.tight_binding_contour import ContourTightBinding
from tests.potentials.test_tight_binding_contour import silicon

INPUT = """
[run]
stages = ["build", "reference", "relax"]
output = "{output}"
[crystal]
lattice = "diamond"
species = ["Si"]
lattice_constant = 5.43
[simulation]
cell = [1, 1, 1]
defects = [{{ kind = "vacancy", at = [0.0, 0.0, 0.0] }}]
[reference]
kind = "tight_binding"
parameters = "Si-NRLTB"
electronic_temperature = 0.3
evaluator = "contour"
cluster_radius = 6.7
fermi_level = 5.9
ranks_per_calculator = {ranks}
[relax]
laws = ["reference"]
force_tolerance = 0.05
"""


def structures():
    cell_cc, positions_ac = silicon(1)
    return [Atoms(["Si"] * n, positions_ac[:n], cell=cell_cc, pbc=True) for n in (8, 5)]


@pytest.mark.mpi(2, 3)
@pytest.mark.parametrize("keep", [False, True])
def test_labels_of_shared_structures_are_those_of_one_rank(comm, shared_tmp, monkeypatch, keep):
    asked = []
    evaluate = ContourTightBinding.evaluate

    def counted(law, *structure):
        asked.append(1 if law.comm is None else law.comm.size)
        return evaluate(law, *structure)

    monkeypatch.setattr(ContourTightBinding, "evaluate", counted)
    study = loads(INPUT.format(output=shared_tmp / "one.h5", ranks=3))
    found, _ = evaluate_total(study, structures(), comm=comm, keep=keep)
    assert asked == [comm.size, comm.size]  # every rank has its part of both
    law = total_law(study)
    for atoms, given in zip(found, structures(), strict=True):
        alone = evaluate(law, given.cell.array, (True,) * 3, given.positions, ["Si"] * len(given))
        assert atoms.get_potential_energy() == pytest.approx(alone.energy, rel=1e-10)
        np.testing.assert_allclose(atoms.get_forces(), alone.forces_ac, rtol=0, atol=1e-10)
    asked.clear()
    again, answers = evaluate_total(study, structures(), comm=comm, keep=keep)
    assert answers.n_kept == (2 if keep else 0)
    if keep:
        assert not asked
        assert again[0].get_potential_energy() == found[0].get_potential_energy()


@pytest.mark.mpi(2, 3)
def test_an_error_in_a_shared_structure_ends_the_work_on_all_ranks(comm, shared_tmp):
    study = loads(INPUT.format(output=shared_tmp / "bad.h5", ranks=2))
    atoms = structures()[0]
    atoms.positions[1] = atoms.positions[0] + [0.1, 0.0, 0.0]
    with pytest.raises(GeometryError, match="configuration 0 on rank [012]: sites 0 and 1"):
        evaluate_total(study, [atoms], comm=comm, keep=True)


@pytest.mark.mpi(3)
def test_an_equilibrium_found_together_is_that_of_one_rank(comm, shared_tmp):
    run(loads(INPUT.format(output=shared_tmp / "shared.h5", ranks=2)), comm)
    if comm.rank == 0:
        run(loads(INPUT.format(output=shared_tmp / "alone.h5", ranks=1)), MPI.COMM_SELF)
        one, two = (ResultFile(shared_tmp / f"{name}.h5") for name in ("alone", "shared"))
        for name in ("displacement", "energy", "formation_energy"):
            first, second = (np.asarray(file.read("relax_reference", name)) for file in (one, two))
            np.testing.assert_allclose(second, first, rtol=0, atol=1e-9)
    comm.Barrier()
