"""Time per atom of silicon's laws: energy and forces, tangent, Hessian; matscipy's Stillinger-Weber in turn with ours.

python tests/benchmarks/bench_silicon.py
pytest -s tests/benchmarks/bench_silicon.py
"""

import pytest

from parmlip.crystal.neighbours import find_pairs
from parmlip.potentials import bond_order, stillinger_weber
from tests.benchmarks.bench_eam import hessian_pattern, seconds
from tests.potentials.eam_cells import crystal
from tests.potentials.silicon_cells import DIAMOND


def peer(name, atoms):
    """Energy with forces, and sparse Hessian, by matscipy; nothing for laws it does not have."""
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms import StillingerWeber
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
        Stillinger_Weber_PRB_31_5262_Si as CONSTANTS,
    )

    if name != "Si-SW":
        return []
    calculator = Manybody(**StillingerWeber(CONSTANTS))
    atoms.calc = calculator
    return [
        lambda: calculator.calculate(atoms, ["energy", "forces"], ["positions"]),
        lambda: calculator.get_hessian(atoms, "sparse"),
    ]


def compare(name, law, repeats=4):
    """Microseconds an atom: E+F, E+F with neighbour list, Hessian, tangent, making the tangent; matscipy's two."""
    cell = crystal(law, DIAMOND, 5.43, repeats=repeats, rattle=0.03)
    environments, pattern = cell.environments(), hessian_pattern(cell)
    n = len(cell.positions_ac)
    tangent = law.linearised(environments)
    ours = [
        lambda: law.site_gradients(environments),
        lambda: (find_pairs(cell.cell_cc, cell.periodic, cell.positions_ac, law.cutoff), cell.gradient()),
        lambda: law.hessian_blocks(environments, cell.site_p, pattern),
        lambda: tangent(environments.r_pc),
        lambda: law.linearised(environments),
    ]
    for function in ours:
        function()  # compiles
    theirs = []
    try:
        from ase import Atoms

        theirs = peer(name, Atoms("Si" * n, cell.positions_ac, cell=cell.cell_cc, pbc=True))
    except ImportError:
        print("matscipy is not installed: no ratios")
    times = [1e6 * t / n for t in seconds(*ours, *theirs)]
    line = (
        f"{name:14s} {n:5d} atoms {cell.pairs.n_pairs / n:5.1f} pairs/atom; us/atom: E+F {times[0]:.2f} (with "
        f"neighbour list {times[1]:.2f}), Hessian {times[2]:.2f}, tangent {times[3]:.2f} (made once in {times[4]:.2f})"
    )
    if theirs:
        line += (
            f"; matscipy E+F {times[5]:.1f} ({times[5] / times[1]:.1f} times ours with neighbour list), "
            f"Hessian {times[6]:.0f} ({times[6] / times[2]:.0f} times ours)"
        )
    print(line)
    return times


@pytest.mark.benchmark
def test_stillinger_weber_is_faster_than_that_of_matscipy():
    pytest.importorskip("matscipy")
    times = compare("Si-SW", stillinger_weber.builtin("Si-SW"))
    assert times[5] > 5.0 * times[1]
    assert times[6] > 50.0 * times[2]


if __name__ == "__main__":
    compare("Si-SW", stillinger_weber.builtin("Si-SW"))
    compare("Si-PPM2017", bond_order.builtin("Si-PPM2017"))
