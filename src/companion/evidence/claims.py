"""The paper's claims, each with the measure that decides it and the tolerance it is held to.

Limits and targets come from the published numbers wherever the paper prints one; where it says
"orders of magnitude" or "virtually unaffected", the limit chosen here is visible in the table.
"""

from collections.abc import Sequence
from math import log10

from companion.evidence import measures
from companion.evidence import published as paper
from companion.evidence.tables import number
from companion.evidence.verdicts import (
    AGREE,
    MARKS,
    OPEN,
    Claim,
    Finding,
    at_least,
    at_most,
    within,
)
from companion.runs.experiments import EXPERIMENTS, Experiment
from companion.runs.synthetic import ADDING_LENGTHS

QUESTIONS = {
    "memory": "Do travelling waves hold the recent past better?",
    "harder": "Does it carry over to longer sequences and harder tasks?",
    "gated": "How does it stand against LSTM and GRU?",
    "ingredients": "Which ingredients matter?",
}
ORDERS, LONGEST, PERCENT = "orders of magnitude", "steps, longest T copied", "% test accuracy"
VARIANTS = measures.VARIANTS.name
ADDING = measures.ADDING_SETTINGS.name
LINEAR = {"kind": "wrnn", "readout": "linear"}
PLAIN, PERMUTED = LINEAR | {"permuted": False}, LINEAR | {"permuted": True}


def _text(number_id: str) -> str:
    return f"{paper.value(number_id):.1f}"  # accuracies are printed with one decimal


def _published_orders(better: str, worse: str) -> str:
    ratio = paper.value(f"table4/{worse}/T=30/mse") / paper.value(f"table4/{better}/T=30/mse")
    return number(log10(ratio), 2)


def _against_gated(column: str) -> str:
    table = "table3" if column == "accuracy" else "table2"
    wave, lstm, gru = (_text(f"{table}/{model}/{column}") for model in ("wrnn-16c", "lstm", "gru"))
    return f"{wave} against {lstm} and {gru}"


def _accuracy(published: str, tolerance: float, **wanted: object) -> Claim:
    table, model, column = published.split("/")
    task = {"smnist": "sMNIST", "psmnist": "psMNIST", "accuracy": "nsCIFAR10"}[column]
    name = {"wrnn-16c": "wRNN", "irnn": "iRNN"}[model]
    return Claim(
        f"{model}-{task.lower()}",
        "harder",
        f"The {name} reaches the printed accuracy on {task}",
        _text(published),
        PERCENT,
        within(paper.value(published), tolerance),
        "noisy" if table == "table3" else "images",
        (table,),
        measures.accuracy(table, **wanted),
    )


def _copy_gap(length: int) -> Claim:
    limit = paper.value(f"claim/fig3/orders-of-magnitude/T={length}")
    return Claim(
        f"copy-gap-{length}",
        "memory",
        f"Copy, T = {length}: the wRNN's loss ends far below that of the best iRNN",
        f"> {number(limit)}",
        ORDERS,
        at_least(float(limit)),
        "copy",
        ("fig3", VARIANTS),
        measures.copy_gap(length),
        remark=measures.irnn_against_printed(length),
    )


def _input_speed(length: int) -> Claim:
    return Claim(
        f"v-init-speed-{length}",
        "ingredients",
        f"Copy, T = {length}: the one-site input makes the wRNN learn sooner",
        "faster, without a number",
        "(iterations without over iterations with it)",
        at_least(1.2),
        "ablations",
        ("v_init",),
        measures.input_init_speed(length),
    )


_fails_after = float(paper.value("claim/fig4/irnn-625/fails-after"))
_copies_up_to = float(paper.value("claim/fig4/wrnn/perfect-up-to"))
_no_shift_after = paper.value("claim/ablation/wrnn-u-shift-init/solved-up-to")
_velocity = paper.value("claim/fig2/wrnn/velocity")
_catch_up = paper.value("claim/fig6/irnn/epochs-to-catch-up")
_speed = min(
    paper.value(f"table1/irnn/T={n}/solved_iter") / paper.value(f"table1/wrnn/T={n}/solved_iter")
    for n in measures.SPEED_LENGTHS
)
_permutation = paper.value("table2/wrnn-16c/smnist") - paper.value("table2/wrnn-16c/psmnist")
_mlp = paper.value("table2/wrnn-mlp/psmnist") - paper.value("table2/wrnn-16c/psmnist")

