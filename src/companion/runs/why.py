"""Why waves: controls that neither the paper nor its code has (chapter 8).

Each function is one question's runs. The paper profile fits a CPU: the paper's tasks and its
networks on the copy task, smaller networks and budgets elsewhere.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

from companion.runs import synthetic
from companion.runs.images import within_cpu
from companion.runs.run import ModelConfig, Run, irnn_config, wrnn_config
from wrnn.tasks import AddingTask, SequentialDigits, SequentialMNIST, Task

RATES = (3e-4, 1e-3, 3e-3)
LAP_LAGS = (50, 90, 100, 110, 150, 200, 490)  # on rings of 100 sites
LONGER_RING_LAGS = (100, 110, 150)  # on rings of 128 sites, where 110 is less than a lap
SIZES = {  # of the wRNN by task: sites, channels; and units of the others at about its parameters
    "paper": {
        "copy": dict(wrnn=(100, 6), irnn=100, lstm=48, gru=56, lru=32),
        "adding": dict(wrnn=(100, 8), irnn=49, lstm=24, gru=28, lru=14),
        "digits": dict(wrnn=(32, 4), irnn=32, lstm=16, gru=19, lru=11),
        "pixels": dict(wrnn=(256, 4), irnn=96, lstm=50, gru=58, lru=31),
    },
    "quick": {
        "copy": dict(wrnn=(40, 6), irnn=60, lstm=28, gru=33, lru=20),
        "adding": dict(wrnn=(30, 8), irnn=27, lstm=13, gru=15, lru=8),
        "digits": dict(wrnn=(32, 4), irnn=32, lstm=16, gru=19, lru=11),
        "pixels": dict(wrnn=(32, 4), irnn=32, lstm=16, gru=19, lru=11),
    },
    "smoke": {
        name: dict(wrnn=(12, 2), irnn=8, lstm=4, gru=4, lru=4)
        for name in ("copy", "adding", "digits", "pixels")
    },
}


BUDGETS = {
    "copy": {
        "paper": dict(steps=2000, evaluate_every=100, log_every=20),
        "quick": dict(steps=300, batch_size=64, evaluate_every=50),
        "smoke": dict(steps=10, evaluate_every=5),
    },
    "adding": {
        "paper": dict(steps=2500, evaluate_every=100, log_every=20),
        "quick": dict(steps=500, batch_size=64, evaluate_every=50, log_every=10),
        "smoke": dict(steps=10, batch_size=16, evaluate_every=5, log_every=5),
    },
    "pixels": {
        "paper": dict(evaluate_every=100),
        "quick": dict(steps=150, evaluate_every=50),
        "smoke": dict(steps=10, evaluate_every=5),
    },
}
# Where starts and models are compared: lags of the copy task, lengths of the adding task.
LAGS = {"paper": (20, 40), "quick": (20,), "smoke": (12,)}
LENGTHS = {"paper": (100, 200), "quick": (30,), "smoke": (10,)}


def on_copy(lag: int, models: Iterable[ModelConfig], profile: str) -> list[Run]:
    """Train models on the copy task."""
    budget = dict(trace=False, **BUDGETS["copy"][profile])
    return [replace(synthetic.copy(lag, model, profile), **budget) for model in models]


def on_adding(length: int, models: Iterable[ModelConfig], profile: str) -> list[Run]:
    """Train models on the adding task."""
    budget = dict(clip=1.0, keep="best", **BUDGETS["adding"][profile])
    return [Run(AddingTask(length), model, profile, **budget) for model in models]


def on_pixels(
    task: Task, models: Iterable[ModelConfig], profile: str, steps: int = 1000
) -> list[Run]:
    """Train models on pixels or on digits, in the small profiles for fewer steps."""
    budget = dict(profile=profile, **BUDGETS["pixels"][profile])
    return [replace(run, **budget) for run in within_cpu(task, models, steps)]


def permuted_pixels(profile: str) -> Task:
    """Return permuted MNIST, or the digits that stand for it in the small profiles."""
    return SequentialMNIST(permuted=True) if profile == "paper" else SequentialDigits(permuted=True)


def _wrnn_of(name: str, profile: str, **options) -> ModelConfig:
    return wrnn_config(*SIZES[profile][name]["wrnn"], **options)


def _irnns_of(name: str, profile: str) -> list[ModelConfig]:
    """The iRNN as the released code starts it, and the fairer start with a zero input bias."""
    start = dict(input="uniform") if name in ("digits", "pixels") else {}
    size = SIZES[profile][name]["irnn"]
    return [irnn_config(size, input_bias=bias, **start) for bias in ("uniform", "zero")]


def _lstm_of(name: str, profile: str) -> ModelConfig:
    return ModelConfig("lstm", SIZES[profile][name]["lstm"], forget_bias=1.0)


def _controls(name: str, profile: str) -> list[ModelConfig]:
    """The trained wRNN with both recurrent biases, three frozen kernels, and both iRNNs."""
    frozen = (
        _wrnn_of(name, profile, recurrent=recurrent, recurrent_bias="zero", frozen=True)
        for recurrent in ("shift", "identity", "default")
    )
    trained = _wrnn_of(name, profile), _wrnn_of(name, profile, recurrent_bias="zero")
    return [*trained, *frozen, *_irnns_of(name, profile)]


def frozen(profile: str) -> list[Run]:
    """Is a frozen shift enough? Kernels that keep their start, against trained ones."""
    runs = []
    for lag in LAGS[profile]:
        runs += on_copy(lag, _controls("copy", profile), profile)
    for length in LENGTHS[profile]:
        runs += on_adding(length, _controls("adding", profile), profile)
    if profile == "paper":
        runs += on_pixels(SequentialDigits(), _controls("digits", profile), profile)
    return runs + on_pixels(permuted_pixels(profile), _controls("pixels", profile), profile)


def laps(profile: str) -> list[Run]:
    """What happens after a lap? Copying at lags below and above the number of sites."""
    short, longer, channels, lags, longer_lags = {
        "paper": (100, 128, 6, LAP_LAGS, LONGER_RING_LAGS),
        "quick": (20, 40, 6, (15, 20, 30, 50), (30,)),
        "smoke": (12, 16, 2, (10, 14), (14,)),
    }[profile]
    runs = [
        run
        for sites, chosen in ((short, lags), (longer, longer_lags))
        for lag in chosen
        for run in on_copy(lag, [wrnn_config(sites, channels)], profile)
    ]
    steps = {"paper": 2500, "quick": 600, "smoke": 10}[profile]
    return [replace(run, steps=steps) for run in runs]


def capacity(profile: str) -> list[Run]:
    """How much does the state hold? One input a step; 64 units, or about a wRNN's parameters."""
    sites, channels, same_parameters = {
        "paper": (16, 4, (22, 11)),
        "quick": (16, 4, (22, 11)),
        "smoke": (6, 2, (4, 3)),
    }[profile]
    units = sites * channels
    irnn, lstm = same_parameters
    models = (
        wrnn_config(sites, channels),
        wrnn_config(sites, channels, recurrent_bias="zero"),
        irnn_config(units, input="uniform"),
        irnn_config(units, input="uniform", recurrent="shift"),
        irnn_config(units, input="uniform", recurrent="orthogonal"),
        ModelConfig("lstm", units, forget_bias=1.0),
        irnn_config(irnn, input="uniform"),
        ModelConfig("lstm", lstm, forget_bias=1.0),
    )
    return on_pixels(SequentialDigits(), models, profile)


