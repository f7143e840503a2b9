"""Bad input, drawn by hypothesis: API, command line, parameters of chapters.

Whatever is given, it works or is refused in one line. Sizes that would fill the memory are not
drawn: they are no bad input.
"""

import contextlib
import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from papermill.exceptions import PapermillExecutionError
from test_arguments import CALLS
from trials import Trials, command_line

from companion.book.execute import execute, papermill_run
from companion.book.source import check_parameters, convert, parameters_of
from companion.page.chapter import Chapter
from companion.runs.run import PROFILES
from companion.training.queue import RunQueue
from wrnn.errors import WrnnError
from wrnn.model import REFUSED

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
    trials.of(kind).trials += 1
    try:
        call()
    except WrnnError as error:
        trials.of(kind).faults += 1
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


def whole(word: str) -> float:
    """Return the whole number that a word is, such as 3 or 3.0; ValueError where it is none."""
    with contextlib.suppress(ValueError):
        return int(word)  # of any length
    if not (number := float(word)).is_integer():
        raise ValueError(f"{word} is not whole")
    return number


def fits(option: str, word: str) -> bool:
    """Whether the command line may take a word for an option."""
    try:
        return {
            "--profile": lambda: word in PROFILES,
            "--device": lambda: word in ("auto", "cpu"),
            "--seeds": lambda: 1 <= whole(word) <= 100,
            "--time-limit": lambda: 0 <= float(word) < math.inf,
            "--steps": lambda: whole(word) >= 0,
            "--epochs": lambda: whole(word) >= 0,
            "--evaluate-every": lambda: whole(word) >= 0,
            "--replicas": lambda: whole(word) >= 0,
            "--stop": lambda: word in ("budget", "settled"),
            "--grid": lambda: word in ("", "paper"),
            "--cifar10": lambda: word in ("torchvision", "folder"),
        }.get(option, lambda: True)()
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
    here = Path.cwd()

    def once(command: list[str], pairs: list[tuple[str, str]], word: str) -> None:
        arguments = [*command, *(part for pair in pairs for part in pair)]
        if command in others:
            arguments += ["--device", "nowhere"]  # what is good by chance must not begin to work
        elif command in (["run"], *moves):
            arguments += [word]
        good = all(fits(*pair) for pair in dict(pairs).items())
        out, err, code = io.TextIOWrapper(io.BytesIO()), io.StringIO(), None
        trials.of(kind).trials += 1
        try:
            os.chdir(place)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                command_line(*arguments)
        except SystemExit as ending:
            code = ending.code or 0
        except BaseException as error:
            trials.count(kind, "loud", f"{arguments}: {error!r}")
        finally:
            os.chdir(here)
        trials.of(kind).faults += code == 2
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
        call = lambda: check_parameters(source, notebook, parameters)  # noqa: E731
        check(trials, kind, call, f"{source.stem}: {parameters}", good)

    def as_met(valid: dict, changes: dict) -> None:
        parameters = valid | changes
        seeds = parameters["seeds"]
        good = (
            parameters["profile"] in PROFILES
            and parameters["device"] in ("auto", "cpu")
            and (type(seeds) is int and 1 <= seeds <= 100)
            and type(parameters["train"]) is bool
        )
        check(trials, kind, lambda: Chapter(**parameters), f"Chapter({parameters})", good)

    known = st.sampled_from(["profile", "device", "seeds", "train"])
    given_names = st.one_of(known, st.text(max_size=8))
    fuzz(
        trials,
        count // 2,
        as_given,
        source=st.sampled_from(CHAPTERS),
        parameters=st.dictionaries(given_names, scalars, min_size=1, max_size=3),
    )
    fuzz(
        trials,
        count - count // 2,
        as_met,
        valid=st.fixed_dictionaries(
            {
                "profile": st.sampled_from(PROFILES),
                "device": st.sampled_from(["auto", "cpu"]),
                "seeds": st.integers(1, 5),
                "train": st.booleans(),
            }
        ),
        changes=st.dictionaries(known, scalars, min_size=1, max_size=2),
    )


def bad_executions(trials: Trials, count: int) -> None:
    """Chapters executed for real with a parameter that they refuse: by us, and by papermill."""
    kind = "bad input, chapter executed"
    refused = [("profile", "huge"), ("profile", ""), ("device", "tpu"), ("device", "cuda:9")]
    refused += [("seeds", 0), ("seeds", 101)]
    ill = [("sedes", 2), ("seeds", 1.5), ("seeds", True), ("train", "no"), ("profile", None)]
    pages = trials.folder / "pages"
    pages.mkdir(exist_ok=True)
    for _ in range(count):
        source = trials.draw.choice(CHAPTERS)
        plain = trials.draw.random() < 0.5
        parameters = dict([trials.draw.choice(refused + ill * plain)])
        notebook, _ = notebook_of(source)

        def call(source=source, plain=plain, parameters=parameters, notebook=notebook) -> None:
            if not plain:
                execute(source, destination=pages, parameters=parameters)
                return
            try:
                papermill_run(source, notebook, parameters)
            except PapermillExecutionError as error:
                kind_of = WrnnError if error.ename == "WrnnError" else RuntimeError
                raise kind_of(error.evalue) from error

        check(trials, kind, call, f"{source.stem}: {parameters}", good=False)
        for path in pages.iterdir():
            trials.count(kind, "left", path.name)
