"""Parameter files of LAMMPS for silicon and compounds: the built-in laws from files, and faults that are told."""

from pathlib import Path

import numpy as np
import pytest

from parmlip.errors import ConfigError, DataError
from parmlip.potentials import bond_order, stillinger_weber
from parmlip.potentials.lammps_files import read_sw, read_tersoff
from tests.potentials.eam_cells import crystal
from tests.potentials.silicon_cells import DIAMOND

SI_SW = """# comment
Si Si Si 2.1683  2.0951  1.80  21.0  1.20  -0.33333333333333333
         7.049556277  0.6022245584  4.0  0.0 0.0  # over two lines
"""
SI_PPM = """Si Si Si 3.0 1.80536502 -0.38136087 2.16152496
1 1.39343356 117.78072440 2.87478837 0.33090566 3.18011795 3198.51383127
1.98633876 0.20123243 614230.04310619 996439.09714140 3.33560562 25.20963770 -0.00592042
"""
SI_TERSOFF = """Si Si Si 3.0 1.0 0.0 1.0039e5 16.217 -0.59825 0.78734
1.1e-6 1.7322 471.18 2.85 0.15 2.4799 1830.8
"""


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "read", "law"),
    [
        ("Si.sw", SI_SW, read_sw, stillinger_weber.builtin("Si-SW")),
        ("Si.tersoff.modc", SI_PPM, read_tersoff, bond_order.builtin("Si-PPM2017")),
        ("Si.tersoff.mod.c", SI_PPM, read_tersoff, bond_order.builtin("Si-PPM2017")),
        ("Si.tersoff", SI_TERSOFF, read_tersoff, bond_order.builtin("Si-Tersoff1989")),
    ],
)
def test_a_file_with_the_published_constants_is_the_built_in_law(name, text, read, law, tmp_path):
    from_file = read(written(tmp_path, name, text), ("Si",))
    ours, theirs = (crystal(one, DIAMOND, 5.2, rattle=0.1) for one in (from_file, law))
    assert from_file.cutoff == law.cutoff
    assert ours.energy() == pytest.approx(theirs.energy(), rel=1e-14)
    np.testing.assert_allclose(ours.gradient(), theirs.gradient(), atol=1e-12)


def test_a_mod_file_has_no_shift(tmp_path):
    words = SI_PPM.split()
    columns = " ".join(words[:14] + words[14:20])
    without = read_tersoff(written(tmp_path, "Si.tersoff.mod", columns))
    shifted = read_tersoff(written(tmp_path, "Si.tersoff.modc", SI_PPM))
    cells = [crystal(law, DIAMOND, 5.43) for law in (without, shifted)]
    n_bonds = 2 * len(cells[0].positions_ac)  # all four are at full strength
    assert cells[1].energy() - cells[0].energy() == pytest.approx(-0.00592042 * n_bonds, rel=1e-9)


def test_species_are_chosen_from_a_file_of_several_and_all_their_triplets_are_wanted(tmp_path):
    numbers = " ".join(SI_SW.split("Si Si Si")[1].split("#")[0].split())
    triplets = [f"{a} {b} {c}" for a in ("Si", "Ge") for b in ("Si", "Ge") for c in ("Si", "Ge")]
    path = written(tmp_path, "SiGe.sw", "\n".join(f"{t} {numbers}" for t in triplets))
    assert read_sw(path).species == ("Si", "Ge")
    assert read_sw(path, ("Ge",)).species == ("Ge",)
    lacking = written(tmp_path, "lack.sw", "\n".join(f"{t} {numbers}" for t in triplets if t != "Ge Si Ge"))
    with pytest.raises(ConfigError, match="Ge Si Ge"):
        read_sw(lacking)
    with pytest.raises(DataError, match=r"no parameters for C; it has Si, Ge"):
        read_sw(path, ("C",))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.sw", "", "has no entry"),
        ("a.sw", SI_TERSOFF, r"line 2: '0.15' where an element should be"),
        ("a.sw", SI_SW.replace("1.20", "x"), "line 2: 'x' where the number gamma"),
        ("a.sw", SI_SW.replace("1.20", "nan"), "line 2: 'nan' where the number gamma"),
        ("a.sw", "\n".join(SI_SW.splitlines()[:2]), "line 2: the entry has 6 numbers; sw needs 11"),
        ("a.sw", SI_SW + SI_SW, "line 5: the entry Si Si Si is there twice"),
        ("Si.txt", SI_TERSOFF, "must end in one of .tersoff"),
        ("a.tersoff", SI_TERSOFF.replace("3.0", "2.0"), "m = 2: must be 1 or 3"),
        ("a.tersoff", SI_TERSOFF.replace("Si Si Si", "Si Si C"), "for one species, not Si, C"),
    ],
)
def test_a_faulty_file_is_refused_with_its_name_the_line_and_what_was_expected(name, text, message, tmp_path):
    read = read_sw if name.endswith(".sw") else read_tersoff
    with pytest.raises(DataError, match=message) as caught:
        read(written(tmp_path, name, text))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_sw(tmp_path / "none.sw")
