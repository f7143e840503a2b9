# %% [markdown]
# # The Wave-RNN, rebuilt
#
# This is a companion to *Traveling Waves Encode the Recent Past and Enhance Sequence Learning*
# {cite}`keller2024waves`. The paper proposes a recurrent network whose hidden state is a set of
# rings on which activity travels one site per step, the Wave-RNN (wRNN), and compares it with the
# identity RNN (iRNN) {cite}`le2015irnn`, the same network without waves. Here the model, its tasks
# and its experiments are built again from the paper and checked against its released code
# {cite}`keller2023code`. Every chapter shows the paper's number, our recorded number, and how to
# make it again.

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["hide-input"]
from companion.evidence import claims
from companion.page import chapter

page = chapter.Chapter(profile=profile, device=device, seeds=seeds, train=train)
findings = page.findings()

# %% [markdown]
# ## Four questions
#
# What a reader wants to know, and what the claims below answer so far:

# %% tags=["hide-cell"]
rows = []
for key, question in claims.QUESTIONS.items():
    of_question = [finding for finding in findings if finding.claim.question == key]
    rows.append({"question": question, "so far": claims.answer(of_question)})
page.table("tab-questions", rows, "Four questions, answered as far as runs have been recorded.")

# %% [markdown]
# ```{include} generated/tab-questions.md
# ```
#
# ## Claims and verdicts
#
# Each row of {numref}`tab-claims` is one claim of the paper in our words, with the paper's number,
# ours (mean and 95 % confidence interval over n seeds), the tolerance it is held to, and a verdict
# that is computed from these. None of it is written by hand: a different record gives a different
# verdict.

# %% tags=["hide-cell"]
page.table(
    "tab-claims",
    page.verdict_rows(findings, linked=True),
    "The paper's claims, each linked to its chapter, and what became of them.",
)

# %% [markdown]
# ```{include} generated/tab-claims.md
# ```
#
# ## How to read the labels
#
# Verdicts:
#
# - **● reproduced**: recorded at the paper's scale, or until settled, and within the tolerance.
# - **◐ partly**: within the wider tolerance in brackets; or the rule holds, but with a smaller
#   training budget, or with some of the runs still missing.
# - **○ not reproduced**: recorded at the paper's scale, or until settled, and outside both.
# - **· not yet run**: no record decides it. A value may stand beside it when a smaller budget was
#   run and its outcome settles nothing.
#
# Results carry the scale they were made at, in every table and legend:
#
# - *no label*: the paper's sizes, steps and data.
# - *settled*: the same, but stopped before the last step because the task was settled: copying at
#   its floor for 2,000 steps, adding solved and 5,000 steps taken. The step is given.
# - *reduced*: cut short (the steps are given), smaller networks, or images that went through JPEG.
# - *quick*, *smoke*: a smaller task or network, which shows an effect and never a number of the
#   paper. Digits of 8 by 8 pixels stand there for MNIST, and are called digits.
# - *not yet recorded*: the command that records it is given in its place.
#
# ## Where to go on
#
# Chapters {ref}`sec-waves-as-memory` and {ref}`sec-wave-rnn` explain the idea and the model and
# check each equation as it is made; {ref}`sec-copy`, {ref}`sec-adding`, {ref}`sec-images` and
# {ref}`sec-noisy` hold the experiments, {ref}`sec-ablations` takes the model apart and
# {ref}`sec-beyond` goes further; {ref}`sec-text-and-code` compares the paper with its code;
# {ref}`sec-reproducing` has every command and the provenance of every record.
