"""The experiments of the paper: each figure or table is a list of runs, in three profiles.

``paper`` has the paper's sizes, steps and data; ``quick`` shows the same effects on a CPU within
minutes, on data that needs no download; ``smoke`` only shows that everything runs. Where the paper
gives a grid of settings, the runs here use one of them, stated in the run; the chapters say why.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from wrnn.errors import WrnnError
from wrnn.runs import PROFILES, ModelConfig, Run, identity, wave
from wrnn.tasks import (
    AddingTask,
    CopyTask,
    NoisySequentialCIFAR10,
    NoisySequentialDigits,
    SequentialDigits,
    SequentialMNIST,
)

COPY_LAGS = (10, 20, 40, 90)  # S; the paper prints T = S - 10
ADDING_LENGTHS = (100, 200, 400, 700, 1000)
MNIST_EPOCH = 446  # steps: 57,000 training images in batches of 128
CIFAR_EPOCH = 184  # steps: 47,000 training images in batches of 256


@dataclass(frozen=True)
class Experiment:
    """One figure or table: its runs of seed 0 in a profile, and the chapter that shows them.

    ``smaller`` says what is smaller than in the paper where even the paper profile is not its size.
    """

    name: str
    title: str
    chapter: str
    runs_of: Callable[[str], list[Run]]
    smaller: str = ""

    def runs(self, profile: str, seeds: int = 1) -> list[Run]:
        """Return the runs of seeds 0 to ``seeds - 1``, seed by seed (breadth first)."""
        if profile not in PROFILES:
            raise WrnnError(f"unknown profile {profile!r}: use {', '.join(PROFILES)}")
        if seeds < 1:
            raise WrnnError(f"seeds is {seeds}: expected at least 1")
        first = self.runs_of(profile)
        # Arrays beside a record are for figures of one model: seed 0 is enough.
        return first + [
            replace(run, seed=seed, trace=False) for seed in range(1, seeds) for run in first
        ]


def _copy(lag: int, model: ModelConfig, profile: str) -> Run:
    budget = {
        "paper": dict(steps=60_000, loss_scale=1 / 128, evaluate_every=500),
        "quick": dict(steps=1000, log_every=10, evaluate_every=100),
        "smoke": dict(steps=20, batch_size=16, log_every=5, evaluate_every=10),
    }[profile]
    # Adam leaves the floor in spikes now and then, so the best weights on validation are kept.
    return Run(CopyTask(lag), model, profile, keep="best", trace=True, **budget)


def _fig3(profile: str) -> list[Run]:
    if profile == "paper":
        models = (wave(100, 6), identity(100), identity(625))
        return [_copy(lag, model, profile) for lag in (10, 40, 90) for model in models]
    models = (wave(100, 6), identity(100)) if profile == "quick" else (wave(12, 2), identity(12))
    return [_copy(20, model, profile) for model in models]


def _fig4(profile: str) -> list[Run]:
    if profile != "paper":
        return _fig3(profile)
    models = (wave(100, 6), identity(625))
    return [_copy(lag, model, profile) for lag in (10, 20, 40, 90, 490) for model in models]


def _table4(profile: str) -> list[Run]:
    sizes = {"paper": (100, 6), "quick": (100, 6), "smoke": (12, 2)}[profile]
    models = (
        wave(*sizes),
        wave(*sizes, input="default"),
        wave(*sizes, recurrent="default"),
        wave(*sizes, recurrent="identity"),
        wave(*sizes, recurrent="default", input="default"),
        wave(*sizes, recurrent="identity", input="default"),
        identity(sizes[0]),
        identity(sizes[0], recurrent="shift"),
        identity(sizes[0], recurrent="shift", input="ones"),
    )
    lags = COPY_LAGS if profile == "paper" else (20,)
    return [_copy(lag, model, profile) for lag in lags for model in models]


def _table1(profile: str) -> list[Run]:
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


def _images(profile: str, permuted: bool, models: Iterable[ModelConfig]) -> list[Run]:
    keep = "best" if permuted else "last"  # as the released code reports them
    if profile == "paper":
        return [
            Run(
                SequentialMNIST(permuted),
                model,
                profile,
                steps=120 * MNIST_EPOCH,
                learning_rate=1e-4,
                clip=1.0,
                drop_steps=(100 * MNIST_EPOCH,),
                evaluate_every=MNIST_EPOCH,
                keep=keep,
                trace=True,
            )
            for model in models
        ]
    steps, every = (600, 50) if profile == "quick" else (10, 5)
    return [
        Run(
            SequentialDigits(permuted),
            model,
            profile,
            steps=steps,
            batch_size=64,
            clip=1.0,
            log_every=max(1, every // 5),
            evaluate_every=every,
            keep=keep,
            trace=True,
        )
        for model in models
    ]


def _table2(profile: str) -> list[Run]:
    size, channels = {"paper": (256, 16), "quick": (32, 8), "smoke": (8, 2)}[profile]
    hidden = {"paper": 256, "quick": 64, "smoke": 8}[profile]
    models = (
        wave(size, channels),
        wave(size, channels, readout="mlp"),
        identity(hidden, input="default"),
    )
    return [run for permuted in (False, True) for run in _images(profile, permuted, models)]


def _mnist_cpu(profile: str) -> list[Run]:
    if profile != "paper":
        return _fig2(profile)
    return [
        Run(
            SequentialMNIST(),
            model,
            profile,
            steps=1000,
            batch_size=64,
            clip=1.0,
            log_every=20,
            evaluate_every=250,
            keep="best",
            trace=True,
        )
        for model in (
            wave(256, 4),
            wave(256, 4, recurrent_bias="zero"),
            identity(96, input="default"),
        )
    ]


def _fig2(profile: str) -> list[Run]:
    return [run for run in _table2(profile)[:3] if run.model.readout == "linear"]


def _table3(profile: str) -> list[Run]:
    if profile == "paper":
        return [
            Run(
                NoisySequentialCIFAR10(),
                model,
                profile,
                steps=120 * CIFAR_EPOCH,
                batch_size=256,
                learning_rate=1e-4,
                clip=1.0,
                drop_steps=(100 * CIFAR_EPOCH,),
                evaluate_every=CIFAR_EPOCH,
                keep="best",
            )
            for model in (wave(256, 16), identity(529, input="default"))
        ]
    size, channels, steps = (32, 8, 600) if profile == "quick" else (8, 2, 10)
    return [
        Run(
            NoisySequentialDigits(),
            model,
            profile,
            steps=steps,
            batch_size=64,
            clip=1.0,
            log_every=max(1, steps // 60),
            evaluate_every=steps // 2,
            keep="best",
        )
        for model in (wave(size, channels), identity(2 * size, input="default"))
    ]


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("fig3", "Copy task: loss curves", "03_copy", _fig3),
        Experiment("fig4", "Copy task: outputs", "03_copy", _fig4),
        Experiment("table1", "Adding task (also Figure 5)", "04_adding", _table1),
        Experiment("fig2", "Waves in the hidden state", "02_wave_rnn", _fig2),
        Experiment("table2", "Sequential images (also Figure 6)", "05_sequential_images", _table2),
        Experiment(
            "mnist_cpu",
            "Sequential MNIST within a CPU's reach",
            "05_sequential_images",
            _mnist_cpu,
            smaller="real MNIST, smaller models and fewer steps than the paper's",
        ),
        Experiment("table4", "Copy task: ablation", "07_ablations", _table4),
        Experiment("table3", "Noisy sequential images (also Figure 8)", "06_noisy_images", _table3),
    )
}
ALIASES = {"fig5": "table1", "fig6": "table2", "fig8": "table3"}


def find_experiments(names: Iterable[str]) -> list[Experiment]:
    """Return the experiments of these names; "all" is every one, and aliases are allowed."""
    found = []
    for name in names:
        if name == "all":
            found += EXPERIMENTS.values()
        elif ALIASES.get(name, name) in EXPERIMENTS:
            found.append(EXPERIMENTS[ALIASES.get(name, name)])
        else:
            known = ", ".join([*EXPERIMENTS, *ALIASES, "all"])
            raise WrnnError(f"unknown experiment {name!r}: use {known}")
    return list(dict.fromkeys(found))


def plan(experiments: Iterable[Experiment], profile: str, seeds: int = 1) -> list[Run]:
    """Return every run of the experiments once, seed 0 of everything first."""
    runs = {run.id: run for e in experiments for run in e.runs(profile, seeds)}
    return sorted(runs.values(), key=lambda run: run.seed)
