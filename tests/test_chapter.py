"""A chapter's results, with and without records, and the files that it writes."""

import re
from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
from samples import make_record, result_of

from companion.evidence import published as paper
from companion.page import chapter
from companion.records.files import Store
from companion.runs.experiments import find_experiments
from companion.runs.run import Run, irnn_config
from wrnn.errors import WrnnError
from wrnn.tasks import AddingTask


def put(store, run, **metrics):
    curves = {"loss": [[1, 2.0], [2, 1.0]]}
    store.put(make_record(run, metrics=metrics, curves=curves, device="test device"))


def runs(name, profile):
    return find_experiments([name])[0].runs(profile)


@pytest.fixture
def make_page(tmp_path, monkeypatch):
    """Make a chapter on empty stores that writes below tmp_path."""
    monkeypatch.setenv("WRNN_BOOK", str(tmp_path / "book"))
    stores = {"committed": Store(tmp_path / "records"), "local": Store(tmp_path / "local")}

    def make(profile="paper", train=False, **options):
        return chapter.Chapter(profile, "cpu", train=train, **stores, **options)

    make.folder = tmp_path / "book"
    return make


@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
def test_without_records_everything_is_named_as_missing(make_page, profile):
    page = make_page(profile)
    recorded = page.recorded("fig3")
    assert len(recorded) == 12 and {result.status for result in recorded} == {"missing"}
    assert page.shown("fig3") == []
    assert page.value(recorded[0], "cross_entropy") == "not yet recorded"
    missing = page.missing("fig3")
    assert "copy task (lag 90" in missing and "iRNN (n=625)" in missing
    assert "`wrnn run fig3 --profile paper --device cuda`" in missing


def test_quick_reference_stands_in_under_its_own_label(make_page):
    page = make_page("paper")
    quick = runs("fig3", "quick")
    put(page.committed, quick[0], cross_entropy=0.5)
    (result,) = page.shown("fig3")
    assert result.status == "quick" and "quick" in page.value(result, "cross_entropy")
    assert all(result.status == "missing" for result in page.recorded("fig3"))


def test_no_stand_in_where_all_is_recorded(make_page):
    page = make_page("paper")
    for run in runs("fig3", "paper"):
        put(page.committed, run, cross_entropy=1e-9)
    put(page.committed, runs("fig3", "quick")[0], cross_entropy=0.5)
    assert {result.status for result in page.shown("fig3")} == {"paper"}
    assert page.missing("fig3") == "Every run of `fig3` is recorded at paper scale."


def test_committed_and_local_records_do_not_mix(make_page):
    page = make_page("quick")
    put(page.committed, runs("fig3", "quick")[0], cross_entropy=0.5)
    assert all(result.status == "missing" for result in page.this_run("fig3"))
    put(page.local, runs("fig4", "quick")[1], cross_entropy=0.5)
    assert [r.status for r in make_page("quick").this_run("fig4")] == [
        "missing",
        "quick",
        "missing",
    ]


def test_train_records_what_is_missing_and_only_that(make_page):
    page = make_page("smoke", train=True)
    first = page.this_run("fig3")
    assert [result.status for result in first] == ["smoke"] * 3
    files = {path: path.stat().st_mtime_ns for path in page.local.folder.glob("*.json")}
    assert len(files) == 3 and not list(page.committed.folder.glob("*"))
    again = make_page("smoke", train=True)
    assert again.this_run("fig3")[0].records == first[0].records
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_cells_say_spread_scale_and_origin(make_page, capsys):
    page = make_page("paper")
    run = runs("table1", "paper")[0]
    put(page.committed, run, mse=4e-6, solved_step=None)
    (result,) = (r for r in page.recorded("table1") if r.records)
    assert page.value(result, "mse") == "4 × 10⁻⁶ (n = 1) [a]"
    assert page.value(result, "solved_step") == "never (n = 1) [a]"
    page.table("tab-x", [{"value": page.value(result, "mse")}], "A table.")
    text = (make_page.folder / "generated" / "tab-x.md").read_text()
    assert text.startswith(":::{table} A table.\n:name: tab-x\n\n| value |\n")
    assert "| 4 × 10⁻⁶ |" in text, "the note says how many seeds"
    assert "Throughout: paper scale, test device, 1 seed." in text
    assert "Throughout: paper scale, test device, 1 seed." in capsys.readouterr().out
    page.table("tab-y", [{"value": "1"}], "Another.")
    assert "Throughout" not in (make_page.folder / "generated" / "tab-y.md").read_text()


