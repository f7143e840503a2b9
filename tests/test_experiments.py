import pytest

from wrnn import WrnnError
from wrnn.experiments import EXPERIMENTS, find_experiments, plan
from wrnn.runs import PROFILES, Run


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
    assert {(r.task.lag, r.model.label, r.steps) for r in fig3} == {
        (lag, label, 60_000)
        for lag in (10, 40, 90)
        for label in ("wRNN", "iRNN (n=100)", "iRNN (n=625)")
    }
    lengths = {run.task.length for run in EXPERIMENTS["table1"].runs("paper")}
    assert lengths == {100, 200, 400, 700, 1000}
    table2 = EXPERIMENTS["table2"].runs("paper")
    assert {r.model.label for r in table2} == {"wRNN", "wRNN + MLP", "iRNN (n=256)"}
    assert {r.task.permuted for r in table2} == {False, True}
    assert {r.steps for r in table2} == {120 * 446}
    assert len(EXPERIMENTS["table4"].runs("paper")) == 4 * 9


def test_seeds_come_breadth_first_and_each_run_once():
    runs = plan(find_experiments(["fig3", "table4"]), "paper", seeds=3)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert len({run.id for run in runs}) == len(runs)
    shared = {r.id for r in EXPERIMENTS["fig3"].runs("paper")} & {
        r.id for r in EXPERIMENTS["table4"].runs("paper")
    }
    assert shared, "the same training serves Figure 3 and Table 4"


def test_aliases_all_and_unknown_names():
    assert find_experiments(["fig5"]) == find_experiments(["table1"])
    assert find_experiments(["all"]) == list(EXPERIMENTS.values())
    with pytest.raises(WrnnError, match="fig3"):
        find_experiments(["fig99"])
    with pytest.raises(WrnnError, match="smoke, quick, paper"):
        EXPERIMENTS["fig3"].runs("huge")
    with pytest.raises(WrnnError, match="at least 1"):
        EXPERIMENTS["fig3"].runs("quick", seeds=0)
