# %% [markdown]
# (sec-beyond)=
# # Why waves? Controls beyond the paper
#
# **What the paper claims.** Waves are the memory: a wave carries the recent past along a ring, and
# that is why a Wave-RNN (wRNN) learns to copy and to add where an identity RNN (iRNN) does not
# {cite}`keller2024waves`.
#
# **What this chapter does.** It takes the claim apart: a network in which the wave is nothing but a
# fixed buffer, networks that are asked for more than one lap, or for another lag than they were
# trained on, and the recurrent layers that a reader would use today. Each is one question, one
# small experiment, one figure, and an answer that is computed from the records.
#
# Every experiment has a paper form with five seeds, for a CPU, and a quick form that is trained
# with this book. Also in the paper form, networks or budgets are smaller than the paper's
# ({numref}`tab-commands`).
#
# ::::{dropdown} Numbers: how to read them
# A value is a mean over seeds with its 95 % interval, a comparison is made within seeds, and a
# single seed has no interval and settles nothing; where no n stands, it is of five seeds. An
# accuracy in a table is averaged on the logit scale, unless a seed has all or none right; figures
# and differences use plain means, so that a difference need not be that of two cells. A run that
# diverged has no result.
# ::::
#
# ```{include} generated/tab-why.md
# ```

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["hide-input"]
import re

import numpy as np

from companion.evidence import claims, dynamics, paired, recall, tables
from companion.page import chapter, figures
from companion.records.table import interval, ratio
from companion.runs import why
from companion.runs.experiments import find_experiments

page = chapter.Chapter(profile=profile, device=device, seeds=seeds, train=train)
SEEDS = 5  # of the paper form


def trained(result):
    """How many seeds have all of their planned steps behind them, or diverged before."""
    return sum(record.run.steps == result.run.steps for record in result.records)


def forms(experiment):
    """What can be compared, as (words, results), and what a figure shows: the results of the first.

    The paper form goes before the small one, with the tasks of which every configuration has all
    its seeds. What it lacks is named, with the command that records it.
    """
    planned = page.recorded(experiment)
    least = seeds if train and profile == "paper" else SEEDS
    lacking = sum(trained(result) < least for result in planned)
    kinds = [("The paper form", planned, least)]
    if lacking or profile != "paper":
        kinds.append((f"The {page.small_profile} form", page.this_run(experiment), 1))
    found = []
    for words, results, count in kinds:
        short = {result.run.task for result in results if trained(result) < count}
        if whole := [r for r in results if r.run.task not in short]:
            found.append((words, whole))
            if ends := chapter.divergences(whole):
                page.say(f"{words}, without a result: {ends}.")
    if lacking:
        page.say(
            f"**Not yet recorded** in the paper form: {lacking} of {len(planned)} configurations "
            f"lack some or all of {least} seeds. Command: "
            f"`{chapter.command(experiment)} --seeds {SEEDS}`."
        )
    return found, found[0][1] if found else []


def cell(found, unit=""):
    """An estimate with its interval, or what the seeds gave; nothing where there is none."""
    return tables.interval(found) + unit if found else ""


def text(found, unit=""):
    """An estimate with its interval, and how many seeds where it is not five, for a sentence."""
    count = f" (n = {found.count})" if found and found.count != SEEDS else ""
    return cell(found, unit) + count if found else "not to be said"


def names(found):
    """Estimates by name, as text."""
    return "; ".join(f"{name}: {text(value)}" for name, value in found.items()) or "none"


def answer(words, lines):
    """Say the answers of one form, a line each."""
    page.say(words + ":\n\n" + "\n".join(f"- {line}." for line in lines))


def grouped(pairs):
    """Names by the words that are said of them."""
    groups = {}
    for words, name in pairs:
        groups.setdefault(words, []).append(name)
    return groups


SHORT = {}  # section -> its first form, and names by what is said of them


def in_short(section, words, groups):
    """Keep the answer of a section's first form for the table that opens the chapter."""
    SHORT.setdefault(section, (words.removeprefix("The "), groups))


def brief_title(task):
    """A task's title without the paper's name of a lag."""
    return re.sub(r", T = .* in the paper", "", task.title)


def against(leads, ahead="above"):
    """Whom a model is ahead of, behind, and not told apart from; leads are by name."""
    told = {"above": "behind", "below": "behind", "open": "not told apart from", ahead: "ahead of"}
    return grouped((told[paired.side(lead)], name) for name, lead in leads.items())


def listed(groups):
    """Groups of names as a sentence's end."""
    return ", and ".join(f"**{words}** {'; '.join(of)}" for words, of in groups.items())


