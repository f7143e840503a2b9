import copy
import doctest
import pickle
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

import wrnn
from companion.evidence import published as paper
from companion.runs.run import ModelConfig, build_model, irnn_config, wrnn_config
from wrnn import (
    IdentityRNN,
    LocalWaveRNN,
    SequenceModel,
    WaveRNN,
    WrnnError,
    count_parameters,
)
from wrnn.tasks import AddingTask, CopyTask, NoisySequentialCIFAR10, SequentialMNIST

COPY, ADDING = CopyTask(10), AddingTask(100)
MNIST, CIFAR = SequentialMNIST(), NoisySequentialCIFAR10()


@pytest.mark.parametrize("bias", [True, False])
def test_layout_and_parameter_names_are_the_contract(bias):
    rnn = WaveRNN(5, 8, 3, kernel_size=5, bias=bias)
    shapes = {name: tuple(p.shape) for name, p in rnn.named_parameters()}
    biases = {"bias_ih": (24,), "bias_hh": (3,)} if bias else {}
    assert shapes == {"weight_ih": (24, 5), "weight_hh": (3, 3, 5)} | biases
    x = torch.rand(7, 2, 5)
    output, h_n = rnn(x)
    assert output.shape == (7, 2, 24) and torch.equal(h_n, output[-1:])
    assert torch.equal(rnn(x[3:], output[2:3])[1], h_n)
    swapped = WaveRNN(5, 8, 3, kernel_size=5, bias=bias, batch_first=True)
    swapped.load_state_dict(rnn.state_dict())
    output_swapped, h_swapped = swapped(x.transpose(0, 1))
    assert torch.equal(output_swapped, output.transpose(0, 1)) and torch.equal(h_swapped, h_n)


def test_unit_index_is_channel_times_channel_size_plus_site():
    rnn = WaveRNN(3, 6, 3, nonlinearity="identity")
    rnn.reset_parameters(input="identity", recurrent_bias="zero")
    x = torch.zeros(3, 1, 3)
    x[0, 0, 1] = 1  # one pulse into channel 1
    output, _ = rnn(x)
    # The pulse enters at site 0 and moves down by one site a step: 0, then 5, then 4.
    assert [step.nonzero().item() for step in output[:, 0]] == [1 * 6 + 0, 1 * 6 + 5, 1 * 6 + 4]


def test_local_kernel_tied_by_hand_equals_the_wave_rnn():
    tied, local = WaveRNN(2, 6, 3, dtype=torch.float64), LocalWaveRNN(2, 6, 3, dtype=torch.float64)
    state = tied.state_dict()
    state["weight_hh"] = tied.weight_hh.unsqueeze(2).expand(3, 3, 6, 3)
    state["bias_hh"] = tied.bias_hh.unsqueeze(1).expand(3, 6)
    local.load_state_dict(state)
    x = torch.rand(9, 4, 2, dtype=torch.float64)
    assert torch.allclose(local(x)[0], tied(x)[0], rtol=0, atol=1e-12)


def test_a_local_kernel_is_that_of_its_site():
    rnn = LocalWaveRNN(1, 4, bias=False)
    with torch.no_grad():
        rnn.weight_hh.zero_()[0, 0, 2, 0] = 1.0  # site 2 takes the value of site 1
    h_n = rnn(torch.zeros(1, 1, 1), torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]))[1]
    assert h_n.tolist() == [[[0.0, 0.0, 2.0, 0.0]]]


def test_identity_rnn_has_torch_names_and_starts_as_the_identity():
    rnn = IdentityRNN(3, 6)
    names = {name for name, _ in torch.nn.RNN(3, 6).named_parameters()}
    assert {name for name, _ in rnn.named_parameters()} == names
    assert torch.equal(rnn.weight_hh_l0, torch.eye(6))
    assert rnn.bias_ih_l0.count_nonzero() == rnn.bias_hh_l0.count_nonzero() == 0
    assert 0 < rnn.weight_ih_l0.abs().max() < 0.01


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("options", [{}, {"bias": False, "nonlinearity": "tanh"}])
@pytest.mark.parametrize("units", [6, 50], ids=["compiled", "as torch computes it"])
def test_identity_rnn_computes_what_torch_computes(options, units, first):
    options = {"nonlinearity": "relu", "batch_first": first, "dtype": torch.float64} | options
    ours, theirs = (kind(3, units, **options) for kind in (IdentityRNN, torch.nn.RNN))
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(4, 7, 3, dtype=torch.float64)
    h_0 = torch.rand(1, 4 if first else 7, units, dtype=torch.float64)
    results = []
    for rnn in (ours, theirs):
        output, h_n = rnn(x, h_0)
        loss = output.square().sum() + h_n.sum()
        results.append((output, h_n, *torch.autograd.grad(loss, list(rnn.parameters()))))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    last = ours.compute(x, h_0, last_only=True)  # (1, B, hidden)
    torch.testing.assert_close(last, results[1][1], rtol=1e-12, atol=1e-12)


