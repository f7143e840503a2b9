import dataclasses
import json
from itertools import groupby

import pytest

from companion.evidence import published
from companion.records.files import Store
from companion.runs import images, synthetic
from companion.runs.campaign import campaign
from companion.runs.experiments import EXPERIMENTS, find_experiments, grid, plan
from companion.runs.run import PROFILES, Run, build_model, wrnn_config
from companion.training.train import train
from wrnn import WrnnError
from wrnn.model import count_parameters
from wrnn.tasks import CopyTask


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_runs_in_every_profile(name):
    for profile in PROFILES:
        runs = EXPERIMENTS[name].runs(profile)
        assert runs
        assert all(run.profile == profile and run.seed == 0 for run in runs)
        assert len({run.id for run in runs}) == len(runs)
        assert all(Run.from_dict(run.to_dict()) == run for run in runs)


def test_the_paper_profile_has_the_papers_sizes():
    fig3 = EXPERIMENTS["fig3"].runs("paper")
    assert {(r.task.lag, r.model.label, r.steps) for r in fig3} >= {
        (lag, label, 60_000)
        for lag in (10, 40, 90)
        for label in (
            *("wRNN", "iRNN (n=100)", "iRNN (n=625)"),
            "iRNN (n=100), zero input bias",
        )
    }
    lengths = {run.task.length for run in EXPERIMENTS["table1"].runs("paper")}
    assert lengths == {100, 200, 400, 700, 1000}
    table2 = EXPERIMENTS["table2"].runs("paper")
    assert {r.model.label for r in table2} >= {
        *("wRNN", "wRNN + MLP", "iRNN (n=256)", "LSTM (n=256)", "GRU (n=256)"),
        "iRNN (n=256), zero input bias",
    }
    assert {r.model.label for r in EXPERIMENTS["table3"].runs("paper")} >= {
        *("wRNN", "iRNN (n=529)", "LSTM (n=128)", "GRU (n=128)")
    }
    assert {r.task.permuted for r in table2} == {False, True}
    assert {r.steps for r in table2} == {120 * 446}
    table4 = EXPERIMENTS["table4"].runs("paper")
    of_the_table = {number.model for number in published.select("table4/")}
    assert {r.task.lag for r in table4} == {10, 20, 40, 90}
    assert len(table4) >= 4 * len(of_the_table)


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
    runs = EXPERIMENTS["fig7"].runs("paper")
    sizes = {"wrnn": [], "irnn": []}
    for run in runs:
        model = build_model(run.model, run.task)
        sizes[run.model.kind].append(count_parameters(model)["without_biases"])
    assert all(len(set(counts)) >= 6 and counts == sorted(counts) for counts in sizes.values())
    assert max(sizes["wrnn"]) == pytest.approx(max(sizes["irnn"]), rel=0.01)
    shared = {run.id for run in runs} & {run.id for run in EXPERIMENTS["table2"].runs("paper")}
    assert len(shared) == 2
    assert all(run.task.permuted for run in runs)


def test_figure_10_starts_channels_at_several_speeds():
    one, several = EXPERIMENTS["fig10"].runs("paper")
    assert one.model.velocity == 1.0
    assert set(several.model.velocity) == {0.25, 0.5, 0.75, 1.0}
    restored = Run.from_dict(json.loads(json.dumps(several.to_dict())))
    assert restored == several and hash(restored.model) == hash(several.model)
    kernel = build_model(several.model, several.task).rnn.weight_hh  # (channels, channels, 3)
    assert kernel.diagonal()[2].tolist() == list(several.model.velocity)


def test_figure_18_cuts_one_training_at_growing_lengths():
    runs = EXPERIMENTS["fig18"].runs("paper")
    assert {run.model.recurrent for run in runs} == {"shift", "identity", "default"}
    for recurrent in ("shift", "identity", "default"):
        of_start = [run for run in runs if run.model.recurrent == recurrent]
        assert [run.steps for run in of_start] == sorted({run.steps for run in of_start})
        assert len({dataclasses.replace(run, steps=1).id for run in of_start}) == 1
        assert all(run.trace and not run.drop_steps for run in of_start)


def test_the_variant_and_fresh_noise_have_a_partner():
    for name, field in (("local", "kind"), ("noise", "noise")):
        values = {}
        for run in EXPERIMENTS[name].runs("paper"):
            owner = run.model if field == "kind" else run.task
            other = dataclasses.replace(owner, **{field: "x" if field == "kind" else "fixed"})
            values.setdefault((run.task.title[:20], other), set()).add(getattr(owner, field))
        assert all(len(found) == 2 for found in values.values())


