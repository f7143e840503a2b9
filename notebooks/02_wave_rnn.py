# %% [markdown]
# (sec-wave-rnn)=
# # The Wave-RNN, and its waves
#
# **What the paper claims.** Replace the recurrent matrix of a simple recurrent network by a
# circular convolution over space, start that convolution as a shift, and the hidden state carries
# travelling waves {cite}`keller2024waves`. Training keeps them: after learning sequential MNIST,
# the hidden state of the Wave-RNN (wRNN) shows waves of about one unit per step, and that of an
# identity RNN (iRNN, {cite}`le2015irnn`) shows none (the paper's Figure 2).
#
# **What this chapter does.** It goes from the wave equation to the model, checks each identity next
# to its equation, looks at how the model starts, counts its parameters, and measures the waves of
# trained networks.

# %% tags=["parameters", "hide-input"]
profile: str = "quick"  # smoke, quick or paper
device: str = "auto"  # auto, cpu or cuda
seeds: int = 1  # how many seeds of every run
train: bool = True  # train what has no record yet; False reads records only

# %% tags=["hide-input"]
import re
from dataclasses import replace

import numpy as np
import torch

import wrnn
from companion.evidence import published as paper
from companion.evidence import tables, waves
from companion.evidence.memory import shift_matrix
from companion.page import chapter, figures
from companion.runs.run import build_model, irnn_config, wrnn_config
from companion.training.onset import sort_by_onset
from wrnn.tasks import AddingTask, CopyTask, NoisySequentialCIFAR10, SequentialMNIST

page = chapter.Chapter(profile=profile, device=device, seeds=seeds, train=train)


def check(what, left, right):
    """Print the largest difference of two arrays, or that it is at rounding level."""
    error = float(np.abs(np.asarray(left) - np.asarray(right)).max())
    print(f"{what}: {'< 1e-12' if error < 1e-12 else f'{error:.1e}'}")


# %% [markdown]
# ## From the wave equation to a shift matrix
#
# The one-way wave equation says that a pattern moves without changing its shape:
#
# ```{math}
# :label: eq-wave
# \frac{\partial h(x, t)}{\partial t} = \nu\,\frac{\partial h(x, t)}{\partial x},
# \qquad h(x, t) = h(x + \nu t,\, 0).
# ```
#
# For $\nu > 0$ the pattern moves towards smaller $x$. On a ring of $n$ sites, with steps of one in
# time and space, replace the time derivative by $h(x, t+1) - h(x, t)$ and the space derivative by
# the difference to the neighbour that the pattern comes from, $h(x+1, t) - h(x, t)$:
#
# ```{math}
# :label: eq-discrete
# \begin{aligned}
# h(x, t+1) &= (1 - \nu)\,h(x, t) + \nu\,h(x + 1, t), \\
# \mathbf{h}_{t+1} &= \boldsymbol{\Sigma}\,\mathbf{h}_t .
# \end{aligned}
# ```
#
# $\boldsymbol{\Sigma}$ is circulant: $1 - \nu$ on the diagonal and $\nu$ next to it, with the last
# row wrapping round. For $\nu = 1$ it is a permutation and {eq}`eq-discrete` solves {eq}`eq-wave`
# exactly; for other speeds only on average. What goes wrong then can be read from its eigenvalues.
# Every circulant matrix has the Fourier modes as eigenvectors; the mode with $k$ waves on the ring
# has
#
# ```{math}
# :label: eq-eigenvalues
# \begin{aligned}
# \lambda_k &= 1 - \nu + \nu\,e^{2\pi i k / n}, \\
# |\lambda_k|^2 &= 1 - 2\nu(1 - \nu)\left(1 - \cos\tfrac{2\pi k}{n}\right).
# \end{aligned}
# ```
#
# All moduli are one for $\nu = 0$ and $\nu = 1$ only. In between, short waves are damped: after $t$
# steps a mode has shrunk by $|\lambda_k|^t$. Outside $0 \le \nu \le 1$ some moduli exceed one and
# activity explodes, so the initialiser refuses such a speed.

