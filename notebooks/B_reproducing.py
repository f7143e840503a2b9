# %% [markdown]
# (sec-reproducing)=
# # Reproducing it
#
# Every number of this book that is not the paper's is computed on the page that shows it or comes
# from a benchmark file or a record: a small file that a finished training run leaves behind, with
# its settings, curves, test metrics and provenance. This page says how to make records, which
# command stands behind which figure or table, and what every published record was made on.

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["hide-input"]
import json

import pandas as pd

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
# | `paper` | the paper's sizes, steps and data (smaller: see {numref}`tab-commands`) | CUDA (CPU) |
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
# seed 0 of everything first; `--replicas 4` trains up to that many runs of one length together;
# `--time-limit SECONDS` stops cleanly; `--profile quick --device cpu` runs the small version;
# `--grid paper` adds all settings that the paper tried. At its end a command says how long each
# experiment took, and what is left.

# %% tags=["hide-cell"]
names = {name: [name, *(a for a, of in ALIASES.items() if of == (name,))] for name in EXPERIMENTS}
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
    trained = sum(any(r.run.steps == of.run.steps for r in of.records) for of in recorded)
    smaller = f"{trained} of {len(recorded)}, smaller than the paper's"
    rows.append(
        {
            "figure or table": ", ".join(names[experiment.name]),
            "what": experiment.title,
            "chapter": experiment.chapter.split("_")[0].lstrip("0") or "none",
            "recorded": (
                smaller
                if experiment.smaller
                else f"{whole} of {len(recorded)} in full, {reduced} reduced"
            ),
            "command": f"`{chapter.command(experiment.name)}`",
        }
    )
page.table(
    "tab-commands",
    rows,
    "The command behind every figure and table, the chapter that draws it, and how many of its "
    "configurations are recorded at the paper's sizes; experiments of this book that are smaller "
    "by design count as they are.",
)

# %% [markdown]
# ```{include} generated/tab-commands.md
# ```
#
# When the records are there, the chapter draws its figures and tables from them.
#
# ## Chapters with plain papermill
#
# A committed chapter is a notebook with a parameters cell, which papermill runs where this package
# is installed. A parameter that does not exist is an error.
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
# `make paper` trains everything, five seeds, unattended: the copy task (Table 4 and Figure 3),
# adding (Table 1), permuted and sequential MNIST (Table 2), noisy CIFAR10 (Table 3), Figures 7, 2,
# 10 and 18, what only this book has, LSTM and GRU; then the other seeds. It needs a Python with
# torch, torchvision, numpy, filelock and typer, and the data; no network.
#
# 1. Carry the repository and the data there: MNIST's four `.gz` files in `MNIST/raw` and
#    `cifar-10-python.tar.gz`, in one folder that `WRNN_DATA` names. What is missing is downloaded
#    where there is a network. With CIFAR10 as an image folder, `cifar10/{train,test}/CLASS/`, it is
#    `make paper CIFAR10=folder`, and tables name the JPEGs where they stand in.
# 2. `make paper TIME_LIMIT=3000` stops cleanly before a limit of an hour ends, and the same command
#    goes on. It may also be killed: what is lost is the work since it last saved. On another
#    device, `CUDA_VISIBLE_DEVICES=1 make paper` shares the work; no run is trained twice.
# 3. `PYTHONPATH=src python3 -m companion records export records.tar` writes the records, and the
#    checkpoints of what is unfinished, into one file; `--no-checkpoints` makes it smaller.
# 4. `wrnn records merge records.tar` at home, where a tar that was cut short or damaged is refused
#    as a whole. A record that is already there stays, unless it is damaged, and merging twice
#    changes nothing. Unfinished runs can go on there, or on the next machine, on the same type of
#    device.
# 5. `make publish` executes the committed chapters again, with the new records.
#
# Records of several machines are merged in the same way, or by copying files: a record's name is a
# hash of its run's settings. `wrnn status` lists what is there and what is missing.
#
# ## The published records
#
# {numref}`tab-records` sums up what is in `records/`, and the file below it has a row for each;
# {ref}`sec-labels` says what the scales are. Hours are those of the processor where a record has
# them, and of the clock elsewhere, evaluation included.

# %% tags=["hide-cell"]
records = records_table(page.committed)