def per_task(results, name=lambda r: r.label):
    """A panel per task: its title, its outcome, and that of every model by seed."""
    return [
        (task.title, paired.outcome(task).axis, {name(r): paired.outcomes(r) for r in group})
        for task, group in paired.by_task(results).items()
    ]


def draw(name, notice, alt, caption, results, panels):
    """A figure of values over seeds, or the notice."""
    kept = [(t, x, {k: [*v.values()] for k, v in of.items() if v}) for t, x, of in panels]
    kept = [panel for panel in kept if panel[2]]
    drawn = figures.intervals(kept) if kept else None
    page.figure(name, drawn, alt=alt, caption=caption, results=results, notice=notice)


def scatter(name, notice, alt, caption, results, panels, **look):
    """A figure of points, or the notice."""
    drawn = figures.points(panels, **look) if panels else None
    page.figure(name, drawn, alt=alt, caption=caption, results=results, notice=notice)


# %% [markdown]
# (sec-frozen)=
# ## Is a frozen shift enough?
#
# **Question.** If waves are the memory, a recurrent kernel that is the shift and stays the shift
# should do. How much of the wRNN's result does such a fixed buffer explain?
#
# **Method.** The kernel is frozen at the shift, at the identity or at PyTorch's random kernel, with
# a recurrent bias of zero; what reads in ($\mathbf{V}$ and its bias) and out is trained. Beside
# them stand wRNNs and iRNNs matched in parameters, each as the released code starts it and with its
# bias at zero. Same data, steps and rate for all. A share is what a network gains over one without
# memory, of what the trained wRNN without recurrent bias gains; seeds in which that one comes less
# than a tenth of the way from chance to perfect do not count.

# %% tags=["hide-input"]
ENOUGH = 90  # per cent of what the trained wRNN gains
found, shown = forms("why_frozen")
draw(
    "fig-frozen",
    ("Frozen kernels against trained ones", "why_frozen"),
    "One panel per task; in each, one row per model with a dot per seed and the mean: trained "
    "wRNNs, three frozen kernels, and iRNNs.",
    "Result on the test set with recurrent kernels that are trained and that keep their start. No "
    "counterpart in the paper.",
    shown,
    per_task(shown),
)
rows = []
for words, results in found:
    answers, brief = [], []
    for task, group in paired.by_task(results).items():
        scored = paired.outcome(task)
        of = {re.sub(r" \(n=\d+\)", "", r.label): paired.outcomes(r) for r in group}
        shares = {
            name: paired.gained(scores, of["wRNN (zero bias)"], scored)
            for name, scores in of.items()
            if not name.startswith("wRNN")
        }
        rows.append({"form": words.removeprefix("The "), "task": task.title})
        rows[-1]["seeds"] = min(len(r.records) for r in group)
        rows[-1] |= {f"{name} (%)": cell(share) or tables.NOTHING for name, share in shares.items()}
        shift = shares["frozen shift"]
        told = {"above": "enough", "below": "not enough", "open": "perhaps enough"}
        judged = told[paired.side(shift, ENOUGH)] if shift else "not judged"
        brief.append((judged, brief_title(task)))
        times = ratio(of["frozen shift"], of["wRNN (zero bias)"]) if scored.is_error else None
        error = f", and an error of {text(times)} times the trained one's" if times else ""
        answers.append(f"**{judged}** on the {brief_title(task)}, with {text(shift, ' %')}{error}")
    in_short("sec-frozen", words, grouped(brief))
    answer(
        f"{words}. Of what the trained wRNN gains, a frozen shift is (*enough*: the interval is "
        f"above {ENOUGH} %; *not enough*: below)",
        answers,
    )
page.table(
    "tab-frozen",
    rows,
    "Share of the trained wRNN's gain over a network without memory.",
    ("Shares of the trained wRNN's gain", "why_frozen"),
)

# %% [markdown]
# ```{include} generated/fig-frozen.md
# ```
#
# ::::{dropdown} Numbers: shares of the trained wRNN's gain
# ```{include} generated/tab-frozen.md
# ```
# ::::
#
# **What would change it.** Longer training, in which a trained kernel could pull ahead or a frozen
# one catch up, since all have the same steps. Tasks that ask for more than keeping: a frozen shift
# can't compute between sites, only between what enters together. Freezing also removes $3c^2 + c$
# parameters.
#
# (sec-after-a-lap)=
# ## What happens after a lap?
#
# **Question.** On a ring of $n$ sites, what entered $n$ steps ago is back where it entered
# ({ref}`sec-waves-as-memory`). Does copying break there?
#
# **Method.** A wRNN is trained at lags below and above one lap; rings of another length at the same
# lags are the control, since there the lap ends elsewhere. From the stored weights, the trace that
# one symbol leaves is followed around the ring among blanks: its speed, and its size after a lap.