# %%
n = 32
x = k = np.arange(n)


def pattern(place):  # a smooth pattern on the ring
    return np.exp(np.cos(2 * np.pi * place / n)) + 0.3 * np.sin(6 * np.pi * place / n)


for t in (1, 3 * n):
    moved = np.linalg.matrix_power(shift_matrix(n), t) @ pattern(x)
    check(f"speed 1, {t} steps of the shift matrix - exact solution", moved, pattern(x + t))
modes = np.exp(2j * np.pi * np.outer(x, k) / n)
for speed in (1.0, 0.5):
    eigenvalues = 1 - speed + speed * np.exp(2j * np.pi * k / n)
    modulus = 1 - 2 * speed * (1 - speed) * (1 - np.cos(2 * np.pi * k / n))
    sigma = shift_matrix(n, speed)
    check(f"speed {speed:g}, sigma modes - eigenvalues modes", sigma @ modes, modes * eigenvalues)
    check(f"speed {speed:g}, squared modulus", np.abs(eigenvalues) ** 2, modulus)
    left = np.abs(eigenvalues) ** n
    print(f"  left after one lap: {left[1]:.3f} of one wave on the ring, {left[4]:.3f} of four")

# %% [markdown]
# ## The shift matrix as a convolution
#
# A circulant matrix is a circular convolution. In the convention of deep learning, which does not
# flip the kernel, {eq}`eq-discrete` is
#
# ```{math}
# :label: eq-kernel
# \begin{aligned}
# (\mathbf{u} \star \mathbf{h})(x) &= \sum_{j=-1}^{1} u_j\,h(x + j), \\
# (u_{-1}, u_0, u_1) &= (0,\; 1 - \nu,\; \nu),
# \end{aligned}
# ```
#
# with positions counted modulo $n$: three numbers instead of $n^2$.

# %%
h = torch.from_numpy(np.random.default_rng(0).standard_normal(n))
for speed in (1.0, 0.5):
    kernel = torch.tensor([[[0.0, 1.0 - speed, speed]]], dtype=torch.float64)  # (1, 1, 3)
    padded = torch.nn.functional.pad(h[None, None], (1, 1), mode="circular")  # (1, 1, n + 2)
    convolved = torch.nn.functional.conv1d(padded, kernel)[0, 0]  # (n,)
    check(f"speed {speed:g}, convolution - matrix", convolved, shift_matrix(n, speed) @ h.numpy())

# %% [markdown]
# ## The model
#
# The Wave-RNN has $c$ channels, each a ring of $n$ sites. The kernel $\mathbf{u}$ mixes channels
# and neighbouring sites, the encoder $\mathbf{V}$ reaches every site, and a rectifier $\sigma$
# closes the step; a linear readout $\mathbf{W}$ follows:
#
# ```{math}
# :label: eq-wrnn
# \begin{aligned}
# \mathbf{h}_{t+1} &=
#   \sigma(\mathbf{u} \star \mathbf{h}_t + \mathbf{V}\mathbf{x}_t + \mathbf{b}), \\
# \mathbf{y} &= \mathbf{W}\mathbf{h}_T ,
# \end{aligned}
# ```
#
# with $\mathbf{u} \in \mathbb{R}^{c \times c \times f}$, $f = 3$, and
# $\mathbf{h} \in \mathbb{R}^{c \times n}$.
#
# | paper | `wrnn.WaveRNN` | shape |
# | --- | --- | --- |
# | $\mathbf{u}$ | `weight_hh` | (channels, channels, kernel size) |
# | $\mathbf{V}$ | `weight_ih` | (channels · sites, inputs) |
# | $\mathbf{b}$ | `bias_ih` + `bias_hh` | (channels · sites) + (channels) |
#
# The released code {cite}`keller2023code` has two biases where {eq}`eq-wrnn` has one, of the
# encoder and of the convolution, and so has the package. Written out, with a dense matrix made of
# one circulant block per pair of channels:

