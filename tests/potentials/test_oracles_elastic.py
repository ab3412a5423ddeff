"""Who is nearer: elastic constants of the peers against second derivatives, and what makes the difference.

The stored constants of the embedded-atom laws are central differences of LAMMPS' stress with strains of 2e-4 under
LAMMPS' cubics through tables. An evaluation of its own here, with neither our kernels nor our splines, gives them to
eight digits. What remains is the step (copper, where it crosses the jump of F''' at the density 1) and the cubics
(nickel and aluminium, with 1000 points a table).
"""

from functools import cache

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline, CubicSpline, make_interp_spline

from parmlip.mechanics.bulk import UnitCell, bulk_properties
from parmlip.mechanics.cauchy_born import CauchyBorn
from parmlip.potentials import stillinger_weber
from parmlip.potentials.eam import builtin
from parmlip.potentials.kernels.eam_forms import embedding
from parmlip.units import GPA_PER_EV_A3
from tests.potentials.eam_cells import potential_file, radial
from tests.potentials.oracle_leaves import LEAVES
from tests.potentials.oracle_sections import (
    PEER_STRAIN,
    cubic,
    file_law,
    lattice_of,
    law_named,
    stiffness_by_differences,
)

CONSTANTS = ("C11", "C12", "C44")
ANGELO = "NiAl_AngeloMoodyBaskes1995"
# number of densities and distances, their steps and the cutoff of the published tables: the formulas fill them to 1e-13
GRIDS = {
    "Cu_Mishin2001": (10001, 0.00016401626143851118, 10001, 0.00089991000899910004, 5.50679),
    "W_Zhou": (10001, 0.04017247983432867, 10001, 0.00078917108289171083, 7.8925),
}
# Copper without the peer's step: the independent evaluation below with scipy's cubic splines and strains of 1e-5. The
# stored C11 169.8799597, C12 122.5880235 and C44 76.2061727 are 3.0e-3, 3.0e-3 and 2.6e-5 above.
COPPER = (169.8769608, 122.5850284, 76.2061465)


def stored_constants(name, kind="relaxed"):
    return np.array([LEAVES[f"potentials/{name}/C_GPa_{kind}/{c}"] for c in CONSTANTS])


def ours(law, name, a=None):
    lattice, species = lattice_of(name)
    a = a or LEAVES[f"potentials/{name}/lattice_constant_A"]
    return cubic(UnitCell(law, lattice, a, species).stiffness()[1]) * GPA_PER_EV_A3


# -- an evaluation of its own ------------------------------------------------------------------------------------------


@cache
def tables(name):
    """Species, steps and cutoff, F of each species, density of each, r phi of each pair."""
    if name in GRIDS:
        n_rho, d_rho, n_r, d_r, cutoff = GRIDS[name]
        law = law_named(name)
        r_k = np.arange(n_r) * d_r
        phi, rho = radial(law, 0, 0, r_k)[:, [0, 3]].T
        outside = r_k > law.cutoff
        phi[outside] = rho[outside] = 0.0
        f = np.array([embedding(law.forms, 0, k * d_rho)[0] for k in range(n_rho)])
        return (law.species[0],), d_rho, d_r, cutoff, [f], [rho], {(0, 0): r_k * phi}
    words = potential_file("NiAlH_jea.eam.alloy").read_text().splitlines()[4:]
    n_rho, d_rho, n_r, d_r, cutoff = (float(word) for word in words[0].split())
    n_rho, n_r = int(n_rho), int(n_r)
    numbers = iter(" ".join(words[1:]).split())

    def take(n):
        return np.array([float(next(numbers)) for _ in range(n)])

    f, rho, pair = [], [], {}
    for _ in range(3):
        for _ in range(4):  # the element's line
            next(numbers)
        f.append(take(n_rho))
        rho.append(take(n_r))
    for s in range(3):
        for t in range(s + 1):
            pair[s, t] = pair[t, s] = take(n_r)
    return ("Ni", "Al"), d_rho, d_r, cutoff, f, rho, pair


def lammps_cubic(x, values):
    """Cubics through values and slopes; slopes by differences over five points, three and two at the ends."""
    slopes = np.gradient(values, x)
    slopes[2:-2] = (values[:-4] - values[4:] + 8 * (values[3:-1] - values[1:-3])) / (12 * (x[1] - x[0]))
    return CubicHermiteSpline(x, values, slopes)


