"""What a chapter needs: results with their status, and figures and tables as included files.

A chapter never types a number. It asks a :class:`Chapter` for the results of an experiment, and
hands figures and rows back to it; what has no record is named in its place, with the command that
records it. Files go to ``$WRNN_BOOK`` (set while the book is executed), else to
``_build/chapters`` of the project: ``figures/NAME.png``, and ``generated/NAME.md`` that a chapter
includes.
"""

import ast
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from companion.evidence import claims, tables
from companion.evidence import published as paper
from companion.evidence.verdicts import MARKS, Finding, judge
from companion.records.files import (
    DamageWarning,
    Store,
    committed_store,
    local_store,
    project_root,
    write_atomically,
)
from companion.records.selection import MOST_SEEDS, Grouped
from companion.records.table import Result, gather
from companion.runs.experiments import Experiment, find_experiments, grid
from companion.runs.run import PROFILES
from companion.training.train import resolve_device, train
from wrnn.errors import WrnnError
from wrnn.tasks import CopyTask

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure


_MARK = re.compile(r" \[([a-z]{1,2}(?:, [a-z]{1,2})*)\]")
_VALUES = r" \((?:[\w ]+, )?n = \d+: ([^)]*)\)"  # of every seed, as Chapter.value gives them


def output_folder() -> Path:
    """Return the folder that figures and tables are written to."""
    return Path(os.environ.get("WRNN_BOOK") or project_root() / "_build" / "chapters")


def refuse_unknown_parameters(cells: Sequence[str]) -> None:
    """Raise WrnnError for a parameter that papermill injected and no cell before it sets.

    Papermill itself only warns, and a misspelt name would quietly give the default's results.
    `cells` are the sources executed so far; an injected cell begins with "# Parameters".
    """
    known: set[str] = set()
    for cell in cells:
        injected = cell.startswith("# Parameters")
        try:
            statements = ast.parse(cell).body
        except SyntaxError:
            continue
        for statement in statements:
            targets = getattr(statement, "targets", [getattr(statement, "target", None)])
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            if injected and names - known:
                allowed = ", ".join(sorted(known)) or "none"
                raise WrnnError(
                    f"unknown parameter {sorted(names - known)[0]!r}; this chapter's: {allowed}"
                )
            known |= names


