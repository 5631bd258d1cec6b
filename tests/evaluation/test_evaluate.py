import numpy as np
import pytest
import torch

from metaprompts.evaluation.evaluate import evaluate
from slow import slow_except
from small import small_model


def batches(count=2, size=(64, 64)):
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.rand(2, 3, 64, 64, generator=generator),
            "depth_m": 1 + torch.rand(2, *size, generator=generator),
            "labels": torch.randint(0, 2, (2, *size), generator=generator),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("task", ["depth", "segmentation"])
@pytest.mark.parametrize("training", slow_except([False, True], True))
def test_the_model_is_judged_in_evaluation_mode_and_given_back_as_it_was(task, training):
    model = small_model(task).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = []
    scores = evaluate(model, batches(), metric_kwargs={}, on_batch=seen.append)
    assert seen == [2, 2]
    assert model.training == training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert scores == evaluate(model.eval(), batches(), metric_kwargs={})


def test_depth_is_compared_at_the_size_of_the_measurement():
    """Per image: the mean over both of each one's root of the mean square."""
    model = small_model("depth")
    given = batches(1, size=(48, 80))
    with torch.inference_mode():
        depth_m = torch.nn.functional.interpolate(model(given[0]["image"]), size=(48, 80), mode="bilinear")[:, 0]
    expected = (depth_m - given[0]["depth_m"]).square().mean(dim=(1, 2)).sqrt().mean()
    assert evaluate(model, given, metric_kwargs={})["rmse"] == pytest.approx(expected.item(), rel=1e-5)


def test_segmentation_counts_labels_of_another_size():
    model = small_model("segmentation")
    given = batches(2, size=(40, 40))
    matrix = np.zeros((2, 2))
    for batch in given:
        with torch.inference_mode():
            logits = torch.nn.functional.interpolate(model(batch["image"]), size=(40, 40), mode="bilinear")
        np.add.at(matrix, (batch["labels"].numpy().ravel(), logits.argmax(dim=1).numpy().ravel()), 1)
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    assert evaluate(model, given, metric_kwargs={})["mIoU"] == pytest.approx((matrix.diagonal() / union).mean())


def test_a_failing_batch_leaves_the_model_in_its_mode():
    model = small_model("depth").train()
    with pytest.raises(KeyError):
        evaluate(model, [{"image": torch.rand(1, 3, 64, 64)}], metric_kwargs={})
    assert model.training
