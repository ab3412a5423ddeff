"""`parmlip doctor` finds this machine healthy and names what would be wrong with another."""

from __future__ import annotations

import pytest

from parmlip import doctor

MAPS = """\
7f00-7f01 r-xp 00000000 08:01 10 /usr/lib/x86_64-linux-gnu/libmpi.so.40.30.4
7f01-7f02 r-xp 00000000 08:01 11 /usr/lib/x86_64-linux-gnu/libmpi_cxx.so.40.30.1
7f02-7f03 r-xp 00000000 08:01 12 /usr/lib/x86_64-linux-gnu/libmpi_mpifh.so.40.30.0
7f03-7f04 r-xp 00000000 08:01 13 /usr/lib/x86_64-linux-gnu/libc.so.6
"""


@pytest.mark.mpi
def test_machine_that_runs_the_tests_is_healthy(comm, monkeypatch):
    monkeypatch.setattr(doctor, "_two_ranks", lambda: doctor.Check("two ranks", doctor.OK, ""))
    code, lines = doctor.run(comm)
    assert code == 0, "\n".join(lines)
    assert all(comm.bcast(lines, root=0)[i] == line for i, line in enumerate(lines))


def test_companion_libraries_of_one_mpi_are_one_mpi():
    assert len(doctor._mpi_libraries(MAPS)) == 1


def test_second_mpi_is_a_fault_that_names_both(monkeypatch):
    both = ["/opt/mpich/lib/libmpich.so.12", "/usr/lib/libmpi.so.40"]
    monkeypatch.setattr(doctor, "_mpi_libraries", lambda maps: both)
    check = doctor._mpi()
    assert check.status == doctor.FAULT
    assert all(path in check.line() for path in both)
    assert "To mend" in check.line()


@pytest.mark.parametrize("path", ["cray/libmpi_cray.so.12", "mpich/libmpich.so.12.3.0", "intel/libmpi.so.12"])
def test_other_mpi_libraries_are_recognised(path):
    assert len(doctor._mpi_libraries(MAPS + f"7f05-7f06 r-xp 0 08:01 9 /opt/{path}\n")) == 2


def test_missing_package_is_a_fault_with_a_remedy(monkeypatch):
    monkeypatch.setattr(doctor, "_PACKAGES", ("numpy", "no_such_package"))
    check = doctor._versions()[-1]
    assert check.status == doctor.FAULT
    assert "pip install no_such_package" in check.remedy


def test_unset_threads_are_a_warning_that_names_the_variable(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    check = doctor._threads()
    assert check.status == doctor.WARNING
    assert "OMP_NUM_THREADS not set" in check.detail
    assert "jobs/env.sh" in check.remedy


def test_unwritable_cache_is_a_warning(monkeypatch, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(blocker / "cache"))
    check = doctor._cache()
    assert check.status == doctor.WARNING
    assert "NUMBA_CACHE_DIR" in check.remedy


def test_failing_self_test_is_a_fault_with_its_message(comm):
    def fails(comm):
        raise ArithmeticError("7 values arrived wrong")

    check = doctor._tested("halo", fails, "mend it", comm)
    assert check.status == doctor.FAULT
    assert "7 values arrived wrong" in check.line()


@pytest.mark.mpi(3)
def test_fault_of_one_rank_is_everybodys_and_names_the_rank(comm):
    last = comm.size - 1
    mine = doctor.Check("x", doctor.FAULT if comm.rank == last else doctor.OK, "torn")
    check = doctor._agreed(mine, comm)
    assert check.status == doctor.FAULT
    assert comm.size == 1 or f"rank {last}" in check.detail


def test_ranks_started_as_separate_programs_are_a_fault_and_start_no_more(monkeypatch):
    monkeypatch.setenv(doctor._IN_CHILD, "2")
    check = doctor._two_ranks()
    assert check.status == doctor.FAULT
    assert "mpirun" in check.remedy
