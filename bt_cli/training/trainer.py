"""The loop: stages, steps, validation, what is kept and what a killed run goes on from."""

from __future__ import annotations

import contextlib
import copy
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.checkpoints.combination import KEY, keep_combination
from bt_cli.checkpoints.hub_layout import heads_in
from bt_cli.checkpoints.model_card import write_card
from bt_cli.checkpoints.saving import hub_tensors, save_checkpoint
from bt_cli.errors import BadConfig, NotFound, Unwritable
from bt_cli.files.plain_file import is_plain
from bt_cli.files.shown_path import shown_path
from bt_cli.training.combination import best_combination, compare_combinations
from bt_cli.training.examples import Batch, Examples, make_examples
from bt_cli.training.loss_plot import write_loss_plot
from bt_cli.training.objectives import compute_losses
from bt_cli.training.optimizer import MasterWeights
from bt_cli.training.recipe import Recipe, Stage
from bt_cli.training.run import Run
from bt_cli.training.run_state import Position, RunLog, load_state, read_log, restore_random, save_state
from bt_cli.training.validation import LEAST_IMAGES, validate
from bt_cli.weight_files.tensor_files import choose_weights

LARGEST_SCALE, SMALLEST_SCALE = 6.9077, 0.6931
"""Bounds of the log temperature: temperatures from 0.001 to 0.5, as published."""

logger = logging.getLogger("bt_cli")


@dataclass
class Report:
    """Where a run stands, for a progress line."""

    step: int
    steps: int
    stage: str
    losses: dict[str, float]
    images: int
    images_in_all: int
    images_per_second: float
    seconds_left: float


@dataclass
class Outcome:
    """How a run ended. `metrics` are those of the weights that were kept; None where this call validated nothing."""

    steps: int
    images: int
    seconds: float
    kept_step: int
    metrics: dict[str, float] | None
    combinations: dict[str, dict[str, float]] | None = None
    """Recall of the kept weights by each way of ordering pairs; None where too little is held out to tell."""
    combine: str | None = None
    """The best of them, which the checkpoint keeps as its own."""


def require_plain_files(*folders: Path) -> None:
    """Refuse a run whose folders hold a pipe or a device where its own files belong: it would be waited for, or what
    is written into it would be lost.

    Raises:
        Unwritable: Names the first.
    """
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.exists() and not path.is_dir() and not is_plain(path.stat()):
                raise Unwritable(f"{shown_path(path)}: a pipe or a device, and no file of a run; remove it")


