# %% [markdown]
# (sec-text-and-code)=
# # The paper's text and its released code
#
# **Why this chapter.** A paper is text, but its numbers come from code. Where the two differ, a
# reader who follows the text gets other numbers than those printed. Here are all such places that
# we know of, for the paper {cite}`keller2024waves` and its released code {cite}`keller2023code`, a
# single commit that is some months older than the final paper.
#
# **What this chapter does.** {numref}`tab-differences` has every point, what it amounts to, our
# default, and the argument or field that changes it. Points that change a number have a section
# below, or in the chapter that their first column links to. What the code does was read in its
# files; none of it is copied, and what runs here is this package.
#
# ```{include} generated/tab-differences.md
# ```

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["hide-input"]
import itertools

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from torch.nn import functional as F

from companion.evidence import measures, paired, tables
from companion.evidence import published as paper
from companion.evidence.verdicts import budget
from companion.page import chapter
from companion.records.table import difference, interval
from companion.runs.experiments import EXPERIMENTS, MNIST_EPOCH, grid
from companion.runs.run import build_model, irnn_config, wrnn_config
from wrnn.tasks import AddingTask, CopyTask, SequentialDigits, SequentialMNIST, data
from wrnn.tasks.noisy import CIFAR10_STD

page = chapter.Chapter(profile=profile, device=device, seeds=seeds, train=train)
number = tables.number
amounts = {}  # point -> what it amounts to, for the table of differences
DRAWS = 4 if profile == "smoke" else 20  # of a start, where its weights are drawn


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def quartiles(values):
    """The median and, in brackets, the quartiles of some tensors of one number."""
    low, middle, high = torch.stack(values).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
    return f"{number(middle, 2)} [{number(low, 2)}, {number(high, 2)}]"


# %% [markdown]
# (sec-point-layout)=
# ## The layout of the copy task
#
# Chapter {ref}`sec-copy` shows both layouts. They agree on length and lag, so that their results
# can be compared, except at $T = 0$, where the code's cue overwrites the last symbol.

# %%
last = {
    layout: CopyTask(10, layout=layout).batch(1000, generator=seeded())[1][-1]
    for layout in ("text", "code")
}
for layout, targets in last.items():
    print(
        f"{layout}: {int((targets == 9).sum())} of 1000 sequences end with the cue as target; "
        f"without memory {number(CopyTask(10, layout=layout).memoryless_baseline())} nats"
    )
amounts["layout"] = f"T = 0: {100 * (last['code'] == 9).float().mean():.0f} % of tenth symbols lost"

# %% [markdown]
# The labels differ as well: the code was released with a sweep over lags of 10, 20, 50, 100 and 500
# {cite}`keller2023code`, which is $T$ = 0, 10, 40, 90 and 490, where the paper prints 0, 10, 30, 80
# and 480. We run the paper's $T$ in the layout of the code, with the lag beside it.
#
# (sec-point-measure)=
# ## What is called MSE on the copy task
#
# It is a cross-entropy, divided by the 50 sequences of a test batch ({ref}`sec-copy`). For a
# network that knows the time but no symbol, the three measures are far apart:

# %%
task = CopyTask(20)
x, y = next(task.evaluation_batches("test"))  # (T, 50, 10), (T, 50)
blind = torch.full((*y.shape, 10), -30.0)  # logits
blind[:-10, :, 0] = 30.0
blind[-10:, :, 1:9] = 0.0
scores = task.metrics(blind, y)
print(*(f"{name} {number(scores[name])}" for name in ("cross_entropy", "printed_mse", "mse")))

# %% tags=["hide-input"]
lengths = (0, 10, 30, 80)
in_floors = [
    paper.value(f"table4/wrnn/T={T}/mse") / CopyTask(T + 10).float32_floor("printed_mse")
    for T in lengths
]
blanks = [100 * (T + 10) / (T + 20) for T in lengths]  # steps that are no answer
amounts["measure"] = f"a factor of {number(scores['cross_entropy'] / scores['printed_mse'])}"
page.say(
    "Two consequences. Values for different $T$ share no scale, since the ten answers are averaged "
    f"with blanks: {number(blanks[0])} % of the terms at T = {lengths[0]}, {number(blanks[-1])} % "
    f"at T = {lengths[-1]}. And the wRNN's row of Table 4 lies at {number(min(in_floors), 2)} to "
    f"{number(max(in_floors), 2)} times the floor of chapter {{ref}}`sec-copy`, $2^{{-23}}$ nats a "
    "symbol, where it counts symbols that were not rounded to certainty: a ranking there means "
    "nothing, the distance to the rows that fail does."
)