class Chapter:
    """One execution of a chapter, with the parameters of its parameters cell.

    Args:
        profile: smoke, quick or paper; what :meth:`results` shows.
        device: auto, cpu or cuda, for training.
        seeds: how many seeds of every run to train.
        train: train what has no record yet; False only reads.
        committed: store of the published records; default ``records/``.
        local: store of this machine's quick and smoke records; default ``_build/records``.

    Raises:
        WrnnError: an unknown profile, a device that is not there, too many or few seeds, or, inside
            a notebook, an injected parameter that the chapter does not have.
    """

    def __init__(
        self,
        profile: str = "quick",
        device: str = "auto",
        seeds: int = 1,
        train: bool = True,
        *,
        committed: Store | None = None,
        local: Store | None = None,
    ):
        if profile not in PROFILES:
            raise WrnnError(f"unknown profile {profile!r}: use {', '.join(PROFILES)}")
        if type(seeds) is not int or not 1 <= seeds <= MOST_SEEDS:
            raise WrnnError(f"seeds is {seeds!r}: expected 1 to {MOST_SEEDS}")
        if not isinstance(train, bool):
            raise WrnnError(f"train is {train!r}: expected True or False")
        resolve_device(device)
        # What a damaged file held is shown as missing; the command line reports the file.
        warnings.filterwarnings("ignore", category=DamageWarning)
        ipython = sys.modules.get("IPython")
        if ipython and ipython.get_ipython():
            refuse_unknown_parameters(ipython.get_ipython().user_ns.get("In", ()))
        # A kernel works in the folder of its chapter, the command line mostly in the project's.
        os.environ.setdefault("WRNN_DATA", str(project_root() / "data"))
        self.profile = profile
        self.device = device
        self.seeds = seeds
        self.train = train
        self.committed = committed or committed_store()
        self.local = local or local_store()
        self._notes: dict[str, str] = {}
        self._trained: set[str] = set()
        self._gathered: dict[tuple[str, str, Path], list[Result]] = {}
        self._read: dict[Path, Grouped] = {}

    # ------------------------------------------------------------------------------ results

    def recorded(self, experiment: str) -> list[Result]:
        """Return the experiment at the paper's sizes, from the published records.

        One result per configuration, in the order of the experiment; its status is "paper",
        "settled", "reduced" or "missing". With profile "paper" and train True, missing runs are
        trained first.
        """
        (found,) = find_experiments([experiment])
        if self.profile == "paper":
            self._train(found, self.committed)
        return self._gather(found, "paper", self.committed)

    @property
    def small_profile(self) -> str:
        """The profile of :meth:`this_run`: this one, or quick where this one is paper."""
        return "quick" if self.profile == "paper" else self.profile

    def this_run(self, experiment: str) -> list[Result]:
        """Return the experiment in this run's quick or smoke profile, trained where asked for.

        With profile "paper": what is recorded of the published reference runs of the quick profile.
        """
        (found,) = find_experiments([experiment])
        if self.profile == "paper":
            return [r for r in self._gather(found, "quick", self.committed) if r.records]
        self._train(found, self.local)
        return self._gather(found, self.profile, self.local)

    def shown(self, experiment: str) -> list[Result]:
        """Return what is recorded at the paper's sizes and, after it, this run's small form.

        With profile "paper" the second comes only where the first is not all of it.
        """
        planned = self.recorded(experiment)
        recorded = [result for result in planned if result.records]
        if self.profile == "paper" and len(recorded) == len(planned):
            return recorded
        return recorded + [result for result in self.this_run(experiment) if result.records]

    def searched(self, experiment: str) -> list[Result]:
        """Return what is recorded of the paper's grid of settings for an experiment."""
        (found,) = find_experiments([experiment])
        wider = replace(found, name=f"{found.name}-grid", runs_of=lambda profile: grid(found))
        return [r for r in self._gather(wider, "paper", self.committed) if r.records]

    def missing(self, experiment: str) -> str:
        """Name, in Markdown, the runs that lack a full-budget record, and the command for them.

        Recorded runs that diverged are named too, with the step at which they did.
        """
        results = self.recorded(experiment)
        ends = divergences(results)
        diverged = f" Of the recorded ones: {ends}." if ends else ""
        lacking = [r for r in results if not r.complete]
        if not lacking:
            return f"Every run of `{experiment}` is recorded at paper scale.{diverged}"
        models: dict[str, Counter[str]] = {}
        for result in lacking:
            less = " (reduced only)" if result.status == "reduced" else ""
            models.setdefault(result.run.task.title, Counter())[result.label + less] += 1
        names = "; ".join(
            f"{task}: "
            + ", ".join(f"{label} ({n} runs)" if n > 1 else label for label, n in labels.items())
            for task, labels in models.items()
        )
        return (
            f"**Not yet recorded** at the paper's budget: {names}. "
            f"Command: `{command(experiment)}`.{diverged}"
        )

    def findings(self, section: str | None = None) -> list[Finding]:
        """Return every claim, or those of one section, with the verdict that the records give.

        Trains nothing: a claim may need experiments of other chapters.
        """
        results = {
            experiment.name: self._gather(experiment, "paper", self.committed)
            for experiment in claims.experiments_needed()
        }
        wanted = [claim for claim in claims.CLAIMS if section in (None, claim.section)]
        return [judge(claim, results) for claim in wanted]

    def _gather(self, experiment: Experiment, profile: str, store: Store) -> list[Result]:
        key = (experiment.name, profile, store.folder)
        if store.folder not in self._read:
            self._read[store.folder] = Grouped(store.all())
        if key not in self._gathered:
            self._gathered[key] = gather(experiment, profile, self._read[store.folder])
        return self._gathered[key]

    def _train(self, experiment: Experiment, store: Store) -> None:
        """Train what is missing; silently, since a chapter's output must not hold progress."""
        if not self.train or experiment.name in self._trained:
            return
        self._trained.add(experiment.name)
        self._gathered.clear()
        self._read.clear()
        for run in experiment.runs(self.profile, self.seeds):
            if not store.path(run).exists():
                with store.claim(run) as claimed:
                    if claimed:
                        train(run, store, device=self.device)

    # -------------------------------------------------------------------------------- output

    def value(self, result: Result | None, metric: str, digits: int = 3) -> str:
        """Return a table cell: a metric with spread, number of seeds and a note on its origin.

        The note is a letter that :meth:`table` explains under the table; whatever is not at paper
        scale says so in the cell itself. None, or a result without records, is "not yet recorded".
        """
        if result is None or not result.records:
            return "not yet recorded"
        interval = result.metric(metric)
        if interval is None:
            nothing = "never" if metric.startswith("solved_step") else tables.NOTHING
            text = divergence(result) or nothing
        else:
            text = tables.interval(interval, digits)
        total = len(result.records)
        count = total if interval is None else interval.count
        seeds = f"n = {count}" if count == total else f"{count} of {total} seeds"
        if interval is not None and len(set(interval.values)) > 1:
            seeds += ": " + ", ".join(tables.number(value, digits) for value in interval.values)
        status = "" if result.status == "paper" else f"{result.status}, "
        return f"{text} ({status}{seeds}){self.note(result.description)}"

    def note(self, *texts: str) -> str:
        """Return the mark of some notes, a letter each, which the next :meth:`table` explains."""
        letters = [self._notes.setdefault(text, _letters(len(self._notes))) for text in texts]
        return f" [{', '.join(letters)}]"

    def table(
        self, name: str, rows: Sequence[tables.Row], caption: str, notice: Sequence[str] = ()
    ) -> None:
        """Write ``generated/NAME.md``, a numbered table, and print it as plain text.

        What most of its values have in common is said once below it and not in the cells. Without
        rows it is the notice that there are none; `notice` is what :meth:`nothing` gets after the
        name.
        """
        if notice and not rows:
            self.nothing(name, *notice)
            return
        rows, notes = said_once(rows, self._notes)
        self._notes = {}
        directive = f":::{{table}} {caption}\n:name: {name}\n\n{tables.markdown(rows)}:::\n"
        below = "\n" + "  \n".join(notes) + "\n" if notes else ""
        self._write(f"generated/{name}.md", directive + below)
        print(tables.plain(rows) + "".join(f"{note}\n" for note in notes), end="")

    def file(self, name: str, content: str, what: str) -> None:
        """Write ``generated/NAME`` to download, and ``generated/NAME.md`` that links to it."""
        self._write(f"generated/{name}", content)
        self._write(f"generated/{name}.md", f"{what}: {{download}}`{name} <generated/{name}>`.\n")

    def figure(
        self,
        name: str,
        figure: "Figure | None",
        *,
        alt: str,
        caption: str,
        results: Sequence[Result] = (),
        notice: Sequence[str] = (),
    ) -> None:
        """Write ``figures/NAME.png`` and ``generated/NAME.md``, a numbered figure.

        The caption ends with where `results` come from; `alt` describes the picture in one line.
        Where `figure` is None it is the notice that there is none, as for :meth:`table`.
        """
        from companion.page import figures

        if not alt.strip() or "\n" in alt:
            raise WrnnError(f"figure {name}: alt must be one line that describes the picture")
        if figure is None:
            self.nothing(name, *notice)
            return
        figures.save(figure, output_folder() / "figures" / f"{name}.png")
        text = " ".join([caption, *([origin(results)] if results else [])])
        grids = [axis.get_gridspec() for axis in figure.axes if axis.get_gridspec()]
        wide = max((grid.ncols for grid in grids), default=1) > 2  # to be scrolled on a phone
        look = ":class: wide\n" * wide
        self._write(
            f"generated/{name}.md",
            f"```{{figure}} figures/{name}.png\n:name: {name}\n{look}:alt: {alt}\n\n{text}\n```\n",
        )

    def curves(
        self,
        name: str,
        results: Sequence[Result],
        *,
        alt: str,
        caption: str,
        notice: Sequence[str],
        **drawing,
    ) -> None:
        """Draw a recorded curve of some results as a figure, or the notice that there are none.

        `drawing` goes to ``companion.page.figures.loss_curves`` (see `COPY` and `ACCURACY`),
        `notice` is what :meth:`nothing` gets after the name.
        """
        from companion.page import figures

        drawn = figures.loss_curves(results, **drawing) if results else None
        thin = (
            " Thin: seeds; strong: their median, in which a seed that stopped goes on as it ended."
        )
        caption += thin * any(len(result.records) > 1 for result in results)
        caption += " Marks: the weights that were tested."
        self.figure(name, drawn, alt=alt, caption=caption, results=results, notice=notice)

    def compare(
        self,
        name: str,
        results: Sequence[Result],
        columns: Mapping[str, str | Callable[[Result], object]],
        caption: str,
        notice: Sequence[str] = (),
    ) -> None:
        """Write a table with a row per result, or the notice that there are none.

        A column is the name of a metric, shown with spread and origin, or a function of the result;
        `notice` is what :meth:`nothing` gets after the name, by default the caption.
        """
        rows = [
            {
                header: self.value(result, column) if isinstance(column, str) else column(result)
                for header, column in columns.items()
            }
            for result in results
        ]
        self.table(name, rows, caption, notice or [caption.rstrip(".")])

    def smaller(self, name: str, experiment: str, what: str) -> None:
        """Write table ``tab-NAME`` and curves ``fig-NAME`` of an experiment on smaller networks.

        Such an experiment is on images, and smaller than the paper's even in the paper profile;
        `what` names its task.
        """
        found = [result for result in self.recorded(experiment) if result.records]
        self.compare(
            f"tab-{name}",
            found,
            {
                "task": lambda r: r.records[0].run.task.title,
                "model": lambda r: r.label,
                "channels × n": lambda r: f"{r.run.model.num_channels} × {r.run.model.size}",
                "parameters": lambda r: r.parameters,
                "steps": lambda r: r.run.steps,
                "test accuracy (%)": "accuracy",
                "minutes": lambda r: tables.number(
                    sum(record.seconds for record in r.records) / len(r.records) / 60, 2
                ),
            },
            f"Smaller networks on {what}, with a budget that fits a CPU.",
            (f"Smaller networks on {what}", experiment, "paper"),
        )
        if ends := divergences(found):
            self.say(f"Of these networks: {ends}.")
        self.curves(
            f"fig-{name}",
            found,
            **ACCURACY,
            alt=f"Validation accuracy on {what} against training step, for a small wRNN with and "
            "without its default recurrent bias, and for an iRNN.",
            caption=f"Validation accuracy of smaller networks on {what} during training.",
            notice=(f"Learning curves of smaller networks on {what}", experiment, "paper"),
        )

    def verdicts(self, section: str, what: str, name: str = "") -> None:
        """Write the table of a section's claims with their verdicts, ``tab-SECTION-claims``."""
        rows = [
            {
                "verdict": f"{MARKS[found.verdict]} {found.verdict}",  # first: seen on a phone
                "claim": found.claim.statement,
                "paper": f"{found.claim.paper} {found.claim.unit}",
                "recorded": found.shown
                + (self.note(*found.basis.split("; ")) if found.recorded else ""),
                "limit": str(found.claim.rule),
            }
            for found in self.findings(section)
        ]
        caption = f"{what}, with verdicts computed from the records."
        self.table(name or f"tab-{section}-claims", rows, caption)

    def animation(
        self,
        name: str,
        spikes: "np.ndarray",
        fields: Sequence[tuple[str, "np.ndarray"]],
        *,
        alt: str,
        caption: str,
    ) -> None:
        """Write ``figures/NAME.svg``, fields of activity on rings as a film, and its include file.

        Arguments as for ``companion.page.film.rings``, with what is seen, for those who do not see
        it, and a sentence below the film.
        """
        if not alt.strip():
            raise WrnnError(f"animation {name}: alt must describe what is seen")
        from companion.page import film as animation

        self._write(f"figures/{name}.svg", animation.rings(name, spikes, fields))
        picture = f"```{{image}} figures/{name}.svg\n:alt: {alt}\n:class: film\n```\n"
        self._write(f"generated/{name}.md", f"{picture}\n{caption}\n")

    def nothing(self, name: str, what: str, experiment: str = "", profile: str = "") -> None:
        """Write a numbered notice in the place of a figure or table that has no record.

        It names the command that records the experiment, in this chapter's profile by default.
        """
        row = {"not yet recorded": what}
        if experiment:
            row["command"] = f"`{command(experiment, profile or self.profile)}`"
        self.table(name, [row], f"{what}: not yet recorded")

    def say(self, text: str) -> None:
        """Show a Markdown sentence as the cell's output; its numbers come from records."""
        from IPython.display import Markdown, display

        display(Markdown(text))

    def _write(self, name: str, content: str) -> None:
        write_atomically(output_folder() / name, content.encode())