COUNTED = {
    "parameters/copy-irnn-n-100": (irnn_config(100), COPY),
    "parameters/copy-irnn-n-625": (irnn_config(625), COPY),
    "parameters/copy-wrnn-n-100-c-6": (wrnn_config(100, 6), COPY),
    "parameters/adding-irnn-n-100": (irnn_config(100), ADDING),
    "parameters/adding-wrnn-n-100-c-27": (wrnn_config(100, 27), ADDING),
    "parameters/s-psmnist-irnn-n-256": (irnn_config(256), MNIST),
    "parameters/s-psmnist-wrnn-n-256-c-16": (wrnn_config(256, 16), MNIST),
    "parameters/s-psmnist-wrnn-mlp-n-256-c-16": (wrnn_config(256, 16, readout="mlp"), MNIST),
    "parameters/nscifar10-irnn-n-529": (irnn_config(529), CIFAR),
    "parameters/nscifar10-wrnn-n-256-c-16": (wrnn_config(256, 16), CIFAR),
}


@pytest.mark.parametrize("published", paper.select("parameters/"), ids=lambda p: p.id)
def test_parameter_counts_equal_the_released_code(published):
    if published.id.endswith("encoder-v"):
        rnn = build_model(*COUNTED["parameters/nscifar10-wrnn-n-256-c-16"]).rnn
        counts = (rnn.weight_ih.numel(), rnn.weight_ih.numel() + rnn.bias_ih.numel())
    else:
        found = count_parameters(build_model(*COUNTED[published.id]))
        counts = (found["without_biases"], found["with_biases"])
    assert counts == (published.without_biases, published.with_biases)


@pytest.mark.parametrize("kind", ["wrnn", "local", "irnn", "lstm", "gru"])
def test_a_model_depends_on_its_generator_alone(kind):
    config = ModelConfig(kind, 8, 2 if kind in ("wrnn", "local") else 1, recurrent="default")

    def weights(seed, global_seed):
        torch.manual_seed(global_seed)
        model = build_model(config, ADDING, torch.Generator().manual_seed(seed))
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(1, 1), weights(1, 2))
    assert not torch.equal(weights(1, 1), weights(2, 1))


@pytest.mark.parametrize("readout", ["linear", "mlp"])
def test_sequence_model_reads_out_at_every_step_or_the_last(readout):
    rnn, x = WaveRNN(2, 5, 2), torch.rand(4, 3, 2)
    every, last = (
        SequenceModel(rnn, 7, readout=readout, every_step=flag) for flag in (True, False)
    )
    last.load_state_dict(every.state_dict())
    assert every(x).shape == (4, 3, 7)
    assert torch.allclose(last(x), every(x)[-1])


NO_EXAMPLE = (  # what others are made of, and tasks whose data has to be there
    *("RecurrentLayer", "Task", "NoisySequentialCIFAR10", "SequentialMNIST"),
)
LAYERS = {
    "wave": lambda **options: WaveRNN(3, 5, 2, **options),
    "local": lambda **options: LocalWaveRNN(3, 5, 2, **options),
    "identity": lambda **options: IdentityRNN(3, 10, **options),
    "identity, step by step": lambda **options: IdentityRNN(3, 50, **options),  # at this batch
}
layers = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


@layers
@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sequence_is_a_batch_of_one(layer, batch_first):
    rnn = layer(batch_first=batch_first)
    x, h_0 = torch.rand(4, 3), torch.rand(1, rnn.hidden_size)
    output, h_n = rnn(input=x, hx=h_0)
    axis = 0 if batch_first else 1
    expected, h_expected = rnn(x.unsqueeze(axis), h_0.unsqueeze(1))
    assert torch.equal(output, expected.squeeze(axis)) and torch.equal(h_n, h_expected[:, 0])
    assert torch.equal(rnn.compute(x, h_0, last_only=True), h_n)
    if not batch_first:
        for every_step, shape in ((True, (4, 2)), (False, (2,))):
            assert SequenceModel(rnn, 2, every_step=every_step)(x, h_0).shape == shape


