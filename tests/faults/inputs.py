"""Bad input, drawn by hypothesis: API, command line, parameters of chapters.

Whatever is given, it works or is refused in one line. Sizes that would fill the memory are not
drawn: they are no bad input.
"""

import contextlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from numbers import Integral, Real
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from papermill.exceptions import PapermillExecutionError
from test_arguments import CALLS
from trials import Trials

from companion.book.execute import execute, papermill_run
from companion.book.source import check_parameters, convert, parameters_of
from companion.cli import main
from companion.page.chapter import Chapter
from companion.runs.run import PROFILES, STOPS
from companion.training.queue import RunQueue
from wrnn.errors import WrnnError
from wrnn.model import REFUSED
from wrnn.tasks.data import CIFAR10_SOURCES

CHAPTERS = sorted((Path(__file__).parents[2] / "notebooks").glob("[0-9]*.py"))
DTYPES = (torch.float32, torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64)
TASKS = ("Task", "copy.", "adding.", "sequential", "noisy", "task_from_dict", "baseline")
TASKS += ("permutation", "split_indices", "fixed_noise", "Sequential", "Noisy")

OPTIONS = (
    *("--profile", "--device", "--seeds", "--time-limit", "--records", "--match", "--steps"),
    *("--epochs", "--stop", "--evaluate-every", "--grid", "--cifar10", "--replicas", "--sedes"),
    *("--checkpoints", "--overwrite", "--left", "--publish", "--build-only", "--only", "--case"),
    *("--repeats", "--json", "-h", "--version"),
)


@dataclass(frozen=True)
class Resized:
    """An argument's own tensor with one axis of another size."""

    axis: int
    size: int

    def of(self, default: object) -> object:
        """Return the tensor, or the size where the argument is none."""
        if not isinstance(default, torch.Tensor) or not default.dim():
            return self.size
        shape = list(default.shape)
        shape[self.axis % default.dim()] = self.size
        return default.new_zeros(shape)


small = st.integers(-3, 12)
huge = st.sampled_from([2**31, 2**63, -(2**63), 10**30])
tensors = st.builds(
    lambda shape, dtype: torch.zeros(shape, dtype=dtype),
    st.lists(st.integers(0, 4), max_size=4),
    st.sampled_from(DTYPES),
)
NAMES = (
    *("relu", "tanh", "identity", "auto", "loop", "numba", "triton", "linear", "mlp", "code"),
    *("text", "fixed", "fresh", "folder", "train", "test", "validation", "ones", "zero", "copy"),
    *("default", "normal", "shift", "cpu", "cuda", "cuda:9", "meta", "mps", "xpu", "float64"),
)
names = st.sampled_from(NAMES)
values = st.one_of(
    small,
    huge,
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=5),
    names,
    st.binary(max_size=3),
    st.complex_numbers(),
    st.lists(small, max_size=3),
    st.dictionaries(names, small, max_size=2),
    small.map(np.int64),
    st.floats(width=32).map(np.float32),
    st.lists(st.integers(0, 3), max_size=3).map(np.zeros),
    tensors,
    st.builds(Resized, st.integers(0, 3), st.integers(0, 4)),
)
words = st.one_of(
    st.text(max_size=20).filter(lambda text: "\0" not in text),
    st.sampled_from(["", "nan", "inf", "-1", "1e999", "0x10", "9" * 400, "/dev/null", ".."]),
    st.sampled_from(["[", "smoke", "quick", "paper", "cpu", "cuda", "settled", "folder", "3"]),
    st.floats().map(str),
    st.integers().map(str),
)


def fuzz(trials: Trials, count: int, call: Callable, **strategies: st.SearchStrategy) -> None:
    """Call with what hypothesis draws, `count` times."""

    @seed(trials.draw.randrange(1 << 30))
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(**strategies)
    def once(**drawn) -> None:
        call(**drawn)

    once()


