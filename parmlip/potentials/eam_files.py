"""Embedded-atom laws from files: setfl, of the kinds eam/alloy and eam/fs, with any number of elements."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline, CubicSpline, make_interp_spline

from parmlip.errors import ConfigError, DataError
from parmlip.potentials.eam import EAM
from parmlip.potentials.kernels import eam_forms
from parmlip.potentials.kernels.eam_forms import Forms

DEGREE: Final = 5
COUNTS: Final = "'N_rho  d_rho  N_r  d_r  cutoff'"
INTERPOLATIONS: Final = ("quintic", "cubic", "lammps")


def read_setfl(path: str | Path, interpolation: str = "quintic") -> EAM:
    """An embedded-atom law from a setfl file; the kind, eam/alloy or eam/fs, is seen from the layout.

    F(rho), r phi(r) and the densities are interpolated by quintic splines (not-a-knot), which are four times
    continuously differentiable, since third derivatives of the energy matter here: those of cubic splines are constant
    between the table's points. What a file leaves open, other programs close otherwise, and to compare with them
    `interpolation` may be "cubic" (not-a-knot, twice continuously differentiable: ASE, matscipy) or "lammps" (cubics
    through values and slopes by differences over five points, once continuously differentiable: LAMMPS' numbers to
    rounding, and no law for Hessians). On a table of 1000 points (Angelo, NiAl) they differ by 5e-7 eV/angstrom and
    8e-3 GPa, on one of 10000 (Mishin, Cu) by 1e-3 GPa. Beyond the last density F goes on as a straight line, as in
    LAMMPS. The law's cutoff is the file's, or the last tabulated distance if that is smaller; `closest` is the first
    distance above zero. Masses, lattice constants and atomic numbers are read over: elements are known by the symbols
    of the fourth line.

    Raises
    ------
    ConfigError
        There is no such interpolation.
    DataError
        The file cannot be read, ends early, holds something that is not a number, or more numbers than it announces.

    References
    ----------
    https://docs.lammps.org/pair_eam.html, "DYNAMO multi-element setfl".
    """
    if interpolation not in INTERPOLATIONS:
        raise ConfigError(f"interpolation of tables {interpolation!r}: must be one of {', '.join(INTERPOLATIONS)}")
    table = _Reader(Path(path))
    citation = " ".join(" ".join(table.next_line("a comment") for _ in range(3)).split())
    species = _elements(table)
    n_rho, d_rho, n_r, d_r, cutoff = _counts(table)
    n = len(species)
    embedding_s: list[NDArray[np.float64]] = []
    density_ts: list[list[NDArray[np.float64]]] = []  # of the neighbour t at the centre s
    finnis_sinclair = False
    for t, symbol in enumerate(species):
        _element_line(table, symbol)
        embedding_s.append(table.numbers(n_rho, f"F(rho) of {symbol}"))
        density_ts.append([table.numbers(n_r, f"density of {symbol}")])
        if t == 0:  # then either more densities or the next element's line, which ends with the name of a lattice
            finnis_sinclair = n > 1 and table.numbers_follow()
        if finnis_sinclair:
            density_ts[t] += [table.numbers(n_r, f"density of {symbol} at {other}") for other in species[1:]]
    pair_st: dict[tuple[int, int], NDArray[np.float64]] = {}
    for s in range(n):
        for t in range(s + 1):
            pair_st[s, t] = pair_st[t, s] = table.numbers(n_r, f"r phi(r) of {species[s]}-{species[t]}")
    table.end()

    constants: list[NDArray[np.float64]] = []
    pair_start_st = np.zeros((n, n), np.int64)
    embedding_start_s = np.zeros(n, np.int64)
    length = 0
    for s in range(n):
        for t in range(n):
            density = density_ts[t][s if finnis_sinclair else 0]
            coefficients = np.hstack([_polynomials(values, interpolation) for values in (pair_st[s, t], density)])
            constants.append(np.concatenate([[n_r - 1, 1 / d_r], coefficients.ravel()]))
            pair_start_st[s, t] = length
            length += len(constants[-1])
    for s in range(n):
        polynomials = _polynomials(embedding_s[s], interpolation)
        constants.append(np.concatenate([[n_rho - 1, 1 / d_rho], polynomials.ravel()]))
        embedding_start_s[s] = length
        length += len(constants[-1])
    cutoff = min(cutoff, (n_r - 1) * d_r)
    forms = Forms(
        pair_form_st=np.full((n, n), eam_forms.SPLINE),
        pair_start_st=pair_start_st,
        embedding_form_s=np.full(n, eam_forms.SPLINE_EMBEDDING),
        embedding_start_s=embedding_start_s,
        constants=np.concatenate(constants),
        range_k=np.array([cutoff, cutoff, 0.0, 0.0, 0.0]),
        core_stk=np.zeros((n, n, 3)),
    )
    return EAM(species, cutoff, d_r, forms, str(path), citation)


class _Reader:
    """Lines of a file and where we are in them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        self.done = 0  # lines taken; hence the number of the line last taken

    def fail(self, message: str) -> NoReturn:
        raise DataError(f"{self.path}, line {self.done}: {message}")

    def next_line(self, expected: str) -> str:
        """The next line, blank or not."""
        if self.done == len(self.lines):
            self.fail(f"the file ends here; expected {expected}")
        self.done += 1
        return self.lines[self.done - 1]

    def next_words(self, expected: str) -> list[str]:
        """The words of the next line that is not blank."""
        words: list[str] = []
        while not words:
            words = self.next_line(expected).split()
        return words

    def number(self, word: str, expected: str) -> float:
        """A finite number."""
        try:
            value = _float(word)
        except ValueError:
            self.fail(f"{word[:40]!r} is not a number; expected {expected}")
        if not math.isfinite(value):
            self.fail(f"{word!r} is not finite; expected {expected}")
        return value

    def numbers(self, n: int, what: str) -> NDArray[np.float64]:
        """The next n numbers: whole lines, as many as they take."""
        values: list[float] = []
        while len(values) < n:
            expected = f"number {len(values) + 1} of the {n} of {what}"
            words = self.next_words(expected)
            if len(words) > n - len(values):
                self.fail(
                    f"{len(words)} words on this line, of which {n - len(values)} can belong to the {n} numbers of "
                    f"{what}; do the counts of line 5 fit the tables?"
                )
            values += [self.number(word, expected) for word in words]
        return np.array(values)

    def numbers_follow(self) -> bool:
        """Whether the next line that is not blank holds nothing but numbers."""
        for line in self.lines[self.done :]:
            if line.strip():
                try:
                    [_float(word) for word in line.split()]
                except ValueError:
                    return False
                return True
        return False

    def end(self) -> None:
        """Nothing but blank lines may follow."""
        while self.done < len(self.lines):
            if words := self.next_line("").split():
                self.fail(f"{words[0][:40]!r} stands after the last table; do the counts of line 5 fit the tables?")


