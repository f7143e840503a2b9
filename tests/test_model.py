import pytest
import torch

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

COPY, ADDING, MNIST, CIFAR = (
    CopyTask(10),
    AddingTask(100),
    SequentialMNIST(),
    NoisySequentialCIFAR10(),
)


def test_layout_and_parameter_names_are_the_contract():
    rnn = WaveRNN(5, 8, 3, kernel_size=5)
    shapes = {name: tuple(p.shape) for name, p in rnn.named_parameters()}
    assert shapes == {
        "weight_ih": (24, 5),
        "weight_hh": (3, 3, 5),
        "bias_ih": (24,),
        "bias_hh": (3,),
    }
    output, h_n = rnn(torch.rand(7, 2, 5))
    assert output.shape == (7, 2, 24)
    assert h_n.shape == (1, 2, 24)
    assert torch.equal(h_n[0], output[-1])
    first = rnn(torch.rand(7, 2, 5), torch.rand(1, 2, 24))[0]
    assert first.shape == (7, 2, 24)


def test_unit_index_is_channel_times_channel_size_plus_site():
    rnn = WaveRNN(3, 6, 3, nonlinearity="identity")
    rnn.reset_parameters(input="identity", recurrent_bias="zero")
    x = torch.zeros(3, 1, 3)
    x[0, 0, 1] = 1  # one pulse into channel 1
    output, _ = rnn(x)
    # The pulse enters at site 0 and moves down by one site a step: 0, then 5, then 4.
    assert [step.nonzero().item() for step in output[:, 0]] == [1 * 6 + 0, 1 * 6 + 5, 1 * 6 + 4]


def test_batch_first_swaps_time_and_batch():
    rnn = WaveRNN(2, 5, 2)
    swapped = WaveRNN(2, 5, 2, batch_first=True)
    swapped.load_state_dict(rnn.state_dict())
    x = torch.rand(4, 3, 2)
    expected, h_expected = rnn(x)
    output, h_n = swapped(x.transpose(0, 1))
    assert torch.equal(output, expected.transpose(0, 1))
    assert torch.equal(h_n, h_expected)


def test_without_bias_there_are_no_bias_parameters():
    rnn = WaveRNN(2, 5, 2, bias=False)
    assert {name for name, _ in rnn.named_parameters()} == {"weight_ih", "weight_hh"}
    assert rnn(torch.rand(4, 3, 2))[0].shape == (4, 3, 10)


def test_local_kernel_tied_by_hand_equals_the_wave_rnn():
    torch.manual_seed(0)
    tied, local = WaveRNN(2, 6, 3).double(), LocalWaveRNN(2, 6, 3).double()
    local.weight_ih.data.copy_(tied.weight_ih)
    local.bias_ih.data.copy_(tied.bias_ih)
    local.weight_hh.data.copy_(tied.weight_hh.unsqueeze(2).expand(3, 3, 6, 3))
    local.bias_hh.data.copy_(tied.bias_hh.unsqueeze(1).expand(3, 6))
    assert local.weight_hh.shape == (3, 3, 6, 3)
    x = torch.rand(9, 4, 2, dtype=torch.float64)
    assert torch.allclose(local(x)[0], tied(x)[0], rtol=0, atol=1e-12)


def test_identity_rnn_has_torch_names_and_starts_as_the_identity():
    rnn = IdentityRNN(3, 6)
    names = {name for name, _ in torch.nn.RNN(3, 6).named_parameters()}
    assert {name for name, _ in rnn.named_parameters()} == names
    assert torch.equal(rnn.weight_hh_l0, torch.eye(6))
    assert rnn.bias_ih_l0.count_nonzero() == rnn.bias_hh_l0.count_nonzero() == 0
    assert 0 < rnn.weight_ih_l0.abs().max() < 0.01


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_first": True},
        {"bias": False, "nonlinearity": "tanh"},
        {"num_layers": 2, "batch_first": True},
    ],
    ids=["plain", "batch first", "tanh without bias", "two layers"],
)
def test_identity_rnn_computes_what_torch_computes(options):
    ours, theirs = (
        IdentityRNN(3, 6, **options),
        torch.nn.RNN(3, 6, **{"nonlinearity": "relu", **options}),
    )
    ours, theirs = ours.double(), theirs.double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(4, 7, 3, dtype=torch.float64)
    batch = 4 if options.get("batch_first") else 7
    h_0 = torch.rand(options.get("num_layers", 1), batch, 6, dtype=torch.float64)
    results = []
    for rnn in (ours, theirs):
        output, h_n = rnn(x, h_0)
        loss = output.square().sum() + h_n.sum()
        results.append((output, h_n, *torch.autograd.grad(loss, list(rnn.parameters()))))
    for computed, expected in zip(*results, strict=True):
        torch.testing.assert_close(computed, expected, rtol=1e-12, atol=1e-12)
    first = options.get("batch_first", False)
    last = ours.compute(x.transpose(0, 1) if first else x, h_0, last_only=True)  # (1, B, hidden)
    whole = results[1][0].transpose(0, 1) if first else results[1][0]  # (T, B, hidden)
    torch.testing.assert_close(last, whole[-1:], rtol=1e-12, atol=1e-12)


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


def test_sequence_model_reads_out_at_every_step_or_the_last():
    rnn = WaveRNN(2, 5, 2)
    x = torch.rand(4, 3, 2)
    every = SequenceModel(rnn, 7, every_step=True)
    last = SequenceModel(rnn, 7)
    last.load_state_dict(every.state_dict())
    assert every(x).shape == (4, 3, 7)
    assert torch.allclose(last(x), every(x)[-1])
    assert SequenceModel(rnn, 7, readout="mlp")(x).shape == (3, 7)


BAD = {
    "even kernel": (lambda: WaveRNN(1, 8, kernel_size=4), "odd"),
    "kernel larger than the ring": (lambda: WaveRNN(1, 3, kernel_size=5), "channel_size"),
    "negative size": (lambda: WaveRNN(1, -8), "channel_size"),
    "zero input": (lambda: WaveRNN(0, 8), "input_size"),
    "negative hidden size": (lambda: IdentityRNN(1, -1), "hidden_size"),
    "nonlinearity": (lambda: WaveRNN(1, 8, nonlinearity="gelu"), "relu"),
    "nonlinearity of the iRNN": (lambda: IdentityRNN(1, 8, nonlinearity="identity"), "tanh"),
    "input rank": (lambda: WaveRNN(1, 8)(torch.rand(5, 1)), r"\(T, B, 1\)"),
    "input width": (lambda: WaveRNN(2, 8)(torch.rand(5, 3, 1)), r"\(T, B, 2\)"),
    "input width of the iRNN": (lambda: IdentityRNN(2, 8)(torch.rand(5, 3, 1)), r"\(T, B, 2\)"),
    "state": (lambda: WaveRNN(1, 8)(torch.rand(5, 3, 1), torch.rand(1, 3, 9)), "h_0"),
    "backend": (lambda: WaveRNN(1, 8, backend="cpp")(torch.rand(5, 3, 1)), "backend"),
    "readout": (lambda: SequenceModel(WaveRNN(1, 8), 2, readout="conv"), "linear"),
    "batch_first readout": (
        lambda: SequenceModel(WaveRNN(1, 8, batch_first=True), 2),
        "time first",
    ),
    "model": (lambda: build_model(ModelConfig("transformer", 8), ADDING), "irnn"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(case):
    call, message = BAD[case]
    with pytest.raises(WrnnError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