# %%
c, sites, inputs, T, B = 3, 16, 2, 40, 4
generator = torch.Generator().manual_seed(0)
rnn = wrnn.WaveRNN(inputs, sites, c).double()
for parameter in rnn.parameters():
    torch.nn.init.normal_(parameter, std=0.3, generator=generator)
data = torch.randn(T, B, inputs, dtype=torch.float64, generator=generator)

ring = [torch.from_numpy(np.roll(np.eye(sites), j, axis=1)) for j in (-1, 0, 1)]  # h(x + j)
with torch.no_grad():
    kernel = rnn.weight_hh.unbind(dim=2)  # one (c, c) matrix for every j
    U = sum(torch.kron(u_j, shift) for u_j, shift in zip(kernel, ring, strict=True))
    b = rnn.bias_ih + rnn.bias_hh.repeat_interleave(sites)
    hidden, rows = torch.zeros(B, c * sites, dtype=torch.float64), []
    for step in data:
        hidden = torch.relu(hidden @ U.T + step @ rnn.weight_ih.T + b)
        rows.append(hidden)
    output, written_out = rnn(data)[0] / hidden.max(), torch.stack(rows) / hidden.max()
    check(f"WaveRNN - dense equation, {T} steps, relative", output, written_out)

# %% [markdown]
# ## How it starts
#
# ### The recurrent kernel
#
# The paper starts $\mathbf{u}$ as the shift of {eq}`eq-kernel` with $\nu = 1$, for every channel on
# its own (*u-shift*). An iRNN starts its full matrix as the identity. Without input and biases,
# then, a bump in the wRNN moves by exactly one site per step, and a bump in the iRNN stays.


# %%
def run_freely(layer, start, steps):
    """Hidden states (steps + 1, hidden) of a layer without input, from a given state."""
    with torch.no_grad():
        output, _ = layer(torch.zeros(steps, 1, 1, dtype=torch.float64), start[None, None])
    return torch.cat([start[None], output[:, 0]]).numpy()


def wave_layer(speed):
    layer = wrnn.WaveRNN(1, n, bias=False)
    layer.reset_parameters(velocity=speed)
    return layer.double()


bump = torch.from_numpy(pattern(x))
rolled = np.stack([np.roll(bump.numpy(), -t) for t in range(2 * n + 1)])
check("wRNN at its start - bump moved by t sites", run_freely(wave_layer(1.0), bump, 2 * n), rolled)
still = run_freely(wrnn.IdentityRNN(1, n, bias=False).double(), bump, 2 * n)
check("iRNN at its start - bump that stays", still, np.broadcast_to(bump.numpy(), still.shape))

# %% [markdown]
# At a fractional speed the kernel acts as a coin: of any activity, a share $\nu$ moves on and the
# rest stays. After $t$ steps a pulse is a binomial distribution of displacements $d$, with the mean
# of the wave and a width that it should not have:
#
# ```{math}
# :label: eq-binomial
# \begin{aligned}
# d &\sim \mathrm{Binomial}(t, \nu), \\
# \mathrm{E}\,d &= \nu t, \\
# \mathrm{sd}\,d &= \sqrt{\nu (1 - \nu)\, t}.
# \end{aligned}
# ```
#
# So a slow wave, which takes longer for a lap, pays for it in sharpness ({numref}`fig-init-waves`).

# %%
pulse = torch.eye(n, dtype=torch.float64)[n - 1]
freely = {speed: run_freely(wave_layer(speed), pulse, n - 1) for speed in (1.0, 0.5)}
t, moved = n - 1, n - 1 - x  # by the last step, the activity at site x has moved n - 1 - x sites
for speed, states in freely.items():
    mean = states[-1] @ moved
    spread = np.sqrt(states[-1] @ (moved - mean) ** 2)
    check(f"speed {speed:g}, mean displacement - speed t", mean, speed * t)
    check(f"speed {speed:g}, spread - law", spread, np.sqrt(speed * (1 - speed) * t))

