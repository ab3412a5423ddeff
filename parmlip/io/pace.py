"""Potential files of LAMMPS' pair style pace (`.yace`): export of a fitted expansion, and reading it back.

References
----------
Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021), and the reader of libpace (`load_yaml` of its C-tilde basis).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from math import pi
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import parmlip
from parmlip.crystal.lattices import lattice_named
from parmlip.crystal.neighbours import find_pairs, pair_vectors
from parmlip.errors import ConfigError, DataError
from parmlip.io.pace_reader import read_document, site_energies_and_gradients
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.ace_coupling import Slot, invariants_of
from parmlip.potentials.base import Environments

# A file whose energies or forces deviate by more, relative to the largest, is not handed out: 1e-14 is usual, and
# large coefficients that cancel cost some digits.
LARGEST_DEVIATION: Final = 1e-8


def write_yace(path: Path, law: ACE) -> dict[str, Any]:
    """Write the potential and, beside it (`NAME.yace.json`), its certificate, which is returned.

    Raises
    ------
    DataError
        A file cannot be written, or the independent reader finds other energies or forces in it than the law's; or
        the law has what the format cannot hold.
    """
    path = Path(path)
    if law.basis.pair_degree:
        raise DataError(
            f"{path}: the law has pair functions (pair_degree = {law.basis.pair_degree}), but a .yace file holds one "
            "set of radial functions for each pair of species; fit with pair_degree = 0 to export"
        )
    if law.basis.repulsion != "none":
        raise DataError(
            f'{path}: the law has a fixed repulsion ("{law.basis.repulsion}"), which a .yace file cannot hold; fit '
            'with repulsion = "none" to export'
        )
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text("".join(f"{line}\n" for line in _lines(law)), encoding="utf-8")
        certificate = _certificate(path.name, part, law)
        text = json.dumps(certificate, indent=1)
        os.replace(part, path)
        certificate_path(path).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return certificate


def certificate_path(path: Path) -> Path:
    """Where the certificate of a potential file stands."""
    return path.with_name(path.name + ".json")


def read_yace(path: Path) -> ACE:
    """The law of a potential file that parmlip wrote, to rounding.

    Raises
    ------
    DataError
        The file is missing, was written by another program, or was changed.
    """
    document = read_document(path)
    if "parmlip" not in document:
        raise DataError(f"potential file {path} was not written by parmlip: its basis is not known")
    basis = ACEBasis.from_parameters(document["parmlip"]["basis"])
    blocks = []
    for centre in range(len(basis.species)):
        found = {tuple(zip(f["ns"], f["ls"], f["mus"], strict=True)): f for f in document["functions"].get(centre, ())}
        block = [document["E0"][centre]] if basis.one_body else []
        for slots, _, factors, m_tf, coupling_kt in _groups(basis):
            given = found.pop(tuple(factors), None)
            if given is None:
                block += [0.0] * len(coupling_kt)
                continue
            place = {tuple(m): t for t, m in enumerate(m_tf.tolist())}
            weight_t = np.zeros(len(m_tf))
            m_given = np.reshape(given["ms_combs"], (-1, len(slots))).tolist()
            for m, value in zip(m_given, given["ctildes"], strict=True):
                if tuple(m) not in place:
                    raise DataError(f"potential file {path}: the basis has no m = {m} for {factors}")
                weight_t[place[tuple(m)]] = value
            coefficient_k = np.linalg.lstsq(coupling_kt.T, weight_t, rcond=None)[0]
            if np.abs(coefficient_k @ coupling_kt - weight_t).max() > 1e-9 * np.abs(weight_t).max():
                raise DataError(f"potential file {path}: the coefficients of {factors} are not those of invariants")
            block += coefficient_k.tolist()
        if found:
            raise DataError(f"potential file {path}: the basis has no function {next(iter(found))}")
        blocks += block
    law = ACE(basis, np.array(blocks))
    if json.loads(json.dumps(_bond(basis))) != document["bonds"].get((0, 0)):
        raise DataError(f"potential file {path}: its radial functions are not those of the basis that it names")
    return law


def _lines(law: ACE) -> Iterator[str]:
    """The file line by line; mappings and lists within a line are written as JSON, which is YAML too."""
    basis = law.basis
    n_species = len(basis.species)
    blocks = law.coefficients.reshape(n_species, basis.n_block)
    skipped = int(basis.one_body)
    yield f"# {', '.join(basis.species)}: atomic cluster expansion by parmlip {parmlip.__version__}; eV, angstrom"
    yield f"# pair_style pace; valid from {law.closest:.6g} to {basis.cutoff:.6g} angstrom"
    yield f"elements: {_flow(list(basis.species))}"
    yield f"E0: {_flow([float(block[0]) if skipped else 0.0 for block in blocks])}"
    yield f"lmax: {len(basis.couplings.one_particle.n_max_l) - 1}"
    yield "deltaSplineBins: 0.001"  # of other kinds of radial functions, but wanted by some readers
    yield f"parmlip: {_flow({'version': parmlip.__version__, 'basis': basis.parameters()})}"
    yield "embeddings:"
    embedding = {
        "ndensity": 1, "FS_parameters": [1.0, 1.0], "npoti": "FinnisSinclairShiftedScaled",
        "rho_core_cutoff": 100000.0, "drho_core_cutoff": 250.0,
    }  # fmt: skip
    for centre in range(n_species):
        yield f"  {centre}: {_flow(embedding)}"
    yield "bonds:"
    bond = _flow(_bond(basis))
    for centre in range(n_species):
        for neighbour in range(n_species):
            yield f"  [{centre}, {neighbour}]: {bond}"
    yield "functions:"
    for centre, block in enumerate(blocks):
        written = False
        for slots, first, factors, m_tf, coupling_kt in _groups(basis):
            weight_t = block[skipped + first : skipped + first + len(coupling_kt)] @ coupling_kt
            used = np.flatnonzero(weight_t)
            if not len(used):
                continue
            if not written:
                yield f"  {centre}:"
            written = True
            function = {
                "mu0": centre, "rank": len(slots), "ndensity": 1, "num_ms_combs": len(used),
                "mus": [z for _, _, z in factors], "ns": [n for n, _, _ in factors],
                "ls": [ell for _, ell, _ in factors],
                "ms_combs": m_tf[used].ravel().tolist(), "ctildes": weight_t[used].tolist(),
            }  # fmt: skip
            yield f"    - {_flow(function)}"
        if not written:
            yield f"  {centre}: []"  # libpace leaves the sizes of a species without this line undefined


def _bond(basis: ACEBasis) -> dict[str, Any]:
    """The radial functions, the same for every pair of species; at least two, since libpace always forms P_2."""
    n_max = max(2, int(basis.couplings.one_particle.n_max_l.max()))
    radial = replace(basis.radial, n_max=n_max)
    left, right = radial.ends
    return {
        "radbasename": "ACE.jl.Basic", "rcut": radial.cutoff, "xl": left, "xr": right, "pl": radial.p_cut,
        "pr": radial.p_in, "r0": radial.r0, "p": radial.transform_power, "maxn": n_max,
        "recursion_coefficients": {name: radial.recursion_nk[:, i].tolist() for i, name in enumerate("ABC")},
    }  # fmt: skip


def _groups(
    basis: ACEBasis,
) -> Iterator[tuple[tuple[Slot, ...], int, list[Slot], NDArray[np.int64], NDArray[np.float64]]]:
    """The functions that multiply the same slots, together: slots, first function, factors in order, m and couplings.

    The file's A has Y_00 = 1, so every factor takes 1 / sqrt(4 pi). Since A_(l, -m) = (-1)^m conj(A_lm) and all m sum
    to zero, the products of m and -m have the same real part: one of them stands for both.
    """
    first = 0
    for slots, same in groupby(basis.couplings.slots_k):
        groups = sorted((s[1], slots.count(s), s) for s in dict.fromkeys(slots))
        factors = [s for _, k, s in groups for _ in range(k)]
        orders, coupling_kt = invariants_of(basis.dimension, tuple((ell, k) for ell, k, _ in groups))
        edges = np.cumsum([0, *(k for _, k, _ in groups)])
        kept: dict[tuple[int, ...], int] = {}
        place_t = []
        for m in orders:
            opposite = tuple(-x for lo, hi in zip(edges[:-1], edges[1:], strict=True) for x in reversed(m[lo:hi]))
            place_t.append(kept.setdefault(max(m, opposite), len(kept)))
        folded = np.zeros((len(coupling_kt), len(kept)))
        np.add.at(folded.T, place_t, np.where(np.abs(coupling_kt) < 1e-12, 0.0, coupling_kt).T)
        yield slots, first, factors, np.array(list(kept), np.int64), folded * (4.0 * pi) ** (-0.5 * len(slots))
        first += len(list(same))


def _flow(value: Any) -> str:
    """One value on one line, readable as JSON and as YAML: floats have all digits and always a point."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        digits, e, exponent = repr(value).partition("e")
        return digits + ("" if "." in digits else ".0") + e + exponent
    return json.dumps(value)