def hours(rows):
    """Hours of a group of records, as text."""
    seconds = rows["processor_seconds"].astype(float).fillna(rows["seconds"]).sum()
    return tables.number(seconds / 3600)


def steps(rows):
    """Steps taken, the fewest and the most of a group of records."""
    taken = sorted(set(rows["taken_steps"].astype(int)))
    return " to ".join(f"{count:,}" for count in dict.fromkeys((taken[0], taken[-1])))


devices = sorted(set(records["device"])) if len(records) else []
machine = f" All were made on {devices[0]}." if len(devices) == 1 else ""


def made_on(rows):
    """A column for the machines, where there are several."""
    return {"made on": ", ".join(sorted(set(rows["device"])))} if len(devices) > 1 else {}


groups = records.groupby(["status", "title"]) if len(records) else ()
page.table(
    "tab-records",
    [
        {
            "scale": status,
            "task": title,
            "records": len(rows),
            "seeds": rows["seed"].nunique(),
            "steps": steps(rows),
            "hours": hours(rows),
            **made_on(rows),
        }
        for (status, title), rows in groups
    ],
    f"The published records by scale and task.{machine}",
    ("Published records", "all", "paper"),
)
page.file(
    "records.csv",
    chapter.provenance(records).to_csv(index=False) if len(records) else "id\n",
    "Every published record: run, scale, steps, time, machine, versions, commit and data"
    if len(records)
    else "No record is published yet",
)

# %% [markdown]
# ```{include} generated/tab-records.md
# ```
#
# ```{include} generated/records.csv.md
# ```
#
# ## Time
#
# {numref}`tab-time` gives the machine time behind every experiment at the paper's sizes. Runs that
# belong to two experiments count in both. `make campaign` repeats what a CPU reaches of them, with
# two workers on one folder; it can be stopped and called again, and says what is done and how long
# is left.

# %% tags=["hide-cell"]
rows = []
for experiment in EXPERIMENTS.values():
    recorded = [result for result in page.recorded(experiment.name) if result.records]
    if recorded:
        of = pd.concat([result.rows for result in recorded])
        planned = len(page.recorded(experiment.name))
        rows.append(
            {
                "experiment": experiment.name,
                "configurations": f"{len(recorded)} of {planned}",
                "records": len(of),
                "steps": f"{of['taken_steps'].sum():,.0f}",
                "hours": hours(of),
                **made_on(of),
            }
        )
caption = f"Machine time of the published records, by experiment.{machine}"
page.table("tab-time", rows, caption, ("Machine time", "all", "paper"))

# %% [markdown]
# ```{include} generated/tab-time.md
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
# ## Faults
#
# `make faults` kills and interrupts training, fills and fails the disk, lets several processes
# loose on one folder, damages every kind of file, and gives bad input to the library, the command
# line and the chapters. {numref}`tab-faults` counts what came of it. *Lost* is a record that was
# not there in the end; *wrong* one that differed by a bit from that of an undisturbed run, or
# damage or bad input that was taken for good; *loud* more than one line, or a wrong exit status;
# *left* a lock or an unfinished file that nothing took away.

# %% tags=["hide-cell"]
path = page.committed.folder / "faults" / "faults.json"
if path.exists():
    found = json.loads(path.read_text())
    page.table(
        "tab-faults",
        [
            {"kind": kind} | {name: f"{count:,}" for name, count in counts.items()}
            for kind, counts in found["kinds"].items()
        ],
        f"Trials and injected faults, by kind, on {found['date']} at commit "
        f"{found['commit'][:12]}. Of bad inputs, the faults are what was refused.",
    )
else:
    missing = {"not yet recorded": "Faults", "command": "`make faults`"}
    page.table("tab-faults", [missing], "Faults: not yet recorded")

# %% [markdown]
# ```{include} generated/tab-faults.md
# ```
#
# ## What is the same on repeat
#
# On a CPU a run with the same seed, versions and thread count gives the same record, also when it
# was stopped and resumed on the way. A GPU does not promise this: its records differ in the last
# digits and, over many steps, beyond them, so results are given with their spread over seeds.
# Chapters executed twice from the same records are identical byte for byte, and the tests compare
# them with what is committed.
