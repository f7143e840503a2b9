# %% [markdown]
# (sec-beyond)=
# # Why waves? Controls beyond the paper
#
# **What the paper claims.** Waves are the memory: a wave carries the recent past along a ring, and
# that is why a Wave-RNN (wRNN) learns to copy and to add where an identity RNN (iRNN) does not
# {cite}`keller2024waves`.
#
# **What this chapter does.** It takes the claim apart. A network in which the wave is nothing but a
# fixed buffer, networks that are asked for more than one lap, or for another lag than they were
# trained on, and the recurrent layers that a reader would use today: one question a section, one
# small experiment, one figure, and an answer that is computed from the records. What the paper's
# appendix shows of several speeds and of waves through training is at the end.
#
# Every experiment has a paper form, five seeds within hours on a CPU, and a quick form that is
# trained with this book. An answer says which of them it is about. A value is a mean over seeds
# with its 95 % interval, a comparison is made within seeds, and a single seed has no interval and
# settles nothing.

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["hide-input"]
from dataclasses import replace

import numpy as np
import torch

from companion.evidence import dynamics, paired, recall, tables, waves
from companion.page import chapter, figures
from companion.records.table import interval
from wrnn.tasks import CopyTask

page = chapter.Chapter(profile=profile, device=device, seeds=seeds, train=train)
SEEDS = 5  # of the paper form


def forms(experiment):
    """What can be compared, as (words, results): the paper form first, then the small one.

    Of a form, the tasks of which every configuration has a record.
    """
    small = "The quick form" if page.small_profile == "quick" else "The smoke form"
    both = (("The paper form", page.recorded(experiment)), (small, page.this_run(experiment)))
    found = []
    for words, results in both:
        lacking = {result.run.task for result in results if not result.records}
        found.append((words, [r for r in results if r.run.task not in lacking]))
    return [(words, results) for words, results in found if results]


def missing(experiment):
    """Name what the paper form lacks, and the command that records it."""
    planned = page.recorded(experiment)
    lacking = sum(len(result.records) < SEEDS for result in planned)
    if lacking:
        page.say(
            f"**Not yet recorded** in the paper form: {lacking} of {len(planned)} configurations "
            f"lack some or all of {SEEDS} seeds. Command: "
            f"`{chapter.command(experiment)} --seeds {SEEDS}`."
        )


def text(found, unit=""):
    """An estimate with its interval and number of seeds."""
    if found is None:
        return "not to be said"
    return f"{tables.interval(found)}{unit} (n = {found.count})"


def decided(found, line=0.0):
    """Whether an interval lies above a line, below it, or says neither."""
    if found is None or found.low is None:
        return "open"
    return "above" if found.low > line else "below" if found.high < line else "open"


def outcome(task):
    """The test metric of a task, the name of its axis, and what a network without memory gets."""
    return {
        "copy": ("token_accuracy", "right symbols (%)", 100 / 8),
        "adding": ("mse", "squared error", 1 / 6),
    }.get(task.name, ("accuracy", "accuracy (%)", 10.0))


def by_task(results):
    """Results by the title of their task."""
    groups = {}
    for result in results:
        groups.setdefault(result.run.task.title, []).append(result)
    return groups


def values(result):
    """The outcome of every seed."""
    return list(paired.by_seed(result, outcome(result.run.task)[0]).values())


def draw(name, experiment, what, panels, alt, caption, results):
    """A figure of values over seeds, or the notice that there are none."""
    panels = [(t, x, {k: v for k, v in g.items() if v}) for t, x, g in panels]
    panels = [panel for panel in panels if panel[2]]
    if panels:
        page.figure(name, figures.intervals(panels), alt=alt, caption=caption, results=results)
    else:
        page.nothing(name, what, experiment)


# %% [markdown]
# ## Is a frozen shift enough?
#
# **Question.** If waves are the memory, a recurrent kernel that is the shift and stays the shift
# should do. How much of the wRNN's result does such a fixed buffer explain?
#
# **Method.** The kernel is frozen at the shift, at the identity or at PyTorch's random kernel, with
# a recurrent bias of zero; what reads in ($\mathbf{V}$ and its bias) and out is trained. Beside
# them stand the wRNN with the released code's recurrent bias and with none, and an iRNN of about as
# many parameters, as the released code starts it and with an input bias of zero. Same data, steps
# and rate for all.

# %% tags=["hide-input"]
found = forms("why_frozen")
shown = found[0][1] if found else []
draw(
    "fig-frozen",
    "why_frozen",
    "Frozen kernels against trained ones",
    [
        (title, outcome(group[0].run.task)[1], {r.label: values(r) for r in group})
        for title, group in by_task(shown).items()
    ],
    "One panel per task; in each, one row per model with a dot per seed and the mean: trained "
    "wRNNs, three frozen kernels, and iRNNs.",
    "Result on the test set with recurrent kernels that are trained and that keep their start. No "
    "counterpart in the paper.",
    shown,
)

# %% [markdown]
# ```{include} generated/fig-frozen.md
# ```

