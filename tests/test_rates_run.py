"""The stage rates by input file: vacancy hops in copper, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.config import loads
from parmlip.errors import ConfigError, ConvergenceError
from parmlip.io.hdf5 import ResultFile, scalars
from parmlip.pipeline import run
from parmlip.report import table
from parmlip.report.numbers import numbers

INPUT = """
[run]
stages = ["build", "reference", "relax", "rates"]
output = "{output}"
[crystal]
lattice = "fcc"
species = ["Cu"]
lattice_constant = 3.615
[reference]
parameters = "Cu-Mishin2001"
[simulation]
cell = [2, 2, 1]
defects = [{{ kind = "vacancy", at = [0, 0, 0] }}]
[relax]
laws = ["reference"]
[rates]
jumps = [{{ name = "in", from = [0.5, 0.5, 0], to = [0, 0, 0] }},
         {{ name = "out", from = [0.5, 0, 0.5], to = [0, 0, 0] }}]
temperatures = [500, 1000]
masses = {{ Cu = 63.55 }}
"""


def done(path, *overrides, comm=MPI.COMM_SELF):
    run(loads(INPUT.format(output=path), overrides), comm)
    return ResultFile(path)


def test_attempt_frequencies_of_hops_in_copper_are_the_stored_ones(tmp_path):
    found = done(tmp_path / "run.h5")
    # barrier (eV), entropy (k_B), frequency (THz), unstable eigenvalue (eV/A^2) by another program, with cubic splines
    stored = {
        "in": (0.8733695492023017, 0.29067214510774875, 2.6225894570832065, -2.5811300831404305),
        "out": (0.8283313775502208, -0.009209688860956078, 1.943091649038258, -2.2313756498482844),
    }
    for name, (barrier, entropy, frequency, unstable) in stored.items():
        for back in ("", "_back"):  # the hops are their own mirror images
            assert found.read("rates", f"jumps/{name}/barrier{back}") == pytest.approx(barrier, abs=1e-8)
            assert found.read("rates", f"jumps/{name}/entropy{back}") == pytest.approx(entropy, abs=1e-5)
            assert found.read("rates", f"jumps/{name}/attempt_frequency{back}") == pytest.approx(frequency, abs=1e-4)
        assert found.read("rates", f"jumps/{name}/unstable_eigenvalue") == pytest.approx(unstable, abs=2e-6)
        assert found.read("rates", f"jumps/{name}/connects")
        assert found.read("rates", f"jumps/{name}/max_force") <= 1e-10
    assert scalars(tmp_path / "run.h5")["rates.attempt_frequency"] == found.read("rates", "jumps/in/attempt_frequency")
    k_jt = found.read("rates", "rates")
    slope = np.log(k_jt[:, 1] / k_jt[:, 0]) / (1 / 500 - 1 / 1000) * 8.617333262e-5
    assert slope == pytest.approx([stored["in"][0], stored["out"][0]], rel=1e-8)


@pytest.mark.mpi(4)
def test_rates_do_not_depend_on_the_number_of_ranks(comm, tmp_path, shared_tmp):
    one = "rates.jumps=[{ from = [0.5, 0, 0.5], to = [0, 0, 0] }]"
    alone, together = done(tmp_path / "alone.h5", one), done(shared_tmp / "together.h5", one, comm=comm)
    for name in ("barrier", "entropy", "attempt_frequency", "unstable_relative", "crossover_temperature"):
        assert alone.read("rates", name) == pytest.approx(together.read("rates", name), rel=1e-8), name
    assert alone.read("rates", "saddles") == pytest.approx(together.read("rates", "saddles"), abs=1e-8)


def test_the_larger_cell_has_the_stored_frequency_and_that_relative_to_the_bulk(tmp_path):
    one = "rates.jumps=[{ from = [0.5, 0.5, 0], to = [0, 0, 0] }]"
    found = done(tmp_path / "run.h5", "simulation.cell=[3, 3, 3]", one)
    assert found.read("rates", "attempt_frequency") == pytest.approx(4.410340924535073, abs=1e-3)
    unstable, relative = found.read("rates", "unstable_eigenvalue"), found.read("rates", "unstable_relative")
    by_eq_2_9 = found.read("rates", "entropy") - 0.5 * np.log(unstable / relative)
    assert by_eq_2_9 == pytest.approx(-0.1555043189453471, abs=1e-4)


def test_the_frequency_of_matscipy_and_ase_comes_with_their_lattice_constant_and_mass(tmp_path):
    one = "rates.jumps=[{ from = [0.5, 0.5, 0], to = [0, 0, 0] }]"
    more = "simulation.cell=[2, 2, 2]", "crystal.lattice_constant=3.61492507", "rates.masses.Cu=63.546"
    found = done(tmp_path / "run.h5", one, *more)
    assert found.read("rates", "attempt_frequency") == pytest.approx(4.348968843943027, abs=1e-3)
    assert found.read("rates", "entropy") == pytest.approx(0.7964172703834151, abs=5e-4)
    assert found.read("rates", "barrier") == pytest.approx(0.6846466198756218, abs=2e-6)


def test_large_cells_are_estimated_to_what_all_eigenvalues_give(tmp_path):
    one = "rates.jumps=[{ from = [0.5, 0.5, 0], to = [0, 0, 0] }]"
    more = one, "rates.connect=false", "simulation.cell=[3, 3, 3]"
    exact, found = done(tmp_path / "a.h5", *more), done(tmp_path / "b.h5", *more, "rates.dense_sites=0")
    for back in ("", "_back"):
        assert found.read("rates", f"entropy{back}") == pytest.approx(exact.read("rates", f"entropy{back}"), abs=1e-6)
    assert 0.0 < found.read("rates", "attempt_frequency_error") < 1e-5
    assert exact.read("rates", "attempt_frequency_error") == 0.0
    tolerance = "rates.entropy_tolerance=0.05"
    probed = done(tmp_path / "c.h5", *more[:2], "simulation.cell=[4, 4, 4]", "rates.dense_sites=0", tolerance)
    error = probed.read("rates", "attempt_frequency_error") / probed.read("rates", "attempt_frequency")
    assert 1e-4 < error <= 0.05
    assert probed.read("rates", "entropy") == pytest.approx(0.7973819018360473, abs=4.0 * error)  # all eigenvalues


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rates.jumps=[]", '"rates" needs \\[rates\\] jumps'),
        ("rates.jumps=[{ from = [0.5, 0], to = [0, 0, 0] }]", "from = \\[0.5, 0.0\\]: must have 3 members"),
        ("rates.jumps=[{ from = [0, 0, 0], to = [0, 0, 0] }]", "is where the jump begins"),
        ("rates.jumps=[{ from = [0.3, 0.5, 0], to = [0, 0, 0] }]", "no site is there; the nearest is 0.723 A away"),
        ("rates.jumps=[{ from = [0.5, 0.5, 0], to = [1, 1, 0] }]", "site [0-9]+ is there; it must be vacant"),
        (
            "rates.jumps=[{ from = [1, 1, 0], to = [0, 0, 0] }]",
            r"jumps\[0\]: the straight path of jump jump-1 runs through the site at \[0.5, 0.5, 0.0\]; give",
        ),
        ("rates.masses={ Cv = 1.0 }", "masses: Cv is not in the simulation cell, which has Cu"),
        ("rates.laws=['surrogate']", 'laws: "surrogate" is not in \\[relax\\] laws'),
    ],
)
def test_jumps_that_cannot_be_done_are_told(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        done(tmp_path / "run.h5", override)


def test_laws_of_whole_structures_have_no_rates(tmp_path):
    total = "reference.kind=tight_binding", "reference.parameters=Si-NRLTB", "crystal.species=['Si']"
    with pytest.raises(ConfigError, match='"rates" needs second derivatives, which .* "tight_binding" does not give'):
        done(tmp_path / "run.h5", *total)


def test_two_jumps_of_one_name_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r'jumps\[1\] name = "in": is the name of an earlier jump'):
        done(tmp_path / "run.h5", "rates.jumps.1.name=in")


def test_a_site_that_falls_back_has_no_jump(tmp_path):
    with pytest.raises(ConvergenceError, match="the site falls back to where it came from"):
        done(tmp_path / "run.h5", "rates.jumps=[{ from = [0.5, 0.5, 0], to = [0.45, 0.45, 0] }]")


FAR = '{ name = "far", from = [1.5, 0.5, 0], to = [3, 0, 0] }'


def test_a_saddle_of_another_jump_gives_no_rates(tmp_path):
    both = f"rates.jumps=[{FAR}, {{ name = 'beside', from = [0.5, 0.5, 0], to = [0, 0, 0] }}]"
    with pytest.raises(ConvergenceError, match="^jump far .0.6890 eV.: .* does not connect"):
        done(tmp_path / "run.h5", both, "simulation.cell=[3, 3, 3]")
    assert not ResultFile(tmp_path / "run.h5").complete("rates")
    assert not any(key.startswith("rates.") for key in scalars(tmp_path / "run.h5"))
    log = [line.split() for line in (tmp_path / "run.log").read_text().splitlines()]
    rows = [line for line in log if line[:1] == ["beside"]]
    assert len(rows) == 2  # what was found of the other jump is told
    assert float(rows[0][1]) == pytest.approx(0.688959, abs=1e-6)
    assert not any(line[:1] == ["far"] for line in log)


def test_a_saddle_that_is_not_to_be_checked_is_taken(tmp_path):
    found = done(tmp_path / "run.h5", f"rates.jumps=[{FAR}]", "simulation.cell=[3, 3, 3]", "rates.connect=false")
    assert "connects" not in found.names("rates")
    assert found.read("rates", "barrier") == pytest.approx(0.688959, abs=1e-6)
    assert any(line.split()[:1] == ["far"] and line.endswith("not checked") for line in table(tmp_path / "run.h5"))


def test_reports_have_every_jump_and_its_rates(tmp_path):
    found = done(tmp_path / "run.h5")
    rows = [line.split() for line in table(tmp_path / "run.h5")]
    told = numbers(tmp_path / "run.h5")
    assert told["rates.temperatures"] == [500.0, 1000.0]
    assert "build.periodic" not in told  # no unit
    for j, name in enumerate(("in", "out")):
        of, rates = [row for row in rows if row[:1] == [name]]
        barrier, frequency = (found.read("rates", f"jumps/{name}/{key}") for key in ("barrier", "attempt_frequency"))
        assert [float(of[1]), float(of[3])] == pytest.approx([barrier, frequency], abs=1e-5)
        assert of[-1] == "yes"
        k_t = found.read("rates", "rates")[j]
        assert [float(k) for k in rates[1:]] == pytest.approx(k_t, rel=1e-4)
        assert told[f"rates.jumps.{name}.rates"] == k_t.tolist()
