"""The compiled recurrence as operators of PyTorch, so that all of PyTorch can work with it.

`torch.ops.wrnn.forward` and `torch.ops.wrnn.backward` have their shapes here, which torch.compile,
torch.export and tensors without values ask for, their derivatives and their form under torch.vmap;
what they compute is in `cpu`. The gradient of the first is the second. Its own gradient, for second
derivatives and higher ones, is that of the loop.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from wrnn.errors import WrnnError
from wrnn.recurrence import loop

LANES = 16  # samples of a tile, and numbers of a vector
TENSORS = (
    "Tensor x, Tensor h_0, Tensor weight_ih, Tensor? bias_ih, Tensor weight_hh, Tensor? bias_hh, "
    "Tensor? weight_out, str nonlinearity, int? shared_from"
)
TENSOR_COUNT = 7
torch.library.define(
    "wrnn::forward",
    f"({TENSORS}, bool last_only, bool batch_first, bool keep) -> (Tensor, Tensor, Tensor)",
)
torch.library.define(
    "wrnn::backward",
    f"({TENSORS}, Tensor? grad_output, Tensor? grad_h_n, Tensor states, bool[] needs) -> Tensor[]",
)


def states_shape(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, slots: int) -> tuple[int, ...]:
    """Return (tiles, slots, n + K - 1, C, lanes)."""
    channels, _, kernel_size = weight_hh.shape
    padded = weight_ih.shape[0] // channels + kernel_size - 1
    return (x.shape[1] + LANES - 1) // LANES, slots, padded, channels, LANES


@torch.library.register_fake("wrnn::forward")
def _forward_shapes(x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, *options):
    *_, last_only, batch_first, keep = options
    steps, batch, _ = x.shape
    output = x.new_empty(0, 0, 0)
    if not last_only and weight_out is not None:
        output = x.new_empty(steps, batch, len(weight_out))
    elif not last_only:
        size = steps, batch, len(weight_ih)
        strides = (size[2], steps * size[2], 1) if batch_first else (batch * size[2], size[2], 1)
        output = x.new_empty_strided(size, strides)
    states = math.prod(states_shape(x, weight_ih, weight_hh, x.shape[0] + 1)) if keep else 0
    return output, torch.empty_like(h_0, memory_format=torch.contiguous_format), x.new_empty(states)


@torch.library.register_fake("wrnn::backward")
def _backward_shapes(*arguments):
    *arguments, needs = arguments
    return [t.new_empty(t.shape) for t, need in zip(arguments, needs, strict=False) if need]


@register_flop_formula(torch.ops.wrnn.forward)
def _forward_flops(x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, *options, **_):
    """Count the products of the forward pass, of shapes, as PyTorch counts those of its own."""
    *_, last_only, _, _ = options
    steps, batch, inputs = x
    outputs = 0 if weight_out is None or last_only else weight_out[0]
    return 2 * steps * batch * weight_ih[0] * (inputs + math.prod(weight_hh[1:]) + outputs)


@register_flop_formula(torch.ops.wrnn.backward)
def _backward_flops(x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, *options, **_):
    grad_output, needs = options[2], options[-1]
    needs_x, needs_h_0, needs_ih, _, needs_hh, _, needs_out = needs
    steps, batch, inputs = x
    outputs = 0 if weight_out is None or grad_output is None else weight_out[0]
    each = inputs * (needs_x + needs_ih) + outputs * (1 + needs_out)
    through = math.prod(weight_hh[1:])
    count = steps * (each + through * needs_hh) + (steps - 1 + needs_h_0) * through
    return 2 * batch * weight_ih[0] * count


def _save(ctx, inputs, output):
    *tensors, ctx.nonlinearity, ctx.shared_from, _, _, _ = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_output, grad_h_n, _):
    """Return the gradients of the forward operator's arguments."""
    *tensors, states = ctx.saved_tensors
    needs = ctx.needs_input_grad[:TENSOR_COUNT]
    if grad_output is None and grad_h_n is None:
        return (None,) * (TENSOR_COUNT + 5)
    if not states.numel():  # a transform of torch.func hid that there would be a gradient
        states = forward(*tensors, ctx.nonlinearity, ctx.shared_from, True, False, True)[2]
    options = (ctx.nonlinearity, ctx.shared_from, grad_output, grad_h_n, states, needs)
    gradients = iter(backward(*tensors, *options))
    return *(next(gradients) if need else None for need in needs), *[None] * 5


