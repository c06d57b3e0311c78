"""The training loop. A run is a list of steps; whatever happens happens between two of them.

A step takes its rows from the seed and its number, puts the gradient of their mean loss into the parameters in pieces
that fit, clips it, and updates. Then, where they are due: evaluate, commit a checkpoint, stop. What a run needs to go on
after a step is the adapter, its average, the optimizer, the random streams, what the strategy keeps for itself, and `State`;
a checkpoint holds exactly these.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from adapterhub_lite.base.learning import StrategyState
from adapterhub_lite.base.recompute import activation_checkpointing
from adapterhub_lite.errors import ConfigError, TrainingError
from adapterhub_lite.interrupt import Interrupt, Stopped
from adapterhub_lite.plugins.hookspecs import Run
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.progress import Bar, Progress
from adapterhub_lite.scoring.wilson import standard_error
from adapterhub_lite.tasks.task import Encoded
from adapterhub_lite.training.attachment import Attachment
from adapterhub_lite.training.average import Average
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.evaluate import score
from adapterhub_lite.training.flat import flattened
from adapterhub_lite.training.offload import activation_offload
from adapterhub_lite.training.optimizer import learning_rates, make_optimizer, optimizer_state, set_optimizer_state
from adapterhub_lite.training.order import Order
from adapterhub_lite.training.out_of_memory import RanOut, attempt, used
from adapterhub_lite.training.prepare import attach_again, prepare
from adapterhub_lite.training.processes import Processes
from adapterhub_lite.training.protocols import Protocols
from adapterhub_lite.training.randomness import random_state, restored, set_random_state
from adapterhub_lite.training.reach import Met
from adapterhub_lite.training.run.checkpoint import Checkpoint, part, under
from adapterhub_lite.training.run.folder import RunFolder
from adapterhub_lite.training.run.identity import new_id
from adapterhub_lite.training.run.journal import Journal, scores_logged
from adapterhub_lite.training.state import State, TrainReport
from adapterhub_lite.training.step import accumulate, apply, refuse_broken

BAD_STEPS_IN_A_ROW = 3


class Training:
    """One run of the loop on an attachment, which is trained in place.

    Args:
        attachment: What trains.
        data: What it learns from.
        config: How.
        progress: Where to show it.
        observers: Plug-ins that look on.
        held_out: What it is scored on every `config.eval_every` steps.
        folder: Where log and checkpoints go, if anywhere.
        interrupt: Says when to stop.
        processes: Those that train together.
    """

    def __init__(
        self,
        attachment: Attachment,
        data: Encoded,
        config: TrainConfig,
        progress: Progress,
        observers: Observers,
        *,
        held_out: Encoded | None = None,
        folder: RunFolder | None = None,
        interrupt: Interrupt | None = None,
        processes: Processes | None = None,
    ):
        self.attachment, self.data, self.config, self.held_out = attachment, data, config, held_out
        self.progress, self.observers, self.folder = progress, observers, folder
        self.interrupt = interrupt or Interrupt()
        self.processes = processes or Processes()
        self.journal = Journal(progress, folder, config.track, self.processes.is_main)
        self.device = attachment.base.device
        self.protocols = Protocols(attachment, config.seed)
        self.rate = config.learning_rate or attachment.provided.spec.learning_rate
        self.order = Order(len(data.examples), config)
        self.rate_at = learning_rates(config, self.rate, self.order.total)
        self.state = State(micro_batch_size=config.examples_at_once)
        if config.start_head == "probe":
            self.state.evaluated = -1  # what it starts from is scored as well, and kept where no step beats it
        self.report = TrainReport(self.state)
        self.best: tuple[dict[str, Tensor], StrategyState] | None = None
        self.committed: State | None = None
        self.observed = Run(
            attachment.provided.spec.name, attachment.task.name, attachment.base.reference, self.order.total,
            config.model_dump(), stop=lambda reason: setattr(self.state, "stopped", reason),
            id=folder.id if folder is not None else new_id(), log=self._log,
        )  # fmt: skip

    def run(self) -> TrainReport:
        """Train to the end, or until something asks to stop; the adapter is then the best one where there are evaluations.

        Raises:
            TrainingError: loss or gradient is not finite three steps in a row, or a single example does not fit.
            ConfigError: the run to be resumed is another one, or gradients are switched off.
            Stopped: a signal came; a checkpoint is committed if there is a folder.
        """
        if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
            raise ConfigError("training needs gradients; call it outside torch.no_grad() and torch.inference_mode()")
        started = time.monotonic()
        newest = self._newest()
        if newest is None and self.attachment.goes_on_from is None:
            prepare(self.attachment, self.protocols, self.data, self.config)
        elif newest is not None:
            self._attach_as_then(newest[0])
        self.tensors = self.attachment.tensors
        self.parameters = [p for p in self.tensors.values() if p.requires_grad]
        self.met = Met(self.attachment)
        self.average = Average(self.tensors if self.config.average else {})
        factors = {self.tensors[name]: own for name, own in self.protocols.groups().items()}
        self.optimizer = make_optimizer(self.parameters, self.config, self.rate, factors)
        self.processes.start_equal(self.tensors)
        if newest is not None:
            self._resume(*newest)
            self.observers.set_states(newest[0].state["observers"])
        self.journal.begin(self.observed, self.attachment.config.model_dump(mode="json"), self.state.step)
        self.observers.notify("adapterhub_train_start", {"run": self.observed})
        try:
            recompute = activation_checkpointing(self.attachment.base.model, self.config.activation_checkpointing)
            offload = activation_offload(self.attachment.base, self.config.activation_offload)
            first = [self.data.examples[row] for row in self.order.rows(self.state.step + 1)]
            if len(first) == 1:  # it takes two to try whether texts can be run in one row
                first = [self.data.examples[row] for row in range(min(2, len(self.data.examples)))]
            in_one_row = flattened(
                self.attachment.base, self.attachment.task, first, self.attachment,
                learns=True, known=self.state.flat, at_once=self.state.micro_batch_size, say=self.journal.tell,
            )  # fmt: skip
            training = self.attachment.training(base_dropout=self.config.base_dropout == "on")
            with self.interrupt.delayed(), recompute, offload, training, in_one_row as self.state.flat:
                unit = "tokens" if self.attachment.task.generates else "examples"
                with self.progress.bar("training", self.order.total - self.state.step, "steps", rate=unit) as bar:
                    self._steps(bar)
                self._commit()
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            self.report.seconds = time.monotonic() - started
            self.journal.end()
        refuse_broken(self.tensors)
        self.attachment.check_base(self.state.step)
        self.average.settle()
        if self.best is not None and self.state.best_step != self.state.step:
            which = "as it started, from the probe" if self.state.best_step == 0 else f"of step {self.state.best_step}"
            sure = self.config.keep == "last-good" and self.attachment.task.higher_is_better
            why = "since later ones score surely worse" if sure else "which scored best"
            self.progress.say(f"keeping the adapter {which}, {why}")
            self.attachment.load_tensors(self.best[0])
            self.attachment.load_state(self.best[1])
        return self.report

    def _steps(self, bar: Bar) -> None:
        state, config = self.state, self.config
        try:
            while True:
                improved = False
                if state.evaluated < state.step and config.evaluates_at(state.step, self.order.total):
                    improved = self._evaluate()
                # An observer may ask one process alone, and one that stops alone leaves the others waiting.
                if self.processes.largest(int(state.stopped is not None), self.device):
                    state.stopped = state.stopped or "asked to in another process"
                if improved or (config.checkpoint_every and state.step % config.checkpoint_every == 0 and state.step):
                    self._commit()
                # What comes after this question is heard at the next step, by all processes.
                received = self.processes.largest(self.interrupt.received or 0, self.device)
                if received:
                    self.interrupt.stop(received)
                if state.step >= self.order.total or state.stopped is not None:
                    return
                self._step(bar)
        except Stopped as stop:
            self._commit()
            self.journal.tell(f"{stop} after step {state.step} of {self.order.total}; go on with --resume")
            raise

    def _step(self, bar: Bar) -> None:
        state, step, begun = self.state, self.state.step + 1, time.perf_counter()
        rows = self.order.rows(step)
        examples = [self.data.examples[row] for row in rows]
        weight = sum(example.weight for example in examples)
        share = self.processes.share(examples)
        loss, state.micro_batch_size = accumulate(
            self.attachment, self.parameters, share, weight, state.micro_batch_size, self.journal.tell, examples[:1],
            self.protocols.output_loss_of(step), sum(example.rows for example in examples),
        )  # fmt: skip
        (loss,) = self.processes.add(loss, device=self.device)
        self.processes.add_gradients(self.parameters)
        self.processes.average(self.attachment.statistics)
        self.met.look(self.tensors)
        penalties = self._penalize(step)
        loss += sum(penalties.values())
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.clip))
        rate = self.rate_at(step)
        applied = math.isfinite(loss) and math.isfinite(norm)
        if applied:
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group.get("rate_factor", 1.0)
            apply(self.optimizer, state.step - state.skipped, self.device)
            self.protocols.after_step(step, self.order.total)
            self.average.update(state.step - state.skipped + 1)
            self.report.losses.append(loss)
            self.met.judge(len(self.report.losses), ended=step == self.order.total)
        self.optimizer.zero_grad(set_to_none=True)
        state.skipped += not applied
        state.bad_in_a_row = 0 if applied else state.bad_in_a_row + 1
        state.step = step
        metrics = {"loss": loss, "learning_rate": rate, "grad_norm": norm, **penalties}
        self.journal.step(step, metrics, targets=weight, applied=applied)
        if state.bad_in_a_row == BAD_STEPS_IN_A_ROW:
            raise TrainingError(
                f"loss or gradient is not finite in {BAD_STEPS_IN_A_ROW} steps in a row, the last at step {step} with "
                f"rows {self._numbers(rows)}; lower the learning rate ({rate:g}) or use --dtype float32"
            )
        if not applied:
            self.journal.tell(f"step {step} is not applied: loss {loss}, gradient {norm}, rows {self._numbers(rows)}")
        self.observers.notify("adapterhub_step_end", {"run": self.observed, "step": step, "metrics": metrics})
        if step == 1:  # afterwards wherever something is kept
            self.attachment.check_base(step)
        self.protocols.judge_time(step, time.perf_counter() - begun)
        done = sum(example.length for example in examples) if self.attachment.task.generates else len(examples)
        bar.advance(1, f"loss {loss:.3f}, {used(self.device)}", done)

    def _log(self, name: str, value: float) -> None:
        """Log a number of an observer's."""
        self.journal.observed(self.state.step, name, value)

    def _penalize(self, step: int) -> dict[str, float]:
        """Add the gradient of the strategy's penalties, and return them: once a step, in every process alike."""
        ran_out = attempt(lambda: self._add_penalties(step), self.device)
        if isinstance(ran_out, RanOut):
            raise TrainingError(f"out of memory in {self.attachment.calls.title('penalty', step)}") from ran_out.error
        return ran_out

    def _add_penalties(self, step: int) -> dict[str, float]:
        penalties = self.protocols.penalties(step)
        for value in penalties.values():
            if value.requires_grad:
                value.backward()
        return {name: float(value.detach()) for name, value in penalties.items()}

    def _evaluate(self) -> bool:
        """Score the adapter as it is; True if it is the one to keep so far."""
        assert self.held_out is not None
        state, task = self.state, self.attachment.task
        alone = self.processes.count == 1  # several have to stop together, which they do between two steps
        may_be_cut_off = self.interrupt.allowed() if alone else nullcontext()
        with restored(self.device), may_be_cut_off, self.average.in_place():
            metrics, _ = score(self.attachment, self.held_out, self.progress, self.processes)
        self.journal.evaluation(state.step, metrics)
        self.report.evaluations.append((state.step, metrics))
        state.evaluated = state.step
        value = metrics[task.metric] if task.higher_is_better else -metrics[task.metric]
        loss = metrics.get("loss", math.inf)
        # On a few rows many steps score alike; of these the one of the least loss is best.
        best = (-math.inf if state.best_value is None else state.best_value, -(state.best_loss or math.inf))
        is_best = math.isfinite(value) and (value, -loss) > best
        if is_best:
            state.best_value, state.best_loss, state.evaluations_since_best = value, loss, 0
        as_good = self.config.keep == "last-good" and value >= best[0] - self._by_chance(best[0])
        if is_best or (math.isfinite(value) and as_good):
            state.best_step = state.step
            self.best = self.average.instead_of(self.tensors), copy.deepcopy(self.attachment.state(state.step))
        if is_best:
            return True
        state.evaluations_since_best += 1
        if self.config.patience and state.evaluations_since_best >= self.config.patience:
            state.stopped = f"no better {task.metric} in {self.config.patience} evaluations"
        return state.best_step == state.step

    def _by_chance(self, score: float) -> float:
        """A standard error of a score that is a share of the held-out rows, or of their groups; 0 of any other score."""
        assert self.held_out is not None
        n = len(self.held_out.examples if self.held_out.groups is None else set(self.held_out.groups))
        return standard_error(score, n) if self.attachment.task.higher_is_better and 0 <= score <= 1 else 0.0

    def _newest(self) -> tuple[Checkpoint, Checkpoint | None] | None:
        """The checkpoint to go on from, and the one with the best adapter until then; None to begin at the first step."""
        if self.folder is None:
            return None
        newest = self.folder.newest() if self.processes.is_main else None
        step = self.processes.largest(newest[0].state["step"] if newest is not None else -1, self.device)
        return None if step < 0 else newest if newest is not None else self.folder.at(step)

    def _attach_as_then(self, checkpoint: Checkpoint) -> None:
        """Attach the strategy with the config that it prepared itself for, where that is another one."""
        settings = checkpoint.state["strategy"]["settings"]
        if settings != self.attachment.config.model_dump(mode="json"):
            attach_again(self.attachment, type(self.attachment.config).model_validate(settings))

    def _resume(self, checkpoint: Checkpoint, best: Checkpoint | None) -> None:
        for name, value in checkpoint.state["run"].items():
            setattr(self.state, name, value)
        self.attachment.load_tensors(part(checkpoint.tensors, "adapter"))
        self.attachment.load_state(_strategy_state(checkpoint))
        if best is not None:
            tensors = {**part(best.tensors, "adapter"), **part(best.tensors, "average")}
            self.best = tensors, _strategy_state(best)
        self.average.load(part(checkpoint.tensors, "average"))
        set_optimizer_state(self.optimizer, part(checkpoint.tensors, "optimizer"), checkpoint.state["optimizer"])
        set_random_state(part(checkpoint.tensors, f"random/{self.processes.rank}"), self.device)
        self.committed = dataclasses.replace(self.state)
        lines = [json.loads(line) for line in checkpoint.log.splitlines()]
        self.report.losses[:] = [line["loss"] for line in lines if line.get("applied")]
        self.report.evaluations[:] = scores_logged(lines)

    def _commit(self) -> None:
        """Commit a checkpoint of this moment, if there is a folder."""
        if self.folder is None or self.state == self.committed:
            return
        refuse_broken(self.tensors)
        self.attachment.check_base(self.state.step)
        own = self.protocols.state(self.state.step)
        tensors, numbers = optimizer_state(self.optimizer)
        content = under("adapter", self.tensors) | under("average", self.average.values) | under("optimizer", tensors)
        content |= under("strategy", own.tensors)
        for name, tensor in random_state(self.device).items():
            for rank, state_of_rank in enumerate(self.processes.gather(tensor, self.device)):
                content[f"random/{rank}/{name}"] = state_of_rank
        if self.processes.is_main:
            where = {"step": self.state.step, "best_step": self.state.best_step}
            settings = self.attachment.config.model_dump(mode="json")
            strategy = {"settings": settings, "values": dict(own.values), "in_file": sorted(own.in_file)}
            parts = {"optimizer": numbers, "strategy": strategy, "observers": self.observers.states()}
            state = {**where, "run": dataclasses.asdict(self.state), **parts}
            self.folder.commit(state, content, self.config.keep_checkpoints)
        self.processes.wait()
        self.committed = dataclasses.replace(self.state)

    def _numbers(self, rows: list[int]) -> str:
        """Rows as the user counts them."""
        numbers = (row if self.data.rows is None else self.data.rows[row] for row in rows[:8])
        return ", ".join(str(number + 1) if number >= 0 else "(name of a class)" for number in numbers)


def _strategy_state(checkpoint: Checkpoint) -> StrategyState:
    """What a checkpoint holds of the strategy."""
    recorded = checkpoint.state["strategy"]
    return StrategyState(part(checkpoint.tensors, "strategy"), recorded["values"], recorded["in_file"])