def divergence(result: Result) -> str:
    """Say at which step which seeds of a result diverged; nothing where none did."""
    ends: dict[int, list[str]] = {}
    for record in result.records:
        if record.diverged:
            ends.setdefault(record.steps, []).append(str(record.run.seed))
    found = (f"step {n:,} (seed{'s' * (len(of) > 1)} {', '.join(of)})" for n, of in ends.items())
    return "diverged at " + ", ".join(found) if ends else ""


def divergences(results: Sequence[Result]) -> str:
    """Say which results have seeds that diverged, and when; nothing where none has.

    The learning rate is named where a model has several on a task.
    """
    rates = Counter((r.label, r.run.task) for r in results)
    return "; ".join(
        f"{r.label}, {r.run.task.title}, "
        + f"at a rate of {tables.number(r.run.learning_rate)} " * (rates[r.label, r.run.task] > 1)
        + end
        for r in results
        if (end := divergence(r))
    )


def _letters(index: int) -> str:
    """Return a, b, ... z, aa, ab, ... for 0, 1, ..."""
    first, last = divmod(index, 26)
    return ("" if first == 0 else _letters(first - 1)) + chr(ord("a") + last)


def said_once(
    rows: Sequence[tables.Row], notes: Mapping[str, str]
) -> tuple[list[dict[str, object]], list[str]]:
    """Return rows without the mark that most of their marked cells carry, and the notes below them.

    These cells lose the status and number of seeds that :meth:`Chapter.value` puts before the mark,
    since the note says both; the other marks are lettered anew. `notes` are text -> letter; what
    all of them have in common is said once before them.
    """
    texts = {letter: text for text, letter in notes.items()}
    found = [m for row in rows for value in row.values() for m in _MARK.findall(str(value))]
    marks = [mark for mark in found if texts.keys() >= {*mark.split(", ")}]
    most, count = Counter(marks).most_common(1)[0] if marks else ("", 0)
    common = most if count == len(marks) or (count > 1 and 2 * count >= len(marks)) else ""
    kept = {letter for mark in marks if mark != common for letter in mark.split(", ")}
    new = {letter: _letters(index) for index, letter in enumerate(t for t in texts if t in kept)}

    def renamed(mark: re.Match) -> str:
        if mark[1] not in marks:
            return mark[0]
        letters = mark[1].split(", ")
        return f" [{', '.join(new[letter] for letter in new if letter in letters)}]"

    def cell(value: object) -> object:
        if not isinstance(value, str):
            return value
        if common:
            value = re.sub(_VALUES + rf" \[{common}\]", r" (\1)", value)
            value = re.sub(rf"(?: \((?:[\w ]+, )?n = \d+\))? \[{common}\]", "", value)
        return _MARK.sub(renamed, value)

    unmarked = common.split(", ") if common else []
    shared, own = in_common([texts[letter] for letter in [*unmarked, *new]])
    said = [f"Throughout: {shared}."] * bool(shared)
    if unmarked:
        start = "Where no letter stands" if new else "Throughout"
        said.append(f"{start}: {'; '.join(own[: len(unmarked)])}.")
    said += [f"[{new[k]}] {text}." for k, text in zip(new, own[len(unmarked) :], strict=True)]
    return [{key: cell(value) for key, value in row.items()} for row in rows], said


