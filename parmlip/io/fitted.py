"""Fitted laws as they stand in files: result files (`.h5`) and potential files (`.yace`). All is local."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parmlip.errors import ConfigError
from parmlip.io.hdf5 import ResultFile
from parmlip.io.pace import read_yace
from parmlip.io.results import check_point
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.committee import Committee


def fitted_law(path: Path | str, point: int | None = None) -> ACE:
    """The law that a potential file holds, or a result file (at a point of its sweep).

    Raises
    ------
    DataError
        The file is missing, broken, or holds no law.
    ConfigError
        The name has another ending, `point` does not fit the file, or what was fitted is an entropy, no energy.
    """
    path = Path(path)
    if path.suffix == ".yace":
        if point is not None:
            raise ConfigError(f"point {point}: {path} holds one potential, not a sweep")
        return read_yace(path)
    if path.suffix != ".h5":
        raise ConfigError(f"{path}: a fitted law stands in a result file (.h5) or a potential file (.yace)")
    check_point(path, point)
    file = ResultFile(path)
    if of_entropy(file.names("train", point)):
        raise ConfigError(
            f'{path}: its surrogate is of the entropy in k_B ([surrogate] target = "entropy"), not a potential: it '
            "cannot be exported, nor be a calculator or a [reference]; parmlip evaluate gives its entropies"
        )
    basis = ACEBasis.from_parameters(file.read("train", "basis", point))
    return ACE(basis, np.asarray(file.read("train", "coefficients", point)))


def fitted_committee(path: Path | str, point: int | None = None) -> Committee | None:
    """The committee that stands beside the law of a result file; None if there is none (or a potential file).

    Raises
    ------
    As `fitted_law`.
    """
    path = Path(path)
    if path.suffix != ".h5":
        return None
    check_point(path, point)
    file = ResultFile(path)
    if "committee" not in file.names("train", point):
        return None
    basis = ACEBasis.from_parameters(file.read("train", "basis", point))
    scales = (float(file.read("train", f"calibration_{of}", point)) for of in ("energy", "force"))
    return committee_of(basis, np.asarray(file.read("train", "committee", point)), *scales)


def committee_of(basis: ACEBasis, deviation_ik: NDArray[np.float64], energy: float, force: float) -> Committee:
    """Laws from the deviations of members, (n, functions of many bodies); one-body energies do not deviate."""
    basis = basis.linear_part  # nor does a fixed part deviate
    without = replace(basis, one_body=False) if basis.n_basis != deviation_ik.shape[1] else basis
    return Committee(tuple(ACE(without, deviation_k) for deviation_k in deviation_ik), energy, force)


def of_entropy(names: Sequence[str]) -> bool:
    """Whether results of the stage `train` with these names are of a surrogate of the entropy, not of the energy."""
    return "entropy_errors" in names
