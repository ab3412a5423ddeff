"""Published constants of embedded-atom laws, in the order in which `kernels.eam_forms` reads them; eV, angstrom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from parmlip.potentials.kernels import eam_forms


@dataclass(frozen=True)
class ConstantSet:
    """One element's functions."""

    species: str
    cutoff: float  # angstrom
    closest: float  # angstrom, smallest distance at which the published functions hold
    pair_form: int
    pair_constants: tuple[float, ...]
    embedding_form: int
    embedding_constants: tuple[float, ...]
    citation: str


def _cubes(pair: tuple[tuple[float, float], ...], density: tuple[tuple[float, float], ...]) -> tuple[float, ...]:
    """Constants of `eam_forms.cubes` from (amplitude, knot), by falling knots."""
    rows = [*sorted(pair, key=lambda row: -row[1]), *sorted(density, key=lambda row: -row[1])]
    return (float(len(pair)), float(len(density)), *(x for row in rows for x in row))


# Twice continuously differentiable only: third derivatives jump at every knot, two of which (2.6947 and 2.6298 A, by
# 558 and -1087 eV / A^3) lie just below the nearest-neighbour distance. Below 2.06 A the published table joins another
# function.
W_EAM4: Final = ConstantSet(
    species="W",
    cutoff=5.4604375,
    closest=2.06,
    pair_form=eam_forms.CUBES,
    pair_constants=_cubes(
        (
            (95.4071477551, 2.5648975),
            (-181.161004450915, 2.629795),
            (93.0215233148983, 2.6946925),
            (-10.8428907521281, 2.8663175),
            (11.2027468541925, 2.973045),
            (-3.12459176639241, 3.0797725),
            (1.23028140617217, 3.5164725),
            (1.54767467307006, 3.846445),
            (-1.28861387780284, 4.1764175),
            (-0.843327493551289, 4.700845),
            (2.14009882965036, 4.8953),
            (-1.02898314532402, 5.089755),
            (1.38163259601916, 5.3429525),
            (-3.60872433001545, 5.401695),
            (2.17655968740685, 5.4604375),
        ),
        (
            (-4.204291078050582, 2.5),
            (0.518217702261438, 3.1),
            (0.0562720834534383, 3.5),
            (0.0344164178842339, 4.9),
        ),
    ),
    embedding_form=eam_forms.ROOT_SQUARE,
    embedding_constants=(-5.55398658985913, -0.0456911576572922),
    citation="Marinica et al., J. Phys.: Condens. Matter 25, 395502 (2013), potential EAM4",
)

# Radial functions are infinitely smooth; F jumps by 1.79e-3 eV at 1.15 rho_e, in strong compression. The constant F_0
# is -4.96 as in the tabulated potential, not F_e.
W_ZHOU: Final = ConstantSet(
    species="W",
    cutoff=8.0,
    closest=0.0,
    pair_form=eam_forms.ZHOU,
    # 1/r_e, alpha, A, kappa, beta, f_e, lambda, B / f_e
    pair_constants=(1 / 2.740840, 8.900114, 0.882435, 0.139209, 4.746728, 3.487340, 0.278417, 1.394592 / 3.487340),
    embedding_form=eam_forms.ZHOU_EMBEDDING,
    # 1/rho_e, 1/rho_s, F_n0..3, F_0..3, eta, F_e
    embedding_constants=(
        *(1 / 37.234847, 1 / 37.234847),
        *(-4.946281, -0.148818, 0.365057, -4.432406),
        *(-4.960000, 0.0, 0.661935, 0.348147),
        *(-0.582714, -4.961306),
    ),
    citation="Zhou et al., Acta Mater. 49, 4005 (2001)",
)

# F''' jumps by 4.1 eV at rho = 1, the density of the perfect crystal. The published (rounded) constants give the
# tabulated potential of LAMMPS; the authors' own table differs by 2e-4 eV an atom.
CU_MISHIN2001: Final = ConstantSet(
    species="Cu",
    cutoff=5.50679,
    closest=0.0,
    pair_form=eam_forms.MISHIN,
    pair_constants=(
        *(5.50679, 0.50037),  # r_c, h
        *(201.458, 2.97758, 0.83591),  # E_1, alpha_1, r_01
        *(6.59288e-3, 1.54927, 4.46867),  # E_2, alpha_2, r_02
        0.86225e-2,  # delta
        *(2.24, 4.0, 1.80, 40.0, 1.20, 1150.0),  # r_s, S
        *(3.80362, 0.17394, -2.19885),  # a, beta_1, r_03
    ),
    embedding_form=eam_forms.MISHIN_EMBEDDING,
    # F_0, F_2, q_1..4, Q_1, Q_2
    embedding_constants=(-2.28235, 1.35535, -1.27775, -0.86074, 1.78804, 2.97571, 0.4, 0.3),
    citation="Mishin et al., Phys. Rev. B 63, 224106 (2001), EAM1",
)

# Second derivatives jump at both cutoffs, of which that of phi, 3.25 A, lies 0.085 A from the second shell of the bcc
# crystal: for tests of theory on the triangular lattice (whose second shell is far away), not for Hessians of bcc.
W_FS84: Final = ConstantSet(
    species="W",
    cutoff=4.400224,
    closest=0.0,
    pair_form=eam_forms.FINNIS_SINCLAIR,
    pair_constants=(3.25, 47.1346499, -33.7665655, 6.2541999, 4.400224),  # c, c_0, c_1, c_2, d
    embedding_form=eam_forms.ROOT_SQUARE,
    embedding_constants=(-1.896373, 0.0),
    citation="Finnis, Sinclair, Philos. Mag. A 50, 45 (1984)",
)

CONSTANT_SETS: Final = {"W-EAM4": W_EAM4, "W-Zhou": W_ZHOU, "Cu-Mishin2001": CU_MISHIN2001, "W-FS84": W_FS84}
