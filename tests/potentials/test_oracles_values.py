"""Every number of the project's table of values of independent programs, against ours.

The table has the peers' energies, forces, stresses, elastic constants, vacancies, second derivatives, entropies, bands
and hops of all laws. A leaf is a path in it: the section says which function computes our value, the name how near it
must be. Leaves that are no results of a law are listed with the reason.
"""

import re

import numpy as np
import pytest

from tests.potentials import oracle_binding, oracle_sections
from tests.potentials.oracle_leaves import DIGEST, LEAVES, N_PATHS, digest_of_paths

# Section of the table -> what computes all of it. The first that fits is taken.
SECTIONS = {
    r"potentials/[^/]+/rattled/0": oracle_sections.rattled_values,
    r"potentials/[^/]+/vacancy/\w+": oracle_sections.vacancy_values,
    r"potentials/[^/]+": oracle_sections.crystal_values,
    r"hessians/[^/]+": oracle_sections.hessian_values,
    r"vacancy_entropy/.*\(JuLIP default bulk\(:Si\)\)": oracle_sections.entropy_values,
    r"triangular_lattice_2d/[^/]+": oracle_sections.plane_values,
    r"Cu_vacancy_migration/.* in 2x2x2": oracle_sections.hop_values,
    r"NRL_TB_Si/configs/\d+/numpy_\w+": oracle_binding.electron_values,
    r"NRL_TB_Si/configs/\d+": oracle_binding.config_values,
    r"NRL_TB_Si/bands_a5.43_\w+": oracle_binding.band_values,
    r"NRL_TB_Si": oracle_binding.lattice_values,
}

# Name of a leaf within its section -> relative and absolute tolerance. Exactly one fits.
TOLERANCES = {
    # eV
    r"(matscipy_)?energy_(per_atom_)?eV|E_(perfect|min|saddle)|E_vac_\w+|local_minima_of_E_of_a": (1e-9, 0.0),
    r"E_T0_2sum|\w+_E_per_atom_\w+|SKTB_Zero\w+": (1e-12, 0.0),
    r"[EF]_T0p01": (1e-11, 0.0),
    r"(vacancy/)?Ef_\w+|barrier_eV": (1e-9, 0.0),
    r"E_final_minus_initial": (0.0, 1e-9),
    r"neb_barrier_eV": (0.0, 1e-6),  # the peer's band was not converged further: its own saddle differs by 2e-7
    # eV / angstrom, eV, eV / angstrom^3
    r"forces_eV_A|virial_eV": (0.0, 1e-7),
    r"stress_eV_A3|pressure_residual_eV_A3": (0.0, 1e-9),
    r"forces_eV_A@binding": (0.0, 1e-9),
    r"stress_eV_A3@binding": (0.0, 1e-10),
    r"(vacancy/)?fmax(_min|_saddle)?": (0.0, 1e-6),  # both are equilibria
    # angstrom
    r"lattice_constant_A|r0_A": (1e-9, 0.0),
    r"\w+_a0_\w+": (0.0, 1e-8),  # the peer minimised energies
    r"nearest_shell_distance_A": (1e-12, 0.0),
    r"nearest_shell_radial_displacement_A|positions": (0.0, 1e-8),
    # GPa, and what that is in the plane
    r"C_GPa_(clamped|relaxed)/C\d\d": (0.0, 1e-3),
    r"C2D_eV_A2/C\d\d": (0.0, 6e-6),
    # eV / angstrom^2; the peers of the plane are differences
    r"hessian_eV_A2|eigenvalues_eV_A2|lowest_def|negative_eigs@hop": (0.0, 1e-7),
    r"inplane_hessian_\w+|outofplane_lowest": (0.0, 1e-6),
    # logarithms and entropies, k_B
    r"(vacancy_entropy/)?(logdet_plus_\w+|S_\w+)|half_logdet_\w+": (0.0, 1e-6),
    r"vineyard_attempt_frequency_THz": (1e-6, 0.0),
    # numbers of things
    r"(vacancy/)?natoms(_perfect)?|(vacancy_entropy/)?(N|n)_\w+|SKTB_n_occupied|negative_eigs@entropy": (0.0, 0.0),
    # levels, eV; those of the 6 x 6 x 6 mesh are at a lattice constant with the error above
    r"eigs_at_points/\w+|VBM|CBM|gap": (0.0, 1e-10),
    r"HOMO|LUMO": (0.0, 1e-11),
    r"mu_T0p01|eigs_near_gap": (0.0, 1e-9),
    r"k6_vbm_cbm": (0.0, 1e-7),
    r"CBM_k_frac": (0.0, 0.0),
}