# %% [markdown]
# (sec-point-scale)=
# ## The scale of the training loss
#
# In training the same loss is divided by 128 and then differentiated. Adam {cite}`kingma2015adam`
# ignores the scale of a gradient, except where it is as small as its $\epsilon = 10^{-8}$: dividing
# the loss acts as an $\epsilon$ that is 128 times as large. A bound on the norm of the gradient
# applies to the divided one.

# %% tags=["hide-input"]
x, y = CopyTask(20).batch(128, generator=seeded())
norms = {}
for config in (wrnn_config(100, 6), irnn_config(100)):
    for divisor in (1, 128):
        model = build_model(config, CopyTask(20), seeded())
        (CopyTask(20).loss(model(x), y) / divisor).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        size = gradient[gradient != 0].abs()  # Adam's first step is size / (size + 1e-8)
        slowed = 100 * (size < 9e-8).double().mean().item()
        norms[config.kind, divisor] = norm = gradient.norm().item()
        print(
            f"{config.kind}, loss / {divisor}: gradient norm {number(norm, 2)}, which a clip at 1 "
            f"{'cuts' if norm > 1 else 'leaves'}; Adam's first step is under 0.9 of the "
            f"rate for {number(slowed, 2)} % of the weights with a gradient"
        )
amounts["scale"] = (
    f"first gradient of the wRNN {number(norms['wrnn', 1], 2)} → {number(norms['wrnn', 128], 2)}"
)

# %% [markdown]
# (sec-point-starts)=
# ## How the input layer starts
#
# Chapter {ref}`sec-wave-rnn` shows both kinds of V-init. Without it, the text says nothing of the
# input bias and, for the iRNN, cites weights from a normal distribution of standard deviation 0.001
# {cite}`le2015irnn`. In the code V-init is also what sets the input *bias* to zero: wherever it is
# off, the bias keeps PyTorch's default, uniform between $\pm 1/\sqrt{d}$ with $d$ the number of
# inputs. That is every iRNN and wRNN without V-init. {numref}`tab-starts` has new models as the
# paper's experiments start them.

# %% tags=["hide-cell"]
tasks = {"table4": "copy", "table1": "adding", "table2": "sMNIST, psMNIST", "table3": "nsCIFAR10"}
rows = {}
for name in tasks:
    for run in EXPERIMENTS[name].runs("paper"):
        config, d = run.model, run.task.input_size
        ablated = config.kind == "wrnn" and config.recurrent != "shift"
        if config.kind not in ("wrnn", "irnn") or config.readout == "mlp" or ablated:
            continue
        start = build_model(config, run.task, seeded()).rnn.named_parameters()
        start = {part.removesuffix("_l0"): value.detach() for part, value in start}
        weight, bias = start["weight_ih"], start["bias_ih"]
        sites = int(weight.any(1).sum())
        rows[name, config] = {
            "task": tasks[name],
            "model": config.label,
            "input weights": f"1 at {sites} of {len(weight):,} units"
            if sites < len(weight)
            else f"deviation {number(weight.std().item(), 2)}",
            "input bias, up to": number(bias.abs().max().item(), 2),
            "1/√d": number(d**-0.5, 2),
            "recurrent bias, up to": number(start["bias_hh"].abs().max().item(), 2),
        }
page.table(
    "tab-starts",
    list(rows.values()),
    "How the models of Tables 1 to 4 start, as drawn from seed 0. *Zero input bias*: our control.",
)

# %% [markdown]
# ```{include} generated/tab-starts.md
# ```
#
# In an iRNN such a bias is loud: its matrix is the identity and keeps what is there, so every unit
# with a positive bias grows by about as much at every step of the sequence.

# %% tags=["hide-input"]
task, first_loss = AddingTask(100), {}
x, y = task.batch(128, generator=seeded())
for bias in ("uniform", "zero"):
    config = irnn_config(100, input_bias=bias)
    with torch.no_grad():
        losses = [task.loss(build_model(config, task, seeded(draw))(x), y) for draw in range(DRAWS)]
    first_loss[bias] = quartiles(losses)
    print(f"adding, T = 100, iRNN, input bias {bias}: loss before training {first_loss[bias]}")