def _certificate(name: str, written: Path, law: ACE) -> dict[str, Any]:
    """What the file is, and how far its energies and forces are from the law's."""
    basis = law.basis
    environments = _test_environments(basis)
    wanted_n, wanted_pc = law.site_gradients(environments)
    found_n, found_pc = site_energies_and_gradients(read_document(written), environments)
    deviations, scales = {}, {}
    for what, wanted, found in (("energy", wanted_n, found_n), ("force", wanted_pc, found_pc)):
        deviations[what], scales[what] = float(np.abs(found - wanted).max()), float(np.abs(wanted).max())
        if not deviations[what] <= LARGEST_DEVIATION * max(scales[what], 1e-10):
            raise DataError(
                f"{name}: the {what} read back deviates by {deviations[what]:.3e} of {scales[what]:.3e}: not written"
            )
    return {
        "file": name,
        "sha256": hashlib.sha256(written.read_bytes()).hexdigest(),
        "written_by": f"parmlip {parmlip.__version__}",
        "species": list(basis.species),
        "units": {"energy": "eV", "length": "angstrom", "lammps": "metal"},
        "valid_from": law.closest,
        "cutoff": law.cutoff,
        "basis": basis.parameters(),
        "n_basis": basis.n_basis,
        "checked_by": "parmlip.io.pace_reader, which evaluates the file's text alone",
        "test_environments": len(environments.species_n),
        "max_energy_deviation": deviations["energy"],
        "max_energy": scales["energy"],
        "max_force_deviation": deviations["force"],
        "max_force": scales["force"],
        "lammps": ["units metal", "pair_style pace", f"pair_coeff * * {name} {' '.join(basis.species)}"],
    }