def test_what_most_cells_have_in_common_is_said_once():
    notes = {"odd": "a", "quick profile, 3 seeds": "b", "another": "c"}
    cells = ["1 (n = 1) [a]", "2 [1.5, 2.5] (quick, n = 3: 1, 2, 3) [b]", "3 (quick, n = 3) [b]"]
    cells += ["4 (reduced, n = 1) [c]", "5 (quick, 2 of 3 seeds: 4, 6) [b]", "see [d] and [1, 2]"]
    rows, said = chapter.said_once([{"x": text, "y": 7} for text in cells], notes)
    assert [row["x"] for row in rows] == [
        "1 (n = 1) [a]",
        "2 [1.5, 2.5] (1, 2, 3)",
        "3",
        "4 (reduced, n = 1) [b]",
        "5 (quick, 2 of 3 seeds: 4, 6)",
        "see [d] and [1, 2]",
    ]
    assert [row["y"] for row in rows] == [7] * 6
    assert said == ["Where no letter stands: quick profile, 3 seeds.", "[a] odd.", "[b] another."]


def test_marks_that_have_nothing_in_common_stay():
    rows = [{"x": f"{letter} [{letter}]"} for letter in "abc"]
    notes = {"one": "a", "two": "b", "three": "c"}
    assert chapter.said_once(rows, notes) == (rows, ["[a] one.", "[b] two.", "[c] three."])
    assert chapter.said_once([{"x": "plain"}], {}) == ([{"x": "plain"}], [])


def test_a_cell_can_stand_on_several_notes_of_which_each_is_said_once():
    notes = {f"{n} steps, a device (x, {n}), 1 seed": "zabc"[n] for n in (1, 2, 3)}
    cells = ("1 [a, b]", "2 [c, a]", "3 [b]")
    rows, said = chapter.said_once([{"x": text} for text in cells], notes)
    assert [row["x"] for row in rows] == ["1 [a, b]", "2 [a, c]", "3 [b]"]
    assert said == [
        "Throughout: 1 seed.",
        "[a] 1 steps, a device (x, 1).",
        "[b] 2 steps, a device (x, 2).",
        "[c] 3 steps, a device (x, 3).",
    ]
    rows, said = chapter.said_once([{"x": "1 [a, b]"}, {"x": "2 [a, b]"}, {"x": "3 [b]"}], notes)
    assert [row["x"] for row in rows] == ["1", "2", "3 [a]"]
    assert said[1:] == [
        "Where no letter stands: 1 steps, a device (x, 1); 2 steps, a device (x, 2).",
        "[a] 2 steps, a device (x, 2).",
    ]


def test_what_all_descriptions_say_is_named_once():
    assert chapter.in_common(["quick, CPU, 1 seed", "paper, CPU, 1 seed"]) == (
        "CPU, 1 seed",
        ["quick", "paper"],
    )
    for texts in (["quick, CPU"], ["quick, CPU", "quick"], []):
        assert chapter.in_common(texts) == ("", texts), "nothing is left of one of them"


def test_seeds_that_never_solve_are_counted(make_page):
    page = make_page("paper")
    run = runs("table1", "paper")[0]
    put(page.committed, run, mse=0.01, solved_step=2000)
    put(page.committed, replace(run, seed=1, trace=False), mse=0.2, solved_step=None)
    (result,) = (r for r in page.recorded("table1") if r.records)
    assert page.value(result, "solved_step") == "2,000 (1 of 2 seeds) [a]"


def test_a_cell_has_the_interval_its_seeds_and_a_bound_at_the_floor(make_page):
    page = make_page("paper")
    run = runs("fig3", "paper")[0]
    for seed, loss in enumerate((1e-3, 1e-2)):
        seeded = replace(run, seed=seed, trace=not seed)
        put(page.committed, seeded, cross_entropy=loss, printed_mse=0.0)
    (result,) = (r for r in page.recorded("fig3") if r.records)
    shown = page.value(result, "cross_entropy")
    assert shown.startswith("0.00316 [") and shown.endswith("(n = 2: 0.001, 0.01) [a]")
    assert page.value(result, "printed_mse").startswith("≤ 2.38 × 10⁻⁹ (n = 2) [")


def test_figure_writes_the_same_bytes_twice(make_page):
    page = make_page("paper")
    put(page.committed, runs("fig3", "quick")[0], cross_entropy=0.5)
    contents = []
    for _ in range(2):
        figure, axis = plt.subplots()
        axis.plot([0, 1])
        page.figure("fig-x", figure, alt="A line.", caption="It rises.", results=page.shown("fig3"))
        plt.close(figure)
        contents.append((make_page.folder / "figures" / "fig-x.png").read_bytes())
    assert contents[0] == contents[1] and contents[0].startswith(b"\x89PNG")
    text = (make_page.folder / "generated" / "fig-x.md").read_text()
    assert text.startswith(
        "```{figure} figures/fig-x.png\n:name: fig-x\n:alt: A line.\n\nIt rises. "
    )
    assert "quick profile, test device, 1 seed; {ref}`1 record <tab-records>`." in text