@layers
def test_a_layer_computes_only_what_is_asked_for(layer):
    rnn, x = layer(), torch.rand(4, 2, 3)
    readout = torch.nn.Linear(rnn.hidden_size, 5)
    weights = {"weight_out": readout.weight, "bias_out": readout.bias}
    output, h_n = rnn(x)
    assert torch.equal(rnn.compute(x), output)
    assert torch.equal(rnn.compute(x, last_only=True), h_n)
    torch.testing.assert_close(rnn.compute(x, **weights), readout(output))
    torch.testing.assert_close(rnn.compute(x, last_only=True, **weights), readout(h_n))


@layers
def test_options_are_checked_and_obeyed_on_every_path(layer):
    for rnn in (layer(), IdentityRNN(3, 50, backend="loop")):
        x = torch.rand(4, 2, 3, requires_grad=True)
        expected = rnn.compute(x)
        torch.testing.assert_close(rnn.compute(x, checkpoint_every=2, shared_from=4), expected)
        wrong = {"checkpoint_every": "no", "shared_from": -1, "one_hot": 1, "last_only": None}
        for name, value in wrong.items():
            with pytest.raises(WrnnError, match=name):
                rnn.compute(x, **{name: value})
        with pytest.raises(TypeError, match="last_ony"):
            rnn.compute(x, last_ony=True)


def test_an_identity_rnn_takes_a_backend_for_what_torch_rnn_cannot():
    rnn, x = IdentityRNN(3, 50, backend="loop", dtype=torch.float64), torch.rand(4, 2, 3).double()
    like = IdentityRNN(3, 50, dtype=torch.float64)
    like.load_state_dict(rnn.state_dict())
    torch.testing.assert_close(rnn(x), like(x))
    several = torch.stack([x, 2 * x])
    expected = torch.stack([rnn(one)[0] for one in several])
    torch.testing.assert_close(torch.vmap(lambda one: rnn(one)[0])(several), expected)
    _, change = torch.func.jvp(lambda one: rnn(one)[0], (x,), (torch.ones_like(x),))
    moved = (rnn(x + 1e-6)[0] - rnn(x - 1e-6)[0]) / 2e-6
    torch.testing.assert_close(change, moved, rtol=1e-5, atol=1e-8)


def test_print_shows_sizes_and_what_is_not_as_by_default():
    rnn = IdentityRNN(3, 6, batch_first=True, bias=False)
    assert repr(rnn) == "IdentityRNN(3, 6, nonlinearity='relu', bias=False, batch_first=True)"
    shown = "WaveRNN(3, 8, num_channels=2, kernel_size=3, nonlinearity='relu', backend='loop')"
    assert repr(WaveRNN(3, 8, 2, backend="loop")) == shown


def test_only_parameters_that_are_biases_are_counted_as_biases():
    model = torch.nn.ModuleDict({"debiased": torch.nn.Linear(10, 10, bias=False)})
    assert count_parameters(model) == {"with_biases": 100, "without_biases": 100}
    model["other"] = torch.nn.utils.parametrizations.weight_norm(WaveRNN(3, 8), "bias_ih", dim=0)
    assert count_parameters(model) == {"with_biases": 100 + 44, "without_biases": 100 + 27}


@layers
def test_an_empty_batch_has_empty_states(layer):
    output, h_n = layer()(torch.rand(4, 0, 3))
    assert output.shape[:2] == (4, 0) and h_n.shape[:2] == (1, 0)


@layers
def test_device_and_dtype_are_those_of_torch_rnn(layer):
    rnn = layer(device="cpu", dtype=torch.float64)
    assert {p.dtype for p in rnn.parameters()} == {torch.float64}
    assert rnn(torch.rand(4, 2, 3).double())[0].dtype == torch.float64
    output, h_n = layer(device="meta")(torch.rand(4, 2, 3, device="meta"))
    assert output.is_meta and output.shape[:2] == (4, 2) and h_n.is_meta