def in_common(texts: Sequence[str]) -> tuple[str, list[str]]:
    """Return what all of several descriptions say, and what each of them says besides.

    Their parts are separated by commas. The first is empty where some description has no more.
    """
    parts = [re.split(r", (?![^(]*\))", text) for text in texts]
    shared = [part for part in parts[0] if all(part in of for of in parts)] if parts else []
    own = [[part for part in of if part not in shared] for of in parts]
    if len(texts) < 2 or not all(own):
        return "", list(texts)
    return ", ".join(shared), [", ".join(of) for of in own]


def provenance(records: "pd.DataFrame") -> "pd.DataFrame":
    """Return a row per record, sorted by run, with what it was and where and how it was made."""
    about = records.assign(
        run=[record.run.description for record in records["record"]],
        threads=[record.threads for record in records["record"]],
        versions=[", ".join(f"{k} {v}" for k, v in r.versions.items()) for r in records["record"]],
        data_sha256=[record.data.get("sha256", "") for record in records["record"]],
    )
    first = ["id", "run", "profile", "status", "planned_steps", "taken_steps", "stopped"]
    last = ["seconds", "processor_seconds", "device", "threads", "versions", "commit"]
    return about.sort_values(["profile", "run", "planned_steps", "id"])[
        [*first, *last, "data_sha256"]
    ]