CLAIMS: tuple[Claim, ...] = (
    *(_copy_gap(length) for length in (0, 30, 80)),
    Claim(
        "irnn-625-copy",
        "memory",
        f"Copy: an iRNN with 625 units fails at every length beyond T = {number(_fails_after, 4)}",
        number(_fails_after, 4),
        LONGEST,
        AGREE,
        "copy",
        ("fig4",),
        measures.copied(
            lambda e: measures.beyond(_fails_after + 10, e.find("fig4", size=625)), fails=True
        ),
        asks="fails",
    ),
    Claim(
        "wave-speed",
        "memory",
        "Waves run through the trained wRNN's hidden state",
        f"≈ {number(_velocity)}",
        "site per step",
        within(_velocity, 0.1),
        "wave-rnn",
        ("fig2",),
        measures.wave_velocity,
    ),
    Claim(
        "no-wave-in-irnn",
        "memory",
        "No wave runs through the trained iRNN's hidden state",
        "no",
        "wave",
        AGREE,
        "wave-rnn",
        ("fig2",),
        measures.wave_in_irnn,
        asks="fails",
    ),
    Claim(
        "copy-480",
        "harder",
        f"Copy: the wRNN copies every length up to T = {number(_copies_up_to, 4)}",
        number(_copies_up_to, 4),
        LONGEST,
        AGREE,
        "copy",
        ("fig4",),
        measures.copied(lambda e: e.find("fig4", kind="wrnn")),
        asks="reached",
    ),
    Claim(
        "adding-wrnn",
        "harder",
        "Adding: the wRNN solves every length",
        "5",
        "of 5 lengths",
        AGREE,
        "adding",
        ("table1", ADDING),
        measures.solved({"kind": "wrnn"}, ADDING_LENGTHS),
        asks="reached",
    ),
    Claim(
        "adding-irnn",
        "harder",
        "Adding: the iRNN fails at T = 700 and 1000",
        "2",
        "of 2 lengths unsolved",
        AGREE,
        "adding",
        ("table1", ADDING),
        measures.solved(measures.IRNN, (700, 1000), fails=True),
        asks="fails",
    ),
    Claim(
        "adding-speed",
        "harder",
        "Adding: the wRNN needs far fewer iterations than the iRNN at T = 100, 200 and 400",
        number(_speed),
        "times fewer or more",
        at_least(10.0),
        "adding",
        ("table1", ADDING),
        measures.solving_speed("solved_step_training"),
        remark=measures.speed_by_validation,
    ),
    _accuracy("table2/wrnn-16c/smnist", 0.5, **PLAIN),
    _accuracy("table2/wrnn-16c/psmnist", 0.5, **PERMUTED),
    _accuracy("table2/irnn/smnist", 0.5, permuted=False, **measures.IRNN),
    _accuracy("table2/irnn/psmnist", 1.5, permuted=True, **measures.IRNN),
    Claim(
        "permutation",
        "harder",
        "A permutation of the pixels costs the wRNN almost nothing",
        number(_permutation, 2),
        "points lost",
        at_most(2.0),
        "images",
        ("table2",),
        measures.accuracy_gap(PLAIN, PERMUTED),
    ),
    Claim(
        "faster-training",
        "harder",
        "On sMNIST the iRNN catches up with the wRNN only late",
        f"≈ {number(_catch_up)}",
        "epochs",
        at_least(_catch_up / 2),
        "images",
        ("table2",),
        measures.epochs_ahead,
    ),
    _accuracy("table3/wrnn-16c/accuracy", 1.6, kind="wrnn"),
    _accuracy("table3/irnn/accuracy", 1.6, kind="irnn"),
    Claim(
        "parameter-efficiency",
        "harder",
        "On psMNIST the iRNN needs more parameters than the wRNN for the same accuracy (the best "
        "that both reach)",
        "> 1",
        "times (Figure 7)",
        at_least(2.0),
        "images",
        ("fig7",),
        measures.parameter_efficiency,
    ),
    Claim(
        "gated-psmnist",
        "gated",
        "On psMNIST the wRNN is above the cited LSTM and GRU",
        _against_gated("psmnist"),
        PERCENT,
        at_least(paper.value("table2/gru/psmnist")),
        "images",
        ("table2",),
        measures.accuracy("table2", **PERMUTED),
        asks="reached",
    ),
    Claim(
        "gated-smnist",
        "gated",
        "On sMNIST the wRNN stays below both",
        _against_gated("smnist"),
        PERCENT,
        at_most(paper.value("table2/lstm/smnist")),
        "images",
        ("table2",),
        measures.accuracy("table2", **PLAIN),
        asks="fails",
    ),
    Claim(
        "gated-nscifar10",
        "gated",
        "On nsCIFAR10 the wRNN is above the cited LSTM and GRU",
        _against_gated("accuracy"),
        PERCENT,
        at_least(max(paper.value(f"table3/{model}/accuracy") for model in ("lstm", "gru"))),
        "noisy",
        ("table3",),
        measures.accuracy("table3", kind="wrnn"),
        asks="reached",
    ),
    Claim(
        "u-shift",
        "ingredients",
        "Copy, T = 30: losing the shift start costs more than losing the one-site input",
        _published_orders("wrnn-v-init", "wrnn-u-shift-init"),
        ORDERS,
        at_least(3.0),
        "ablations",
        ("table4",),
        measures.shift_against_input,
    ),
    Claim(
        "no-u-shift",
        "ingredients",
        f"Copy: without the shift start the wRNN copies no length beyond T = "
        f"{number(_no_shift_after)}",
        number(_no_shift_after),
        LONGEST,
        AGREE,
        "ablations",
        ("table4",),
        measures.copied(lambda e: measures.without_shift(e, _no_shift_after + 10), fails=True),
        asks="fails",
        remark=measures.symbols_without_shift(_no_shift_after + 10),
    ),
    *(_input_speed(length) for length in (0, 10, 30)),
    Claim(
        "irnn-shift",
        "ingredients",
        "Copy, T = 30: starting the iRNN at the shift matrix brings its loss down",
        _published_orders("irnn-sigma-init", "irnn-n-100"),
        ORDERS,
        at_least(2.0),
        "ablations",
        ("table4",),
        measures.shift_in_irnn,
    ),
    Claim(
        "mlp",
        "ingredients",
        "An MLP as readout helps on psMNIST",
        number(_mlp, 2),
        "points gained",
        at_least(0.4),
        "images",
        ("table2",),
        measures.accuracy_gap({"readout": "mlp", "permuted": True}, PERMUTED),
    ),
    Claim(
        "waves-from-random",
        "ingredients",
        "Training from a random kernel ends in waves as well",
        "shown in",
        "App. C",
        AGREE,
        "appendix",
        ("fig18",),
        measures.wave_from_random,
    ),
    Claim(
        "several-speeds",
        "memory",
        "One network carries waves of several speeds",
        "shown in",
        "App. C",
        at_least(0.25),
        "appendix",
        ("fig10",),
        measures.speeds_apart,
    ),
)


def answer(findings: Sequence[Finding]) -> str:
    """Sum up the findings of one question: how many claims, and what became of them."""
    verdicts = [finding.verdict for finding in findings]
    if set(verdicts) == {OPEN}:
        return f"open: none of its {len(findings)} claims has been run far enough for a verdict"
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in MARKS if name in verdicts)
    return f"of {len(findings)} claims {counts}"


def experiments_needed() -> list[Experiment]:
    """The experiments that the claims draw on, in the order in which they are defined."""
    needed = {name for claim in CLAIMS for name in claim.experiments}
    variants = (measures.VARIANTS, measures.ADDING_SETTINGS)
    return [e for e in (*EXPERIMENTS.values(), *variants) if e.name in needed]
