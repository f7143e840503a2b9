import pytest
import torch

from wrnn import WaveRNN, WrnnError, init


def step(weight_hh, h):
    """One free step of a linear ring: h (channels, sites)."""
    channels, sites = h.shape
    rnn = WaveRNN(1, sites, channels, kernel_size=weight_hh.shape[-1], nonlinearity="identity")
    rnn.weight_hh.data.copy_(weight_hh)
    rnn.bias_hh.data.zero_()
    output, _ = rnn(torch.zeros(1, 1, 1), h.reshape(1, 1, -1))
    return output.view(channels, sites)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_shift_moves_a_bump_by_exactly_one_site_per_step(kernel_size):
    weight = init.shift_(torch.empty(2, 2, kernel_size))
    h = torch.rand(2, 9)
    assert torch.equal(step(weight, h), h.roll(-1, dims=1))


@pytest.mark.parametrize("velocity", [0.0, 0.25, 0.5, 1.0])
def test_a_fractional_velocity_moves_a_bump_by_its_kernel(velocity):
    weight = init.shift_(torch.empty(1, 1, 3), velocity)
    h = torch.zeros(1, 8)
    h[0, 5] = 1
    expected = torch.zeros(1, 8)
    expected[0, 5], expected[0, 4] = 1 - velocity, velocity
    assert torch.equal(step(weight, h), expected)


def test_each_channel_can_have_its_own_velocity():
    weight = init.shift_(torch.empty(2, 2, 3), [0.0, 1.0])
    h = torch.rand(2, 6)
    moved = step(weight, h)
    assert torch.equal(moved[0], h[0])
    assert torch.equal(moved[1], h[1].roll(-1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((torch.empty(1, 1, 3), 1.5), "velocity"), ((torch.empty(2, 2, 3), [1.0]), "velocities")],
)
def test_shift_rejects_bad_velocities(arguments, message):
    with pytest.raises(WrnnError, match=message):
        init.shift_(*arguments)


def test_a_kernel_of_one_cannot_shift():
    with pytest.raises(WrnnError, match="size 1"):
        init.shift_(torch.empty(1, 1, 1))


def test_single_site_ones_feeds_site_zero_of_every_channel_from_every_input():
    weight = init.single_site_(torch.empty(12, 5), 3).view(3, 4, 5)
    assert torch.equal(weight[:, 0], torch.ones(3, 5))
    assert weight[:, 1:].count_nonzero() == 0


def test_single_site_identity_feeds_channel_i_from_input_i():
    weight = init.single_site_(torch.empty(12, 5), 3, kind="identity").view(3, 4, 5)
    assert torch.equal(weight[:, 0], torch.eye(3, 5))
    assert weight[:, 1:].count_nonzero() == 0


def test_single_site_rejects_unknown_kind_and_uneven_rows():
    with pytest.raises(WrnnError, match="kind"):
        init.single_site_(torch.empty(4, 1), 2, kind="eye")
    with pytest.raises(WrnnError, match="multiple"):
        init.single_site_(torch.empty(5, 1), 2)


def test_shift_matrix_equals_the_shift_kernel():
    matrix = init.shift_matrix_(torch.empty(7, 7))
    h = torch.rand(1, 7)
    assert torch.equal(h @ matrix.T, step(init.shift_(torch.empty(1, 1, 3)), h))


def test_identity_and_fan_in_uniform():
    assert torch.equal(init.identity_(torch.empty(4, 4)), torch.eye(4))
    values = init.fan_in_uniform_(torch.empty(1000), 25, torch.Generator().manual_seed(0))
    assert 0.19 < values.abs().max() <= 0.2
