"""Every way of computing the recurrence against its definition, and that against algebra."""

import itertools
import math
import os
import random
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from recurrences import NAMES, arguments, errors, gradients, results, run
from torch.utils.flop_counter import FlopCounterMode

from wrnn.errors import WrnnError
from wrnn.recurrence import (
    choose_backend,
    cpu,
    operator,
    recurrent_states,
    wave_recurrence,
)
from wrnn.recurrence.loop import Tensors

NONLINEARITIES = ("relu", "tanh", "identity")


def dense(weight_hh, n):
    """Return the recurrence as one matrix (hidden, hidden): a circulant block per channel pair."""
    channels, _, kernel = weight_hh.shape
    matrix = weight_hh.new_zeros(channels, n, channels, n)
    for site, k in itertools.product(range(n), range(kernel)):
        matrix[:, site, :, (site + k - kernel // 2) % n] += weight_hh[:, :, k]
    return matrix.view(channels * n, channels * n)


@pytest.mark.parametrize("seed", range(24))
def test_what_all_samples_see_is_multiplied_once(seed):
    draw = random.Random(seed)
    kernel = draw.choice((1, 3, 5))
    steps, n = draw.randint(1, 40), kernel + draw.randint(0, 9)
    sizes = (steps, draw.choice((1, 3, 18)), draw.randint(1, 9), draw.randint(1, 7), n, kernel)
    shared = draw.choice((0, 1, steps // 2, steps))
    tensors = arguments(*sizes, draw.choice((1, 3)), shared=shared)
    wanted = NAMES[1:]  # with a gradient of x there is nothing to share
    if seed % 2:
        wanted = (draw.choice(NAMES[:6]), *draw.sample(NAMES, draw.randint(0, 7)))
    tensors = {k: v.detach().requires_grad_(k in wanted) for k, v in tensors.items()}
    if last_only := draw.choice((True, False)):
        tensors = {k: v for k, v in tensors.items() if v.requires_grad or "_out" not in k}
    found = errors(tensors, backend="numba", last_only=last_only, shared_from=shared)
    assert max(found.values()) < 1e-11, found


def test_inputs_said_to_be_shared_are_read_once_per_step(monkeypatch):
    tensors = arguments(6, 5, 4, 3, 7, 3)
    x = tensors["x"].detach()
    x[2:] = x[2:, :1].clone()
    tensors["x"] = x
    rows, with_ones = [], cpu._with_ones
    monkeypatch.setattr(cpu, "_with_ones", lambda v: rows.append(len(v)) or with_ones(v))
    gradients(run(tensors, backend="numba", shared_from=2), tensors)
    assert rows == [2, 2]


def test_inputs_that_are_not_shared_are_refused():
    tensors = arguments(6, 5, 4, 3, 7, 3)
    with pytest.raises(WrnnError, match="samples of x differ after step 2"):
        run(tensors, backend="numba", shared_from=2)
    with pytest.raises(WrnnError, match="shared_from must be an integer of at least 0"):
        run(tensors, backend="numba", shared_from=-1)


def test_inputs_that_are_not_one_hot_are_refused_and_others_change_nothing():
    tensors = arguments(6, 5, 4, 3, 7, 3)
    for x in (tensors["x"], torch.ones(6, 5, 4), torch.zeros(6, 5, 4)):
        with pytest.raises(WrnnError, match="x is not one_hot: at some step"):
            run(tensors | {"x": x.double()}, backend="numba", one_hot=True)
    with pytest.raises(WrnnError, match="one_hot must be True or False"):
        run(tensors, one_hot=2)
    tensors["x"] = torch.eye(4, dtype=torch.float64)[torch.arange(30).view(6, 5) % 4]
    for backend in ("loop", "numba"):
        assert torch.equal(
            run(tensors, backend=backend, one_hot=True), run(tensors, backend=backend)
        )


SIZES = [  # steps, batch, inputs, channels, n, kernel
    (5, 3, 2, 2, 9, 3),
    (1, 2, 1, 3, 4, 1),
    (4, 1, 3, 1, 5, 5),
    (6, 2, 1, 4, 7, 7),
    (1, 1, 1, 1, 1, 1),
    (3, 5, 4, 5, 11, 3),
    (7, 2, 2, 3, 3, 3),
    (9, 4, 1, 2, 13, 5),
    (4, 3, 2, 19, 6, 3),
    (40, 6, 3, 6, 20, 3),
]


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("sizes", SIZES)
def test_loop_is_a_dense_circulant_product(sizes, nonlinearity):
    tensors = arguments(*sizes)
    n = sizes[4]
    activation = {"relu": torch.relu, "tanh": torch.tanh, "identity": lambda h: h}[nonlinearity]
    h, states = tensors["h_0"], []
    for x_t in tensors["x"]:
        drive = x_t @ tensors["weight_ih"].t() + tensors["bias_ih"]
        recurrent = h @ dense(tensors["weight_hh"], n).t()
        h = activation(recurrent + tensors["bias_hh"].repeat_interleave(n) + drive)
        states.append(h)
    expected = torch.stack(states) @ tensors["weight_out"].t() + tensors["bias_out"]
    output = run(tensors, nonlinearity=nonlinearity, backend="loop")
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12 * expected.abs().max().item())
    reference = gradients(expected, tensors)
    for name, gradient in gradients(output, tensors).items():
        scale = max(1.0, reference[name].abs().max().item())
        torch.testing.assert_close(gradient, reference[name], rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sizes", SIZES)
def test_numba_is_the_loop(sizes, dtype):
    for nonlinearity, last_only, outputs in itertools.product(NONLINEARITIES, (0, 1), (0, 3)):
        tensors = arguments(*sizes, outputs, dtype=dtype)
        options = {"nonlinearity": nonlinearity, "last_only": bool(last_only)}
        found = errors(tensors, backend="numba", **options)
        limit = 1e-12 if dtype == torch.float64 else 1e-4
        assert max(found.values()) < limit, (options, outputs, found)


def states_and_last(tensors, **options):
    """Return all states or readouts, (T, B, ...), and the last state, each with its gradient."""
    given = {name: tensors.get(name) for name in NAMES[:7]}
    return recurrent_states(Tensors(**given), **options)


@pytest.mark.parametrize("seed", range(40))
def test_numba_is_the_loop_for_every_way_to_call_it(seed):
    """Ragged sizes, strided and expanded tensors, either layout, any outputs and gradients."""
    draw = random.Random(1000 + seed)
    kernel = draw.choice((1, 1, 3, 5, 7))
    n = draw.choice((kernel, kernel + draw.randint(0, 5), 16, draw.randint(16, 40)))
    steps, batch = draw.choice((1, draw.randint(2, 40))), draw.choice((1, 16, 32, 37))
    outputs, missing = draw.choice((0, 0, 4)), draw.choice(("", "bias_ih", "bias_hh", "bias_"))
    inputs, channels = draw.choice((1, 2, 12)), draw.choice((1, 3, 17, draw.randint(1, 20)))
    tensors = arguments(steps, batch, inputs, channels, n, kernel, outputs, seed=seed)
    tensors = {k: v for k, v in tensors.items() if not (missing and k.startswith(missing))}
    tensors.pop("bias_out", None)
    for name, tensor in tensors.items():
        kind = draw.choice(("plain", "strided", "expanded"))
        if kind == "strided":
            tensor = tensor.detach().repeat_interleave(2, -1)[..., ::2]
        elif kind == "expanded" and name in ("x", "h_0"):
            tensor = tensor.detach()[..., :1, :].expand(tensor.shape)
        tensors[name] = tensor.detach().requires_grad_(draw.random() < 0.6)
    tensors["weight_hh"].requires_grad_()
    given = draw.choice(("output", "h_n", "both", "sum", "batch first"))
    generator = torch.Generator().manual_seed(seed)
    results = []
    options = {"nonlinearity": draw.choice(NONLINEARITIES), "batch_first": draw.random() < 0.5}
    for backend in ("loop", "numba"):
        output, h_n = states_and_last(tensors, backend=backend, **options)
        if backend == "loop":
            weights = torch.randn(output.shape, generator=generator).double()
            last_weights = torch.randn(h_n.shape, generator=generator).double()
        losses = {
            "output": (output * weights).sum(),
            "h_n": (h_n * last_weights).sum(),
            "both": (output * weights).sum() + (h_n * last_weights).sum(),
            "sum": output.sum(),
            "batch first": (output.transpose(0, 1).contiguous() ** 2).sum(),
        }
        wanted = [tensor for tensor in tensors.values() if tensor.requires_grad]
        found = torch.autograd.grad(losses[given], wanted, materialize_grads=True)
        with torch.no_grad():
            inferred = states_and_last(tensors, backend=backend, **options)
        results.append((output, h_n, *inferred, *found))
    for expected, computed in zip(*results, strict=True):
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(computed, expected, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize(("steps", "nonlinearity"), [(4, "relu"), (4, "identity"), (1, "identity")])
@pytest.mark.parametrize(
    "infinite", ["weight_ih", "weight_hh", "bias_hh", "weight_out", "x", "h_0"]
)
def test_gradients_are_those_of_the_loop_where_something_is_infinite(infinite, steps, nonlinearity):
    tensors = arguments(steps, 5, 2, 3, 6, 3)  # 5 of 16 lanes hold a sample
    tensors.pop("bias_out")
    tensors[infinite].data.view(-1)[1] = float("inf")
    results = []
    for backend in ("loop", "numba"):
        output, h_n = states_and_last(tensors, backend=backend, nonlinearity=nonlinearity)
        found = torch.autograd.grad(output.sum() + h_n.sum(), list(tensors.values()))
        results.append((output, h_n, *found))
    for name, expected, computed in zip(("output", "h_n", *tensors), *results, strict=True):
        torch.testing.assert_close(computed, expected, equal_nan=True, msg=f"{name}: {computed}")


@pytest.mark.parametrize("wanted", [*NAMES[:7], ("x", "weight_hh"), ("bias_ih", "h_0")])
def test_numba_on_any_subset_of_gradients(wanted):
    tensors = arguments(6, 3, 2, 3, 8, 3)
    for name, tensor in tensors.items():
        tensor.requires_grad_(name == wanted or name in wanted)
    assert max(errors(tensors, backend="numba").values()) < 1e-12


@pytest.mark.parametrize("last_only", [False, True])
def test_gradcheck_of_numba(last_only):
    tensors = arguments(4, 2, 2, 2, 6, 3)

    def function(*values):
        by_name = dict(zip(tensors, values, strict=True))
        return run(by_name, nonlinearity="tanh", backend="numba", last_only=last_only)

    assert torch.autograd.gradcheck(function, list(tensors.values()))
    assert torch.autograd.gradgradcheck(function, list(tensors.values()))


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_derivatives_to_the_third_order_are_those_of_the_loop(nonlinearity):
    tensors = arguments(3, 2, 2, 2, 5, 3)
    tensors.pop("bias_out")
    tensors["h_0"] = (tensors["x"].sum() * tensors["h_0"]).detach().requires_grad_()
    results = []
    for backend in ("loop", "numba"):
        shared = tensors | {"h_0": tensors["h_0"] * tensors["x"].sum()}  # of one another
        output, h_n = states_and_last(shared, backend=backend, nonlinearity=nonlinearity)
        value, found = output.pow(3).sum() + h_n.pow(2).sum(), []
        for _ in range(3):
            wanted = list(tensors.values())
            grads = torch.autograd.grad(value, wanted, create_graph=True, allow_unused=True)
            value = sum(grad.square().sum() for grad in grads if grad is not None)
            found += grads
        results.append(found)
    assert results[0][-1] is not None
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)


def test_a_second_derivative_of_the_fused_kernels_is_an_error():
    pytest.importorskip("triton", reason="triton is published for Linux only")
    code = """
import torch
from wrnn.recurrence import wave_recurrence
shapes = [(3, 2, 1), (2, 6), (6, 1), (6,), (2, 2, 3), (2,)]
values = [torch.randn(s, requires_grad=True) for s in shapes]
loss = wave_recurrence(*values, backend="triton").square().sum()
torch.autograd.grad(loss, values, retain_graph=True, create_graph=True)
"""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.stderr.strip().splitlines()[-1] == (
        "wrnn.errors.WrnnError: backend 'triton' has no second derivatives: "
        "use backend='loop' with create_graph=True"
    )


def test_transforms_of_torch_func():
    tensors = arguments(3, 2, 2, 2, 5, 3, outputs=0)
    tensors = {name: tensor.detach() for name, tensor in tensors.items()}

    def loss(x, weight_hh, backend):
        changes = {"x": x, "weight_hh": weight_hh}
        return run(tensors | changes, nonlinearity="tanh", backend=backend).square().sum()

    several = torch.stack([tensors["x"], tensors["x"].flip(0)])
    for transform in (
        lambda f: torch.func.grad(f, argnums=(0, 1))(tensors["x"], tensors["weight_hh"]),
        lambda f: torch.vmap(f, (0, None))(several, tensors["weight_hh"]),
        lambda f: torch.vmap(torch.func.grad(f, argnums=1), (0, None))(
            several, tensors["weight_hh"]
        ),
        lambda f: torch.func.jacrev(torch.func.grad(f))(tensors["x"], tensors["weight_hh"]),
    ):
        expected, found = (transform(partial(loss, backend=name)) for name in ("loop", "numba"))
        torch.testing.assert_close(found, expected)
    with pytest.raises(WrnnError, match="'numba' has no forward mode: use backend='loop'"):
        f = partial(loss, weight_hh=tensors["weight_hh"], backend="numba")
        torch.func.jvp(f, (tensors["x"],), (tensors["x"],))


def test_two_live_graphs_do_not_share_memory():
    both = arguments(8, 3, 2, 3, 8, 3), arguments(8, 3, 2, 3, 8, 3, seed=5)
    expected = [gradients(run(t, backend="loop"), t) for t in both]
    run(both[0], backend="numba").sum().backward()  # leaves memory behind for the next graph
    outputs = [run(t, backend="numba") for t in both]
    found = [gradients(output, t) for output, t in zip(outputs, both, strict=True)]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_backward_twice_and_memory_used_again():
    tensors = arguments(8, 3, 2, 3, 8, 3)
    cpu._spare.clear()
    loss = run(tensors, backend="numba").square().sum()
    once = torch.autograd.grad(loss, list(tensors.values()), retain_graph=True)
    assert not cpu._spare
    twice = torch.autograd.grad(loss, list(tensors.values()))
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))
    memory = cpu._spare["states"]
    output = run(tensors, backend="numba")
    assert not cpu._spare
    del output
    assert cpu._spare["states"].data_ptr() == memory.data_ptr()


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("sizes", [(4, 1, 3), (1, 8, 3), (2, 8, 3)])  # C, n, batch
def test_results_outlive_the_memory_of_their_graph(sizes, last_only):
    channels, n, batch = sizes
    tensors = arguments(6, batch, 2, channels, n, min(n, 3), outputs=0)
    output = run(tensors, backend="numba", last_only=last_only)
    kept, copy = output.detach(), output.detach().clone()
    output.sum().backward()
    del output
    run({**tensors, "x": tensors["x"] + 1}, backend="numba", last_only=last_only)
    assert torch.equal(kept, copy)


def test_states_handed_out_are_never_written_again():
    tensors = arguments(8, 16, 2, 3, 8, 3, outputs=0)
    view = states_and_last(tensors, backend="numba")[0].detach()[2:3]  # only a view is left
    copy = view.clone()
    states_and_last(tensors | {"x": tensors["x"] + 1}, backend="numba")
    assert torch.equal(view, copy)


def test_a_loss_on_the_last_state_needs_no_gradient_of_all_states(monkeypatch):
    tensors = arguments(8, 3, 2, 3, 8, 3, outputs=0)
    seen = []
    backward = operator.backward
    monkeypatch.setattr(operator, "backward", lambda *a: seen.append(a[8]) or backward(*a))
    states_and_last(tensors, backend="numba")[1].sum().backward()
    assert seen == [None]


def test_an_empty_batch_has_empty_states():
    tensors = arguments(4, 0, 2, 3, 8, 3)
    for backend in ("auto", "loop", "numba"):
        output = run(tensors, backend=backend)
        assert output.shape == (4, 0, 3)
        assert not gradients(output, tensors)["weight_hh"].any()


@pytest.mark.parametrize("backend", ["loop", "numba"])
@pytest.mark.parametrize("last_only", [False, True])
def test_checkpoints_change_nothing(backend, last_only):
    tensors, options = arguments(10, 3, 2, 3, 8, 3), {"backend": backend, "last_only": last_only}
    for every in (1, 3, 10, 50):
        found = errors(tensors, checkpoint_every=every, **options)
        assert max(found.values()) < 1e-12, (every, found)


def test_checkpoints_save_memory():
    steps, every = 144, 12
    tensors = arguments(steps, 2, 1, 2, 8, 3, outputs=0)
    padded_state = 2 * 16 * (8 + 2)  # numbers: channels, lanes and sites with their halo
    for options, states in (({}, steps + 1), ({"checkpoint_every": every}, every + 1)):
        cpu._spare.clear()
        run(tensors, backend="numba", last_only=True, **options).sum().backward()
        assert len(cpu._spare["states"]) == states * padded_state


def changed(**changes):
    """Return float32 tensors by name, with some replaced."""
    return {k: v.detach().float() for k, v in arguments(3, 2, 2, 3, 8, 3).items()} | changes


@pytest.mark.parametrize(
    ("tensors", "options", "message"),
    [
        (changed(), {"backend": "cuda"}, "backend must be one of 'auto', 'loop', .* not 'cuda'"),
        (changed(), {"nonlinearity": "gelu"}, "nonlinearity must be one of 'relu', .* not 'gelu'"),
        (
            changed(),
            {"precision": "half"},
            "precision must be one of 'float32', 'tf32x3', 'tf32', not 'half'",
        ),
        (changed(), {"backend": "numba", "precision": "tf32"}, "needs backend 'triton'"),
        (
            changed(),
            {"checkpoint_every": 0},
            "checkpoint_every must be an integer of at least 1, not 0",
        ),
        (changed(weight_hh=torch.zeros(3, 3, 4)), {}, "kernel size 4 does not fit"),
        (changed(weight_hh=torch.zeros(3, 3, 9)), {}, "kernel size 9 does not fit a ring of 8"),
        (changed(weight_hh=torch.zeros(5, 5, 3)), {}, "no multiple of the 5 channels"),
        (changed(weight_hh=torch.zeros(3, 2, 3)), {}, r"weight_hh is \(3, 2, 3\) where \(3, 3, 3"),
        (changed(x=torch.zeros(3, 2)), {}, r"x must be \(T, B, input_size\)"),
        (changed(x=torch.zeros(0, 2, 2)), {}, "not empty"),
        (changed(x=torch.zeros(3, 2, 5)), {}, r"weight_ih is \(24, 2\) where \(24, 5\) fits"),
        (changed(h_0=torch.zeros(4, 24)), {}, r"h_0 is \(4, 24\) where \(2, 24\) fits"),
        (changed(bias_hh=torch.zeros(24)), {}, "bias_hh"),
        (changed(weight_out=torch.zeros(3, 5)), {}, "weight_out"),
        (changed(weight_out=None), {}, "bias_out"),
        (changed(h_0=torch.zeros(2, 24).double()), {}, "h_0 is torch.float64 on cpu, but x is"),
        ({k: v.half() for k, v in changed().items()}, {}, "must be float32 or float64, not"),
        (changed(x=[[1.0]]), {}, r"x must be a torch.Tensor, not \[\[1.0\]\]"),
        (changed(h_0=None), {}, "h_0 must be a torch.Tensor, not None"),
        (changed(bias_ih="no"), {}, "bias_ih must be a torch.Tensor, not 'no'"),
        (changed(x=torch.zeros(3, 2, 2).long()), {}, "x must hold floating-point numbers"),
        (changed(), {"last_only": "no"}, "last_only must be True or False, not 'no'"),
        (changed(), {"checkpoint_every": 2.5}, "checkpoint_every must be an integer"),
        ({k: v.to("meta") for k, v in changed().items()}, {"backend": "numba"}, "on meta"),
    ],
)
def test_bad_input_is_one_clear_line(tensors, options, message):
    with pytest.raises(WrnnError, match=message) as error:
        run(tensors, **options)
    assert "\n" not in str(error.value)


def test_auto_says_what_it_takes_and_why():
    tensors = changed()
    name, reason = choose_backend(tensors["x"], tensors["weight_hh"])
    assert name == "numba" and "not triton" in reason
    name, reason = choose_backend(tensors["x"].to("meta"), tensors["weight_hh"].to("meta"))
    assert name == "loop" and "not numba: it runs on the CPU" in reason
    name, reason = choose_backend(torch.zeros(3, 2, 2), torch.zeros(13, 13, 3))
    assert name == "loop" and "not numba: a batch under a sixth" in reason
    torch.testing.assert_close(
        run(tensors, backend="auto"), run(tensors, backend="numba"), rtol=0, atol=0
    )


def test_without_numba_the_loop_is_taken_and_says_so(monkeypatch):
    tensors = changed()
    monkeypatch.setattr("wrnn.recurrence.INSTALLED", [])
    name, reason = choose_backend(tensors["x"], tensors["weight_hh"])
    assert name == "loop" and "not numba: the package numba is not installed" in reason
    with pytest.raises(WrnnError, match="numba is not installed"):
        run(tensors, backend="numba")


def test_neither_threads_nor_another_call_change_a_bit():
    tensors = arguments(20, 70, 2, 3, 16, 3, dtype=torch.float32)
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 1, 3):
            torch.set_num_threads(number)
            found.append(results(tensors, backend="numba"))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(found[0][name], other[name]) for name in other)