# %% tags=["hide-input"]
found, shown = forms("why_laps")
groups, rows = {}, []
for result in shown:
    n, lag = result.run.model.size, result.run.task.lag
    if right := interval(paired.outcomes(result).values()):
        groups.setdefault(f"rings of {n} sites", []).append((lag / n, right.mean))
    lap = recall.lap_of_symbols(result)
    if lap:
        rows.append(
            {
                "sites per ring": n,
                "lag": lag,
                "laps": tables.number(lag / n),
                "right symbols (%)": page.value(result, "token_accuracy"),
                "size after a lap (of that before)": tables.number(lap["gain"]),
                "speed (sites per step)": tables.number(lap["speed"]),
                "channels apart by": tables.number(lap["spread"]),
            }
        )
ends = sorted({1.0, *(lap for points in groups.values() for lap, _ in points)})
groups["law of chapter 1"] = [(lap, 100 * min(1, 1 / lap)) for lap in ends]
scatter(
    "fig-after-a-lap",
    ("Copying after a lap", "why_laps"),
    "Share of right symbols against the lag in laps, for rings of two lengths, beside the lap law, "
    "which falls as one over the number of laps.",
    "Copying below and above one lap of the ring, means over seeds, beside what the law of "
    "{ref}`sec-waves-as-memory` leaves of spikes at any time. The paper's Figure 4 has T = 480, a "
    "lag of 490 on rings of 100 sites.",
    shown,
    [("", "right symbols (%)", groups)] if shown else [],
    xlabel="lag (laps of the ring)",
    connected=True,
)
for words, results in found:
    scores = {(r.run.model.size, r.run.task.lag): paired.outcomes(r) for r in results}
    short, longer = (choose(n for n, _ in scores) for choose in (min, max))
    lags = sorted(lag for n, lag in scores if n == short)
    within = max((lag for lag in lags if lag < short), default=None)
    answers, brief = [], []
    for lag in (lag for lag in lags if within and lag > short):
        change = paired.difference(scores[short, lag], scores[short, within])
        elsewhere = scores.get((longer, lag), {}) if longer > short else {}
        control = paired.difference(elsewhere, scores[short, lag])
        right = sum(value >= claims.COPIED for value in scores[short, lag].values())
        told = f"copied by {right} of {tables.counted(len(scores[short, lag]), 'seed')}"
        brief.append((told, f"lag {lag}"))
        more = f", {text(change, ' points')} against lag {within}"
        if right < len(scores[short, lag]):
            more = " in the steps they had, and what more of them would do is open"
        answers.append(
            f"lag {lag} ({tables.number(lag / short)} laps) is **{told}**{more}"
            + f"; rings of {longer} sites have {text(control, ' points')} more there"
            * bool(control)
        )
    if answers:
        in_short("sec-after-a-lap", words, grouped(brief))
        answer(
            f"{words}, rings of {short} sites (*copied*: at least {claims.COPIED:.0f} % of the "
            "symbols are right)",
            answers,
        )
page.table(
    "tab-after-a-lap",
    rows,
    "Copying after a lap, and what the trained kernel and biases do to the trace of a symbol: "
    "median size after one lap, mean speed weighted by the channels' activity, and mean distance "
    "of the slowest and the fastest channel, of those a tenth as active as the most active one.",
    ("The trace of a symbol after a lap", "why_laps"),
)
longest = max(why.LAP_LAGS)  # the paper's longest, on its own rings
rings = {run.model.size for run in why.laps("paper") if run.task.lag == longest}
page.say(
    "That a lap need be no wall for copying does not contradict the lap law. The law counts spikes "
    "that may come at any time; a copy sequence has ten symbols and then blanks, and the cue says "
    f"when to answer. So the paper's T = {longest - 10}, {tables.number(longest / min(rings), 2)} "
    f"laps of its rings, asks for a trace that lives for {longest} steps, not for rings of "
    f"{min(rings)} sites that remember {longest} steps: ten symbols are to be remembered."
)

# %% [markdown]
# ```{include} generated/fig-after-a-lap.md
# ```
#
# ::::{dropdown} Numbers: copying after a lap, and the trace of a symbol
# ```{include} generated/tab-after-a-lap.md
# ```
# ::::
#
# **What would change it.** More steps at the longest lags, and other rings there as a control. A
# copy task whose symbols go on during the lag, so that every site is needed again after a lap.
#
# (sec-capacity)=
# ## How much does the state hold?
#
# **Question.** How many past inputs can be read from the state, before and after training, at equal
# state size and at equal parameters?
#
# **Method.** Jaeger's memory capacity {cite}`jaeger2001memory`: for every delay, the squared
# correlation of the input then with its best linear readout now, summed over delays; at most the
# number of units. The networks are trained on sequential digits, one number a step. They are driven
# with as many independent numbers from [0, 1) and read at the end; the readout is fitted on half of
# the sequences and scored on the others, with noise on every unit of the read state (of an LSTM,
# its output).