@layers
def test_layers_take_the_arguments_of_torch_rnn_at_the_values_they_have(layer):
    layer(num_layers=1, dropout=0.0, bidirectional=False, proj_size=0)
    wrong = dict(num_layers=2, dropout=0.5, bidirectional=True, proj_size=4, hidden=3)
    wrong |= dict(device="abacus", bias="yes", batch_first=1, nonlinearity=None)
    for name, value in (*wrong.items(), ("dtype", torch.bfloat16), ("dtype", "float")):
        with pytest.raises(WrnnError, match=name) as caught:
            layer(**{name: value})
        assert "\n" not in str(caught.value)
    packed = pack_sequence([torch.rand(3, 3), torch.rand(2, 3)])
    for model in (layer(), SequenceModel(layer(), 2)):
        with pytest.raises(WrnnError, match="PackedSequence"):
            model(packed)
        with pytest.raises(WrnnError, match="script is not supported"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that torch.jit is deprecated
            torch.jit.script(model)


@pytest.mark.parametrize(
    "wrong", [0, -1, 1.5, "3", None, True, [3], np.float64(3), torch.tensor(3)]
)
def test_a_wrong_size_is_one_clear_line(wrong):
    sizes = {
        WaveRNN: ("input_size", "channel_size", "num_channels", "kernel_size"),
        LocalWaveRNN: ("input_size", "channel_size", "num_channels", "kernel_size"),
        IdentityRNN: ("input_size", "hidden_size"),
        partial(SequenceModel, WaveRNN(1, 8)): ("output_size",),
    }
    for layer, names in sizes.items():
        right = dict.fromkeys(names, 3)
        for name in names:
            with pytest.raises(WrnnError, match=f"{name} must be an integer") as caught:
                layer(**right | {name: wrong})
            assert "\n" not in str(caught.value)
            layer(**right | {name: np.int64(3)})


@layers
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 2, 3)), "input must be a torch.Tensor"),
        (None, "input must be a torch.Tensor"),
        (torch.zeros(4, 2, 3).long(), "floating-point"),
        (torch.zeros(4, 2, 3).double(), "input is torch.float64 on cpu, but the layer is"),
        (torch.zeros(4, 2, 3).bfloat16(), "input is torch.bfloat16 on cpu"),
        (torch.zeros(4, 2, 3, device="meta"), "input is torch.float32 on meta"),
        (torch.zeros(0, 2, 3), "no time steps"),
        (torch.zeros(4, 2, 1, 3), "expected"),
        (torch.zeros(3), "expected"),
    ],
)
def test_a_wrong_input_is_one_clear_line(layer, x, message):
    for call in (layer(), layer().compute, SequenceModel(layer(), 2)):
        with pytest.raises(WrnnError, match=message) as caught:
            call(x)
        assert "\n" not in str(caught.value)


@layers
def test_a_wrong_state_is_one_clear_line(layer):
    rnn = layer()
    for h_0 in (np.zeros(3), torch.zeros(2, rnn.hidden_size), torch.zeros(1, 2, 3), "zero"):
        with pytest.raises(WrnnError, match="hx"):
            rnn(torch.rand(4, 2, 3), h_0)
    with pytest.raises(WrnnError, match="hx is torch\\.float64"):
        rnn(torch.rand(4, 2, 3), torch.zeros(1, 2, rnn.hidden_size).double())


@layers
def test_derivatives_twice(layer):
    rnn = layer(dtype=torch.float64, nonlinearity="tanh")
    rnn.reset_parameters(recurrent="default", input="default")
    names, values = zip(*rnn.named_parameters(), strict=True)
    x = torch.rand(3, 2, 3, dtype=torch.float64)

    def loss(x, *values):
        output, h_n = torch.func.functional_call(rnn, dict(zip(names, values, strict=True)), (x,))
        return output.square().sum() + h_n.sum()

    arguments = [value.detach().requires_grad_() for value in (x, *values)]
    assert torch.autograd.gradcheck(loss, arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, arguments, fast_mode=True)


@layers
@pytest.mark.parametrize("every_step", [False, True])
def test_compile_without_a_graph_break_and_export(layer, every_step):
    model, x = SequenceModel(layer(), 4, every_step=every_step), torch.rand(3, 2, 3)
    torch.compiler.reset()
    results = []
    for call in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        output = call(x)
        results.append((output, *torch.autograd.grad(output.square().sum(), model.parameters())))
    torch.testing.assert_close(*results)
    compiled = torch.compile(model.rnn, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model.rnn(x))
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


@layers
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(layer, half):
    rnn, x = layer(), torch.rand(4, 2, 3).to(half)
    expected = rnn(x.float())
    with torch.autocast("cpu", dtype=half):
        torch.testing.assert_close(rnn(x), expected, rtol=0, atol=0)
        torch.testing.assert_close(rnn(x.float()), expected, rtol=0, atol=0)
        output = SequenceModel(rnn, 2)(x)
    assert output.dtype == half
    output.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in rnn.parameters())


@layers
@pytest.mark.parametrize("backend", ["auto", "loop"])
def test_results_may_be_changed_in_place(layer, backend):
    rnn, x = layer(), torch.rand(4, 2, 3)
    if isinstance(rnn, WaveRNN):
        rnn.backend = backend
    for rnn.batch_first in (False, True):
        output, h_n = rnn(x)
        (output * 2).sum().backward()
        expected = rnn.weight_ih_l0.grad if rnn.suffix else rnn.weight_ih.grad
        rnn.zero_grad()
        output, h_n = rnn(x)
        output.mul_(2)
        h_n.add_(1)
        (output.sum() + 0 * h_n.sum()).backward()
        torch.testing.assert_close(
            rnn.weight_ih_l0.grad if rnn.suffix else rnn.weight_ih.grad, expected
        )
        rnn.zero_grad()


