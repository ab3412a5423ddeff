"""The result file: what is written is read back, and nothing complete is ever lost."""

from __future__ import annotations

import resource

import h5py
import numpy as np
import pytest

from parmlip.errors import DataError
from parmlip.io import hdf5
from parmlip.io.hdf5 import Field, ResultFile, scalars

VALUES = {
    "float": 1.5,
    "integer": -3,
    "yes": True,
    "text": "W é",
    "words": ["a", "bc"],
    "nothing": [],
    "matrix": np.arange(6.0).reshape(2, 3),
    "complex": np.array([1 + 2j]),
    "indices": np.arange(4),
    "nested": {"z": 1.0, "a": {"deep": "down"}},
}


@pytest.fixture
def file(tmp_path):
    file = ResultFile(tmp_path / "run.h5")
    file.create({"version": "0.1", "config": "[run]\n", "ranks": 1})
    file.write_stage("build", {"n_sites": Field(53), "x": Field(np.arange(3.0), "angstrom", "positions")}, seconds=2.0)
    return file


@pytest.mark.parametrize("name", VALUES)
def test_every_kind_of_value_is_read_back_as_it_was(file, name):
    value = VALUES[name]
    file.write_stage("stage", {name: Field(value)})
    found = file.read("stage", name)
    if isinstance(value, np.ndarray):
        np.testing.assert_array_equal(found, value)
        assert found.dtype == value.dtype
    else:
        assert found == value
        assert type(found) is type(value)


def test_units_and_meaning_stand_beside_the_numbers(file):
    with h5py.File(file.path) as raw:
        assert dict(raw["build/x"].attrs) == {"units": "angstrom", "about": "positions"}
        assert raw["build"].attrs["complete"]
        assert raw.attrs["schema"] == hdf5.SCHEMA
    assert file.meta()["config"] == "[run]\n"


def test_scalars_have_dotted_keys_in_the_order_of_writing(file):
    swept = {"surrogate.total_degree": 8, "training.cell": [3, 3, 3]}
    file.write_stage("train", {"rank": Field(7), "test": Field({"force": 0.5})}, point=0, swept=swept)
    file.write_stage("train", {"rank": Field(9)}, point=1, swept={"surrogate.total_degree": 10})
    file.write_stage("report", {"slope": Field(1.0)})
    assert list(scalars(file.path).items()) == [
        ("build.n_sites", 53),
        ("report.slope", 1.0),
        ("sweep.0.values.surrogate.total_degree", 8),
        ("sweep.0.values.training.cell", "[3, 3, 3]"),
        ("sweep.0.train.rank", 7),
        ("sweep.0.train.test.force", 0.5),
        ("sweep.1.values.surrogate.total_degree", 10),
        ("sweep.1.train.rank", 9),
    ]
    assert file.stages() == [("build", None, 2.0), ("report", None, 0.0), ("train", 0, 0.0), ("train", 1, 0.0)]
    assert file.points()[1] == {"surrogate.total_degree": 10}
    assert file.complete("train", 1)
    assert not file.complete("train", 2)
    assert not file.complete("relax")
    assert file.names("train", 0) == ["rank", "test"]
    assert file.names("relax") == []


def test_ten_and_more_sweep_points_keep_their_order(file):
    for i in range(12):
        file.write_stage("train", {"rank": Field(i)}, point=i, swept={"surrogate.total_degree": i})
    assert [p["surrogate.total_degree"] for p in file.points()] == list(range(12))


@pytest.mark.parametrize("reserved", [True, False])
def test_a_full_disk_leaves_the_file_as_it_was(file, monkeypatch, reserved):
    if not reserved:  # a file system that promises room and then has none
        monkeypatch.setattr(hdf5, "_reserve", lambda path, room: None)
    before = file.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100_000, limits[1]))
    try:
        with pytest.raises(DataError, match="cannot write .*run.h5: .*what was complete before is kept"):
            file.write_stage("relax", {"u": Field(np.ones(100_000))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.path.read_bytes() == before
    assert [p.name for p in file.path.parent.iterdir()] == ["run.h5"]
    file.write_stage("relax", {"u": Field(np.ones(100_000))})
    assert file.complete("relax")


def test_a_write_that_is_broken_off_leaves_the_file_as_it_was(file):
    before = file.path.read_bytes()
    with pytest.raises(ValueError, match="must be without"):
        file.write_stage("relax", {"good": Field(1.0), "bad/name": Field(1.0)})
    assert file.path.read_bytes() == before
    assert [p.name for p in file.path.parent.iterdir()] == ["run.h5"]


def test_files_that_are_no_result_files_are_told_apart(file, tmp_path):
    with pytest.raises(DataError, match=r"result file .*absent.h5 does not exist"):
        ResultFile(tmp_path / "absent.h5").meta()
    data = file.path.read_bytes()
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(DataError, match=r"text.h5 is not an HDF5 file"):
        scalars(tmp_path / "text.h5")
    (tmp_path / "half.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"half.h5 is truncated"):
        scalars(tmp_path / "half.h5")
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(DataError, match=r"other.h5 is not a parmlip result file"):
        scalars(tmp_path / "other.h5")
    with h5py.File(file.path, "r+") as raw:
        raw.attrs["schema"] = 99
    with pytest.raises(DataError, match="has schema version 99; this parmlip reads 1"):
        scalars(file.path)


def test_an_absent_result_is_told_with_its_stage(file):
    with pytest.raises(DataError, match="stage 'build' has no result 'energy'"):
        file.read("build", "energy")
    with pytest.raises(DataError, match="stage 'relax' has no result 'energy'"):
        file.read("relax", "energy")


def test_a_directory_that_does_not_exist_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot write .*: No such file or directory"):
        ResultFile(tmp_path / "absent" / "run.h5").create({})