# %% tags=["hide-input"]
NOISES, NOISE = (0.0, 0.01, 0.1), 0.01  # of the table, of the figure and the answer
ZERO = "wRNN (zero bias)"
draws = np.random.default_rng(0).random((1000 if profile == "smoke" else 8000, 64))
found = []  # (words, results, label -> (when, noise) -> capacity by seed)
leads_by, changes_by = {}, {}  # words -> label -> estimate
for words, results in forms("why_capacity")[0]:
    held = {}
    for result in results:
        model = result.run.model
        rings = f", {model.num_channels} × {model.size}" if model.num_channels > 1 else ""
        held[result.label + rings] = recall.capacities(result, draws, NOISES)
    found.append((words, results, held))
_, shown, held = found[0] if found else ("", [], {})
draw(
    "fig-memory-capacity",
    ("Memory capacity before and after training", "why_capacity"),
    "Two panels, before and after training; in each, one row per network with its memory capacity.",
    f"Linear memory capacity of the state with noise of {100 * NOISE:.0f} % of its size. No "
    "counterpart in the paper.",
    shown,
    [
        (
            f"{when} training",
            f"memory capacity (inputs of {draws.shape[1]})",
            {name: of.get((when, NOISE), {}) for name, of in held.items()},
        )
        for when in ("before", "after")
    ],
)
for words, _, held_by in found:
    ((zero, wave),) = (entry for entry in held_by.items() if entry[0].startswith(ZERO))
    before, after = (wave.get((when, NOISE), {}) for when in ("before", "after"))
    told = {"above": "adds memory to", "below": "takes memory from"}
    changes = {
        name: change
        for name, of in held_by.items()
        if (change := paired.difference(*(of.get((w, NOISE), {}) for w in ("after", "before"))))
    }
    by_side = grouped(
        (told[paired.side(change)], name)
        for name, change in changes.items()
        if paired.side(change) in told
    )
    leads = {
        name: lead
        for name, of in held_by.items()
        if of is not wave and (lead := paired.difference(after, of.get(("after", NOISE), {})))
    }
    brief = {f"training {side}": of for side, of in by_side.items()}
    in_short("sec-capacity", words, brief or {"no change told": []})
    page.say(
        f"{words}: as far as the seeds can tell, training {listed(by_side) or 'changes nothing'}. "
        f"The wRNN with zero bias starts with a capacity of {text(interval(before.values()))}, and "
        f"training changes it by {text(changes.get(zero))}. Trained, it is "
        f"{listed(against(leads))}."
    )
    leads_by[words], changes_by[words] = leads, changes
page.table(
    "tab-memory-capacity",
    [
        {
            "network": f"{name}: {result.run.model.size * result.run.model.num_channels} units, "
            f"{result.parameters:,} parameters",
            **{
                f"{when}, noise {noise:g}": cell(interval(of.get((when, noise), {}).values()))
                for when in ("before", "after")
                for noise in NOISES
            },
            "change by training": cell(changes_by[found[0][0]].get(name)),
            "wRNN (zero bias) less this": cell(leads_by[found[0][0]].get(name)),
        }
        for (name, of), result in zip(held.items(), shown, strict=True)
    ],
    "Memory capacity before and after training, by the noise on the state that is read (as a share "
    f"of its size); the last two columns are with noise {NOISE:g}, the last one after training.",
    ("Memory capacity", "why_capacity"),
)

# %% [markdown]
# ```{include} generated/fig-memory-capacity.md
# ```
#
# ::::{dropdown} Numbers: memory capacity before and after training
# ```{include} generated/tab-memory-capacity.md
# ```
# ::::
#
# With V-init and zero bias all channels of a wRNN start as copies of one ring, which holds $n$
# numbers; what the others add has to be learned.
#
# **What would change it.** Another input than independent numbers, a nonlinear readout, and a task
# that asks for more: a network gives up memory that its task doesn't reward.
#
# (sec-carry-over)=
# ## Does it carry over?
#
# **Question.** A network has learned to copy at one lag, or to add in sequences of one length. What
# is it worth at another?
#
# **Method.** Stored weights, asked without any training at other lags and lengths: the wRNN, the
# frozen shift, an iRNN and an LSTM (forget bias 1), matched in parameters. Copying carries over
# where more than half of what a network gains over chance is left one step beyond its own lag;
# adding, where its error at the longest length is below that of a constant answer; from 10 times
# that on an error says no more. Seeds that learned nothing at their own lag or length don't count.