amounts["bias"] = (
    f"adding, iRNN: first loss {first_loss['uniform']} (quartiles of {DRAWS} draws), else "
    f"{first_loss['zero']}"
)

# %% [markdown]
# *iRNN, zero input bias* is the fair control of chapters {ref}`sec-copy` to {ref}`sec-images`,
# since the input bias of the wRNN starts at zero too. Until 24 November 2026 this project started
# every model without V-init so, and wRNNs also with uniform weights: the experiment `other_starts`,
# in {numref}`tab-other-starts` beside the rows of Table 4 as the released code starts them.

# %% tags=["hide-input"]
rows, changes = [], []
for results in (page.recorded, page.this_run):
    released, other = (
        {
            (r.run.task.lag, r.run.model.kind, r.run.model.recurrent): r
            for r in results(name)
            if r.run.model.input in ("normal", "default")
        }
        for name in ("table4", "other_starts")
    )
    for key in other:
        pair = [released.get(key), other[key]]
        known = [result for result in pair if result and result.records]
        if known:
            values = (page.value(result, "printed_mse") for result in pair)
            row = {"T": key[0] - 10, "model": (pair[0] or pair[1]).label}
            rows.append(row | dict(zip(("released start", "other start"), values, strict=True)))
        if len(known) == 2 and budget(pair[0]) == budget(pair[1]):
            changes.append((measures.gap(pair[1], pair[0]), pair[0]))
page.table(
    "tab-other-starts",
    rows,
    "Copy task without V-init, printed loss: input layer as in the released code, and as this "
    "project started it before (bias of zero; wRNN: uniform weights).",
    ("Two starts of the input layer", "table4 other_starts"),
)
if changes:
    change, largest = max(changes, key=lambda c: abs(c[0].mean))
    amounts["other"] = f"up to {tables.interval(change)} powers of ten (n = {change.count})"
    page.say(
        f"Of the {len(changes)} rows recorded with both starts for as long, {largest.label} at T = "
        f"{largest.run.task.lag - 10} changes most: its loss is **{tables.interval(change)} powers "
        f"of ten** higher with the released start (n = {change.count}; "
        f"{largest.description.rpartition(', ')[0]})."
    )
learned = {}  # (profile, lag) -> start of the input weights -> result
for result in page.shown("v_init"):
    key = result.run.profile != "paper", -result.run.task.lag
    learned.setdefault(key, {})[result.run.model.input] = result
for (_, lag), of in sorted(learned.items()):
    for start, point in (("identity", "v-init"), ("normal", "without")):
        if {start, "ones"} <= of.keys():
            pair = of[start], of["ones"]
            times = measures.times(*map(measures.steps_to_learn, pair), *pair)
            text = f"copying is learned in {tables.interval(times, 2)} times the steps of V-init"
            if times:
                amounts.setdefault(point, f"{text} of the code, lag {-lag}")

# %% [markdown]
# ```{include} generated/tab-other-starts.md
# ```
#
# How soon copying is learned from each of these starts is in {numref}`tab-ablations-learning`. What
# the paper calls iRNN on the copy task is also the best of four starts there, identity or default
# matrix with rectifier or tanh, each with every learning rate and clip. `--grid paper` runs that
# search, and {numref}`tab-settings-tried` has what is recorded of it.
#
# (sec-point-recurrent-bias)=
# ## The bias of the convolution
#
# Chapter {ref}`sec-wave-rnn` derives what PyTorch's default bias does to a wave. Here is its size
# on the image tasks: 16 small digits, enlarged to 28 by 28 pixels, go through the paper's network
# before any training, where guessing evenly gives a loss of $\ln 10 = 2.30$.

# %% tags=["hide-input"]
digits = data.digits()
small = digits.images[:16].float() / digits.max_value  # (16, 8, 8)
pixels = F.interpolate(small[:, None], size=(28, 28), mode="bilinear").flatten(1).t()[..., None]
start_loss = {}
for kind in ("default", "zero"):
    config = wrnn_config(256, 16, recurrent_bias=kind)
    losses, activity = [], []
    for draw in range(DRAWS):
        model = build_model(config, SequentialMNIST(), seeded(draw))
        with torch.no_grad():
            state = model.rnn(pixels.contiguous())[0][-1]  # (16, 4096)
            losses.append(F.cross_entropy(model.readout(state), digits.labels[:16]))
        activity.append(state.mean())
    start_loss[kind] = quartiles(losses)
    print(f"{kind}: mean activity {quartiles(activity)}, loss {start_loss[kind]}")