def _save_again(ctx, inputs, output):
    *tensors, ctx.nonlinearity, _, grad_output, grad_h_n, _, ctx.needs = inputs
    ctx.save_for_backward(*tensors, grad_output, grad_h_n)
    ctx.set_materialize_grads(False)


def _differentiate_again(ctx, *grads):
    """Return the gradients of the backward operator's arguments, through the loop."""
    saved = ctx.saved_tensors

    def gradients(*values):
        rest = iter(values)
        *tensors, grad_output, grad_h_n = (None if t is None else next(rest) for t in saved)

        def results(*wanted):
            rest = iter(wanted)
            used = (next(rest) if need else t for t, need in zip(tensors, ctx.needs, strict=True))
            last_only = grad_output is None
            output, h_n = loop.step_loop(loop.Tensors(*used), ctx.nonlinearity, last_only)
            pairs = ((output, grad_output), (h_n, grad_h_n))
            return tuple(result for result, grad in pairs if grad is not None)

        wanted = (t for t, need in zip(tensors, ctx.needs, strict=True) if need)
        _, pull_back = torch.func.vjp(results, *wanted)
        return pull_back(tuple(grad for grad in (grad_output, grad_h_n) if grad is not None))

    first, pull_back = torch.func.vjp(gradients, *(t for t in saved if t is not None))
    given = zip(first, grads, strict=True)
    given = tuple(torch.zeros_like(f) if grad is None else grad for f, grad in given)
    rest = iter(pull_back(given))
    second = [None if t is None else next(rest) for t in saved]
    return *second[:TENSOR_COUNT], None, None, *second[TENSOR_COUNT:], None, None


def _one_by_one(operator, info, in_dims, *arguments):
    """Compute an operator under torch.vmap: one after the other."""
    results = zip(
        *(
            operator(
                *(
                    argument if axis is None or isinstance(axis, list) else argument.select(axis, i)
                    for argument, axis in zip(arguments, in_dims, strict=True)
                )
            )
            for i in range(info.batch_size)
        ),
        strict=True,
    )
    stacked = [torch.stack(result) for result in results]
    kind = tuple if operator is torch.ops.wrnn.forward.default else list
    return kind(stacked), kind([0] * len(stacked))


torch.library.register_autograd("wrnn::forward", _differentiate, setup_context=_save)
torch.library.register_autograd(
    "wrnn::backward",
    lambda ctx, grads: _differentiate_again(ctx, *grads),
    setup_context=_save_again,
)
for _operator in (torch.ops.wrnn.forward.default, torch.ops.wrnn.backward.default):
    torch.library.register_vmap(_operator, partial(_one_by_one, _operator))


def _for_torch_func(operator, save, differentiate) -> type[torch.autograd.Function]:
    """Return an operator as torch.func takes it, and as an error in forward mode."""

    class Operator(torch.autograd.Function):
        generate_vmap_rule = True
        setup_context = staticmethod(save)
        backward = staticmethod(differentiate)

        @staticmethod
        def forward(*arguments):
            return tuple(operator(*arguments))

        @staticmethod
        def jvp(*_):
            raise WrnnError("backend 'numba' has no forward mode: use backend='loop'")

    return Operator


_Forward = _for_torch_func(torch.ops.wrnn.forward.default, _save, _differentiate)
_Backward = _for_torch_func(torch.ops.wrnn.backward.default, _save_again, _differentiate_again)


def forward(*arguments) -> tuple[Tensor, Tensor, Tensor]:
    """Call the forward operator; a compiler sees the operator itself."""
    compiling = torch.compiler.is_compiling()
    return (torch.ops.wrnn.forward.default if compiling else _Forward.apply)(*arguments)


def backward(*arguments) -> Sequence[Tensor]:
    """Call the backward operator, with a graph where one is asked for."""
    graph = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return (_Backward.apply if graph else torch.ops.wrnn.backward.default)(*arguments)
