"""The screened repulsion: published values, derivatives, smooth end; beside a cluster expansion and in its fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI

from parmlip.errors import ConfigError, DataError
from parmlip.fit.dataset import Dataset, labelled
from parmlip.fit.fixed_part import without_fixed_part
from parmlip.fit.observations import Configuration, Probes
from parmlip.io.fitted import committee_of
from parmlip.io.pace import write_yace
from parmlip.potentials.ace import ACE, ACEBasis
from parmlip.potentials.base import Environments, complex_step
from parmlip.potentials.zbl import ZBL
from tests.potentials.ace_environments import block_pattern, dense, environments, random_environments, rattled

CORE = ZBL(("Ni", "Al"), 1.5, 3.2)
BASIS = ACEBasis(("Ni", "Al"), 2, 5, 4.5, 2.5, pair_degree=3, pair_p_in=2, repulsion="zbl", repulsion_range=(1.5, 3.2))
COMM = MPI.COMM_SELF


def law_of(basis: ACEBasis) -> ACE:
    return ACE(basis, np.random.default_rng(3).normal(size=basis.n_basis))


def pair(r: float, centre: int = 0, neighbour: int = 0) -> Environments:
    return Environments(
        np.array([0, 1]), np.array([[0.0, 0.6 * r, 0.8 * r]]), np.array([centre]), np.array([neighbour])
    )


def test_below_the_switch_it_is_the_published_universal_function():
    law = ZBL(("W", "H"), 2.0, 3.0)
    for z_other, neighbour in ((74, 0), (1, 1)):
        for r in (0.1, 0.5, 1.3):
            x = r * (74**0.23 + z_other**0.23) / 0.4685
            screening = 0.1818 * np.exp(-3.2 * x) + 0.5099 * np.exp(-0.9423 * x)
            screening += 0.2802 * np.exp(-0.4029 * x) + 0.02817 * np.exp(-0.2016 * x)
            wanted = 0.5 * 14.3996 * 74 * z_other / r * screening
            assert law.site_energies(pair(r, 0, neighbour))[0] == pytest.approx(wanted, rel=1e-3)


def test_it_ends_with_three_continuous_derivatives():
    """Towards its end at distance h energy, slope and curvature go as h^4, h^3 and h^2; beyond there is nothing."""
    charges = np.array([28.0]), np.array([13.0])
    far, near = (CORE.pair_energy(np.array([CORE.outer - h]), *charges) for h in (2e-2, 1e-2))
    for power, a, b in zip((4, 3, 2), far, near, strict=True):
        assert np.log2(a[0] / b[0]) == pytest.approx(power, abs=0.1)
    assert CORE.site_energies(pair(CORE.outer + 1e-9))[0] == 0.0
    below, above = (CORE.pair_energy(np.array([CORE.inner + h]), *charges) for h in (-1e-4, 1e-4))
    for a, b in zip(below, above, strict=True):
        assert a[0] == pytest.approx(b[0], rel=2e-3)


@pytest.mark.parametrize("law", [CORE, law_of(BASIS)], ids=["core", "beside an expansion"])
def test_gradients_and_hessian_are_the_derivatives_by_complex_step(law):
    atoms = rattled((2, 2, 2), 0.2, 2, law.species)
    e, centre, site = environments(atoms, law.species, law.cutoff + 0.2)
    n = len(atoms)
    u = np.random.default_rng(5).normal(size=(n, 3))
    du = u[site] - u[centre]
    slope = law.site_energies(e.with_vectors(e.r_pc + 1e-20j * du)).imag.sum() / 1e-20
    assert abs(slope) > 1.0
    assert np.sum(law.site_gradients(e)[1] * du) == pytest.approx(slope, rel=1e-10)
    pattern = block_pattern(centre, site, n)
    hessian = dense(law.hessian_blocks(e, site, pattern), pattern)
    change = complex_step(law, e)(du)
    product = np.zeros((n, 3))
    np.add.at(product, site, change)
    np.add.at(product, centre, -change)
    assert np.abs(hessian - hessian.T).max() < 1e-12 * np.abs(hessian).max()
    assert np.abs(hessian @ u.ravel() - product.ravel()).max() < 1e-11 * np.abs(product).max()


def test_a_law_of_the_basis_is_the_linear_law_and_the_core():
    law, linear = law_of(BASIS), law_of(BASIS.linear_part)
    e = random_environments(5, 10, 2, BASIS.cutoff, 7, inner=1.0)
    for whole, part, core in zip(law.site_gradients(e), linear.site_gradients(e), CORE.site_gradients(e), strict=True):
        np.testing.assert_allclose(whole, part + core, rtol=0, atol=1e-12 * np.abs(whole).max())
    assert law.closest == 0.0 < linear.closest
    assert ACEBasis.from_parameters(BASIS.parameters()) == BASIS


def test_members_of_a_committee_deviate_without_the_core():
    (deviation,) = committee_of(BASIS, np.zeros((1, BASIS.n_basis)), 1.0, 1.0).laws
    assert not deviation.site_energies(random_environments(5, 10, 2, BASIS.cutoff, 7, inner=1.0)).any()


def test_labels_less_the_core_are_those_of_the_linear_law():
    atoms = rattled((2, 2, 2), 0.25, 4, ("Ni", "Al"))
    one = Configuration(
        atoms.cell.array, (True, True, True), atoms.positions, tuple(atoms.get_chemical_symbols()), name="a"
    )
    shifted = replace(one, positions_ac=one.positions_ac + 0.05, reference_positions_ac=one.positions_ac, name="b")
    probes = {"a": Probes("random", 2)}
    whole = labelled(law_of(BASIS), [one, shifted], comm=COMM, probes=probes)
    energy_alone = replace(whole.labels[1], forces_ac=None, virial_cc=None)
    found = without_fixed_part(Dataset(whole.configurations, (whole.labels[0], energy_alone)), CORE, comm=COMM)
    wanted = labelled(law_of(BASIS.linear_part), [one, shifted], comm=COMM, probes=probes)
    for name in ("energy", "forces_ac", "virial_cc", "hessian_o"):
        mine, right, before = (getattr(x.labels[0], name) for x in (found, wanted, whole))
        assert np.abs(mine - right).max() < 1e-10 * np.abs(before).max()
        assert np.abs(right - before).max() > 1e-3 * np.abs(before).max()
    assert found.labels[1].forces_ac is None
    assert found.labels[1].virial_cc is None


def test_impossible_ranges_and_export_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="must rise"):
        ZBL(("W",), 2.0, 2.0)
    with pytest.raises(ConfigError, match="must end within the cutoff"):
        replace(BASIS, repulsion_range=(1.0, 5.0))
    with pytest.raises(ConfigError, match='"none" or "zbl"'):
        replace(BASIS, repulsion="other")
    with pytest.raises(DataError, match=r"fixed repulsion .* cannot hold"):
        write_yace(tmp_path / "x.yace", law_of(replace(BASIS, pair_degree=0)))
