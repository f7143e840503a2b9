"""The figures of the book: one style, one look per model, deterministic PNG files.

This is the only module that imports matplotlib and seaborn. Functions take results, arrays or
spectra, and return a matplotlib Figure; `save` writes it. Curves and comparisons are drawn from the
tables of :mod:`companion.records.table`. Every model has a line style and a marker as well as a
colour, so that no meaning hangs on colour alone; labels stand beside or below a panel, never on
data.
"""

from __future__ import annotations

import colorsys
import copy
import io
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib.artist import Artist
from matplotlib.collections import Collection
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import ScaledTranslation
from PIL import Image
from scipy.special import softmax

from companion.evidence.waves import Spectrum
from companion.records.table import Interval, Result, curves_table, interval
from wrnn.errors import WrnnError

WIDTH = 7.0  # inches: the text width of the book
DPI = 150
LAST = 20  # steps of a copy sequence that are drawn
LEGEND_DROP = 38  # points from a panel to its legend; its ticks and its label stand between
COLORBLIND = tuple(seaborn.color_palette("colorblind").as_hex())
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
    "image.aspect": "auto",
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "image.origin": "lower",
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


_styled = matplotlib.rc_context(STYLE)  # runs a drawing function in the style of the book


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
OTHER_MODEL = ModelStyle("#333333", ":", "H")
DASHES = ("-", "--", "-.", (0, (3, 1, 1, 1)), (0, (1, 1)))  # for curves that are not of models
MARKERS = "os^DvP"
GREY = "#555555"
# A quarter of the bytes, no colour more than a few of 255 off: two faces weigh less than one did.
PALETTE = {"method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}
DARK_PAGE, DARK_INK = "#121212", "#ced6dd"  # background and text of the site's dark theme


def model_style(label: str) -> ModelStyle:
    """Return the look of the model with this label; sizes do not matter but for iRNN (n=625)."""
    plain = re.sub(r" \(n=(?!625\))\d+\)| \(n=\d+, forget bias \d+\)", "", label)
    plain = re.sub(r"^\d LRU blocks.*", "LRU", plain)
    plain = plain.replace("\N{MINUS SIGN}", "-")
    return MODEL_STYLES.get(plain, OTHER_MODEL)


def _numbered(index: int, shift: int = 0) -> ModelStyle:
    """Return a look for the index-th of what is no model."""
    return ModelStyle(COLORBLIND[(index + shift) % 10], DASHES[index % 5], MARKERS[index % 6])


def looks(names: Iterable[str]) -> dict[str, ModelStyle]:
    """Return a look for every name: a model's own, whatever follows its label after a comma.

    Names that are no model's get one of their own each.
    """
    found = {}
    for index, name in enumerate(names):
        own = [model_style(name), model_style(name.split(",")[0])]
        listed = [] if "zero input bias" in name else [s for s in own if s is not OTHER_MODEL]
        found[name] = listed[0] if listed else _numbered(index, shift=2)
    return found


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


@_styled
def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as NAME.png on white, and NAME-dark.png for dark pages.

    The same figure gives the same bytes on every call.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A second draw would start from the first one's layout and move it: lay out once, keep it.
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    dark = path.with_name(f"{path.stem}-dark{path.suffix}")
    for face, name in ((figure, path), (for_dark_pages(figure), dark)):
        content = io.BytesIO()
        face.savefig(content, format="png", dpi="figure", facecolor="auto")
        with Image.open(content) as drawn:
            few = drawn.convert("RGB").quantize(256, **PALETTE)
        few.save(name, "png", optimize=True)
    return path


# ------------------------------------------------------------------------------------ dark pages


def contrast(one: object, other: object) -> float:
    """Return the contrast of two colours as WCAG 2 defines it, 1 to 21."""

    def luminance(colour: object) -> float:
        parts = np.array(to_rgb(colour))
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def on_dark(colour: object, least: float = 3.0) -> tuple[float, float, float, float]:
    """Return what a colour becomes on a dark page, RGBA.

    Black and white ink change places, dark greys turn light; anything else keeps its hue and is
    made lighter until its contrast with the page is at least `least`.
    """
    red, green, blue, alpha = to_rgba(colour)
    if alpha == 0:
        return red, green, blue, alpha
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    page, ink = np.array(to_rgb(DARK_PAGE)), np.array(to_rgb(DARK_INK))
    if max(red, green, blue) - min(red, green, blue) < 0.02 and not 0.5 < lightness < 0.95:
        return (*((1 - lightness) * ink + lightness * page).tolist(), alpha)
    while contrast((red, green, blue), DARK_PAGE) < least:
        lightness += 0.01
        red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return red, green, blue, alpha


def for_dark_pages(figure: Figure) -> Figure:
    """Return a copy of a figure in colours for dark pages; images and lines on them stay."""
    figure = copy.deepcopy(figure)
    on_images = {line for axis in figure.axes if axis.images for line in axis.lines}
    for artist in figure.findobj():
        if artist not in on_images:
            _recolour(artist)
    return figure


def _recolour(artist: Artist) -> None:
    if isinstance(artist, Text):
        artist.set_color(on_dark(artist.get_color(), 4.5))
    elif isinstance(artist, Line2D):
        colours = (artist.get_color(), artist.get_markeredgecolor(), artist.get_markerfacecolor())
        colour, edge, face = map(on_dark, colours)
        artist.set(color=colour, markeredgecolor=edge, markerfacecolor=face)
    elif isinstance(artist, Patch):
        face, edge = artist.get_facecolor(), artist.get_edgecolor()
        artist.set(facecolor=on_dark(face), edgecolor=on_dark(edge))
    elif isinstance(artist, Collection) and artist.get_array() is None:
        faces, edges = artist.get_facecolor(), artist.get_edgecolor()
        artist.set(facecolor=[*map(on_dark, faces)], edgecolor=[*map(on_dark, edges)])


# ------------------------------------------------------------------------------- training curves


def legend_label(result) -> str:
    """Return a model's label followed by what its records stand for, unless at paper scale."""
    note = _scale_note(result)
    return result.label + f" ({note})" * bool(note)


def _scale_note(result) -> str:
    """What a model's records stand for; empty at paper scale."""
    if result.status == "paper":
        return ""
    if result.smaller and result.records:
        done = max(record.steps for record in result.records)
        ended = "diverged after " * all(record.diverged for record in result.records)
        return f"smaller than the paper's, {ended}{done:,} steps"
    if result.status in ("settled", "reduced"):
        return result.budget.removeprefix("reduced to ")
    return "not yet recorded" if result.status == "missing" else f"{result.status} profile"


def _divergence_note(result) -> str:
    """How many of a model's seeds diverged, where not all of them did."""
    diverged, seeds = sum(record.diverged for record in result.records), len(result.records)
    return f", {diverged} of {seeds} seeds diverged" if 0 < diverged < seeds else ""


def _legend_below(axis, handles: Sequence, labels: Sequence[str], title: str | None = None) -> None:
    """Put a legend under a panel, in as many columns as its labels leave room for."""
    longest = max(map(len, labels), default=0)
    columns = 1 if longest > 45 else 2 if longest > 28 else 3
    below = axis.transAxes + ScaledTranslation(0, -LEGEND_DROP / 72, axis.figure.dpi_scale_trans)
    look = dict(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=columns, fontsize=9)
    axis.legend(handles, labels, title=title, bbox_transform=below, **look)


def _reported(record, name: str) -> tuple[float, float] | None:
    """The point of a record's curve at the weights that were tested; a diverged run has none."""
    curve = () if record.diverged else record.curves.get(name, ())
    metric, direction = record.run.task.selection
    step = record.steps
    if record.run.keep == "best" and record.curves.get(metric):
        sign = 1 if direction == "max" else -1
        step = max(record.curves[metric], key=lambda point: sign * point[1])[0]
    return tuple(min(curve, key=lambda point: abs(point[0] - step))) if curve else None


@_styled
def loss_curves(
    results: Sequence[Result],
    curve: str = "loss",
    *,
    ylabel: str = "loss",
    references: Callable[[object], Mapping[str, float]] | Mapping[str, float] | None = None,
    log_y: bool = True,
) -> Figure:
    """Draw a recorded curve of several results, one panel per task and profile.

    Every seed is a thin line and the median over seeds a strong one, in which a seed that stopped
    earlier goes on at its last value. Marks are the weights that were tested. The legend says what
    each line stands for, and names the results that are not recorded. A panel without a point is
    left out where others have some.

    Args:
        references: name -> value of dotted horizontal lines (a baseline, a threshold), or a
            function of a panel's task that returns them. On a logarithmic axis, values below the
            one whose name ends in "floor" are drawn there.
    """
    table = curves_table(results, curve)
    panels: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        panels.setdefault((result.run.task.title, result.run.profile), []).append(result)
    drawn = set(table["configuration"])  # a run that diverged at once has no point
    panels = {k: v for k, v in panels.items() if drawn & {r.run.id for r in v}} or panels
    styles = looks({result.label: None for result in results})
    most = max(map(len, panels.values()), default=0)
    figure, axes = _panels(len(panels), 3.0 + 0.13 * most)
    for axis, ((title, _), here) in zip(axes[:, 0], panels.items(), strict=True):
        lines = references(here[0].run.task) if callable(references) else references or {}
        floor = next((value for name, value in lines.items() if name.endswith("floor")), None)
        handles = []
        for result in here:
            rows = table[table["configuration"] == result.run.id]
            marks = [_reported(record, curve) for record in result.records]
            marks = pd.DataFrame(filter(None, marks), columns=["step", "value"])
            each = (
                frame.assign(value=frame["value"].clip(lower=floor if log_y else None))
                for frame in (rows, marks)
            )
            handles.append(_curve(axis, *each, styles[result.label]))
        axis.set_yscale("log" if log_y else "linear")
        for name, value in lines.items():  # their names stand right of the panel
            axis.axhline(value, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
            place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9}
            axis.annotate(name.replace(" ", "\n"), (1.01, value), color=GREY, **place)
        axis.margins(y=0.08)
        axis.set(title=title, xlabel="training step", ylabel=ylabel)
        notes = {_scale_note(result) for result in here}
        common = notes.pop() if len(notes) == 1 and len(here) > 1 else ""
        names = [r.label if common else legend_label(r) for r in here]
        labels = [name + _divergence_note(r) for name, r in zip(names, here, strict=True)]
        _legend_below(axis, handles, labels, common or None)
    return figure


def _curve(axis, rows: pd.DataFrame, marks: pd.DataFrame, style: ModelStyle) -> Line2D:
    """Draw one result: thin seeds, their median, marks; return what stands in the legend."""
    look = {"x": "step", "y": "value", "color": style.colour, "ax": axis, "legend": False}
    seeds = rows.pivot_table(index="step", columns="seed", values="value").ffill()
    if len(seeds.columns) > 1:
        thin = {"units": "seed", "estimator": None, "linewidth": 0.7, "alpha": 0.35}
        seaborn.lineplot(rows, **thin, **look)
    if len(rows):
        median = seeds.median(axis=1).rename("value").reset_index()
        seaborn.lineplot(median, linestyle=style.line, **look)
    if len(marks):
        mark = {"marker": style.marker, "s": 45, "zorder": 3, "edgecolor": "white"}
        seaborn.scatterplot(marks, **mark, **look)
    line, marker = (style.line, style.marker) if len(rows) else ("none", "")
    return Line2D([], [], color=style.colour, linestyle=line, marker=marker)


@_styled
def against_parameters(results: Sequence[Result], metric: str, *, ylabel: str) -> Figure:
    """Draw a metric against the parameter count (Figure 7), one line per kind of model and panel.

    A panel is one task; small points are seeds, the line joins their means, and bars are 95 %
    confidence intervals, of accuracies on the logit scale. Results without records are left out.
    """
    rows = pd.DataFrame(
        {
            "title": result.run.task.title,
            "label": re.sub(r" \(n=\d+\)", "", result.label)
            + legend_label(result).removeprefix(result.label),
            "parameters": result.parameters,
            "interval": result.metric(metric),
            "value": result.seeds(metric).tolist(),
        }
        for result in results
        if result.metric(metric)
    )
    panels = rows.groupby("title", sort=False) if len(rows) else ()
    figure, axes = _panels(len(panels), 3.6)
    for axis, (title, here) in zip(axes[:, 0], panels, strict=True):
        handles = {}
        for label, found in here.groupby("label", sort=False):
            found = found.sort_values("parameters")
            style = model_style(re.sub(r" \(.*\)$", "", label))
            means = [each.mean for each in found["interval"]]
            bars = _whiskers(found["interval"])
            look = {"linestyle": style.line, "marker": style.marker, "elinewidth": 1, "capsize": 3}
            handles[label] = axis.errorbar(
                found["parameters"], means, yerr=bars, color=style.colour, **look
            )
            seeds = found.drop(columns="interval").explode("value").infer_objects()
            look = {"color": style.colour, "s": 14, "alpha": 0.6, "ax": axis}
            seaborn.scatterplot(seeds, x="parameters", y="value", **look)
        axis.set(title=title, xlabel="parameters, without biases", ylabel=ylabel, xscale="log")
        _plain_ticks(axis.xaxis)
        _legend_below(axis, list(handles.values()), list(handles))
    return figure


def _whiskers(found: Iterable[Interval]) -> np.ndarray:
    """Return how far intervals reach below and above their means, (2, count); 0 for one seed."""
    ends = [(i.mean, i.mean) if i.low is None else (i.low, i.high) for i in found]
    return np.abs(np.array(ends) - [[i.mean] for i in found]).T


@_styled
def standing(counts: Mapping[str, int], marks: Mapping[str, str]) -> Figure:
    """Draw how many claims have each verdict, as one bar with a legend below it.

    `counts` and `marks` are by verdict, in the order in which they stand in the bar.
    """
    figure, axes = _panels(1, 2.0)
    axis, start, handles = axes[0, 0], 0, []
    colours = seaborn.color_palette("blend:#0173b2,#dddddd,#d55e00", len(counts) - 1).as_hex()
    for (name, count), colour in zip(counts.items(), [*colours, "#bbbbbb"], strict=True):
        bar = axis.barh([0], [count], left=start, color=colour, edgecolor="white", height=0.6)
        handles.append(bar)
        if count:
            axis.annotate(f"{marks[name]} {count}", (start + count / 2, 0.42), ha="center")
        start += count
    axis.set(xlabel="claims of the paper", yticks=[], ylim=(-0.4, 0.8), xlim=(0, max(1, start)))
    axis.spines["left"].set_visible(False)
    labels = [f"{marks[name]} {name}" for name in counts]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)
    return figure


