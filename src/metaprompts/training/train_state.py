"""The state of a run: weights, optimizer moments, weight averages and validations."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.batch_norm import configure_batch_norm
from metaprompts.training.batch_plan import BatchPlan
from metaprompts.training.distributed import DistributedContext
from metaprompts.training.ema import WeightAverage
from metaprompts.training.fsdp import (
    full_tensor,
    load_model_state,
    load_optimizer_state,
    model_state,
    optimizer_state,
    shard_like,
    summon_full_params,
)
from metaprompts.training.optimizer import make_optimizer
from metaprompts.training.train_step import LossModule
from metaprompts.utils.checkpoint_files import check_moments, check_parts, check_tensors


@dataclass
class History:
    """The validations of a run so far; stored in metrics.json. The losses are in log.jsonl.

    Attributes:
        validations: "step" and the metric's values, for each validation
        best: the best validation
    """

    validations: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None


class TrainState:
    """A model in training, with its optimizer.

    Args:
        model: the weights, or this process's shards of them
        optimizer: the optimizer with its moments
        average: the running average of the weights, if the run keeps one

    Attributes:
        model, optimizer, average: as given
        step: optimizer steps taken
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None) -> None:
        self.model, self.optimizer, self.average = model, optimizer, average
        self.step = 0

    def after_step(self) -> None:
        """Count an optimizer step."""
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)

    def tensors(self) -> dict[str, Tensor]:
        """The model's full tensors; all processes must call this, and rank 0 gets them."""
        return self.model.state_dict()

    def state(self) -> dict[str, Any]:
        """The weights, moments and averages for `load`; all processes must call this, and rank 0 gets them."""
        return {
            "model": self._stored(self.tensors()),
            "optimizer": optimizer_state(self.model, self._plain_optimizer),
            "average": {name: full_tensor(tensor) for name, tensor in self._averages.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state` returned.

        Raises:
            InputError: a part or a tensor is missing or has the wrong shape
        """
        check_parts(state, ("model", "optimizer", "average"))
        check_tensors(state["model"], self._stored(self.model.state_dict()), "model")
        check_moments(state["optimizer"], {n: each for n, each in self.model.named_parameters() if each.requires_grad})
        check_tensors(state["average"], self._averages, "average")
        # The state has been checked to hold all stored tensors, so only the others may be missing.
        load_model_state(self.model, state["model"])
        load_optimizer_state(self.model, self._plain_optimizer, state["optimizer"])
        if self.average is not None:
            kept = self._averages
            self.average.load({name: shard_like(tensor, kept[name]) for name, tensor in state["average"].items()})

    def _stored(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors that a checkpoint stores."""
        return dict(tensors)

    @property
    def _averages(self) -> dict[str, Tensor]:
        return {} if self.average is None else self.average.state()

    @property
    def _plain_optimizer(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return optimizer


class RunState(TrainState):
    """The state of a recipe's run.

    Args:
        model: initial model, the same in every process
        recipe: the run's recipe
        dist: the processes of the run
        split: how a step is split over processes and passes

    Attributes:
        recipe, dist, split: as given
        one_pass: computes the losses of a batch
        history: the validations so far
        validation_due: whether the validation after this step is still pending
        is_finished: whether an earlier call has taken all requested steps or has stopped early
    """

    model: MetaPromptModel

    def __init__(self, model: MetaPromptModel, recipe: Recipe, dist: DistributedContext, split: BatchPlan) -> None:
        settings = recipe.training
        self.recipe, self.dist, self.split = recipe, dist, split
        configure_batch_norm(model, settings.batch_norm)
        dist.shard(model)
        one_pass = LossModule(model, split.loss_batch, dist.autocast, settings.step_decay)
        if settings.compile:
            one_pass.compile()
        self.one_pass: nn.Module = dist.wrap_ddp(one_pass)
        optimizer = dist.prepare_optimizer(make_optimizer(model, recipe.optimizer))
        decay = settings.ema_decay
        super().__init__(model, optimizer, None if decay is None else WeightAverage(model, decay))
        self.history = History()
        self.validation_due = False
        self.is_finished = False

    def ema_weights(self) -> AbstractContextManager[None]:
        """While the body runs, the model has its averaged (EMA) weights, if the run keeps them."""
        return nullcontext() if self.average is None else self.average.in_place()

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """While the body runs, the model can be called without the other processes."""
        with summon_full_params(self.model), self.dist.autocast():
            yield

    def tensors(self) -> dict[str, Tensor]:
        """The model's full tensors; all processes must call this, and rank 0 gets them."""
        return model_state(self.model) if self.dist.shards else self.model.state_dict()

    def state(self) -> dict[str, Any]:
        """The full state without the history, for `load`; all processes must call this, and rank 0 gets it."""
        scaler = self.dist.accelerator.scaler
        scales = None if scaler is None else scaler.state_dict()
        return {**super().state(), "scaler": scales, "validation_due": self.validation_due}

    def load(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state` returned, as `TrainState.load` does."""
        check_parts(state, ("model", "optimizer", "average", "scaler", "validation_due"))
        super().load(state)
        if state["scaler"] is not None and self.dist.accelerator.scaler is not None:
            self.dist.accelerator.scaler.load_state_dict(state["scaler"])
        self.validation_due = state["validation_due"]

    def _stored(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # A frozen base is not stored.
        return self.model.own_tensors(tensors)