amounts["recurrent bias"] = (
    f"first loss {start_loss['default']} against {start_loss['zero']} (enlarged digits, quartiles "
    f"of {DRAWS} draws)"
)

# %% [markdown]
# (sec-point-choices)=
# ## What three of these choices do to the result
#
# {ref}`sec-choices` trains all combinations of the recurrent bias, the scale of the loss and V-init
# with the same seeds; their main effects are in {numref}`tab-choices`. The runs of
# {ref}`sec-mnist-cpu` and {ref}`sec-cifar10-cpu` have the recurrent bias alone.

# %% tags=["hide-input"]
told = {}  # point -> its effects, of the paper form where that is recorded
for results in (page.recorded("why_released"), page.this_run("why_released")):
    for task, group in {} if told else paired.by_task(results).items():
        effects = paired.choice_effects(group) or ()
        for point, effect in zip(("recurrent bias", "scale", "v-init"), effects, strict=False):
            told.setdefault(point, []).append(
                f"{paired.outcome(task).axis} by {tables.interval(effect)} ({task.title}, "
                f"n = {effect.count})"
            )
for point, effects in told.items():
    amounts[f"{point}, effect"] = f"; the alternative changes {' and '.join(effects)}"
pairs = {}  # task -> start of the recurrent bias -> result
for result in [*page.recorded("mnist_cpu"), *page.recorded("cifar10_cpu")]:
    if result.run.model.kind == "wrnn":
        pairs.setdefault(result.run.task, {})[result.run.model.recurrent_bias] = result
for pair in pairs.values():
    gain = difference(*(pair[start].seeds("accuracy") for start in ("zero", "default")))
    if gain and gain.low is not None:
        page.say(
            f"{pair['zero'].records[0].run.task.title} ({pair['zero'].description}): starting the "
            f"recurrent bias at zero changes test accuracy by **{tables.interval(gain, 2)} "
            "points**, paired by seed."
        )

# %% [markdown]
# (sec-point-seeds)=
# ## Unseeded permutation, noise and splits
#
# The pixel order of psMNIST, the noise of nsCIFAR10 and all splits were drawn without a seed and
# not saved. Does it matter which one it was? A cheap stand-in for training keeps the recurrent part
# as it starts and fits only the readout, by ridge regression, on the small digits; nothing but the
# seed of the permutation, or of the split, changes from run to run.


# %% tags=["hide-input"]
def readout_only(task):
    """Test accuracy (%) of a ridge classifier on the final states of an untrained wRNN."""
    rnn = build_model(wrnn_config(16, 4), task, seeded()).rnn
    states, labels = {}, {}
    for split in ("train", "test"):
        x, labels[split] = next(task.evaluation_batches(split, 2000))
        with torch.no_grad():
            states[split] = rnn(x)[0][-1].double().numpy()  # (B, hidden)
    penalty = 1e-3 * states["train"].var(0).sum() * len(states["train"]) / states["train"].shape[1]
    fitted = RidgeClassifier(alpha=penalty).fit(states["train"], labels["train"].numpy())
    return 100 * fitted.score(states["test"], labels["test"].numpy())


spread = {}
for name in ("permutation_seed", "split_seed"):
    values = [readout_only(SequentialDigits(True, **{name: seed})) for seed in range(8)]
    spread[name] = number(float(np.std(values, ddof=1)), 2)
    print(
        f"8 values of {name}: mean {number(float(np.mean(values)))} %, deviation {spread[name]}, "
        f"from {number(min(values))} to {number(max(values))}"
    )
amounts["seeds"] = (
    f"digits: deviation {spread['permutation_seed']} points over permutations, "
    f"{spread['split_seed']} over splits"
)

rows = sorted(row["psmnist"].value for row in chapter.by_model("table2").values())
rows = [value for value in rows if value is not None]
close = sum(b - a < float(spread["permutation_seed"]) for a, b in itertools.pairwise(rows))
page.say(
    "The digits have no official test images, so their split also decides which images are tested; "
    f"that of MNIST does not. In the psMNIST column of Table 2, {close} of {len(rows) - 1} "
    "neighbouring values are closer to each other than the deviation over permutations here, which "
    "is on a smaller test set: one permutation is one sample. Ours are part of every run."
)