# %% tags=["hide-input"]
missing("why_frozen")
for words, results in found:
    for title, group in by_task(results).items():
        metric, _, chance = outcome(group[0].run.task)
        of = {r.label: paired.by_seed(r, metric) for r in group}
        shares = {
            name: paired.gained(
                scores,
                of.get("wRNN (zero bias)", {}),
                chance=chance,
                best=0 if metric == "mse" else 100,
            )
            for name, scores in of.items()
            if not name.startswith("wRNN")
        }
        if not any(shares.values()):
            page.say(f"{words}, {title}: **open**, the trained wRNN itself is near chance.")
            continue
        shift = shares.get("frozen shift")
        verdict = {
            "above": "A fixed buffer is enough",
            "below": "A fixed buffer is not enough",
        }.get(decided(shift, 90), "Whether a fixed buffer is enough stays open")
        page.say(
            f"{words}, {title}: **{verdict}.** Of what the trained wRNN without recurrent bias "
            "gains over a network without memory, "
            + ", ".join(f"{name} has {text(share, ' %')}" for name, share in shares.items())
            + "."
        )

# %% [markdown]
# "Enough" is an interval above 90 %, "not enough" one below. Seeds in which the trained wRNN itself
# is within a tenth of chance are left out; where that is all of them, nothing can be said.
#
# **What would change it.** Longer training, in which a trained kernel could pull ahead, and tasks
# that ask for more than keeping: a frozen shift can't compute between sites, only between what
# enters together. Freezing also removes parameters, though few ($3c^2 + c$).
#
# ## What happens after a lap?
#
# **Question.** On a ring of $n$ sites, what entered $n$ steps ago is back where it entered
# ({ref}`sec-waves-as-memory`). Does copying break there?
#
# **Method.** A wRNN is trained at lags below and above one lap; rings of another length at the same
# lags are the control, since there the lap ends elsewhere. From the stored weights, the trace that
# one symbol leaves is followed around the ring among blanks: its speed, and its size after a lap.

# %% tags=["hide-input"]
found = forms("why_laps")
groups, laps = {}, []
for result in found[0][1] if found else []:
    scores = paired.by_seed(result, "token_accuracy")
    n, lag = result.run.model.size, result.run.task.lag
    mean = interval(list(scores.values())).mean
    groups.setdefault(f"rings of {n} sites", []).append((lag / n, mean))
    responses = []
    for record in result.records:
        model = recall.trained_model(record)
        if model is not None:
            tokens = torch.eye(10)
            responses += [recall.one_lap(model.rnn, token, tokens[0]) for token in tokens[1:9]]
    if responses:
        speeds = [np.average(r.speeds, weights=r.sizes) for r in responses if r.sizes.any()]
        spread = [np.ptp(r.speeds) for r in responses]
        laps.append(
            {
                "sites per ring": n,
                "lag": lag,
                "laps": tables.number(lag / n),
                "right symbols (%)": page.value(result, "token_accuracy"),
                "size after a lap (of that before)": tables.number(
                    float(np.median([r.gain for r in responses]))
                ),
                "speed (sites per step)": tables.number(float(np.mean(speeds)) if speeds else None),
                "channels apart by": tables.number(float(np.mean(spread))),
            }
        )
if groups:
    ends = sorted({1.0, *(lap for points in groups.values() for lap, _ in points)})
    law = [(lap, 100 * min(1, 1 / lap)) for lap in ends]
    page.figure(
        "fig-after-a-lap",
        figures.points(
            [("", "right symbols (%)", groups | {"law of chapter 1": law})],
            xlabel="lag (laps of the ring)",
            connected=True,
        ),
        alt="Share of right symbols against the lag in laps, for rings of two lengths, beside the "
        "lap law, which falls as one over the number of laps.",
        caption="Copying below and above one lap of the ring, means over seeds, beside what the "
        "law of {ref}`sec-waves-as-memory` leaves of spikes at any time. The paper's Figure 4 has "
        "T = 480, a lag of 490 on rings of 100 sites.",
        results=found[0][1],
    )
else:
    page.nothing("fig-after-a-lap", "Copying after a lap", "why_laps")

# %% tags=["hide-cell"]
if laps:
    page.table(
        "tab-after-a-lap",
        laps,
        "Copying after a lap, and what the trained kernel and biases do to the trace of a symbol: "
        "median size after one lap, mean speed weighted by the channels' activity, and mean "
        "distance of the slowest and the fastest channel.",
    )
else:
    page.nothing("tab-after-a-lap", "The trace of a symbol after a lap", "why_laps")

# %% [markdown]
# ```{include} generated/fig-after-a-lap.md
# ```
#
# ```{include} generated/tab-after-a-lap.md
# ```