def _test_environments(basis: ACEBasis) -> Environments:
    """Rattled fcc and bcc cells of random species with neighbours about r0 apart, and dimers over the whole range."""
    random = np.random.default_rng(1)
    n_species = len(basis.species)
    nearest = min(max(basis.r0, 1.3 * basis.r_in), 0.8 * basis.cutoff)
    lengths, vectors, centres, neighbours = [], [], [], []
    for lattice, ratio, repeats in (("fcc", np.sqrt(2.0), (1, 1, 2)), ("bcc", 2.0 / np.sqrt(3.0), (1, 2, 2))):
        named = lattice_named(lattice)
        cell_cc = named.cell(ratio * nearest)
        shifts = np.indices(repeats).reshape(3, -1).T
        positions_ac = (shifts[:, None] + named.basis_bc).reshape(-1, 3) @ cell_cc
        positions_ac += random.uniform(-0.05, 0.05, positions_ac.shape) * nearest
        cell_cc = np.array(repeats)[:, None] * cell_cc
        species_a = random.integers(0, n_species, len(positions_ac))
        pairs = find_pairs(cell_cc, (True, True, True), positions_ac, basis.cutoff)
        lengths.append(pairs.count_n)
        vectors.append(pair_vectors(pairs, cell_cc, positions_ac))
        centres.append(species_a)
        neighbours.append(species_a[pairs.site_p])
    distances = np.linspace(max(basis.r_in, 0.1 * basis.cutoff), basis.cutoff, 8)
    for centre in range(n_species):
        for neighbour in range(n_species):
            along = random.normal(size=(len(distances), 3))
            along[0] = 0.0, 0.0, 1.0
            vectors.append(distances[:, None] * along / np.linalg.norm(along, axis=1)[:, None])
            lengths.append(np.ones(len(distances), np.int64))
            centres.append(np.full(len(distances), centre))
            neighbours.append(np.full(len(distances), neighbour))
    first_n = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return Environments(first_n, np.concatenate(vectors), np.concatenate(centres), np.concatenate(neighbours))


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse a name that is no `.yace`, a missing directory, and, unless told so, to replace files."""
    if path.suffix != ".yace":
        raise ConfigError(f"-o {path}: the name must end in .yace")
    if not path.parent.is_dir():
        raise ConfigError(f"-o {path}: there is no directory {path.parent}")
    for file in (path, certificate_path(path)):
        if file.exists() and not overwrite:
            raise ConfigError(f"{file} exists; use --overwrite")
