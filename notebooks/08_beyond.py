# %% [markdown]
# (sec-beyond)=
# # Beyond the main text
#
# **What the paper claims.** In its appendix the paper shows a Wave-RNN (wRNN) with waves of several
# speeds at once (Figure 10) and follows the waves through training from different starts of the
# kernel (Figure 18) {cite}`keller2024waves`; the released code {cite}`keller2023code` also has a
# variant without weight sharing, for which no number is printed.
#
# **What this chapter does.** It measures the first two and trains the third. Then it takes up three
# questions that the paper leaves open: what a copying network is worth at another lag than its own,
# whether a stronger wave goes with a better result, and whether the readout needs a layer of its
# own.

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["hide-input"]
import numpy as np
import torch

import wrnn
from companion.evidence import tables, waves
from companion.page import chapter, figures
from companion.runs.experiments import EXPERIMENTS
from wrnn.tasks import CopyTask

page = chapter.Chapter(profile=profile, device=device, seeds=seeds, train=train)

# %% [markdown]
# ## Several speeds in one network
#
# **Question.** Every channel of a wRNN is a ring of its own, so each can be started at a speed of
# its own. Can the speeds be told apart in the hidden state, and does training keep them?
#
# **Method.** The measure is that of {ref}`sec-wave-measure`, applied to every channel by itself; of
# its two p-values the larger one is shown. Beside it stands a second way to the speed that shares
# nothing with it but the data, and stays in the raster: states a few steps apart are correlated
# over all shifts along the ring, and the shift that matches best, divided by those steps, is the
# speed.
#
# {numref}`tab-speeds-start` tries both on a wRNN that nobody has trained, whose speeds are known:
# four channels with no bias, driven by the same random spikes.


# %%
def measure(hidden):
    """The test and the speed in the raster of every channel of (..., channels, sites)."""
    tests = waves.channel_tests(hidden, generator=np.random.default_rng(0))
    return [(test, waves.raster_speed(hidden[..., [c], :])) for c, test in enumerate(tests)]


speeds, sites, T = (0.25, 0.5, 0.75, 1.0), 64, 256
layer = wrnn.WaveRNN(1, sites, len(speeds))
layer.reset_parameters(velocity=speeds, recurrent_bias="zero")
generator = torch.Generator().manual_seed(0)
spikes = (torch.rand(T, 1, 1, generator=generator) < 0.1).float()
with torch.no_grad():
    started = layer(spikes)[0].view(T, len(speeds), sites).numpy()
at_start = measure(started)

# %% tags=["hide-cell"]
page.table(
    "tab-speeds-start",
    [
        {
            "channel": channel,
            "speed set": tables.number(speed),
            "speed measured": tables.number(test.speed),
            "in the raster": tables.number(raster),
            "contrast": tables.number(test.contrast, 2),
            "p": tables.number(test.larger_p, 2),
        }
        for channel, (speed, (test, raster)) in enumerate(zip(speeds, at_start, strict=True))
    ],
    f"Speeds, in sites per step, of the four channels of an untrained wRNN (rings of {sites} "
    f"sites, {T} steps), as set and as measured.",
)

# %% [markdown]
# ```{include} generated/tab-speeds-start.md
# ```

# %% tags=["hide-input"]
worst = {
    name: max(abs(found - speed) for found, speed in zip(values, speeds, strict=True))
    for name, values in (
        ("the measure", [test.speed for test, _ in at_start]),
        ("the raster", [raster for _, raster in at_start]),
    )
}
page.say(
    "The largest error over the four channels is "
    + ", ".join(f"{tables.number(error, 2)} for {name}" for name, error in worst.items())
    + " (sites per step)."
)

# %% [markdown]
# **Result.** {numref}`tab-speeds` has the trained networks: one that starts at a speed of one site
# per step in all channels, and one whose channels start at a quarter, a half, three quarters and
# one. Judged are, of every starting speed, the channel whose activity varies most, and of a network
# with one speed a few such channels.