# %% tags=["hide-input"]
missing("why_laps")
for words, results in found:
    scores = {
        (r.run.model.size, r.run.task.lag): paired.by_seed(r, "token_accuracy") for r in results
    }
    short = min(n for n, _ in scores)
    longer = max(n for n, _ in scores)
    within = max((lag for n, lag in scores if n == short and lag < n), default=None)
    beyond = [lag for n, lag in scores if n == short < lag]
    for lag in beyond:
        here, before = scores[short, lag], scores.get((short, within), {})
        change = paired.difference(here, before)
        words_of = {"below": "It gets worse", "above": "It gets better"}
        told = words_of.get(decided(change), "No change can be told")
        control = paired.difference(scores.get((longer, lag), {}), here)
        more = f" Rings of {longer} at that lag: {text(control, ' points')} more."
        page.say(
            f"{words}, lag {lag} on rings of {short} ({tables.number(lag / short)} laps) against "
            f"lag {within}: **{told}**, by {text(change, ' points')} of right symbols."
            + more
            * (control is not None)
        )

# %% [markdown]
# That a lap is no wall for copying is no contradiction to the lap law. The law counts spikes that
# may come at any time. A copy sequence has ten symbols and then blanks, so that ten of the $n$
# sites of a ring are in use however many laps go by, and the cue says when to answer. So the
# paper's $T = 480$, 4.9 laps of its rings, shows that a trace can be kept alive for 490 steps, not
# that a ring of 100 sites remembers 490 steps: it has to remember ten.
#
# **What would change it.** A copy task whose symbols go on during the lag, so that every site is
# needed again after a lap.
#
# ## How much does the state hold?
#
# **Question.** How many past inputs can be read from the state, before and after training, at equal
# state size and at equal parameters?
#
# **Method.** Jaeger's memory capacity {cite}`jaeger2001memory`: for every delay, the squared
# correlation of the input then with its best linear readout now, summed over delays; at most the
# number of units. The networks are trained on sequential digits, 64 steps of one number. They are
# driven with 64 independent numbers from [0, 1) and read at the end; the readout is fitted on 4,000
# sequences and scored on 4,000 others, with noise on every unit of the read state.

# %% tags=["hide-input"]
NOISE = (0.0, 0.01, 0.1)
SHOWN_NOISE = 0.01
sequences = 1000 if profile == "smoke" else 8000
draws = np.random.default_rng(0).random((sequences, 64))  # (sequences, T)


def total_capacity(states, noise):
    """Capacity of the last states with noise, over delays 0 to 63."""
    generator = np.random.default_rng(1)
    return recall.memory_capacity(states, draws, noise=noise, generator=generator).sum()


def capacities(results):
    """Label -> {(when, noise): {seed: capacity}}."""
    found = {}
    for result in results:
        config = result.run.model
        rings = f", {config.num_channels} × {config.size}" if config.num_channels > 1 else ""
        name = result.label + rings
        of = found.setdefault(name, {})
        for record in result.records:
            models = {"before": record.run.start(), "after": recall.trained_model(record)}
            for when, model in models.items():
                if model is None:
                    continue
                states = recall.driven_states(model, draws)
                for noise in NOISE:
                    scores = of.setdefault((when, noise), {})
                    scores[record.run.seed] = float(total_capacity(states, noise))
    return found


found = [(words, results, capacities(results)) for words, results in forms("why_capacity")]
held = found[0][2] if found else {}
draw(
    "fig-memory-capacity",
    "why_capacity",
    "Memory capacity before and after training",
    [
        (
            f"{when} training",
            f"memory capacity (inputs of {draws.shape[1]})",
            {name: list(of.get((when, SHOWN_NOISE), {}).values()) for name, of in held.items()},
        )
        for when in ("before", "after")
    ],
    "Two panels, before and after training; in each, one row per network with its memory capacity.",
    f"Linear memory capacity of the state with noise of {SHOWN_NOISE:.0%} of its size. No "
    "counterpart in the paper.",
    found[0][1] if found else [],
)

# %% tags=["hide-cell"]
if held:
    page.table(
        "tab-memory-capacity",
        [
            {
                "network": name,
                "units": result.run.model.size * result.run.model.num_channels,
                "parameters": result.parameters,
                **{
                    f"{when}, noise {noise:g}": text(
                        interval(list(of[when, noise].values())) if (when, noise) in of else None
                    )
                    for when in ("before", "after")
                    for noise in NOISE
                },
            }
            for (name, of), result in zip(held.items(), found[0][1], strict=True)
        ],
        "Memory capacity before and after training, by the noise on the state that is read (as a "
        "share of its size).",
    )
else:
    page.nothing("tab-memory-capacity", "Memory capacity", "why_capacity")

# %% [markdown]
# ```{include} generated/fig-memory-capacity.md
# ```
#
# ```{include} generated/tab-memory-capacity.md
# ```

