"""How every model of the paper's experiments starts, against the released code's distributions.

A sample is compared with a uniform or normal distribution by its extremes and its deviation; what
starts at zero or one is compared exactly.
"""

import math

import pytest
import torch
from torch import Tensor

from companion.runs import images, synthetic
from companion.runs.campaign import IRNN_VARIANTS
from companion.runs.run import ModelConfig, build_model
from wrnn.tasks import AddingTask, CopyTask, NoisySequentialCIFAR10, SequentialMNIST

TASKS = {
    "copy": CopyTask(10),
    "adding": AddingTask(100),
    "MNIST": SequentialMNIST(),
    "CIFAR10": NoisySequentialCIFAR10(),
}
IMAGES = ("MNIST", "CIFAR10")


def parts(config: ModelConfig, task, seed: int = 0) -> dict[str, Tensor]:
    """The parameters of a new model, those of an iRNN under the names of the wRNN."""
    model = build_model(config, task, torch.Generator().manual_seed(seed))
    return {
        name.removeprefix("rnn.").removesuffix("_l0"): value.detach()
        for name, value in model.named_parameters()
    }


def sample(config: ModelConfig, task, name: str) -> Tensor:
    """A parameter over enough models for its distribution to be told."""
    seeds = 300 if config.size < 100 else 30
    return torch.cat([parts(config, task, seed)[name].flatten() for seed in range(seeds)])


def assert_uniform(values: Tensor, fan_in: int):
    bound = 1 / math.sqrt(fan_in)
    assert values.abs().max() <= bound
    assert values.max() > 0.9 * bound and values.min() < -0.9 * bound
    assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)


def assert_normal(values: Tensor, deviation: float):
    assert values.std().item() == pytest.approx(deviation, rel=0.1)
    assert values.abs().max() > 2.5 * deviation  # a uniform one ends at 1.7


def models_of(runs) -> list[ModelConfig]:
    return list(dict.fromkeys(run.model for run in runs))


@pytest.mark.parametrize("task", TASKS)
def test_the_wrnn_starts_as_one_site_with_no_input_bias_and_pytorchs_kernel_bias(task):
    runs = {
        "copy": synthetic.fig3,
        "adding": synthetic.table1,
        "MNIST": images.table2,
        "CIFAR10": images.table3,
    }[task]("paper")
    config = next(model for model in models_of(runs) if model.kind == "wrnn")
    start = parts(config, TASKS[task])
    channels = config.num_channels
    sites = start["weight_ih"].unflatten(0, (channels, config.size))  # (channels, sites, input)
    assert (sites[:, 0] == 1).all() and (sites[:, 1:] == 0).all()
    assert (start["bias_ih"] == 0).all()
    shift = torch.zeros(channels, channels, 3)
    shift[range(channels), range(channels), 2] = 1
    assert torch.equal(start["weight_hh"], shift)
    assert_uniform(sample(config, TASKS[task], "bias_hh"), 3 * channels)


@pytest.mark.parametrize("task", TASKS)
def test_the_irnn_starts_as_identity_with_pytorchs_input_bias(task):
    runs = {
        "copy": synthetic.fig3,
        "adding": synthetic.table1,
        "MNIST": images.table2,
        "CIFAR10": images.table3,
    }[task]("paper")
    released = [m for m in models_of(runs) if m.kind == "irnn" and m.input_bias == "uniform"]
    assert released
    width = TASKS[task].input_size
    for config in released[:1]:
        start = parts(config, TASKS[task])
        assert torch.equal(start["weight_hh"], torch.eye(config.size))
        assert (start["bias_hh"] == 0).all()
        assert_uniform(sample(config, TASKS[task], "bias_ih"), width)
        weights = sample(config, TASKS[task], "weight_ih")
        if task in IMAGES:
            assert_uniform(weights, width)
        else:
            assert_normal(weights, 0.001)


@pytest.mark.parametrize("runs", [synthetic.fig3, synthetic.table1, images.table2])
def test_the_fair_control_differs_from_the_released_irnn_in_its_input_bias_only(runs):
    for profile in ("paper", "quick", "smoke"):
        planned = [run for run in runs(profile) if run.model.kind == "irnn"]
        controls = [run for run in planned if run.model.input_bias == "zero"]
        assert controls
        for control in controls:
            start = parts(control.model, control.task)
            assert (start["bias_ih"] == 0).all() and (start["bias_hh"] == 0).all()
            released = ModelConfig(**{**vars(control.model), "input_bias": "uniform"})
            other = parts(released, control.task)
            assert torch.equal(start["weight_ih"], other["weight_ih"])
            assert released in [run.model for run in planned]


def test_the_rows_of_the_ablation_start_as_in_the_released_code():
    task = CopyTask(10)
    rows = {model.label: model for model in models_of(synthetic.table4("paper"))}
    assert len(rows) == 9
    for label, config in rows.items():
        start = parts(config, task)
        if "− V-init" in label or label in ("iRNN (n=100)", "iRNN (n=100) + Σ-init"):
            assert_normal(sample(config, task, "weight_ih"), 0.001)
            assert_uniform(sample(config, task, "bias_ih"), 10)
        else:
            assert (start["bias_ih"] == 0).all()
            assert start["weight_ih"].sum() == 10 * config.num_channels
        if config.kind == "wrnn":
            assert_uniform(sample(config, task, "bias_hh"), 18)
            if "u-shift (default)" in label:
                assert_uniform(sample(config, task, "weight_hh"), 18)
            elif "u-shift (identity)" in label:
                assert start["weight_hh"].diagonal()[1].eq(1).all()
                assert start["weight_hh"].sum() == 6
        else:
            assert (start["bias_hh"] == 0).all()
            expected = torch.eye(100)
            if "Σ-init" in label:
                expected = expected.roll(1, dims=1)  # h_new[x] = h[x + 1]
            assert torch.equal(start["weight_hh"], expected)


def test_the_irnns_to_choose_from_on_copy():
    assert {(m.recurrent, m.nonlinearity) for m in IRNN_VARIANTS} == {
        (start, act) for start in ("identity", "default") for act in ("relu", "tanh")
    }
    task = CopyTask(10)
    for config in IRNN_VARIANTS:
        assert_normal(sample(config, task, "weight_ih"), 0.001)
        assert_uniform(sample(config, task, "bias_ih"), 10)
        recurrent_bias = sample(config, task, "bias_hh")
        if config.recurrent == "default":
            assert_uniform(sample(config, task, "weight_hh"), 100)
            assert_uniform(recurrent_bias, 100)
        else:
            assert torch.equal(parts(config, task)["weight_hh"], torch.eye(100))
            assert (recurrent_bias == 0).all()


@pytest.mark.parametrize("config", [IRNN_VARIANTS[0], ModelConfig("wrnn", 8, 2)])
@pytest.mark.parametrize("task", TASKS)
def test_the_readout_starts_as_pytorchs_linear(task, config):
    width = config.size * config.num_channels
    for name in ("readout.weight", "readout.bias"):
        assert_uniform(sample(config, TASKS[task], name), width)


def test_fields_that_came_later_leave_older_ids_alone():
    older = synthetic.other_starts("paper")[0]
    assert "input_bias" not in older.to_dict()["model"]
    assert type(older).from_dict(older.to_dict()) == older
    newer = synthetic.fig3("paper")[1]
    assert newer.to_dict()["model"]["input_bias"] == "uniform"
    assert type(newer).from_dict(newer.to_dict()) == newer