@_styled
def copy_outputs(
    rows: Mapping[str, Sequence[tuple[str, Mapping[str, np.ndarray]]]],
) -> Figure:
    """Draw copy-task outputs as images (Figure 4): the target, then what each model answers.

    A row is a title and traces (name of the model, arrays) of one task, with output (T,
    categories), logits, and target (T,). Only the last steps are shown; the recall window is the
    last 10 of them.
    """
    columns = 1 + max(map(len, rows.values()), default=0)
    figure, axes = _panels(len(rows), 2.2, columns, sharey=True)
    for line, (title, traces) in zip(axes, rows.items(), strict=True):
        for axis in line[len(traces) + 1 :]:
            axis.set_axis_off()
        target = np.asarray(traces[0][1]["target"], dtype=int)
        ends = (len(target) - min(LAST, len(target)) - 0.5, len(target) - 0.5)
        logits = [np.asarray(arrays["output"], dtype=float)[-LAST:] for _, arrays in traces]
        images = [np.eye(logits[0].shape[1])[target[-LAST:]], *(softmax(x, 1) for x in logits)]
        names = [f"{title}: target", *(name for name, _ in traces)]
        for axis, image, name in zip(line, images, names, strict=False):
            extent = (*ends, -0.5, image.shape[1] - 0.5)
            shown = axis.imshow(image.T, extent=extent, vmin=0, vmax=1)
            _small_title(axis, name, columns)
            axis.set_xlabel("time step")
        line[0].set_ylabel("category")
    _colour_bar_below(axes, shown, "probability")
    return figure