# %% [markdown]
# (sec-point-noise)=
# ## One noise for all images
#
# In the code, and in the code it came from {cite}`rusch2021cornn`, the noise of nsCIFAR10 is drawn
# once; chapter {ref}`sec-noisy` shows what that changes in the task. All rows of Table 3 made with
# this code share it, which does not mean that all gain alike.

# %% tags=["hide-input"]
costs = {}  # profile -> model -> points of accuracy that fresh noise costs, by seed; and a result
for result in page.shown("noise"):
    of = costs.setdefault(result.run.profile, {}).setdefault(result.run.model.kind, {})
    of[result.run.task.noise] = result
for of in costs.values():
    lost = {
        kind: pair["fixed"].seeds("accuracy") - pair["fresh"].seeds("accuracy")
        for kind, pair in of.items()
        if len(pair) == 2
    }
    if {"wrnn", "irnn"} <= lost.keys():
        wave, identity = (interval(lost[kind].dropna()) for kind in ("wrnn", "irnn"))
        more = difference(lost["irnn"], lost["wrnn"])
        shared = of["wrnn"]["fixed"]
        cost = (
            f"fresh noise costs the wRNN {tables.interval(wave, 2)} points, the iRNN "
            f"{tables.interval(identity, 2)}"
        )
        amounts["noise"] = f"{cost} ({shared.run.task.title}, {shared.description})"
        told = {"above": "the iRNN", "below": "the wRNN", "open": "can't be told"}
        page.say(
            f"On {shared.run.task.title} {cost} of test accuracy (paired by seed; "
            f"{shared.description}). Which of the two the fixed noise helps more: "
            f"**{told[paired.side(more)]}**, as the costs differ by {tables.interval(more, 2)}."
        )
page.say(page.missing("noise"))

# %% [markdown]
# (sec-point-spectrum)=
# ## The diagonal of the spectrum
#
# Section {ref}`sec-waves-seen` measures the speed of a wave as the slope $f_t / f_x$. The code sums
# power along the diagonal of the *array*, which joins equal indices of two axes in different units,
# and divides by a copy that is shuffled in time only: every site keeps its mean over time, so that
# power at $f_t = 0$ is one by construction. A made-up wave of one site per step, with noise, on the
# paper's 784 steps and 256 sites:

