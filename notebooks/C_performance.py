# %% [markdown]
# (sec-performance)=
# # Performance
#
# **Why this chapter.** A Wave-RNN (wRNN) works through a sequence step by step, and a step of the
# paper's networks is small. Written as a loop, as in the released code {cite}`keller2023code`, it
# is a dozen calls to PyTorch, each of which takes time that has nothing to do with arithmetic, and
# an image of MNIST has 784 steps. This is the reason why the paper is slow to reproduce.
#
# **What this chapter does.** It puts the ways to compute the recurrence side by side, says what
# limits each configuration where that is known, and how cost and memory grow. Nothing is timed
# while this page is made: `wrnn bench` measures and writes one file per device into
# `records/bench/`, and the tables are drawn from these. A device without a file is *not yet
# measured*.

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["hide-input"]
from companion import bench
from companion.evidence import tables
from companion.page import chapter, figures

page = chapter.Chapter(profile=profile, device=device, seeds=seeds, train=train)
measured = {"cpu": [], "cuda": []}
for result in bench.read_results(page.committed.folder / "bench"):
    measured[result["kind"]].append(result)


everything = [*measured["cpu"], *measured["cuda"]]


def table(name, rows, caption, kind="cpu"):
    """Write a table, or in its place that this is not yet measured, with the command that does."""
    what = caption.split(":")[0].rstrip(".")
    command = f"`wrnn bench --device {kind} --profile paper --json records/bench/NAME.json`"
    missing = [{"not yet measured": what, "command": command}]
    page.table(name, rows or missing, caption if rows else f"{what}: not yet measured")


def threads(result):
    """How many threads a measurement used, in words."""
    return tables.counted(result["threads"], "thread")