def test_the_papers_grids():
    copy = [run for run in grid(EXPERIMENTS["fig3"]) if run.task.lag == 40]
    of_wave = [run for run in copy if run.model == wrnn_config(100, 6)]
    assert {(r.learning_rate, r.clip) for r in of_wave} == {
        (rate, clip) for rate in (1e-2, 1e-3, 1e-4) for clip in (0.0, 1.0, 10.0)
    }
    of_irnn = {r.model for r in copy if r.model.kind == "irnn" and r.model.size == 100}
    assert {(m.recurrent, m.nonlinearity) for m in of_irnn} == {
        (start, act) for start in ("identity", "default") for act in ("relu", "tanh")
    }
    adding = [r for r in grid(EXPERIMENTS["table1"]) if r.task.length == 100]
    assert {kind: sum(r.model.kind == kind for r in adding) for kind in ("wrnn", "irnn")} == {
        "wrnn": 2 * 5,
        "irnn": 3 * 5 + 1,  # and the control with zero input bias, which has no grid
    }
    for name in ("fig3", "table1", "table2", "table3", "table4", "fig7"):
        runs = grid(EXPERIMENTS[name])
        assert {run.id for run in EXPERIMENTS[name].runs("paper")} <= {run.id for run in runs}
        assert len({dataclasses.replace(run, trace=False).id for run in runs}) == len(runs)
    for name in ("fig18", "mnist_cpu"):
        assert grid(EXPERIMENTS[name]) == EXPERIMENTS[name].runs("paper")


def test_a_plan_with_grid_holds_the_default_runs_too():
    experiments = find_experiments(["table3"])
    with_grid = plan(experiments, "paper", seeds=2, settings="paper")
    assert {r.id for r in plan(experiments, "paper", seeds=2)} < {r.id for r in with_grid}
    for settings, profile in (("paper", "quick"), ("mine", "paper")):
        with pytest.raises(WrnnError, match="--profile paper"):
            plan(experiments, profile, settings=settings)


def test_identifiers_of_recorded_runs_do_not_change():
    """Frozen: a changed identifier would orphan every record that has been published."""
    run = EXPERIMENTS["fig3"].runs("paper")[0]
    assert run.task == CopyTask(10) and run.id == "939c0bd40b732c08"


def test_seeds_come_breadth_first_and_each_run_once():
    runs = plan(find_experiments(["fig3", "table4"]), "paper", seeds=3)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert len({run.id for run in runs}) == len(runs)
    shared = {r.id for r in EXPERIMENTS["fig3"].runs("paper")} & {
        r.id for r in EXPERIMENTS["table4"].runs("paper")
    }
    assert shared, "the same training serves Figure 3 and Table 4"


def test_what_is_cheap_and_tells_most_is_trained_first():
    def stage(run):
        if run.model.kind in ("lstm", "gru"):
            return "gated"
        return "psmnist" if getattr(run.task, "permuted", False) else run.task.name

    runs = plan(find_experiments(["all"]), "paper", seeds=2)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    for seed in (0, 1):
        stages = [name for name, _ in groupby(stage(run) for run in runs if run.seed == seed)]
        assert stages[:5] == [
            *("copy", "adding", "psmnist", "sequential_mnist", "noisy_sequential_cifar10")
        ]
        assert stages[5:7] == ["psmnist", "sequential_mnist"]  # Figure 7; Figures 10 and 18
        assert stages.index("gated") == len(stages) - 1
    table4 = EXPERIMENTS["table4"].runs("paper")
    assert runs[: len(table4)] == table4


def test_aliases_all_and_unknown_names():
    assert find_experiments(["fig5"]) == find_experiments(["table1"])
    everything = find_experiments(["all"])
    assert sorted(e.name for e in everything) == sorted(EXPERIMENTS)
    with pytest.raises(WrnnError, match="fig3"):
        find_experiments(["fig99"])
    with pytest.raises(WrnnError, match="smoke, quick, paper"):
        EXPERIMENTS["fig3"].runs("huge")
    with pytest.raises(WrnnError, match="at least 1"):
        EXPERIMENTS["fig3"].runs("quick", seeds=0)


@pytest.fixture(scope="module")
def smoke_store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("records"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_smoke_profile_runs_and_gives_what_its_figure_needs(name, smoke_store):
    for run in EXPERIMENTS[name].runs("smoke"):
        train(run, smoke_store)
        record = smoke_store.get(run)
        metric, _ = run.task.selection
        assert record.metrics.keys() >= {metric, *(run.task.solved or ())[:1]}
        assert record.curves.keys() >= {"loss", metric} or run.steps == 1
        assert (record.trace() is not None) == run.trace
        assert record.weights() is not None