# %% tags=["hide-input"]
page.figure(
    "fig-init-waves",
    figures.hidden_states(
        [(f"speed {speed:g} site per step", states, "site") for speed, states in freely.items()]
    ),
    alt="Two rasters of site against time. At speed 1 a pulse draws a sharp diagonal line. At "
    "speed 0.5 it draws a line of half the slope that fades and widens.",
    caption="One pulse in a wRNN as initialised (no bias), at a speed of one and of one half site "
    "per step. The slower wave spreads by the law of {eq}`eq-binomial`.",
)

# %% [markdown]
# ```{include} generated/fig-init-waves.md
# ```
#
# ### The encoder
#
# *V-init* sets $\mathbf{V}$ to zero but for one site of every channel. The paper's text and the
# released code do this differently. In the text every channel has an input of its own
# (`input="identity"`); in the code, the chosen site of *every* channel listens to *every* input
# with weight 1 (`input="ones"`). On one-hot input, as in the copy task, this makes the network
# blind to the category at its start: it knows when a symbol came, not which. The package has both,
# and uses that of the code, which is what the paper's numbers were made with.

# %%
one_hot = torch.eye(6)[None]  # (T = 1, B = 6 categories, 6)
for kind in ("ones", "identity"):
    layer = wrnn.WaveRNN(6, n, 6, bias=False)
    layer.reset_parameters(input=kind)
    with torch.no_grad():
        states = layer(one_hot)[0][0]  # (6 categories, hidden)
    print(f"{kind}: {len(states.unique(dim=0))} different states for 6 categories")

# %% [markdown]
# ### The bias of the convolution
#
# One more thing happens at the start, and only the code shows it: the encoder's bias is set to
# zero, but the convolution keeps PyTorch's default bias, uniform between $\pm 1/\sqrt{c f}$. Behind
# a rectifier, a crest of height 1 in a channel of bias $b$ has the height
#
# ```{math}
# :label: eq-crest
# \max(0,\; 1 + b\,t)
# ```
#
# after $t$ steps: with $b < 0$ it is gone after $1/|b|$ steps, and with $b > 0$ it survives on top
# of a background $b\,t$ that grows everywhere. {numref}`tab-bias` sends one pulse through the
# network of the copy task as the released code would start it.

