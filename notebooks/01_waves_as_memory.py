# %% [markdown]
# (sec-waves-as-memory)=
# # Waves as memory
#
# **What the paper claims.** A wave that travels over a population of units keeps the recent past
# laid out in space: how far a crest has moved says how long ago it was started, and where it was
# started says by what. A population whose activity stays where it was put remembers that something
# happened, but not when. The paper {cite}`keller2024waves` makes the point with a drawing, its
# Figure 1: three binary inputs, a field of waves and a field of static bumps.
#
# **What this chapter does.** It simulates both fields, fits a decoder to each of them, and counts
# how often the decoder is wrong on sequences it has not seen. It then asks how long such a memory
# lasts, which the drawing leaves open: one lap of the ring, and no longer.

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["hide-input"]
import numpy as np

from companion.evidence import memory as analysis
from companion.evidence import tables
from companion.page import chapter, figures
from companion.runs.experiments import find_experiments

page = chapter.Chapter(profile=profile, device=device, seeds=seeds, train=train)

# %% [markdown]
# ## Two fields that differ in one matrix
#
# Both fields are linear. At every step the state $\mathbf{h}_t$ is carried over by a matrix
# $\mathbf{A}$, and the inputs $\mathbf{s}_t \in \{0, 1\}^3$ are added where the encoder
# $\mathbf{V}$ puts them:
#
# ```{math}
# :label: eq-field
# \mathbf{h}_t = \mathbf{A}\,\mathbf{h}_{t-1} + \mathbf{V}\,\mathbf{s}_t,
# \qquad \mathbf{h}_0 = \mathbf{0}.
# ```
#
# Every input has a ring of $n$ sites to itself and writes to one site of it. For the wave,
# $\mathbf{A}$ moves the activity of every ring by one site per step. For the static bump,
# $\mathbf{A}$ is the identity. Nothing else differs. (The networks of the paper put a rectifier
# around this; here every number is positive or zero, and a rectifier would change none of them.)

# %%
n = 24  # sites per ring
wave, bump = analysis.wave_field(n), analysis.bump_field(n)
shift = analysis.shift_matrix(n)
state = np.arange(n, dtype=float)  # any activity on one ring
moved = np.array_equal(shift @ state, np.roll(state, -1))
print("one step of the wave moves site x + 1 to site x:", moved)
around = np.array_equal(np.linalg.matrix_power(shift, n), np.eye(n))
print("n steps of it bring everything back:", around)
print("one step of the bump moves nothing:", np.array_equal(bump.recurrence, np.eye(3 * n)))

# %% [markdown]
# {numref}`fig-wave-field` drives both with the same three spike trains, for exactly one lap of the
# ring. Each spike starts a line in the wave field, and all lines have the same slope, so a cut at
# the last step shows every spike at a distance from its source equal to its age. In the bump field
# the same cut shows three numbers: how often each input has spiked.

# %% tags=["hide-input"]
spikes = (np.random.default_rng(21).random((n, 3)) < 0.12).astype(float)
fields = [
    ("wave field: activity moves by one site per step", analysis.simulate(wave, spikes)),
    ("static bump field: activity stays where it was put", analysis.simulate(bump, spikes)),
]
page.figure(
    "fig-wave-field",
    figures.wave_field(spikes, fields),
    alt="Three rows of spikes over time. Below, the wave field: each spike starts a "
    "diagonal line in the ring of its input. At the bottom, the bump field: each ring has one "
    "horizontal line that brightens with every spike.",
    caption="The paper's Figure 1, computed: three binary inputs (top), a field of one-way waves "
    f"(middle) and a field of static bumps (bottom). Each input writes to the middle of its own "
    f"ring of {n} sites.",
)

page.animation(
    "film-wave-field",
    spikes,
    [(name, states) for name, (_, states) in zip(["waves", "static bumps"], fields, strict=True)],
    alt="Two sets of three rings of dots, step by step. On the left every spike starts a coloured "
    "dot at the top of its ring, which then moves round by one site per step. On the right the dot "
    "at the top of each ring lights up with the first spike, grows stronger with the next, and "
    "never moves.",
    caption="One lap, step by step, then held. A circle marks a spike. Every input writes to the "
    "top of its own ring; on the left activity moves on, so that its place tells its age, and on "
    "the right it stays.",
)

