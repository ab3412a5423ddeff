"""Warming the compile cache calls every kernel, and what they return agrees."""

from __future__ import annotations

from parmlip.potentials.ace_warm import warm


def test_all_kernels_that_are_warmed_agree():
    assert warm() < 1e-12
