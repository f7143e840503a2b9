"""The experiments on the copy and the adding task (figures 3 to 5, tables 1 and 4)."""

from collections.abc import Iterable
from dataclasses import replace

from companion.runs.run import ModelConfig, Run, irnn_config, wrnn_config
from wrnn.tasks import AddingTask, CopyTask

COPY_LAGS = (10, 20, 40, 90)  # S; the paper prints T = S - 10
# How the released code starts the input layer of a wRNN where V-init is off.
NO_V_INIT = dict(input="normal", input_bias="uniform")
ADDING_LENGTHS = (100, 200, 400, 700, 1000)


def copy(lag: int, model: ModelConfig, profile: str) -> Run:
    """One model on the copy task."""
    budget = {
        "paper": dict(steps=60_000, loss_scale=1 / 128, evaluate_every=500),
        "quick": dict(steps=1000, log_every=10, evaluate_every=100),
        "smoke": dict(steps=20, batch_size=16, log_every=5, evaluate_every=10),
    }[profile]
    # Adam leaves the floor in spikes now and then, so the best weights on validation are kept.
    return Run(CopyTask(lag), model, profile, keep="best", trace=True, **budget)


def fig3(profile: str) -> list[Run]:
    """Loss curves of the copy task."""
    if profile == "paper":
        models = (
            wrnn_config(100, 6),
            irnn_config(100),
            irnn_config(625),
            irnn_config(100, input_bias="zero"),
        )
        return [copy(lag, model, profile) for lag in (10, 40, 90) for model in models]
    size, channels = (100, 6) if profile == "quick" else (12, 2)
    models = (wrnn_config(size, channels), irnn_config(size), irnn_config(size, input_bias="zero"))
    return [copy(20, model, profile) for model in models]


def fig4(profile: str) -> list[Run]:
    """Outputs of the copy task up to T = 480."""
    if profile != "paper":
        return fig3(profile)
    models = (wrnn_config(100, 6), irnn_config(625))
    return [copy(lag, model, profile) for lag in (10, 20, 40, 90, 490) for model in models]


def table4(profile: str) -> list[Run]:
    """The ablation; what starts in the place of u-shift is PyTorch's random kernel or identity."""
    size, channels = _ablation_size(profile)
    return _ablation(
        (
            wrnn_config(size, channels),
            wrnn_config(size, channels, **NO_V_INIT),
            wrnn_config(size, channels, recurrent="default"),
            wrnn_config(size, channels, recurrent="identity"),
            wrnn_config(size, channels, recurrent="default", **NO_V_INIT),
            wrnn_config(size, channels, recurrent="identity", **NO_V_INIT),
            irnn_config(size),
            irnn_config(size, recurrent="shift"),
            irnn_config(size, recurrent="shift", input="ones", input_bias="zero"),
        ),
        profile,
    )


def other_starts(profile: str) -> list[Run]:
    """The ablation's rows without V-init from an input layer that the released code doesn't have.

    Uniform weights (wRNN) and a bias of zero: how this project started them before November 2026.
    """
    size, channels = _ablation_size(profile)
    return _ablation(
        (
            wrnn_config(size, channels, input="default"),
            wrnn_config(size, channels, recurrent="default", input="default"),
            wrnn_config(size, channels, recurrent="identity", input="default"),
            irnn_config(size, input_bias="zero"),
            irnn_config(size, recurrent="shift", input_bias="zero"),
        ),
        profile,
    )


def _ablation_size(profile: str) -> tuple[int, int]:
    return {"paper": (100, 6), "quick": (40, 6), "smoke": (12, 2)}[profile]


def _ablation(models: Iterable[ModelConfig], profile: str) -> list[Run]:
    lags = COPY_LAGS if profile == "paper" else (20,)
    runs = [copy(lag, model, profile) for lag in lags for model in models]
    if profile == "quick":  # smaller than fig3's, since there are nine of them
        small = dict(steps=300, batch_size=64, evaluate_every=50, trace=False)
        runs = [replace(run, **small) for run in runs]
    return runs


def v_init(profile: str) -> list[Run]:
    """The first steps of copying, by how input enters.

    V-init as in the code and as in the text, the released code without it, and uniform weights
    without a bias. Table 4's wRNN, validated every ten steps and cut short, since what counts is
    when it learns.
    """
    wrnn = wrnn_config(*_ablation_size(profile))
    starts = ({}, dict(input="identity"), NO_V_INIT, dict(input="default"))
    return [
        replace(
            run,
            model=replace(wrnn, **start),
            steps=min(run.steps, 1000),
            log_every=min(run.log_every, 10),
            evaluate_every=min(run.evaluate_every, 10),
            trace=False,
        )
        for run in table4(profile)
        if run.model == wrnn and run.task.lag <= 40
        for start in starts
    ]


def table1(profile: str) -> list[Run]:
    """The adding task."""
    lengths, size, channels, budget = {
        "paper": (ADDING_LENGTHS, 100, 27, dict(steps=60_000, evaluate_every=100)),
        "quick": ((50,), 50, 8, dict(steps=1500, log_every=10, evaluate_every=50)),
        "smoke": ((10,), 10, 2, dict(steps=20, batch_size=16, log_every=5, evaluate_every=10)),
    }[profile]
    models = (wrnn_config(size, channels), irnn_config(size), irnn_config(size, input_bias="zero"))
    return [
        Run(AddingTask(length), model, profile, clip=1.0, trace=True, **budget)
        for length in lengths
        for model in models
    ]
