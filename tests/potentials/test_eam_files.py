"""setfl files: what is read equals what was tabulated and what other programs read, and every fault is told."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from parmlip.config_tables import Reference
from parmlip.errors import ConfigError, DataError
from parmlip.potentials.base import complex_step
from parmlip.potentials.eam import builtin
from parmlip.potentials.eam_files import INTERPOLATIONS, read_setfl
from tests.potentials.eam_cells import BCC, FCC, Cell, alloy, crystal, potential_file, radial, write_setfl
from tests.potentials.silicon_cells import orders

ORACLES = json.loads((Path(__file__).parents[1] / "data/eam_oracles.json").read_text())["laws"]


@pytest.fixture(scope="module", params=[False, True], ids=["alloy", "fs"])
def tabulated(request, tmp_path_factory):
    """A law of two elements, its file, and whether the file is of the kind eam/fs."""
    law = alloy(request.param)
    path = tmp_path_factory.mktemp("setfl") / ("made.eam." + ("fs" if request.param else "alloy"))
    return law, write_setfl(path, law, request.param, n_rho=8000), request.param


def cells(law, tabulated_law, **kwargs):
    return [crystal(one, BCC, 3.2, rattle=0.1, species_b=[0, 1], **kwargs) for one in (law, tabulated_law)]


# -- contents ----------------------------------------------------------------------------------------------------------


def test_a_table_gives_the_law_that_it_was_made_from(tabulated):
    law, path, _ = tabulated
    read = read_setfl(path)
    assert read.species == law.species
    assert read.cutoff == pytest.approx(law.cutoff)
    exact, from_file = cells(law, read)
    assert from_file.energy() == pytest.approx(exact.energy(), rel=1e-10)
    np.testing.assert_allclose(from_file.gradient(), exact.gradient(), atol=1e-8)
    np.testing.assert_allclose(from_file.hessian(), exact.hessian(), atol=1e-6)


def test_third_derivatives_of_a_table_are_those_of_the_law(tabulated):
    law, path, finnis_sinclair = tabulated
    read = read_setfl(path)
    r_k = np.linspace(2.2, 5.4, 200)
    for s, t in ((0, 0), (0, 1), (1, 0), (1, 1)):
        exact = radial(law, s, t, r_k + 1e-20j).imag[:, [2, 5]] / 1e-20
        from_file = radial(read, s, t, r_k + 1e-20j).imag[:, [2, 5]] / 1e-20
        np.testing.assert_allclose(from_file, exact, atol=1e-5 * np.abs(exact).max())


def test_the_tangent_of_a_table_is_the_complex_step_of_its_gradient(tabulated):
    _, path, _ = tabulated
    cell = crystal(read_setfl(path), BCC, 3.2, rattle=0.1, species_b=[0, 1])
    dr_pc = np.random.default_rng(3).normal(size=(cell.pairs.n_pairs, 3))
    exact = complex_step(cell.law, cell.environments())(dr_pc)
    np.testing.assert_allclose(cell.law.linearised(cell.environments())(dr_pc), exact, atol=1e-12 * abs(exact).max())


def test_f_goes_on_as_a_straight_line_beyond_the_last_density(tmp_path):
    law = builtin("W-Zhou", (4.5, 5.5))
    read = read_setfl(write_setfl(tmp_path / "w", law, False, n_rho=1000, rho_end=30.0))
    squeezed = crystal(read, BCC, 3.0)  # density 50
    environments = squeezed.environments()
    v_ac = np.random.default_rng(1).normal(size=squeezed.positions_ac.shape)
    difference = (squeezed.energy(1e-5 * v_ac) - squeezed.energy(-1e-5 * v_ac)) / 2e-5
    assert difference == pytest.approx(np.sum(squeezed.gradient() * v_ac), abs=1e-6)
    assert np.isfinite(squeezed.law.site_energies(environments)).all()


def test_not_a_number_is_not_lost_in_a_table(tabulated):
    _, path, _ = tabulated
    cell = crystal(read_setfl(path), BCC, 3.2, species_b=[0, 1])
    environments = cell.environments()
    environments.r_pc[0] = np.nan
    assert np.isnan(cell.law.site_energies(environments)[0])
    assert np.isnan(cell.law.site_gradients(environments)[0][0])


def test_numbers_may_be_of_fortran_one_a_line_and_the_atomic_number_wrong(tabulated, tmp_path):
    _, path, _ = tabulated
    lines = path.read_text().splitlines()
    columns = lines[:5]
    for line in lines[5:]:
        words = line.split()
        if "bcc" in words:
            columns.append(" ".join(["1", *words[1:]]))
        else:
            columns += [f"{float(word):.17E}".replace("E", "D") for word in words]
    other = tmp_path / "column"
    other.write_text("\n\n".join(["\n".join(columns[:5]), "\n".join(columns[5:])]))
    np.testing.assert_array_equal(read_setfl(other).forms.constants, read_setfl(path).forms.constants)


# -- other programs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["W-Zhou", "Cu-Mishin2001"])
def test_published_files_give_the_analytic_laws(name):
    file = potential_file({"W-Zhou": "W_zhou.eam.alloy", "Cu-Mishin2001": "Cu_mishin1.eam.alloy"}[name])
    data = ORACLES[name]["rattled"]
    n = len(data["positions"])
    make = [
        Cell(law, np.array(data["cell"]), np.array(data["positions"]), np.zeros(n, int))
        for law in (read_setfl(file), builtin(name))
    ]
    assert make[0].energy() == pytest.approx(data["energy_eV"], rel=1e-9)
    np.testing.assert_allclose(-make[0].gradient(), data["forces_eV_A"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(make[0].hessian(), make[1].hessian(), atol=1e-5)


def test_a_published_alloy_file_agrees_with_lammps():
    # three elements, and a table coarse enough (0.0057 A) that LAMMPS's interpolation and ours differ by 2e-7 eV/A
    law = read_setfl(potential_file("NiAlH_jea.eam.alloy"))
    assert law.species == ("Ni", "Al", "H")
    data = ORACLES["NiAlH_jea.eam.alloy"]["rattled"]
    species = np.array([law.species.index(symbol) for symbol in data["symbols"]])
    cell = Cell(law, np.array(data["cell"]), np.array(data["positions"]), species)
    assert cell.energy() == pytest.approx(data["energy_eV"], rel=1e-9)
    np.testing.assert_allclose(-cell.gradient(), data["forces_eV_A"], rtol=0, atol=5e-7)
    np.testing.assert_allclose(cell.virial(), data["virial_eV"], rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", ["NiAlH_jea.eam.alloy", "NiAl_Mishin2002.eam.alloy"])
def test_derivatives_of_a_published_alloy_file_have_order_two(name):
    cell = crystal(read_setfl(potential_file(name)), BCC, 2.86, rattle=0.03, species_b=[0, 1])
    # what the authors tabulated is not smooth: steps that pass no points
    assert orders(cell, np.array([1e-4, 5e-5, 2.5e-5])) == pytest.approx([2.0, 2.0, 2.0], abs=0.1)


def test_matscipy_reads_the_same_energies_forces_and_hessian_from_the_same_file(tabulated):
    calculators = pytest.importorskip("matscipy.calculators.eam")
    ase = pytest.importorskip("ase")
    law, path, finnis_sinclair = tabulated
    cell = crystal(read_setfl(path), BCC, 3.2, repeats=4, rattle=0.1, species_b=[0, 1])
    atoms = ase.Atoms(np.array(law.species)[cell.species_a], cell.positions_ac, cell=cell.cell_cc, pbc=True)
    peer = calculators.EAM(str(path), kind="eam/fs" if finnis_sinclair else "eam/alloy")
    atoms.calc = peer
    assert cell.energy() == pytest.approx(atoms.get_potential_energy(), rel=1e-9)
    np.testing.assert_allclose(-cell.gradient(), atoms.get_forces(), atol=1e-7)
    hessian = peer.calculate_hessian_matrix(atoms).toarray()
    np.testing.assert_allclose(cell.hessian(), hessian, atol=2e-4)  # cubic splines there


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Lines of a small sound file of two elements, 3 lines a table: 11 densities, 12 distances."""
    law = alloy(False)
    path = write_setfl(tmp_path_factory.mktemp("small") / "law", law, False, n_rho=11, n_r=12)
    read_setfl(path)
    return path.read_text().splitlines()


