"""The tables [surrogate] and [fit] of the input file, with every default. Lengths in angstrom, energies in eV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from parmlip.config_schema import key
from parmlip.errors import ConfigError
from parmlip.units import GPA_PER_EV_A3

# Keys of [surrogate] that only controlled surrogates have.
TAYLOR_KEYS: Final = (
    "order", "force_constant_error", "third_order_error", "elastic_error", "short_wave_error", "states", "near",
)  # fmt: skip


@dataclass(frozen=True)
class Surrogate:
    """[surrogate]: the basis of the linear model (radial functions of ACE.jl), or an expansion of the reference."""

    kind: str = key("ace", choices=("ace", "taylor"), about="taylor: no fit, the reference expanded about states")
    target: str = key(
        "energy", choices=("energy", "entropy"),
        about="entropy: S_f / k_B stands for the energy and -dS/du for the forces, in weights and in results",
    )  # fmt: skip
    order: int = key(2, least=2, most=3, about="taylor: derivatives of the site energies that are kept")
    force_constant_error: float = key(
        0.0, above=-1.0, about="taylor: relative, of the sites that are expanded about the lattice"
    )
    third_order_error: float = key(0.0, about="taylor, order 3: the same of third derivatives; -1 leaves none")
    elastic_error: dict[str, float] | None = key(
        None, about="taylor: { C11 = , C12 = , C44 = } in GPa, cubic: error of elastic constants, of the same sites"
    )
    short_wave_error: float = key(
        0.0, about="taylor: error of their force constants that leaves all Cauchy-Born derivatives, eV/angstrom^2"
    )
    states: str = key(
        "equilibrium", choices=("equilibrium", "lattice"),
        about="taylor: sites near defects about those of the relaxed [[training]] cells, or all about the lattice",
    )  # fmt: skip
    near: float = key(
        0.5, above=0.0, most=1.0, about="taylor: near is within this part of L, for cores of their separation"
    )
    correlation_order: int = key(3, least=1, most=4, about="neighbours in a product of basis functions, at most")
    total_degree: int | tuple[int, ...] = key(
        10, least=1, length=(1, 4), about="of n + angular_weight l; or a list, one for each correlation order"
    )
    dimension: int = key(3, least=2, most=3, about="2: harmonics of the plane, for 2D and quasi-2D crystals")
    cutoff: float = key(5.5, above=0.0, most=20.0, about="range of the functions, angstrom")
    r0: Literal["nearest"] | float = key(
        "nearest", above=0.0, about="length in the radial transform, angstrom; nearest: nearest-neighbour distance"
    )
    inner_cutoff: float = key(0.5, least=0.0, about="where functions end towards small distances, in units of r0")
    angular_weight: float = key(1.5, above=0.0, about="of l in the degree n + angular_weight l")
    transform_power: int = key(2, least=1, about="p of x = ((1 + r0) / (1 + r))^p, in which they are polynomials")
    cutoff_power: int = key(2, least=0, about="of the zero of radial functions at cutoff")
    inner_power: int = key(2, least=0, about="of that at inner_cutoff; 0: no inner end")
    pair_degree: int = key(
        0, least=0, most=40, about="pair functions of each pair of species, in place of order one; 0: none"
    )
    pair_cutoff: Literal["cutoff"] | float = key(
        "cutoff", above=0.0, most=20.0, about="of the pair functions, angstrom"
    )
    repulsion: str = key("none", choices=("none", "zbl"), about="zbl: a fixed core of pairs beside what is fitted")
    repulsion_range: tuple[float, ...] = key(
        (0.4, 0.8), least=0.0, length=(2, 2), about="where the core is switched off, in units of r0"
    )

    @property
    def reach(self) -> float:
        """Largest distance at which sites interact, angstrom."""
        if self.pair_degree == 0 or isinstance(self.pair_cutoff, str):
            return self.cutoff
        return max(self.cutoff, self.pair_cutoff)


@dataclass(frozen=True)
class Weights:
    """Weights multiply squared residuals (rows are scaled by the square root); what has none is not fitted.

    The first four and the last two are of configurations, the others of the perfect crystal (configuration type
    "lattice").
    """

    energy: float = key(100.0, least=0.0, about="energies of cells")
    force: float = key(1.0, least=0.0, about="force components")
    virial: float = key(0.0, least=0.0, about="components of -dE/d(strain)")
    hessian: float = key(0.0, least=0.0, about="Hessian along the directions of [[training]] hessian")
    site_energy_0: float = key(0.0, least=0.0, about="site energy of the perfect crystal")
    site_energy_1: float = key(0.0, least=0.0, about="its first derivatives by the neighbours' positions, eps^E_1")
    site_energy_2: float = key(0.0, least=0.0, about="second ones, eps^E_2")
    site_energy_3: float = key(0.0, least=0.0, about="third ones, eps^E_3")
    force_derivative_1: float = key(0.0, least=0.0, about="force constants, eps^F_1")
    force_derivative_2: float = key(0.0, least=0.0, about="second derivatives of the force on a site, eps^F_2")
    force_derivative_3: float = key(0.0, least=0.0, about="third ones along random displacements, eps^F_3")
    cauchy_born_1: float = key(0.0, least=0.0, about="stress of the perfect crystal, eps^V_0")
    cauchy_born_2: float = key(0.0, least=0.0, about="second derivatives of the energy density (elastic), eps^V_1")
    cauchy_born_3: float = key(0.0, least=0.0, about="third ones, eps^V_2")
    cauchy_born_4: float = key(0.0, least=0.0, about="fourth ones, eps^V_3")
    site_entropy: float = key(0.0, least=0.0, about="target entropy: site entropies of all sites")
    site_entropy_gradient: float = key(0.0, least=0.0, about="target entropy: their derivatives by all displacements")


OBSERVATION_NAMES: Final = tuple(Weights.__dataclass_fields__)
LATTICE_NAMES: Final = OBSERVATION_NAMES[4:-2]
ENTROPY_NAMES: Final = OBSERVATION_NAMES[-2:]
# What a law of whole structures can be asked for.
TOTAL_OBSERVATIONS: Final = (
    "energy", "force", "virial", "force_derivative_1", "force_derivative_2", "cauchy_born_1", "cauchy_born_2",
    "cauchy_born_3", "cauchy_born_4",
)  # fmt: skip
# Chen, Ortner, Wang (2021), QM/MM III, table F.1, for energies W_cb of a site, (3.4): cauchy_born_per = "site". W_0
# of force mixing is the force on the perfect crystal: zero. W^V_j is of eps^V_j, the derivative of order j + 1.
WEIGHT_PRESETS: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "energy_mixing_K2": {"site_energy_0": 1.0, "site_energy_1": 10.0, "site_energy_2": 500.0},
        "energy_mixing_K3": {
            "site_energy_0": 1.0, "site_energy_1": 10.0, "site_energy_2": 1000.0, "site_energy_3": 100.0,
        },
        "energy_mixing_K2_virial": {
            "site_energy_0": 1.0, "site_energy_1": 10.0, "site_energy_2": 1000.0, "cauchy_born_3": 100.0,
        },
        "force_mixing_K1": {"force_derivative_1": 100.0},
        "force_mixing_K2": {"force_derivative_1": 1000.0, "force_derivative_2": 100.0},
        "force_mixing_K1_virial": {"force_derivative_1": 1000.0, "cauchy_born_3": 100.0},
        "force_mixing_K2_virial": {
            "force_derivative_1": 1000.0, "force_derivative_2": 200.0, "cauchy_born_4": 500.0,
        },
    }
)  # fmt: skip


# Weights of [fit] elasticity: Wang, Patel, Ortner (2023), sec. 4.2.1, and the stress, without which energies and forces
# in fixed cells leave the constants open by C12 + p, C44 - p/2 (p times det F changes none of them).
ELASTICITY: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "none": {"cauchy_born_1": 0.0, "cauchy_born_2": 0.0, "cauchy_born_3": 0.0},
        "linear": {"cauchy_born_1": 10.0, "cauchy_born_2": 10.0, "cauchy_born_3": 0.0},
        "nonlinear": {"cauchy_born_1": 10.0, "cauchy_born_2": 10.0, "cauchy_born_3": 1.0},
    }
)  # fmt: skip


def with_elasticity(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """A plain [fit] with the weights of its `elasticity`, where it gives none of its own.

    They are for squares in GPa, or with cauchy_born_per = "site" in eV (A.6). The paper's loss (4.16) has norms, not
    squares: where the basis can, its minimiser is on eps^V_1 = 0 in every unit, since the multiplier (1.0 to 1.8 for
    tungsten at degree 10) is below the weight. Squares in GPa come to 1e-6 eV / angstrom^3 of it, in eV a site to 2e-4;
    in eV / angstrom^3 they leave 0.01, which costs all that the rows can give.
    """
    kind = str(table.get("elasticity"))
    if kind not in ELASTICITY or not isinstance(table.get("weights", {}), Mapping):
        return table
    unit = 1.0 if table.get("cauchy_born_per") == "site" else GPA_PER_EV_A3**2
    given = dict(table.get("weights", {}))
    for name, weight in ELASTICITY[kind].items():
        if weight == 0.0 or not given.get(name):
            given[name] = weight * unit
    return {**table, "weights": given}


@dataclass(frozen=True)
class Fit:
    """[fit]: weights and solver of the least-squares problem."""

    weights: Weights = key(
        Weights(),
        about='of squared residuals, see below; or a preset: "' + '", "'.join(WEIGHT_PRESETS) + '"; or "balanced": the '
        "defaults and balance = true",
    )
    balance: bool = key(False, about="move the weights until eps^E ~ (eps^F)^2 ~ log(L) (eps^V_1)^2 on the test set")
    observations: tuple[str, ...] = key((), choices=OBSERVATION_NAMES, about="rows kept for refits, also of weight 0")
    decay: float = key(0.0, least=0.0, about="gamma of the weights exp(2 gamma |rho|) of site_energy, force_derivative")
    cauchy_born_per: str = key(
        "volume", choices=("volume", "site"),
        about="weights of cauchy_born are of the energy per volume (eV/angstrom^d), or per site (eV): that of presets",
    )  # fmt: skip
    elasticity: str | None = key(
        None, choices=("none", "linear", "nonlinear"),
        about="rows of the perfect crystal, where weights has none: stress and eps^V_1, 10 of GPa^2; and eps^V_2, 1",
    )  # fmt: skip
    # Force errors on the test sets of the tungsten and silicon inputs, against the best of all solvers and tolerances:
    # blr at most 2 % more, rrqr at 1e-8 4 %, rrqr at 1e-6 70 %; ridge with its prior at 1e-9 60 %, at 1e-6 16 times.
    solver: str = key(
        "blr", choices=("rrqr", "svd", "ridge", "blr", "ard"),
        about="rank-revealing QR, truncated SVD, ridge, Bayesian ridge, automatic relevance determination",
    )  # fmt: skip
    tolerance: float = key(
        1e-8, above=0.0, most=0.999, about="of rrqr and svd: truncation; of ridge: its strength; not of blr and ard"
    )
    tolerances: tuple[float, ...] = key(
        (), above=0.0, most=0.999, about="that of these with the least loss on the validation samples is taken"
    )
    decomposition: str = key(
        "relative", choices=("relative", "absolute"),
        about="site entropies: of log+ F H F, F = H_hom^(-1/2), or of log+ H against the perfect crystal's",
    )  # fmt: skip
    smoothness: float = key(4.0, least=0.0, about="prior of ridge and blr: sum n^p + w l^p; 0: column norms")
    constraints: tuple[str, ...] = key(
        (), choices=("energy", "stress", "elastic", "force"), about="of the reference's perfect crystal, met exactly"
    )
    elastic_constants: dict[str, float] | None = key(
        None, about="{ C11 = , C12 = , C44 = } in GPa of a cubic crystal, for constraints with a [dataset]"
    )
    bulk_energy: float | None = key(None, about="eV a site of the perfect crystal, likewise")
    column_scaling: bool = key(True, about="scale functions to unit norm over all rows before they are fitted")
    committee: int = key(0, least=0, most=1000, about="members drawn from the posterior, for error bars; 0: none")
    homogeneous: int = key(
        6, least=0,
        about="perfect cells beside the training cells, the first of them unrattled; as large as the first of those",
    )  # fmt: skip

    @property
    def observed(self) -> tuple[str, ...]:
        """Observations that have a weight, or are asked for."""
        return tuple(o for o in OBSERVATION_NAMES if getattr(self.weights, o) > 0.0 or o in self.observations)


def check_entropy_target(tables: Mapping[str, Any]) -> None:
    """Surrogates of the entropy: what they are fitted to, and what cannot be done with them.

    Raises
    ------
    ConfigError
        Naming table, key and value.
    """
    surrogate, fit, training = tables["surrogate"], tables["fit"], tables.get("training", ())
    if tables["entropy"].gradients == "sites" and tables["entropy"].sites in ("none", ()):
        raise ConfigError('[entropy] gradients = "sites": needs sites')
    if tables["entropy"].gradients and tables["entropy"].decomposition == "absolute":
        raise ConfigError('[entropy] gradients: of site entropies are with decomposition = "relative"')
    where = '[surrogate] target = "entropy"'
    if surrogate.target != "entropy":
        for name in ENTROPY_NAMES:
            if name in fit.observed:
                raise ConfigError(f"[fit] weights.{name}: needs {where}")
        if any(t.validation_samples for t in training) or fit.tolerances:
            key_name = "[fit] tolerances" if fit.tolerances else "[[training]] validation_samples"
            raise ConfigError(f"{key_name}: needs {where}")
        for i, t in enumerate(training):
            if t.samples == 0:  # sets for tests alone are for the sake of entropies
                raise ConfigError(f"[[training]] {i + 1} samples = 0: must be at least 1")
        return
    if surrogate.kind != "ace":
        raise ConfigError(f'{where}: needs kind = "ace"')
    if "dataset" in tables:
        raise ConfigError(f"{where}: labels are made with a [reference] law; remove [dataset]")
    if "reference" in tables and tables["reference"].is_total:
        raise ConfigError(f'{where}: [reference] kind = "{tables["reference"].kind}" has no Hessians of site energies')
    if "crystal" in tables and tables["crystal"].lattice is None:
        raise ConfigError(f"{where}: needs [crystal] lattice, not a structure file")
    for name in fit.observed:
        if name not in ("energy", "force", *ENTROPY_NAMES):
            raise ConfigError(f"[fit] weights.{name}: is not an observation of entropies; with {where} there are "
                              f"energy, force, {', '.join(ENTROPY_NAMES)}")  # fmt: skip
    if fit.balance or fit.constraints:
        raise ConfigError(f"[fit] {'balance' if fit.balance else 'constraints'}: is for energies, not for {where}")
    for stage in tables["run"].stages:
        if stage in ("match", "compare", "advise", "rates"):
            raise ConfigError(f'[run] stages: "{stage}" compares energies of two laws; {where} has none')
    if "relax" in tables["run"].stages and tuple(tables["relax"].laws) != ("reference",):
        raise ConfigError(f'[relax] laws: write laws = ["reference"]; {where} has no forces')
    if fit.tolerances:
        if fit.solver not in ("ridge", "rrqr", "svd"):
            raise ConfigError(f'[fit] tolerances: solver = "{fit.solver}" has no tolerance; write "ridge"')
        if not any(t.validation_samples for t in training):
            raise ConfigError("[fit] tolerances: needs validation_samples above 0 in a [[training]] table")
    if not any(t.samples for t in training) and not fit.homogeneous:
        raise ConfigError("[[training]] samples: all are 0")