# Leaves that are not what a law gives.
TEXT = "a text"
INPUT = "what our value is computed from"
NOT_OURS = {
    r"_meta/.*": TEXT,
    r".*/(peer|source|citation|file_sha256|param_sha256|cross_check|description|note|supercell|grid|start)": TEXT,
    r".*/(energy_peer|hessian_source|vacancy/cell)|NRL_TB_Si/(model|cutoff)": TEXT,
    r"(potentials|hessians|NRL_TB_Si)/.*/(cell|positions|pbc|symbols|potential)": INPUT,
    r"(vacancy_entropy|Cu_vacancy_migration)/.*/(a|cell|mass_amu|positions_min|positions_saddle)": INPUT,
    r"hessians/.*/(max_abs_diff_\w+|fd_asymmetry)": "how far two peers, or one peer's differences, disagree",
    r"Cu_vacancy_migration/.*/image_energies_eV": "energies of images whose positions are not in the table; the "
    "ends and the highest are E_final_minus_initial and neb_barrier_eV",
}


def section_of(path):
    """The section of a leaf, and the leaf's name in it."""
    for pattern in SECTIONS:
        if found := re.match(rf"({pattern})/(.+)", path):
            return pattern, found[1], found[2]
    raise AssertionError(f"{path} belongs to no section")


def marked(path):
    """The name in its section, and of which kind of section it is where one name has several meanings or tolerances.

    `negative_eigs` are numbers of eigenvalues, and eigenvalues.
    """
    _, section, name = section_of(path)
    if name == "negative_eigs":
        return name + ("@hop" if section.startswith("Cu") else "@entropy")
    of_binding = section.startswith("NRL_TB_Si") and name in ("forces_eV_A", "stress_eV_A3")
    return name + "@binding" * of_binding


def tolerances_of(path):
    """All that fit."""
    name = marked(path)
    return [tolerance for pattern, tolerance in TOLERANCES.items() if re.fullmatch(pattern, name)]


def reasons_of(path):
    return [reason for pattern, reason in NOT_OURS.items() if re.fullmatch(pattern, path)]


VALUES = [path for path in sorted(LEAVES) if not reasons_of(path)]


def test_the_copy_has_every_leaf_of_the_table():
    assert len(LEAVES) == N_PATHS == 470
    assert digest_of_paths() == DIGEST


@pytest.mark.parametrize("path", VALUES)
def test_our_value_is_the_stored_one(path):
    pattern, section, name = section_of(path)
    rtol, atol = tolerances_of(path)[0]
    ours, stored = np.array(SECTIONS[pattern](section)[name], float), np.array(LEAVES[path], float)
    assert ours.shape == stored.shape
    np.testing.assert_allclose(ours, stored, rtol=rtol, atol=atol)


def test_every_leaf_has_one_tolerance_or_one_reason_and_every_rule_is_used():
    for path in LEAVES:
        found = reasons_of(path) or tolerances_of(path)
        assert len(found) == 1, f"{path}: {len(found)} rules"
    paths = "\n".join(LEAVES)
    for pattern in NOT_OURS:
        assert re.search(rf"^{pattern}$", paths, re.MULTILINE), pattern
    names = "\n".join(map(marked, VALUES))
    for pattern in TOLERANCES:
        assert re.search(rf"^({pattern})$", names, re.MULTILINE), pattern


def test_no_number_is_left_out_as_a_text():
    for path in LEAVES:
        if reasons_of(path) == [TEXT]:
            value = LEAVES[path]
            assert isinstance(value, str) or all(isinstance(line, str) for line in value), path