def constants_of_tables(name, interpolate, strain):
    """C11, C12, C44 in GPa: central differences of the stress of tables, in NumPy alone."""
    species, d_rho, d_r, cutoff, f, rho, pair = tables(name)
    a = LEAVES[f"potentials/{name}/lattice_constant_A"]
    basis = {"Cu": [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]}.get(species[0], [[0, 0, 0], [0.5] * 3])
    kind_b = [b % len(species) for b in range(len(basis))]
    f_s, rho_s = ([interpolate(np.arange(len(y)) * d, y) for y in ys] for ys, d in ((f, d_rho), (rho, d_r)))
    z_st = {key: interpolate(np.arange(len(y)) * d_r, y) for key, y in pair.items()}
    span = np.arange(-int(cutoff / a) - 2, int(cutoff / a) + 3)
    shift = np.stack(np.meshgrid(span, span, span, indexing="ij"), -1).reshape(-1, 3)

    def stress(f_cc):
        total = np.zeros((3, 3))
        for b, s in enumerate(kind_b):
            bonds = []
            for other, t in zip(basis, kind_b, strict=True):
                r_pc = a * (shift + np.array(other) - basis[b]) @ f_cc.T
                r_p = np.linalg.norm(r_pc, axis=1)
                near = (r_p > 1e-6) & (r_p < cutoff)
                bonds.append((t, r_pc[near], r_p[near]))
            slope = f_s[s](sum(rho_s[t](r_p).sum() for t, _, r_p in bonds), 1)
            for t, r_pc, r_p in bonds:
                phi1 = (z_st[s, t](r_p, 1) - z_st[s, t](r_p) / r_p) / r_p
                total += np.einsum("p,pi,pj", (slope * rho_s[t](r_p, 1) + 0.5 * phi1) / r_p, r_pc, r_pc)
        return total / (a**3 * np.linalg.det(f_cc))

    stretch, shear = np.zeros((2, 3, 3))
    stretch[0, 0] = strain
    shear[1, 2] = shear[2, 1] = 0.5 * strain
    by_stretch, by_shear = (stress(np.eye(3) + way) - stress(np.eye(3) - way) for way in (stretch, shear))
    return GPA_PER_EV_A3 * np.array([by_stretch[0, 0], by_stretch[1, 1], by_shear[1, 2]]) / (2 * strain)


@pytest.mark.parametrize("name", ["Cu_Mishin2001", "W_Zhou", ANGELO])
def test_the_stored_constants_are_lammps_cubics_differenced_with_strains_of_2e_4(name):
    stored = stored_constants(name)
    np.testing.assert_allclose(constants_of_tables(name, lammps_cubic, PEER_STRAIN), stored, rtol=2e-8)
    for strain in (1.8e-4, 2.2e-4):
        assert np.abs(constants_of_tables(name, lammps_cubic, strain) - stored).max() > 1e-4


# -- second derivatives ------------------------------------------------------------------------------------------------


LAWS = {
    "W_EAM4": lambda: builtin("W-EAM4"),
    "W_Zhou": lambda: builtin("W-Zhou"),
    "Cu_Mishin2001": lambda: builtin("Cu-Mishin2001"),
    "Si_SW": lambda: stillinger_weber.builtin("Si-SW"),
    "Si_PPM2017": lambda: law_named("Si_PPM2017"),
    ANGELO: lambda: file_law(ANGELO, "quintic"),
    "NiAl_Mishin2002": lambda: file_law("NiAl_Mishin2002", "quintic"),
}


