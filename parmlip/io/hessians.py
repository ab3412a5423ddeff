"""Hessians of structures in HDF5: compressed block rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from parmlip.errors import DataError


@dataclass(frozen=True)
class BlockRows:
    """A block matrix over sites: blocks first_r[i] .. first_r[i + 1] are in row i and in the columns column_b."""

    first_r: NDArray[np.int64]  # (n_sites + 1,)
    column_b: NDArray[np.int64]  # (n_blocks,)
    block_bcd: NDArray[np.float64]  # (n_blocks, d, d), eV / angstrom^2
    error: float | None = None  # of the largest, eV / angstrom^2, where it was found by differences


def write_hessians(path: Path, hessians: Sequence[BlockRows]) -> None:
    """Write one group a structure ("/0", "/1", ...); the file appears complete or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        with h5py.File(part, "w") as file:
            for number, rows in enumerate(hessians):
                group = file.create_group(str(number))
                group.attrs["layout"] = "block compressed rows over sites: indptr, indices, blocks"
                group["indptr"] = rows.first_r
                group["indices"] = rows.column_b
                group["blocks"] = rows.block_bcd
                group["blocks"].attrs["units"] = "eV/A^2"
                if rows.error is not None:
                    group["blocks"].attrs["error"] = rows.error
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error}") from error
