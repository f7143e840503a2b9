# %% [markdown]
# # The Wave-RNN, rebuilt
#
# This is a companion to *Traveling Waves Encode the Recent Past and Enhance Sequence Learning*
# {cite}`keller2024waves`. The paper proposes a recurrent network whose hidden state is a set of
# rings on which activity travels one site per step, the Wave-RNN (wRNN), and compares it with the
# identity RNN (iRNN) {cite}`le2015irnn`, whose full recurrent matrix starts as the identity, so
# that activity stays where it is. Here the model, its tasks and its experiments are built again
# from the paper and checked against its released code {cite}`keller2023code`. Every chapter shows
# the paper's number, our recorded number, and how to make it again.

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["remove-cell"]
from companion.evidence.verdicts import MARKS
from companion.page import chapter, figures, front

page = chapter.Chapter(profile=profile, device=device, seeds=seeds, train=train)
judged = page.findings()

# %% [markdown]
# ```{include} ring.md
# ```
#
# ## What was found

# %% tags=["remove-input"]
page.say("\n".join(f"- {sentence}" for sentence in front.findings(judged)))

# %% tags=["remove-cell"]
page.figure(
    "fig-standing",
    figures.standing(front.counts(judged), MARKS),
    alt="One bar in which every claim of the paper has its place, by verdict, from reproduced to "
    "contradicted, and what is still open.",
    caption=f"Where the claims of the paper stand: {front.standing(judged)}.",
)

# %% [markdown]
# ```{include} generated/fig-standing.md
# ```
#
# ## Every claim
#
# Grouped by verdict; each is linked to the chapter that has its records, its seeds and the limit
# that it is held to.

# %% tags=["remove-cell"]
page.table("tab-claims", front.by_verdict(judged), "The paper's claims and what became of them.")

# %% [markdown]
# ```{include} generated/tab-claims.md
# ```
#
# (sec-labels)=
# ## How to read the labels
#
# The 95 % interval over seeds decides, not the mean; ≥ is a lower bound, where a loss ends at the
# floor of its arithmetic or a run never got there. Means and intervals are taken on the logarithm
# of a loss or a number of steps and on the logit of an accuracy (but for seeds that have all or
# nothing right), so that they are not the plain means of the seeds beside them.
#
# - **● reproduced**: the whole interval is within the limit, at the paper's scale or until settled.
# - **◕ holds so far**: so it is, but with one seed, a smaller budget or a part of the claim.
# - **◐ inconclusive**: the interval crosses the limit, or the seeds disagree.
# - **◔ fails so far**, **○ contradicted**: the whole interval is beyond the limit; *so far* is as
#   above.
# - **· open**: no record decides it. Too short a training never counts as a failure.
#
# Results carry the scale they were made at: *paper*, *settled* (stopped once the task was settled),
# *reduced* (fewer steps, smaller networks, or images that went through JPEG), *quick* and *smoke*
# (smaller tasks, which show an effect and never a number of the paper). {ref}`sec-reproducing` has
# the provenance of every record, every command, and every rule that changed.
#
# ## Where to go on
#
# Chapters {ref}`sec-waves-as-memory` and {ref}`sec-wave-rnn` explain the idea and the model;
# {ref}`sec-copy`, {ref}`sec-adding`, {ref}`sec-images` and {ref}`sec-noisy` hold the experiments,
# {ref}`sec-ablations` takes the model apart, {ref}`sec-beyond` and {ref}`sec-appendix` go further,
# and {ref}`sec-text-and-code` compares the paper with its code.