def command(names: str, profile: str = "paper") -> str:
    """Return the shell command that records experiments, one name or several, in a profile."""
    within_cpu = all(experiment.smaller for experiment in find_experiments(names.split()))
    device = f" --device {'cpu' if within_cpu else 'cuda'}" if profile == "paper" else ""
    return f"wrnn run {names} --profile {profile}{device}"


def origin(results: Sequence[Result]) -> str:
    """Say in one sentence which records some results stand on; of many budgets, their scales."""
    ids = {record.id: result for result in results for record in result.records}
    if not ids:
        return "No run of it is recorded yet."
    count = f"{{ref}}`{tables.counted(len(ids), 'record')} <tab-records>`"
    shared, own = in_common(list(dict.fromkeys(r.description for r in ids.values())))
    if len(own) > 4:
        scales = Counter(result.status for result in ids.values())
        kinds = ", ".join(f"{count} {scale}" for scale, count in scales.items())
        return f"Source: {count} ({kinds}){f', all {shared}' if shared else ''}."
    descriptions = "; ".join([*([f"throughout {shared}"] if shared else []), *own])
    return f"Source: {descriptions}; {count}."


def at_last_step(result: Result) -> Result:
    """Return the result with the last validation values in place of the metrics of the test set.

    The test set is read with the weights that validated best (`Run.keep`), once; these values are
    what the weights of the last step give.
    """
    last: dict[str, dict[int, float]] = {}
    for record in result.records:
        for name, points in record.curves.items():
            last.setdefault(name, {})[record.run.seed] = points[-1][1]
    return result.with_metrics(last)


