"""The controls of chapter 8: what each question varies, and what it holds fixed."""

from dataclasses import replace

import pytest

from companion.runs import why
from companion.runs.experiments import EXPERIMENTS, find_experiments, plan
from companion.runs.run import LATER_FIELDS, PROFILES, ModelConfig, Run, wrnn_config
from wrnn.model import count_parameters

NAMES = [name for name in EXPERIMENTS if name.startswith("why_")]


def by_task(runs):
    groups = {}
    for run in runs:
        groups.setdefault(run.task, []).append(run)
    return groups


def test_why_is_all_of_them():
    assert [e.name for e in find_experiments(["why"])] == NAMES and len(NAMES) == 8
    whole = plan(find_experiments(["why"]), "paper", seeds=5)
    assert len({run.id for run in whole}) == len(whole)
    assert {run.seed for run in whole} == set(range(5))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", ["why_frozen", "why_carry", "why_released"])
def test_within_a_task_only_the_model_and_the_scale_of_the_loss_differ(name, profile):
    for runs in by_task(EXPERIMENTS[name].runs(profile)).values():
        plain = {replace(run, model=runs[0].model, loss_scale=1.0).id for run in runs}
        assert len(runs) > 1 and len(plain) == 1


@pytest.mark.parametrize("profile", PROFILES)
def test_frozen_kernels_stand_beside_trained_ones_of_the_same_size(profile):
    groups = by_task(why.frozen(profile))
    assert len(groups) == {"paper": 6, "quick": 3, "smoke": 3}[profile]
    for runs in groups.values():
        models = [run.model for run in runs]
        trained = next(m for m in models if m.kind == "wrnn" and m.recurrent_bias == "zero")
        frozen = [m for m in models if m.frozen]
        assert {m.recurrent for m in frozen} == {"shift", "identity", "default"}
        for model in frozen:
            assert replace(model, frozen=False, recurrent="shift") == trained


def test_models_are_compared_at_about_the_same_parameters():
    for runs in by_task(why.today("paper")).values():
        counts = {}
        for run in runs:
            counts[run.model.kind] = count_parameters(run.start())["without_biases"]
        assert set(counts) == {"wrnn", "irnn", "lstm", "gru", "lru"}
        for count in counts.values():
            assert count == pytest.approx(counts["wrnn"], rel=0.12)
        assert {run.learning_rate for run in runs} == set(why.RATES)


def test_capacity_is_compared_at_equal_units_and_at_equal_parameters():
    runs = why.capacity("paper")
    units = [run.model.size * run.model.num_channels for run in runs]
    counts = [count_parameters(run.start())["without_biases"] for run in runs]
    assert units[:6] == [64] * 6
    assert counts[6:] == pytest.approx([counts[0]] * 2, rel=0.2)


def test_the_choices_of_the_released_code_are_a_full_factorial():
    for runs in by_task(why.released("paper")).values():
        assert len(runs) == 8
        found = {(r.model.recurrent_bias, r.loss_scale, r.model.input) for r in runs}
        assert found == {
            (bias, scale, kind)
            for bias in ("default", "zero")
            for scale in (1.0, 1 / runs[0].batch_size)
            for kind in ("ones", "identity")
        }


@pytest.mark.parametrize("profile", PROFILES)
def test_the_cuts_are_of_one_training(profile):
    cuts = why.parallel(profile)
    assert len({replace(run, steps=1).id for run in cuts}) == 1 < len(cuts)
    assert all(run.keep == "last" for run in cuts)


def test_weights_of_every_seed_are_small_enough_to_be_kept():
    from companion.training.train import small_weights

    for name in ("why_carry", "why_capacity", "why_laps", "why_parallel"):
        for run in EXPERIMENTS[name].runs("paper"):
            assert small_weights(run.start(), every_size=False), run.description


def test_fields_that_came_later_are_left_out_at_their_defaults():
    plain = Run(why.permuted_pixels("quick"), wrnn_config(12, 2), "quick", steps=3)
    assert not set(LATER_FIELDS) & plain.to_dict()["model"].keys()
    for name, value in dict(frozen=True, forget_bias=1.0, leak=0.1, depth=2, width=4).items():
        changed = replace(plain, model=replace(plain.model, **{name: value}))
        assert changed.id != plain.id and Run.from_dict(changed.to_dict()) == changed


def test_labels_tell_the_models_of_a_figure_apart():
    for name in NAMES:
        for profile in PROFILES:
            for runs in by_task(EXPERIMENTS[name].runs(profile)).values():
                models = {run.model for run in runs}
                labels = {run.model.label for run in runs}
                assert len(labels) == len(models) or name == "why_laps"
    assert ModelConfig("lstm", 5, forget_bias=1.0).label == "LSTM (n=5, forget bias 1)"
    assert wrnn_config(5, 2, frozen=True, recurrent="default").label == "frozen random kernel"