@pytest.mark.parametrize("columns", [2, 3])
def test_a_figure_of_many_columns_is_marked_as_wide(make_page, columns):
    figure, _ = plt.subplots(1, columns)
    make_page().figure("fig-x", figure, alt="Panels.", caption="Panels.")
    plt.close(figure)
    text = (make_page.folder / "generated" / "fig-x.md").read_text()
    assert (":class: wide\n" in text) == (columns == 3)


def test_figure_needs_a_description(make_page):
    with pytest.raises(WrnnError, match="alt must be one line"):
        make_page().figure("fig-x", None, alt=" ", caption="c")


def test_curves_and_comparisons_show_records_or_what_is_missing(make_page, capsys):
    page = make_page("paper")
    options = {"alt": "Loss.", "caption": "Loss falls.", "notice": ("Loss curves", "fig3")}
    columns = {"model": lambda r: r.label, "loss": "cross_entropy"}
    page.curves("fig-x", page.shown("fig3"), **chapter.COPY, **options)
    page.compare("tab-x", page.shown("fig3"), columns, "A table.", ("Losses", "fig3"))
    printed = capsys.readouterr().out
    assert printed.count("wrnn run fig3 --profile paper") == 2 and "Losses" in printed
    page.compare("tab-x", page.shown("fig3"), columns, "A table.")
    assert capsys.readouterr().out.splitlines()[-1] == "A table"
    put(page.committed, runs("fig3", "quick")[0], cross_entropy=0.5)
    page = make_page("paper")
    page.curves("fig-x", page.shown("fig3"), **chapter.COPY, **options)
    page.compare("tab-x", page.shown("fig3"), columns, "A table.", ("Losses", "fig3"))
    generated = make_page.folder / "generated"
    assert "figures/fig-x.png" in (generated / "fig-x.md").read_text()
    assert "| wRNN | 0.5 |" in (generated / "tab-x.md").read_text()


def test_smaller_networks_are_shown_with_what_they_are(make_page):
    generated = make_page.folder / "generated"
    page = make_page("paper")
    page.smaller("x", "cifar10_cpu", "noisy CIFAR10")
    for kind in ("tab", "fig"):
        notice = (generated / f"{kind}-x.md").read_text()
        assert "wrnn run cifar10_cpu --profile paper --device cpu" in notice
    run = runs("cifar10_cpu", "paper")[0]
    put(page.committed, replace(run, task=replace(run.task, source="folder")), accuracy=31.25)
    page = make_page("paper")
    page.smaller("x", "cifar10_cpu", "noisy CIFAR10")
    table = (generated / "tab-x.md").read_text()
    assert "| 4 × 128 | 54,320 | 2,000 | 31.2 | 1 |" in table
    assert (
        "Throughout: real CIFAR10, less noise, smaller models and fewer steps than the paper's, "
        in table
    )
    assert "noisy sequential CIFAR10 (JPEG, T = 200), test device, 1 seed." in table
    assert "figures/fig-x.png" in (generated / "fig-x.md").read_text()


def test_what_is_recorded_of_the_papers_grid_is_found(make_page):
    page = make_page("paper")
    assert page.searched("fig3") == []
    planned = runs("fig3", "paper")[0]
    for run in (planned, replace(planned, learning_rate=1e-2, clip=10.0, trace=False)):
        put(page.committed, run, cross_entropy=0.5)
    put(page.committed, replace(planned, learning_rate=0.5), cross_entropy=0.5)  # not in the grid
    found = make_page("paper").searched("fig3")
    assert [(r.run.learning_rate, r.run.clip) for r in found] == [(1e-3, 0.0), (1e-2, 10.0)]


def test_the_last_step_stands_in_for_the_test_set(make_page):
    page = make_page("paper")
    put(page.committed, runs("fig3", "quick")[0], loss=0.5, cross_entropy=0.4)
    (result,) = page.shown("fig3")
    last = chapter.at_last_step(result)
    assert last.metric("loss").mean == 1.0  # the end of the curve
    assert last.metric("cross_entropy") is None  # there is no such curve
    assert result.metric("loss").mean == 0.5 and last.description == result.description