# %% tags=["hide-input"]
missing("why_capacity")
for words, results, of_all in found:
    wave = next(of for name, of in of_all.items() if name.startswith("wRNN (zero bias)"))
    sites = next(r.run.model.size for r in results if r.run.model.kind == "wrnn")
    change = paired.difference(
        wave.get(("after", SHOWN_NOISE), {}), wave.get(("before", SHOWN_NOISE), {})
    )
    start = interval(list(wave["before", SHOWN_NOISE].values()))
    told = {"above": "Training adds memory", "below": "Training takes memory away"}
    others = [
        f"{name} {text(d)}"
        for name, of in of_all.items()
        if name.split(" (")[0] in ("iRNN", "LSTM")
        and (
            d := paired.difference(
                wave.get(("after", SHOWN_NOISE), {}), of.get(("after", SHOWN_NOISE), {})
            )
        )
    ]
    page.say(
        f"{words}: **{told.get(decided(change), 'Whether training adds memory stays open')}.** The "
        f"wRNN with zero bias starts with a capacity of {text(start)} on rings of {sites} sites, "
        f"and training changes it by {text(change)}. After training it holds more than the others "
        f"by: {'; '.join(others)}."
    )

# %% [markdown]
# With V-init all channels of a wRNN start as copies of one ring, which holds $n$ numbers however
# many channels there are; what the others add has to be learned.
#
# **What would change it.** Another input than independent numbers, a nonlinear readout, and a task
# that asks for more: a network gives up memory that its task doesn't reward.
#
# ## Does it carry over?
#
# **Question.** A network has learned to copy at one lag, or to add in sequences of one length. What
# is it worth at another?
#
# **Method.** Stored weights, asked without any training at other lags and lengths: the wRNN, the
# frozen shift, an iRNN and an LSTM (forget bias 1), all of about the same number of parameters.


# %% tags=["hide-input"]
def other_tasks(results):
    """Of every result: what it is asked, as (axis values, tasks)."""
    for result in results:
        task = result.run.task
        if task.name == "copy":
            n = results[0].run.model.size
            lags = {
                max(11, task.lag + d) for d in (-8, -4, -2, -1, 0, 1, 2, 4, 8, 20, n - 1, n, n + 1)
            }
            asked = sorted(lags)
            yield result, asked, [CopyTask(lag, test_batches=2) for lag in asked]
        else:
            asked = [max(2, int(task.length * share)) for share in (0.5, 1, 2, 4)]
            yield result, asked, [replace(task, length=length) for length in asked]


carried = []  # (words, result, asked, seed -> values)
for words, results in forms("why_carry"):
    for result, asked, tasks in other_tasks(results):
        scores = recall.asked(result, tasks, outcome(result.run.task)[0])
        if scores:
            carried.append((words, result, asked, scores))
panels = {}
for words, result, asked, scores in carried:
    if words == carried[0][0]:
        title, ylabel = result.run.task.title, outcome(result.run.task)[1]
        means = np.mean(list(scores.values()), axis=0)
        means = means if result.run.task.name == "copy" else np.minimum(means, 1)
        panels.setdefault((f"trained on the {title}", ylabel), {})[result.label] = list(
            zip(asked, means, strict=True)
        )
if panels:
    page.figure(
        "fig-carry-over",
        figures.points(
            [(title, ylabel, groups) for (title, ylabel), groups in panels.items()],
            xlabel="lag or length that is asked for (steps)",
            connected=True,
        ),
        alt="Two panels: share of right symbols against the lag that is asked for, and squared "
        "error against the length of the adding sequence, one curve per network.",
        caption="Networks trained at one lag or length and asked at others, means over seeds; a "
        "squared error above 1 is drawn at 1. No counterpart in the paper.",
        results=[result for words, result, _, _ in carried if words == carried[0][0]],
    )
else:
    page.nothing("fig-carry-over", "Other lags and lengths", "why_carry")

# %% [markdown]
# ```{include} generated/fig-carry-over.md
# ```

# %% tags=["hide-input"]
missing("why_carry")
for words, result, asked, scores in carried:
    task = result.run.task
    own = asked.index(task.lag if task.name == "copy" else task.length)
    at = {seed: dict(zip(asked, row, strict=True)) for seed, row in scores.items()}
    if task.name == "copy":
        near = paired.difference(
            {seed: row[task.lag + 1] for seed, row in at.items()},
            {seed: row[task.lag] for seed, row in at.items()},
        )
        told = {"below": "It does not carry over", "above": "It carries over"}
        page.say(
            f"{words}, {result.label}, trained at lag {task.lag}: "
            f"**{told.get(decided(near), 'It stays open')}.** One step later it has "
            f"{text(near, ' points')} of right symbols against its own lag, where it has "
            f"{text(interval([row[own] for row in scores.values()]), ' %')}."
        )
    else:
        longest = paired.difference(
            {seed: row[-1] for seed, row in scores.items()},
            {seed: 1 / 6 for seed in scores},
        )
        told = {"below": "It carries over in part", "above": "It does not carry over"}
        page.say(
            f"{words}, {result.label}, trained at length {task.length}: "
            f"**{told.get(decided(longest), 'It stays open')}.** At four times the length its "
            f"error less that of a constant answer is {text(longest)}; at its own length it is "
            f"{text(interval([row[own] for row in scores.values()]))}."
        )