def settings(result):
    """What a measurement was made on, in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{result['device']}, {threads(result)}, {result['profile']} profile, median "
        f"of {result['repeats']}, {versions}"
    )


# %% [markdown]
# ## The ways
#
# All of them compute {eq}`eq-wrnn` and its gradients, and the tests hold them to the same numbers.
#
# - The **loop** is the definition: one step after the other, differentiated by PyTorch. Everything
#   is compared with it.
# - `backend="auto"` takes the fastest way that a device has, which
#   [`choose_backend`](#api-wrnn-recurrence-choose-backend) names. On a GPU that is one fused kernel
#   for all steps, and **tf32** is the same with rounded factors, for those who ask for it.
# - **checkpointed** is that way with `checkpoint_every`: only each $\lceil\sqrt{T}\,\rceil$-th
#   state is kept, and the backward pass computes the others again, slower and in less memory.
# - On a GPU the honest opponents are the loop recorded once and replayed (**CUDA graph**) and the
#   loop with its step compiled (**torch.compile**). The fused kernel is measured in a graph too, as
#   training runs it. None rounds factors unless its name says so.
# - **shared input** is for images that one fixed noise follows: what all samples see is multiplied
#   once per step.
# - The iRNN has a loop too, and `torch.nn.RNN`. To the compiled loops its units are channels of a
#   single site.
#
# A measurement is the forward and the backward pass of one training step with its readout, without
# the optimiser. The ways take turns in one process, the first turn does not count, and medians are
# compared. A CPU shares its time with other programs, so only ratios are given for it.
#
# ## On a CPU


# %% tags=["hide-cell"]
def ratios(kind):
    """Rows of how many times as fast as the loop each way is."""
    entries = [(result, entry) for result in measured[kind] for entry in result["cases"]]
    ways = list(dict.fromkeys(way for _, entry in entries for way in entry["ratios"]))
    return [
        {
            "configuration": entry["name"] + page.note(settings(result)),
            "T": entry["steps"],
            "B": entry["batch_size"],
            **{way: tables.number(entry["ratios"].get(way)) for way in ways},
            **({"target": tables.number(entry["cpu_target"])} if kind == "cpu" else {}),
        }
        for result, entry in entries
    ]


table(
    "tab-performance-cpu",
    ratios("cpu"),
    "How many times as fast as the loop each way is on a CPU: T steps, B sequences. *Target* is "
    "what the project aims for, no measurement.",
)
for result in measured["cpu"]:
    waves = [entry for entry in result["cases"] if entry["num_channels"]]
    best = {entry["name"]: entry["ratios"].get(entry["best"], 1.0) for entry in waves}
    slowest, fastest = (choose(best, key=best.get) for choose in (min, max))
    aimed = [entry for entry in waves if entry["cpu_target"]]
    met = sum(best[entry["name"]] >= entry["cpu_target"] for entry in aimed)
    page.say(
        f"On this CPU ({result['device'].removeprefix('CPU: ')}, {threads(result)}) "
        f"the way that `auto` takes for a wRNN is **{tables.number(best[slowest], 2)} to "
        f"{tables.number(best[fastest], 2)} times** as fast as the loop, least on {slowest} and "
        f"most on {fastest}; {met} of {len(aimed)} targets are met. What limits it there is not "
        "known: no floor is computed for a CPU."
    )
panels = []
for result in everything:
    ways = list(dict.fromkeys(way for entry in result["cases"] for way in entry["ratios"]))
    names = [entry["name"] for entry in result["cases"]]
    columns = {way: [entry["ratios"].get(way) for entry in result["cases"]] for way in ways}
    panels.append((f"{result['device']}, {threads(result)}", names, columns))
if panels:
    page.figure(
        "fig-performance",
        figures.speedups(panels),
        alt="One panel per device and one row per configuration: a mark for every way to compute "
        "at how many times as fast as the loop it is, with a dotted line at one.",
        caption="How many times as fast as the loop each way is, for the configurations of the "
        f"paper, on {tables.counted(len(panels), 'device')}.",
    )
else:
    table("fig-performance", [], "How fast each way is")

# %% [markdown]
# ```{include} generated/tab-performance-cpu.md
# ```
#
# ```{include} generated/fig-performance.md
# ```
#
# ## On a GPU
#
# A GPU has floors that can be computed. With $m = T B c\,n$ the number of state values of a
# training step, over all steps, sequences, channels and sites, it has to
#
# - write every state once and read it once, at the bandwidth of the **memory**;
# - do three products of $3c$ multiplications for every one of the $m$, for the state, its gradient
#   and that of the kernel, and two of $d$, for the drive and the gradient of $\mathbf{V}$, where
#   samples differ in their input, at the speed of its **arithmetic**;
# - do $T$ steps forward and $T$ back, each waiting for the one before: the **chain** of steps.
#
# The largest of the three is the floor, and it says what limits a configuration, in
# {numref}`tab-performance-floors` on an H200.

# %% tags=["hide-input"]
DEVICE = "H200"
bandwidth, speed = bench.PEAKS[DEVICE]
gpus = [result for result in measured["cuda"] if DEVICE in result["device"]]
here = {entry["name"]: entry for result in gpus for entry in result["cases"]}
rows, limits = [], []
for case in bench.PAPER_CASES:
    floors = case.floors(bandwidth, speed)
    if floors:
        limits.append(max(floors, key=floors.get))
        row = {"configuration": case.name}
        row |= {limit: tables.number(value, 2) for limit, value in floors.items()}
        row |= {"limited by": limits[-1], "target": tables.number(case.gpu_target)}
        row |= dict.fromkeys(("measured", "share of the floor (%)"), "not yet measured")
        if entry := here.get(case.name):
            row["measured"] = tables.number(entry["milliseconds"][entry["best"]])
            row["share of the floor (%)"] = tables.number(100 * entry["share_of_floor"], 2)
        rows.append(row)
page.table(
    "tab-performance-floors",
    rows,
    f"Milliseconds of a training step on an {DEVICE}, exact float32. The first three columns are "
    "**computed** floors and *target* is what the project aims for: neither is a measurement.",
)
table(
    "tab-performance-gpu",
    ratios("cuda"),
    "How many times as fast as the loop each way is on a GPU.",
    "cuda",
)
counts = ", ".join(f"{limit} {limits.count(limit)}" for limit in bench.LIMITS if limit in limits)
page.say(
    f"Computed for {tables.number(bandwidth / 1e12)} TB/s, {tables.number(speed / 1e12)} TFLOP/s "
    f"and {tables.number(bench.DEPENDENT_STEP * 1e6)} µs for a dependent step. "
    f"What sets the floor, by number of configurations: {counts}."
)

# %% [markdown]
# ```{include} generated/tab-performance-floors.md
# ```
#
# ```{include} generated/tab-performance-gpu.md
# ```
#
# ## How the cost grows
#
# The work is in proportion to the steps, sequences and sites, and so the cost should be.
# {numref}`tab-growth` takes the copy task's network and lets one size grow at a time, with the
# checkpointed way where the steps do. *Exponent* is the $p$ of the best fit of time $\propto$
# $\text{size}^p$: $1$ where nothing is fixed, less where a part of the time is the same for every
# size. On a GPU there is a fourth row, for *replicas*: runs that train together.

# %% tags=["hide-cell"]
SIZES = dict(steps="steps T", batch_size="sequences B", channel_size="sites n", replicas="replicas")
grown = [result for result in everything if result["growth"].keys() >= bench.GROWTH.keys()]
rows = []
for result in grown:
    for size, fit in result["growth"].items():
        times = list(zip(fit["values"], fit["relative_time"], fit["relative_line"], strict=True))
        points = [f"{value:,}: {tables.number(seconds, 2)}" for value, seconds, _ in times]
        off = max(abs(line / seconds - 1) for _, seconds, line in times)
        rows.append(
            {
                "grows": SIZES[size] + page.note(settings(result)),
                "way": fit["way"],
                "time, as multiple of the first": "; ".join(points),
                "exponent": tables.number(fit["exponent"], 2),
                "off the line by (%)": tables.number(100 * off, 2),
            }
        )
table(
    "tab-growth",
    rows,
    "How the time of a training step grows with one size, and how far a straight line fitted to it "
    "is off at most.",
)
if grown:
    panels = [
        (SIZES[size], {r["device"]: r["growth"][size] for r in grown}) for size in bench.GROWTH
    ]
    page.figure(
        "fig-growth",
        figures.growth(panels),
        alt="Three panels on logarithmic axes: the time of a training step against its number of "
        "steps, of sequences and of sites, with the straight line fitted to each.",
        caption="Time of a training step as one size of the copy task's network grows, and the "
        "straight line fitted to it.",
    )
else:
    table("fig-growth", [], "A figure of how the time grows")

# %% [markdown]
# ```{include} generated/tab-growth.md
# ```
#
# ```{include} generated/fig-growth.md
# ```
#
# ## Memory
#
# The backward pass needs every state, so the memory of a step cannot be less than that of its
# states, $4\,T B c\,n$ bytes, unless they are computed again. {numref}`tab-memory` has the peak as
# a multiple of it, inputs and parameters not counted.

# %% tags=["hide-input"]
rows = []
for result in everything:
    for entry in result["cases"]:
        memory, best = entry["memory"], entry["best"]
        row = {"configuration": entry["name"] + page.note(settings(result))}
        row |= {"states (MB)": tables.number(entry["state_bytes"] / 1e6)}
        ways = {"loop": "loop", "the way of auto": best, "checkpointed": f"{best}, checkpointed"}
        rows.append(row | {name: tables.number(memory.get(k), 2) for name, k in ways.items()})
table("tab-memory", rows, "Peak memory of a training step, as a multiple of its states.")
for result in everything:
    fit = result["growth"].get("steps", {})
    if "memory" in fit:
        steps, share = fit["values"][-1], fit["memory"][-1]
        page.say(
            f"Checkpointed, a sequence of **{steps:,} steps** trains in the memory that the states "
            f"of **{tables.number(steps * share, 2)}** take ({result['device']})."
        )

# %% [markdown]
# ```{include} generated/tab-memory.md
# ```
#
# ## Measuring it yourself
#
# ```sh
# wrnn bench                                       # reduced sizes, a minute or two on a CPU
# wrnn bench --device cpu --profile paper --json records/bench/my-cpu.json
# wrnn bench --device cuda --profile paper --json records/bench/my-gpu.json
# wrnn bench --case sMNIST                         # only cases with this in their name
# make gpu TIME_LIMIT=3600                         # a GPU's tests, benchmark and runs
# ```
#
# Without a GPU, `python -m companion.gpu_code` compiles the fused kernels for three generations of
# GPU and prints the registers and memory that they take, and how many cycles their instructions
# need at least: a bound read from compiled code, no measurement.
#
# The next execution of this chapter shows what is in the files. Compare ratios and not times of
# different days: the ways are measured in turn because clocks and neighbours drift.
