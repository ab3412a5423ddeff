"""An exponential without branches or calls, so that loops over it become vector instructions."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import extending, njit, types

INVERSE_LN2: Final = 1.0 / math.log(2.0)
# ln 2 in two parts: multiples of the first up to 2^11 are exact
LN2_HIGH: Final = 0.6931471803691238
LN2_LOW: Final = 1.9082149292705877e-10
ROUNDER: Final = 1.5 * 2.0**52  # adding it leaves the nearest whole number in the lowest bits
LOWEST, HIGHEST = -708.0, 709.0

intrinsic: Any = extending.intrinsic  # numba's own annotations describe the code generator, not the call


@intrinsic
def power_of_two(typing: Any, shifted: Any) -> Any:
    """2^k, -1022 <= k <= 1023, from k + ROUNDER: its lowest bits become the exponent."""
    if shifted != types.float64:
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(64))
        exponent = builder.shl(builder.add(bits, ir.Constant(ir.IntType(64), 1023)), ir.Constant(ir.IntType(64), 52))
        return builder.bitcast(exponent, ir.DoubleType())

    return types.float64(types.float64), codegen


@njit(cache=True, error_model="numpy", fastmath={"contract"}, forceinline=True)
def real_exponential(x: float) -> float:
    """exp(x) to two units in the last place: 2^k times a polynomial of the rest (Taylor to x^13, below 5e-18 here).

    The argument is held between -708 and 709; NaN stays. Reassociation must not be allowed: it undoes the rounding.
    """
    if x < LOWEST:
        x = LOWEST
    if x > HIGHEST:
        x = HIGHEST
    shifted = x * INVERSE_LN2 + ROUNDER
    k = shifted - ROUNDER
    y = x - k * LN2_HIGH
    y = y - k * LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * y + 1.0 / 479001600.0
    p = p * y + 1.0 / 39916800.0
    p = p * y + 1.0 / 3628800.0
    p = p * y + 1.0 / 362880.0
    p = p * y + 1.0 / 40320.0
    p = p * y + 1.0 / 5040.0
    p = p * y + 1.0 / 720.0
    p = p * y + 1.0 / 120.0
    p = p * y + 1.0 / 24.0
    p = p * y + 1.0 / 6.0
    p = p * y + 0.5
    p = p * y + 1.0
    p = p * y + 1.0
    return p * power_of_two(shifted)


def exponential(x: Any) -> Any:
    """exp(x): fast for a float64, numpy's for a complex128."""
    return np.exp(x)


@extending.overload(exponential, inline="never", jit_options={"forceinline": True})
def _exponential(x: Any) -> Any:

    def of_complex(x: Any) -> Any:
        return np.exp(x)

    def of_real(x: Any) -> Any:
        return real_exponential(x)

    return of_complex if isinstance(x, types.Complex) else of_real