# %% [markdown]
# ```{include} generated/fig-wave-field.md
# ```
#
# Here are the same steps as a film, with every ring drawn as a ring.
#
# ```{include} generated/film-wave-field.md
# ```
#
# The reason is one line of algebra. Unrolling {eq}`eq-field` gives
#
# ```{math}
# :label: eq-unrolled
# \mathbf{h}_T = \sum_{k=0}^{T-1} \mathbf{A}^{k}\,\mathbf{V}\,\mathbf{s}_{T-k},
# ```
#
# so a spike of age $k$ at input $i$ leaves the pattern $\mathbf{A}^k \mathbf{v}_i$ in the final
# state. A linear decoder can tell two spikes apart only if their patterns differ. For the wave, the
# patterns of one input are $n$ different sites, one for each age below $n$. For the bump they are
# all the same.
#
# ## A decoder, and how often it is wrong
#
# The paper says that onset and channel *can be* decoded. To check it, take sequences in which each
# input spikes once at a random step, or (in a quarter of the cases) not at all. From the final
# state alone, the decoder has to say of every input whether it spiked, and at which step.
#
# The decoder is linear: ridge regression from the $3n$ activities and a constant to "spiked or not"
# and to the onset, coded one-hot. An input counts as silent where the first score is below one
# half; otherwise its onset is the step with the highest score. It is fitted on 3,000 sequences and
# tested on 2,000 other sequences, with noise of standard deviation 0.01 on every activity that is
# read, where a spike has height 1. *Chance* is the same with the states of the training set dealt
# out at random.


# %%
def error(field, steps, shuffled=False):
    generator = np.random.default_rng(0)
    return analysis.decoding_error(
        field, steps, generator=generator, shuffled=shuffled, noise=0.01, train=3000, test=2000
    )


measured = {
    "wave field": error(wave, n),
    "static bump field": error(bump, n),
    "chance": error(wave, n, shuffled=True),
}

# %% tags=["hide-input"]
page.table(
    "tab-decoding",
    [
        {
            "state read": name,
            "spiked or silent, wrong (%)": tables.number(100 * e.channel),
            "onset wrong (% of spikes)": tables.number(100 * e.onset),
            "mean error of onset (steps)": tables.number(e.steps),
        }
        for name, e in measured.items()
    ],
    f"Errors of the decoder on held-out sequences of {n} steps, one lap of the ring.",
)
lost = {name: tables.number(100 * e.onset) for name, e in measured.items()}
wrong = tables.number(100 * measured["static bump field"].channel)
holds = measured["wave field"].onset < 0.01 < 0.5 < measured["static bump field"].onset
page.say(
    f"From the wave field {lost['wave field']} % of the onsets are decoded wrongly. From the bump "
    f"field it is {lost['static bump field']} %, where guessing among {n} steps gives "
    f"{tables.number(100 * (1 - 1 / n))} %; which inputs spiked, each having a site of its own, is "
    f"wrong in {wrong} %. For sequences of up to one lap the claim of Figure 1 "
    f"**{'holds' if holds else 'does not hold'}**."
)

# %% [markdown]
# ```{include} generated/tab-decoding.md
# ```
#
# ## One lap, and no longer
#
# A ring has no end. After $n$ steps a crest is back where it started, and a spike of age $k + n$
# looks like one of age $k$. {numref}`fig-decoding-laps` repeats the measurement for sequences of up
# to three laps. If the lap cannot be told, the best possible decoder is right about a share $n/T$
# of the spikes; so the onset error should be
#
# ```{math}
# :label: eq-lap-error
# \varepsilon(T) = 1 - \min\left(1, \frac{n}{T}\right).
# ```