def _float(word: str) -> float:
    """A number with E or, from Fortran, D before the exponent."""
    return float(word.replace("D", "E").replace("d", "e"))


def _elements(table: _Reader) -> tuple[str, ...]:
    """Line 4: number of elements and their symbols."""
    expected = "the number of elements and their symbols, such as '2 Ni Al'"
    words = table.next_line(expected).split()
    if not words or not words[0].isdigit():
        table.fail(f"expected {expected}; is this a setfl file?")
    symbols = tuple(words[1:])
    if int(words[0]) != len(symbols) or not symbols:
        table.fail(f"{words[0]} elements are announced and {len(symbols)} named; expected {expected}")
    for symbol in symbols:
        if not symbol[0].isalpha():
            table.fail(f"{symbol!r} is no chemical symbol; expected {expected}")
    if len(set(symbols)) < len(symbols):
        table.fail(f"an element is named twice in {' '.join(symbols)!r}")
    return symbols


def _counts(table: _Reader) -> tuple[int, float, int, float, float]:
    """Line 5: lengths and steps of the tables, and the cutoff."""
    words = table.next_line(COUNTS).split()
    if len(words) < 5:
        table.fail(f"{len(words)} numbers; expected {COUNTS}")
    if len(words) > 5 and words[5][0] in "+-.0123456789":
        table.fail(f"6 numbers; expected {COUNTS} (a sixth belongs to the kind eam/he, which is not read)")
    values = [table.number(word, COUNTS) for word in words[:5]]
    n_rho, d_rho, n_r, d_r, cutoff = values
    for name, value in (("N_rho", n_rho), ("N_r", n_r)):
        if value != int(value) or value <= DEGREE:
            table.fail(f"{name} = {value:g}; expected a whole number of at least {DEGREE + 1} in {COUNTS}")
    for name, value in (("d_rho", d_rho), ("d_r", d_r), ("cutoff", cutoff)):
        if value <= 0.0:
            table.fail(f"{name} = {value:g}; expected a number above 0 in {COUNTS}")
    if cutoff > n_r * d_r * (1 + 1e-6):
        table.fail(
            f"the cutoff {cutoff:g} A lies beyond the tables, which end at (N_r - 1) d_r = {(n_r - 1) * d_r:g} A"
        )
    return int(n_rho), d_rho, int(n_r), d_r, cutoff


def _element_line(table: _Reader, symbol: str) -> None:
    """Atomic number (often wrong), mass, lattice constant and lattice of an element: looked at to find lost numbers."""
    expected = f"the line of {symbol}: atomic number, mass, lattice constant, lattice"
    words = table.next_words(expected)
    if len(words) < 2 or not words[0].isdigit() or (len(words) > 3 and words[3][0] in "+-.0123456789"):
        table.fail(f"{' '.join(words)[:60]!r} was found; expected {expected}; do the counts of line 5 fit the tables?")
    for word in words[1:3]:
        table.number(word, expected)


def _polynomials(values: NDArray[np.float64], interpolation: str) -> NDArray[np.float64]:
    """Coefficients (n_intervals, 6), lowest first, of the piecewise polynomial through values at 0, 1, 2, ..."""
    x = np.arange(len(values), dtype=float)
    if interpolation == "quintic":
        spline = make_interp_spline(x, values, k=DEGREE)
        return np.stack([spline(x[:-1], k) / math.factorial(k) for k in range(DEGREE + 1)], axis=1)
    cubic = CubicSpline(x, values) if interpolation == "cubic" else CubicHermiteSpline(x, values, _slopes(values))
    return np.hstack([cubic.c[::-1].T, np.zeros((len(values) - 1, 2))])


def _slopes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """LAMMPS' slopes at the points: differences over five of them, at the ends over three and two (pair_eam.cpp)."""
    slopes = np.gradient(values)
    slopes[2:-2] = (values[:-4] - values[4:] + 8.0 * (values[3:-1] - values[1:-3])) / 12.0
    return slopes