def changed(lines, number, text):
    return [*lines[: number - 1], text, *lines[number:]]


FAULTS = {
    "empty": (lambda x: [], r"line 0: the file ends here; expected a comment"),
    "cut after the header": (lambda x: x[:5], r"line 5: the file ends here; expected the line of W"),
    "cut in a table": (lambda x: x[:8], r"line 8: the file ends here; expected number 11 of the 11 of F\(rho\) of W"),
    "cut before the pairs": (lambda x: x[:-9], r"expected number 1 of the 12 of r phi\(r\) of W-W"),
    "cut in the last line": (lambda x: [*x[:-1], x[-1].split()[0]], r"number 12 of the 12 of r phi\(r\) of Cu-Cu"),
    "no elements": (lambda x: changed(x, 4, "W Cu"), r"line 4: expected the number of elements.*is this a setfl file"),
    "an element missing": (lambda x: changed(x, 4, "2 W"), r"line 4: 2 elements are announced and 1 named"),
    "an element too many": (lambda x: changed(x, 4, "1 W Cu"), r"line 4: 1 elements are announced and 2 named"),
    "an element twice": (lambda x: changed(x, 4, "2 W W"), r"line 4: an element is named twice"),
    "no symbol": (lambda x: changed(x, 4, "2 W 29"), r"line 4: '29' is no chemical symbol"),
    "too few counts": (lambda x: changed(x, 5, "11 8.0 12 0.5"), r"line 5: 4 numbers; expected 'N_rho"),
    "a sixth number": (lambda x: changed(x, 5, "11 8.0 12 0.5 5.5 80.0"), r"line 5: 6 numbers; .* eam/he"),
    "a count that is no number": (lambda x: changed(x, 5, "11 8.0 x 0.5 5.5"), r"line 5: 'x' is not a number"),
    "a broken count": (lambda x: changed(x, 5, "11 8.0 12.5 0.5 5.5"), r"line 5: N_r = 12.5; expected a whole number"),
    "a short table": (lambda x: changed(x, 5, "5 8.0 12 0.5 5.5"), r"line 5: N_rho = 5; .* at least 6"),
    "a negative step": (lambda x: changed(x, 5, "11 8.0 12 -0.5 5.5"), r"line 5: d_r = -0.5; expected .* above 0"),
    "a cutoff beyond": (lambda x: changed(x, 5, "11 8.0 12 0.5 6.1"), r"line 5: the cutoff 6.1 A lies beyond .* 5.5 A"),
    "count too large": (lambda x: changed(x, 5, "12 8.0 12 0.5 5.5"), r"line 10: 5 words .* 1 can .* counts of line 5"),
    "count too small": (lambda x: changed(x, 5, "10 8.0 12 0.5 5.5"), r"line 12: 2 words .* 1 can .* density of W"),
    "one distance more": (lambda x: changed(x, 5, "11 8.0 13 0.5 5.5"), r"line 13: 4 words .* 1 can .* density of W"),
    "not a number": (lambda x: changed(x, 8, "1.0z"), r"line 8: '1.0z' is not a number; expected number 6 of the 11"),
    "not finite": (lambda x: changed(x, 8, "nan"), r"line 8: 'nan' is not finite; expected number 6"),
    "no element line": (lambda x: x[:5] + x[6:], r"line 6: .* expected the line of W"),
    "too much": (lambda x: [*x, "", "1.0"], r"'1.0' stands after the last table"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_refused_with_its_name_the_line_and_what_was_expected(fault, small, tmp_path):
    change, message = FAULTS[fault]
    path = tmp_path / "faulty.eam.alloy"
    path.write_text("\n".join(change(small)))
    with pytest.raises(DataError, match=message) as raised:
        read_setfl(path)
    assert str(raised.value).startswith(f"{path}, line ")
    assert "\n" not in str(raised.value)


def test_a_missing_file_a_folder_and_bytes_are_refused(tmp_path):
    with pytest.raises(DataError, match="none.*cannot be read: No such file"):
        read_setfl(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_setfl(tmp_path)
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(DataError, match="expected"):
        read_setfl(tmp_path / "bytes")


def test_one_element_of_the_kind_fs_is_read_as_it_is_as_alloy(tmp_path):
    law = builtin("Cu-Mishin2001")
    path = write_setfl(tmp_path / "cu", law, True, rho_end=3.0)
    assert crystal(read_setfl(path), FCC, 3.5).energy() == pytest.approx(crystal(law, FCC, 3.5).energy(), rel=1e-8)


# -- what a file leaves open -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_interpolation_goes_through_the_points_and_has_its_number_of_derivatives(interpolation, tmp_path):
    law = builtin("W-Zhou", (4.5, 5.5))
    read = read_setfl(write_setfl(tmp_path / "w", law, False, n_r=551), interpolation)
    r_k = 0.01 * np.arange(250, 540)
    np.testing.assert_allclose(radial(read, 0, 0, r_k)[:, [0, 3]], radial(law, 0, 0, r_k)[:, [0, 3]], rtol=1e-12)
    # complex step: phi and rho, then their first to third derivatives, just below and above the points
    below, above = (radial(read, 0, 0, r_k + side + 1e-20j) for side in (-1e-9, 1e-9))
    jumps = [np.abs(np.real(above - below)[:, [k, k + 3]]).max(axis=0) for k in range(3)]
    jumps.append(np.abs(np.imag(above - below)[:, [2, 5]]).max(axis=0) / 1e-20)
    smooth = [bool((jump < 1e-5).all()) for jump in jumps]
    assert smooth == [True, True, interpolation != "lammps", interpolation == "quintic"]


def test_the_quintic_spline_is_the_nearest_to_the_law_behind_the_table(tmp_path):
    law = builtin("W-Zhou", (4.5, 5.5))
    path = write_setfl(tmp_path / "w", law, False, n_r=1001)
    exact, off = crystal(law, BCC, 3.2, rattle=0.1), {}
    for name in INTERPOLATIONS:
        cell = crystal(read_setfl(path, name), BCC, 3.2, rattle=0.1)
        off[name] = [np.abs(cell.gradient() - exact.gradient()).max(), np.abs(cell.hessian() - exact.hessian()).max()]
    assert (np.array(off["quintic"]) < 0.05 * np.array(off["cubic"])).all()
    assert (np.array(off["quintic"]) < 0.05 * np.array(off["lammps"])).all()


def test_an_unknown_interpolation_is_refused_and_the_input_file_knows_those_there_are(tmp_path):
    with pytest.raises(ConfigError, match="'linear': must be one of quintic, cubic, lammps"):
        read_setfl(tmp_path / "none", "linear")
    choices = next(f for f in fields(Reference) if f.name == "interpolation").metadata["choices"]
    assert tuple(choices) == INTERPOLATIONS