# %% [markdown]
# For copying the reason can be written down. In the frozen shift, a symbol that came $S$ steps ago
# is at site $-S \bmod n$, and the readout looks at one site: the lag isn't in the waves, it is in
# the readout. A sum, on the contrary, need not care where on the ring its terms are.
#
# **What would change it.** Training on several lags at once, where a network could learn to go by
# the cue.
#
# ## What would a reader use today?
#
# **Question.** How does a wRNN stand beside an LSTM, a GRU and a linear recurrent unit
# (LRU {cite}`orvieto2023lru`) of about the same number of parameters, with the same data and steps?
#
# **Method.** The LSTM starts with a forget bias of 1. The LRU has a complex diagonal and is linear
# in its input, so two of them stand in residual blocks with an MLP, as in its paper. Each model is
# trained at three learning rates (one in the quick form), and the best on validation is tested.

# %% tags=["hide-input"]
found = [(words, paired.best_rates(results)) for words, results in forms("why_today")]
shown = found[0][1] if found else []


def seconds(result):
    """Mean over seeds of the processor's seconds, which other programs don't lengthen."""
    spent = [record.processor_seconds or record.seconds for record in result.records]
    return sum(spent) / len(spent)


panels = [
    (
        title,
        outcome(group[0].run.task)[1],
        {
            r.label.replace(", zero", " with zero"): [(seconds(r), v) for v in values(r)]
            for r in group
        },
    )
    for title, group in by_task(shown).items()
]
if panels:
    page.figure(
        "fig-today",
        figures.points(panels, xlabel="processor seconds of training"),
        alt="One panel per task: result on the test set against processor seconds of training, "
        "one point per seed and one mark per model.",
        caption="wRNN, iRNN, LSTM, GRU and LRU at about equal parameters, each at the rate that "
        "validates best, against the seconds of its training. No counterpart in the paper.",
        results=shown,
    )
else:
    page.nothing("fig-today", "The wRNN beside LSTM, GRU and LRU", "why_today")
page.compare(
    "tab-today",
    shown,
    {
        "task": lambda r: r.run.task.title,
        "model": lambda r: r.label,
        "parameters": lambda r: r.parameters,
        "learning rate": lambda r: tables.number(r.run.learning_rate),
        "metric": lambda r: outcome(r.run.task)[1],
        "test": lambda r: page.value(r, outcome(r.run.task)[0]),
        "seconds": lambda r: tables.number(seconds(r), 2),
    },
    "The models of {numref}`fig-today`.",
    ("The wRNN beside LSTM, GRU and LRU", "why_today"),
)

# %% [markdown]
# ```{include} generated/fig-today.md
# ```
#
# ```{include} generated/tab-today.md
# ```

# %% tags=["hide-input"]
missing("why_today")
for words, results in found:
    for title, group in by_task(results).items():
        metric, ylabel, _ = outcome(group[0].run.task)
        better, worse = ("below", "above") if metric == "mse" else ("above", "below")
        of = {r.label: paired.by_seed(r, metric) for r in group}
        wave = of.pop("wRNN", {})
        leads = {name: paired.difference(wave, scores) for name, scores in of.items()}
        sides = {name: decided(lead) for name, lead in leads.items() if lead}
        ahead = [name for name, side in sides.items() if side == better]
        behind = [name for name, side in sides.items() if side == worse]
        page.say(
            f"{words}, {title}: **the wRNN is ahead of {', '.join(ahead) or 'none for sure'}, and "
            f"behind {', '.join(behind) or 'none for sure'}.** Its {ylabel} minus theirs: "
            + "; ".join(f"{name} {text(lead)}" for name, lead in leads.items() if lead)
            + "."
        )

# %% [markdown]
# **What would change it.** The budget: gates learn late, and these are the first steps only.
# Larger networks, more rates, a schedule; and for the seconds, another machine: PyTorch's LSTM,
# the compiled wRNN and a scan in Python are not equally well made.
#
# (sec-choices)=
# ## What do the released code's choices do?
#
# **Question.** The released code leaves the recurrent bias at PyTorch's default, divides the loss
# by the batch size, and fills V-init with ones ({ref}`sec-text-and-code`). What does each of them
# do?
#
# **Method.** All eight combinations with the same seeds. The effect of a choice is the mean over
# the four combinations with it less that over the four without it.

# %% tags=["hide-input"]
CHOICES = {
    "zero recurrent bias (not the default)": ("default", "zero"),
    "loss as it is (not divided)": (True, False),
    "V-init of the text (not of ones)": ("ones", "identity"),
}
found = []  # (words, title, axis, effects)
for words, results in forms("why_released"):
    for title, group in by_task(results).items():
        metric, ylabel, _ = outcome(group[0].run.task)
        outcomes = {
            (r.run.model.recurrent_bias, r.run.loss_scale < 1, r.run.model.input): paired.by_seed(
                r, metric
            )
            for r in group
        }
        whole = len(outcomes) == 2 ** len(CHOICES)
        effects = paired.main_effects(outcomes) if whole else None
        found.append((words, title, ylabel, effects, group))
