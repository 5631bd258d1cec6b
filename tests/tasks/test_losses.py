import itertools
import math

import pytest
import torch

from metaprompts.tasks.depth import Depth, gradient_matching, silog
from metaprompts.tasks.segmentation_losses import lovasz_softmax, mean_cross_entropy


def jaccard_loss(truth, missed):
    """1 - |truth and prediction| / |truth or prediction| where exactly the missed pixels are predicted wrongly."""
    prediction = {pixel for pixel in range(len(truth)) if (pixel in missed) != truth[pixel]}
    right = {pixel for pixel in range(len(truth)) if truth[pixel]}
    union = right | prediction
    return 1 - len(right & prediction) / len(union) if union else 0.0


def lovasz_by_definition(truth, errors):
    """Lovasz extension as an integral: the set function's mean over all thresholds of the error in [0, 1]."""
    levels = sorted({0.0, *errors})
    return sum(
        (high - low) * jaccard_loss(truth, {pixel for pixel, error in enumerate(errors) if error >= high})
        for low, high in itertools.pairwise(levels)
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ignored", [0, 4])
def test_lovasz_is_the_mean_over_present_classes_of_the_definition(seed, ignored):
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.randn(2, 4, 2, 3, generator=generator).softmax(dim=1).double()
    labels = torch.randint(0, 3, (2, 2, 3), generator=generator)
    labels.view(-1)[torch.randperm(12, generator=generator)[:ignored]] = 255
    kept = [
        (probabilities[b, :, y, x].tolist(), int(labels[b, y, x]))
        for b, y, x in itertools.product(range(2), range(2), range(3))
        if labels[b, y, x] != 255
    ]
    per_class = []
    for index in sorted({label for _, label in kept}):
        truth = [label == index for _, label in kept]
        errors = [abs((label == index) - scores[index]) for scores, label in kept]
        per_class.append(lovasz_by_definition(truth, errors))
    got = lovasz_softmax(probabilities, labels)
    assert got.item() == pytest.approx(sum(per_class) / len(per_class), abs=1e-12)


def test_lovasz_of_hard_predictions_is_the_jaccard_loss():
    """Right labels cost 0; of two classes over four pixels, one pixel wrong: 1 - 1/2 and 1 - 2/3."""
    labels = torch.tensor([[[0, 0, 1, 1]]])
    right = torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float()
    assert lovasz_softmax(right, labels) == 0
    assert lovasz_softmax(1 - right, labels) == 1
    wrong = torch.nn.functional.one_hot(torch.tensor([[[0, 1, 1, 1]]]), 2).movedim(-1, 1).float()
    assert lovasz_softmax(wrong, labels).item() == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_lovasz_of_nothing_is_zero_with_zero_gradient():
    scores = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = lovasz_softmax(scores.softmax(dim=1), torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss == 0
    assert torch.equal(scores.grad, torch.zeros_like(scores))


def test_cross_entropy_counts_ignored_pixels_in_the_mean():
    """Two classes, logits ln 3 apart: the right class costs -ln 3/4, the wrong one -ln 1/4; two of four are ignored."""
    logits = torch.zeros(1, 2, 1, 4)
    logits[:, 0] = math.log(3)
    labels = torch.tensor([[[0, 1, 255, 255]]])
    expected = (math.log(4 / 3) + math.log(4)) / 4
    assert mean_cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_of_nothing_is_zero():
    logits = torch.randn(1, 2, 1, 4, requires_grad=True)
    loss = mean_cross_entropy(logits, torch.full((1, 1, 4), 255))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("variance_focus", [0.0, 0.5, 0.85, 1.0])
def test_silog_by_hand(variance_focus):
    """Logarithms of target over prediction are 0, ln 2 and -ln 4; the pixel without a target does not count."""
    target = torch.tensor([1.0, 2.0, 1.0, 0.0])
    predicted = torch.tensor([1.0, 1.0, 4.0, 7.0])
    d = [0, math.log(2), -math.log(4)]
    expected = math.sqrt(sum(x * x for x in d) / 3 - variance_focus * (sum(d) / 3) ** 2)
    assert silog(predicted, target, variance_focus=variance_focus).item() == pytest.approx(expected, rel=1e-6)


def test_silog_with_full_focus_ignores_a_wrong_scale():
    target = torch.rand(50, generator=torch.Generator().manual_seed(0)) + 0.5
    assert silog(target * 3, target, variance_focus=1.0) < 1e-3
    assert silog(target * 3, target, variance_focus=0.0).item() == pytest.approx(math.log(3), rel=1e-5)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_silog_has_finite_gradients_where_all_errors_agree(factor):
    """The root's slope is infinite at 0, and rounding takes the difference below it."""
    target = torch.rand(1000, generator=torch.Generator().manual_seed(0)) + 0.5
    predicted = (target * factor).requires_grad_()
    loss = silog(predicted, target, variance_focus=1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(predicted.grad).all()


def test_silog_of_nothing_is_zero_with_zero_gradient():
    predicted = torch.rand(4, requires_grad=True)
    loss = silog(predicted, torch.zeros(4), variance_focus=0.5)
    loss.backward()
    assert loss == 0
    assert torch.equal(predicted.grad, torch.zeros(4))


class TestDepthRange:
    predicted_m = torch.tensor([[[[2.0, 3.0, 4.0, 5.0]]]])

    def loss(self, target_m, **settings):
        task = Depth(max_depth_m=10, **settings)
        return task.losses(self.predicted_m, None, {"depth_m": torch.tensor(target_m).reshape(1, 1, 4)})["silog"].item()

    @pytest.mark.parametrize("sentinel", [10.0, 65.535, 1000.0, 1e-3])
    def test_what_is_not_scored_is_not_trained_on(self, sentinel):
        """65535 mm as "no measurement" was trained on but not scored: d1 fell from 0.995 to 0.069."""
        assert self.loss([1.0, 2.0, 3.0, sentinel]) == self.loss([1.0, 2.0, 3.0, 0.0])

    def test_the_released_rule(self):
        assert self.loss([1.0, 2.0, 3.0, 65.0], mask_out_of_range=False) == pytest.approx(
            silog(self.predicted_m.flatten(), torch.tensor([1.0, 2.0, 3.0, 65.0]), variance_focus=0.5).item()
        )


def test_gradients_match_where_only_the_scale_is_wrong():
    target = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)) + 1
    assert gradient_matching(3 * target, target).item() == pytest.approx(0, abs=1e-4)


def test_gradient_matching_by_hand():
    """d = ln p - ln t is 0 on the left and ln 2 on the right of a 4 x 4 map: of the 12 pairs side by side at step 1, 4
    differ by ln 2; at step 2, 2 of 2; above that one pixel a map has no neighbors. None differ up and down.
    """
    target = torch.ones(1, 4, 4)
    predicted = target.clone()
    predicted[..., 2:] = 2
    assert gradient_matching(predicted, target).item() == pytest.approx(math.log(2) * (4 / 12 + 2 / 2))


def test_gradient_matching_leaves_out_what_was_not_measured():
    target = torch.ones(1, 4, 4)
    target[..., 2:] = 0
    predicted = torch.ones(1, 4, 4, requires_grad=True)
    wild = predicted * torch.tensor([1.0, 1.0, 50.0, 0.1])
    loss = gradient_matching(wild, target)
    assert loss.item() == 0
    loss.backward()
    assert predicted.grad.isfinite().all()


def test_sky_is_trained_to_be_far():
    """The sky, which no sensor measures, was predicted to be the nearest thing: nothing ever said where it is."""
    task = Depth(max_depth_m=80.0)
    target = torch.tensor([[[10.0, torch.inf], [0.0, 20.0]]])
    right = torch.tensor([[[[10.0, 0.98 * 80], [3.0, 20.0]]]])
    near = torch.tensor([[[[10.0, 0.5], [3.0, 20.0]]]])
    assert task.losses(right, None, {"depth_m": target})["silog"].item() == pytest.approx(0, abs=1e-5)
    assert task.losses(near, None, {"depth_m": target})["silog"].item() > 1
    metric = task.metric()
    task.score(metric, near, {"depth_m": target})
    assert metric.scores()["rmse"] == 0