def by_model(table: str) -> dict[str, dict[str, paper.Published]]:
    """Return a table of the paper as model -> column -> number, in printed order."""
    numbers: dict[str, dict[str, paper.Published]] = {}
    for number in paper.select(f"{table}/"):
        _, model, column = number.id.split("/")[:3]
        numbers.setdefault(model, {})[column] = number
    return numbers


def cited(number: paper.Published) -> str:
    """Return the model of a published number with the work that it was taken from, if another."""
    source = "" if number.source == "keller2024waves" else f" {{cite}}`{number.source}`"
    return number.model + source


def copy_levels(task: CopyTask) -> dict[str, float]:
    """Return the ends of the scale of a copy task's loss: no memory, and the float32 floor."""
    return {"memoryless": task.memoryless_baseline(), "float32 floor": task.float32_floor()}


COPY = {"ylabel": "cross-entropy (nats)", "references": copy_levels}
ACCURACY = {
    "curve": "accuracy",
    "ylabel": "validation accuracy (%)",
    "references": {"chance": 10.0},
    "log_y": False,
}


def printed(number: paper.Published) -> str:
    """Return a published number as it is printed; accuracies keep their one decimal."""
    if number.unit == "% test accuracy" and number.value is not None:
        return f"{number.value:.1f}"
    relation = f"{number.relation} " if number.relation else ""
    return relation + tables.number(number.value, 4)