class Trainer:
    """Trains `run.network` in place by a recipe, from where the state in `out/training` stands."""

    def __init__(self, recipe: Recipe, run: Run) -> None:
        self.run, self.ranks = run, run.ranks
        fitting = recipe.for_width(run.network.config.hidden_size)
        self.recipe = settle_steps(fitting, len(run.source), run.ranks.world)
        self.folder = run.out / "training"
        require_plain_files(run.out, self.folder)
        run.network.to(run.device)
        run.network.recompute_activations(recipe.checkpoint_layers)
        self.dropout = dropout_of(run.network)
        self.weights = MasterWeights(run.network, getattr(torch, recipe.dtype), self.recipe.stages[0].rates)
        self.captions = run.source.fingerprint
        self.position = load_state(self.folder, self.recipe, self.weights, run.start, self.captions) or Position()
        self._require_best()
        self.metrics: dict[str, float] | None = None
        self.combinations: dict[str, dict[str, float]] | None = None
        self.combine: str | None = None
        run.network.config.extra.pop(KEY, None)  # what was measured before these weights changed

    def train(self, report: Callable[[Report], None] | None = None, *, stop_after: int | None = None) -> Outcome:
        """Run the remaining steps. `stop_after` ends the call after that many, as if it had been killed there.

        Raises Unwritable where `out` can't be written. Ctrl-C ends the step at hand, saves, and then raises
        KeyboardInterrupt.
        """
        self._warn_of_few()
        log = RunLog(self.folder, self.position.step) if self.ranks.first else None
        last = self.recipe.steps if stop_after is None else min(self.recipe.steps, self.position.step + stop_after)
        saved = time.monotonic()
        try:
            with interrupts_wait() as interrupted:
                for batches in self._prefetched(self.position.step, last):
                    self._step(batches, log, report)
                    if self._validation_due():
                        self._validate(log)
                    if (
                        time.monotonic() - saved >= self.recipe.state_seconds
                        or self.position.step == last
                        or interrupted()
                    ):
                        self._save()
                        saved = time.monotonic()
                    if interrupted():
                        raise KeyboardInterrupt
        finally:
            if log is not None:
                log.close()
                write_loss_plot(self.folder / "losses.svg", list(read_log(log.path)), self.recipe.name)
        if self.position.step == self.recipe.steps and (self.recipe.keep == "last" or self.run.validation is None):
            self._export()
        if self.position.step == self.recipe.steps and self.ranks.first:
            self._choose_combination()
        at = self.position
        return Outcome(
            at.step,
            at.images,
            at.seconds,
            at.best_step if self.recipe.keep == "best" else at.step,
            self.metrics,
            self.combinations,
            self.combine,
        )

    def _prefetched(self, first: int, last: int) -> Iterator[list[Batch]]:
        """The batches of each step, read one step ahead."""
        current = -1
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as ahead:
            waiting = None
            for step in range(first, last):
                number, _ = self.recipe.at(step)
                if number != current:
                    waiting, current = None, number
                    self._start_stage(number)
                batches = waiting.result() if waiting else self._batches(step)
                same_stage = step + 1 < last and self.recipe.at(step + 1)[0] == number
                waiting = ahead.submit(self._batches, step + 1) if same_stage else None
                yield batches

    def _start_stage(self, number: int) -> None:
        stage = self.recipe.stages[number]
        self.run.source.start(stage, self.recipe.seed)
        self.run.network.train()
        for name, parameter in self.run.network.named_parameters():
            frozen = any(name.startswith(f"{tower}_tower.") for tower in stage.freeze)
            parameter.requires_grad_(not frozen)
        # Set in every stage, or an earlier stage's would stay, and be gone again in a run that is resumed in this one.
        shares = self.dropout if stage.dropout is None else dict.fromkeys(self.dropout, stage.dropout)
        set_dropout(self.run.network, shares)
        logger.info("stage %d of %d: %s", number + 1, len(self.recipe.stages), stage.name)

    def _batches(self, step: int) -> list[Batch]:
        number, _ = self.recipe.at(step)
        stage = self.recipe.stages[number]
        rows = stage.batch
        # Steps of earlier stages may have had other batches; counting from the stage's start keeps epochs whole.
        offset = step if len(self.run.source) == 0 else self.recipe.at(step)[1]
        numbers = range(offset * stage.accumulate, (offset + 1) * stage.accumulate)
        return [self.run.source.batch(each, rows, self.ranks.rows(rows)) for each in numbers]

    def _step(self, batches: list[Batch], log: RunLog | None, report: Callable[[Report], None] | None) -> None:
        begun = time.monotonic()
        number, within = self.recipe.at(self.position.step)
        stage = self.recipe.stages[number]
        restore_random(self.recipe.seed, self.position.step, self.ranks.rank)
        sums: dict[str, torch.Tensor] = {}
        for micro, batch in enumerate(batches):
            losses = compute_losses(self.run.network, self._examples(batch, stage, micro), stage, self.ranks)
            total = sum(stage.weight(name) * loss for name, loss in losses.items())
            (total / stage.accumulate).backward()  # type: ignore[union-attr]
            self.weights.collect()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + loss.detach() / stage.accumulate
        self.ranks.average(self.weights.gradients())
        rate = stage.rates.at(within, stage.steps)
        self.weights.set_rates(stage.rates, rate)
        norm = self.weights.step(stage.rates.clip)
        if not np.isfinite(norm):
            raise diverged(self.position.step + 1, f"the norm of the gradient is {norm}")
        self.weights.clamp("logit_scale", SMALLEST_SCALE, LARGEST_SCALE)
        self._note(stage, sums, rate, norm, begun, log, report)

    def _examples(self, batch: Batch, stage: Stage, micro: int) -> Examples:
        generator = np.random.default_rng([self.recipe.seed, 3, self.position.step, micro])
        rows = stage.batch
        length, part = self.recipe.text_length, self.ranks.rows(rows)
        examples = make_examples(batch, stage, self.run.tokenizer, length, generator, rows, part)
        return examples.to(self.run.device)

    def _note(
        self,
        stage: Stage,
        sums: dict[str, torch.Tensor],
        rate: float,
        norm: float,
        begun: float,
        log: RunLog | None,
        report: Callable[[Report], None] | None,
    ) -> None:
        at = self.position
        at.step += 1
        at.images += stage.batch * stage.accumulate
        took = time.monotonic() - begun
        at.seconds += took
        if at.step % self.recipe.log_every and at.step != self.recipe.steps:
            return
        means = (self.ranks.total(torch.stack(list(sums.values()))) / self.ranks.world).tolist()
        losses = dict(zip(sums, means, strict=True))
        total = sum(stage.weight(name) * value for name, value in losses.items())
        if not np.isfinite(total):
            raise diverged(at.step, f"the loss is {total}")
        speed = stage.batch * stage.accumulate / took
        if log is not None:
            values = {"loss": total, **losses, "learning_rate": rate, "gradient_norm": norm, "images_per_second": speed}
            log.write(step=at.step, stage=stage.name, **values)
        if report is not None:
            in_all = sum(each.steps * each.batch * each.accumulate for each in self.recipe.stages)
            left = (in_all - at.images) * at.seconds / at.images
            report(Report(at.step, self.recipe.steps, stage.name, losses, at.images, in_all, speed, left))

    def _validation_due(self) -> bool:
        if self.run.validation is None or not self.ranks.first:
            return False
        every = self.recipe.validate_every
        at_end = self.position.step == self.recipe.steps or self.recipe.at(self.position.step)[1] == 0
        return at_end or bool(every and self.position.step % every == 0)

    def _validate(self, log: RunLog | None) -> None:
        """Measure, log, and keep the weights if they are the best so far (or the latest, by the recipe)."""
        assert self.run.validation is not None
        number, _ = self.recipe.at(self.position.step - 1)
        matching = self.recipe.stages[number].weight("itm") > 0
        length, device = self.recipe.text_length, self.run.device
        metrics = validate(self.run.network, self.run.validation, self.run.tokenizer, length, device, matching=matching)
        if log is not None:
            log.write(step=self.position.step, validation=metrics)
        better = self.position.improves(metrics)
        if better:
            self.position.best, self.position.best_loss = metrics["recall"], metrics.get("loss")
            self.position.best_step = self.position.step
        if better or self.recipe.keep == "last":
            self.metrics = metrics
            self._export()

    def _choose_combination(self) -> None:
        """Measure the checkpoint as it was left by each way of ordering pairs, and let it keep the best."""
        held_out, run = self.run.validation, self.run
        if held_out is None or len(held_out.pixel_values) < LEAST_IMAGES:
            return
        checkpoint = Checkpoint(str(run.out), run.out)
        if not {"itc", "itm"} <= checkpoint.heads:
            return
        network = checkpoint.network({"itc", "itm"}, device=run.device)
        length = self.recipe.text_length
        self.combinations = compare_combinations(network, held_out, run.tokenizer, length, run.device)
        self.combine = best_combination(self.combinations)
        keep_combination(run.out, self.combine)

    def _require_best(self) -> None:
        """Raises NotFound where the weights that this run kept are gone: nothing else has them, and none that come may
        be better."""
        at, out = self.position, self.run.out
        kept = self.recipe.keep == "best" and self.run.validation is not None and at.best_step
        if kept and choose_weights([path.name for path in out.iterdir() if path.is_file()]) is None:
            raise NotFound(
                f"{shown_path(out)}: the weights of step {at.best_step}, this run's best, are not there any more; "
                f"bring them back, or remove {shown_path(self.folder)} to start over"
            )

    def _warn_of_few(self) -> None:
        held_out = self.run.validation
        if held_out is not None and self.ranks.first and len(held_out.pixel_values) < LEAST_IMAGES:
            count = len(held_out.pixel_values)
            logger.info(
                "only %d %s held out, too few to tell good weights from lucky ones (%d are enough): "
                "--validation-share, --validation FILE or --keep last",
                *(count, "image is" if count == 1 else "images are", LEAST_IMAGES),
            )

    def _save(self) -> None:
        if self.ranks.first:
            save_state(self.folder, self.recipe, self.position, self.weights, self.run.start, self.captions)

    def _export(self) -> None:
        """Write the checkpoint folder, from the float32 masters where the recipe wants more than bfloat16."""
        if not self.ranks.first:
            return
        run, dtype = self.run, getattr(torch, self.recipe.save_dtype)
        network = run.network
        if dtype != next(network.parameters()).dtype:
            network = copy.deepcopy(network).float()
            network.load_state_dict(self.weights.weights())
        save_checkpoint(network, run.out, image_processor=run.processor, tokenizer=run.tokenizer, dtype=dtype)
        started_from = run.start.partition(" (")[0]
        heads = heads_in(hub_tensors(network))
        write_card(run.out, network.config, heads, base_model=started_from, metrics=self.metrics, data=run.data)


