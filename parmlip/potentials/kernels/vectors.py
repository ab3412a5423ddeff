"""Eight numbers in registers: a scalar type of compiled kernels that maps onto LLVM's vectors.

LLVM keeps sums over arrays of eight in memory (a load and a store for each multiply-add), because it cannot prove that
the arrays differ. Vectors held in variables stay in registers: sums over neighbours or over products run two to four
times faster. There is one source for float64 and complex128 (two vectors), so complex steps work as everywhere.

`load(x, i)` takes eight numbers of a C-contiguous array of any shape from flat position i; `store(x, i, v)` puts them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.np.arrayobj import make_array

intrinsic: Any = extending.intrinsic  # numba's own annotations describe the code generator, not the call
LANES = 8
DOUBLE = ir.DoubleType()
EIGHT = ir.VectorType(DOUBLE, LANES)
SIXTEEN = ir.VectorType(DOUBLE, 2 * LANES)
INDEX = ir.IntType(32)


class Eight(types.Type):
    """Eight float64 or complex128."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Eight({dtype})")


REAL, COMPLEX = Eight(types.float64), Eight(types.complex128)


@extending.register_model(Eight)
class EightModel(models.PrimitiveModel):
    """One LLVM vector, or a pair of them (real and imaginary parts)."""

    def __init__(self, manager: Any, kind: Eight) -> None:
        super().__init__(manager, kind, EIGHT if kind.dtype == types.float64 else ir.LiteralStructType([EIGHT, EIGHT]))


def _indices(values: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(INDEX, len(values)), values)


def _spread(builder: Any, scalar: Any) -> Any:
    single = builder.insert_element(ir.Constant(EIGHT, ir.Undefined), scalar, ir.Constant(INDEX, 0))
    return builder.shuffle_vector(single, ir.Constant(EIGHT, ir.Undefined), _indices([0] * LANES))


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    kind = ir.FunctionType(EIGHT, [EIGHT, EIGHT, EIGHT])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v8f64")
    return builder.call(function, [a, b, c])


def _parts(builder: Any, kind: types.Type, value: Any) -> list[Any]:
    """Real and, if there is one, imaginary part as vectors; scalars are spread."""
    if kind == REAL:
        return [value]
    if kind == COMPLEX:
        return [builder.extract_value(value, i) for i in range(2)]
    if isinstance(kind, types.Complex):
        return [_spread(builder, builder.extract_value(value, i)) for i in range(2)]
    return [_spread(builder, value)]


def _joined(builder: Any, parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    pair = ir.Constant(ir.LiteralStructType([EIGHT, EIGHT]), ir.Undefined)
    for i, part in enumerate(parts):
        pair = builder.insert_value(pair, part, i)
    return pair


def _common(*kinds: types.Type) -> Eight:
    return COMPLEX if any(k == COMPLEX or isinstance(k, types.Complex) for k in kinds) else REAL


def _contiguous(x: Any) -> bool:
    """Whether flat positions are addresses, of numbers that a vector can hold; if not, compilation fails."""
    return isinstance(x, types.Array) and x.layout == "C" and x.dtype in (types.float64, types.complex128)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, position: Any, target: Any) -> Any:
    data = builder.gep(make_array(kind)(context, builder, array).data, [position])
    return builder.bitcast(data, target.as_pointer())


@intrinsic
def load(typing: Any, x: Any, i: Any) -> Any:
    """x.flat[i : i + 8]."""
    if not _contiguous(x):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (array, position), real = args, signature.return_type == REAL
        value = builder.load(_pointer(context, builder, signature.args[0], array, position, EIGHT if real else SIXTEEN))
        value.align = 8
        if real:
            return value
        nothing = ir.Constant(SIXTEEN, ir.Undefined)
        halves = [_indices(list(range(part, 2 * LANES, 2))) for part in range(2)]
        return _joined(builder, [builder.shuffle_vector(value, nothing, half) for half in halves])

    return Eight(x.dtype)(x, types.intp), codegen


