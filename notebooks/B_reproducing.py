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
from wrnn import chapter, tables
from wrnn.experiments import ALIASES, EXPERIMENTS
from wrnn.results import MOST_SEEDS

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
# {numref}`tab-commands` gives the command for each figure and table. A run that has a record is
# never trained again, and one that was stopped goes on where it was, so every command can be
# interrupted and repeated. `--seeds 5` trains five seeds, seed 0 of everything first;
# `--time-limit SECONDS` stops cleanly; `--profile quick --device cpu` runs the small version.

# %% tags=["hide-cell"]
names = {name: [name, *(a for a, of in ALIASES.items() if of == name)] for name in EXPERIMENTS}
rows = []
for experiment in EXPERIMENTS.values():
    recorded = page.recorded(experiment.name)
    whole = sum(result.status == "paper" for result in recorded)
    reduced = sum(result.status == "reduced" for result in recorded)
    rows.append(
        {
            "figure or table": ", ".join(names[experiment.name]),
            "what": experiment.title,
            "configurations": len(recorded),
            "recorded": f"{whole} in full, {reduced} reduced",
            "command": f"`{chapter.command(experiment.name)}`",
        }
    )
page.table(
    "tab-commands",
    rows,
    "The command behind every figure and table, and how many of its configurations are recorded at "
    "the paper's sizes.",
)

# %% [markdown]
# ```{include} generated/tab-commands.md
# ```
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
# ## Several machines
#
# A record's file is named by a hash of the run's settings. Records from several machines are
# therefore merged by putting the files into one folder; `wrnn records merge FOLDER` does that and
# reads each of them first. `wrnn status` lists what is there and what is missing.
#
# ## The published records
#
# {numref}`tab-records` lists every record in `records/`. *Full* is the paper's whole budget,
# *reduced* the paper's sizes with fewer steps, and *quick* the reference set of the small profile.

# %% tags=["hide-cell"]
planned = {
    run.id: name
    for name, experiment in EXPERIMENTS.items()
    for kind in ("paper", "quick")
    for run in experiment.runs(kind, MOST_SEEDS)
}
records = sorted(
    page.committed.all(),
    key=lambda record: (record.run.profile, record.run.description, record.run.steps),
)


def scale(record):
    """Full, reduced, or the name of the small profile."""
    if record.run.profile != "paper":
        return record.run.profile
    return "full" if record.id in planned else "reduced"


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
        "scale": scale(record),
        "steps": record.run.steps,
        "minutes": tables.number(record.seconds / 60),
        "made on": page.note(made_on(record)).strip(),
    }
    for record in records
]
if rows:
    page.table("tab-records", rows, "Every published record: run, scale, time and machine.")
else:
    page.nothing("tab-records", "Published records", "all", "paper")

# %% [markdown]
# ```{include} generated/tab-records.md
# ```
#
# ## Time
#
# {numref}`tab-time` adds up the training time of the published records by experiment and machine.
# Time on a shared machine is a rough guide; steps per second are given to compare with.

# %% tags=["hide-cell"]
groups = {}
for name in EXPERIMENTS:
    for result in [*page.recorded(name), *page.this_run(name)]:
        for record in result.records:
            if record in records:
                groups.setdefault((name, scale(record), record.device), {})[record.id] = record
rows = []
for (name, kind, machine), found in groups.items():
    seconds = sum(record.seconds for record in found.values())
    steps = sum(record.run.steps for record in found.values())
    rows.append(
        {
            "experiment": name,
            "scale": kind,
            "machine": machine,
            "runs": len(found),
            "minutes": tables.number(seconds / 60),
            "steps per second": tables.number(steps / seconds),
        }
    )
if rows:
    page.table("tab-time", rows, "Training time of the published records.")
else:
    page.nothing("tab-time", "Training time of the published records", "all", "paper")

# %% [markdown]
# ```{include} generated/tab-time.md
# ```
#
# ## The data behind them

# %% tags=["hide-cell"]
seen = {}
for record in records:
    facts = {key: value for key, value in record.data.items() if key not in ("data", "sha256")}
    described = ", ".join(f"{key} {value}" for key, value in facts.items() if value is not None)
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
