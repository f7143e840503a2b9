"""The campaign: what two cores of a CPU can say about the claims of the paper, in days.

The runs of the paper's sizes that a CPU reaches, in the order in which they are best trained: first
what is cheap and decides most. Image runs have a smaller budget in epochs, with the schedule scaled
(:func:`scaled`); copy and adding end where they are settled.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from companion.runs import images, synthetic
from companion.runs.grid import IRNN_STARTS
from companion.runs.images import CIFAR_EPOCH, MNIST_EPOCH
from companion.runs.run import ModelConfig, Run, irnn_config, wrnn_config
from companion.runs.synthetic import NO_V_INIT
from wrnn.errors import WrnnError
from wrnn.tasks import NoisySequentialCIFAR10, SequentialMNIST

EPOCHS = {SequentialMNIST.name: MNIST_EPOCH, NoisySequentialCIFAR10.name: CIFAR_EPOCH}
ADDING_STEPS = 8000  # at most, of a run that ends once it has solved a length
# What the paper calls "iRNN" on the copy task: the best of these on validation.
IRNN_VARIANTS = tuple(irnn_config(100, **start) for start in IRNN_STARTS)
CHOICE_LAGS = (10, 20)
SMALLEST_LOSS = 1e-12  # below the least that is not zero, which has no logarithm


def scaled(run: Run, epochs: int) -> Run:
    """Return an image run of fewer epochs, its schedule scaled: the rate drops after 5/6 of them.

    So it does for every model, also for one whose whole budget has more epochs after the drop. A
    run whose rate stays constant keeps it. WrnnError for a task without epochs.
    """
    if run.task.name not in EPOCHS:
        raise WrnnError(f"{run.task.title} has no epochs: --epochs is for MNIST and CIFAR10 only")
    steps = epochs * EPOCHS[run.task.name]
    if steps > run.steps:
        raise WrnnError(
            f"--epochs {epochs} is more than the {run.steps:,} steps of {run.task.title}"
        )
    return replace(run, steps=steps, drop_steps=(steps * 5 // 6,) if run.drop_steps else ())


def campaign(record_of: Callable) -> list[Run]:
    """Return the runs of the campaign in order; what follows a choice appears once it is made.

    ``record_of`` returns the record of a run, or None: ``Store.find``.
    """
    return list({run.id: run for run in _ordered(record_of)}.values())


def choose_irnn(record_of: Callable) -> ModelConfig | None:
    """Return the iRNN that validates best on copy over both lags, or None until all are trained."""
    scores = {}
    for model in IRNN_VARIANTS:
        records = [record_of(_copy(lag, model)) for lag in CHOICE_LAGS]
        if None in records:
            return None
        scores[model] = sum(math.log(max(_best_loss(record), SMALLEST_LOSS)) for record in records)
    return min(scores, key=scores.get)


def _best_loss(record) -> float:
    """The least validation loss of a record; without bound where the run diverged."""
    points = () if record.diverged else record.curves.get("cross_entropy", ())
    return min((loss for _, loss in points), default=math.inf)


def _copy(lag: int, model: ModelConfig, seed: int = 0, stop: str = "budget") -> Run:
    return _seed(replace(synthetic.copy(lag, model, "paper"), stop=stop), seed)


def _settled(adding: Run) -> Run:
    return replace(adding, stop="settled", steps=ADDING_STEPS)


def _slower(adding: Run) -> Run:
    """The same at the other rate of the paper's grid, where the wRNN's kernel grows too fast."""
    return replace(adding, learning_rate=1e-4, trace=False)


def _both_rates(adding: dict[tuple[str, int], Run], length: int) -> Iterator[Run]:
    for kind in ("irnn", "wrnn"):
        run = adding[kind, length]
        if kind == "irnn" and length > 400:  # its whole budget comes later
            yield _slower(_settled(run))
        else:
            yield from map(_settled, (_slower(run), run))


def _seed(run: Run, seed: int) -> Run:
    return replace(run, seed=seed, trace=run.trace and not seed)


def _ordered(record_of: Callable) -> Iterator[Run]:
    wrnn, irnn = wrnn_config(100, 6), irnn_config(100)
    without_v, without_u = replace(wrnn, **NO_V_INIT), replace(wrnn, recurrent="default")
    with_shift = replace(irnn, recurrent="shift")
    adding = {
        (run.model.kind, run.task.length): run
        for run in synthetic.table1("paper")
        if run.model in (wrnn_config(100, 27), irnn)
    }
    for seed in range(5):
        yield from (_seed(run, seed) for run in synthetic.v_init("paper"))
    for lag in CHOICE_LAGS:
        yield from (_copy(lag, model) for model in IRNN_VARIANTS)
    yield from (run for run in images.mnist_cpu("paper") if run.model.kind == "irnn")
    for run in images.cifar10_cpu("paper"):
        if run.model.kind == "irnn":
            jpeg = replace(run, task=replace(run.task, source="folder"))
            yield from (_seed(jpeg, seed) for seed in range(3))
    yield from map(_settled, (adding["irnn", 100], adding["wrnn", 200]))
    for seed in range(3):
        for model in (without_v, with_shift, without_u):
            yield _copy(40, model, seed, "settled")
    chosen = choose_irnn(record_of)
    if chosen is not None:
        for seed in range(3):
            yield from (_copy(lag, chosen, seed) for lag in synthetic.COPY_LAGS)
    yield from map(_settled, (adding["irnn", 200], adding["wrnn", 400]))
    for length in (400, 700):
        yield from _both_rates(adding, length)
    # Half of the claims hang on these.
    table2 = images.table2("paper")
    plain = [r for r in table2 if r.model.kind in ("wrnn", "irnn") and r.model.readout == "linear"]
    yield from (scaled(run, 12) for run in plain)
    # An hour or two decides a claim.
    yield _copy(90, wrnn, stop="settled")
    yield scaled(images.fig10("paper")[1], 8)
    yield from (run for run in images.fig18("paper") if run.steps <= 8 * MNIST_EPOCH)
    yield from _both_rates(adding, 1000)
    # The other rows of Table 4; the iRNN is above.
    for lag in synthetic.COPY_LAGS:
        for run in synthetic.table4("paper"):
            if run.task.lag == lag and run.model != irnn:
                yield replace(run, stop="settled")
    for seed in range(3):
        yield _copy(90, wrnn, seed, "settled")
    for lag in (10, 20, 40):
        yield _copy(lag, irnn_config(625))
    yield from (adding["irnn", length] for length in (700, 1000))
    yield _copy(490, wrnn, stop="settled")
    # Image runs of 10 or 12 epochs: the MLP readout, Figure 7 and Table 3.
    yield from (
        scaled(run, 12) for run in table2 if run.model.readout == "mlp" and run.task.permuted
    )
    for run in images.fig7("paper"):
        if run.model.num_channels <= 8 and run.model.size != 300:
            yield scaled(run, 12)
    for run in images.table3("paper"):
        if run.model.kind in ("wrnn", "irnn"):
            yield scaled(replace(run, task=replace(run.task, source="folder")), 10)
    # Further seeds, then longer budgets.
    for seed in (1, 2):
        for length in synthetic.ADDING_LENGTHS:
            for kind in ("wrnn", "irnn"):
                whole = kind == "irnn" and length > 400  # which the paper's did not solve
                run = adding[kind, length]
                yield _seed(run if whole else _settled(run), seed)
        yield _copy(490, wrnn, seed, "settled")
        yield from (_seed(scaled(run, 12), seed) for run in plain)
    yield from (scaled(run, 30) for run in plain)
    yield _copy(90, irnn_config(625))