# %% tags=["hide-input"]
found, _ = forms("why_carry")
panels, shown = {}, []
answers = {}  # (words, task) -> what is said of every network
after_lap = {}  # network -> right symbols a lap after the lag that it was trained on
for words, results in found:
    brief, sites = [], results[0].run.model.size
    for result in results:
        task, scored = result.run.task, paired.outcome(result.run.task)
        scores = recall.elsewhere(result, sites)
        told, by = recall.carries_over(result, scores)
        unit = " % of its gain left" if task.name == "copy" else " times the error of a constant"
        if result.run.model.kind == "wrnn":
            brief.append((told.partition(",")[0], f"{result.label} ({task.name})"))
        own = interval(paired.outcomes(result).values())
        own = f" ({scored.axis} as trained: {tables.number(own.mean, 2)})" if own else ""
        said = f"{result.label}{own} **{told}**" + (f", {text(by, unit)}" if by else "")
        answers.setdefault((words, task), []).append(said)
        if scores and words == found[0][0]:
            rows = list(scores.values())
            means = {x: np.mean([row[x] for row in rows]) for x in rows[0]}
            panel = panels.setdefault((f"trained on the {task.title}", scored.axis), {})
            most = 1 if scored.is_error else 100
            panel[result.label] = [(x, min(mean, most)) for x, mean in means.items()]
            shown.append(result)
            if task.name == "copy":
                after_lap[result.label] = interval(row[task.lag + sites] for row in rows)
    in_short("sec-carry-over", words, grouped(brief))
scatter(
    "fig-carry-over",
    ("Other lags and lengths", "why_carry"),
    "Two panels: share of right symbols against the lag that is asked for, and squared error "
    "against the length of the adding sequence, one curve per network.",
    "Networks trained at one lag or length and asked at others, means over seeds; a squared error "
    "above 1 is drawn at 1. No counterpart in the paper.",
    shown,
    [(*names_of, groups) for names_of, groups in panels.items()],
    xlabel="lag or length that is asked for (steps)",
    connected=True,
)
for (words, task), said in answers.items():
    answer(f"{words}, trained on the {brief_title(task)}", said)
if after_lap:
    page.say(f"Where a lap more is asked for, the right symbols (%) are: {names(after_lap)}.")

# %% [markdown]
# ```{include} generated/fig-carry-over.md
# ```
#
# For copying the reason can be written down where input enters at one site. A shift has a symbol
# that came $S$ steps ago at site $-S \bmod n$, where a readout finds it that has learned the lag:
# the lag isn't in the waves, it is in the readout. By that alone a lap more would be answered as
# well, but the input of that lap lies on the same sites by then.
#
# **What would change it.** Training on several lags at once, where a network could learn to go by
# the cue.
#
# (sec-today)=
# ## What would a reader use today?
#
# **Question.** How does a wRNN stand beside an LSTM, a GRU and a linear recurrent unit (LRU
# {cite}`orvieto2023lru`), matched in parameters, with the same data and steps?
#
# **Method.** The LSTM starts with a forget bias of 1. The LRU has a complex diagonal and is linear
# in its input, so two of them stand in residual blocks with an MLP, as in its paper. Each model is
# trained at three learning rates (one in the quick form), and the best on validation is tested.


# %% tags=["hide-input"]
def seconds(result):
    """Mean over whole trainings of the processor's seconds, which no other program lengthens."""
    spent = [r.processor_seconds or r.seconds for r in result.records if not r.diverged]
    return sum(spent) / len(spent) if spent else np.nan


found = [(words, paired.best_rates(results)) for words, results in forms("why_today")[0]]
shown = found[0][1] if found else []
panels = []
for task, group in paired.by_task(shown).items():
    scored, scaled = paired.outcome(task), float
    axis = scored.axis
    if scored.is_error:
        axis, scaled = f"{axis} (powers of ten)", np.log10
    points = {
        r.label.replace(", zero", " with zero"): [
            (seconds(r), scaled(value)) for value in paired.outcomes(r).values()
        ]
        for r in group
    }
    panels.append((task.title, axis, points))