def check(trials: Trials, kind: str, call: Callable[[], object], what: str, good: bool) -> None:
    """Count a call that ends in anything but one line, or takes what is not good."""
    trials.counts[kind].trials += 1
    try:
        call()
    except WrnnError as error:
        trials.counts[kind].faults += 1
        if "\n" in str(error) or not str(error):
            trials.count(kind, "loud", f"{what}: {error}")
    except Exception as error:
        trials.count(kind, "loud", f"{what}: {error!r}"[:500])
    else:
        if not good:
            trials.count(kind, "wrong", f"{what} is taken")


def is_like(name: str, value: object, default: object) -> bool:
    """Whether a value is of a type that an argument with this default may have."""
    if value is None or name in REFUSED or name in ("velocity", "description"):
        return True
    for kind in (bool | np.bool_, Integral, Real, str, torch.Tensor):
        if isinstance(default, kind):
            flag = isinstance(value, bool | np.bool_)
            return isinstance(value, kind) and flag == isinstance(default, bool | np.bool_)
    return True


def bad_calls(trials: Trials, kind: str, count: int) -> None:
    """Constructors and calls: of tasks, or of models, their starts and recurrences."""
    wanted = [name for name in CALLS if (kind == "tasks") == name.startswith(TASKS)]

    def once(name: str, changes: dict) -> None:
        call, arguments = CALLS[name]
        order = list(arguments)
        changed = {order[place % len(order)]: value for place, value in changes.items()}
        for key, value in changed.items():
            if isinstance(value, Resized):
                changed[key] = value.of(arguments[key])
        good = all(is_like(name, value, arguments[name]) for name, value in changed.items())
        what = f"{name}({', '.join(f'{k}={v!r}' for k, v in changed.items())})"
        check(trials, f"bad input, {kind}", lambda: call(**arguments | changed), what, good)

    changes = st.dictionaries(st.integers(0, 20), values, min_size=1, max_size=3)
    fuzz(trials, count, once, name=st.sampled_from(wanted), changes=changes)


def whole(low: float, high: float = math.inf) -> Callable[[str], bool]:
    """Return what says whether a word is a whole number in a range, such as 3 or 3.0."""

    def fits(word: str) -> bool:
        with contextlib.suppress(ValueError):
            return low <= int(word) <= high  # of any length
        return low <= float(word) <= high and float(word).is_integer()

    return fits


FITS: dict[str, Callable[[str], bool]] = {
    "--profile": PROFILES.__contains__,
    "--device": ("auto", "cpu").__contains__,
    "--seeds": whole(1, 100),
    "--time-limit": lambda word: 0 <= float(word) < math.inf,
    **dict.fromkeys(("--steps", "--epochs", "--evaluate-every", "--replicas"), whole(0)),
    "--stop": STOPS.__contains__,
    "--grid": ("", "paper").__contains__,
    "--cifar10": CIFAR10_SOURCES.__contains__,
}


def fits(option: str, word: str) -> bool:
    """Whether the command line may take a word for an option."""
    try:
        return option not in FITS or FITS[option](word)
    except ValueError:
        return False


def bad_commands(trials: Trials, count: int) -> None:
    """Arguments of the command line: status 2 and one line, or all is well."""
    kind = "bad input, command line"
    options = st.sampled_from(OPTIONS)
    trains = [["run"], ["run", "fig3"], ["run", "fig99"], ["campaign"]]
    moves = [["records", "merge"], ["records", "export"]]
    others = [["records"], ["bench"], ["book"], ["status"], ["gpu"]]
    place = trials.folder / "empty"
    place.mkdir(exist_ok=True)

    def once(command: list[str], pairs: list[tuple[str, str]], word: str) -> None:
        arguments = [*command, *(part for pair in pairs for part in pair)]
        if command in others:
            arguments += ["--device", "nowhere"]  # what is good by chance must not begin to work
        elif command in (["run"], *moves):
            arguments += [word]
        good = all(fits(*pair) for pair in dict(pairs).items())
        out, err, code = io.TextIOWrapper(io.BytesIO()), io.StringIO(), None
        trials.counts[kind].trials += 1
        try:
            with (
                contextlib.chdir(place),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                patch("sys.argv", ["wrnn", *arguments]),
            ):
                main()
        except SystemExit as ending:
            code = ending.code or 0
        except BaseException as error:
            trials.count(kind, "loud", f"{arguments}: {error!r}")
        trials.counts[kind].faults += code == 2
        lines = err.getvalue().rstrip("\n").split("\n")
        if code not in (0, 2, None) or (code == 2 and len(lines) != 1):
            trials.count(kind, "loud", f"{arguments}: status {code}, {lines[-1:]}")
        asked = {"-h", "--help", "--version"} & set(arguments)
        if code == 0 and not good and not asked:
            trials.count(kind, "wrong", f"{arguments} is taken")
        for path in place.iterdir():
            trials.count(kind, "left", f"{arguments}: {path.name}")
            path.rename(trials.folder / path.name)

    # What is good by chance is planned and reported, and not trained.
    with patch.object(RunQueue, "train", lambda self, **_: None):
        fuzz(
            trials,
            count,
            once,
            command=st.sampled_from([*trains * 2, *moves, *others]),
            pairs=st.lists(st.tuples(options, words), min_size=1, max_size=3),
            word=words,
        )


