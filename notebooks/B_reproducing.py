# %% [markdown]
# (sec-reproducing)=
# # Reproducing it
#
# Every number of this book that is not the paper's comes from a record: a small file that a
# finished training run leaves behind, with its settings, its curves, its test metrics, and where,
# when in the history of the code, and with which versions it was made. This page says how to make
# them, which command stands behind which figure or table, and what every published record was made
# on.

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["hide-input"]
from companion.evidence import tables
from companion.evidence.changes import CHANGES
from companion.page import chapter
from companion.records.table import records_table
from companion.runs.experiments import ALIASES, EXPERIMENTS

page = chapter.Chapter(profile=profile, device=device, seeds=seeds, train=False)

# %% [markdown]
# ## Three profiles
#
# | profile | what it is for | where it runs |
# | --- | --- | --- |
# | `smoke` | shows that everything runs; tests use it | CPU, seconds |
# | `quick` | shows the effects on smaller tasks that need no download | CPU, minutes |
# | `paper` | the paper's sizes, steps and data | CUDA |
#
# The first two commands are all that a newcomer needs:
#
# ```sh
# make book     # install, train the quick profile, execute every chapter, build the site
# make test     # install, unit tests, the smoke profile of every chapter, nbval
# make paper    # the paper profile of everything on CUDA, resumable
# ```
#
# ## Figures and tables
#
# {numref}`tab-commands` gives the command for each figure and table of the paper; names in one row
# are the same runs. A run that has a record is never trained again, and one that was stopped goes
# on where it was, so every command can be interrupted and repeated. `--seeds 5` trains five seeds,
# seed 0 of everything first; `--replicas 4` trains four seeds of one run together;
# `--time-limit SECONDS` stops cleanly; `--profile quick --device cpu` runs the small version;
# `--grid paper` adds all settings that the paper tried. At its end a command says how long each
# experiment took, and what is left.

# %% tags=["hide-cell"]
names = {name: [name, *(a for a, of in ALIASES.items() if of == name)] for name in EXPERIMENTS}
rows = [
    {
        "figure or table": "fig1",
        "what": "What a wave remembers",
        "chapter": "1",
        "recorded": "computed in the chapter",
        "command": "`papermill book/01_waves_as_memory.ipynb out.ipynb`",
    }
]
for experiment in EXPERIMENTS.values():
    recorded = page.recorded(experiment.name)
    whole = sum(result.complete for result in recorded)
    reduced = sum(result.status == "reduced" for result in recorded)
    rows.append(
        {
            "figure or table": ", ".join(names[experiment.name]),
            "what": experiment.title,
            "chapter": experiment.chapter.split("_")[0].lstrip("0"),
            "recorded": f"{whole} of {len(recorded)} in full, {reduced} reduced",
            "command": f"`{chapter.command(experiment.name)}`",
        }
    )
page.table(
    "tab-commands",
    rows,
    "The command behind every figure and table, the chapter that draws it, and how many of its "
    "configurations are recorded at the paper's sizes.",
)