def test_a_layer_or_readout_of_ones_own_is_called():
    class Silent(WaveRNN):
        def forward(self, input, hx=None):
            output, h_n = super().forward(input, hx)
            return 0 * output, 0 * h_n

    class Doubled(torch.nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    x = torch.rand(4, 2, 3)
    model = SequenceModel(Silent(3, 8, 2), 5)
    torch.testing.assert_close(model(x), model.readout.bias.expand(2, 5))
    model = SequenceModel(WaveRNN(3, 8, 2), 5, every_step=True)
    plain, linear = model(x), model.readout
    model.readout = Doubled(16, 5)
    model.readout.load_state_dict(linear.state_dict())
    torch.testing.assert_close(model(x), 2 * plain)


def test_a_start_that_is_refused_changes_nothing():
    for layer in (WaveRNN(3, 8, 2), IdentityRNN(3, 8)):
        before = {name: value.clone() for name, value in layer.state_dict().items()}
        with pytest.raises(WrnnError, match="input bias init"):
            layer.reset_parameters(recurrent="default", input="identity", input_bias="ones")
        assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


@layers
def test_models_are_copied_pickled_and_spread(layer):
    model, x = SequenceModel(layer(), 4), torch.rand(3, 2, 3)
    expected = model(x)
    expected.sum().backward()
    spread = torch.nn.DataParallel(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), spread):
        assert torch.equal(other(x), expected)


@layers
def test_hooks_of_layer_and_readout_are_called(layer):
    for every_step in (False, True):
        model, x = SequenceModel(layer(), 4, every_step=every_step), torch.rand(3, 2, 3)
        expected, seen = model(x), []
        hook = partial(lambda seen, module, inputs, output: seen.append(module), seen)
        for module in (model.rnn, model.readout):
            module.register_forward_hook(hook)
        torch.testing.assert_close(model(x), expected)
        assert seen == [model.rnn, model.readout]


def test_a_sequence_model_starts_from_a_state():
    for rnn in (WaveRNN(2, 5, 2), torch.nn.GRU(2, 10)):
        for every_step in (False, True):
            model = SequenceModel(rnn, 3, every_step=every_step)
            x = torch.rand(6, 4, 2)
            _, h_n = rnn(x[:2])
            second = model(x[2:], h_n)
            torch.testing.assert_close(second, model(x)[2:] if every_step else model(x))


@pytest.mark.parametrize("module", [wrnn.model, wrnn.init, wrnn.recurrence, wrnn.tasks])
def test_every_public_thing_has_an_example_that_runs(module):
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    ]
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for name in names:
        value = getattr(module, name)
        if not callable(value) or name in NO_EXAMPLE:
            continue
        (test,) = finder.find(value, name, globs=vars(module) | {"torch": torch})
        assert test.examples, f"{module.__name__}.{name} has no example"
        runner.run(test)
    assert runner.summarize().failed == 0


def test_the_examples_of_the_api_page_run():
    page = Path(__file__).parents[1] / "book" / "api.md"
    results = doctest.testfile(str(page), module_relative=False)
    assert results.attempted >= 8 and results.failed == 0


BAD = {
    "odd": lambda: WaveRNN(1, 8, kernel_size=4),
    "ring of 3 sites: it must": lambda: WaveRNN(1, 3, kernel_size=5),
    "relu": lambda: WaveRNN(1, 8, nonlinearity="gelu"),
    "tanh": lambda: IdentityRNN(1, 8, nonlinearity="identity"),
    r"\(T, B, 2\)": lambda: WaveRNN(2, 8)(torch.rand(5, 3, 1)),
    r"\(B, T, 2\)": lambda: IdentityRNN(2, 8, batch_first=True)(torch.rand(5, 3, 1)),
    "backend": lambda: WaveRNN(1, 8, backend="cpp"),
    "linear": lambda: SequenceModel(WaveRNN(1, 8), 2, readout="conv"),
    "time first": lambda: SequenceModel(WaveRNN(1, 8, batch_first=True), 2),
    "irnn": lambda: build_model(ModelConfig("transformer", 8), ADDING),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_clear_line(message):
    with pytest.raises(WrnnError, match=message) as caught:
        BAD[message]()
    assert "\n" not in str(caught.value)
