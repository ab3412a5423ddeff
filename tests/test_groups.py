"""Points of a sweep side by side on groups of ranks: the same results, failures kept apart, resumable."""

import numpy as np
import pytest

from parmlip.config import loads
from parmlip.errors import ConvergenceError, DataError, RemoteError
from parmlip.io.hdf5 import Field, ResultFile, scalars
from parmlip.parallel.farm import Turns
from parmlip.pipeline import run
from parmlip.pipeline_stages import STAGES
from tests.test_controlled import INPUT

SWEEP = ('sweep."training.cell"=[[4, 4], [5, 5], [6, 6]]', "simulation.cell=[16, 16]", "simulation.defects.0.at=[8, 8]",
         "run.threads=1")  # fmt: skip


def study(path, *overrides):
    return loads(INPUT.format(output=path), [*SWEEP, *overrides])


def failing(error, at=1):
    """The stages, of which relax_surrogate raises at a point."""
    step = STAGES["relax_surrogate"]

    def fail(of, results, comm):
        if results.point == at:
            raise error
        return step.run(of, results, comm)

    return {**STAGES, "relax_surrogate": type(step)(fail, step.stage, step.needs, step.tables, step.optional)}


@pytest.mark.mpi
def test_groups_have_the_results_of_all_ranks_together(comm, shared_tmp):
    run(study(shared_tmp / "together.h5"), comm)
    run(study(shared_tmp / "groups.h5", "run.groups=2"), comm)
    if comm.rank == 0:
        one, two = (scalars(shared_tmp / f"{name}.h5") for name in ("together", "groups"))
        compared = [key for key in one if key.endswith(("geometry_error", "formation_energy_error", "domain_size"))]
        assert len(compared) >= 9
        np.testing.assert_allclose(
            [two[key] for key in compared], [one[key] for key in compared], rtol=1e-6, atol=1e-10
        )


@pytest.mark.mpi
def test_a_failing_point_is_told_to_all_groups_and_done_alone_on_resuming(comm, shared_tmp):
    path = shared_tmp / "failed.h5"
    with pytest.raises(ConvergenceError, match=r"1 of 3 points of the sweep failed; first relax_surrogate"):
        run(study(path, "run.groups=2"), comm, stages=failing(ConvergenceError("no way down")))
    if comm.rank == 0:
        done = {(name, point) for name, point, _ in ResultFile(path).stages()}
        assert {("compare", 0), ("compare", 2)} <= done
        assert ("relax_surrogate", 1) not in done
    again = []
    step = STAGES["relax_surrogate"]

    def counted(of, results, group):
        again.append(results.point)
        return step.run(of, results, group)

    stages = {**STAGES, "relax_surrogate": type(step)(counted, step.stage, step.needs, step.tables, step.optional)}
    run(study(path), comm, resume=True, stages=stages)
    assert again == [1]


@pytest.mark.mpi
def test_another_error_of_a_group_ends_the_run_on_all_ranks(comm, shared_tmp):
    with pytest.raises((DataError, RemoteError), match="broken"):
        run(study(shared_tmp / "broken.h5", "run.groups=3"), comm, stages=failing(DataError("broken")))


@pytest.mark.mpi
def test_turns_are_taken_one_after_the_other(comm, shared_tmp):
    path = shared_tmp / "turns.h5"
    if comm.rank == 0:
        ResultFile(path).create({})
    comm.Barrier()
    turns = Turns(comm)
    for i in range(5):
        with turns.turn():
            ResultFile(path).write_stage(
                "build", {f"x{comm.rank}": Field(i)}, seconds=0.0, point=10 * comm.rank + i, swept={}
            )
    comm.Barrier()
    turns.free()
    if comm.rank == 0:
        assert len(ResultFile(path).stages()) == 5 * comm.size
