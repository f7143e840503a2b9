"""Training steps: one model's step, and how a group of replicas takes it.

On a CPU the replicas of a group take their steps one after the other. On CUDA the whole step of all
of them (batch, forward, backward, clipping, Adam) becomes one CUDA graph, in which every replica
has a stream of its own, so that they run side by side. From then on a step is one launch: nothing
is copied to or from the device, and nothing waits for it.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from companion.runs.run import Run
from wrnn.errors import WrnnError

EAGER_STEPS = 3  # before a capture: kernels are compiled and libraries take their workspaces


class TrainingState:
    """All that a training step reads and changes: model, optimiser, generator and step number."""

    def __init__(self, run: Run, device: torch.device):
        self.run = run
        self.device = device
        self.generator = torch.Generator(device).manual_seed(run.random_seeds[1])
        self.model = run.start().to(device)
        parameters = self.model.parameters()
        if device.type in CAPTURES:
            rate = torch.tensor(run.learning_rate, device=device)  # a graph reads it at each replay
            self.optimizer = torch.optim.Adam(parameters, lr=rate, fused=True, capturable=True)
            # Adam would say that the first steps, before the capture, run uncaptured.
            self.optimizer._warned_capturable_if_run_uncaptured = True
        else:
            self.optimizer = torch.optim.Adam(parameters, lr=run.learning_rate)
        self.stream = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)
            torch.backends.cudnn.allow_tf32 = False  # its layers would round factors to TF32
        self.step = 0
        self.loss: Tensor | None = None  # of the last step, unscaled, on the device

    def state(self) -> dict:
        """Return all that later steps depend on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
        }

    def load(self, state: dict) -> None:
        """Go on from :meth:`state`'s output, which a device of the same type must have made."""
        if len(state["generator"]) != len(self.generator.get_state()):
            raise WrnnError(
                f"the checkpoint of {self.run.description} was made on another type of device than "
                f"{self.device.type}: go on there, or delete it to start this run again"
            )
        self.generator.set_state(state["generator"].cpu())
        self.model.load_state_dict(state["model"])
        groups = self.optimizer.state_dict()["param_groups"]  # not the rate of another device
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        self.step = state["step"]
        self.set_rate()

    def set_rate(self) -> None:
        """Give the optimiser the learning rate of the next step."""
        rate = self.run.learning_rate
        for drop_step in self.run.drop_steps:
            if self.step >= drop_step:
                rate *= self.run.drop_factor
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def update(self) -> None:
        """Draw a batch and take one Adam step; reads nothing back from the device."""
        run = self.run
        x, y = run.task.batch(run.batch_size, generator=self.generator, device=self.device)
        loss = run.task.loss(self.model(x, **run.task.promises), y)
        self.optimizer.zero_grad(set_to_none=True)
        (loss * run.loss_scale).backward()
        if run.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), run.clip)
        self.optimizer.step()
        self.loss = loss.detach()


class Replicas:
    """Runs in training on one device that take their steps together."""

    def __init__(self, members: Sequence[TrainingState]):
        self.members = list(members)
        self.eager_left = EAGER_STEPS
        self.capture = CAPTURES.get(members[0].device.type) if members else None
        self.replay: Callable[[], None] | None = None

    def keep(self, members: Sequence[TrainingState]) -> None:
        """Go on with these members only."""
        self.members = list(members)
        self.replay = None

    def take_step(self) -> None:
        """Take the next step of every member, which leaves its loss in ``loss``."""
        for member in self.members:
            if member.step in member.run.drop_steps:
                member.set_rate()
        if self.capture and not self.replay and not self.eager_left:
            self._try_to_capture()
        if self.replay:
            self.replay()
        else:
            update_all(self.members)
            self.eager_left = max(0, self.eager_left - 1)
        for member in self.members:
            member.step += 1

    def _try_to_capture(self) -> None:
        states = [member.generator.get_state() for member in self.members]
        try:
            self.replay = self.capture(self.members)
        except RuntimeError as error:
            self.capture = None
            reason = str(error).splitlines()[0]
            warnings.warn(f"training without a CUDA graph: {reason}", stacklevel=2)
            # Nothing of the step has run, but its streams and generators are still in the capture.
            for member, state in zip(self.members, states, strict=True):
                member.generator = torch.Generator(member.device)
                member.generator.set_state(state)
                if member.stream is not None:
                    member.stream = torch.cuda.Stream(member.device)


def update_all(members: Sequence[TrainingState]) -> None:
    """Update every member, on CUDA each on its own stream between a fork and a join."""
    for member in members:
        if member.stream is None:
            member.update()
            continue
        member.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(member.stream):
            member.update()
    for member in members:
        if member.stream is not None:
            torch.cuda.current_stream().wait_stream(member.stream)


def capture_cuda_graph(members: Sequence[TrainingState]) -> Callable[[], None]:
    """Capture one step of every member in a CUDA graph; returns what replays it.

    Nothing runs during the capture. A replay draws the next numbers from the members' generators
    and reads their learning rates, and leaves the losses where the capture put them.

    Raises:
        RuntimeError: something in the step cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    for member in members:
        graph.register_generator_state(member.generator)
    before = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            update_all(members)
    finally:
        torch.cuda.set_stream(before)  # where a capture breaks off, its own stream stays current
    return graph.replay


CAPTURES = {"cuda": capture_cuda_graph}  # by type of device; elsewhere every step is eager
