"""The style of the book and the files it gives."""

from dataclasses import replace
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from samples import make_record

from companion.evidence import memory
from companion.evidence.waves import space_time_power
from companion.page import figures, film
from companion.records.table import Result
from companion.runs.run import Run, irnn_config, wrnn_config
from wrnn import WrnnError
from wrnn.tasks import CopyTask

COPY = CopyTask(10)
WRNN, SMALL, LARGE = wrnn_config(100, 6), irnn_config(100), irnn_config(625)
SPIKES = np.eye(3)[[0, 2, 1, 1]]
FIT = {"values": [10, 100], "relative_time": [1.0, 9.0], "relative_line": [1.1, 8.9]}
COUNTS = {"reproduced": 3, "holds so far": 0, "open": 2}
MARKS = {"reproduced": "A", "holds so far": "B", "open": "C"}
WAYS = {"fused": [3.0, 2.0, None], "torch.nn.RNN": [None, None, 1.5]}
GROUPS = {"wRNN, trained": [(1, 2), (3, 4)], "other": [(2, 2)]}


def result(model, status="paper", task=COPY, seeds=1, values=(1e-2, 1e-4, 0.0), **metrics):
    """One configuration with the same curve for every seed; values of `metrics` are by seed."""
    run = Run(task, model, status if status in ("quick", "smoke") else "paper", steps=60_000)
    curve = {"loss": [[10 * (i + 1), value] for i, value in enumerate(values)]}
    rows = [
        {"seed": seed, "record": make_record(replace(run, seed=seed, steps=20_000), curves=curve)}
        | {name: by_seed[seed] for name, by_seed in metrics.items()}
        for seed in range(seeds)
    ]
    if status == "missing":
        rows = [{"seed": 0, "record": None}]
    return Result(run, pd.DataFrame(rows).assign(status=status, smaller=""))


def texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def draw_all():
    generator = np.random.default_rng(0)
    spikes = (generator.random((20, 3)) < 0.1).astype(float)
    states = memory.simulate(memory.wave_field(12), spikes)
    spectrum = space_time_power(states)
    trace = {"output": generator.standard_normal((30, 10)), "target": np.arange(30) % 10}
    law = {"theory": {"law": [0, 1]}, "xlabel": "laps", "ylabel": "error"}
    return {
        "loss": figures.loss_curves([result(WRNN), result(SMALL, "missing")]),
        "copy": figures.copy_outputs({"lag 20": [("wRNN", trace)]}),
        "field": figures.wave_field(spikes, [("wave", states)]),
        "hidden": figures.hidden_states([("wRNN", states, "site")]),
        "power": figures.space_time_power([("a", spectrum, 1.0), ("b", spectrum, None)]),
        "standing": figures.standing(COUNTS, MARKS),
        "intervals": figures.intervals([("copy", "loss", {"wRNN": [1.0, 2.0], "GRU": [3.0]})]),
        "speedups": figures.speedups([("a CPU", ["copy", "adding", "iRNN"], WAYS)]),
        "growth": figures.growth([("steps", {"a CPU": FIT}), ("sites", {"a CPU": FIT})]),
        "lines": figures.lines([1, 2], {"wave": [0, 1]}, **law),
        "points": figures.points([("a", "speed", GROUPS)], xlabel="step", log_x=True),
    }


@pytest.fixture(scope="module")
def drawn():
    return draw_all()


# ------------------------------------------------------------------------- what all have in common


def test_png_bytes_are_the_same_on_repeat_and_dark_pages_have_their_own(tmp_path, drawn):
    again = draw_all()
    figures.save(again["loss"], tmp_path / "loss.png")  # a second time is below
    for name in drawn:
        first = figures.save(drawn[name], tmp_path / "first" / f"{name}.png").read_bytes()
        second = figures.save(again[name], tmp_path / "again" / f"{name}.png").read_bytes()
        assert first.startswith(b"\x89PNG") and first == second, name
        assert b"Software" not in first and b"tEXt" not in first
        dark = (tmp_path / "first" / f"{name}-dark.png").read_bytes()
        assert dark != first and dark == (tmp_path / "again" / f"{name}-dark.png").read_bytes()
    corner = matplotlib.image.imread(tmp_path / "first" / "loss-dark.png")[0, 0, :3]
    assert corner == pytest.approx(to_rgb(figures.DARK_PAGE), abs=0.01)