# %%
steps, sites, waves = 784, 256, np.arange(1, 31)  # waves on the ring
generator = np.random.default_rng(0)
moving = np.arange(sites) + np.arange(steps)[:, None]  # (T, sites)
phase = generator.uniform(0, 2 * np.pi, len(waves))
field = np.cos(2 * np.pi * moving[..., None] * waves / sites + phase).sum(-1)
power = np.abs(np.fft.fft2(field + generator.standard_normal(field.shape))) ** 2
on = {"array diagonal": power[waves, waves], "slope 1": power[waves * steps // sites, waves]}
for name, line in on.items():
    print(f"{name}: {number(line.mean() / power.mean(), 2)} times the mean power")
amounts["spectrum"] = (
    f"the diagonal is a speed of {number(sites / steps, 2)}; a wave of speed 1 has "
    f"{number(on['array diagonal'].mean() / power.mean(), 2)} times the mean power there"
)

# %% tags=["hide-cell"]
value = paper.value
models = [r.model for r in grid(EXPERIMENTS["fig3"]) if (r.task.lag, r.model.size) == (10, 100)]
models.remove(irnn_config(100, input_bias="zero"))  # the control has no grid
tried = {kind: sum(model.kind == kind for model in models) for kind in ("wrnn", "irnn")}
quickest = {T: value(f"table1/wrnn/T={T}/solved_iter") for T in (100, 200, 400)}
faster = [value(f"table1/irnn/T={T}/solved_iter") / steps for T, steps in quickest.items()]
counts = paper.published("parameters/s-psmnist-wrnn-n-256-c-16")
off = [100 * (counts.value / count - 1) for count in (counts.without_biases, counts.with_biases)]
text, table = value("claim/images/irnn/psmnist"), value("table2/irnn/psmnist")
images = 128 * MNIST_EPOCH
NOT_YET = "not yet recorded"
POINTS = f"""
{{ref}}`Copy layout <sec-point-layout>` | cue on the first answer step | cue one step before
| {amounts["layout"]} | code; `layout="text"`

{{ref}}`Copy measure <sec-point-measure>` | mean squared error | cross-entropy / 50
| {amounts["measure"]} | cross-entropy; metrics `printed_mse`, `mse`

{{ref}}`Readout on copy <sec-point-measure>` | last step | every step
| T = {lengths[-1]}: {number(blanks[-1])} % of the loss terms are blanks | code; `every_step`

{{ref}}`Loss scale on copy <sec-point-scale>` | not said | loss / 128
| {amounts["scale"]}{amounts.get("scale, effect", "")} | code in the paper profile; `Run.loss_scale`

{{ref}}`V-init <sec-point-starts>` | one input per channel | every input in every channel
| {amounts.get("v-init", NOT_YET)}{amounts.get("v-init, effect", "")} | code; `input="identity"`

{{ref}}`Input weights without V-init <sec-point-starts>` | normal, as first proposed
| normal; uniform in the iRNN for images | {amounts.get("without", NOT_YET)} | code; `input`

{{ref}}`Input bias without V-init <sec-point-starts>` | not said | uniform, ± 1/√d
| {amounts["bias"]}; on copy {amounts.get("other", NOT_YET)} | code; `input_bias="zero"`

{{ref}}`iRNN on copy <sec-point-starts>` | identity, rectifier | best of four starts
| {tried["irnn"]} settings searched, {tried["wrnn"]} for the wRNN | one setting; `--grid paper`

{{ref}}`Recurrent bias <sec-point-recurrent-bias>` | starts as a shift | uniform, ± 1/√(cf)
| {amounts["recurrent bias"]}{amounts.get("recurrent bias, effect", "")}
| code; `recurrent_bias="zero"`

{{ref}}`Direction <sec-wave-rnn>` | from site x + 1 to x | the same | nothing | both

{{ref}}`Solved <sec-adding>` | error at most 0.05 | of a training batch, when logged
| "orders of magnitude" are {number(min(faster), 2)} to {number(max(faster), 2)} times in print
| both criteria; `Run.log_every`, `Run.evaluate_every`

{{ref}}`Seeds <sec-point-seeds>` | not said | none | {amounts["seeds"]}
| seed 0; `permutation_seed`, `noise_seed`, `split_seed`

{{ref}}`Weights tested <sec-images>` | not said | last on sMNIST, else best on validation (images)
| not measured | code; last on adding, best on copy; `Run.keep`

{{ref}}`Clipping <sec-images>` | not said | searched on copy, adding and psMNIST
| not measured | a norm of 1 on images, also where no clip is listed; `Run.clip`

{{ref}}`Noise <sec-point-noise>` | noise | one fixed draw
| {amounts.get("noise", NOT_YET)} | code; `noise="fresh"`

{{ref}}`Pixel scale <sec-noisy>` | not said | 0 to 1
| image has {number(float(np.mean(np.square(CIFAR10_STD))), 2)} of the power of the noise
| code; `normalised=True`

{{ref}}`Batches <sec-images>` | not said | epochs | drawn with replacement,
{number(100 * (1 - (1 - 1 / images) ** images), 2)} % of images are seen in an epoch | ours

{{ref}}`Spectrum <sec-point-spectrum>` | shuffled copy | only time shuffled, index diagonal
| {amounts["spectrum"]} | everything shuffled, slope

{{ref}}`Laps <sec-waves-as-memory>` | a buffer of the past | the same
| {number(490 / 100)} laps at T = 480; what is written again adds up
| the paper's sizes; `ModelConfig.size`

{{ref}}`Parameters <sec-wave-rnn>` | mostly without biases | with biases
| {counts.value:,} is {number(off[0], 2)} % off what is counted without, {number(off[1], 2)} % with
| both counted

{{ref}}`iRNN on psMNIST <sec-images>` | {text} % | {table} % in Table 2
| {number(table - text, 2)} points | Table 2
"""
HEADER = ("point", "the text", "the code", "what it amounts to", "our default; the switch")
page.table(
    "tab-differences",
    [
        dict(zip(HEADER, map(str.strip, point.replace("\n", " ").split("|")), strict=True))
        for point in POINTS.strip().split("\n\n")
    ],
    "Where the paper's text and its released code differ, and what it amounts to, measured here.",
)

# %% [markdown]
# ## Run it again
#
# ```sh
# wrnn run table4 other_starts v_init --profile paper --device cuda   # both starts of every row
# papermill book/A_text_and_code.ipynb out.ipynb -p profile paper -p train False
# ```