@pytest.mark.parametrize("name", LAWS)
def test_second_derivatives_are_the_complex_step_of_the_stress_and_the_limit_of_differences_of_energies(name):
    law, (lattice, species) = LAWS[name](), lattice_of(name)
    a = LEAVES[f"potentials/{name}/lattice_constant_A"]
    clamped = UnitCell(law, lattice, a, species).stiffness()[0] * GPA_PER_EV_A3
    cell = CauchyBorn(law, lattice, a, species)
    r_pc, unit = cell.environments.r_pc, GPA_PER_EV_A3 / cell.volume
    strain_vcc = np.array([np.diag([1.0, 0, 0]), np.diag([0, 1.0, 0]), [[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0]]])

    def along(tilted_pc, v):
        g_pc = law.site_gradients(cell.environments.with_vectors(tilted_pc))[1]
        return np.sum((r_pc @ strain_vcc[v]) * g_pc) * unit

    by_complex_step = [along(r_pc @ (np.eye(3) + 1e-20j * strain_vcc[v]), w).imag / 1e-20 for v, w in
                       ((0, 0), (0, 1), (2, 2))]  # fmt: skip
    np.testing.assert_allclose(cubic(clamped), by_complex_step, rtol=1e-10)

    def energies(strain_cc):
        return law.site_energies(cell.environments.with_vectors(r_pc @ (np.eye(3) + strain_cc)))

    def second(v, h):
        """Site by site, so that the rounding is that of the difference."""
        changes = energies(h * strain_vcc[v]) + energies(-h * strain_vcc[v]) - 2 * energies(0.0 * strain_vcc[v])
        return changes.sum() / h**2 * unit

    # Copper's step must not reach the jump of F''' at the density 1 (it is at 1.00015), nor a file's its kinks.
    h = 1e-4 if name.startswith(("Cu", "NiAl")) else 1e-3
    extrapolated = [(4 * second(v, 0.5 * h) - second(v, h)) / 3 for v in (0, 2)]
    np.testing.assert_allclose(cubic(clamped)[[0, 2]], extrapolated, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["W_EAM4", "W_Zhou", "Si_SW", "Si_SW_eps2.1675", "Si_PPM2017", "NiAl_Mishin2002"])
def test_our_constants_are_the_stored_ones_to_a_thousandth(name):
    law = file_law(name, "quintic") if name.startswith("NiAl") else law_named(name)
    lattice, species = lattice_of(name)
    bulk = bulk_properties(law, lattice, species)
    np.testing.assert_allclose(cubic(bulk.relaxed_gpa), stored_constants(name), rtol=0, atol=1e-3)
    if name.startswith("Si"):
        clamped = cubic(bulk.clamped_vv) * GPA_PER_EV_A3
        np.testing.assert_allclose(clamped, stored_constants(name, "clamped"), rtol=0, atol=1e-3)


def test_coppers_stored_constants_are_off_by_the_peers_step_across_the_jump_of_the_embedding_function():
    law, stored = builtin("Cu-Mishin2001"), stored_constants("Cu_Mishin2001")
    lattice, species = lattice_of("Cu_Mishin2001")
    a = LEAVES["potentials/Cu_Mishin2001/lattice_constant_A"]
    # other splines, a step that stays on one side of the jump, no derivative of ours: the constants that we have
    np.testing.assert_allclose(constants_of_tables("Cu_Mishin2001", CubicSpline, 1e-5), COPPER, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours(law, "Cu_Mishin2001"), COPPER, rtol=0, atol=2e-4)
    assert (stored - COPPER)[:2] == pytest.approx([2.999e-3, 2.995e-3], abs=2e-6)
    # our law with the peer's step: the stored ones
    by_steps = stiffness_by_differences(law, lattice, a, species, PEER_STRAIN)
    np.testing.assert_allclose(by_steps, stored, rtol=0, atol=2e-4)
    # compressed, where the density is above 1 throughout, the step does no harm
    harmless = stiffness_by_differences(law, lattice, 0.995 * a, species, PEER_STRAIN)
    finer = stiffness_by_differences(law, lattice, 0.995 * a, species, 0.1 * PEER_STRAIN)
    np.testing.assert_allclose(harmless, finer, rtol=0, atol=2e-4)


def test_nickel_aluminium_of_1000_points_has_the_stored_constants_with_lammps_cubics_and_others_with_smoother_ones():
    stored = stored_constants(ANGELO)
    found = {kind: ours(file_law(ANGELO, kind), ANGELO) - stored for kind in ("lammps", "cubic", "quintic")}
    assert np.abs(found["lammps"]).max() < 1e-3
    assert np.abs(found["cubic"]).max() < 1e-3
    assert 5e-3 < np.abs(found["quintic"]).max() < 1e-2  # what the file leaves open, not an error of either


def test_quintic_splines_foretell_the_points_left_out_of_the_pair_tables_of_nickel_aluminium():
    _, _, _, _, _, rho, pair = tables(ANGELO)
    for values in (rho[0], rho[1], pair[0, 0], pair[0, 1], pair[1, 1]):
        x = np.arange(len(values))
        left_out = x[301:900:2]  # 1.7 to 5.1 angstrom
        errors = [
            np.abs(spline(left_out) - values[left_out]).max()
            for spline in (make_interp_spline(x[::2], values[::2], k=5), CubicSpline(x[::2], values[::2]))
        ]
        assert errors[0] < 0.05 * errors[1]