# %% tags=["hide-cell"]
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
# **What differs.** The start at four speeds is ours: a network that has been given several speeds
# is a cleaner question than whether some appear. What the trained kernel mixes between channels
# belongs to no channel alone, so a speed that has moved away from its start need not be a fault of
# the measurement.
#
# ## Waves through training
#
# **Question.** A wRNN that starts as a shift has waves before it has learnt anything. Are they
# still there at the end, and do they come about where the kernel starts without them?
#
# **Method.** One network, trained from three starts of the kernel: the shift, the identity (a
# standing pattern) and PyTorch's random kernel. Each training is repeated with the same seed and
# stopped at several lengths, where the hidden state is judged by {ref}`sec-wave-measure`.

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
    values = (wave.speed, wave.contrast, record.metrics["accuracy"])
    for groups, value in zip(panels.values(), values, strict=True):
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
# **Result.**
#
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

# %% [markdown]
# **What differs.** The paper shows rasters, and we measure. The learning rate stays constant here,
# so that every run is the beginning of the next; the runs of {ref}`sec-images` lower it late. The
# channels looked at are the busiest of the moment, and these need not be the same at every length.
#
# ## Without weight sharing
#
# **Question.** In the locally connected variant every site has a kernel and a bias of its own. It
# can be told where on the ring it is, at the price of as many kernels as there are sites. Does the
# copy task want that?
#
# **Method.** The same start (a shift at every site), task, budget and seed as the wRNN beside it.

# %% tags=["hide-cell"]
shown = page.shown("local")
page.compare(
    "tab-local",
    shown,
    {
        "task": lambda r: r.run.task.title,
        "model": lambda r: r.label,
        "parameters": lambda r: r.records[0].parameters["without_biases"],
        "cross-entropy": "cross_entropy",
        "right symbols (%)": "token_accuracy",
    },
    "The wRNN and its locally connected variant on the copy task, on the test set. Parameters "
    "are counted without biases. No counterpart in the paper.",
    ("The locally connected variant on the copy task", "local"),
)
page.curves(
    "fig-local",
    shown,
    **chapter.COPY,
    alt="Training loss against training step on logarithmic scale: the wRNN and its locally "
    "connected variant against the memoryless baseline and the float32 floor.",
    caption="Training loss on the copy task with and without weight sharing along the ring. "
    "Dotted: a network without memory, and the smallest loss above zero in 32-bit floats.",
    notice=("Its training loss", "local"),
)

# %% [markdown]
# **Result.**
#
# ```{include} generated/tab-local.md
# ```
#
# ```{include} generated/fig-local.md
# ```

# %% tags=["hide-input"]
page.say(page.missing("local"))
for result in shown:
    if result.run.model.kind != "local":
        continue
    pairs = [
        other
        for other in shown
        if other.run.model.kind == "wrnn"
        and (other.run.task, other.complete) == (result.run.task, result.complete)
    ]
    for other in pairs:
        own, shared = (r.metric("cross_entropy").mean for r in (result, other))
        times = (
            result.records[0].parameters["without_biases"]
            / other.records[0].parameters["without_biases"]
        )
        better = "lower" if own < shared else "higher" if own > shared else "the same"
        page.say(
            f"At lag {result.run.task.lag} ({result.description}) the variant has "
            f"{tables.number(times, 2)} times the parameters, and its test loss is {better}: "
            f"{tables.number(own)} against {tables.number(shared)}."
        )

# %% [markdown]
# **What differs.** The paper does not mention the variant. It can be computed by a step loop only,
# so it is slower than the wRNN of the same size, which the number of its parameters alone would
# not show.
#
# ## Another length, without training again
#
# **Question.** A network has learnt to copy at one lag. What is it worth at another?
#
# **Method.** Records hold no weights, and none are needed: the best that the mechanism can do is
# known in advance, so we write it down. One channel per symbol, a shift of one site per step, no
# bias. A symbol that came $S$ steps ago is at site $-S \bmod n$ of its channel, and there the
# readout looks; where it sees nothing, it says blank.

# %%
n, own_lag = 50, 20
symbols = torch.eye(8)
layer = wrnn.WaveRNN(10, n, 8, bias=False)
model = wrnn.SequenceModel(layer, 10, every_step=True)
with torch.no_grad():
    encoder = layer.weight_ih.zero_().view(8, n, 10)  # (channel, site, input)
    encoder[:, 0, 1:9] = symbols  # symbol k enters channel k
    readout = model.readout.weight.zero_().view(10, 8, n)  # (output, channel, site)
    readout[1:9, :, -own_lag % n] = symbols
    model.readout.bias.zero_()[0] = 0.5  # blank, unless a symbol is there

