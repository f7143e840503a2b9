# %% [markdown]
# (sec-appendix)=
# # What the appendix shows
#
# **What the paper claims.** One network can carry waves of several speeds (Figure 10), and a kernel
# that starts at random ends in waves too (Figure 18) {cite}`keller2024waves`.
#
# **What this chapter does.** It looks for both with the measure that {ref}`sec-wave-measure`
# defines, through training and from three starts of the kernel. The speed of a single channel is
# also taken from its raster: the shift along the ring at which states some steps apart match best.

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["hide-input"]
import numpy as np

from companion.evidence import tables, waves
from companion.page import chapter, figures

page = chapter.Chapter(profile=profile, device=device, seeds=seeds, train=train)

# %% [markdown]
# ## Several speeds in one network

# %% tags=["hide-input"]
rows, several = [], []
for result in page.shown("fig10"):
    judged = ((r, hidden) for r in result.records for hidden in waves.orders(r).values())
    record, hidden = next(judged, (None, None))  # one seed's, as long as others keep no states
    if hidden is None:
        continue
    velocity = result.run.model.velocity
    starts = sorted(set(velocity)) if isinstance(velocity, tuple) else [velocity]
    tests = waves.channel_tests(hidden, generator=np.random.default_rng(0))
    origin = result.description_of(record)
    moving = [test.speed for test in tests if test.is_wave]
    several.append((f"{result.label} ({origin})", moving, len(tests)))
    for channel, test in enumerate(tests):
        raster = waves.raster_speed(hidden[..., [channel], :])
        rows.append(
            {
                "model": result.label,
                "accuracy (%)": tables.number(record.metrics["accuracy"]) + page.note(origin),
                "channel, of those kept": channel + 1,
                "speed at the start": tables.number(float(starts[channel % len(starts)])),
                "trained, by spectrum": tables.number(test.speed),
                "trained, by raster": tables.number(raster),
                "contrast": tables.number(test.contrast, 2),
                "p": tables.number(test.larger_p, 2),
                "wave": "yes" if test.is_wave else "no",
            }
        )
page.table(
    "tab-speeds",
    rows,
    "Speeds of single channels (sites per step) before and after training on sequential images, as "
    "{ref}`sec-wave-measure` has it; where spectrum and raster differ, a channel's speed is not "
    "settled. The paper's Figure 10.",
    ("Speeds of single channels after training", "fig10"),
)
page.say(page.missing("fig10"))
for network, moving, channels in several:
    speeds = " and ".join(map(tables.number, sorted(set(moving))))
    page.say(
        f"{network}: {len(moving)} of {channels} channels carry a wave"
        f"{f', of speed {speeds} by the spectrum' * bool(moving)}."
    )

# %% [markdown]
# ```{include} generated/tab-speeds.md
# ```
#
# The start at four speeds is ours: a network that has been given several speeds is a cleaner
# question than whether some appear.
#
# ## Waves through training
#
# In the runs of {numref}`fig-waves-training` the learning rate stays constant, so that every run is
# the beginning of the next.

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
        groups.setdefault(f"{start}, {size}", []).append((record.steps, value))
page.figure(
    "fig-waves-training",
    figures.points(
        [("", ylabel, groups) for ylabel, groups in panels.items()],
        xlabel="training step",
        connected=True,
        log_x=True,
    )
    if through
    else None,
    alt="Three panels against training step: the speed of the strongest line, its contrast, and "
    "test accuracy, one curve for each start of the recurrent kernel.",
    caption="Waves through training on sequential images, from three starts of the kernel (the "
    "paper's Figure 18): speed and contrast by {ref}`sec-wave-measure`, and test accuracy. A speed "
    "means something where {numref}`tab-waves-training` says that there is a wave.",
    results=[result.of([record]) for _, result, record, _ in through.values()],
    notice=("Waves through training", "fig18"),
)
page.table(
    "tab-waves-training",
    [
        {
            "start of the kernel": start,
            "steps": record.steps,
            "speed (sites per step)": tables.number(wave.speed),
            "contrast": tables.number(wave.contrast, 2),
            "p": tables.number(wave.larger_p, 2),
            "wave": "yes" if wave.is_wave else "no",
            "accuracy (%)": tables.number(record.metrics["accuracy"])
            + page.note(result.description_of(record)),
        }
        for start, result, record, wave in through.values()
    ],
    "The values of {numref}`fig-waves-training`.",
    ("Waves through training", "fig18"),
)
page.say(page.missing("fig18"))
for key in dict.fromkeys((start, r.run.profile) for start, _, r, _ in through.values()):
    states = [entry for entry in through.values() if (entry[0], entry[2].run.profile) == key]
    first, last = (choose(states, key=lambda s: s[2].steps) for choose in (min, max))
    (start, result, record, wave), before = last, first[2].steps
    then = f"; at step {before:,} it was {tables.number(first[3].contrast, 2)}"
    page.say(
        f"From the {start}, after {tables.counted(record.steps, 'step')} "
        f"({result.description_of(record)}): "
        f"**{f'a wave** of speed {tables.number(wave.speed)}' if wave.is_wave else 'no wave**'}, "
        f"contrast {tables.number(wave.contrast, 2)}, p = {tables.number(wave.larger_p, 2)}"
        f"{then * (len(states) > 1)}."
    )
page.verdicts("appendix", "What the appendix shows")

# %% [markdown]
# ```{include} generated/fig-waves-training.md
# ```
#
# ```{include} generated/tab-waves-training.md
# ```
#
# ## Verdicts
#
# ```{include} generated/tab-appendix-claims.md
# ```
#
# ## Run it again
#
# ```bash
# wrnn run fig10 fig18 --profile paper --device cuda
# papermill book/09_appendix.ipynb out.ipynb -p profile paper -p train False
# ```