rows = [
    {
        "form": words.removeprefix("The "),
        "task": title,
        "choice": choice,
        "metric": ylabel,
        "effect": text(effect),
    }
    for words, title, ylabel, effects, _ in found
    if effects
    for choice, effect in zip(CHOICES, effects, strict=True)
]
if rows:
    page.table("tab-choices", rows, "Main effects of three choices of the released code.")
else:
    page.nothing("tab-choices", "Main effects of the released code's choices", "why_released")
shown = [group for words, *_, group in found if words == found[0][0]]
draw(
    "fig-choices",
    "why_released",
    "The released code's choices",
    [
        (
            group[0].run.task.title,
            outcome(group[0].run.task)[1],
            {
                f"{r.run.model.recurrent_bias} bias, "
                f"{'divided' if r.run.loss_scale < 1 else 'plain'} loss, "
                f"V-init {r.run.model.input}": values(r)
                for r in group
            },
        )
        for group in shown
    ],
    "One panel per task; in each, eight rows, one per combination of recurrent bias, scale of the "
    "loss and V-init, with a dot per seed and the mean.",
    "All combinations of three choices that the released code makes and the text does not.",
    [result for group in shown for result in group],
)

# %% [markdown]
# ```{include} generated/fig-choices.md
# ```
#
# ```{include} generated/tab-choices.md
# ```

# %% tags=["hide-input"]
missing("why_released")
for words, title, _, effects, _ in found:
    if effects:
        sure = [
            choice
            for choice, effect in zip(CHOICES, effects, strict=True)
            if decided(effect) != "open"
        ]
        page.say(
            f"{words}, {title}: **{', '.join(sure) if sure else 'none of the three'} "
            f"makes a difference that the seeds can tell.**"
        )

# %% [markdown]
# **What would change it.** Other budgets: a start that only delays learning has no effect once all
# have learned. On pixels the gradient is clipped after the loss is divided, so that dividing also
# turns the clip off.
#
# ## Why it can't be computed in parallel over time
#
# **Question.** A shift is linear and could be computed as a scan over time. Does a trained wRNN
# stay that easy?
#
# **Method.** Newton's method on all steps at once (DEER {cite}`lim2024deer`) solves a linear
# recurrence in one iteration, each of which can be a parallel scan; a chaotic one takes about as
# many as there are steps {cite}`gonzalez2025predictability`. A small wRNN with zero bias is trained
# to copy and cut at several steps. At each, on test sequences: the iterations until every state is
# that of the step loop, and the largest Lyapunov exponent over ten sequences in a row.


# %% tags=["hide-input"]
def parallel(model, task):
    """Newton iterations and the largest Lyapunov exponent of a copying network."""
    x = next(iter(task.evaluation_batches("test", 8)))[0].double()  # (T, 8, input)
    step, state = dynamics.wave_step(model.rnn), torch.zeros(8, model.rnn.hidden_size).double()
    long = next(iter(task.evaluation_batches("validation", 40)))[0].double()  # (T, 40, input)
    long = long.view(len(x), 10, 4, -1).transpose(0, 1).flatten(0, 1)  # (10 T, 4, input)
    exponent = dynamics.lyapunov_exponent(
        step, state[:4], long, skip=len(x), generator=torch.Generator().manual_seed(0)
    )
    return dynamics.newton_iterations(step, state, x), exponent


measured = {}  # (words, step) -> seed -> (iterations, exponent)
found = forms("why_parallel")
for words, results in found:
    for result in results:
        for record in result.records:
            models = {0: record.run.start(), record.steps: recall.trained_model(record)}
            for step, model in models.items():
                if model is not None:
                    scores = measured.setdefault((words, step), {})
                    if record.run.seed not in scores:
                        scores[record.run.seed] = parallel(model, record.run.task)
first = [(step, of) for (words, step), of in sorted(measured.items()) if words == found[0][0]]
T = found[0][1][0].run.task.length if found else 0
draw(
    "fig-parallel",
    "why_parallel",
    "Newton iterations and Lyapunov exponents",
    [
        (
            "",
            f"Newton iterations (of at most {T})",
            {f"step {step:,}": [n for n, _ in scores.values()] for step, scores in first},
        ),
        (
            "",
            "largest Lyapunov exponent (nats per step)",
            {
                f"step {step:,}": [e for _, e in scores.values() if np.isfinite(e)]
                for step, scores in first
            },
        ),
    ],
    "Two panels: Newton iterations and the largest Lyapunov exponent, one row per number of "
    "training steps, with a dot per seed and the mean.",
    "What it takes to compute a small wRNN in parallel over time, through training. No counterpart "
    "in the paper.",
    found[0][1] if found else [],
)

# %% [markdown]
# ```{include} generated/fig-parallel.md
# ```