# %% [markdown]
# ```{include} generated/tab-commands.md
# ```
#
# When the records are there, the chapter draws its figures and tables from them, training nothing,
# as in `papermill book/03_copy.ipynb out.ipynb -p profile paper -p train False`.
#
# ## Chapters with plain papermill
#
# A committed chapter is a notebook with a parameters cell and needs nothing of ours to be run. A
# parameter that does not exist is an error.
#
# ```sh
# papermill book/03_copy.ipynb out.ipynb -p profile quick -p device cpu
# papermill book/03_copy.ipynb out.ipynb -p profile paper -p device cuda -p seeds 5
# papermill book/03_copy.ipynb out.ipynb -p profile paper -p train False      # read records only
# ```
#
# `wrnn book --profile quick` does this for every chapter, checks the results and builds the site.
#
# ## Everything, on a machine with a GPU
#
# `make paper` trains everything, five seeds, unattended, in this order: the copy task (Table 4 and
# Figure 3), adding (Table 1), permuted and sequential MNIST (Table 2), noisy CIFAR10 (Table 3),
# Figures 7, 2, 10 and 18, what only this book has, LSTM and GRU; then the other seeds. It needs a
# Python with torch, torchvision, numpy, tqdm and typer, and the data; no network.
#
# 1. Carry the repository and the data there: MNIST's four `.gz` files in `MNIST/raw` and
#    `cifar-10-python.tar.gz`, in one folder that `WRNN_DATA` names. What is missing is downloaded
#    where there is a network. With CIFAR10 as an image folder, `cifar10/{train,test}/CLASS/`, it is
#    `make paper CIFAR10=folder`, and tables name the JPEGs where they stand in.
# 2. `make paper TIME_LIMIT=3000` stops cleanly before a lease or queue limit of an hour ends, and
#    the same command goes on. It may also be killed: no more than the last half minute is lost.
#    With a second device, `CUDA_VISIBLE_DEVICES=1 make paper` beside it shares the work, as does
#    any other process on the machine; no run is trained twice.
# 3. `PYTHONPATH=src python3 -m companion records export records.tar` writes the records, and the
#    checkpoints of what is unfinished, into one file of a few megabytes, and prints its size;
#    `--no-checkpoints` makes it smaller.
# 4. `wrnn records merge records.tar` at home, where a tar that was cut short or damaged is refused
#    as a whole. A record that is already there stays, and merging twice changes nothing. Unfinished
#    runs can go on there, or on the next machine, on the same type of device.
# 5. `make publish` executes the committed chapters again, with the new records.
#
# Records of several machines are merged in the same way, or by copying files: a record's name is a
# hash of its run's settings. `wrnn status` lists what is there and what is missing.
#
# ## The published records
#
# {numref}`tab-records` lists every record in `records/`. *paper* is the paper's whole budget,
# *settled* a run that ended before it because its task was settled, *reduced* less than that, and
# *quick* the reference set of the small profile.

# %% tags=["hide-cell"]
table = records_table(page.committed)
if len(table):
    table = table.assign(about=[record.run.description for record in table["record"]])
    table = table.sort_values(["profile", "about", "planned_steps"])
records = list(table["record"]) if len(table) else []


