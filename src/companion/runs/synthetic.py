"""The experiments on the copy and the adding task (figures 3 to 5, tables 1 and 4)."""

from dataclasses import replace

from companion.runs.run import ModelConfig, Run, identity, wave
from wrnn.tasks import AddingTask, CopyTask

COPY_LAGS = (10, 20, 40, 90)  # S; the paper prints T = S - 10
ADDING_LENGTHS = (100, 200, 400, 700, 1000)


def _copy(lag: int, model: ModelConfig, profile: str) -> Run:
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
        models = (wave(100, 6), identity(100), identity(625))
        return [_copy(lag, model, profile) for lag in (10, 40, 90) for model in models]
    models = (wave(100, 6), identity(100)) if profile == "quick" else (wave(12, 2), identity(12))
    return [_copy(20, model, profile) for model in models]


def fig4(profile: str) -> list[Run]:
    """Outputs of the copy task up to T = 480."""
    if profile != "paper":
        return fig3(profile)
    models = (wave(100, 6), identity(625))
    return [_copy(lag, model, profile) for lag in (10, 20, 40, 90, 490) for model in models]


def table4(profile: str) -> list[Run]:
    """The ablation; what starts in the place of u-shift is PyTorch's random kernel or identity."""
    size, channels = {"paper": (100, 6), "quick": (40, 6), "smoke": (12, 2)}[profile]
    models = (
        wave(size, channels),
        wave(size, channels, input="default"),
        wave(size, channels, recurrent="default"),
        wave(size, channels, recurrent="identity"),
        wave(size, channels, recurrent="default", input="default"),
        wave(size, channels, recurrent="identity", input="default"),
        identity(size),
        identity(size, recurrent="shift"),
        identity(size, recurrent="shift", input="ones"),
    )
    lags = COPY_LAGS if profile == "paper" else (20,)
    runs = [_copy(lag, model, profile) for lag in lags for model in models]
    if profile == "quick":  # smaller than fig3's, since there are nine of them
        small = dict(steps=300, batch_size=64, evaluate_every=50, trace=False)
        runs = [replace(run, **small) for run in runs]
    return runs


def v_init(profile: str) -> list[Run]:
    """The first steps of copying, by how input enters: as in the code, as in the text, anywhere.

    Table 4's wRNN, validated every ten steps and cut short, since what counts is when it learns.
    """
    first = [run for run in table4(profile) if run.model.kind == "wrnn" and run.task.lag <= 40]
    return [
        replace(
            run,
            model=replace(run.model, input=input_start),
            steps=min(run.steps, 1000),
            log_every=min(run.log_every, 10),
            evaluate_every=min(run.evaluate_every, 10),
            trace=False,
        )
        for run in first
        if (run.model.recurrent, run.model.input) == ("shift", "ones")
        for input_start in ("ones", "identity", "default")
    ]


def local(profile: str) -> list[Run]:
    """The wRNN beside its locally connected variant, which only the released code has."""
    size, channels = {"paper": (100, 6), "quick": (40, 6), "smoke": (12, 2)}[profile]
    shared = [run for run in table4(profile) if run.model == wave(size, channels)]
    return [
        replace(run, model=model)
        for run in shared
        if run.task.lag in (20, 90)
        for model in (run.model, replace(run.model, kind="local"))
    ]


def table1(profile: str) -> list[Run]:
    """The adding task."""
    if profile == "paper":
        return [
            Run(AddingTask(length), model, profile, steps=60_000, clip=1.0, trace=True)
            for length in ADDING_LENGTHS
            for model in (wave(100, 27), identity(100))
        ]
    if profile == "quick":
        return [
            Run(
                AddingTask(50),
                model,
                profile,
                steps=1500,
                clip=1.0,
                log_every=10,
                evaluate_every=50,
                trace=True,
            )
            for model in (wave(50, 8), identity(50))
        ]
    return [
        Run(
            AddingTask(10),
            model,
            profile,
            steps=20,
            batch_size=16,
            log_every=5,
            evaluate_every=10,
            trace=True,
        )
        for model in (wave(10, 2), identity(10))
    ]
