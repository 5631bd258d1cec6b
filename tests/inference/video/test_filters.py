from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from metaprompts.inference.video.dense_filter import DenseFilter, Flow, gray_of, warped
from metaprompts.inference.video.tracks import OneEuroFilter, PoseTracks
from metaprompts.tasks.predictions import PersonPose, PosePrediction


def texture(seed: int = 0, height: int = 96, width: int = 160) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 3)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def shifted(image: np.ndarray, x: int, y: int) -> np.ndarray:
    return np.roll(image, (y, x), axis=(0, 1))


def test_flow_of_a_shifted_texture_leads_back():
    before = texture()
    flow = Flow.between(gray_of(before, (96, 160)), gray_of(shifted(before, 3, 2), (96, 160)))
    inside = np.s_[12:-12, 12:-12]
    np.testing.assert_allclose(np.median(flow.steps[inside], axis=(0, 1)), [-3, -2], atol=0.1)
    assert flow.known[inside].mean() > 0.95
    assert not flow.is_cut


def test_other_scenes_are_cuts():
    assert Flow.between(gray_of(texture(0), (96, 160)), gray_of(texture(1), (96, 160))).is_cut


def test_warped_values_are_found_at_the_step():
    values = torch.arange(12.0).reshape(1, 3, 4)
    steps = torch.zeros(3, 4, 2)
    steps[..., 0] = 1
    assert warped(values, steps)[0].tolist() == [[1, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]]
    steps[0, 0] = torch.tensor([0.5, 1.0])
    assert warped(values, steps)[0, 0, 0] == pytest.approx(4.5)


def flickering(count: int) -> list[tuple[np.ndarray, torch.Tensor]]:
    """A scene at 2 to 3 meters under a moving camera, predicted with noise of 2 %."""
    rng = np.random.default_rng(2)
    scene, depth = texture(), np.linspace(2, 3, 160)[None].repeat(96, axis=0)
    return [
        (
            shifted(scene, 2 * number, 0),
            torch.from_numpy(shifted(depth, 2 * number, 0) * np.exp(rng.normal(0, 0.02, (96, 160)))).float()[None],
        )
        for number in range(count)
    ]


def test_depth_that_flickers_is_averaged_where_the_flow_leads():
    steady, errors = DenseFilter("depth"), []
    for number, (image, raw) in enumerate(flickering(8)):
        truth = torch.from_numpy(shifted(np.linspace(2, 3, 160)[None].repeat(96, axis=0), 2 * number, 0)).float()
        inside = np.s_[8:-8, 24:-24]
        found, noisy = ((each[0] / truth).log()[inside].std().item() for each in (steady(image, raw), raw))
        errors.append(found / noisy)
    # An average with weight 0.7 on the past has 0.42 of the noise in the end; it moves in whole pixels.
    assert errors[0] == pytest.approx(1)
    assert errors[-1] < 0.55


def test_nothing_is_averaged_over_a_cut():
    steady = DenseFilter("depth")
    steady(texture(0), torch.full((1, 96, 160), 2.0))
    after = steady(texture(1), torch.full((1, 96, 160), 5.0))
    torch.testing.assert_close(after, torch.full((1, 96, 160), 5.0))


def test_a_change_of_size_starts_anew():
    steady = DenseFilter("segmentation")
    steady(texture(0), torch.zeros(3, 96, 160))
    logits = torch.randn(3, 64, 80, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(steady(texture(0), logits).softmax(0), logits.softmax(0))


def test_classes_are_averaged_as_probabilities():
    """One doubtful frame does not flip the class of a pixel that was certain before."""
    steady, image = DenseFilter("segmentation"), texture()
    certain, doubtful = torch.tensor([0.9, 0.1]).log(), torch.tensor([0.45, 0.55]).log()
    steady(image, certain[:, None, None].expand(2, 96, 160))
    shares = steady(image, doubtful[:, None, None].expand(2, 96, 160)).softmax(dim=0)
    # 0.7 of the past, less for the difference of 0.45 of 0.5: 0.7 exp(-0.81) = 0.3114.
    torch.testing.assert_close(
        shares[:, 50, 80], torch.tensor([0.45 + 0.3114 * 0.45, 0.55 - 0.3114 * 0.45]), atol=1e-3, rtol=0
    )


def test_one_euro_by_hand():
    """At rest cutoff 1 Hz at 10 Hz: share 2 pi 0.1 / (2 pi 0.1 + 1) = 0.385870."""
    smooth = OneEuroFilter(min_cutoff_hz=1.0, beta=0.0)
    found = [float(smooth(np.array([value]), 0.1)[0]) for value in (1.0, 2.0, 2.0)]
    np.testing.assert_allclose(found, [1.0, 1.385870, 1.622844], atol=1e-6)


def test_one_euro_is_quicker_in_motion():
    """Speed 10 a second, filtered 3.85870; cutoff 1 + 0.5 * 3.85870 = 2.92935 Hz; share 0.647957."""
    smooth = OneEuroFilter(min_cutoff_hz=1.0, beta=0.5)
    smooth(np.array([1.0]), 0.1)
    np.testing.assert_allclose(smooth(np.array([2.0]), 0.1), [1.647957], atol=1e-6)


def person(left: float, jitter: float = 0.0) -> PersonPose:
    joints = np.array([[left + 5 + jitter, 10], [left + 10, 30]], np.float32)
    return PersonPose(keypoints=joints, scores=np.ones(2, np.float32), box_xywh=(left, 0, 20, 40), score=1.0)


def pose(*people: PersonPose) -> PosePrediction:
    return PosePrediction(
        people=people, joints=("nose", "left_hip"), skeleton=(), image=np.zeros((50, 200, 3), np.uint8)
    )


def at(number: int) -> Fraction:
    return Fraction(number, 25)


def test_people_keep_their_numbers_when_their_order_changes():
    tracks = PoseTracks()
    tracks(pose(person(0), person(100)), at(0))
    assert tracks.numbers == (1, 2)
    tracks(pose(person(102), person(2), person(160)), at(1))
    assert tracks.numbers == (2, 1, 3)


def test_a_person_hidden_for_a_moment_is_the_same_and_later_a_new_one():
    tracks = PoseTracks()
    tracks(pose(person(0)), at(0))
    tracks(pose(), at(1))
    tracks(pose(person(1)), at(10))
    assert tracks.numbers == (1,)
    tracks(pose(person(1)), at(60))
    assert tracks.numbers == (2,)


def test_jitter_is_smoothed_and_off_means_off():
    noise = np.random.default_rng(0).normal(0, 1, 40)
    steady, plain = PoseTracks(), PoseTracks(smooths=False)
    smooth, raw = (
        np.array(
            [
                tracks(pose(person(0, jitter)), at(number)).people[0].keypoints[0, 0]
                for number, jitter in enumerate(noise)
            ]
        )
        for tracks in (steady, plain)
    )
    np.testing.assert_allclose(raw, 5 + noise, atol=1e-5)
    assert np.abs(np.diff(smooth)).mean() < 0.75 * np.abs(np.diff(raw)).mean()