@intrinsic
def store(typing: Any, x: Any, i: Any, v: Any) -> Any:
    """x.flat[i : i + 8] = v."""
    if not _contiguous(x):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array, position, value = args
        real = signature.args[2] == REAL
        if not real:
            order = [part * LANES + lane for lane in range(LANES) for part in range(2)]
            value = builder.shuffle_vector(*_parts(builder, COMPLEX, value), _indices(order))
        pointer = _pointer(context, builder, signature.args[0], array, position, EIGHT if real else SIXTEEN)
        builder.store(value, pointer).align = 8
        return context.get_dummy_value()

    return types.void(x, types.intp, Eight(x.dtype)), codegen


@intrinsic
def spread(typing: Any, scalar: Any) -> Any:
    """The same number eight times."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _joined(builder, _parts(builder, signature.args[0], args[0]))

    return _common(scalar)(scalar), codegen


@intrinsic
def multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c; a and b may be scalars (not both)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y, z = (_parts(builder, kind, value) for kind, value in zip(signature.args, args))
        if signature.return_type == COMPLEX and len(z) == 1:
            z.append(ir.Constant(EIGHT, [0.0] * LANES))
        out = [_fused(builder, x[0], y[0], z[0])]
        if signature.return_type == COMPLEX:
            out.append(z[1])
            if len(y) == 2:
                out[1] = _fused(builder, x[0], y[1], out[1])
            if len(x) == 2:
                out[1] = _fused(builder, x[1], y[0], out[1])
            if len(x) == len(y) == 2:
                out[0] = _fused(builder, builder.fneg(x[1]), y[1], out[0])
        return _joined(builder, out)

    return _common(a, b, c)(a, b, c), codegen


@intrinsic
def multiply(typing: Any, a: Any, b: Any) -> Any:
    """a b; one of them may be a scalar."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y = (_parts(builder, kind, value) for kind, value in zip(signature.args, args))
        if len(x) == len(y) == 1:
            return builder.fmul(x[0], y[0])
        if len(x) == 1 or len(y) == 1:
            real, pair = (x[0], y) if len(x) == 1 else (y[0], x)
            return _joined(builder, [builder.fmul(real, part) for part in pair])
        real = _fused(builder, builder.fneg(x[1]), y[1], builder.fmul(x[0], y[0]))
        return _joined(builder, [real, _fused(builder, x[0], y[1], builder.fmul(x[1], y[0]))])

    return _common(a, b)(a, b), codegen


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    """a + b, both vectors of one type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y = (_parts(builder, kind, value) for kind, value in zip(signature.args, args))
        return _joined(builder, [builder.fadd(p, q) for p, q in zip(x, y)])

    return a(a, a), codegen


@intrinsic
def total(typing: Any, v: Any) -> Any:
    """Sum of the eight numbers, pairwise."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums = []
        for part in _parts(builder, signature.args[0], args[0]):
            width, rest = LANES, part
            while width > 1:
                width //= 2
                nothing = ir.Constant(rest.type, ir.Undefined)
                low = builder.shuffle_vector(rest, nothing, _indices(list(range(width))))
                high = builder.shuffle_vector(rest, nothing, _indices(list(range(width, 2 * width))))
                rest = builder.fadd(low, high)
            sums.append(builder.extract_element(rest, ir.Constant(INDEX, 0)))
        if len(sums) == 1:
            return sums[0]
        number = context.make_complex(builder, types.complex128)
        number.real, number.imag = sums
        return number._getvalue()

    return v.dtype(v), codegen


@njit(cache=True)
def aligned(size: int, like: Any) -> Any:
    """An empty array (size,) of the type of `like` whose vectors do not cross cache lines."""
    raw = np.empty(size + LANES, like.dtype)
    skip = (-raw.ctypes.data) % 64 // like.itemsize
    return raw[skip : skip + size]
