"""Couplings kept on disk: they depend on a few numbers only, and large bases take seconds to couple. All is local.

The directory is `parmlip/couplings` below $XDG_CACHE_HOME (by default ~/.cache). A file is written aside and renamed,
so that ranks and jobs that write the same one do each other no harm; one that cannot be read or does not hold what its
name says is built again. Where nothing can be written, nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Final

import numpy as np

from parmlip.potentials import ace_coupling
from parmlip.potentials.ace_coupling import Couplings, OneParticle, build_couplings

# Smaller bases are coupled faster than a file is found and read.
LEAST_TERMS: Final = 2000


def cache_directory() -> Path:
    """Where couplings are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~").expanduser() / ".cache")
    return Path(home) / "parmlip" / "couplings"


def cached_couplings(n_species: int, degrees: tuple[float, ...], weight_l: float, dimension: int) -> Couplings:
    """`build_couplings`, from the disk if they are kept there; `degrees` has one number for each correlation order."""
    key = coupling_key(n_species, degrees, weight_l, dimension)
    path = cache_directory() / (hashlib.sha256(key.encode()).hexdigest()[:32] + ".npz")
    kept = _read(path, key)
    if kept is not None:
        return kept
    built = build_couplings(n_species, len(degrees), degrees, weight_l, dimension)
    if len(built.coefficient_t) >= LEAST_TERMS:
        _write(path, key, built)
    return built


def coupling_key(n_species: int, degrees: tuple[float, ...], weight_l: float, dimension: int) -> str:
    """What the couplings depend on: the numbers, and the source text that couples (so no version can be forgotten)."""
    numbers = [n_species, [float(d) for d in degrees], float(weight_l), dimension]
    source = hashlib.sha256(Path(ace_coupling.__file__).read_bytes()).hexdigest()
    return json.dumps([*numbers, source, np.__version__])


def _read(path: Path, key: str) -> Couplings | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            data = {name: file[name] for name in file.files}
        if str(data["key"]) != key or str(data["digest"]) != _digest(data):
            return None
        bounds, rows = data["bounds_k"].tolist(), [tuple(row) for row in data["slots"].tolist()]
        names = tuple(tuple(rows[lo:hi]) for lo, hi in zip(bounds[:-1], bounds[1:], strict=True))
        one_particle = OneParticle(int(data["n_species"]), data["n_max_l"])
        return Couplings(one_particle, names, data["first_k"], data["coefficient_t"], data["factor_tf"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _write(path: Path, key: str, couplings: Couplings) -> None:
    data = {
        "key": np.array(key),
        "n_species": np.array(couplings.one_particle.n_species),
        "n_max_l": couplings.one_particle.n_max_l,
        "bounds_k": np.cumsum([0, *(len(slots) for slots in couplings.slots_k)]),
        "slots": np.array([slot for slots in couplings.slots_k for slot in slots], np.int64),
        "first_k": couplings.first_k,
        "coefficient_t": couplings.coefficient_t,
        "factor_tf": couplings.factor_tf,
    }
    data["digest"] = np.array(_digest(data))
    part = ""
    with contextlib.suppress(OSError):  # a full or read-only disk costs only the time to build again
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{path.stem}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **data)  # type: ignore[arg-type]
        os.replace(part, path)
        part = ""
    if part:
        with contextlib.suppress(OSError):
            os.unlink(part)


def _digest(data: dict[str, np.ndarray]) -> str:
    """Of everything else in the file."""
    whole = hashlib.sha256()
    for name in sorted(set(data) - {"digest"}):
        whole.update(f"{name} {data[name].shape} ".encode() + np.ascontiguousarray(data[name]).tobytes())
    return whole.hexdigest()
