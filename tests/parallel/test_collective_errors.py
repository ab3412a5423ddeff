"""An error on one rank becomes an error on every rank."""

import pytest

from parmlip.errors import DataError, ParmlipError, RemoteError
from parmlip.parallel.comm import in_step, on_root


@pytest.mark.mpi
def test_known_error_of_one_rank_is_raised_on_all_with_its_message(comm):
    with pytest.raises(DataError, match="file x is torn"), in_step(comm, "reading"):
        if comm.rank == comm.size - 1:
            raise DataError("file x is torn")


@pytest.mark.mpi
def test_unknown_error_names_rank_and_step_elsewhere(comm):
    last = comm.size - 1
    kind = ZeroDivisionError if comm.rank == last else RemoteError
    message = "division" if comm.rank == last else f"rank {last} failed while counting"
    with pytest.raises(kind, match=message), in_step(comm, "counting"):
        if comm.rank == last:
            _ = 1 / 0


@pytest.mark.mpi
def test_root_work_gives_its_result_or_its_error_to_all(comm):
    assert on_root(comm, "adding", lambda a, b: a + b, 2, 3) == 5

    def fail() -> None:
        raise DataError("no such file")

    with pytest.raises(ParmlipError, match="no such file"):
        on_root(comm, "reading", fail)