def test_text_can_be_read_and_no_line_disappears_on_light_and_on_dark_pages(drawn):
    for name, figure in drawn.items():
        for face, page in ((figure, "white"), (figures.for_dark_pages(figure), figures.DARK_PAGE)):
            assert to_rgb(face.get_facecolor()) == pytest.approx(to_rgb(page))
            words = [text for text in face.findobj(Text) if text.get_text().strip()]
            least = min(figures.contrast(text.get_color(), page) for text in words)
            assert least >= 4.5, (name, page)
        for axis in face.axes:
            for line in [] if axis.images else axis.lines:
                assert figures.contrast(line.get_color(), figures.DARK_PAGE) >= 2.9, name
    assert figures.contrast("black", "white") == pytest.approx(21)
    assert figures.contrast(figures.COLORBLIND[0], figures.DARK_PAGE) < 4.5
    assert figures.on_dark((0, 0, 0, 0)) == (0, 0, 0, 0)


def test_legends_touch_neither_panels_nor_labels(drawn):
    for name, figure in drawn.items():
        figure.draw_without_rendering()
        legends = [*figure.legends, *filter(None, (axis.get_legend() for axis in figure.axes))]
        boxes = [axis.get_window_extent() for axis in figure.axes]
        for axis in figure.axes:
            labels = (axis.xaxis.label, axis.yaxis.label, axis.title, *axis.get_xticklabels())
            boxes += [text.get_window_extent() for text in labels if text.get_text()]
        for legend in legends:
            assert not legend.get_window_extent().count_overlaps(boxes), name


def test_every_axis_is_labelled_and_text_is_large_enough(drawn):
    for name, figure in drawn.items():
        assert figure.get_size_inches()[0] == figures.WIDTH
        for axis in (axis for axis in figure.axes if axis.axison):
            place = axis.get_subplotspec()  # none of a colour bar
            inner = place is not None and place.colspan.start > 0
            inner = inner or name in ("standing", "intervals", "speedups")  # names instead
            assert axis.get_ylabel() or (axis.get_xlabel() if place is None else inner), name
            assert all(label.get_fontsize() >= 10 for label in axis.get_xticklabels()), name


def test_nothing_to_draw_is_one_clear_error():
    with pytest.raises(WrnnError, match="nothing to draw"):
        figures.loss_curves([])


def test_every_model_has_a_look_of_its_own_at_every_size():
    styles, style = figures.MODEL_STYLES, figures.model_style
    assert len({s.marker for s in styles.values()}) == len(styles)
    assert style("iRNN (n=100)") == style("iRNN (n=64)") != style("iRNN (n=625)")
    assert style("wRNN \N{MINUS SIGN} V-init") == styles["wRNN - V-init"]
    assert style("LSTM (n=48, forget bias 1)") == style("LSTM (n=5)")
    assert style("2 LRU blocks (width 32)") == style("2 LRU blocks (width 8)") == styles["LRU"]
    assert style("a new model") == figures.OTHER_MODEL


# -------------------------------------------------------------------------------------- each figure


def test_legend_says_what_each_line_stands_for_and_a_common_scale_once():
    results = [result(WRNN), result(SMALL, "reduced"), result(LARGE, "missing")]
    (axis,) = figures.loss_curves(results).axes
    assert texts(axis.get_legend()) == [
        "wRNN",
        "iRNN (n=100) (20,000 of 60,000 steps)",
        "iRNN (n=625) (not yet recorded)",
    ]
    (axis,) = figures.loss_curves([result(model, "quick") for model in (WRNN, SMALL)]).axes
    assert texts(axis.get_legend()) == ["wRNN", "iRNN (n=100)"]
    assert axis.get_legend().get_title().get_text() == "quick profile"


