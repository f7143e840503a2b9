"""The experiments on sequential images (figures 2, 6 to 8, 10 and 18, tables 2 and 3).

The small profiles use the digits that come with scikit-learn in place of MNIST and CIFAR10.
"""

from collections.abc import Iterable
from dataclasses import replace

from companion.runs.run import ModelConfig, Run, irnn_config, wrnn_config
from wrnn.tasks import (
    NoisySequentialCIFAR10,
    NoisySequentialDigits,
    SequentialDigits,
    SequentialMNIST,
    Task,
)

MNIST_EPOCH = 446  # steps: 57,000 training images in batches of 128
CIFAR_EPOCH = 184  # steps: 47,000 training images in batches of 256


def _paper_budget(task: Task, model: ModelConfig, epoch: int) -> dict:
    """The released code's epochs, validated after each; the rate drops after 100 of them.

    They are 250 for an iRNN on psMNIST and nsCIFAR10, and else 120.
    """
    epochs = 250 if model.kind == "irnn" and getattr(task, "permuted", True) else 120
    schedule = dict(drop_steps=(100 * epoch,), evaluate_every=epoch)
    return dict(steps=epochs * epoch, learning_rate=1e-4, **schedule)


def _pixels(profile: str, permuted: bool, models: Iterable[ModelConfig]) -> list[Run]:
    task = SequentialMNIST(permuted) if profile == "paper" else SequentialDigits(permuted)
    steps, every = (600, 50) if profile == "quick" else (10, 5)
    small = dict(steps=steps, batch_size=64, log_every=every // 5, evaluate_every=every)
    return [
        Run(
            task,
            model,
            profile,
            clip=1.0,
            keep="best" if permuted else "last",  # as the released code reports them
            trace=model.kind in ("wrnn", "irnn"),
            **(_paper_budget(task, model, MNIST_EPOCH) if profile == "paper" else small),
        )
        for model in models
    ]


def _gated(size: int, profile: str) -> list[ModelConfig]:
    kinds = ("lstm",) if profile == "quick" else ("lstm", "gru")
    return [ModelConfig(kind, size) for kind in kinds]


def table2(profile: str) -> list[Run]:
    """sMNIST and psMNIST; LSTM and GRU have the n of the table's cited rows.

    In the quick profile the LSTM, with about the parameters of the iRNN, stands for both.
    """
    size, channels = {"paper": (256, 16), "quick": (32, 8), "smoke": (8, 2)}[profile]
    hidden = {"paper": 256, "quick": 64, "smoke": 8}[profile]
    gated = {"paper": 256, "quick": 32, "smoke": 8}[profile]
    models = (
        wrnn_config(size, channels),
        wrnn_config(size, channels, readout="mlp"),
        irnn_config(hidden, input="uniform"),
        irnn_config(hidden, input="uniform", input_bias="zero"),
        *_gated(gated, profile),
    )
    return [run for permuted in (False, True) for run in _pixels(profile, permuted, models)]


def fig2(profile: str) -> list[Run]:
    """The models of sMNIST whose hidden states are shown."""
    return _first_of_both([run for run in table2(profile) if not run.task.permuted])


def _first_of_both(runs: list[Run]) -> list[Run]:
    """The paper's wRNN and iRNN, which come before their variants."""
    return [next(run for run in runs if run.model.kind == kind) for kind in ("wrnn", "irnn")]


def within_cpu(task: Task, models: Iterable[ModelConfig], steps: int, **options) -> list[Run]:
    """One run per model with the batches and validations of the experiments within a CPU."""
    budget = dict(steps=steps, batch_size=64, clip=1.0, log_every=20, evaluate_every=100)
    return [Run(task, model, "paper", keep="best", **budget, **options) for model in models]


def mnist_cpu(profile: str) -> list[Run]:
    """Real MNIST with smaller models and fewer steps."""
    if profile != "paper":
        return fig2(profile)
    models = (
        wrnn_config(256, 4),
        wrnn_config(256, 4, recurrent_bias="zero"),
        irnn_config(96, input="uniform"),
        irnn_config(96, input="uniform", input_bias="zero"),
    )
    return [
        run
        for permuted in (False, True)
        for run in within_cpu(SequentialMNIST(permuted), models, 1000, trace=not permuted)
    ]


def fig7(profile: str) -> list[Run]:
    """wRNNs of growing channel count and iRNNs of about as many parameters, on psMNIST.

    The largest quick models and those of 256 units (wRNN: 16 channels of 256) are Table 2's.
    """
    size, channels, hidden = {
        "paper": (256, (1, 2, 4, 8, 16, 32), (48, 70, 100, 144, 208, 256, 300)),
        "quick": (32, (1, 2, 8), (14, 33, 64)),
        "smoke": (8, (1, 2), (4, 8)),
    }[profile]
    models = [wrnn_config(size, count) for count in channels]
    models += [irnn_config(units, input="uniform") for units in hidden]
    shared = {run.model: run for run in table2(profile) if run.task.permuted}
    runs = _pixels(profile, True, models)
    return [shared.get(run.model, replace(run, trace=False)) for run in runs]


def fig10(profile: str) -> list[Run]:
    """A wRNN whose channels start at several wave speeds, beside the one at speed 1."""
    first = fig2(profile)[0]
    channels = first.model.num_channels
    speeds = tuple((1 + channel * 4 // channels) / 4 for channel in range(channels))
    return [first, replace(first, model=replace(first.model, velocity=speeds))]


def fig18(profile: str) -> list[Run]:
    """One training from each start of the kernel, cut at several lengths and traced there.

    The learning rate stays constant: the longest run ends where Table 2's first lowers it.
    """
    first = replace(fig2(profile)[0], drop_steps=())
    lengths = {
        "paper": (1, MNIST_EPOCH, 8 * MNIST_EPOCH, 100 * MNIST_EPOCH),
        "quick": (1, 60, 600),
        "smoke": (1, 10),
    }[profile]
    return [
        replace(first, model=replace(first.model, recurrent=recurrent), steps=steps)
        for recurrent in ("shift", "identity", "default")
        for steps in lengths
    ]


def table3(profile: str) -> list[Run]:
    """Images under noise; LSTM and GRU have the n of the table's cited rows, as in Table 2."""
    size, channels = {"paper": (256, 16), "quick": (32, 8), "smoke": (8, 2)}[profile]
    hidden = {"paper": 529, "quick": 64, "smoke": 16}[profile]
    gated = {"paper": 128, "quick": 32, "smoke": 8}[profile]
    models = (
        wrnn_config(size, channels),
        irnn_config(hidden, input="uniform"),
        *_gated(gated, profile),
    )
    steps = 400 if profile == "quick" else 10
    small = dict(steps=steps, batch_size=64, log_every=5, evaluate_every=max(5, steps // 16))
    task = NoisySequentialCIFAR10() if profile == "paper" else NoisySequentialDigits()

    def budget(model: ModelConfig) -> dict:
        if profile != "paper":
            return small
        return dict(batch_size=256, **_paper_budget(task, model, CIFAR_EPOCH))

    return [Run(task, m, profile, clip=1.0, keep="best", **budget(m)) for m in models]


def cifar10_cpu(profile: str) -> list[Run]:
    """Real CIFAR10, less noise, smaller models and fewer steps.

    The parameters of the models compare as those of the paper's models do.
    """
    if profile != "paper":
        return _first_of_both(table3(profile))
    models = (
        wrnn_config(128, 4),
        wrnn_config(128, 4, recurrent_bias="zero"),
        irnn_config(160, input="uniform"),
    )
    return within_cpu(NoisySequentialCIFAR10(length=200), models, 2000)


def noise(profile: str) -> list[Run]:
    """The wRNN and the iRNN with the noise that all images share, and with fresh noise."""
    shared = _first_of_both(table3(profile))
    return shared + [replace(run, task=replace(run.task, noise="fresh")) for run in shared]
