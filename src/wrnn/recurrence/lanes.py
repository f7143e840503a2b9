"""Vectors of lanes for numba: the same quantity of sixteen samples, in vector registers.

Compilers do not find on their own that a few sums should stay in registers while a loop runs over
what is added to them. With a type for such a sum, plain loops say it.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from wrnn.recurrence.operator import LANES


class LanesType(types.Type):
    """The numba type of sixteen float32 or float64 values."""

    def __init__(self, dtype: types.Float):
        self.dtype = dtype
        super().__init__(f"Lanes({dtype})")


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes_type):
        element = manager.lookup(lanes_type.dtype).get_value_type()
        super().__init__(manager, lanes_type, ir.VectorType(element, LANES))


@intrinsic
def zeros(typing_context, array):
    """Return lanes that are zero, of an array's type."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return LanesType(array.dtype)(array), generate


@intrinsic
def load(typing_context, array, start):
    """Return array[start : start + 16] of a flat array."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments)
        vector = context.get_value_type(signature.return_type).as_pointer()
        return builder.load(builder.bitcast(pointer, vector), align=array.dtype.bitwidth // 8)

    return LanesType(array.dtype)(array, types.intp), generate


@intrinsic
def store(typing_context, array, start, lanes):
    """Set array[start : start + 16] of a flat array."""

    def generate(context, builder, signature, arguments):
        array, start, lanes = arguments
        pointer = _pointer(context, builder, signature.args[0], array, start)
        pointer = builder.bitcast(pointer, lanes.type.as_pointer())
        builder.store(lanes, pointer, align=signature.args[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic
def transpose(typing_context, source, start, stride, target, first, step):
    """Set target[first + j + i * step] to source[start + i + j * stride] for all i, j < 16."""

    def generate(context, builder, signature, arguments):
        source, start, stride, target, first, step = arguments
        source_type, _, _, target_type, _, _ = signature.args
        align = source_type.dtype.bitwidth // 8
        element = context.get_value_type(source_type.dtype)
        vector = ir.VectorType(element, LANES)

        def pointer(array_type, array, begin, distance, i):
            offset = builder.mul(distance, ir.Constant(distance.type, i))
            data = _pointer(context, builder, array_type, array, builder.add(begin, offset))
            return builder.bitcast(data, vector.as_pointer())

        rows = [
            builder.load(pointer(source_type, source, start, stride, i), align=align)
            for i in range(LANES)
        ]
        # Each round interleaves row i with row i + 8; after four of them rows are columns.
        low, high = ([], [])
        for i in range(LANES // 2):
            low += [i, LANES + i]
            high += [LANES // 2 + i, LANES + LANES // 2 + i]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), LANES), mask) for mask in (low, high)]
        for _ in range(4):
            rows = [
                builder.shuffle_vector(rows[i], rows[i + LANES // 2], mask)
                for i in range(LANES // 2)
                for mask in masks
            ]
        for i, row in enumerate(rows):
            builder.store(row, pointer(target_type, target, first, step, i), align=align)
        return context.get_dummy_value()

    return types.void(source, start, stride, target, first, step), generate


@intrinsic
def spread(typing_context, array, index):
    """Return lanes that all are array[index] of a flat array."""

    def generate(context, builder, signature, arguments):
        value = builder.load(_pointer(context, builder, signature.args[0], *arguments))
        vector = context.get_value_type(signature.return_type)
        nothing = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(nothing, value, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, nothing, everywhere)

    return LanesType(array.dtype)(array, types.intp), generate


@intrinsic
def multiply_add(typing_context, factor, lanes, total):
    """Return factor * lanes + total, all of them lanes; rounded once where the processor can."""

    def generate(context, builder, signature, arguments):
        factor, lanes, total = arguments
        product = builder.fmul(factor, lanes, flags=("contract",))
        return builder.fadd(product, total, flags=("contract",))

    return total(factor, lanes, total), generate


@intrinsic
def where_positive(typing_context, condition, lanes):
    """Return lanes where a condition, also lanes, is above zero or not a number, elsewhere 0."""

    def generate(context, builder, signature, arguments):
        condition, lanes = arguments
        zero = ir.Constant(lanes.type, None)
        return builder.select(builder.fcmp_unordered(">", condition, zero), lanes, zero)

    return lanes(condition, lanes), generate


@intrinsic
def sum_lanes(typing_context, lanes):
    """Return the sum of the sixteen values, added in pairs."""

    def generate(context, builder, signature, arguments):
        (rest,) = arguments
        half = LANES // 2
        while half:
            nothing = ir.Constant(rest.type, ir.Undefined)
            parts = [
                builder.shuffle_vector(
                    rest,
                    nothing,
                    ir.Constant(ir.VectorType(ir.IntType(32), half), list(range(low, low + half))),
                )
                for low in (0, half)
            ]
            rest = builder.fadd(*parts)
            half //= 2
        return builder.extract_element(rest, ir.IntType(32)(0))

    return lanes.dtype(lanes), generate


def _pointer(context, builder, array_type, array, index):
    """Return a pointer to an element of a flat array; an index from the end is not looked for."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])