@cache
def notebook_of(source: Path):
    """Return a chapter as a notebook, and its parameters with their defaults."""
    notebook = convert(source)
    return notebook, parameters_of(notebook)


scalars = st.one_of(small, huge, st.floats(), st.booleans(), st.none(), words)


def bad_parameters(trials: Trials, count: int) -> None:
    """Parameters of chapters, as `wrnn book` and as a chapter itself checks them."""
    kind = "bad input, parameters"

    def as_given(source: Path, parameters: dict) -> None:
        notebook, defaults = notebook_of(source)
        good = all(
            name in defaults and type(value) is type(defaults[name])
            for name, value in parameters.items()
        )
        call = partial(check_parameters, source, notebook, parameters)
        check(trials, kind, call, f"{source.stem}: {parameters}", good)

    def as_met(changes: dict) -> None:
        parameters = {"profile": "quick", "device": "cpu", "seeds": 2, "train": False} | changes
        good = (
            parameters["profile"] in PROFILES
            and parameters["device"] in ("auto", "cpu")
            and (type(parameters["seeds"]) is int and 1 <= parameters["seeds"] <= 100)
            and type(parameters["train"]) is bool
        )
        check(trials, kind, partial(Chapter, **parameters), f"Chapter({parameters})", good)

    known = st.sampled_from(["profile", "device", "seeds", "train"])
    given_as = st.dictionaries(
        st.one_of(known, st.text(max_size=8)), scalars, min_size=1, max_size=3
    )
    changes = st.dictionaries(known, scalars, min_size=1, max_size=2)
    fuzz(trials, count // 2, as_given, source=st.sampled_from(CHAPTERS), parameters=given_as)
    fuzz(trials, count - count // 2, as_met, changes=changes)


def bad_execution(trials: Trials) -> None:
    """A chapter executed for real with a parameter that it refuses: by us, or by papermill."""
    kind = "bad input, chapter executed"
    refused = [("profile", "huge"), ("profile", ""), ("device", "tpu"), ("device", "cuda:9")]
    refused += [("seeds", 0), ("seeds", 101)]
    ill = [("sedes", 2), ("seeds", 1.5), ("seeds", True), ("train", "no"), ("profile", None)]
    pages = trials.folder / "pages"
    pages.mkdir(exist_ok=True)
    source = trials.draw.choice(CHAPTERS)
    plain = trials.draw.random() < 0.5
    parameters = dict([trials.draw.choice(refused + ill * plain)])

    def by_papermill() -> None:
        try:
            papermill_run(source, notebook_of(source)[0], parameters)
        except PapermillExecutionError as error:
            raise (WrnnError if error.ename == "WrnnError" else RuntimeError)(
                error.evalue
            ) from error

    ours = partial(execute, source, destination=pages, parameters=parameters)
    check(trials, kind, by_papermill if plain else ours, f"{source.stem}: {parameters}", good=False)
    for path in pages.iterdir():
        trials.count(kind, "left", path.name)