@contextlib.contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Hold Ctrl-C back, so that no update is torn; yields whether it came. A second one is not held back.

    Only the main thread may listen; elsewhere the answer is always no.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came = []
    before = signal.getsignal(signal.SIGINT)

    def note(*_: object) -> None:
        came.append(True)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, before)


def diverged(step: int, what: str) -> BadConfig:
    """The error of a run whose numbers have left the finite ones."""
    return BadConfig(f"step {step}: {what}; a lower learning rate or a longer warm-up may help")


def settle_steps(recipe: Recipe, captions: int, world: int) -> Recipe:
    """The recipe with epochs turned into steps. Raises BadConfig where the source has no end to count epochs by, or
    where the ranks can't share a batch evenly."""
    stages = []
    for stage in recipe.stages:
        if stage.batch % world:
            raise BadConfig(f"stage {stage.name}: a batch of {stage.batch} can't be shared evenly by {world} processes")
        if not stage.steps:
            if not captions:
                raise BadConfig(f"stage {stage.name}: scenes have no epochs; give steps")
            a_step = stage.batch * stage.accumulate
            stage = replace(stage, steps=max(1, round(stage.epochs * captions / a_step)))
        stages.append(stage)
    return replace(recipe, stages=tuple(stages))


def dropout_of(network: torch.nn.Module) -> dict[tuple[str, str], float]:
    """The shares that a network drops, attention maps' too: (module's name, attribute) -> share."""
    return {
        (name, attribute): getattr(module, attribute)
        for name, module in network.named_modules()
        for attribute in (("p",) if isinstance(module, torch.nn.Dropout) else ("map_dropout",))
        if hasattr(module, attribute)
    }


def set_dropout(network: torch.nn.Module, shares: Mapping[tuple[str, str], float]) -> None:
    """Make the network drop these shares, named as by :func:`dropout_of`."""
    for (name, attribute), share in shares.items():
        setattr(network.get_submodule(name), attribute, share)
