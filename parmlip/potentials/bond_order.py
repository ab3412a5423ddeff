"""Bond-order laws of Tersoff's form: the attraction of a bond is weakened by the other neighbours of the site.

The site energy is half the bonds of the site, with the site's own b_ij; one species.

References
----------
Tersoff, Phys. Rev. B 38, 9902 (1988), eq. (1) to (3); Kumagai, Izumi, Hara, Sakai, Comput. Mater. Sci. 39, 457 (2007),
for the modified form.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from parmlip.errors import ConfigError
from parmlip.potentials.dense_sites import DenseSiteLaw, SiteKernels
from parmlip.potentials.kernels import bond_order as kernels
from parmlip.potentials.kernels.bond_order import Constants

KERNELS: Final = SiteKernels(kernels.site_energies, kernels.site_gradients, kernels.site_hessians)
EXPONENTS: Final = ("lammps", "published")  # exp[(alpha x)^m] and exp[alpha x^m], x = r_ij - r_ik


@dataclass(frozen=True)
class Parameters:
    """Constants of E = 1/2 sum_ij fc [A exp(-lambda1 r) - b_ij B exp(-lambda2 r) + shift].

    b = (1 + (beta zeta)^eta)^(-delta); zeta = sum_k fc(r_ik) g(cos) exp[(alpha (r_ij - r_ik))^m]. `angular` is
    (h, c1, c2, c3, c4, c5) of the modified form, g = c1 + c2 t / (c3 + t) (1 + c4 exp(-c5 t)) with t = (h - cos)^2, or
    (h, gamma, c, d, 0, 0) of Tersoff's, g = gamma (1 + c^2 / d^2 - c^2 / (d^2 + t)). fc falls from R - D to R + D:
    1/2 + 9/16 cos(pi x) - cos(3 pi x) / 16 in the modified form, 1/2 + 1/2 cos(pi x) in Tersoff's.
    """

    species: str
    modified: bool
    A: float  # eV
    B: float  # eV
    lambda1: float  # 1 / angstrom
    lambda2: float  # 1 / angstrom
    beta: float
    eta: float
    delta: float
    alpha: float  # 1 / angstrom
    m: int
    R: float  # angstrom
    D: float  # angstrom
    angular: tuple[float, float, float, float, float, float]
    citation: str
    shift: float = 0.0  # eV


# n = 1.98633876 gives delta = 1 / (2 n).
SI_PPM2017: Final = Parameters(
    species="Si",
    modified=True,
    A=3198.51383127,
    B=117.78072440,
    lambda1=3.18011795,
    lambda2=1.39343356,
    beta=1.0,
    eta=2.16152496,
    delta=0.5 / 1.98633876,
    alpha=1.80536502,
    m=3,
    R=2.87478837,
    D=0.33090566,
    angular=(-0.38136087, 0.20123243, 614230.04310619, 996439.09714140, 3.33560562, 25.20963770),
    citation="Purja Pun, Mishin, Phys. Rev. B 95, 224103 (2017)",
    shift=-0.00592042,
)
# Without the exponential (lambda3 = 0).
SI_TERSOFF1989: Final = Parameters(
    species="Si",
    modified=False,
    A=1830.8,
    B=471.18,
    lambda1=2.4799,
    lambda2=1.7322,
    beta=1.1e-6,
    eta=0.78734,
    delta=0.5 / 0.78734,
    alpha=0.0,
    m=3,
    R=2.85,
    D=0.15,
    angular=(-0.59825, 1.0, 1.0039e5, 16.217, 0.0, 0.0),
    citation="Tersoff, Phys. Rev. B 39, 5566 (1989)",
)
CONSTANT_SETS: Final = MappingProxyType({"Si-PPM2017": SI_PPM2017, "Si-Tersoff1989": SI_TERSOFF1989})


def bond_order(parameters: Parameters, name: str = "bond order", exponent: str = "lammps") -> DenseSiteLaw:
    """A law from its constants.

    Parameters
    ----------
    exponent : str
        "lammps": exp[(alpha x)^m], x = r_ij - r_ik, as LAMMPS evaluates tersoff and tersoff/mod; "published":
        exp[alpha x^m]. They differ by what multiplies x^m, alpha^m or alpha.

    Raises
    ------
    ConfigError
        Constants for which the law is not defined.
    """
    c = parameters
    if exponent not in EXPONENTS:
        raise ConfigError(f"{name}: exponent = {exponent!r}: must be one of {', '.join(EXPONENTS)}")
    if c.m not in (1, 3):
        raise ConfigError(f"{name}: m = {c.m}: must be 1 or 3")
    if not 0.0 < c.D < c.R:
        raise ConfigError(f"{name}: D = {c.D:g}: must be greater than 0 and less than R = {c.R:g}")
    if min(c.beta, c.eta, c.delta) <= 0.0:
        raise ConfigError(f"{name}: beta, eta and delta must be greater than 0")
    s = c.alpha**c.m if exponent == "lammps" else c.alpha
    constants = Constants(
        c.modified, c.A, c.B, c.lambda1, c.lambda2, c.shift, c.beta, c.eta, c.delta, s, c.m, c.R - c.D, c.R + c.D,
        c.angular,
    )  # fmt: skip
    return DenseSiteLaw((c.species,), c.R + c.D, constants, KERNELS, name, c.citation)


def builtin(name: str, exponent: str = "lammps") -> DenseSiteLaw:
    """A law from its published constants: Si-PPM2017, Si-Tersoff1989.

    Raises
    ------
    ConfigError
        Unknown name or reading of the exponent.
    """
    if name not in CONSTANT_SETS:
        raise ConfigError(f"unknown bond-order law {name!r}; built in are {', '.join(CONSTANT_SETS)}")
    return bond_order(CONSTANT_SETS[name], name, exponent)