lags = list(range(11, 3 * n + 1))
right = []
for lag in lags:
    task = CopyTask(lag)
    x, y = task.batch(20, generator=torch.Generator().manual_seed(lag))
    with torch.no_grad():
        right.append(task.metrics(model(x), y)["token_accuracy"])

perfect = [lag for lag, share in zip(lags, right, strict=True) if share == 100]
print("lags copied without an error:", *perfect)
whole_laps = list(range(own_lag, 3 * n + 1, n))
print("its own lag and one more lap each:", perfect == whole_laps)

# %% tags=["hide-input"]
page.figure(
    "fig-other-lags",
    figures.lines(
        lags,
        {"wRNN": right},
        theory={"chance": [100 / 8] * len(lags)},
        xlabel="lag of the test (steps)",
        ylabel="right symbols (%)",
    ),
    alt="Share of right symbols against lag. Three single peaks of 100 per cent stand at the lag "
    "that the network was made for and one and two laps later; elsewhere the share is near zero or "
    "below the dotted line of chance.",
    caption=f"A wRNN written down by hand to copy at lag {own_lag} on rings of {n} sites, tested "
    "at other lags. Nothing is trained. Dotted: guessing one of eight symbols. No counterpart in "
    "the paper.",
)

# %% [markdown]
# **Result.**
#
# ```{include} generated/fig-other-lags.md
# ```

# %% tags=["hide-input"]
others = [share for lag, share in zip(lags, right, strict=True) if lag not in perfect]
page.say(
    f"Of {len(lags)} lags it copies {len(perfect)}: its own, and those one and two laps later. At "
    f"no other lag does it get more than {tables.number(max(others))} % of the symbols right. This "
    "holds for the mechanism as the paper draws it, and no training is involved."
)

# %% [markdown]
# The network keeps everything that a longer or shorter pause would ask for; it is the readout that
# looks in one place. Moving that place by one site moves the lag by one step. For such a network it
# makes little sense to ask whether it generalises to another lag: the lag is not in the waves, it
# is in the readout. The exceptions are whole laps, where two moments of the past are on
# top of each other ({ref}`sec-waves-as-memory`): the copy there is right because the rest of the
# sequence is blank.
#
# **What differs.** The paper trains a network for every lag and makes no claim about others. A
# trained network can be worse than this one at its own lag, and could in principle be better at
# others, if it learnt to go by the cue. That has to be measured on trained weights, which the
# records of this book do not hold.
#
# ## Does a stronger wave mean a better result?
#
# **Question.** The paper argues from waves to memory. Over the networks recorded for this book,
# does the strength of the waves go with the performance?
#
# **Method.** One point for every record with a hidden state. The strength is the contrast of
# {ref}`sec-wave-measure`, with the units of an iRNN as they come.

# %% tags=["hide-input"]
HERE = ("fig10", "fig18", "local", "table2")  # shown in this chapter, and so trained for it
traced = {}  # record id -> (result, record)
for name in EXPERIMENTS:
    everything = page.shown(name) if name in HERE or profile == "paper" else page.recorded(name)
    for result in everything:
        for record in result.records:
            if record.run.trace and waves.orders(record):
                traced[record.id] = (result, record)


def strength(record):
    """Contrast of the line that carries most net power; it needs no surrogates."""
    hidden = next(iter(waves.orders(record).values()))
    return waves.wave_test(hidden, generator=np.random.default_rng(0), draws=0).contrast


METRICS = {"copy": ("token_accuracy", "right symbols (%)"), "adding": ("mse", "squared error")}
families = {}  # (metric, name of the axis, title) -> model -> points
for result, record in traced.values():
    metric, ylabel = METRICS.get(record.run.task.name, ("accuracy", "accuracy (%)"))
    title = {"token_accuracy": "copy task", "mse": "adding task"}.get(metric, "images and digits")
    value = record.metrics.get(metric)
    if value is not None:
        size = "" if record.run.profile == "paper" else f", {record.run.profile}"
        groups = families.setdefault((title, ylabel), {})
        groups.setdefault(f"{result.label}{size}", []).append((strength(record), value))

