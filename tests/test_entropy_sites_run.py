"""Site entropies, gradients and predictions of a surrogate in the stage entropy, by input file."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import loads
from parmlip.errors import ConfigError
from parmlip.io.hdf5 import ResultFile
from parmlip.pipeline import run

INPUT = """
[run]
stages = ["build", "reference", "train", "relax", "entropy"]
output = "OUTPUT"
[crystal]
lattice = "diamond"
species = ["Si"]
lattice_constant = 5.43
[reference]
kind = "stillinger_weber"
parameters = "Si-SW-2.1675"
[simulation]
cell = [2, 2, 2]
defects = [ { kind = "vacancy", at = [0, 0, 0] } ]
[[training]]
name = "vacancy"
cell = [2, 2, 1]
defects = [ { kind = "vacancy", at = [0, 0, 0] } ]
samples = 8
test_samples = 0
rattle = { amplitude = 0.05, kind = "julip" }
[surrogate]
target = "entropy"
correlation_order = 2
total_degree = 8
cutoff = 5.5
[fit]
homogeneous = 3
[relax]
laws = ["reference"]
[entropy]
sites = [0, 1, 5]
gradients = true
truncation_radius = 4.0
finite_size = false
"""


def done(path, *changes, comm=MPI.COMM_SELF):
    run(loads(INPUT.replace("OUTPUT", str(path)), changes), comm)
    return ResultFile(path)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return done(tmp_path_factory.mktemp("sites") / "run.h5")


def test_chosen_sites_have_entropies_gradients_and_truncated_entropies(result):
    values = result.read("entropy", "site_entropy")
    assert values.shape == (3,)
    assert result.read("entropy", "site_method_difference") < 1e-10
    truncated = result.read("entropy", "truncated_site_entropy")
    # this vacancy hardly relaxes, so that there is little to truncate
    assert np.abs(truncated - values).max() < 1e-3
    assert result.read("entropy", "site_gradients").shape == (3, 63, 3)
    gradient = result.read("entropy", "gradient")
    assert gradient.shape == (63, 3)
    assert np.abs(gradient.sum(axis=0)).max() < 1e-12  # no change under translation


def test_gradients_of_chosen_sites_alone_are_those_of_the_whole(result, tmp_path):
    stages = 'run.stages=["build", "reference", "relax", "entropy"]'
    some = done(tmp_path / "some.h5", stages, 'entropy.gradients="sites"', "entropy.sites=[0, 5]")
    whole = result.read("entropy", "gradient")
    np.testing.assert_allclose(some.read("entropy", "sites_gradient"), whole[[0, 5]], atol=1e-11)
    np.testing.assert_allclose(
        some.read("entropy", "site_gradients"), result.read("entropy", "site_gradients")[[0, 2]], atol=1e-11
    )
    assert "gradient" not in some.names("entropy")


def test_site_entropies_of_log_h_add_up_to_the_entropy_of_the_cell(tmp_path):
    absolute = done(
        tmp_path / "absolute.h5", 'run.stages=["build", "reference", "relax", "entropy"]', "entropy.gradients=false",
        'entropy.decomposition="absolute"', 'entropy.sites="all"', "entropy.truncation_radius=100.0",
    )  # fmt: skip
    values = absolute.read("entropy", "site_entropy")
    of_cell = absolute.read("entropy", "formation") + 63 / 64 * absolute.read("entropy", "perfect")
    assert values.sum() == pytest.approx(of_cell, abs=1e-7)
    # nothing is cut off
    np.testing.assert_allclose(absolute.read("entropy", "truncated_site_entropy"), values, atol=1e-9)


def test_all_sites_and_the_vacant_one_add_up_to_the_whole(result, tmp_path):
    all_sites = done(
        tmp_path / "all.h5", 'entropy.sites="all"', 'run.stages=["build", "reference", "relax", "entropy"]'
    )
    values = all_sites.read("entropy", "site_entropy")
    assert values.shape == (63,)
    np.testing.assert_allclose(values[[0, 1, 5]], result.read("entropy", "site_entropy"), atol=1e-10)
    near = all_sites.read("entropy", "near_sites")
    vacant = all_sites.read("entropy", "near_entropy")[near < 0].sum()
    assert values.sum() + vacant == pytest.approx(all_sites.read("entropy", "fhf"), abs=1e-7)
    total = all_sites.read("entropy", "site_gradients").sum(axis=0)
    # what is missing is the derivative of the vacant site's entropy
    assert 0.0 < np.abs(total - all_sites.read("entropy", "gradient")).max() < 0.5


def test_a_surrogate_of_the_entropy_predicts_the_cell_beside_the_direct_numbers(result):
    direct = result.read("entropy", "formation")
    assert result.read("predict_entropy", "formation_direct") == direct
    predicted = result.read("predict_entropy", "formation")
    assert predicted == pytest.approx(direct, abs=0.2)
    assert result.read("predict_entropy", "site_entropy").sum() == pytest.approx(predicted, abs=1e-10)
    error = result.read("predict_entropy", "gradient") - result.read("entropy", "gradient")
    assert np.sqrt(np.mean(error**2)) == pytest.approx(result.read("predict_entropy", "gradient_rmse"))
    assert result.read("predict_entropy", "gradient_rmse") < 0.5 * np.sqrt(
        np.mean(result.read("entropy", "gradient") ** 2)
    )


@pytest.mark.mpi(2)
def test_sites_and_gradients_do_not_depend_on_the_number_of_ranks(shared_tmp, tmp_path, comm):
    stages = 'run.stages=["build", "reference", "relax", "entropy"]'
    alone = done(tmp_path / "alone.h5", stages)
    found = done(shared_tmp / "ranks.h5", stages, comm=comm)
    comm.Barrier()
    for name in ("site_entropy", "gradient", "site_gradients", "truncated_site_entropy"):
        np.testing.assert_allclose(found.read("entropy", name), alone.read("entropy", name), atol=1e-9)


def test_a_site_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"\[entropy\] sites: there is no site 63; the cell has 63, from 0"):
        done(tmp_path / "no.h5", "entropy.sites=[63]", 'run.stages=["build", "reference", "relax", "entropy"]')


def test_gradients_of_no_sites_are_told_before_any_work(tmp_path):
    with pytest.raises(ConfigError, match=r'\[entropy\] gradients = "sites": needs sites'):
        loads(INPUT.replace("OUTPUT", str(tmp_path / "no.h5")), ['entropy.gradients="sites"', 'entropy.sites="none"'])
