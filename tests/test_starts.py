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

COPY = CopyTask(10)
PAPER = {  # the task and the models that the paper trains on it
    "copy": (COPY, synthetic.fig3),
    "adding": (AddingTask(100), synthetic.table1),
    "MNIST": (SequentialMNIST(), images.table2),
    "CIFAR10": (NoisySequentialCIFAR10(), images.table3),
}


def parts(config: ModelConfig, task, seed: int = 0) -> dict[str, Tensor]:
    """The parameters of a new model, those of an iRNN under the names of the wRNN."""
    model = build_model(config, task, torch.Generator().manual_seed(seed))
    return {
        name.removeprefix("rnn.").removesuffix("_l0"): value.detach()
        for name, value in model.named_parameters()
    }


def assert_starts(config: ModelConfig, task, **expected) -> None:
    """Each part is a tensor, a number, ("uniform", fan in) or ("normal", deviation)."""
    seeds = 300 if config.size < 100 else 30
    starts = [parts(config, task, seed) for seed in range(seeds)]
    for name, start in expected.items():
        values = torch.stack([start_of[name.replace("__", ".")] for start_of in starts])
        if not isinstance(start, tuple):
            assert (values == start).all(), name
            continue
        kind, number = start
        deviation = number if kind == "normal" else 1 / math.sqrt(3 * number)
        assert values.std().item() == pytest.approx(deviation, rel=0.15), name
        if kind == "normal":
            assert values.abs().max() > 2.5 * deviation  # a uniform one ends at 1.7
        else:
            bound = 1 / math.sqrt(number)
            assert 0.9 * bound < values.max() <= bound and -bound <= values.min() < -0.9 * bound


def one_site(config: ModelConfig, width: int) -> Tensor:
    """V-init of the released code: every input into site 0 of every channel."""
    sites = torch.zeros(config.num_channels, config.size, width)
    sites[:, 0] = 1
    return sites.flatten(0, 1)


def ring(channels: int, place: int) -> Tensor:
    """A kernel of size 3 with a one per channel: the shift at place 2, the identity at 1."""
    kernel = torch.zeros(channels, channels, 3)
    kernel[range(channels), range(channels), place] = 1
    return kernel


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_models_start_as_in_the_released_code(name):
    task, runs = PAPER[name]
    models = list(dict.fromkeys(run.model for run in runs("paper")))
    width = task.input_size
    wave = next(model for model in models if model.kind == "wrnn")
    hidden = wave.size * wave.num_channels
    assert_starts(
        wave,
        task,
        weight_ih=one_site(wave, width),
        bias_ih=0,
        weight_hh=ring(wave.num_channels, 2),
        bias_hh=("uniform", 3 * wave.num_channels),
        readout__weight=("uniform", hidden),
        readout__bias=("uniform", hidden),
    )
    released = next(m for m in models if m.kind == "irnn" and m.input_bias == "uniform")
    assert_starts(
        released,
        task,
        weight_ih=("normal", 0.001) if name in ("copy", "adding") else ("uniform", width),
        bias_ih=("uniform", width),
        weight_hh=torch.eye(released.size),
        bias_hh=0,
        readout__bias=("uniform", released.size),
    )


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
            assert torch.equal(start["weight_ih"], parts(released, control.task)["weight_ih"])
            assert released in [run.model for run in planned]


def test_the_rows_of_the_ablation_start_as_in_the_released_code():
    models = [run.model for run in synthetic.table4("paper") if run.model.kernel_size == 3]
    rows = {model.label: model for model in models}
    assert len(rows) == 9
    random_input = dict(weight_ih=("normal", 0.001), bias_ih=("uniform", 10))
    random_kernel = dict(weight_hh=("uniform", 18), bias_hh=("uniform", 18))
    for label, config in rows.items():
        entry = dict(weight_ih=one_site(config, 10), bias_ih=0)
        if "− V-init" in label or label in ("iRNN (n=100)", "iRNN (n=100) + Σ-init"):
            entry = random_input
        if config.kind == "irnn":  # Σ moves the state of site x + 1 to x
            kernel = dict(weight_hh=torch.eye(100).roll(int("Σ-init" in label), dims=1), bias_hh=0)
        elif "u-shift (default)" in label:
            kernel = random_kernel
        else:
            place = 1 if "u-shift (identity)" in label else 2
            kernel = dict(weight_hh=ring(6, place), bias_hh=("uniform", 18))
        assert_starts(config, COPY, **entry, **kernel)


def test_the_irnns_to_choose_from_on_copy():
    assert {(m.recurrent, m.nonlinearity) for m in IRNN_VARIANTS} == {
        (start, act) for start in ("identity", "default") for act in ("relu", "tanh")
    }
    for config in IRNN_VARIANTS:
        kernel = dict(weight_hh=torch.eye(100), bias_hh=0)
        if config.recurrent == "default":
            kernel = dict(weight_hh=("uniform", 100), bias_hh=("uniform", 100))
        entry = dict(weight_ih=("normal", 0.001), bias_ih=("uniform", 10))
        assert_starts(config, COPY, **entry, **kernel)