if families:
    page.figure(
        "fig-strength",
        figures.points(
            [(title, ylabel, groups) for (title, ylabel), groups in families.items()],
            xlabel="strength of the wave (contrast)",
        ),
        alt="Performance on the test set against the contrast of the wave, one panel per kind of "
        "task and one point per recorded network.",
        caption="Strength of the wave in the hidden state against performance on the test set, one "
        "point per record that has a hidden state. Points of one panel differ in length, size and "
        "budget, so that only large differences mean anything. No counterpart in the paper.",
        results=[result for result, _ in traced.values()],
    )
else:
    page.nothing("fig-strength", "Strength of waves against performance", "fig2")

# %% [markdown]
# **Result.**
#
# ```{include} generated/fig-strength.md
# ```

# %% tags=["hide-input"]
from scipy.stats import spearmanr

for (title, ylabel), groups in families.items():
    pairs = [pair for points in groups.values() for pair in points]
    if len(pairs) >= 5 and all(len(set(column)) > 1 for column in zip(*pairs, strict=True)):
        rank = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        page.say(
            f"{title.capitalize()} ({len(pairs)} records): the rank correlation of strength and "
            f"{ylabel} is {tables.number(rank, 2)}."
        )
    else:
        page.say(f"{title.capitalize()}: too few records for a correlation ({len(pairs)}).")

# %% [markdown]
# A correlation over such a collection says little about causes: what is varied is the model, the
# start and the budget, and the wave with them. A wRNN that starts as a shift has strong waves after
# a single step of training, and knows nothing. Waves are a place to keep things; whether they are
# used is another matter. The cleaner experiment is to take the waves away and leave the rest, as
# the ablations of the paper's Table 4 do ({ref}`sec-ablations`).
#
# **What differs.** The paper does not ask this. For a fair answer one would want many seeds of one
# configuration, and hidden states of all channels.
#
# ## Does the readout need a layer of its own?
#
# **Question.** Table 2 of the paper gives a wRNN with a hidden layer of 100 units between state and
# answer a higher accuracy on permuted images. Is that layer needed?
#
# **Method.** The records of the two readouts, side by side, the same seeds.

# %% tags=["hide-cell"]
rows = []
shown = page.shown("table2")
for linear in shown:
    matches = [
        other
        for other in shown
        if other.run.model.readout == "mlp"
        and (other.run.task, other.run.profile) == (linear.run.task, linear.run.profile)
    ]
    if linear.run.model.kind != "wrnn" or linear.run.model.readout != "linear" or not matches:
        continue
    (mlp,) = matches
    gain = mlp.metric("accuracy").mean - linear.metric("accuracy").mean
    share = mlp.records[0].parameters["without_biases"]
    rows.append(
        {
            "task": linear.run.task.title,
            "linear readout (%)": page.value(linear, "accuracy"),
            "with an MLP (%)": page.value(mlp, "accuracy"),
            "gain (points)": tables.number(gain, 2),
            "parameters, linear": linear.records[0].parameters["without_biases"],
            "parameters, MLP": share,
        }
    )
if rows:
    page.table(
        "tab-readout",
        rows,
        "Test accuracy of the wRNN with a linear readout and with one hidden layer of 100 units, "
        "and parameters without biases.",
    )
else:
    page.nothing("tab-readout", "Both readouts", "table2")

# %% [markdown]
# **Result.**
#
# ```{include} generated/tab-readout.md
# ```

# %% tags=["hide-input"]
page.say(page.missing("table2"))

# %% [markdown]
# Most of the parameters of the larger network are in that layer, which joins every unit of the
# state to 100 others. The paper's own numbers are beside ours in {ref}`sec-images`; in them the
# layer helps on the permuted task only.
#
# **What differs.** Nothing in the models. The verdict on this claim is computed from records at the
# paper's scale only, and stands in {numref}`tab-claims`.
#
# ## Verdicts

# %% tags=["hide-cell"]
page.verdicts("beyond", "What the appendix shows")

# %% [markdown]
# ```{include} generated/tab-beyond-claims.md
# ```
#
# ## Run it again
#
# ```bash
# wrnn run fig10 fig18 local table2 --profile paper --device cuda
# papermill book/08_beyond.ipynb out.ipynb -p profile paper -p train False
# ```