def test_tables_of_the_paper_by_model():
    table = chapter.by_model("table2")
    assert set(table["wrnn-16c"]) == {"units", "parameters", "smnist", "psmnist"}
    assert chapter.cited(table["wrnn-16c"]["smnist"]) == table["wrnn-16c"]["smnist"].model
    lstm = table["lstm"]["smnist"]
    assert chapter.cited(lstm) == f"{lstm.model} {{cite}}`{lstm.source}`"
    assert list(chapter.by_model("table4")["wrnn"]) == ["T=0", "T=10", "T=30", "T=80"]


def test_findings_cover_every_claim_and_train_nothing(make_page):
    page = make_page("smoke", train=True)
    findings = page.findings()
    assert len(findings) > 20 and not list(page.local.folder.glob("*"))
    page.verdicts("adding", "Claims on the adding task")
    text = (make_page.folder / "generated" / "tab-adding-claims.md").read_text()
    assert "{table} Claims on the adding task, with verdicts computed from the records." in text
    rows = [line for line in text.splitlines() if line.startswith("| · ")]
    assert len(rows) == len(page.findings("adding"))
    assert rows[0].startswith("| · open | Adding: the wRNN solves every length |")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "huge"}, "unknown profile 'huge': use smoke, quick, paper"),
        ({"device": "tpu"}, "unknown device 'tpu': use auto, cpu or cuda"),
        ({"seeds": 0}, "seeds is 0: expected 1 to 5"),
        ({"seeds": "two"}, "seeds is 'two': expected 1 to 5"),
        ({"train": "no"}, "train is 'no': expected True or False"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(WrnnError, match=re.escape(message)):
        chapter.Chapter(**({"device": "cpu"} | arguments))


def test_unknown_experiment(make_page):
    with pytest.raises(WrnnError, match="unknown experiment 'fig99'"):
        make_page().this_run("fig99")


def test_printed_numbers():
    def text(number_id):
        return chapter.printed(paper.published(number_id))

    assert text("table2/indrnn-6l/smnist") == "99.0"
    assert text("claim/fig3/irnn-625/parameter-ratio") == "nearly 40"
    assert text("table1/irnn/T=700/solved_iter") == "—"


def test_unknown_injected_parameter():
    defaults = 'profile: str = "quick"  # smoke, quick or paper\nseeds: int = 1'
    chapter.refuse_unknown_parameters(["", defaults, '# Parameters\nprofile = "paper"\n'])
    with pytest.raises(
        WrnnError, match=r"unknown parameter 'profil'; this chapter's: profile, seeds"
    ):
        chapter.refuse_unknown_parameters(["", defaults, '# Parameters\nprofil = "paper"\n'])


def test_plain_papermill_stops_at_an_unknown_parameter(tmp_path, make_page):
    nbformat, papermill = pytest.importorskip("nbformat"), pytest.importorskip("papermill")
    source = "from companion.page import chapter\npage = chapter.Chapter(profile, train=False)"
    cells = [
        nbformat.v4.new_code_cell('profile: str = "quick"', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(source),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python"}
    options = {"progress_bar": False, "cwd": tmp_path}
    with pytest.raises(papermill.PapermillExecutionError, match="unknown parameter 'profil'"):
        papermill.execute_notebook(notebook, None, {"profil": "smoke"}, **options)


@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_what_has_nothing_to_show_names_the_command_in_its_place(make_page, profile, capsys):
    page = make_page(profile)
    page.table("tab-none", [], "Rows.", ("Rows", "fig3"))
    page.figure("fig-none", None, alt="A line.", caption="A line.", notice=("A line", "fig3"))
    command = f"wrnn run fig3 --profile {profile}"
    for name in ("tab-none", "fig-none"):
        written = (make_page.folder / "generated" / f"{name}.md").read_text()
        assert f":name: {name}" in written and "not yet recorded" in written
        assert f"`{command}" in written
    assert capsys.readouterr().out.count(command) == 2
    assert not (make_page.folder / "figures").exists()


def test_a_rate_that_diverged_is_named_where_there_are_several():
    run = Run(AddingTask(10), irnn_config(8), "quick", steps=9)
    slow, fast = (replace(run, learning_rate=rate) for rate in (1e-3, 3e-3))
    lost = [make_record(replace(fast, seed=s), diverged=True, steps=4) for s in (1, 2)]
    results = [result_of(slow, make_record(slow)), result_of(fast, make_record(fast), *lost)]
    said = "iRNN (n=8), adding task (T = 10), at a rate of 0.003 diverged at step 4 (seeds 1, 2)"
    assert chapter.divergences(results) == said
    assert chapter.divergences(results[1:]) == said.replace("at a rate of 0.003 ", "")
