"""The figures of the book: one style, one look per model, deterministic PNG files.

This is the only module that imports matplotlib. Functions take results, arrays or spectra, and
return a matplotlib Figure; `save` writes it. Colours are seaborn's "colorblind" palette, and every
model has a line style and a marker as well, so that no meaning hangs on colour alone.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from companion.evidence.waves import Spectrum
from wrnn.errors import WrnnError

WIDTH = 7.0  # inches: the text width of the book
DPI = 150
# seaborn.color_palette("colorblind"), written out because importing seaborn takes seconds.
COLORBLIND = (
    *("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"),
    *("#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"),
)
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs on every machine
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class ModelStyle:
    """How one model is drawn wherever it appears."""

    colour: str
    line: str | tuple
    marker: str


MODEL_STYLES = {
    "wRNN": ModelStyle(COLORBLIND[0], "-", "o"),
    "wRNN + MLP": ModelStyle(COLORBLIND[9], "-.", "D"),
    "wRNN - V-init": ModelStyle(COLORBLIND[4], (0, (5, 1)), "v"),
    "wRNN - u-shift (default)": ModelStyle(COLORBLIND[5], (0, (3, 1, 1, 1)), "P"),
    "wRNN - u-shift (identity)": ModelStyle(COLORBLIND[5], (0, (1, 2)), "X"),
    "wRNN - V-init - u-shift (default)": ModelStyle(COLORBLIND[7], (0, (3, 1, 1, 1)), "p"),
    "wRNN - V-init - u-shift (identity)": ModelStyle(COLORBLIND[7], (0, (1, 2)), "d"),
    "local wRNN": ModelStyle(COLORBLIND[4], "-", "h"),
    "iRNN": ModelStyle(COLORBLIND[1], "--", "s"),
    "iRNN (n=625)": ModelStyle(COLORBLIND[2], ":", "^"),
    "iRNN + Σ-init": ModelStyle(COLORBLIND[3], (0, (5, 1)), "<"),
    "iRNN + Σ-init + V-init": ModelStyle(COLORBLIND[3], "-", ">"),
    "frozen shift": ModelStyle(COLORBLIND[9], "-", "H"),
    "frozen identity": ModelStyle(COLORBLIND[5], (0, (1, 3)), "1"),
    "frozen random kernel": ModelStyle(COLORBLIND[5], (0, (3, 2, 1, 2)), "2"),
    "LRU": ModelStyle(COLORBLIND[4], "-.", "+"),
    "LSTM": ModelStyle(COLORBLIND[8], "-.", "*"),
    "GRU": ModelStyle(COLORBLIND[6], "-.", "8"),
}
OTHER_MODEL = ModelStyle("#333333", ":", "x")
DASHES = ("-", "--", "-.", (0, (3, 1, 1, 1)), (0, (1, 1)))  # for curves that are not of models
MARKERS = "os^DvP"
MOST_INSIDE = 5  # curves of a panel whose legend still finds room inside


def model_style(label: str) -> ModelStyle:
    """Return the look of the model with this label; sizes do not matter but for iRNN (n=625)."""
    plain = re.sub(r" \(n=(?!625\))\d+\)| \(n=\d+, forget bias \d+\)", "", label)
    plain = re.sub(r"^\d LRU blocks.*", "LRU", plain)
    plain = plain.replace("\N{MINUS SIGN}", "-")
    return MODEL_STYLES.get(plain, OTHER_MODEL)


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Run a drawing function in the style of the book."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def _panels(rows: int, height: float, columns: int = 1, **options) -> tuple[Figure, np.ndarray]:
    """Return a figure of book width and its (rows, columns) axes, `height` inches a row."""
    if rows < 1:
        raise WrnnError("there is nothing to draw: no result, trace or spectrum was given")
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _plain_ticks(axis, subs: Sequence[int] = (1, 2, 5)) -> None:
    """Label a logarithmic axis with plain numbers."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as a PNG on white; the same figure gives the same bytes on every call."""
    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        # A second draw would start from the first one's layout and move it: lay out once, keep it.
        if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(content, format="png", dpi="figure", metadata={"Software": None})
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
    return path


# ------------------------------------------------------------------------------- training curves


