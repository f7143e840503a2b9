"""Vectors of lanes for numba: the same quantity of sixteen samples, in vector registers.

Compilers do not find on their own that a few sums should stay in registers while a loop runs over
what is added to them. With a type for such a sum, plain loops say it.
"""

from llvmlite import ir
from numba import types
from numba.core.cgutils import unpack_tuple
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
def store(typing_context, array, start, rows):
    """Set array[start : start + 16] of a flat array, and what follows, to rows of lanes."""

    def generate(context, builder, signature, arguments):
        array, start, rows = arguments
        align = signature.args[0].dtype.bitwidth // 8
        for i, lanes in enumerate(unpack_tuple(builder, rows)):
            pointer = _pointer(context, builder, signature.args[0], array, start, i * LANES)
            builder.store(lanes, builder.bitcast(pointer, lanes.type.as_pointer()), align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, rows), generate


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
        masks = [_mask(low), _mask(high)]
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
def add_multiples(typing_context, sums, weights, start, lanes):
    """Return sums to each of which its own number times lanes is added.

    The numbers follow one another in the flat array `weights` from start on. Rounded once where the
    processor can.
    """

    def generate(context, builder, signature, arguments):
        sums, weights, start, lanes = arguments
        nothing = ir.Constant(lanes.type, ir.Undefined)
        everywhere = _mask([0] * LANES)
        results = []
        for i, total in enumerate(unpack_tuple(builder, sums)):
            number = builder.load(_pointer(context, builder, signature.args[1], weights, start, i))
            first = builder.insert_element(nothing, number, ir.IntType(32)(0))
            factor = builder.shuffle_vector(first, nothing, everywhere)
            results.append(_multiply_add(builder, factor, lanes, total))
        return context.make_tuple(builder, signature.return_type, results)

    return sums(sums, weights, types.intp, lanes), generate


@intrinsic
def add_outer_product(typing_context, sums, rows, start, columns, first):
    """Return sums, a tuple for each row, to which the products of rows and columns are added.

    Rows and columns of lanes follow one another in two flat arrays from start and from first on.
    """

    def generate(context, builder, signature, arguments):
        sums, rows, start, columns, first = arguments
        whole, rows_type, _, columns_type, _ = signature.args
        vector = context.get_value_type(whole.dtype.dtype)
        align = rows_type.dtype.bitwidth // 8

        def load_row(array_type, array, start, i):
            pointer = _pointer(context, builder, array_type, array, start, i * LANES)
            return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align)

        right = [load_row(columns_type, columns, first, j) for j in range(whole.dtype.count)]
        results = []
        for i, total in enumerate(unpack_tuple(builder, sums)):
            left = load_row(rows_type, rows, start, i)
            parts = unpack_tuple(builder, total)
            parts = [
                _multiply_add(builder, left, column, part)
                for column, part in zip(right, parts, strict=True)
            ]
            results.append(context.make_tuple(builder, whole.dtype, parts))
        return context.make_tuple(builder, whole, results)

    return sums(sums, rows, types.intp, columns, types.intp), generate


@intrinsic
def where_positive(typing_context, condition, lanes):
    """Return lanes where a condition, also lanes, is above zero or not a number, elsewhere 0."""

    def generate(context, builder, signature, arguments):
        condition, lanes = arguments
        zero = ir.Constant(lanes.type, None)
        return builder.select(builder.fcmp_unordered(">", condition, zero), lanes, zero)

    return lanes(condition, lanes), generate


@intrinsic
def sum_lanes(typing_context, rows):
    """Return the sum of each row's sixteen values, added in pairs."""

    def generate(context, builder, signature, arguments):
        sums = []
        for rest in unpack_tuple(builder, arguments[0]):
            half = LANES // 2
            while half:
                low, high = (
                    builder.shuffle_vector(rest, rest, _mask(range(start, start + half)))
                    for start in (0, half)
                )
                rest = builder.fadd(low, high)
                half //= 2
            sums.append(builder.extract_element(rest, ir.IntType(32)(0)))
        return context.make_tuple(builder, signature.return_type, sums)

    return types.UniTuple(rows.dtype.dtype, rows.count)(rows), generate


def _pointer(context, builder, array_type, array, index, further=0):
    """Return a pointer to an element of a flat array; an index from the end is not looked for."""
    data = context.make_array(array_type)(context, builder, array).data
    index = builder.add(index, ir.Constant(index.type, further))
    return builder.gep(data, [index])


def _mask(lanes):
    """Return which lanes to take, as shuffles ask for."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))


def _multiply_add(builder, factor, lanes, total):
    """Return factor * lanes + total, all of them lanes; rounded once where the processor can."""
    product = builder.fmul(factor, lanes, flags=("contract",))
    return builder.fadd(product, total, flags=("contract",))
