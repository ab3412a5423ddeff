"""Published constants of tight-binding laws with s and p orbitals, in rydberg and bohr as printed.

References
----------
Bernstein, Mehl, Papaconstantopoulos, Papanicolaou, Bazant, Kaxiras, Phys. Rev. B 62, 4477 (2000), table I; erratum 65,
249902 (2002). The exponents are squared when used: functions decay as exp(-h^2 r), which the paper prints as exp(-h r).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

# CODATA 2014, with which the programs that these laws are checked against work; the values of CODATA 2018 differ in
# the ninth digit.
BOHR_A: Final = 0.52917721067
RYDBERG_EV: Final = 13.60569301


@dataclass(frozen=True)
class SlaterKosterTable:
    """Constants of one species with one s and three p orbitals, rydberg and bohr."""

    species: str
    citation: str
    electrons: float  # a site, both spins
    cutoff: float  # bohr
    width: float  # of the cutoff function, bohr
    closest: float  # bohr; the overlap of a nearer pair is not positive definite
    offset: float  # the cutoff function is 1 / (1 + exp((r - cutoff) / width + offset))
    density_exponent: float  # the density decays as exp(-density_exponent^2 r)
    onsite: tuple[tuple[float, ...], ...]  # (2, 4): s, p; coefficients of rho^0, rho^2/3, rho^4/3, rho^2
    hopping: tuple[tuple[float, ...], ...]  # (4, 4): ss sigma, sp sigma, pp sigma, pp pi; e, f, g, h
    overlap: tuple[tuple[float, ...], ...]  # (4, 5): the same; delta, p, q, r3, t


SILICON: Final = SlaterKosterTable(
    species="Si",
    citation="Bernstein et al., Phys. Rev. B 62, 4477 (2000)",
    electrons=4.0,
    cutoff=12.5,
    width=0.5,
    closest=2.65,  # of the published form, solved here for two sites; with other endings 2.5 at most
    offset=5.0,
    density_exponent=1.10356625153,
    onsite=(
        (-0.0532334619024, -0.907642743186, -8.83084913674, 56.5661321469),
        (0.357859715265, 0.303647693101, 7.092229035600, -77.4785508399),
    ),
    hopping=(
        (219.560813651, -16.2132459618, -15.5048968097, 1.26439940008),
        (10.1276876206, -4.40368112396, 0.226676783368, 0.92267194054),
        (-22.9590281075, 1.72077077405, 1.41913077132, 1.03136916513),
        (10.2654492628, 4.67182414280, -2.21615627209, 1.11134828469),
    ),
    overlap=(
        (1.0, 5.15758718641, 0.660009307776, -0.0815441307353, 1.10814448800),
        (0.0, 8.87364666488, -16.2407704748, 5.18229690495, 1.24065238343),
        (1.0, 11.2504890092, -1.17013229289, -1.05914850214, 1.13762861032),
        (1.0, -692.184231145, 396.153248956, -13.8172106270, 1.57248559510),
    ),
)
TABLES: Final = MappingProxyType({"Si-NRLTB": SILICON})
# How the functions end at the cutoff: with the jump of the published form; times a cosine over the last `width` (the
# form of QUIP, whose first derivative is continuous); shifted so that the value, or value and slope, vanish there.
CUTOFF_VARIANTS: Final = ("original", "quip", "energy_shift", "force_shift")
