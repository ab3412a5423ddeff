"""A DFT-like data set (an embedded-atom law with noise): constraints met, and bars that cover the true errors."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from mpi4py import MPI

from parmlip.crystal.lattices import LATTICES
from parmlip.errors import DataError
from parmlip.fit.dataset import Dataset, labelled
from parmlip.fit.dataset_files import dataset_of
from parmlip.fit.design import build_factors, fit
from parmlip.fit.homogeneous import constraints_of
from parmlip.fit.posterior import calibrated, draws, spread
from parmlip.fit.prediction import compared
from parmlip.io.extxyz import read_labelled
from parmlip.mechanics.bulk import UnitCell, relaxed_lattice
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.eam import builtin

SELF = MPI.COMM_SELF
N_MEMBERS = 32
LAW = builtin("W-Zhou", (3.8, 5.0))
BASIS = ACEBasis(("W",), correlation_order=3, total_degree=12, cutoff=5.0, r0=2.74, r_in=1.9)


def maker():
    """The script that makes the repository's example."""
    path = Path(__file__).parent.parent / "inputs" / "data" / "make_tungsten.py"
    spec = importlib.util.spec_from_file_location("make_tungsten", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(module, path: Path, seed: int, n: int, sigmas: bool) -> Path:
    """Structures with noisy labels, and the size of the noise beside them."""
    stream = np.random.default_rng(seed)
    frames = [module.labelled(atoms, stream) for atoms in module.structures(stream, n)]
    if sigmas:
        for atoms in frames:
            atoms.info["energy_sigma"] = module.NOISE["energy"] * len(atoms)
            atoms.info["force_sigma"] = module.NOISE["forces"]
            atoms.info["virial_sigma"] = module.NOISE["virial"] * len(atoms)
    ase.io.write(path, frames, format="extxyz", columns=["symbols", "positions", "REF_forces"], parallel=False)
    return path


@pytest.fixture(scope="module", params=["known noise", "unknown noise"])
def studies(request, tmp_path_factory):
    """Several data sets: one has few energies, and they are not independent."""
    directory = tmp_path_factory.mktemp("data")
    return [study(directory, 10 * i, request.param == "known noise") for i in range(1, 8)]


def study(directory, seed, known):
    """Fit of files with the reference's lattice constant and elastic constants, calibrated; truth of new states."""
    module = maker()
    paths = [written(module, directory / f"{seed + i}.xyz", seed + i, n, known) for i, n in ((1, 30), (2, 8), (3, 20))]
    train, test, _ = read_labelled(paths[:1], paths[1:2])
    fresh, _, _ = read_labelled(paths[2:])
    training, testing, held_out = (dataset_of(of, {"W": module.FREE_ATOM}, "sqrt") for of in (train, test, fresh))
    crystal = relaxed_lattice(LAW, LATTICES["bcc"], ("W",))
    constraints = constraints_of(("energy", "stress", "elastic"), BASIS, LAW, *crystal, ("W",))
    weights = dict.fromkeys(("energy", "force", "virial"), 1.0)
    if not known:
        weights |= {"energy": 100.0}
    factors = build_factors(BASIS, training, tuple(weights), comm=SELF)
    found = fit(factors, weights, solver="blr", tolerance=1e-8, prior_k=BASIS.smoothness(), constraints=constraints,
                comm=SELF)  # fmt: skip
    law = ACE(BASIS, found.coefficients)
    assert found.covariance_factor is not None
    deviation_ik = draws(np.zeros(BASIS.n_basis), found.covariance_factor, N_MEMBERS, seed=4)
    factor_km = deviation_ik.T / np.sqrt(N_MEMBERS)
    predicted = compared(testing, labelled(law, testing.configurations, comm=SELF))
    scales = calibrated(predicted, spread(BASIS, testing, factor_km, comm=SELF))
    true = labelled(LAW, held_out.configurations, comm=SELF)
    return known, law, crystal, scales, factor_km, true


def test_the_fit_has_the_references_lattice_constant_and_elastic_constants(studies):
    for _, law, crystal, *_ in studies:
        ours, theirs = (UnitCell(of, *crystal, ("W",)) for of in (law, LAW))
        mine, other = (of.stiffness()[1] for of in (ours, theirs))
        assert np.abs(mine - other).max() < 1e-10 * np.abs(other).max()
        bulk_modulus = (other[0, 0] + 2.0 * other[0, 1]) / 3.0
        shift = np.trace(ours.strain_gradient()) / ours.volume / (9.0 * bulk_modulus)  # of the lattice constant
        assert abs(shift) < 1e-10
        assert ours.energy == pytest.approx(theirs.energy, rel=1e-10)


def test_bars_cover_the_true_errors_of_new_structures_and_are_not_much_wider(studies):
    parts = {"energy": [], "force": []}
    for _, law, _, scales, factor_km, true in studies:
        prediction = compared(true, labelled(law, true.configurations, comm=SELF))
        bars = spread(BASIS, true, factor_km, comm=SELF)
        error_o = prediction.energy_o - prediction.energy_reference_o
        parts["energy"].append((error_o, scales.energy_scale * bars.energy_o, 1e-3 * prediction.n_sites_o))
        error_o = prediction.force_o - prediction.force_reference_o
        parts["force"].append((error_o, scales.force_scale * bars.force_o, np.full(len(error_o), 1e-2)))
        assert scales.force_coverage_2sigma > 0.9
        assert not studies[0][0] or 1.0 <= scales.force_scale < 4.0
    for of in parts.values():
        error_o, bar_o, noise_o = (np.concatenate(column) for column in zip(*of, strict=True))
        assert np.mean(np.abs(error_o) <= 2.0 * bar_o) >= 0.9
        # not much wider: unknown noise of the test labels counts as error of the law, and of energies there are few
        seen_o = error_o if studies[0][0] else np.hypot(error_o, noise_o)
        assert np.sqrt(np.mean(bar_o**2)) < 5.0 * np.sqrt(np.mean(seen_o**2))


def test_a_standard_deviation_is_a_weight_and_bad_ones_are_named(tmp_path):
    module = maker()
    path = written(module, tmp_path / "a.xyz", 1, 1, sigmas=True)
    (first, *_), _, _ = read_labelled([path])
    dataset = dataset_of([first], {"W": module.FREE_ATOM}, "atom")
    assert dataset.labels[0].weights["energy"] == pytest.approx((1e-3 * first.n_sites) ** -2)
    told = dataset_of([replace(first, sigmas={})], {"W": module.FREE_ATOM}, "atom", {"energy": 1e-3, "force": 0.0})
    assert told.labels[0].sigmas == {"energy": 1e-3 * first.n_sites}
    assert told.labels[0].weights["energy"] == pytest.approx(first.n_sites**-2)
    again = Dataset.unpacked(dataset.packed())
    assert again.labels[0].sigmas == dataset.labels[0].sigmas == first.sigmas
    frames = ase.io.read(path, ":", parallel=False)
    frames[0].info["force_sigma"] = 0.0
    ase.io.write(path, frames, format="extxyz", parallel=False)
    with pytest.raises(DataError, match="force_sigma = 0.0 must be finite and greater than 0"):
        read_labelled([path])