def made_on(record):
    """Machine, versions and commit in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    changed = " with changes" if record.commit.endswith("+") else ""
    commit = f"commit {record.commit[:12]}{changed}"
    return f"{record.device}, {record.threads} thread(s), {versions}, {commit}"


rows = [
    {
        "record": f"`{record.id}`",
        "run": record.run.description,
        "scale": status,
        "steps": record.run.steps,
        "minutes": tables.number(record.seconds / 60),
        "made on": page.note(made_on(record)).strip(),
    }
    for record, status in zip(records, table["status"] if records else (), strict=True)
]
if rows:
    page.table("tab-records", rows, "Every published record: run, scale, time and machine.")
else:
    page.nothing("tab-records", "Published records", "all", "paper")

# %% [markdown]
# ```{include} generated/tab-records.md
# ```
#
# ## Rules that changed
#
# {numref}`tab-changes` lists every rule by which records are judged that was changed after some of
# them existed.

# %% tags=["hide-cell"]
page.table("tab-changes", CHANGES, "Rules that changed after records existed.")

# %% [markdown]
# ```{include} generated/tab-changes.md
# ```
#
# ## Time
#
# {numref}`tab-time` gives, for seed 0 of every experiment, the time that its records took and an
# estimate for all of its runs. Evaluation is part of both.
#
# - *Measured* adds up the published records, with the training steps that they cover. Runs that
#   belong to two experiments count in both.
# - *Estimated* takes the time per step from records of the same network on the same task, at this
#   length or another (time is proportional to length). On a CPU, a network without any record is
#   estimated from its multiplications in the recurrent layer, at the median rate of all CPU
#   records. This is rough, as those machines were shared; on a GPU it would be misleading, since
#   small networks wait for each other's steps there, so nothing is estimated without a record.


# %% tags=["hide-cell"]
def machine(record):
    return "CPU" if record.device.startswith("CPU") else "GPU"


def multiplications(run, steps=None):
    """Multiplications of all recurrent steps of a run, or of its first training steps, forward."""
    model, task = run.model, run.task
    if model.kind in ("wrnn", "local"):
        state, width = model.size * model.num_channels, model.kernel_size * model.num_channels
    else:
        state, width = model.size * {"lstm": 4, "gru": 3}.get(model.kind, 1), model.size
    return total(run, steps) * state * (width + task.input_size)


def total(run, steps=None):
    """Time steps in all, or in its first training steps, that a run trains on."""
    return (steps or run.steps) * run.batch_size * run.task.length


rates = sorted(multiplications(r.run, r.steps) / r.seconds for r in records if machine(r) == "CPU")


def expected(run, kind):
    """Seconds that a run takes on a kind of machine, or None where nothing is known of it."""
    alike = [
        record
        for record in records
        if machine(record) == kind
        and record.run.model == run.model
        and type(record.run.task) is type(run.task)
    ]
    same = [r for r in alike if r.run.task == run.task]
    alike = same or [r for r in alike if r.run.task.length == run.task.length] or alike
    if alike:
        seconds = sum(r.seconds for r in alike)
        return total(run) * seconds / sum(total(r.run, r.steps) for r in alike)
    return multiplications(run) / rates[len(rates) // 2] if kind == "CPU" and rates else None


def duration(seconds):
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{tables.number(seconds / size, 2)} {unit}"
    return f"{tables.number(seconds, 2)} s"


def measured(results, kind):
    found = [r for result in results for r in result.records if machine(r) == kind]
    if not found:
        return "not yet measured"
    seconds, steps = sum(r.seconds for r in found), sum(r.steps for r in found)
    return f"{duration(seconds)} ({steps:,} steps)"


def estimated(runs, kind):
    known = [seconds for run in runs if (seconds := expected(run, kind)) is not None]
    if not known:
        return "not yet measured"
    part = "" if len(known) == len(runs) else f" for {len(known)} of the runs"
    return duration(sum(known)) + part


reader = chapter.Chapter(profile="paper", device="cpu", train=False)
rows, everything = [], {"quick": {}, "paper": {}}
for experiment in EXPERIMENTS.values():
    for kind in ("quick", "paper"):
        runs = experiment.runs(kind)
        everything[kind].update({run.id: run for run in runs})
        of = reader.this_run if kind == "quick" else reader.recorded
        results = of(experiment.name)
        rows.append(
            {
                "experiment": experiment.name,
                "profile": kind,
                "runs": len(runs),
                "CPU, measured": measured(results, "CPU"),
                "CPU, estimated": estimated(runs, "CPU"),
                "GPU, measured": measured(results, "GPU"),
                "GPU, estimated": estimated(runs, "GPU"),
            }
        )
page.table(
    "tab-time",
    rows,
    "Training time of every experiment: of its published records, and estimated for one seed of "
    "all of its runs, on one CPU thread or one GPU.",
)

# %% tags=["hide-input"]
for kind, runs in everything.items():
    page.say(
        f"All {len(runs)} runs of the {kind} profile, each once, one seed, estimated: on one CPU "
        f"thread **{estimated(list(runs.values()), 'CPU')}**, on one GPU "
        f"**{estimated(list(runs.values()), 'GPU')}**."
    )
if rates:
    page.say(
        f"The {len(rates)} CPU records made {tables.number(rates[0] / 1e9, 2)} to "
        f"{tables.number(rates[-1] / 1e9, 2)} billion multiplications per second of the forward "
        "pass, the backward pass included in the time; this is the uncertainty of an estimate from "
        "multiplications."
    )

# %% [markdown]
# ```{include} generated/tab-time.md
# ```
#
# ## The data behind them

# %% tags=["hide-cell"]
seen = {}
for record in records:
    facts = {key: value for key, value in record.data.items() if key not in ("data", "sha256")}
    described = ", ".join(
        f"{key} {value[:12] if key.endswith('sha256') else value}"
        for key, value in facts.items()
        if value is not None
    )
    seen[record.run.task.title] = (record.data, described)
rows = [
    {
        "task": title,
        "data": data.get("data", tables.NOTHING),
        "SHA-256 (first 12 digits)": f"`{data.get('sha256', '')[:12]}`",
        "splits and seeds": described,
    }
    for title, (data, described) in sorted(seen.items())
]
if rows:
    page.table(
        "tab-data",
        rows,
        "Data of the published records. Synthetic tasks are identified by their fixed test set.",
    )
else:
    page.nothing("tab-data", "Data of the published records", "all", "paper")

# %% [markdown]
# ```{include} generated/tab-data.md
# ```
#
# ## What is the same on repeat
#
# On a CPU a run with the same seed, versions and thread count gives the same record, also when it
# was stopped and resumed on the way. A GPU does not promise this; its records differ in the last
# digits and, over thousands of steps, beyond them. That is why results at the paper's scale are
# given with their spread over seeds. Chapters executed twice from the same records are identical
# byte for byte, and the tests compare them with what is committed.
