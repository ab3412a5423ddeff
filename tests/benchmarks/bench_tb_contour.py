"""Tight binding by contours against the dense evaluator: whole cell, error by cluster radius, time per site by size.

python -m tests.benchmarks.bench_tb_contour [cubic cells along the edge of the largest structure, 11 by default]
pytest -s tests/benchmarks/bench_tb_contour.py
"""

import sys
from time import process_time

import numpy as np
import pytest

from parmlip.potentials.tight_binding import builtin
from parmlip.potentials.tight_binding_contour import ContourTightBinding, cluster_of
from tests.potentials.test_tight_binding_contour import PERIODIC, evaluate, silicon

LEVEL = 5.9  # in the gap, eV


def timed(function):
    """Value and processor seconds."""
    start = process_time()
    value = function()
    return value, process_time() - start


def methods(radius=9.0):
    """Processor seconds of a cluster by eigendecomposition and by a solve at every node."""
    cell_cc, positions_ac = silicon(2)
    law = builtin("Si-NRLTB", fermi_level=LEVEL, electronic_temperature=0.1)
    cluster = cluster_of(law.blocks(cell_cc, PERIODIC, positions_ac), 0, radius)
    seconds = []
    for method in ("eigen", "contour"):
        one = ContourTightBinding(law, radius, method)
        one.columns(cluster, one._functions(LEVEL), LEVEL)
        seconds.append(timed(lambda one=one: one.columns(cluster, one._functions(LEVEL), LEVEL))[1])
    print(
        f"cluster of {radius} A, {cluster.n_orbitals} orbitals: eigendecomposition {seconds[0]:.3f} s, "
        f"nodes {seconds[1]:.3f} s ({seconds[1] / seconds[0]:.1f} times)"
    )
    return seconds


def whole_cell(temperatures=(0.01, 0.1)):
    """Largest differences on a rattled 64-site cell when every cluster is the whole cell: energy a site, forces."""
    cell_cc, positions_ac = silicon(2, rattle=0.05)
    largest = 0.0
    for temperature in temperatures:
        law = builtin("Si-NRLTB", electronic_temperature=temperature)
        dense_one, seconds_dense = timed(lambda: evaluate(law, cell_cc, positions_ac))  # noqa: B023 (called at once)
        local = ContourTightBinding(law)  # by the nodes of the contour
        found, seconds = timed(lambda: evaluate(local, cell_cc, positions_ac))  # noqa: B023
        energy = abs(found.energy - dense_one.energy) / len(positions_ac)
        site = np.abs(found.site_energies_a - dense_one.site_energies_a).max()
        force = np.abs(found.forces_ac - dense_one.forces_ac).max()
        largest = max(largest, energy, site)
        print(
            f"64 sites, k_B T {temperature:4.2f} eV, contour on the whole cell - dense: energy {energy:.1e} eV/atom, "
            f"site energy {site:.1e} eV, force {force:.1e} eV/A ({seconds:.1f} s, dense {seconds_dense:.2f} s)"
        )
    return largest


def errors(temperature, radii=(6.7, 8.5, 10.3, 12.1, 13.9)):
    """Largest errors of site energies and forces of a rattled 8-site cell (6 x 6 x 6 points) by cluster radius."""
    cell_cc, positions_ac = silicon(1, rattle=0.1)
    law = builtin(
        "Si-NRLTB", fermi_level=LEVEL, k_points=(6, 6, 6), k_scheme="gamma_centred", electronic_temperature=temperature
    )
    dense = evaluate(law, cell_cc, positions_ac)
    table = []
    for radius in radii:
        found = evaluate(ContourTightBinding(law, radius), cell_cc, positions_ac)
        energy = np.abs(found.site_energies_a - dense.site_energies_a).max()
        force = np.abs(found.forces_ac - dense.forces_ac).max()
        table.append((radius, energy, force))
        print(
            f"k_B T {temperature:4.2f} eV  radius {radius:5.1f} A  site energy {energy:.2e} eV  force {force:.2e} eV/A"
        )
    radius_r, energy_r, force_r = np.array(table).T
    decay = [-np.polyfit(radius_r, np.log(e), 1)[0] for e in (energy_r, force_r)]
    print(f"k_B T {temperature:4.2f} eV  decay per angstrom: site energy {decay[0]:.2f}, force {decay[1]:.2f}")
    return decay


def scaling(edges, radius=9.0, sample=24):
    """Processor seconds per site energy, Fermi level given, from a sample of sites in cells of growing size."""
    law = builtin("Si-NRLTB", fermi_level=LEVEL, electronic_temperature=0.1)
    local = ContourTightBinding(law, radius)
    table = []
    for edge in edges:
        cell_cc, positions_ac = silicon(edge)
        n = len(positions_ac)
        blocks, assembly = timed(lambda: law.blocks(cell_cc, PERIODIC, positions_ac))  # noqa: B023 (called at once)
        sites = np.random.default_rng(1).choice(n, sample, replace=False)
        local.site_energies(blocks, sites[:2], LEVEL)
        _, seconds = timed(lambda: local.site_energies(blocks, sites, LEVEL))  # noqa: B023
        per_site = seconds / sample + assembly / n
        table.append((n, per_site))
        print(
            f"{n:6d} sites  radius {radius} A  {1e3 * per_site:.1f} ms a site ({1e3 * assembly / n:.2f} of it blocks), "
            f"the whole structure {n * per_site:.0f} s"
        )
    return table


def dense(edges):
    """Processor seconds per site of the dense evaluator, Gamma point."""
    law = builtin("Si-NRLTB", fermi_level=LEVEL, electronic_temperature=0.1)
    table = []
    for edge in edges:
        cell_cc, positions_ac = silicon(edge)
        n = len(positions_ac)
        _, seconds = timed(lambda: evaluate(law, cell_cc, positions_ac))  # noqa: B023 (called at once)
        table.append((n, seconds / n))
        print(f"{n:6d} sites  dense {1e3 * seconds / n:.1f} ms a site, the whole structure {seconds:.1f} s")
    return table


@pytest.mark.benchmark
def test_time_per_site_is_level_from_a_thousand_to_ten_thousand_sites():
    per_site = [t for _, t in scaling((5, 8, 11))]
    assert max(per_site) < 1.5 * min(per_site)


@pytest.mark.benchmark
def test_contour_on_the_whole_cell_is_the_dense_evaluator():
    assert whole_cell() < 1e-8


if __name__ == "__main__":
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    whole_cell()
    methods()
    for temperature in (0.1, 0.3, 1.0):
        errors(temperature)
    by_dense = dense((2, 3, 4))
    by_cluster = scaling(sorted({min(5, largest), min(8, largest), largest}))
    n, last = by_dense[-1]
    cross = n * np.sqrt(by_cluster[-1][1] / last)
    print(f"clusters are faster than dense matrices (time per site as n^2) beyond about {cross:.0f} sites")