def legend_label(result) -> str:
    """Return a model's label followed by what its records stand for, unless at paper scale."""
    if result.status == "paper":
        return result.label
    if result.smaller and result.records:
        done = result.records[0].steps
        return f"{result.label} (smaller than the paper's, {done:,} steps)"
    if result.status in ("settled", "reduced"):
        return f"{result.label} ({result.budget})"
    if result.status == "missing":
        return f"{result.label}: not yet recorded"
    return f"{result.label} ({result.status} profile)"


@_styled
def loss_curves(
    results: Sequence,
    curve: str = "loss",
    *,
    ylabel: str = "loss",
    xlabel: str = "training step",
    references: Callable[[object], Mapping[str, float]] | Mapping[str, float] | None = None,
    log_x: bool = False,
    log_y: bool = True,
) -> Figure:
    """Draw a recorded curve of several `companion.records.results.Result`, one panel per task.

    The line is the mean over seeds and the band their lowest and highest value. The legend says
    of every line what it stands for, and names the results that are not recorded.

    Args:
        references: name -> value of dotted horizontal lines (a baseline, a floor), or a function
            of a panel's task that returns them.
        log_y: with a logarithmic axis, values of zero are drawn at the lowest reference.
    """
    tasks = {result.run.task.title: result.run.task for result in results}
    crowded = len(results) > MOST_INSIDE * len(tasks)
    figure, axes = _panels(len(tasks), 4.8 if crowded else 3.2)
    for axis, (title, task) in zip(axes[:, 0], tasks.items(), strict=True):
        lines = dict((references(task) if callable(references) else references) or {})
        floor = min((value for value in lines.values() if value > 0), default=np.nan)
        for result in (result for result in results if result.run.task.title == title):
            style = model_style(result.label)
            steps, *values = (np.asarray(column, dtype=float) for column in result.curve(curve))
            if log_y:
                values = [np.where(column > 0, column, floor) for column in values]
            mean, low, high = values
            axis.plot(
                steps,
                mean,
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                markevery=max(1, len(steps) // 8),
                label=legend_label(result),
                linewidth=STYLE["lines.linewidth"] if result.records else 0,
            )
            if len(result.records) > 1:
                axis.fill_between(steps, low, high, color=style.colour, alpha=0.25, linewidth=0)
        if log_x:
            axis.set_xscale("log")
        if log_y:
            axis.set_yscale("log")
        for name, value in lines.items():
            axis.axhline(value, color="#555555", linestyle=":", linewidth=1.2)
            above = value != min(lines.values())  # the lowest line is often that of a curve
            axis.annotate(
                name,
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2 if above else -2),
                textcoords="offset points",
                ha="right",
                va="bottom" if above else "top",
                color="#555555",
                fontsize=10,
            )
        axis.margins(y=0.12)
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if crowded:  # below the panel, with what the labels end in alike as its title
            here = [r for r in results if r.run.task.title == title]
            endings = {legend_label(r).removeprefix(r.label) for r in here}
            common = endings.pop() if len(endings) == 1 else ""
            handles, labels = axis.get_legend_handles_labels()
            axis.legend(
                handles,
                [label.removesuffix(common) for label in labels],
                title=common.strip(" ()") or None,
                loc="upper center",
                bbox_to_anchor=(0.45, -0.2),
                ncols=2,
                fontsize=9,
            )
        else:
            axis.legend()
    return figure


@_styled
def against_parameters(results: Sequence, metric: str, *, ylabel: str) -> Figure:
    """Draw a metric against the parameter count (Figure 7), one line per kind of model and panel.

    A panel is one task; bars are 95 % confidence intervals over seeds. Results without records are
    left out.
    """
    recorded = [result for result in results if result.metric(metric)]
    titles = list(dict.fromkeys(result.run.task.title for result in recorded))
    figure, axes = _panels(len(titles), 3.4)
    for axis, title in zip(axes[:, 0], titles, strict=True):
        lines: dict[str, list] = {}
        for result in (r for r in recorded if r.run.task.title == title):
            estimate = result.metric(metric)
            scale = legend_label(result).removeprefix(result.label)
            name = re.sub(r" \(n=\d+\)", "", result.label) + scale
            point = (result.parameters, estimate.mean, estimate.half_width or 0.0)
            lines.setdefault(name, []).append(point)
        for name, points in lines.items():
            style = model_style(re.sub(r" \(.*\)$", "", name))
            sizes, means, widths = zip(*sorted(points), strict=True)
            axis.errorbar(
                sizes,
                means,
                yerr=widths if any(widths) else None,
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                capsize=3,
                label=name,
            )
        axis.set(title=title, xlabel="parameters, without biases", ylabel=ylabel, xscale="log")
        _plain_ticks(axis.xaxis)
        axis.legend()
    return figure