scatter(
    "fig-today",
    ("The wRNN beside LSTM, GRU and LRU", "why_today"),
    "One panel per task: result on the test set against processor seconds of training, one point "
    "per seed and one mark per model.",
    "wRNN, iRNN, LSTM, GRU and LRU, matched in parameters, each at the rate that validates best, "
    "against the seconds of its training. No counterpart in the paper.",
    shown,
    panels,
    xlabel="processor seconds of training",
)
less = {}  # (words, task, label) -> outcome of the wRNN less that of the model, as text
for words, results in found[:1]:
    answers, brief = [], []
    for task, group in paired.by_task(results).items():
        of = {r.label: scores for r in group if (scores := paired.outcomes(r))}
        wave = of.pop("wRNN", {})
        if not of or not wave:  # they diverged
            continue
        scored, scale, ahead, unit = paired.outcome(task), "linear", "above", ""
        if scored.is_error:
            scale, ahead, unit = "log", "below", " powers of ten"
        leads = {name: paired.difference(wave, scores, scale) for name, scores in of.items()}
        less |= {(words, task, name): cell(lead, unit) for name, lead in leads.items()}
        learned = {name: leads[name] for name in of if paired.with_gain(of[name], scored)}
        idle = [name for name in leads if name not in learned]
        still = f"; without a seed that has left chance: {', '.join(idle)}" if idle else ""
        if not learned:
            brief.append(("not judged, as no other has left chance", brief_title(task)))
            answers.append(f"{brief_title(task)}: **not judged**{still}")
            continue
        rival = max((r for r in group if r.label in learned), key=paired.validation_rank).label
        (told,) = against({rival: learned[rival]}, ahead)
        brief.append((f"{told} the best other", brief_title(task)))
        answers.append(
            f"{brief_title(task)}: {listed(against(learned, ahead))}. Its {scored.axis} less that "
            f"of {rival}, the best of the others on validation: {text(leads[rival], unit)}{still}"
        )
    if answers:
        in_short("sec-today", words, grouped(brief))
        answer(f"{words}. The wRNN is, on the", answers)
page.compare(
    "tab-today",
    shown,
    {
        "task": lambda r: r.run.task.title,
        "model": lambda r: r.label,
        "parameters": lambda r: r.parameters,
        "learning rate": lambda r: tables.number(r.run.learning_rate),
        "test": lambda r: page.value(r, paired.outcome(r.run.task).metric),
        "wRNN less this": lambda r: (
            "" if r.label == "wRNN" else less.get((found[0][0], r.run.task, r.label), "")
        ),
        "seconds": lambda r: tables.number(seconds(r), 2),
    },
    "The models of {numref}`fig-today`, their results on its axes, and that of the wRNN less each.",
    ("The wRNN beside LSTM, GRU and LRU", "why_today"),
)

# %% [markdown]
# ```{include} generated/fig-today.md
# ```
#
# ::::{dropdown} Numbers: wRNN, iRNN, LSTM, GRU and LRU
# ```{include} generated/tab-today.md
# ```
# ::::
#
# **What would change it.** The budget: gates learn late, and these are the first steps only. Larger
# networks, more rates, a schedule; and for the seconds, another machine: PyTorch's LSTM, the
# compiled wRNN and a scan in Python are not equally well made.
#
# (sec-choices)=
# ## What do the released code's choices do?
#
# **Question.** The released code leaves the recurrent bias at PyTorch's default, divides the loss
# by the batch size, and fills V-init with ones ({ref}`sec-text-and-code`). What does each of them
# do?
#
# **Method.** All eight combinations with the same seeds. The effect of doing otherwise is the mean
# over the four combinations with the alternative less that over the four with the code's choice.

# %% tags=["hide-input"]
found, shown = forms("why_released")
draw(
    "fig-choices",
    ("The released code's choices", "why_released"),
    "One panel per task; in each, eight rows, one per combination of recurrent bias, scale of the "
    "loss and V-init, with a dot per seed and the mean.",
    "All combinations of three choices that the released code makes and the text does not.",
    shown,
    per_task(
        shown,
        lambda r: (
            f"{r.run.model.recurrent_bias} bias, {'divided' if r.run.loss_scale < 1 else 'plain'} "
            f"loss, V-init {r.run.model.input}"
        ),
    ),
)
rows = []
for words, results in found:
    brief = []
    for task, group in paired.by_task(results).items():
        measured = {paired.outcome(task).axis: paired.outcomes}
        if task.name == "copy":  # in which many combinations have every symbol right
            measured["cross-entropy (powers of ten)"] = paired.losses
        sure = {}
        for metric, values in measured.items():
            effects = paired.choice_effects(group, values) or ()
            for choice, effect in zip(paired.CHOICES, effects, strict=False):
                row = {"choice": choice, "effect": text(effect), "on": metric}
                rows.append(row | {"task": task.title, "form": words.removeprefix("The ")})
                if paired.side(effect) != "open":
                    sure[f"{choice}, in {metric}"] = effect
        brief += [(f"makes a difference ({brief_title(task)})", name) for name in sure]
        page.say(
            f"{words}, {task.title}: of the three, **these make a difference that the seeds can "
            f"tell**: {names(sure)}."
        )
    if rows:
        in_short("sec-choices", words, grouped(brief) or {"no difference told": []})