def test_legend_says_of_how_many_seeds_the_training_diverged():
    def small(model, diverged=0):
        made = result(model, seeds=3)
        rows = made.rows.assign(status="quick", smaller="fewer units")
        for seed in range(diverged):
            loss = {"loss": [[10, 1.0]]}
            run = rows["record"][seed].run
            rows.at[seed, "record"] = make_record(run, curves=loss, diverged=True, steps=10)
        return replace(made, rows=rows)

    (axis,) = figures.loss_curves([small(WRNN), small(SMALL, diverged=1)]).axes
    assert texts(axis.get_legend()) == ["wRNN", "iRNN (n=100), 1 of 3 seeds diverged"]
    assert axis.get_legend().get_title().get_text() == "smaller than the paper's, 20,000 steps"
    marks = sorted(len(marks.get_offsets()) for marks in axis.collections)
    assert marks[-2:] == [2, 3]  # the seeds that were tested
    (axis,) = figures.loss_curves([small(SMALL, diverged=3)]).axes
    note = "smaller than the paper's, diverged after 10 steps"
    assert texts(axis.get_legend()) == [f"iRNN (n=100) ({note})"]


def test_a_run_that_diverged_before_its_first_point_has_no_empty_panel():
    diverged = result(WRNN, task=CopyTask(20), values=())
    (axis,) = figures.loss_curves([result(WRNN), diverged]).axes
    assert axis.get_title(loc="left") == COPY.title
    beside = result(SMALL, task=CopyTask(20))
    assert len(figures.loss_curves([result(WRNN), diverged, beside]).axes) == 2


def test_points_against_parameters_are_sorted_joined_by_kind_and_never_beyond_100_percent():
    sizes = (wrnn_config(40, 6), [99.0, 96.0]), (wrnn_config(10, 6), [70.0, 80.0])
    results = [result(model, accuracy=values, seeds=2) for model, values in sizes]
    results += [result(irnn_config(30), accuracy=[50.0]), result(LARGE, "missing")]
    (axis,) = figures.against_parameters(results, "accuracy", ylabel="accuracy (%)").axes
    assert texts(axis.get_legend()) == ["wRNN", "iRNN"]
    wave, other = (bars[0].get_xydata() for bars in axis.containers)
    assert wave[:, 0].tolist() == sorted(wave[:, 0]) and len(wave) == 2 and len(other) == 1
    ends = [bars[2][0].get_segments() for bars in axis.containers]
    assert all(0 < s[:, 1].min() < s[:, 1].max() < 100 for s in ends[0])
    assert ends[1][0][:, 1].tolist() == [50.0, 50.0]  # one seed has no interval


def test_curves_have_a_panel_per_task_thin_seeds_a_median_and_the_reported_weights():
    results = [result(WRNN, seeds=3), result(SMALL, task=CopyTask(20))]
    figure = figures.loss_curves(results, ylabel="cross-entropy (nats)")
    first, second = figure.axes
    titles = [axis.get_title(loc="left") for axis in (first, second)]
    assert titles == [task.title for task in (COPY, CopyTask(20))]
    widths = [line.get_linewidth() for line in first.lines]
    assert len(first.lines) == 4 and len(second.lines) == 1 and max(widths[:3]) < widths[3]
    marks = first.collections[-1]
    assert marks.get_offsets().tolist() == [[30, 0]] * 3  # the last weights of every seed
    assert first.get_xlabel() == "training step" and first.get_ylabel() == "cross-entropy (nats)"


def test_a_seed_that_stopped_earlier_does_not_cut_the_curve():
    long = result(WRNN, seeds=2, values=(1.0, 0.5, 0.25, 0.125))
    early = replace(long.records[1], curves={"loss": [[10, 1.0], [20, 0.75]]})
    rows = long.rows.assign(record=[long.records[0], early])
    (axis,) = figures.loss_curves([Result(long.run, rows)], log_y=False).axes
    median = axis.lines[-1].get_xydata().tolist()
    assert median == [[10, 1.0], [20, 0.625], [30, 0.5], [40, 0.4375]]


def test_zero_is_drawn_at_the_floor_on_a_logarithmic_axis():
    references = {"memoryless baseline": 1e-2, "floor": 1e-12}
    (axis,) = figures.loss_curves([result(WRNN)], references=lambda task: references).axes
    assert axis.lines[0].get_ydata().tolist() == [1e-2, 1e-4, 1e-12]
    assert [text.get_text() for text in axis.texts] == ["memoryless\nbaseline", "floor"]


def test_values_below_another_reference_are_drawn_where_they_are():
    (axis,) = figures.loss_curves([result(WRNN)], references={"solved": 5e-3}).axes
    assert axis.lines[0].get_ydata().tolist() == [1e-2, 1e-4, 0]
    assert axis.get_ylim()[0] < 1e-4


