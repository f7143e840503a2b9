"""Recurrences of any size: their tensors, what comes of them, and how far that is from the loop."""

import torch

from wrnn.recurrence import wave_recurrence
from wrnn.recurrence.loop import Tensors

NAMES = Tensors._fields


def arguments(
    steps, batch, inputs, channels, n, kernel, outputs=3, *, shared=None, gain=1.0, seed=0, **kind
):
    """Return x, h_0, parameters and, where there are outputs, a readout by name.

    The kernel has about the gain that is asked for. From step `shared` on all samples have the same
    input; with "one-hot" it is a single 1 at every step.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = channels * n
    shapes = {
        "x": (steps, batch, inputs),
        "h_0": (batch, hidden),
        "weight_ih": (hidden, inputs),
        "bias_ih": (hidden,),
        "weight_hh": (channels, channels, kernel),
        "bias_hh": (channels,),
    }
    if outputs:
        shapes |= {"weight_out": (outputs, hidden), "bias_out": (outputs,)}
    kind = {"dtype": torch.float64} | kind
    tensors = {k: torch.randn(v, generator=generator).to(**kind) for k, v in shapes.items()}
    tensors["weight_hh"] *= gain * (channels * kernel) ** -0.5
    if shared == "one-hot":
        tensors["x"] = torch.eye(inputs).to(tensors["x"])[tensors["x"].argmax(2)]
    elif shared is not None:
        tensors["x"][shared:] = tensors["x"][shared:, :1].clone()
    return {k: v.requires_grad_() for k, v in tensors.items()}


def run(tensors, **options):
    """Run the recurrence on tensors by name, some of which may be missing."""
    readout = {name: tensors.get(name) for name in NAMES[6:]}
    return wave_recurrence(*(tensors.get(name) for name in NAMES[:6]), **readout, **options)


def gradients(output, tensors, seed=1):
    """Return the gradients of a random projection of the output, by name."""
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed))
    wanted = {k: v for k, v in tensors.items() if v.requires_grad}
    values = torch.autograd.grad((output * weights.to(output)).sum(), list(wanted.values()))
    return dict(zip(wanted, values, strict=True))


def results(tensors, **options):
    """Return the output without and with gradients, and these, by name."""
    with torch.no_grad():
        inferred = run(tensors, **options)
    output = run(tensors, **options)
    return {"inferred": inferred, "output": output, **gradients(output, tensors)}


def error(value, expected):
    """Return the largest difference, relative to the largest value."""
    return ((value - expected).abs().max() / expected.abs().max().clamp_min(1e-3)).item()


def errors(tensors, *, nonlinearity="relu", last_only=False, **options):
    """Return by name how far what a backend computes is from the loop in float64."""
    same = {"nonlinearity": nonlinearity, "last_only": last_only}
    exact = {k: v.detach().double().requires_grad_(v.requires_grad) for k, v in tensors.items()}
    expected = results(exact, backend="loop", **same)
    found = results(tensors, **same, **options)
    assert found.keys() == expected.keys() and len(found) > 2
    return {name: error(found[name].double(), value) for name, value in expected.items()}