page.table(
    "tab-choices",
    rows,
    "Main effects of three choices of the released code: what the alternative changes.",
    ("Main effects of the released code's choices", "why_released"),
)

# %% [markdown]
# ```{include} generated/fig-choices.md
# ```
#
# ::::{dropdown} Numbers: main effects of the released code's choices
# ```{include} generated/tab-choices.md
# ```
# ::::
#
# **What would change it.** Other budgets: a start that only delays learning has no effect once all
# have learned. On pixels the gradient is clipped after the loss is divided, so that dividing also
# turns the clip off.
#
# (sec-parallel)=
# ## Can it be computed in parallel over time?
#
# **Question.** A shift is linear and could be computed as a scan over time. Does a trained wRNN
# stay that easy?
#
# **Method.** Newton's method on all steps at once (DEER {cite}`lim2024deer`) solves a linear
# recurrence in one iteration (each can be a parallel scan); a chaotic one takes about as many as
# there are steps {cite}`gonzalez2025predictability`. A small wRNN with zero bias is trained
# to copy and cut at several steps. At each, on test sequences: the iterations until every state is
# that of the step loop, and the largest Lyapunov exponent over ten sequences in a row.

# %% tags=["hide-input"]
found, shown = forms("why_parallel")
measured = {words: dynamics.through_training(results) for words, results in found}
first = measured[found[0][0]].items() if found else ()
T = shown[0].run.task.length if shown else 0
draw(
    "fig-parallel",
    ("Newton iterations and Lyapunov exponents", "why_parallel"),
    "Two panels: Newton iterations and the largest Lyapunov exponent, one row per number of "
    "training steps, with a dot per seed and the mean.",
    "What it takes to compute a small wRNN in parallel over time, through training. No counterpart "
    "in the paper.",
    shown,
    [
        (
            "",
            name,
            {
                f"step {step:,}": {s: v[k] for s, v in of.items() if np.isfinite(v[k])}
                for step, of in first
            },
        )
        for k, name in enumerate(
            (f"Newton iterations (of at most {T})", "largest Lyapunov exponent (nats per step)")
        )
    ],
)
for words, results in found:
    (_, start), *_, (last, end) = measured[words].items()
    more = paired.difference(*({seed: n for seed, (n, _) in of.items()} for of in (end, start)))
    exponents = [e for _, e in end.values() if np.isfinite(e)]
    told = {"above": "makes it dearer", "below": "makes it cheaper"}
    said = f"training {told.get(paired.side(more), 'may or may not make it dearer')}"
    in_short("sec-parallel", words, {said: []})
    page.say(
        f"{words}: **{said}.** "
        f"After {last:,} steps Newton takes {text(more)} iterations more than the "
        f"{text(interval([n for n, _ in start.values()]))} at the start, of at most "
        f"{results[0].run.task.length}; the exponent is then {text(interval(exponents))}."
    )

# %% [markdown]
# ```{include} generated/fig-parallel.md
# ```
#
# This is the price of a rectifier in the recurrence, not of memory: the linear recurrent units of
# {ref}`sec-today` need one scan. A frozen shift keeps that cheap way as far as its drive is
# positive.
#
# **What would change it.** Longer sequences, larger networks, and a damped or coarser iteration,
# which need not be exact.
#
# (sec-blocks)=
# ## A block one can stack
#
# **Question.** A wRNN in a deeper model can diverge. Is the recurrent bias, the missing leak or
# V-init the reason, and how should one use it?
#
# **Method.** Residual blocks (layer norm, wRNN, MLP; `companion.runs.layers.ResidualBlocks`), two
# and four deep, against a single wRNN matched in parameters, at a rate of 0.001 and without
# clipping. The starts differ in the recurrent bias, in V-init, and in a leak, a kernel that starts
# a little smaller than the shift. By algebra, V-init of ones lets nothing through at the start,
# since the features of a normalised vector sum to zero.

# %% tags=["hide-input"]
found, shown = forms("why_blocks")
draw(
    "fig-blocks",
    ("Residual wRNN blocks", "why_blocks"),
    "One row per network: a single wRNN, and residual blocks from several starts, with test "
    "accuracy by seed and the mean.",
    "Residual wRNN blocks from several starts against a single layer matched in parameters. No "
    "counterpart in the paper.",
    shown,
    per_task(shown),
)
ZERO_BIAS, UNIFORM = dict(recurrent_bias="zero"), dict(input="default")
STARTS = {  # what is changed, and in which stacks
    "a recurrent bias of zero, with V-init": (ZERO_BIAS, dict(input="ones")),
    "a recurrent bias of zero, with uniform weights": (ZERO_BIAS, UNIFORM),
    "uniform weights in place of V-init, with the default bias": (
        UNIFORM,
        dict(recurrent_bias="default"),
    ),
    "uniform weights in place of V-init, with a bias of zero": (UNIFORM, ZERO_BIAS),
    "a leak beside these two": (dict(leak=0.05), {}),
}


