"""The trainer: batches, steps, scores, checkpoints. It knows no task, no file format and no screen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wavefront.errors import RunError, TrainingError
from wavefront.learning.checkpoint import Checkpoint, Checkpoints
from wavefront.learning.clip import clip_gradient, random_gradient
from wavefront.learning.memory import memory_guarded
from wavefront.learning.optimizer import Average, optimizer_for
from wavefront.learning.schedule import rate
from wavefront.learning.settings import Settings
from wavefront.learning.signals import Interrupted, Interrupts

__all__ = ["Outcome", "Position", "Trainer"]

EXPLODED = 1000.0  # a smoothed loss so many times 1 + its lowest is beyond any that comes down again
RANDOM_STEPS = 20  # in a row, and there is no way out of where the gradient is not finite
EVALUATION_SHARE = 0.1  # of the time, at most, when the end of the run is a time


@dataclass
class Position:
    """Where a run is. Everything in it is plain, so that it goes into a checkpoint as it is."""

    epoch: int = 0  # epochs finished
    batch: int = 0  # batches done of this one
    step: int = 0
    loss_sum: float = 0.0  # over the items of this epoch so far
    loss_items: int = 0
    smooth_loss: float | None = None
    lowest_loss: float = math.inf
    random_steps: int = 0  # in a row
    best: float | None = None  # the best score
    best_loss: float = math.inf  # and the loss that came with it
    best_epoch: float | None = None
    worse: int = 0  # evaluations since there was a better one
    averaged: int | None = None  # steps whose weights are in the average; None: it has not begun
    scored_step: int | None = None  # of the last evaluation
    evaluation_seconds: float = 0.0  # how long the last one took
    seconds: float = 0.0  # since the run began, over all its parts


class Outcome(NamedTuple):
    """How training ended. `stopped` is "epochs", "time" or "patience"."""

    stopped: str
    epochs: float
    steps: int
    best: float | None
    best_epoch: float | None
    seconds: float


class Trainer:
    """Trains a network, and can be stopped and carried on at any step as if it never had been.

    network   what is trained
    loss      batch -> (mean loss, over how many items); items 0: nothing to learn in this batch
    batches   epoch -> its batches, a sequence: the same for the same epoch, whenever it is asked for. If it has `describe(k)`, errors name
              a batch by that
    settings  `Settings`
    folder    where checkpoints go
    evaluate  () -> metrics of the network as it is, on validation data; None: there are none
    metric    the one of them that decides, and whether larger is better
    listen    gets every event, a dict with "event": "step", "evaluation", "checkpoint", "resumed", "warning", "end"
    identity  what a checkpoint has to agree with to be resumed: data, vocabulary, architecture, as strings
    memory    what `loss` keeps from one batch of an epoch to the next, tensors by name: the state of a recurrence over one long stream. It is
              emptied before each epoch, and goes into checkpoints
    reserve   seconds of an evaluation -> seconds to leave for what comes after training, when the end is a time
    began     `time.monotonic()` when the run began, if that was before now
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[Any], tuple[Tensor, int]],
        batches: Callable[[int], Sequence[Any]],
        settings: Settings,
        folder: Path,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        metric: str = "loss",
        larger_is_better: bool = False,
        listen: Callable[[dict[str, Any]], None] = lambda event: None,
        identity: Mapping[str, str] | None = None,
        reserve: Callable[[float], float] = lambda evaluation_seconds: 0.0,
        began: float | None = None,
        memory: dict[str, Tensor] | None = None,
    ):
        if not settings.epochs and not settings.minutes:
            raise TrainingError("a run needs an end: set learning.epochs, learning.minutes, or both.")
        self.network, self.loss, self.batches, self.settings = network, loss, batches, settings
        self.evaluate, self.metric, self.larger_is_better = evaluate, metric, larger_is_better
        self.listen, self.identity, self.reserve = listen, dict(identity or {}), reserve
        self.memory: dict[str, Tensor] = {} if memory is None else memory
        self.checkpoints = Checkpoints(folder)
        self.optimizer = optimizer_for(network, settings)
        self.average = Average(network, settings.average) if settings.average or settings.average_after else None
        self.at = Position(averaged=0 if settings.average else None)
        self.best_weights: dict[str, Tensor] | None = None
        self.interrupts = Interrupts()
        self._began = time.monotonic() if began is None else began
        self._random: dict[str, Tensor] = {}  # where the random numbers of a resumed run go on
        self._before = 0.0  # seconds of the parts of the run before this one
        self._saved_at = self._evaluated_at = time.monotonic()

    # The run

    def run(self) -> Outcome:
        """Trains to the end, and leaves the weights that are to be kept in the network.

        `Interrupted` (by SIGINT or SIGTERM) and `TrainingError` (the loss is not finite, or memory ran out) leave a checkpoint, and the
        weights to be kept in the network, too.
        """
        torch.manual_seed(self.settings.seed)
        if self._random:
            _set_random_states(self._random)
        self.network.train()
        try:
            with self.interrupts:
                while not (stopped := self.stopped()):
                    self._epoch()
                self._leave()
        except TrainingError:
            self.optimizer.zero_grad(set_to_none=True)  # the memory of the gradients is free for whoever tries again
            self.keep()
            raise
        self.keep()
        self._tell("end", stopped=stopped)
        return Outcome(stopped, self.epochs_done(), self.at.step, self.at.best, self.at.best_epoch, self.seconds())

    def _epoch(self) -> None:
        """The rest of this epoch, from wherever the run is."""
        batches = self.batches(self.at.epoch)
        if not len(batches):
            raise TrainingError("there is nothing to train on: the training data have no batch.")
        if not self.at.batch:
            self.memory.clear()
        while self.at.batch < len(batches):
            self._step(batches)
            if self.interrupts.received or time.monotonic() - self._saved_at >= self.settings.checkpoint_seconds:
                self._save()
            if self.settings.minutes and self.at.batch < len(batches):
                if self.stopped():
                    return
                if self._evaluation_is_due(len(batches)):
                    self._score()
        if not self.settings.minutes or self._evaluation_is_due(len(batches)):
            self._score(epoch_ends=True)
        self.at.epoch, self.at.batch, self.at.loss_sum, self.at.loss_items = self.at.epoch + 1, 0, 0.0, 0

    def _step(self, batches: Sequence[Any]) -> None:
        """One batch: loss, gradient, clipping, a step of the optimiser."""
        at, settings, parameters = self.at, self.settings, list(self.network.parameters())
        with memory_guarded(lambda: self._named(batches), self._memory_remedy()):
            with torch.autocast(torch.device(settings.device).type, torch.bfloat16, enabled=settings.precision == "bf16"):
                loss, items = self.loss(batches[at.batch])
            self.optimizer.zero_grad(set_to_none=True)
            if items:
                loss.backward()
            value, norm = loss.item(), clip_gradient(parameters, settings.clip_norm, settings.clip_value)
        if items and not (math.isfinite(value) and math.isfinite(norm)):
            self._not_finite(value, norm, batches)
            random_gradient(parameters, settings.clip_norm)
        elif items:
            self._watch(value, batches)
            at.random_steps, at.loss_sum, at.loss_items = 0, at.loss_sum + value * items, at.loss_items + items
        learning_rate = settings.learning_rate * rate(self._progress(ahead=0.5, batches=len(batches)), settings.schedule, settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()  # where there was nothing to learn there is no gradient, and nothing moves
        at.batch, at.step = at.batch + 1, at.step + 1
        if self.average and at.averaged is not None:
            self.average.add(at.averaged)
            at.averaged += 1
        done = {"batch": at.batch, "batches": len(batches), "progress": self._progress(0, len(batches))}
        self._tell("step", loss=value, norm=norm, learning_rate=learning_rate, **done)

    def _score(self, epoch_ends: bool = False) -> None:
        """The metrics on the validation data; the best weights so far are remembered."""
        epochs = self.at.epoch + 1.0 if epoch_ends else self.epochs_done()
        metrics: Mapping[str, float] = {}
        if self.evaluate:
            began = time.monotonic()
            try:
                guard = memory_guarded("the scoring of the validation data", self._memory_remedy())
                with self._as_scored(), torch.random.fork_rng(), self.interrupts.at_once(), guard:
                    metrics = self.evaluate()
            except Interrupted:  # the checkpoint is of before the evaluation, which is then made anew
                self._save()
            self.at.evaluation_seconds = time.monotonic() - began
            score, loss = metrics[self.metric], metrics.get("loss", math.inf)
            best, better = self.at.best, False
            if math.isfinite(score):
                better = best is None or (score > best if self.larger_is_better else score < best)
                if better or (score == best and loss < self.at.best_loss):  # of equal scores the one with the lower loss
                    self.at.best, self.at.best_loss, self.at.best_epoch = score, loss, epochs
                    self.best_weights = self._scored_weights()
            self.at.worse = 0 if better else self.at.worse + 1
            if self.average and self.at.averaged is None and self.at.worse >= self.settings.average_after:
                self.at.averaged = 0
        self._evaluated_at, self.at.scored_step = time.monotonic(), self.at.step
        mean = self.at.loss_sum / self.at.loss_items if self.at.loss_items else None
        self._tell("evaluation", epochs=epochs, train_loss=mean, valid=dict(metrics), best=self.at.best, best_epoch=self.at.best_epoch)

    # When it ends, and what is kept

    def stopped(self) -> str | None:
        """ "epochs", "time" or "patience" if the run is over."""
        if self.settings.patience and self.at.worse >= self.settings.patience:
            return "patience"
        if self.settings.epochs and self.at.epoch >= self.settings.epochs:
            return "epochs"
        if self.settings.minutes and self.seconds() >= self._seconds_to_train():
            return "time"
        return None

    def seconds(self) -> float:
        """Since the run began, over all its parts."""
        return self._before + time.monotonic() - self._began

    def epochs_done(self) -> float:
        return self.at.epoch + (self.at.batch / len(self.batches(self.at.epoch)) if self.at.batch else 0.0)

    def keep(self) -> None:
        """Puts the weights that are to be kept into the network: the best, or the last (averaged, if they are)."""
        if self.settings.keep == "best" and self.best_weights:
            self.network.load_state_dict(self.best_weights)
        elif self.average and self.at.averaged:
            self.average.swap()
        self.network.eval()

    def _leave(self) -> None:
        """At the end of training, before what is scored and kept."""
        if self.at.scored_step != self.at.step:
            self._score()
        self._save()

    def _progress(self, ahead: float, batches: int) -> float:
        """The share of the run that is done, `ahead` steps from now."""
        by_epochs = (self.at.epoch + (self.at.batch + ahead) / batches) / self.settings.epochs if self.settings.epochs else 0.0
        by_time = self.seconds() / max(1e-9, self._seconds_to_train()) if self.settings.minutes else 0.0
        return min(1.0, max(by_epochs, by_time))

    def _seconds_to_train(self) -> float:
        """All of it, but for the last score, which is still to come, and what comes after."""
        return 60 * self.settings.minutes - self.at.evaluation_seconds - self.reserve(self.at.evaluation_seconds)

    def _evaluation_is_due(self, batches: int) -> bool:
        """When the end is a time: as soon as the evaluation before is a small share of the time since, and the first one early."""
        since = time.monotonic() - self._evaluated_at
        if self.at.scored_step is None:
            return self.at.batch == batches or since >= 0.05 * 60 * self.settings.minutes
        return since >= max(self.at.evaluation_seconds / EVALUATION_SHARE, 0.01 * 60 * self.settings.minutes)

    # When something is wrong

    def _not_finite(self, loss: float, norm: float, batches: Sequence[Any]) -> None:
        """Stops, or allows a random step."""
        self.at.random_steps += 1
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradient is {norm} (the loss is {loss:.4g})"
        if self.settings.nonfinite == "random_step" and self.settings.clip_norm and self.at.random_steps <= RANDOM_STEPS:
            self._tell("warning", message=f"{what} in {self._named(batches)}: a random step of norm {self.settings.clip_norm} is taken")
            return
        raise TrainingError(f"{what} in {self._named(batches)}. {self._remedies()}")

    def _watch(self, loss: float, batches: Sequence[Any]) -> None:
        """Stops when the loss, smoothed, has grown beyond any that comes down again."""
        before = self.at.smooth_loss
        self.at.smooth_loss = loss if before is None else 0.9 * before + 0.1 * loss
        self.at.lowest_loss = min(self.at.lowest_loss, self.at.smooth_loss)
        if self.at.smooth_loss > EXPLODED * (1 + abs(self.at.lowest_loss)):
            raise TrainingError(
                f"the loss has exploded, to {loss:.3g} in {self._named(batches)}; it has been down to {self.at.lowest_loss:.3g}. {self._remedies()}"
            )

    def _remedies(self) -> str:
        kept = (
            f"The best weights so far, of epoch {self.at.best_epoch:g}, are kept."
            if self.best_weights
            else "Nothing was scored before that."
        )
        settings = self.settings
        remedies = [f"a smaller learning.learning_rate (now {settings.learning_rate:g})"]
        remedies.append(f"a smaller learning.clip_norm (now {settings.clip_norm:g})" if settings.clip_norm else "learning.clip_norm=1")
        if settings.nonfinite == "stop":
            remedies.append("learning.nonfinite=random_step")
        return f"{kept} Remedies: {', '.join(remedies)}; or look at that batch for values far from the others."

    def _memory_remedy(self) -> str:
        return (
            f"Lower learning.batch_size (now {self.settings.batch_size}) or the sizes of the network, or leave out the longest sequences."
        )

    def _named(self, batches: Sequence[Any]) -> str:
        describe = getattr(batches, "describe", None)
        name = f"batch {self.at.batch + 1} of {len(batches)} in epoch {self.at.epoch + 1}"
        return f"{name} ({describe(self.at.batch)})" if describe else name

    # Checkpoints

    def _save(self) -> None:
        """Everything that the rest of the run depends on. When a signal has come, the run then ends."""
        self.at.seconds = self.seconds()
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items() if tensor is not None}
        tensors |= {f"best.{name}": tensor for name, tensor in (self.best_weights or {}).items()}
        tensors |= {f"average.{name}": tensor for name, tensor in (self.average.state() if self.average else {}).items()}
        tensors |= {f"memory.{name}": tensor for name, tensor in self.memory.items()}
        tensors |= {f"random.{name}": state for name, state in _random_states().items()}
        position = {name: None if value == math.inf else value for name, value in asdict(self.at).items()}
        self.checkpoints.save(Checkpoint(tensors, {"position": position, "identity": self.identity}))
        self._saved_at = time.monotonic()
        self._tell("checkpoint")
        if self.interrupts.received:
            self.keep()
            raise Interrupted(self.interrupts.received)

    def resume(self) -> bool:
        """Goes to where the newest whole checkpoint of the folder is; False if there is none. To be called before `run`."""
        checkpoint = self.checkpoints.latest(warn=lambda message: self._tell("warning", message=message))
        if checkpoint is None:
            return False
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "best": {}, "average": {}, "memory": {}, "random": {}}
        for name, tensor in checkpoint.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self._refuse_another(checkpoint.state["identity"], parts["network"])
        self.network.load_state_dict(parts["network"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        if self.average and parts["average"]:
            self.average.load(parts["average"])
        self.memory.update(parts["memory"])
        self.best_weights = parts["best"] or None
        position = checkpoint.state["position"]
        unset = {name: math.inf for name in ("lowest_loss", "best_loss") if position[name] is None}  # JSON has no infinity
        self.at = Position(**{**position, **unset})
        self._before = self.at.seconds
        self._random = parts["random"]
        self._tell("resumed")
        return True

    def _refuse_another(self, identity: Mapping[str, str], weights: Mapping[str, Tensor]) -> None:
        """A checkpoint of other data, another vocabulary or another network is not resumed."""
        differences = [
            f"{name}: the checkpoint has {identity.get(name)}, now it is {self.identity.get(name)}"
            for name in sorted(identity.keys() | self.identity.keys())
            if identity.get(name) != self.identity.get(name)
        ]
        here = self.network.state_dict()
        for name in sorted(here.keys() | weights.keys()):
            shapes = [list(where[name].shape) if name in where else "no such tensor" for where in (weights, here)]
            if shapes[0] != shapes[1]:
                differences.append(f"{name}: the checkpoint has {shapes[0]}, the network {shapes[1]}")
        if differences:
            raise RunError(
                f"cannot resume from {self.checkpoints.folder}:\n  "
                + "\n  ".join(differences[:20])
                + "\nResume with the data and settings of"
                " the run, or start a new one in another folder (--out)."
            )

    # Small things

    def _tell(self, event: str, **values: Any) -> None:
        self.listen({"event": event, "step": self.at.step, "epoch": self.at.epoch, "seconds": round(self.seconds(), 3), **values})

    def _scored_weights(self) -> dict[str, Tensor]:
        with self._averaged():
            return {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        average = self.average if self.at.averaged else None
        if average:
            average.swap()
        try:
            yield
        finally:
            if average:
                average.swap()

    @contextmanager
    def _as_scored(self) -> Iterator[None]:
        """The network in evaluation mode, with the averaged weights if there are such."""
        self.network.eval()
        try:
            with self._averaged(), torch.no_grad():
                yield
        finally:
            self.network.train()


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda.{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _set_random_states(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    cuda = [states[name] for name in sorted(states, key=lambda name: (len(name), name)) if name.startswith("cuda.")]
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)
