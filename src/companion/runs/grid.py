"""The settings that the paper searched: learning rate, clipping, schedule and iRNN start.

As in the released code's files of settings. The paper reports the best of them on validation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from companion.runs.images import MNIST_EPOCH
from companion.runs.run import Run

CLIPS = (0.0, 1.0, 10.0, 100.0, 1000.0)
RATES = (1e-3, 1e-4, 1e-5)


# Starts of an iRNN on the copy task, as the paper's code tries them.
IRNN_STARTS = tuple(
    dict(recurrent=recurrent, recurrent_bias=bias, nonlinearity=nonlinearity)
    for recurrent, bias in (("identity", "default"), ("default", "uniform"))
    for nonlinearity in ("relu", "tanh")
)


def _every(**values: Sequence) -> Iterator[dict]:
    """Yield every choice of one value for each name."""
    for choice in product(*values.values()):
        yield dict(zip(values, choice, strict=True))


def _copy(run: Run) -> Iterator[dict]:
    models = [run.model]
    if run.model.kind == "irnn" and run.model.recurrent == "identity":
        models = [replace(run.model, **start) for start in IRNN_STARTS]
    return _every(model=models, learning_rate=(1e-2, 1e-3, 1e-4), clip=(0.0, 1.0, 10.0))


def _adding(run: Run) -> Iterator[dict]:
    rates = (1e-2, 1e-3, 1e-4) if run.model.kind == "irnn" else (1e-3, 1e-4)
    return _every(learning_rate=rates, clip=CLIPS)


def _mnist(run: Run) -> Iterator[dict]:
    if not run.drop_steps:  # a run of our own, cut before the first drop
        return iter(())
    if not run.task.permuted:
        return _every(drop_factor=(0.1, 0.3), clip=(0.0, 1.0))
    drops = [(epochs * MNIST_EPOCH,) for epochs in (40, 100)]
    return _every(learning_rate=RATES, clip=CLIPS, drop_steps=drops)


def _cifar10(run: Run) -> Iterator[dict]:
    if run.task.noise != "fixed":
        return iter(())
    return _every(learning_rate=RATES, clip=(0.0, 1.0))


_SEARCHED = {
    "copy": _copy,
    "adding": _adding,
    "sequential_mnist": _mnist,
    "noisy_sequential_cifar10": _cifar10,
}


def searched(run: Run) -> list[Run]:
    """Return a run of the paper profile, then the other settings that the paper tried for it.

    What the paper did not train itself (LSTM, GRU, the locally connected variant, several wave
    speeds, an iRNN with zero input bias, fresh noise) has no grid: such a run stays alone.
    """
    model = run.model
    control = model.kind == "irnn" and model.input != "ones" and model.input_bias == "zero"
    of_the_paper = model.kind in ("wrnn", "irnn") and model.velocity == 1.0 and not control
    if not of_the_paper or run.task.name not in _SEARCHED:
        return [run]
    plain = replace(run, trace=False)
    others = [replace(plain, **changes) for changes in _SEARCHED[run.task.name](run)]
    return [run, *(other for other in others if other != plain)]