def among(results, wanted):
    """The results whose models have the wanted fields."""
    return [r for r in results if all(getattr(r.run.model, k) == v for k, v in wanted.items())]


for words, results in found:
    (single,) = (paired.outcomes(r) for r in results if not r.run.model.depth)
    stacks = {r.label: r for r in results if r.run.model.depth}
    leads = {name: paired.difference(paired.outcomes(r), single) for name, r in stacks.items()}
    best = max(stacks, key=lambda name: paired.validation_rank(stacks[name]))
    told = {"above": "better than", "below": "worse than", "open": "not told apart from"}
    lost = [
        f"{len(r.records) - paired.survivors(r)} of {len(r.records)} of {r.label}"
        for r in results
        if paired.survivors(r) < len(r.records)
    ]
    effects = {
        name: paired.effect_of(among(stacks.values(), where), **change)
        for name, (change, where) in STARTS.items()
    }
    compared = told[paired.side(leads[best])] if leads[best] else "not compared with"
    said = f"{compared} a single layer"
    in_short("sec-blocks", words, {said: [best]})
    page.say(
        f"{words}: {'; '.join(lost) or 'no run'} diverged. Of the stacks with the fewest diverged "
        f"seeds {best} validates best, so that it is the one to use; it is **{said}**: "
        f"{text(leads[best], ' points')}."
    )
    answer(
        "What each start does to the stacks, all else alike",
        [f"{name}: {text(effect, ' points')}" for name, effect in effects.items()],
    )

# %% [markdown]
# ```{include} generated/fig-blocks.md
# ```
#
# **What would change it.** More steps, and clipping, which hides a divergence. The layers of a
# block are narrower than the single one, so that depth is paid for in rings.
#
# ## What could still be unfair

# %% tags=["hide-input"]
SHORT_FORMS = dict.fromkeys(form for form, _ in SHORT.values())
page.table(
    "tab-why",
    [
        {
            "question": f"{{ref}}`{section}`",
            "answer": ". ".join(
                f"**{words}**" + ": " * bool(of) + "; ".join(of) for words, of in groups.items()
            )
            + f" ({form})" * (len(SHORT_FORMS) > 1),
        }
        for section, (form, groups) in SHORT.items()
    ],
    f"The questions of this chapter in short ({' and '.join(SHORT_FORMS)}); each answer's "
    "intervals are in its section.",
)
KINDS, units = {"iRNN": "irnn", "LSTM": "lstm", "GRU": "gru"}, {}
planned = page.recorded("why_today")
tried = sorted({result.run.learning_rate for result in planned})
best = paired.best_rates(planned)
at_end = sum(result.run.learning_rate in (tried[0], tried[-1]) for result in best)
for group in paired.by_task(planned).values():
    sizes = {r.run.model.kind: r.run.model.size * r.run.model.num_channels for r in group}
    for name, kind in KINDS.items():
        units.setdefault(name, []).append(sizes["wrnn"] / sizes[kind])
page.say(
    "Equal parameters are not equal state: in {ref}`sec-today` a wRNN has, by task, "
    + ", ".join(
        f"{tables.number(min(times), 2)} to {tables.number(max(times), 2)} times the units of the "
        f"{name}"
        for name, times in units.items()
    )
    + ". The capacity section compares both ways, the others don't."
)
if best:
    page.say(
        f"Of the {len(tried)} learning rates there, the lowest or the highest validates best for "
        f"{at_end} of {len(best)} pairs of a model and a task: one beyond could be better still."
    )

# %% [markdown]
# - Every model has the same number of steps. An LSTM or an iRNN that learns late looks worse here
#   than it is.
# - Only the learning rate is searched, and only in one section. Elsewhere all models use a rate of
#   0.001, which was chosen for the wRNN.
# - The frozen kernels are trained with an input bias at every site, which breaks the symmetry of
#   the ring. The trained wRNN has it too.
#
# ## Run it again

# %% tags=["hide-input"]
spent = {
    record.id: record.processor_seconds or record.seconds
    for experiment in find_experiments(["why"])
    for result in page.recorded(experiment.name)
    for record in result.records
}
page.say(
    f"The paper form of this chapter is {len(spent):,} runs so far; they took "
    f"{tables.number(sum(spent.values()) / 3600)} hours of one processor."
)

# %% [markdown]
# ```bash
# wrnn run why --profile paper --device cpu --seeds 5
# papermill book/08_beyond.ipynb out.ipynb -p profile paper -p train False
# ```