@_styled
def copy_outputs(traces: Sequence[tuple[str, Mapping[str, np.ndarray]]], last: int = 20) -> Figure:
    """Draw copy-task outputs as images (Figure 4): the target, then what the model answers.

    Each trace is (title, arrays) with output (T, categories), logits, and target (T,). Only the
    `last` steps are shown; the recall window is the last 10 of them.
    """
    figure, axes = _panels(len(traces), 2.6, 2, sharex="row", sharey="row")
    for (left, right), (title, arrays) in zip(axes, traces, strict=True):
        logits = np.asarray(arrays["output"], dtype=float)[-last:]
        target = np.asarray(arrays["target"], dtype=int)[-last:]
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probability = odds / odds.sum(axis=1, keepdims=True)
        steps, categories = len(arrays["target"]), logits.shape[1]
        extent = (steps - len(target) - 0.5, steps - 0.5, -0.5, categories - 0.5)
        for axis, image in ((left, np.eye(categories)[target]), (right, probability)):
            shown = axis.imshow(
                image.T, origin="lower", aspect="auto", extent=extent, vmin=0, vmax=1
            )
            axis.set_xlabel("time step")
        left.set(title=f"{title}: target", ylabel="category")
        right.set_title("output")
        figure.colorbar(shown, ax=right, label="probability")
    return figure


# -------------------------------------------------------------------------- Figure 1: wave fields


