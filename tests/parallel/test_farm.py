"""Work handed out piece by piece: all of it once, the same on any number of ranks, and errors end it everywhere."""

import time

import pytest

from parmlip.errors import DataError
from parmlip.parallel.farm import farm, grouped, on_group_alone, on_root_alone


@pytest.mark.mpi
@pytest.mark.parametrize("ranks_per_group", [1, 2])
def test_every_piece_is_done_once_and_known_on_every_rank(comm, ranks_per_group):
    mine = []

    def work(piece):
        mine.append(piece)
        return piece**2

    found, shares = farm(work, 23, comm=comm, what="squares", ranks_per_group=ranks_per_group)
    assert found == [i**2 for i in range(23)]
    assert sorted(i for part in comm.allgather(mine) for i in part) == list(range(23))
    assert len(shares) == -(-comm.size // ranks_per_group)
    assert sum(share.pieces for share in shares) == 23
    assert comm.rank % ranks_per_group == 0 or not mine  # the others leave their cores to the first


@pytest.mark.mpi(2, 3)
def test_a_slow_piece_does_not_hold_up_the_other_groups(comm):
    def work(piece):
        time.sleep(0.5 if piece == 0 else 0.005)
        return comm.rank

    done_by, _ = farm(work, 30, comm=comm, what="naps")
    if comm.size > 1:
        assert done_by.count(done_by[0]) < 15  # whoever had the slow one; dealt out in turn it would have 15 or 10
        assert done_by.count(done_by[0]) < 30 // comm.size


@pytest.mark.mpi
def test_failing_piece_ends_the_work_on_all_ranks_and_names_piece_and_rank(comm):
    last = comm.size - 1
    begun = []

    def work(piece):
        begun.append(piece)
        if comm.rank == last:
            raise DataError("boom")
        time.sleep(0.01)
        return piece

    with pytest.raises(DataError, match=f"configuration [0-9]+ on rank {last}: boom"):
        farm(work, 500, comm=comm, what="failing work")
    assert len(begun) < 400


@pytest.mark.mpi
def test_nothing_to_do_is_done_at_once(comm):
    assert farm(lambda piece: piece, 0, comm=comm, what="nothing")[0] == []


@pytest.mark.mpi
def test_work_of_rank_0_alone_and_its_errors_reach_all_ranks(comm):
    assert on_root_alone(comm, "adding", lambda a, b: a + b + comm.rank, 2, 3) == 5

    def fail():
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        on_root_alone(comm, "failing", fail)


@pytest.mark.mpi
@pytest.mark.parametrize("ranks_per_group", [1, 2, 3])
def test_the_ranks_of_a_group_do_each_piece_together(comm, ranks_per_group):
    with grouped(comm, ranks_per_group) as group:
        assert group.size == min(ranks_per_group, comm.size - comm.rank // ranks_per_group * ranks_per_group)
        options = {"comm": comm, "what": "sums", "ranks_per_group": ranks_per_group, "group": group}
        found, shares = farm(lambda piece: (piece, group.allreduce(1)), 11, **options)
        assert [piece for piece, _ in found] == list(range(11))
        assert sum(share.pieces for share in shares) == 11
        assert {size for _, size in found} <= {ranks_per_group, comm.size % ranks_per_group, comm.size}

        def failing(piece):
            group.Barrier()
            raise DataError("boom")

        with pytest.raises(DataError, match=r"configuration [0-9]+ on rank [0-9]+: boom"):
            farm(failing, 50, **options)
        assert farm(lambda piece: group.allreduce(piece), 0, **options)[0] == []


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2])
def test_work_of_the_first_ranks_together_and_its_errors_reach_all_ranks(comm, ranks):
    ranks = min(ranks, comm.size)
    assert on_group_alone(comm, ranks, "counting", lambda group: group.allreduce(comm.rank + 1)) == sum(
        range(1, ranks + 1)
    )

    def failing(group):
        group.Barrier()
        raise DataError("boom")

    with pytest.raises(DataError, match="boom"):
        on_group_alone(comm, ranks, "failing", failing)
