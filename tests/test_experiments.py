"""The experiments: the paper's sizes, their order, their grids, and ids that never change."""

import dataclasses
import json
from itertools import groupby
from pathlib import Path

import pytest

from companion.runs import images, synthetic
from companion.runs.campaign import campaign
from companion.runs.experiments import EXPERIMENTS, find_experiments, grid, plan
from companion.runs.run import PROFILES, Run, build_model, irnn_config, wrnn_config
from wrnn import WrnnError
from wrnn.model import count_parameters

RECORDS = Path(__file__).parents[1] / "records"


def paper(name: str) -> list[Run]:
    return EXPERIMENTS[name].runs("paper")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_experiment_has_runs_in_every_profile(profile):
    for experiment in EXPERIMENTS.values():
        runs = experiment.runs(profile)
        assert runs and len({run.id for run in runs}) == len(runs)
        assert all(run.profile == profile and run.seed == 0 for run in runs)
        assert all(Run.from_dict(json.loads(json.dumps(run.to_dict()))) == run for run in runs)


def test_identifiers_of_recorded_runs_do_not_change():
    """A changed identifier would orphan every record that has been published."""
    paths = [path for path in RECORDS.rglob("*.json") if len(path.stem) == 16]
    assert len(paths) >= 250
    for path in paths:
        assert Run.from_dict(json.loads(path.read_bytes())["run"]).id == path.stem


ROWS = {"table1": synthetic, "table2": images, "table3": images, "table4": synthetic}


@pytest.mark.parametrize("name", ROWS)
def test_a_new_row_of_a_table_changes_no_other_experiment(name, monkeypatch):
    def elsewhere():
        others = {
            (e.name, profile): [run.id for run in e.runs(profile)]
            for e in EXPERIMENTS.values()
            for profile in PROFILES
            if e.name != name
        }
        return others, {run.id for run in campaign(lambda run: None)}

    original, (before, of_campaign) = getattr(ROWS[name], name), elsewhere()

    def longer(profile):
        first, *rest = original(profile)
        row = dataclasses.replace(first, model=dataclasses.replace(first.model, kernel_size=5))
        return [first, row, *rest]

    monkeypatch.setattr(ROWS[name], name, longer)
    after, with_row = elsewhere()
    assert after == before and with_row >= of_campaign
    first, row = longer("paper")[:2]
    assert row.model.label == f"{first.model.label} (kernel 5)"


def test_figure_7_has_six_sizes_of_each_and_shares_table_2s():
    sizes = {"wrnn": [], "irnn": []}
    for run in paper("fig7"):
        model = build_model(run.model, run.task)
        sizes[run.model.kind].append(count_parameters(model)["without_biases"])
        assert run.task.permuted
    assert all(len(set(counts)) >= 6 and counts == sorted(counts) for counts in sizes.values())
    assert max(sizes["wrnn"]) == pytest.approx(max(sizes["irnn"]), rel=0.01)
    assert len({run.id for run in paper("fig7")} & {run.id for run in paper("table2")}) == 2


def test_figure_10_starts_channels_at_several_speeds():
    one, several = paper("fig10")
    kernel = build_model(several.model, several.task).rnn.weight_hh  # (channels, channels, 3)
    assert one.model.velocity == 1.0
    assert set(kernel.diagonal()[2].tolist()) == {0.25, 0.5, 0.75, 1.0}


def test_figure_18_cuts_one_training_at_growing_lengths():
    for _, cuts in groupby(paper("fig18"), key=lambda run: run.model.recurrent):
        cuts = list(cuts)
        assert [run.steps for run in cuts] == sorted({run.steps for run in cuts})
        assert len({dataclasses.replace(run, steps=1).id for run in cuts}) == 1
        assert all(run.trace and not run.drop_steps for run in cuts)


def test_the_papers_grids():
    copy = [run for run in grid(EXPERIMENTS["fig3"]) if run.task.lag == 40]
    of_wave = {(r.learning_rate, r.clip) for r in copy if r.model == wrnn_config(100, 6)}
    assert of_wave == {(rate, clip) for rate in (1e-2, 1e-3, 1e-4) for clip in (0.0, 1.0, 10.0)}
    of_irnn = {r.model for r in copy if r.model.kind == "irnn" and r.model.size == 100}
    assert {(m.recurrent, m.nonlinearity) for m in of_irnn} == {
        (start, act) for start in ("identity", "default") for act in ("relu", "tanh")
    }
    adding = [r.model for r in grid(EXPERIMENTS["table1"]) if r.task.length == 100]
    assert adding.count(wrnn_config(100, 27)) == 2 * 5  # rates and clips
    assert adding.count(irnn_config(100)) == 3 * 5
    assert adding.count(irnn_config(100, input_bias="zero")) == 1  # the control has no grid
    pixels = [r for r in grid(EXPERIMENTS["table2"]) if r.task.permuted]
    for model, epochs in ((wrnn_config(256, 16), 120), (irnn_config(256, input="uniform"), 250)):
        schedules = {(r.drop_steps[0] / 446, r.steps / 446) for r in pixels if r.model == model}
        assert schedules - {(100, 120)} == {(40, epochs), (100, epochs)} - {(100, 120)}
    for experiment in EXPERIMENTS.values():
        runs = grid(experiment)
        assert {run.id for run in experiment.runs("paper")} <= {run.id for run in runs}
        assert len({dataclasses.replace(run, trace=False).id for run in runs}) == len(runs)
        if not experiment.name.startswith(("fig", "table")):
            assert runs == experiment.runs("paper")  # nothing that the paper searched


def test_equal_runs_have_one_id():
    run = EXPERIMENTS["fig3"].runs("paper")[0]
    same = dataclasses.replace(
        run, clip=0, loss_scale=run.loss_scale, model=dataclasses.replace(run.model, velocity=1)
    )
    assert same == run and same.id == run.id


def test_a_plan_with_grid_holds_the_default_runs_too():
    experiments = find_experiments(["table3"])
    with_grid = plan(experiments, "paper", seeds=2, search="paper")
    assert {r.id for r in plan(experiments, "paper", seeds=2)} < {r.id for r in with_grid}


def test_what_is_cheap_and_tells_most_is_trained_first():
    def stage(run):
        if run.model.kind in ("lstm", "gru"):
            return "gated"
        return "psmnist" if getattr(run.task, "permuted", False) else run.task.name

    runs = plan(find_experiments(["all"]), "paper", seeds=2)
    assert len({run.id for run in runs}) == len(runs)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    for seed in (0, 1):
        stages = [name for name, _ in groupby(stage(run) for run in runs if run.seed == seed)]
        images = ["psmnist", "sequential_mnist", "noisy_sequential_cifar10"]
        assert stages[:5] == ["copy", "adding", *images]
        assert stages[5:7] == images[:2]  # Figure 7; Figures 10 and 18
        assert stages.index("gated") == len(stages) - 1


def test_aliases_all_and_unknown_names():
    assert find_experiments(["fig5"]) == find_experiments(["table1"])
    assert {e.name for e in find_experiments(["all"])} == EXPERIMENTS.keys()
    for call, message in (
        (lambda: find_experiments(["fig99"]), "fig3"),
        (lambda: EXPERIMENTS["fig3"].runs("huge"), "smoke, quick, paper"),
        (lambda: EXPERIMENTS["fig3"].runs("quick", seeds=0), "at least 1"),
        (lambda: plan([], "quick", search="paper"), "--profile paper"),
        (lambda: plan([], "paper", search="mine"), "--profile paper"),
    ):
        with pytest.raises(WrnnError, match=message):
            call()