# %%
steps, c, f, sites = 60, 6, 3, 100
layer = wrnn.WaveRNN(1, sites, c)
layer.reset_parameters(generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    after_pulse = layer(torch.eye(steps)[:, :1, None])[0].view(steps, c, sites).numpy()
step = np.arange(1, steps + 1)
crest = after_pulse[step - 1, :, (1 - step) % sites]  # (steps, c): the pulse starts at site 0
bias = layer.bias_hh.detach().numpy().astype(float)
law = np.maximum(0, 1 + step[:, None] * bias)
print("crest follows its law within 1e-4:", np.abs(crest - law).max() < 1e-4)


# %% tags=["hide-input"]
def gone(channel):
    """The first step at which the crest of a channel is zero."""
    zero = step[crest[:, channel] == 0]
    return int(zero[0]) if len(zero) else f"after step {steps}" if bias[channel] < 0 else "never"


page.table(
    "tab-bias",
    [
        {
            "channel": channel,
            "bias": tables.number(b),
            "lifetime by the law (steps)": tables.number(1 / abs(b)) if b < 0 else tables.NOTHING,
            "crest gone at step": gone(channel),
            f"background after {steps} steps": tables.number(float(np.median(background))),
        }
        for channel, (b, background) in enumerate(zip(bias, after_pulse[-1], strict=True))
    ],
    f"One pulse of height 1 in a wRNN with {c} channels as the released code starts it (seed 0).",
)
lost = (bias < 0).sum()
page.say(
    f"In this draw {lost} of {c} channels lose the pulse and {c - lost} lift it on a ramp; on "
    "average over draws it is as many of one kind as of the other. The median of $1/|b|$ is "
    "$2\\sqrt{cf}$: "
    + ", ".join(f"{tables.number(2 * (k * f) ** 0.5)} steps with {k} channels" for k in (6, 16, 27))
    + " (copy, images, adding)."
)

# %% [markdown]
# ```{include} generated/tab-bias.md
# ```
#
# So the released model does *not* start as the shift of {eq}`eq-discrete`. Whatever buffer there is
# after training, training had to make it. `layer.reset_parameters(recurrent_bias="zero")` starts
# the layer as the exact shift; the default is that of the code, since it made the paper's numbers.
#
# ## Parameters
#
# The paper quotes parameter counts in its text. {numref}`tab-parameters` counts those of the models
# built here.

# %% tags=["hide-input"]
TASKS = {
    "copy": CopyTask(10),
    "adding": AddingTask(100),
    "s-psmnist": SequentialMNIST(),
    "nscifar10": NoisySequentialCIFAR10(),
}
published = {n.id.removeprefix("parameters/"): n for n in paper.select("parameters/")}
NAME = re.compile(r"(.+)-([iw]rnn)(-mlp)?-n-(\d+)(?:-c-(\d+))?")
models = {}
for name in published:
    if found := NAME.fullmatch(name):
        task, kind, mlp, *sizes = found.groups()
        size, channels = (int(number or 1) for number in sizes)
        config = irnn_config(size) if kind == "irnn" else wrnn_config(size, channels)
        config = replace(config, readout="mlp") if mlp else config
        models[name] = build_model(config, TASKS[task])
counts = {name: wrnn.count_parameters(model) for name, model in models.items()}
units = {name: model.rnn.hidden_size for name, model in models.items()}
encoder = models["nscifar10-wrnn-n-256-c-16"].rnn
bare, biases = encoder.weight_ih.numel(), encoder.bias_ih.numel()
counts["nscifar10-wrnn-encoder-v"] = {"without_biases": bare, "with_biases": bare + biases}
page.table(
    "tab-parameters",
    [
        {
            "model": number.model,
            "units of state": units.get(name, tables.NOTHING),
            "paper": tables.number(number.value),
            "without biases": counts[name]["without_biases"],
            "with biases": counts[name]["with_biases"],
        }
        for name, number in published.items()
    ],
    "Parameters of the paper's models: as printed in the paper, and counted here.",
)
same = all(
    (counts[name]["without_biases"], counts[name]["with_biases"])
    == (number.without_biases, number.with_biases)
    for name, number in published.items()
)
print("all counts equal those of the released code:", same)


def times(larger, smaller, state=lambda name: 1):
    """How many times the parameters, per unit of `state`, one model has of another."""
    few, many = (counts[name]["without_biases"] / state(name) for name in (smaller, larger))
    return tables.number(many / few, 2 if state is units.get else 3)


printed = [abs(n.value / n.without_biases - 1) < 0.01 for n in published.values() if n.value]
page.say(
    "The iRNN with 625 units has "
    f"{times('copy-irnn-n-625', 'copy-wrnn-n-100-c-6')} times the parameters of the "
    "wRNN that it is compared with; the paper says "
    f"{chapter.printed(paper.published('claim/fig3/irnn-625/parameter-ratio'))} times. "
    f"{sum(printed)} of {len(printed)} printed counts are those without biases, to one per cent. "
    "Mind the state units: the paper's $n$ of a wRNN is counted per channel, so the same $n$ names "
    "a state $c$ times as large as that of an iRNN. For every unit of state the iRNN has "
    f"{times('adding-irnn-n-100', 'adding-wrnn-n-100-c-27', units.get)} and "
    f"{times('s-psmnist-irnn-n-256', 's-psmnist-wrnn-n-256-c-16', units.get)}"
    " times the parameters of the wRNN beside it (adding, images)."
)

# %% [markdown]
# ```{include} generated/tab-parameters.md
# ```
#
# (sec-waves-seen)=
# ## Waves seen
#
# Are there waves after training? A pattern that moves with speed $\nu$ depends on $x + \nu t$ only,
# so its Fourier transform over space and time lies on a line through the origin:
#
# ```{math}
# :label: eq-dispersion
# f_t = \nu\,f_x ,
# ```
#
# with $f_x$ in cycles per site and $f_t$ in cycles per step.
#
# (sec-wave-measure)=
# ### The measure
#
# The book asks one question of every model and every control: does more power lie on such a line
# than there would be if the sites had nothing to do with one another? From each site's series its
# mean over time is taken off, and the rest is put on one scale. Power is pooled over sequences and
# channels. At each temporal frequency it is divided by the mean over all spatial ones. The
# *contrast* is that relative power along the line of slope $\nu$, less the power along its mirror
# image of slope $-\nu$,
#
# ```{math}
# :label: eq-contrast
# C(\nu) = \Bigl\langle
#   \frac{P(f_t,\, f_t/\nu) - P(f_t,\, -f_t/\nu)}{\langle P(f_t, f_x) \rangle_{f_x}}
# \Bigr\rangle_{f_t} ,
# ```
#
# averaged over the temporal frequencies that carry the power. The speed is the one within $\pm 2$
# sites per step at which the contrast is largest when it is divided by the square root of the power
# on both lines together, the size of its variation by chance. A positive one moves activity to
# smaller $x$. What stands still has as much power one way as the other, and a contrast near zero. A
# contrast of one is as much power again as unrelated sites would have on the line; a perfect wave
# on $n$ sites has $n$.
#
# The *p-value* compares with surrogates: the series of every site is rotated in time by a random
# number of steps of its own, which keeps its spectrum and undoes any order between sites. The best
# speed is searched in every surrogate as it is in the data, so that the search is paid for, and
# $p = (1 + k)/(1 + m)$ where $k$ of $m$ surrogates stand out as much. A second $p$ compares with
# the same sites in random order. It is there because a network's delays are short compared with a
# sequence, which random rotations are not, so that rotations alone take many a ring whose sites
# have been mixed up for a wave. A **wave** has both at 0.05 or below.
#
# What does it find? {numref}`tab-wave-power` has made-up fields in white noise: eight modes of a
# ring that run at a given speed; the same modes running both ways, a standing pattern; a bump that
# changes as a whole; and the running modes with every site rotated by itself.

# %% tags=["hide-cell"]
fields_each, draws = (40, 99) if profile != "smoke" else (10, 39)
shape = (4, 64, 32)  # sequences, steps, sites
power = []
for kind, speed in [("wave", 1.0), ("wave", -0.5), *((kind, 1.0) for kind in waves.FIELDS[1:])]:
    row = {"field": f"{kind} of speed {tables.number(speed)}" if kind == "wave" else kind}
    generator = np.random.default_rng(0)
    for signal in (0.1, 0.2, 0.4, 1.0):
        tests = []
        for _ in range(fields_each):
            field = waves.constructed_field(
                kind, generator=generator, signal=signal, speed=speed, shape=shape
            )
            tests.append(waves.wave_test(field, generator=generator, draws=draws))
        row[f"found at {signal:g}"] = f"{100 * np.mean([test.is_wave for test in tests]):.0f} %"
    row["contrast at 1"] = tables.number(float(np.median([test.contrast for test in tests])), 2)
    speeds = np.median([test.speed for test in tests])
    row["speed at 1"] = tables.number(float(speeds), 2) if kind == "wave" else tables.NOTHING
    power.append(row)
page.table(
    "tab-wave-power",
    power,
    f"Share of made-up fields that count as a wave, where the field has 0.1 to 1 times the "
    f"standard deviation of the noise in it; median contrast and speed (sites per step) where both "
    f"are equal. {shape[0]} sequences of {shape[1]} steps, {shape[2]} "
    f"sites; {fields_each} fields each, {draws} surrogates.",
)

# %% [markdown]
# ```{include} generated/tab-wave-power.md
# ```
#
# ### Trained networks
#
# Where a record keeps its weights, the first 16 test sequences of its task go through the network,
# and the four channels whose activity varies most are pooled; without them, and on images that
# this book does not have (MNIST, CIFAR10), the one sequence is judged that was stored with the
# record. Each state is
# compared with 999 surrogates of either kind. As a control, the sites of a ring are mixed up. The
# units of an iRNN have no order in space. They are judged as they come, and sorted by the step at
# which each becomes active, as in the paper. Sorting draws a front by itself where it is tested on
# the same data; so the order is found on 16 other test sequences, and where neither these nor their
# order is stored the sorted state is shown and not judged.


# %% tags=["hide-input"]
def judge(hidden, **options):
    return waves.wave_test(hidden, generator=np.random.default_rng(0), **options)


def active(hidden):
    """Units of the first sequence and channel that are ever active, and all of them."""
    units = np.abs(hidden[0, :, 0])  # (T, sites)
    return int((units.max(axis=0) > 0).sum()), units.shape[1]


measured = []  # (result, order of the units, hidden state, test or None)
origins = {}  # result -> where the hidden states come from: one seed, where others keep none
# At the paper's sizes where recorded; else small models trained on MNIST go before the digits.
for result in [*page.recorded("fig2"), *page.recorded("mnist_cpu"), *page.this_run("fig2")]:
    judged = ((record, views) for record in result.records if (views := waves.orders(record)))
    record, views = next(judged, (None, {}))
    if record:
        origins[result] = result.description_of(record)
    if "ring" in views:
        mixed = np.random.default_rng(0).permutation(views["ring"].shape[-1])
        views["ring, sites mixed up"] = views["ring"][..., mixed]
    tests = {order: judge(hidden) for order, hidden in views.items()}
    if "as they come" in views and waves.BY_ONSET not in views:
        order = sort_by_onset(views["as they come"][0, :, 0])
        views[waves.BY_ONSET] = views["as they come"][..., order]
    measured += [(result, order, hidden, tests.get(order)) for order, hidden in views.items()]

# %% [markdown]
# {numref}`fig-hidden-states` shows one sequence, {numref}`fig-space-time` the spectra, and
# {numref}`tab-wave-speed` what the test says.

# %% tags=["hide-input"]
drawn, dead = {}, {}  # one state for every kind of model and order: the closest to the paper's
for entry in measured:  # scale in which at least half of the units do something
    alive, units = active(entry[2])
    if 2 * alive >= units:
        drawn.setdefault((entry[0].run.model.kind, entry[1]), entry)
    else:
        dead.setdefault(id(entry[0]), (entry[0], alive, units))
sources = list({id(entry[0]): entry[0] for entry in drawn.values()}.values())
alive = {result.label: active(hidden) for result, _, hidden, _ in drawn.values()}
states = [
    (
        f"{figures.legend_label(result)}, {order}",
        hidden[0, :, 0],
        "site" if result.run.model.kind == "wrnn" else "unit",
    )
    for result, order, hidden, _ in drawn.values()
    if order != "ring, sites mixed up"
]
page.figure(
    "fig-hidden-states",
    figures.hidden_states(states) if drawn else None,
    alt="Hidden activity in colour, site or unit against time step, one panel per network and "
    "order of its units. A wave is a diagonal stripe, a standing pattern a horizontal one.",
    caption="The paper's Figure 2, top: hidden state of trained networks over time, for one test "
    "sample (of the wRNN, one channel). Active at any time in it: "
    + ", ".join(f"{count} of {of} units ({label})" for label, (count, of) in alive.items())
    + ". Colours saturate at the 99th percentile.",
    results=sources,
    notice=("Hidden states after training", "fig2"),
)
spectra = [
    (
        f"{figures.legend_label(result)},\n{order}",
        waves.space_time_power(hidden),
        test.speed if test and test.is_wave else None,
    )
    for result, order, hidden, test in drawn.values()
]
page.figure(
    "fig-space-time",
    figures.space_time_power(spectra) if drawn else None,
    alt="Power in colour, temporal against spatial frequency, one panel per network and order of "
    "its units. A dashed diagonal marks the measured speed where there is a wave.",
    caption="The paper's Figure 2, bottom: space-time power of hidden states, at every temporal "
    "frequency relative to its mean over space, which is what unrelated sites would have. Dashed: "
    "$f_t = \\nu f_x$ at the measured speed, where there is a wave.",
    results=sources,
    notice=("Their space-time power", "fig2"),
)
for result, count, of in dead.values():
    page.say(
        f"Not drawn, since only {count} of {of} units are ever active in the sample: "
        f"{result.label} ({origins[result]})."
    )

# %% [markdown]
# ```{include} generated/fig-hidden-states.md
# ```
#
# ```{include} generated/fig-space-time.md
# ```

# %% tags=["hide-input"]
MEASURES = {
    "sequences": lambda test: test.sequences,
    "speed (sites per step)": lambda test: tables.number(test.speed),
    "contrast": lambda test: tables.number(test.contrast, 2),
    "p (rotated)": lambda test: tables.number(test.p_value, 2),
    "p (mixed up)": lambda test: tables.number(test.mixed_p_value, 2),
    "wave": lambda test: "yes" if test.is_wave else "no",
}
claimed = chapter.printed(paper.published("claim/fig2/wrnn/velocity"))
rows = [
    {"model": "wRNN in the paper", "order of units": "ring"}
    | dict.fromkeys(MEASURES, tables.NOTHING)
    | {"speed (sites per step)": claimed, "wave": "yes"}
]
for result, order, _, test in measured:
    row = {"model": result.label + page.note(origins[result]), "order of units": order}
    values = {name: of(test) if test else tables.NOTHING for name, of in MEASURES.items()}
    rows.append(row | values)
page.table(
    "tab-wave-speed",
    rows,
    "Speed of most contrast, that contrast, and how often surrogates reach it by chance "
    "({ref}`sec-wave-measure`). One sequence: the trace that was stored with the record, where "
    "its weights were not, or its images are no part of this book. A speed means something where "
    "there is a wave.",
)
page.say(page.missing("fig2"))
ring = [test.contrast for _, order, _, test in measured if order == "ring" and test.is_wave]
for result, order, hidden, test in measured:
    whose = f"{result.label} ({origins[result]})"
    if test and test.is_wave and order != "ring" and ring:
        page.say(
            f"{whose}, {order}: more travels than chance explains, at a contrast of "
            f"{tables.number(test.contrast, 2)}, where the rings with a wave have "
            f"{tables.number(min(ring), 2)} to {tables.number(max(ring), 2)}."
        )
    if order == "ring":
        each = [judge(hidden[:, :, [c]], draws=0).speed for c in range(hidden.shape[2])]
        page.say(
            f"{whose}: the speeds of the channels one by one are "
            f"{', '.join(map(tables.number, each))}."
        )
page.verdicts("wave-rnn", "The paper's claims on waves in the hidden state", "tab-wave-claims")

# %% [markdown]
# ```{include} generated/tab-wave-speed.md
# ```
#
# ## Verdicts
#
# ```{include} generated/tab-wave-claims.md
# ```
#
# ## What differs from the paper, and why
#
# - **Normaliser and speed.** {ref}`sec-point-spectrum` has what the released code does. Here the
#   mean is taken off for every model alike, the surrogates are of the sites' own series, and speeds
#   are in the units of {eq}`eq-dispersion`, with a sign.
# - **Controls.** Sorting units by onset can itself draw a front, and mixing up the sites of a ring
#   must destroy one. Both are measured.
#
# A speed of one site per step is where the network *started*. That training keeps it says that
# waves are useful, or at least not in the way; it does not say that training would find them
# ({ref}`sec-ablations`, {ref}`sec-appendix`).
#
# ## Run it again
#
# Everything up to {ref}`sec-waves-seen` is computed on the spot, the rest from two experiments:
#
# ```bash
# wrnn run fig2 --profile paper --device cuda
# wrnn run mnist_cpu --profile paper --device cpu
# papermill book/02_wave_rnn.ipynb out.ipynb -p profile paper -p train False
# ```