@_styled
def wave_field(spikes: np.ndarray, fields: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Draw Figure 1: the inputs, then each field they drive, over time.

    spikes (T, inputs); every field is (title, states (T, sites)), whose sites are one ring per
    input, one ring after the other.
    """
    steps, inputs = spikes.shape
    heights = [0.9, *(2.6 for _ in fields)]
    figure = Figure(figsize=(WIDTH, 1.2 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for index in range(inputs):
        times = np.flatnonzero(spikes[:, index])
        look = {"marker": MARKERS[index % len(MARKERS)], "color": COLORBLIND[index % 10]}
        axes[0].plot(times, np.full(len(times), index + 1), linestyle="none", **look)
    axes[0].set(
        title="binary inputs", ylabel="input", yticks=range(1, inputs + 1), ylim=(0.4, inputs + 0.6)
    )
    for axis, (title, states) in zip(axes[1:], fields, strict=True):
        ring = states.shape[1] // inputs
        gap = max(1, ring // 12)  # rows of white between the rings
        rings = states.T.reshape(inputs, ring, steps)
        image = np.pad(rings, ((0, 0), (0, gap), (0, 0)), constant_values=np.nan)
        image = image.reshape(-1, steps)[:-gap]
        shown = axis.imshow(image, origin="lower", aspect="auto", vmin=0, cmap="cividis")
        axis.set(
            title=title,
            ylabel=f"ring ({ring} sites each)",
            yticks=(np.arange(inputs) + 0.5) * (ring + gap) - gap,
            yticklabels=range(1, inputs + 1),
        )
        axis.tick_params(left=False)
        figure.colorbar(shown, ax=axis, label="activity")
    axes[-1].set_xlabel("time step")
    return figure


@_styled
def lines(
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    theory: Mapping[str, Sequence[float]] | None = None,
    height: float = 3.4,
) -> Figure:
    """Draw named curves over a common x: measured ones with markers, `theory` thin and dotted.

    A curve named as a model has that model's look.
    """
    figure, axes = _panels(1, height)
    axis = axes[0, 0]
    for values in (theory or {}).values():
        axis.plot(x, values, color="#333333", linestyle=":", linewidth=1.4)
    for index, (name, values) in enumerate(curves.items()):
        look = ModelStyle(COLORBLIND[index % 10], DASHES[index % 5], MARKERS[index % 6])
        style = look if model_style(name) is OTHER_MODEL else model_style(name)
        axis.plot(
            x,
            values,
            color=style.colour,
            linestyle=style.line,
            marker=style.marker,
            markevery=max(1, len(x) // 12),
            label=name,
        )
    if theory:
        axis.plot([], [], color="#333333", linestyle=":", linewidth=1.4, label=" / ".join(theory))
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend()
    return figure


@_styled
def points(
    panels: Sequence[tuple[str, str, Mapping[str, Sequence[tuple[float, float]]]]],
    *,
    xlabel: str,
    connected: bool = False,
    log_x: bool = False,
    diagonal: bool = False,
) -> Figure:
    """Draw named groups of (x, y) points; panels are (title, name of the y axis, groups).

    A group named as a model has that model's look, whatever follows its label after a comma.
    `connected` joins the points of a group by its line; `diagonal` adds the line y = x.
    """
    figure, axes = _panels(len(panels), 3.2)
    for axis, (title, ylabel, groups) in zip(axes[:, 0], panels, strict=True):
        if diagonal:
            ends = [x for pairs in groups.values() for x, _ in pairs]
            span = [min(ends, default=0), max(ends, default=1)]
            axis.plot(span, span, color="#333333", linestyle=":", linewidth=1.4, label="y = x")
        for index, (name, pairs) in enumerate(groups.items()):
            look = ModelStyle(COLORBLIND[index % 10], DASHES[index % 5], MARKERS[index % 6])
            style = model_style(name.split(",")[0])
            style = look if style is OTHER_MODEL else style
            axis.plot(
                *zip(*pairs, strict=True),
                color=style.colour,
                linestyle=style.line if connected else "none",
                marker=style.marker,
                label=name,
            )
        if log_x:
            axis.set_xscale("log")
        axis.margins(0.08)
        axis.set(title=title, ylabel=ylabel, xlabel=xlabel)
        if axis is axes[0, 0] or list(groups) != list(panels[0][2]):
            axis.legend()
    return figure


@_styled
def intervals(
    panels: Sequence[tuple[str, str, Mapping[str, Sequence[float]]]],
    *,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Draw values over seeds by name: a dot per seed, and their mean with its 95 % interval.

    Panels are (title, name of the axis, name -> values); `references` are dotted lines. Names read
    from the top.
    """
    from companion.records.results import estimate

    height = max(0.27 * max(len(groups) for _, _, groups in panels) + 1.0, 1.6)
    figure, axes = _panels(len(panels), height)
    for axis, (title, xlabel, groups) in zip(axes[:, 0], panels, strict=True):
        for row, (name, values) in enumerate(groups.items()):
            style = model_style(name)
            axis.plot(values, [row] * len(values), ".", color=style.colour, alpha=0.6)
            middle = estimate(list(values))
            axis.errorbar(
                middle.mean,
                row,
                xerr=middle.half_width,
                color=style.colour,
                marker=style.marker,
                capsize=3,
            )
        for value in (references or {}).values():
            axis.axvline(value, color="#555555", linestyle=":", linewidth=1.2)
        axis.set_yticks(range(len(groups)), list(groups))
        axis.invert_yaxis()
        axis.set(title=title, xlabel=xlabel)
    return figure


# ------------------------------------------------------------------------------------ performance


@_styled
def speedups(
    panels: Sequence[tuple[str, Sequence[str], Mapping[str, Sequence[float | None]]]],
) -> Figure:
    """Draw how many times as fast as the loop each way to compute is, a row per configuration.

    Panels are (title, names of the configurations, way -> ratio of each or None).
    """
    most = max((len(names) for _, names, _ in panels), default=0)
    figure, axes = _panels(len(panels), 1.2 + 0.32 * most)
    for axis, (title, names, ways) in zip(axes[:, 0], panels, strict=True):
        for index, (way, ratios) in enumerate(ways.items()):
            axis.plot(
                [np.nan if ratio is None else ratio for ratio in ratios],
                range(len(names)),
                linestyle="none",
                marker=MARKERS[index % len(MARKERS)],
                color=COLORBLIND[index % len(COLORBLIND)],
                label=way,
            )
        axis.axvline(1, color="#555555", linestyle=":", linewidth=1.2, label="the loop")
        axis.set(title=title, xscale="log", xlabel="times as fast as the loop")
        _plain_ticks(axis.xaxis)
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis()
        axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@_styled
def growth(panels: Sequence[tuple[str, Mapping[str, Mapping]]]) -> Figure:
    """Draw measured times and the lines fitted to them, one panel per growing size.

    Panels are (name of the size, device -> fit), a fit as `companion.bench.fit_line` returns it.
    """
    figure, axes = _panels(1, 3.2, max(1, len(panels)))
    for axis, (xlabel, fits) in zip(axes[0], panels, strict=True):
        for index, (device, fit) in enumerate(fits.items()):
            look = {"color": COLORBLIND[index % len(COLORBLIND)]}
            marker = MARKERS[index % len(MARKERS)]
            measured, line = fit["relative_time"], fit["relative_line"]
            axis.plot(fit["values"], measured, marker, label=device, **look)
            axis.plot(fit["values"], line, ":", label="straight line", **look)
        axis.set(xscale="log", yscale="log", xlabel=xlabel)
        _plain_ticks(axis.yaxis, (1,) if max(measured) > 100 else (1, 2, 5))
        ends = fit["values"][0], fit["values"][-1]
        axis.set_xticks(ends, [f"{value:,}" for value in ends])
        axis.xaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylabel("time, as multiple of the first")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


# -------------------------------------------------------------------------- Figure 2: waves seen


@_styled
def hidden_states(panels: Sequence[tuple[str, np.ndarray, str]]) -> Figure:
    """Draw hidden states over time; panels are (title, hidden (T, sites), name of the y axis).

    Colours saturate at the 99th percentile, so that a few large values do not hide the rest.
    """
    figure, axes = _panels(len(panels), 2.6)
    for axis, (title, hidden, ylabel) in zip(axes[:, 0], panels, strict=True):
        image = np.asarray(hidden, dtype=float).T
        high = np.percentile(image, 99)
        vmax = high if image.min() < high < image.max() else None
        shown = axis.imshow(image, origin="lower", aspect="auto", vmax=vmax)
        axis.set(title=title, xlabel="time step", ylabel=ylabel)
        extend = "neither" if vmax is None else "max"
        figure.colorbar(shown, ax=axis, label="activity", extend=extend)
    return figure


@_styled
def space_time_power(panels: Sequence[tuple[str, Spectrum, float | None]]) -> Figure:
    """Draw space-time spectra with the line f_t = nu f_x: each panel is (title, spectrum, nu).

    Power is relative to the shuffled hidden state, on a logarithmic scale common to all panels;
    nu None draws no line. The line wraps where f_t leaves the sampled band.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // 2)
    figure, axes = _panels(rows, 3.1, columns, sharex=True, sharey=True)
    images = [np.log10(np.maximum(spectrum.power, 1e-3)) for _, spectrum, _ in panels]
    high = max(1.0, max(np.percentile(image, 99.8) for image in images))
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, image, (title, spectrum, velocity) in zip(axes.flat, images, panels, strict=False):
        half_x, half_t = 0.5 / len(spectrum.spatial), 0.5 / len(spectrum.temporal)
        extent = (
            spectrum.spatial[0] - half_x,
            spectrum.spatial[-1] + half_x,
            spectrum.temporal[0] - half_t,
            spectrum.temporal[-1] + half_t,
        )
        shown = axis.imshow(
            image,
            origin="lower",
            aspect="auto",
            extent=extent,
            vmin=-1,
            vmax=high,
            cmap="magma",
        )
        if velocity is not None:
            f_x = np.linspace(-0.5, 0.5, 1001)
            f_t = (velocity * f_x + 0.5) % 1.0 - 0.5
            f_t[1:][np.abs(np.diff(f_t)) > 0.5] = np.nan  # no stroke across the wrap
            axis.plot(f_x, f_t, color="white", linestyle=(0, (4, 4)), linewidth=1.2)
        axis.set(title=title)
    for axis in axes.flat[max(0, len(panels) - columns) : len(panels)]:
        axis.set_xlabel("$f_x$ (cycles per site)")
        axis.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("$f_t$ (cycles per step)")
    figure.colorbar(
        shown, ax=axes, label="power relative to shuffled (log10)", shrink=0.8 if rows > 1 else 1.0
    )
    return figure