# %%
lengths = [n // 4, n // 2, 3 * n // 4, n, 5 * n // 4, 3 * n // 2, 2 * n, 5 * n // 2, 3 * n]
FIELDS = {
    "wave, one ring per input": wave,
    "wave, one ring for all inputs": analysis.shared_wave_field(n),
    "static bump": bump,
}
curves = {name: [error(field, steps) for steps in lengths] for name, field in FIELDS.items()}
law = [1 - min(1, n / steps) for steps in lengths]

# %% tags=["hide-input"]
page.figure(
    "fig-decoding-laps",
    figures.lines(
        [steps / n for steps in lengths],
        {name: [100 * e.onset for e in errors] for name, errors in curves.items()},
        theory={"1 − n/T": [100 * value for value in law]},
        xlabel="length of the sequence (laps of the ring)",
        ylabel="onset wrong (% of spikes)",
    ),
    alt="Onset error against sequence length in laps. The wave with one ring per input is at zero "
    "up to one lap and then rises along the dotted law. One ring for all inputs leaves zero long "
    "before. The static bump is high throughout.",
    caption="Onset error of the linear decoder on held-out sequences of a quarter to three laps of "
    f"a ring of {n} sites; dotted: {{eq}}`eq-lap-error`. No counterpart in the paper.",
)
own, shared, _ = curves.values()
gap = max(abs(e.onset - expected) for e, expected in zip(own, law, strict=True))
right = max(steps for steps, e in zip(lengths, shared, strict=True) if e.onset < 0.01)
page.say(
    f"No measured error is further than {tables.number(100 * gap, 2)} points from the law. Of the "
    f"onset modulo $n$ at most {tables.number(100 * max(e.onset_in_lap for e in own), 2)} % are "
    "wrong, so what is lost beyond a lap is the number of whole laps: a network that knows from "
    "elsewhere how long a sequence is can still use such a memory. One ring for all inputs is free "
    f"of errors up to {tables.number(right / n, 2)} laps."
)

# %% [markdown]
# ```{include} generated/fig-decoding-laps.md
# ```
#
# ## What the memory costs
#
# A linear state of $N$ numbers can hold at most $N$ independent numbers of the past. The count of
# what a field does hold is the rank of the matrix that maps the whole input history to the final
# state, $[\mathbf{V}, \mathbf{A}\mathbf{V}, \dots, \mathbf{A}^{T-1}\mathbf{V}]$.


# %%
def rank(field, steps):
    history = [
        np.linalg.matrix_power(field.recurrence, age) @ field.encoder for age in range(steps)
    ]
    return int(np.linalg.matrix_rank(np.hstack(history)))


# %% tags=["hide-cell"]
page.table(
    "tab-capacity",
    [
        {
            "field": name,
            "sites": len(field.recurrence),
            **{
                f"{laps:g} lap{'s' * (laps != 1)}": rank(field, int(laps * n))
                for laps in (0.5, 1, 2)
            },
        }
        for name, field in FIELDS.items()
    ],
    "Independent numbers of the input history that the final state holds, after sequences of half "
    f"a lap, one lap and two laps (rings of {n} sites, three inputs).",
)

# %% [markdown]
# ```{include} generated/tab-capacity.md
# ```
#
# A wave fills the state with one number per input and step, until every site is used. The bump has
# just as many sites and uses one per input. One ring for all three inputs has the capacity of one
# ring, which they share, so that they collide after $n/3$ steps. That is why it pays to have
# channels: the Wave-RNN of {ref}`sec-wave-rnn` has several rings side by side.
#
# ## Laps in the paper's own experiments
#
# {numref}`tab-laps` gives the number of laps that a wave of one site per step makes, on the rings
# of the paper's networks, in the time that has to be bridged (the lag in the copy task, the whole
# sequence otherwise).

# %% tags=["hide-input"]
runs = [
    run
    for experiment in find_experiments(["fig4", "table1", "table2", "table3"])
    for run in experiment.runs("paper")
    if run.model.label == "wRNN"
]
spans = {
    run.task.title: (getattr(run.task, "lag", run.task.length), run.model.size) for run in runs
}
page.table(
    "tab-laps",
    [
        {"task": title, "sites per ring": size, "steps": steps, "laps": tables.number(steps / size)}
        for title, (steps, size) in spans.items()
    ],
    "Laps of the ring that the paper's tasks ask of its own networks.",
)
more = sum(steps > size for steps, size in spans.values())
page.say(f"**{more} of these {len(spans)} tasks ask for more than one lap.**")

# %% [markdown]
# ```{include} generated/tab-laps.md
# ```
#
# Where every step writes, as with pixels, a state that has gone round more than once is a sum of
# several moments of the past: training has to slow some waves down, use the channels to tell laps
# apart, or live with the superposition. Where nothing is written in between, as during the pause
# of the copy task, what there is goes round unmixed. {ref}`sec-after-a-lap` follows such a trace.
#
# ## What differs from the paper, and why
#
# - The paper's Figure 1 is an illustration, and gives neither sizes nor a decoder. The sizes here
#   are ours, and so are the decoder, the errors and the chance level.
# - The simulated fields are idealised: linear, a speed of exactly one site per step, and no noise
#   in the dynamics. A bias behind a rectifier can wear a wave down ({ref}`sec-wave-rnn`).
# - The static bump still knows *which* inputs spiked, because each has a site of its own. What it
#   loses is time. A field that lost both would be a weaker opponent than the paper's.
#
# ## Run it again
#
# Everything in this chapter is computed when the chapter is executed, within seconds, from fixed
# seeds and without any training; profile and device make no difference.
#
# ```bash
# papermill book/01_waves_as_memory.ipynb out.ipynb
# ```
