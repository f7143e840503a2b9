"""The experiments of the paper: each figure or table is a list of runs, in three profiles.

``paper`` has the paper's sizes, steps and data; ``quick`` shows the same effects on a CPU within
minutes, on data that needs no download; ``smoke`` only shows that everything runs. Where the paper
gives a grid of settings, the runs here use one of them, stated in the run; the chapters say why,
and :func:`grid` lists the others.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from companion.runs import images, synthetic, why
from companion.runs.grid import searched
from companion.runs.images import CIFAR_EPOCH, MNIST_EPOCH
from companion.runs.run import PROFILES, Run
from companion.runs.synthetic import COPY_LAGS
from wrnn.errors import WrnnError

__all__ = [
    "ALIASES",
    "CIFAR_EPOCH",
    "COPY_LAGS",
    "EXPERIMENTS",
    "MNIST_EPOCH",
    "Experiment",
    "find_experiments",
    "grid",
    "plan",
]


@dataclass(frozen=True)
class Experiment:
    """One figure or table: its runs of seed 0 in a profile, and the chapter that shows them.

    No chapter shows it where ``chapter`` is empty.
    ``smaller`` says what is smaller than in the paper where even the paper profile is not its size.
    """

    name: str
    title: str
    chapter: str
    runs_of: Callable[[str], list[Run]]
    smaller: str = ""

    def runs(self, profile: str, seeds: int = 1) -> list[Run]:
        """Return the runs of seeds 0 to ``seeds - 1``, seed by seed (breadth first)."""
        if profile not in PROFILES:
            raise WrnnError(f"unknown profile {profile!r}: use {', '.join(PROFILES)}")
        if seeds < 1:
            raise WrnnError(f"seeds is {seeds}: expected at least 1")
        first = self.runs_of(profile)
        # Arrays beside a record are for figures of one model: seed 0 is enough.
        return first + [
            replace(run, seed=seed, trace=False) for seed in range(1, seeds) for run in first
        ]


WITHIN_A_CPU = "budgets and some networks smaller than the paper's"
EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("fig3", "Copy task: loss curves", "03_copy", synthetic.fig3),
        Experiment("fig4", "Copy task: outputs", "03_copy", synthetic.fig4),
        Experiment("table1", "Adding task (also Figure 5)", "04_adding", synthetic.table1),
        Experiment("fig2", "Waves in the hidden state", "02_wave_rnn", images.fig2),
        Experiment(
            "table2", "Sequential images (also Figure 6)", "05_sequential_images", images.table2
        ),
        Experiment(
            "mnist_cpu",
            "Sequential MNIST within a CPU's reach",
            "05_sequential_images",
            images.mnist_cpu,
            smaller="real MNIST, smaller models and fewer steps than the paper's",
        ),
        Experiment("fig7", "Parameters against accuracy", "05_sequential_images", images.fig7),
        Experiment(
            "table3", "Noisy sequential images (also Figure 8)", "06_noisy_images", images.table3
        ),
        Experiment(
            "cifar10_cpu",
            "Noisy sequential CIFAR10 within a CPU's reach",
            "06_noisy_images",
            images.cifar10_cpu,
            smaller="real CIFAR10, less noise, smaller models and fewer steps than the paper's",
        ),
        Experiment("noise", "Fixed against fresh noise", "06_noisy_images", images.noise),
        Experiment("table4", "Copy task: ablation", "07_ablations", synthetic.table4),
        Experiment(
            "other_starts",
            "Copy task: ablation from other starts",
            "A_text_and_code",
            synthetic.other_starts,
        ),
        Experiment("v_init", "Copy task: when it is learned", "07_ablations", synthetic.v_init),
        Experiment("fig10", "Several wave speeds in one network", "09_appendix", images.fig10),
        Experiment("fig18", "Waves through training", "09_appendix", images.fig18),
        *(
            Experiment(name, title, "08_beyond", runs_of, smaller=WITHIN_A_CPU)
            for name, title, runs_of in (
                ("why_frozen", "Why waves: frozen kernels", why.frozen),
                ("why_today", "Why waves: beside LSTM, GRU and LRU", why.today),
                ("why_carry", "Why waves: other lags and lengths", why.carry),
                ("why_capacity", "Why waves: memory capacity", why.capacity),
                ("why_laps", "Why waves: after a lap", why.laps),
                ("why_parallel", "Why waves: in parallel over time", why.parallel),
                ("why_released", "Why waves: the released code's choices", why.released),
                ("why_blocks", "Why waves: residual blocks", why.blocks),
            )
        ),
    )
}
# The order in which "all" is trained: what is cheap and tells most first.
_FIRST = (
    "table4",
    "v_init",
    "fig3",
    "table1",
    "table2",
    "table3",
    "fig7",
    "fig2",
    "fig10",
    "fig18",
)
ALIASES = {
    "fig5": ("table1",),
    "fig6": ("table2",),
    "fig8": ("table3",),
    "why": tuple(name for name in EXPERIMENTS if name.startswith("why_")),
}


def find_experiments(names: Iterable[str]) -> list[Experiment]:
    """Return the experiments of these names; aliases are allowed.

    "all" is every one, in the order in which they are best trained.
    """
    found = []
    for name in names:
        if name == "all":
            found += (EXPERIMENTS[of] for of in dict.fromkeys((*_FIRST, *EXPERIMENTS)))
        elif name in ALIASES or name in EXPERIMENTS:
            found += (EXPERIMENTS[of] for of in ALIASES.get(name, (name,)))
        else:
            known = ", ".join([*EXPERIMENTS, *ALIASES, "all"])
            raise WrnnError(f"unknown experiment {name!r}: use {known}")
    return list(dict.fromkeys(found))


def grid(experiment: Experiment) -> list[Run]:
    """Return the experiment's runs in the paper profile with every setting that the paper tried.

    Only seed 0: the best setting, by validation, is what further seeds are for. An experiment that
    is no figure or table of the paper has no grid.
    """
    planned = experiment.runs("paper")
    if experiment.name.startswith(("fig", "table")):
        planned = [other for run in planned for other in searched(run)]
    return list({run.id: run for run in planned}.values())


def plan(
    experiments: Iterable[Experiment], profile: str, seeds: int = 1, search: str = ""
) -> list[Run]:
    """Return every run of the experiments once, in the order to train them.

    Seed 0 of everything comes first. Within a seed, the runs follow the order of the experiments,
    permuted pixels before those in order, and LSTM and GRU, which are only compared with, come
    last.

    ``search="paper"`` adds the paper's grids, for seed 0 of the paper profile.
    """
    if search and (search, profile) != ("paper", "paper"):
        raise WrnnError(f"grid {search!r}: only 'paper', with --profile paper, is there")
    experiments = list(experiments)
    planned = [
        run
        for experiment in experiments
        for run in sorted(
            experiment.runs(profile, seeds),
            key=lambda run: not getattr(run.task, "permuted", False),
        )
    ]
    if search:
        planned += [run for experiment in experiments for run in grid(experiment)]
    runs = {run.id: run for run in planned}
    return sorted(runs.values(), key=lambda run: (run.seed, run.model.kind in ("lstm", "gru")))