# %% tags=["hide-input"]
missing("why_parallel")
for words, results in found:
    steps = sorted(step for of, step in measured if of == words)
    start, end = (measured[words, steps[index]] for index in (0, -1))
    more = paired.difference(*({seed: n for seed, (n, _) in of.items()} for of in (end, start)))
    exponents = [e for _, e in end.values() if np.isfinite(e)]
    told = {"above": "Training takes the parallel way away", "below": "Training makes it easier"}
    page.say(
        f"{words}: **{told.get(decided(more), 'It stays open')}.** After {steps[-1]:,} steps "
        f"Newton takes {text(more)} iterations more than the "
        f"{text(interval([n for n, _ in start.values()]))} at the start, of at most "
        f"{results[0].run.task.length}; the exponent is then "
        f"{text(interval(exponents) if exponents else None)}."
    )

# %% [markdown]
# This is what the memory costs beside a linear recurrent unit: a rectified network that has left
# its shift is run step by step. A frozen shift keeps the cheap way as far as its drive is positive,
# since its rectifier then does nothing.
#
# **What would change it.** A damped or coarser iteration, which needs not be exact, and larger
# networks.
#
# ## A block one can stack
#
# **Question.** Those who ported the wRNN into deeper models saw it diverge at a learning rate of
# 1e-3. Is the recurrent bias, the missing leak or V-init the reason, and how should one use it?
#
# **Method.** Residual blocks (layer norm, wRNN, MLP; `companion.runs.models.ResidualBlocks`), two
# and four deep, against a single wRNN of about as many parameters, at 1e-3 and without clipping.
# The starts differ in the recurrent bias, in V-init, and in a leak: a kernel that starts at 0.95
# times the shift. By algebra, V-init of ones lets nothing through at the start, since the features
# of a normalised vector sum to zero.

# %% tags=["hide-input"]
found = forms("why_blocks")
shown = found[0][1] if found else []
draw(
    "fig-blocks",
    "why_blocks",
    "Residual wRNN blocks",
    [
        (title, outcome(group[0].run.task)[1], {r.label: values(r) for r in group})
        for title, group in by_task(shown).items()
    ],
    "One row per network: a single wRNN, and residual blocks from several starts, with test "
    "accuracy by seed and the mean.",
    "Residual wRNN blocks from several starts against a single layer of about as many parameters. "
    "No counterpart in the paper.",
    shown,
)

# %% [markdown]
# ```{include} generated/fig-blocks.md
# ```

# %% tags=["hide-input"]
missing("why_blocks")
for words, results in found:
    single = paired.by_seed(next(r for r in results if not r.run.model.depth), "accuracy")
    for result in (r for r in results if r.run.model.depth):
        lead = paired.difference(paired.by_seed(result, "accuracy"), single)
        lost = sum(record.diverged for record in result.records)
        told = {"above": "better than one layer", "below": "worse than one layer"}
        page.say(
            f"{words}, {result.label}: **{told.get(decided(lead), 'open')}**, by "
            f"{text(lead, ' points')}; {lost} of {len(result.records)} diverged."
        )

# %% [markdown]
# **What would change it.** More steps, and clipping, which hides a divergence. The layers of a
# block are narrower than the single one, so that depth is paid for in rings.
#
# (sec-appendix-waves)=
# ## What the appendix shows
#
# Two things that the paper's appendix shows and this book measures, with the measure that
# {ref}`sec-wave-measure` defines: waves of several speeds in one network (Figure 10), and waves
# through training from three starts of the kernel (Figure 18). The speed of a single channel is
# also taken from its raster: the shift along the ring at which states a few steps apart match best.


# %% tags=["hide-cell"]
def measure(hidden):
    """The test and the speed in the raster of every channel of (..., channels, sites)."""
    tests = waves.channel_tests(hidden, generator=np.random.default_rng(0))
    return [(test, waves.raster_speed(hidden[..., [c], :])) for c, test in enumerate(tests)]


rows, several = [], []
for result in page.shown("fig10"):
    hidden = next((h for record in result.records for h in waves.orders(record).values()), None)
    if hidden is None:
        continue
    velocity = result.run.model.velocity
    starts = sorted(set(velocity)) if isinstance(velocity, tuple) else [velocity]
    found = measure(hidden)
    several.append((result, [test for test, _ in found]))
    for channel, (test, raster) in enumerate(found):
        rows.append(
            {
                "model": result.label,
                "accuracy (%)": page.value(result, "accuracy"),
                "channel": channel,
                "speed at the start": tables.number(float(starts[channel % len(starts)])),
                "trained": tables.number(test.speed),
                "in the raster": tables.number(raster),
                "contrast": tables.number(test.contrast, 2),
                "p": tables.number(test.larger_p, 2),
                "wave": "yes" if test.is_wave else "no",
            }
        )
if rows:
    page.table(
        "tab-speeds",
        rows,
        "Speeds of single channels (sites per step) before and after training on sequential "
        "images, as {ref}`sec-wave-measure` has it. The paper's Figure 10.",
    )
else:
    page.nothing("tab-speeds", "Speeds of single channels after training", "fig10")

# %% [markdown]
# ```{include} generated/tab-speeds.md
# ```