def test_a_bar_shows_where_all_claims_stand(drawn):
    (axis,) = drawn["standing"].axes
    assert [bar.get_width() for bars in axis.containers for bar in bars] == [3, 0, 2]
    assert [text.get_text() for text in axis.texts] == ["A 3", "C 2"]
    assert texts(axis.figure.legends[0]) == ["A reproduced", "B holds so far", "C open"]


def test_copy_outputs_show_probabilities_of_the_last_steps():
    target = np.repeat([0, 1, 2], 10)
    trace = {"output": 50 * np.eye(4)[target], "target": target}
    figure = figures.copy_outputs({"lag 20": [("wRNN", trace)]})
    left, right = (axis.images[0].get_array() for axis in figure.axes[:2])
    assert left.shape == (4, 20) and np.allclose(left, right)
    assert left[1].sum() == left[2].sum() == 10


def test_points_have_the_look_of_their_model(drawn):
    (axis,) = drawn["points"].axes
    model, _ = axis.lines
    assert model.get_xydata().tolist() == [[1, 2], [3, 4]] and model.get_linestyle() == "None"
    assert model.get_marker() == figures.MODEL_STYLES["wRNN"].marker
    assert texts(axis.get_legend()) == ["wRNN, trained", "other"]
    (axis,) = figures.points([("", "y", GROUPS)], xlabel="x", connected=True).axes
    assert axis.lines[0].get_linestyle() == "-"


def test_speedups_has_a_row_per_configuration_and_a_mark_per_way(drawn):
    (axis,) = drawn["speedups"].axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["copy", "adding", "iRNN"]
    assert texts(axis.get_legend()) == ["fused", "torch.nn.RNN", "the loop"]
    fused = axis.get_lines()[0].get_xydata()
    np.testing.assert_array_equal(fused, [[3.0, 0], [2.0, 1], [np.nan, 2]])


def test_growth_draws_what_was_measured_and_its_line(drawn):
    figure = drawn["growth"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["steps", "sites"]
    measured, line = (drawn.get_xydata().tolist() for drawn in figure.axes[0].get_lines())
    assert measured == [[10, 1.0], [100, 9.0]] and line == [[10, 1.1], [100, 8.9]]
    assert texts(figure.legends[0]) == ["a CPU", "straight line"]


def test_intervals_show_every_seed_and_the_mean_with_its_interval():
    values = [1.0, 2.0, 3.0]
    (axis,) = figures.intervals([("copy", "loss", {"wRNN": values, "GRU (n=3)": [5.0]})]).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["wRNN", "GRU (n=3)"]
    assert axis.get_xlabel() == "loss" and axis.yaxis_inverted()
    assert any(list(line.get_xdata()) == values for line in axis.lines)
    wide, single = axis.containers
    (segment,) = wide.lines[2][0].get_segments()
    assert wide.lines[0].get_xdata() == [2.0]
    assert segment[:, 0] == pytest.approx([2 - 2.484, 2 + 2.484], abs=1e-3)  # t of 2 degrees
    assert len(single.lines[2]) == 0 and single.lines[0].get_xdata() == [5.0]


SVG = "{http://www.w3.org/2000/svg}"


def test_a_film_has_a_frame_per_step_in_which_the_active_sites_are_drawn():
    states = memory.simulate(memory.wave_field(6), SPIKES)
    picture = ElementTree.fromstring(film.rings("film-x", SPIKES, [("a < b", states)]))
    frames = [group for group in picture.iter(f"{SVG}g") if group.get("class").startswith("frame")]
    delays = [group.get("style").removeprefix("animation-delay: ") for group in frames]
    assert delays == ["0s", "0.4s", "0.8s", "1.2s"]
    dots = [[c for c in group.iter(f"{SVG}circle") if c.get("fill") != "none"] for group in frames]
    assert [len(row) for row in dots] == [1, 2, 3, 4]
    assert len({(d.get("cx"), d.get("cy")) for d in dots[-1]}) == 4  # no two spikes collide
    assert "last" in frames[-1].get("class")
    with pytest.raises(WrnnError, match="do not fit 4 steps, 3 inputs"):
        film.rings("film-x", SPIKES, [("waves", np.zeros((5, 18)))])