def _small_title(axis, title: str, columns: int) -> None:
    axis.set_title("\n".join(textwrap.wrap(title, 84 // columns)), fontsize=9)


def _colour_bar_below(axes: np.ndarray, shown, label: str) -> None:
    look = {"location": "bottom", "shrink": 0.6, "aspect": 40}
    axes.flat[0].figure.colorbar(shown, ax=axes, label=label, **look)


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
        times, look = np.flatnonzero(spikes[:, index]), _numbered(index)
        axes[0].plot(times, np.full(len(times), index + 1), look.marker, color=look.colour)
    axes[0].set(
        title="binary inputs", ylabel="input", yticks=range(1, inputs + 1), ylim=(0.4, inputs + 0.6)
    )
    for axis, (title, states) in zip(axes[1:], fields, strict=True):
        ring = states.shape[1] // inputs
        gap = max(1, ring // 12)  # rows of white between the rings
        rings = states.T.reshape(inputs, ring, steps)
        image = np.pad(rings, ((0, 0), (0, gap), (0, 0)), constant_values=np.nan)
        image = image.reshape(-1, steps)[:-gap]
        shown = axis.imshow(image, vmin=0, cmap="cividis")
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
) -> Figure:
    """Draw named curves over a common x as `points` does, and `theory` thin and dotted."""
    groups = {name: list(zip(x, values, strict=True)) for name, values in curves.items()}
    figure = points([("", ylabel, groups)], xlabel=xlabel, connected=True)
    for name, values in (theory or {}).items():
        figure.axes[0].plot(x, values, color=GREY, linestyle=":", linewidth=1.4, label=name)
    _legend_below(figure.axes[0], *figure.axes[0].get_legend_handles_labels())
    return figure


@_styled
def points(
    panels: Sequence[tuple[str, str, Mapping[str, Sequence[tuple[float, float]]]]],
    *,
    xlabel: str,
    connected: bool = False,
    log_x: bool = False,
) -> Figure:
    """Draw named groups of (x, y) points; panels are (title, name of the y axis, groups).

    A group named as a model has that model's look, whatever follows its label after a comma.
    `connected` joins the points of a group by its line.
    """
    figure, axes = _panels(len(panels), 3.2)
    for axis, (title, ylabel, groups) in zip(axes[:, 0], panels, strict=True):
        styles = looks(groups)
        for name, pairs in groups.items():
            style = styles[name]
            axis.plot(
                *zip(*pairs, strict=True),
                color=style.colour,
                linestyle=style.line if connected else "none",
                marker=style.marker,
                markevery=max(1, len(pairs) // 12) if connected else 1,
                label=name,
            )
        if log_x:
            axis.set_xscale("log")
        axis.margins(0.08)
        axis.set(title=title, ylabel=ylabel, xlabel=xlabel)
        if axis is axes[-1, 0] or list(groups) != list(panels[-1][2]):
            _legend_below(axis, *axis.get_legend_handles_labels())
    return figure


@_styled
def intervals(
    panels: Sequence[tuple[str, str, Mapping[str, Sequence[float]]]],
) -> Figure:
    """Draw values over seeds by name: a dot per seed, and their mean with its 95 % interval.

    Panels are (title, name of the axis, name -> values); an axis in "(%)" has its intervals on the
    logit scale. Names read from the top.
    """
    height = max(0.27 * max(len(groups) for _, _, groups in panels) + 1.0, 1.6)
    figure, axes = _panels(len(panels), height)
    for axis, (title, xlabel, groups) in zip(axes[:, 0], panels, strict=True):
        for row, (name, values) in enumerate(groups.items()):
            style = model_style(name)
            axis.plot(values, [row] * len(values), ".", color=style.colour, alpha=0.6)
            middle = interval(values, "logit" if xlabel.endswith("(%)") else "linear")
            bars = None if middle.low is None else _whiskers([middle])
            look = {"color": style.colour, "marker": style.marker, "capsize": 3}
            axis.errorbar(middle.mean, row, xerr=bars, **look)
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
            look = _numbered(index)
            measured = [np.nan if ratio is None else ratio for ratio in ratios]
            axis.plot(measured, range(len(names)), look.marker, color=look.colour, label=way)
        axis.axvline(1, color=GREY, linestyle=":", linewidth=1.2, label="the loop")
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
            look = _numbered(index)
            measured, line = fit["relative_time"], fit["relative_line"]
            axis.plot(fit["values"], measured, look.marker, color=look.colour, label=device)
            axis.plot(fit["values"], line, ":", color=look.colour, label="straight line")
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
        shown = axis.imshow(image, vmax=vmax)
        axis.set(title=title, xlabel="time step", ylabel=ylabel)
        extend = "neither" if vmax is None else "max"
        figure.colorbar(shown, ax=axis, label="activity", extend=extend)
    return figure


@_styled
def space_time_power(panels: Sequence[tuple[str, Spectrum, float | None]]) -> Figure:
    """Draw space-time spectra with the line f_t = nu f_x: each panel is (title, spectrum, nu).

    Power is relative to its mean over space, on a logarithmic scale common to all panels;
    nu None draws no line. The line wraps where f_t leaves the sampled band.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // 2)
    figure, axes = _panels(rows, 3.4, columns, sharex=True, sharey=True)
    images = [np.log10(np.maximum(spectrum.power, 1e-3)) for _, spectrum, _ in panels]
    high = max(1.0, max(np.percentile(image, 99.8) for image in images))
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, image, (title, spectrum, velocity) in zip(axes.flat, images, panels, strict=False):
        ends = [
            end
            for axes_of in (spectrum.spatial, spectrum.temporal)
            for end in (axes_of[0] - 0.5 / len(axes_of), axes_of[-1] + 0.5 / len(axes_of))
        ]
        shown = axis.imshow(image, extent=ends, vmin=-1, vmax=high, cmap="magma")
        if velocity is not None:
            f_x = np.linspace(-0.5, 0.5, 1001)
            f_t = (velocity * f_x + 0.5) % 1.0 - 0.5
            f_t[1:][np.abs(np.diff(f_t)) > 0.5] = np.nan  # no stroke across the wrap
            axis.plot(f_x, f_t, color="white", linestyle=(0, (4, 4)), linewidth=1.2)
        _small_title(axis, title, columns)
    for axis in axes.flat[max(0, len(panels) - columns) : len(panels)]:
        axis.set_xlabel("$f_x$ (cycles per site)")
        axis.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel("$f_t$ (cycles per step)")
    _colour_bar_below(axes, shown, "power relative to unrelated sites (log10)")
    return figure
