"""The layers that the wRNN is compared with, against their definitions."""

from dataclasses import replace

import pytest
import torch

from companion.runs.layers import LinearRecurrentUnit, ResidualBlocks, diagonal_scan
from companion.runs.run import ModelConfig, build_model, wrnn_config
from wrnn import WaveRNN, WrnnError, count_parameters
from wrnn.tasks import CopyTask, SequentialDigits


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_scan_has_the_values_and_gradients_of_the_loop(dtype):
    decay = (0.9 * torch.randn(3, dtype=dtype, generator=generator())).requires_grad_()
    drive = torch.randn(7, 2, 3, dtype=dtype, generator=generator(1)).requires_grad_()
    state, states = torch.zeros(2, 3, dtype=dtype), []
    for step in drive:
        state = decay * state + step
        states.append(state)
    assert torch.allclose(diagonal_scan(decay, drive), torch.stack(states), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(diagonal_scan, (decay, drive))


def test_the_lru_is_the_explicit_recurrence_of_its_paper():
    layer = LinearRecurrentUnit(3, 5, generator=generator()).double()
    x = torch.randn(9, 2, 3, dtype=torch.float64, generator=generator(1))
    output, last = layer(x)
    B, C = (torch.view_as_complex(weight.detach()) for weight in (layer.B, layer.C))
    decay = torch.exp(-layer.nu_log.exp() + 1j * layer.theta_log.exp())
    h = torch.zeros(2, 5, dtype=torch.complex128)
    for x_t, y_t in zip(x, output, strict=True):
        h = decay * h + layer.gamma_log.exp() * (x_t.to(B.dtype) @ B.T)
        expected = (h @ C.T).real + layer.D * x_t
        assert torch.allclose(y_t, expected, rtol=0, atol=1e-12)
    assert torch.allclose(last[0], h, rtol=0, atol=1e-12)


def test_the_lru_starts_on_its_ring_and_is_normalised():
    layer = LinearRecurrentUnit(2, 4000, radii=(0.5, 0.9), generator=generator())
    radius = layer.decay.abs()
    assert 0.5 <= radius.min() < 0.52 and 0.88 < radius.max() <= 0.9
    assert torch.allclose(radius.square().mean(), torch.tensor((0.25 + 0.81) / 2), atol=0.01)
    assert torch.allclose(layer.gamma_log.exp(), (1 - radius**2).sqrt(), atol=1e-6)
    phase = layer.decay.angle() % (2 * torch.pi)
    assert phase.min() < 0.02 and phase.max() > 2 * torch.pi - 0.02


def test_blocks_are_residual_and_normalise_their_input():
    blocks = ResidualBlocks(3, 5, 2, lambda width: WaveRNN(width, 4, 2), generator())
    x = torch.randn(6, 2, 3, generator=generator(1))
    encoded = blocks.encoder(x)
    for mlp in blocks.mlps:
        torch.nn.init.zeros_(mlp[-1].weight)
        torch.nn.init.zeros_(mlp[-1].bias)
    output, last = blocks(x)
    assert torch.equal(output, encoded) and torch.equal(last[0], encoded[-1])
    first = blocks.layers[0](blocks.norms[0](encoded))[0]
    torch.nn.init.ones_(blocks.mlps[0][-1].bias)
    assert torch.allclose(blocks(x)[0], encoded + 1)
    scaled = blocks.layers[0](blocks.norms[0](1000 * encoded))[0]
    assert torch.allclose(first, scaled, atol=1e-3)
    with pytest.raises(WrnnError, match="depth is 0"):
        ResidualBlocks(3, 5, 0, lambda width: WaveRNN(width, 4, 2))


def test_a_frozen_kernel_keeps_its_start_and_is_not_counted():
    config = wrnn_config(6, 2, recurrent_bias="zero", frozen=True)
    model = build_model(config, CopyTask(12), generator())
    free = build_model(replace(config, frozen=False), CopyTask(12), generator())
    kernel = free.rnn.weight_hh.numel() + free.rnn.bias_hh.numel()
    assert count_parameters(free)["with_biases"] - count_parameters(model)["with_biases"] == kernel
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x, y = CopyTask(12).batch(4, generator=generator())
    CopyTask(12).loss(model(x), y).backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed == {"rnn.weight_ih", "rnn.bias_ih", "readout.weight", "readout.bias"}


def test_the_forget_gate_starts_at_its_bias():
    model = build_model(ModelConfig("lstm", 5, forget_bias=1.0), SequentialDigits(), generator())
    total = (model.rnn.bias_ih_l0 + model.rnn.bias_hh_l0).view(4, 5)
    assert (total[1] == 1).all() and not (total[[0, 2, 3]] == 1).any()
    with pytest.raises(WrnnError, match="lstm only"):
        build_model(ModelConfig("gru", 5, forget_bias=1.0), SequentialDigits(), generator())


def test_leak_and_orthogonal_starts():
    task = SequentialDigits()
    leaky = build_model(wrnn_config(6, 2, leak=0.25), task, generator()).rnn
    plain = build_model(wrnn_config(6, 2), task, generator()).rnn
    assert torch.equal(leaky.weight_hh, 0.75 * plain.weight_hh)
    matrix = build_model(ModelConfig("irnn", 7, recurrent="orthogonal"), task, generator())
    matrix = matrix.rnn.weight_hh_l0
    assert torch.allclose(matrix @ matrix.T, torch.eye(7), atol=1e-5)
    assert not torch.allclose(matrix, torch.eye(7))