# %% tags=["hide-input"]
page.say(page.missing("fig10"))
for result, channels in several:
    moving = [test.speed for test in channels if test.is_wave]
    spread = tables.number(max(moving) - min(moving), 2) if moving else "0"
    page.say(
        f"{result.label} ({result.description}): {len(moving)} of {len(channels)} channels carry a "
        f"wave, at speeds up to {spread} sites per step apart."
    )

# %% [markdown]
# The start at four speeds is ours: a network that has been given several speeds is a cleaner
# question than whether some appear. In the runs of {numref}`fig-waves-training` the learning rate
# stays constant, so that every run is the beginning of the next.

# %% tags=["hide-input"]
STARTS = {"shift": "u-shift", "identity": "identity kernel", "default": "random kernel"}
through = {}  # record id -> (start, result, record, wave)
for result in page.shown("fig18"):
    for record in result.records:
        hidden = waves.orders(record).get("ring") if record.id not in through else None
        if hidden is not None:
            wave = waves.wave_test(hidden, generator=np.random.default_rng(0))
            through[record.id] = (STARTS[record.run.model.recurrent], result, record, wave)

panels = {"speed (sites per step)": {}, "contrast": {}, "accuracy (%)": {}}
for start, _, record, wave in through.values():
    size = "paper's sizes" if record.run.profile == "paper" else f"{record.run.profile} profile"
    row = (wave.speed, wave.contrast, record.metrics["accuracy"])
    for groups, value in zip(panels.values(), row, strict=True):
        groups.setdefault(f"{start}, {size}", []).append((record.run.steps, value))
if through:
    page.figure(
        "fig-waves-training",
        figures.points(
            [("", ylabel, groups) for ylabel, groups in panels.items()],
            xlabel="training step",
            connected=True,
            log_x=True,
        ),
        alt="Three panels against training step: the speed of the strongest line, its "
        "contrast, and test accuracy, one curve for each start of the recurrent kernel.",
        caption="Waves through training on sequential images, from three starts of the kernel (the "
        "paper's Figure 18): speed and contrast by {ref}`sec-wave-measure`, and test accuracy. A "
        "speed means something where {numref}`tab-waves-training` says that there is a wave.",
        results=[result for _, result, _, _ in through.values()],
    )
else:
    page.nothing("fig-waves-training", "Waves through training", "fig18")

# %% [markdown]
# ```{include} generated/fig-waves-training.md
# ```

# %% tags=["hide-cell"]
if through:
    page.table(
        "tab-waves-training",
        [
            {
                "start of the kernel": start,
                "steps": record.run.steps,
                "speed (sites per step)": tables.number(wave.speed),
                "contrast": tables.number(wave.contrast, 2),
                "p": tables.number(wave.larger_p, 2),
                "wave": "yes" if wave.is_wave else "no",
                "accuracy (%)": page.value(result, "accuracy"),
            }
            for start, result, record, wave in through.values()
        ],
        "The values of {numref}`fig-waves-training`.",
    )
else:
    page.nothing("tab-waves-training", "Waves through training", "fig18")

# %% [markdown]
# ```{include} generated/tab-waves-training.md
# ```

# %% tags=["hide-input"]
page.say(page.missing("fig18"))
for start in STARTS.values():
    for size in ("paper", page.small_profile):
        states = [
            (record.run.steps, result, wave)
            for name, result, record, wave in through.values()
            if (name, record.run.profile) == (start, size)
        ]
        if not states:
            continue
        first, last = (choose(states, key=lambda state: state[0]) for choose in (min, max))
        before = f"; at step {first[0]:,} it was {tables.number(first[2].contrast, 2)}"
        page.say(
            f"From the {start}, after {last[0]:,} steps ({last[1].description}): "
            f"**{'a wave' if last[2].is_wave else 'no wave'}** at "
            f"{tables.number(last[2].speed)} sites per step, contrast "
            f"{tables.number(last[2].contrast, 2)}, p = {tables.number(last[2].larger_p, 2)}"
            + (before if len(states) > 1 else "")
            + "."
        )

# %% tags=["hide-cell"]
page.verdicts("beyond", "What the appendix shows")

# %% [markdown]
# ```{include} generated/tab-beyond-claims.md
# ```
#
# ## What could still be unfair
#
# - Every model has the same number of steps, and few of them. An LSTM or an iRNN that learns late
#   looks worse here than it is.
# - Equal parameters are not equal state: a wRNN's state is many times larger. The capacity section
#   compares both ways, the others don't.
# - Only the learning rate is searched, and only in one section. Elsewhere all models use 1e-3,
#   which was chosen for the wRNN.
# - The frozen kernels are trained with an input bias at every site, which breaks the symmetry of
#   the ring. The trained wRNN has it too.
# - Chapter {ref}`sec-ablations` starts from another angle: what is missing at the start, and
#   trained afterwards.
#
# ## Run it again
#
# ```bash
# wrnn run why --profile paper --device cpu --seeds 5
# wrnn run fig10 fig18 --profile paper --device cuda
# papermill book/08_beyond.ipynb out.ipynb -p profile paper -p train False
# ```
