"""Parameter files of LAMMPS for laws of pairs and angles: sw, tersoff, tersoff/mod and tersoff/mod/c."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from parmlip.errors import DataError
from parmlip.potentials.bond_order import Parameters, bond_order
from parmlip.potentials.dense_sites import DenseSiteLaw
from parmlip.potentials.stillinger_weber import Triplet, stillinger_weber

# Numbers of an entry after its three elements.
SW: Final = ("epsilon", "sigma", "a", "lambda", "gamma", "costheta0", "A", "B", "p", "q", "tol")
TERSOFF: Final = ("m", "gamma", "lambda3", "c", "d", "costheta0", "n", "beta", "lambda2", "B", "R", "D", "lambda1", "A")
MOD: Final = ("beta", "alpha", "h", "eta", "beta_ters", "lambda2", "B", "R", "D", "lambda1", "A", "n", "c1", "c2", "c3",
              "c4", "c5")  # fmt: skip
MODC: Final = (*MOD, "C")

Entries = dict[tuple[str, str, str], dict[str, float]]


def read_sw(path: str | Path, species: Sequence[str] = ()) -> DenseSiteLaw:
    """A Stillinger-Weber law of the given species (all of the file if none are) from a file of LAMMPS' kind `sw`.

    Raises
    ------
    DataError
        The file cannot be read or is of another kind, or lacks a species or a triplet.

    References
    ----------
    https://docs.lammps.org/pair_sw.html
    """
    path = Path(path)
    entries = _entries(path, SW, "sw")
    chosen = _chosen(path, entries, species)
    triplets = {}
    for names, c in entries.items():
        if all(name in chosen for name in names):
            triplets[names] = Triplet(*(c[name] for name in SW[:-1]))
    return stillinger_weber(chosen, triplets, path.name)


def read_tersoff(path: str | Path, species: Sequence[str] = (), exponent: str = "lammps") -> DenseSiteLaw:
    """A bond-order law of one species from a file whose name ends in .tersoff, .tersoff.mod or .tersoff.modc.

    Raises
    ------
    DataError
        The file cannot be read or is of another kind, lacks the species, or more than one species is asked for.

    References
    ----------
    https://docs.lammps.org/pair_tersoff.html, https://docs.lammps.org/pair_tersoff_mod.html
    """
    path = Path(path)
    kinds = {".tersoff": TERSOFF, ".tersoff.mod": MOD, ".tersoff.modc": MODC, ".tersoff.mod.c": MODC}
    kind = next((end for end in kinds if path.name.endswith(end)), None)
    if kind is None:
        raise DataError(f"{path}: the name must end in one of {', '.join(kinds)}, which tells the columns")
    entries = _entries(path, kinds[kind], kind)
    chosen = _chosen(path, entries, species)
    if len(chosen) != 1:
        raise DataError(f"{path}: laws of Tersoff's form are for one species, not {', '.join(chosen)}")
    (symbol,) = chosen
    if (symbol, symbol, symbol) not in entries:
        raise DataError(f"{path}: has no entry {symbol} {symbol} {symbol}")
    c = entries[symbol, symbol, symbol]
    tersoff = kind == ".tersoff"
    whole = c["m" if tersoff else "beta"]
    if whole not in (1.0, 3.0):
        raise DataError(f"{path}: {symbol} {symbol} {symbol}: {'m' if tersoff else 'beta'} = {whole:g}: must be 1 or 3")
    if c["n"] <= 0.0:
        raise DataError(f"{path}: {symbol} {symbol} {symbol}: n = {c['n']:g}: must be greater than 0")
    angular = (
        (c["costheta0"], c["gamma"], c["c"], c["d"], 0.0, 0.0)
        if tersoff
        else (c["h"], c["c1"], c["c2"], c["c3"], c["c4"], c["c5"])
    )
    parameters = Parameters(
        species=symbol,
        modified=not tersoff,
        A=c["A"],
        B=c["B"],
        lambda1=c["lambda1"],
        lambda2=c["lambda2"],
        beta=c["beta" if tersoff else "beta_ters"],
        eta=c["n" if tersoff else "eta"],
        delta=0.5 / c["n"],
        alpha=c["lambda3" if tersoff else "alpha"],
        m=int(whole),
        R=c["R"],
        D=c["D"],
        angular=angular,
        citation=path.name,
        shift=c.get("C", 0.0),
    )
    return bond_order(parameters, path.name, exponent)


def _entries(path: Path, names: tuple[str, ...], kind: str) -> Entries:
    """Entries of three elements and the named numbers, over any number of lines."""
    try:
        lines = path.read_text(encoding="utf-8", errors="strict").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    words = [(word, i + 1) for i, line in enumerate(lines) for word in line.split("#", 1)[0].split()]
    size = 3 + len(names)
    if not words:
        raise DataError(f"{path}: has no entry of the kind {kind}")
    entries: Entries = {}
    for start in range(0, len(words), size):
        entry = words[start : start + size]
        where = f"{path}, line {entry[0][1]}"
        first = entry[:3]
        for word, line in first:
            if not word.isalpha():
                raise DataError(
                    f"{path}, line {line}: {word!r} where an element should be; an entry of the kind {kind} is three "
                    f"elements and {len(names)} numbers: {' '.join(names)}"
                )
        if len(entry) < size:
            raise DataError(f"{where}: the entry has {len(entry) - 3} numbers; {kind} needs {len(names)}")
        numbers = {}
        for name, (word, line) in zip(names, entry[3:], strict=True):
            try:
                value = float(word)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise DataError(
                    f"{path}, line {line}: {word!r} where the number {name} of an entry of {kind} should be"
                )
            numbers[name] = value
        key = (first[0][0], first[1][0], first[2][0])
        if key in entries:
            raise DataError(f"{where}: the entry {' '.join(key)} is there twice")
        entries[key] = numbers
    return entries


def _chosen(path: Path, entries: Entries, species: Sequence[str]) -> tuple[str, ...]:
    known = tuple(dict.fromkeys(name for names in entries for name in names))
    for symbol in species:
        if symbol not in known:
            raise DataError(f"{path}: has no parameters for {symbol}; it has {', '.join(known)}")
    return tuple(species) or known
