"""The compiled recurrence as operators of PyTorch, so that all of PyTorch can work with it.

`torch.ops.wrnn.forward` and `torch.ops.wrnn.backward` have their shapes here, which torch.compile,
torch.export and tensors without values ask for, their derivatives and their form under torch.vmap;
what they compute is in `cpu`. The gradient of the first is the second. Its own gradient, for second
derivatives and higher ones, is that of the loop.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from wrnn.recurrence import loop

LANES = 16  # samples of a tile, and numbers of a vector
TENSORS = (
    "Tensor x, Tensor h_0, Tensor weight_ih, Tensor? bias_ih, Tensor weight_hh, Tensor? bias_hh, "
    "Tensor? weight_out, str nonlinearity"
)
NUMBER = 7  # of tensors
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
    padded = len(weight_ih) // channels + kernel_size - 1
    return (x.shape[1] + LANES - 1) // LANES, slots, padded, channels, LANES


def new_output(x: Tensor, width: int, batch_first: bool, new: Callable[..., Tensor]) -> Tensor:
    """Return memory for an output (T, B, width) that lies time first or batch first."""
    steps, batch, _ = x.shape
    if batch_first:
        return new((batch, steps, width)).transpose(0, 1)
    return new((steps, batch, width))


@torch.library.register_fake("wrnn::forward")
def _forward_shapes(x, h_0, weight_ih, bias_ih, weight_hh, bias_hh, weight_out, *options):
    _, last_only, batch_first, keep = options
    output = x.new_empty(0, 0, 0)
    if not last_only:
        width = len(weight_ih if weight_out is None else weight_out)
        output = new_output(x, width, batch_first and weight_out is None, x.new_empty)
    states = states_shape(x, weight_ih, weight_hh, len(x) + 1) if keep else 0
    return output, torch.empty_like(h_0, memory_format=torch.contiguous_format), x.new_empty(states)


@torch.library.register_fake("wrnn::backward")
def _backward_shapes(*arguments):
    *arguments, needs = arguments
    return [t.new_empty(t.shape) for t, need in zip(arguments, needs, strict=False) if need]


def _save(ctx, inputs, output):
    *tensors, ctx.nonlinearity, _, _, _ = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_output, grad_h_n, _):
    """Return the gradients of the forward operator's arguments."""
    *tensors, states = ctx.saved_tensors
    needs = ctx.needs_input_grad[:NUMBER]
    if grad_output is None and grad_h_n is None:
        return (None,) * (NUMBER + 4)
    if not states.numel():  # a transform of torch.func hid that there would be a gradient
        states = torch.ops.wrnn.forward(*tensors, ctx.nonlinearity, True, False, True)[2]
    options = (ctx.nonlinearity, grad_output, grad_h_n, states, needs)
    gradients = iter(torch.ops.wrnn.backward(*tensors, *options))
    return *(next(gradients) if need else None for need in needs), *[None] * 4


def _save_again(ctx, inputs, output):
    *tensors, ctx.nonlinearity, grad_output, grad_h_n, _, ctx.needs = inputs
    ctx.save_for_backward(*tensors, grad_output, grad_h_n)
    ctx.set_materialize_grads(False)


def _differentiate_again(ctx, grads):
    """Return the gradients of the backward operator's arguments, through the loop."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views: what one tensor has to do with another elsewhere does not count here.
        values = [None if t is None else t.view_as(t) for t in ctx.saved_tensors]
        tensors, given = values[:NUMBER], values[NUMBER:]
        for value in values:
            if value is not None and not value.requires_grad:
                value.requires_grad_()
        results = loop.step_loop(*tensors, ctx.nonlinearity, last_only=given[0] is None)
        pairs = [pair for pair in zip(results, given, strict=True) if pair[1] is not None]
        first = torch.autograd.grad(
            *zip(*pairs, strict=True),
            [t for t, need in zip(tensors, ctx.needs, strict=True) if need],
            create_graph=True,
            materialize_grads=True,
        )
        pairs = [
            pair
            for pair in zip(first, grads, strict=True)
            if pair[1] is not None and pair[0].requires_grad
        ]
        wanted = [value for value in values if value is not None]
        second = torch.autograd.grad(
            *zip(*pairs, strict=True), wanted, create_graph=create_graph, allow_unused=True
        )
    found = iter(second)
    every = [None if value is None else next(found) for value in values]
    return *every[:NUMBER], None, *every[NUMBER:], None, None


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
    kind = tuple if operator is torch.ops.wrnn.forward else list
    return kind(stacked), kind([0] * len(stacked))


torch.library.register_autograd("wrnn::forward", _differentiate, setup_context=_save)
torch.library.register_autograd("wrnn::backward", _differentiate_again, setup_context=_save_again)
for _operator in (torch.ops.wrnn.forward, torch.ops.wrnn.backward):
    torch.library.register_vmap(_operator.default, partial(_one_by_one, _operator))
