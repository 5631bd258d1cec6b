"""Score a model on a split, during training or afterwards."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from metaprompts.tasks.protocol import Predictor, with_context
from metaprompts.utils.torch_modules import eval_mode

if TYPE_CHECKING:
    from metaprompts.tasks.protocol import EvaluationProtocol


@torch.no_grad()
def evaluate(
    model: Predictor,
    batches: Iterable[dict[str, Tensor]],
    *,
    metric_kwargs: dict[str, Any],
    test: "EvaluationProtocol | None" = None,
    on_batch: Callable[[int], None] = lambda images: None,
    gather: Callable[[Any], list[Any]] = lambda state: [state],
) -> dict[str, Any]:
    """Predict every batch and score the whole split.

    Args:
        model: set to evaluation mode, and restored afterwards
        batches: batches of a DataLoader over `Transformed`, or `seen_batches` if ``test`` crops or scales
        metric_kwargs: arguments of the task's metric, see `Task.metric`
        test: the test protocol; None to predict each image once
        on_batch: called with the number of images after each batch
        gather: gathers the counts of all processes, if several share the split

    Returns:
        the metric's numbers by name
    """
    metric = model.task.metric(**metric_kwargs, **(test.metric_kwargs() if test else {}))
    with eval_mode(model):
        for batch in batches:
            model.task.score(metric, predict(model, batch, test), targets(batch))
            on_batch(len(batch["image"]))
    states = gather(metric.state())
    metric.reset()
    for state in states:
        metric.add(state)
    scores: dict[str, Any] = metric.scores()
    return scores


def predict(model: Predictor, batch: Mapping[str, Tensor], test: "EvaluationProtocol | None") -> Tensor:
    """The raw output of a batch for scoring, on the CPU: metrics sum in float64, which some devices lack.

    Args:
        model: the model, in evaluation mode
        batch: tensors on any device
        test: the test protocol; None to predict each image once
    """
    moved = {name: tensor.to(model.device) for name, tensor in batch.items()}
    raw = with_context(model, moved)(moved["image"]) if test is None else test.predict(model, moved)
    return raw.float().cpu()


def targets(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a batch other than the model's input, on the CPU."""
    inputs = ("image", "context")
    return {name: each.cpu() for name, each in batch.items() if name not in inputs and not name.startswith("image@")}
