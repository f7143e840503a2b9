"""The starts of the paper, by what they do to a ring."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wrnn import WaveRNN, WrnnError, init


def step(weight_hh, h):
    """One free step of a linear ring: h (channels, sites)."""
    channels, sites = h.shape
    rnn = WaveRNN(1, sites, channels, kernel_size=weight_hh.shape[-1], nonlinearity="identity")
    rnn.weight_hh.data.copy_(weight_hh)
    rnn.bias_hh.data.zero_()
    output, _ = rnn(torch.zeros(1, 1, 1), h.reshape(1, 1, -1))
    return output.view(channels, sites)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4), st.sampled_from([3, 5, 7]))
def test_shift_moves_a_share_of_each_channel_from_site_x_plus_1_to_x(speeds, kernel_size):
    h = torch.rand(len(speeds), 9)
    weight = init.shift_(torch.empty(len(speeds), len(speeds), kernel_size), speeds)
    v = torch.tensor(speeds)[:, None]
    torch.testing.assert_close(step(weight, h), (1 - v) * h + v * h.roll(-1, dims=1))


def test_a_whole_site_per_step_is_exact_and_the_shift_matrix_does_the_same():
    h, kernel = torch.rand(1, 7), init.shift_(torch.empty(1, 1, 3))
    assert torch.equal(step(kernel, h), h.roll(-1, dims=1))
    assert torch.equal(h @ init.shift_matrix_(torch.empty(7, 7)).T, step(kernel, h))


@pytest.mark.parametrize(
    ("kind", "expected"), [("ones", torch.ones(3, 5)), ("identity", torch.eye(3, 5))]
)
def test_single_site_feeds_site_zero_of_a_channel(kind, expected):
    """From every input as in the released code, or channel i from input i as in the text."""
    weight = init.single_site_(torch.empty(12, 5), 3, kind=kind).view(3, 4, 5)
    assert torch.equal(weight[:, 0], expected)
    assert weight[:, 1:].count_nonzero() == 0


def test_identity_and_fan_in_uniform():
    assert torch.equal(init.identity_(torch.empty(4, 4)), torch.eye(4))
    values = init.fan_in_uniform_(torch.empty(1000), 25, torch.Generator().manual_seed(0))
    assert 0.19 < values.abs().max() <= 0.2


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        (init.shift_, (torch.empty(1, 1, 3), 1.5), "velocity"),
        (init.shift_, (torch.empty(2, 2, 3), [1.0]), "velocities"),
        (init.shift_, (torch.empty(1, 1, 1),), "size 1"),
        (init.single_site_, (torch.empty(4, 1), 2, "eye"), "kind"),
        (init.single_site_, (torch.empty(5, 1), 2), "multiple"),
    ],
)
def test_bad_input_is_one_clear_line(call, arguments, message):
    with pytest.raises(WrnnError, match=message):
        call(*arguments)