def test_no_warning_from_the_common_paths():
    tensors = arguments(5, 2, 2, 2, 6, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for backend in ("loop", "numba"):
            run(tensors, backend=backend, checkpoint_every=2).sum().backward()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc/self/status")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [("sMNIST", "x=(300, 64, 1), C=16, n=256"), ("nsCIFAR10", "x=(150, 64, 96), C=16, n=256")],
)
def test_peak_memory_is_at_most_a_quarter_over_what_must_be_stored(name, sizes):
    """Forward and backward of a training step, as in the paper but shorter, in its own process."""
    code = f"""
import re, torch
from pathlib import Path
from wrnn.recurrence import wave_recurrence

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def train_step(x, C, n):
    shapes = [(C * n, x[2]), (C * n,), (C, C, 3), (C,)]
    parameters = [(torch.randn(shape) / 16).requires_grad_() for shape in shapes]
    x = torch.rand(x)
    last = wave_recurrence(x, x.new_zeros(x.shape[1], C * n), *parameters, last_only=True)
    last.square().mean().backward()
    states = (len(x) + 1) * x.shape[1] * C * n
    return 4 * (states + x.numel() + sum(p.numel() for p in parameters))

train_step((4, 16, 1), 16, 16)  # compiles, and loads every library
before = peak()
stored = train_step({sizes})
print((peak() - before) / stored)
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.9 < float(result.stdout) <= 1.25


def test_shared_inputs_have_second_derivatives_and_compile():
    tensors = arguments(6, 3, 2, 2, 5, 3, outputs=0)
    x, *rest = [tensors[name].detach() for name in NAMES[:6]]
    x[2:] = x[2:, :1].clone()

    def last(kernel, backend="numba"):
        return wave_recurrence(
            *(x, *rest[:3], kernel, rest[4]),
            nonlinearity="tanh",
            backend=backend,
            last_only=True,
            shared_from=2,
        )

    kernel = rest[3].clone().requires_grad_()
    wanted = torch.autograd.functional.hessian(lambda u: last(u, "loop").sum(), kernel)
    found = torch.autograd.functional.hessian(lambda u: last(u).sum(), kernel)
    torch.testing.assert_close(found, wanted)
    compiled = torch.compile(last, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(kernel), last(kernel, "loop"))


@pytest.mark.parametrize("outputs", [0, 3])
def test_the_products_of_the_compiled_loops_are_counted_as_those_of_the_loop(outputs):
    counts = {}
    for backend in ("loop", "numba"):
        tensors = arguments(5, 4, 2, 3, 8, 3, outputs=outputs)
        with FlopCounterMode(display=False) as counter:
            run(tensors, backend=backend).square().sum().backward()
        counts[backend] = counter.get_total_flops()
    assert counts["numba"] == counts["loop"] > 0


def test_the_loop_is_taken_where_numba_is_told_not_to_compile(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    name, reason = choose_backend(torch.rand(5, 4, 2), torch.rand(3, 3, 3))
    assert name == "loop" and "NUMBA_DISABLE_JIT is set" in reason


def test_without_a_folder_to_keep_it_in_code_is_compiled_for_this_process(monkeypatch):
    def refuse(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: ("compiled", function)

    monkeypatch.setattr(cpu, "njit", refuse)
    assert cpu.jit(math.sqrt) == ("compiled", math.sqrt)


def test_a_thread_that_outlives_the_main_one_computes():
    code = """
import threading, time, torch
from wrnn import WaveRNN
torch.set_num_threads(2)
rnn, x = WaveRNN(3, 8), torch.rand(5, 64, 3)
def late():
    threading.main_thread().join()
    print(rnn(x)[0].shape)
threading.Thread(target=late).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("torch.Size([5, 64, 8])\n", "")