def carry(profile: str) -> list[Run]:
    """Does it carry over? The networks that are asked at other lags and lengths."""
    lag, length = LAGS[profile][0], LENGTHS[profile][0]

    def models(name: str) -> list[ModelConfig]:
        shift = _wrnn_of(name, profile, recurrent_bias="zero", frozen=True)
        irnn = _irnns_of(name, profile)[1]
        return [_wrnn_of(name, profile), shift, irnn, _lstm_of(name, profile)]

    return [
        *on_copy(lag, models("copy"), profile),
        *on_adding(length, models("adding"), profile),
    ]


def today(profile: str) -> list[Run]:
    """What would a reader use today? LSTM, GRU and LRU, at about the wRNN's parameters."""

    def models(name: str) -> list[ModelConfig]:
        sizes = SIZES[profile][name]
        return [
            _wrnn_of(name, profile),
            *_irnns_of(name, profile),
            _lstm_of(name, profile),
            ModelConfig("gru", sizes["gru"]),
            ModelConfig("lru", sizes["lru"], depth=2, width=sizes["lru"]),
        ]

    runs = [
        *on_copy(LAGS[profile][0], models("copy"), profile),
        *on_adding(LENGTHS[profile][0], models("adding"), profile),
        *on_pixels(permuted_pixels(profile), models("pixels"), profile),
    ]
    rates = RATES if profile == "paper" else (1e-3,)
    return [replace(run, learning_rate=rate) for run in runs for rate in rates]


def released(profile: str) -> list[Run]:
    """What do the released code's choices do? Recurrent bias, scale of the loss and V-init."""
    factors = product(("default", "zero"), (True, False), ("ones", "identity"))
    runs = []
    for bias, divided, kind in factors:
        options = dict(recurrent_bias=bias, input=kind)
        both = on_copy(LAGS[profile][-1], [_wrnn_of("copy", profile, **options)], profile)
        if profile == "paper":
            pixels = _wrnn_of("pixels", profile, **options)
            both += on_pixels(permuted_pixels(profile), [pixels], profile)
        runs += [replace(run, loss_scale=1 / run.batch_size if divided else 1.0) for run in both]
    return runs


def parallel(profile: str) -> list[Run]:
    """Why can't it be computed in parallel over time? One small training, cut at several steps."""
    lengths = {"paper": (30, 100, 300, 1000, 3000), "quick": (30, 100, 300), "smoke": (5, 10)}
    lag = LAGS[profile][0]
    model = wrnn_config(*((32, 4) if profile != "smoke" else (6, 2)), recurrent_bias="zero")
    (run,) = on_copy(lag, [model], profile)
    # The tested weights must be the last ones, not those that validated best before.
    cut = dict(keep="last", evaluate_every=min(lengths[profile]), batch_size=run.batch_size)
    return [replace(run, steps=steps, **cut) for steps in lengths[profile]]


def blocks(profile: str) -> list[Run]:
    """How does one stack it? Residual blocks from several starts against one layer, unclipped."""
    single, sites, depths = {
        "paper": ((256, 4), (64, 2), {2: 20, 4: 10}),
        "quick": ((32, 4), (16, 2), {2: 12}),
        "smoke": ((12, 2), (6, 2), {2: 4}),
    }[profile]
    starts = (
        dict(recurrent_bias="default", input="ones"),
        dict(recurrent_bias="zero", input="ones"),
        dict(recurrent_bias="default", input="default"),
        dict(recurrent_bias="zero", input="default"),
        dict(recurrent_bias="zero", input="default", leak=0.05),
    )
    models = [wrnn_config(*single, recurrent_bias="zero")]
    for depth, width in depths.items():
        models += [wrnn_config(*sites, depth=depth, width=width, **start) for start in starts]
    runs = on_pixels(permuted_pixels(profile), models, profile, steps=500)
    return [replace(run, clip=0.0) for run in runs]
