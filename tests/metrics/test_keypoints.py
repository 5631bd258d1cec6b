import contextlib
import copy
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from metaprompts.errors import InputError
from metaprompts.metrics.oks_nms import COCO_SIGMAS, KEYPOINT_SCORES
from metaprompts.metrics.pose import KeypointScores, PercentageCorrectKeypoints

POSE = Path(__file__).parents[2].parent / "shared" / "data" / "pose" / "annotations"
LSP_SIGMAS = tuple(np.linspace(0.03, 0.1, 14))


def annotated(generator, images, joints):
    """COCO annotations: 0 to 3 people an image, of all sizes, some crowds, some with no joint labeled."""
    annotations = []
    for image_id in range(1, images + 1):
        for _ in range(generator.integers(0, 4)):
            side = generator.choice([20, 50, 90, 150])
            corner = generator.uniform(0, 300, 2)
            points = corner + generator.uniform(0, side, (joints, 2))
            seen = generator.choice([0, 1, 2], joints) * (generator.random() > 0.15)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [*corner.tolist(), float(side), float(side)],
                    "area": 0.6 * side**2,
                    "iscrowd": int(generator.random() < 0.15),
                    "num_keypoints": int((seen > 0).sum()),
                    "keypoints": np.column_stack([points, seen]).ravel().tolist(),
                }
            )
    return {
        "images": [{"id": image_id, "width": 500, "height": 500} for image_id in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": [str(j) for j in range(joints)], "skeleton": []}],
    }


def predictions(generator, truth, joints, images):
    """Noisy copies of the annotated people (up to three of each, with tied scores), and people that are not there."""
    people = []
    for annotation in truth["annotations"]:
        points = np.array(annotation["keypoints"]).reshape(-1, 3)[:, :2]
        for _ in range(generator.integers(0, 4)):
            noise = generator.choice([0, 0.02, 0.1]) * annotation["bbox"][2]
            people.append((annotation["image_id"], points + generator.normal(0, 1, points.shape) * noise))
    for _ in range(images):
        people.append((int(generator.integers(1, images + 1)), generator.uniform(0, 400, (joints, 2))))
    return (
        torch.tensor([image_id for image_id, _ in people]),
        torch.tensor(np.array([points for _, points in people])).float(),
        torch.tensor(generator.choice([0.1, 0.5, 0.75], (len(people), joints))).float(),
        torch.tensor(generator.choice([0.25, 0.5, 1.0], len(people))).float(),
        torch.tensor(generator.uniform(500, 5000, len(people))).float(),
    )


def official(truth, results, sigmas):
    cocotools = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        annotations = cocotools.COCO()
        annotations.dataset = copy.deepcopy(truth)
        annotations.createIndex()
        evaluation = COCOeval(annotations, annotations.loadRes(copy.deepcopy(results)), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(KEYPOINT_SCORES, evaluation.stats.tolist(), strict=True))


def one_person(offset=0.0, joints=17):
    generator = np.random.default_rng(0)
    truth = annotated(generator, 1, joints)
    points = generator.uniform(0, 100, (joints, 2))
    truth["annotations"] = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [0, 0, 100, 100],
            "area": 5000.0,
            "iscrowd": 0,
            "num_keypoints": joints,
            "keypoints": np.column_stack([points, np.full(joints, 2)]).ravel().tolist(),
        }
    ]
    return truth, torch.tensor(points + offset)[None].float()


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_pycocotools(seed):
    generator = np.random.default_rng(seed)
    sigmas = COCO_SIGMAS if seed % 2 else LSP_SIGMAS
    truth = annotated(generator, 12, len(sigmas))
    rows = predictions(generator, truth, len(sigmas), 12)
    scores = KeypointScores(truth, sigmas)
    before = copy.deepcopy(truth)
    for first in range(0, len(rows[0]), 7):
        scores.update(*(column[first : first + 7] for column in rows))
    result = scores.scores()
    assert truth == before
    assert result == pytest.approx(official(truth, scores.results(), sigmas), abs=1e-6)
    assert 0.05 < result["AP"] < 0.95


def test_scores_of_one_file_equal_those_of_the_dict(tmp_path):
    truth, points = one_person()
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    scores = KeypointScores(path, COCO_SIGMAS)
    scores.update(torch.tensor([1]), points, torch.ones(1, 17), torch.ones(1), torch.tensor([5000.0]))
    assert scores.scores() == pytest.approx(
        dict.fromkeys(KEYPOINT_SCORES, 1.0) | {"APL": -1, "ARL": -1}  # 5000 square pixels are of medium size
    )


@pytest.mark.parametrize("key", ["iscrowd", "area", "num_keypoints", "category_id"])
def test_what_an_annotation_lacks_is_filled_in(key):
    """It was a KeyError: many files of one's own have none."""
    generator = np.random.default_rng(4)
    truth = annotated(generator, 12, 17)
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = 0
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    rows = predictions(generator, truth, 17, 12)
    without = copy.deepcopy(truth)
    for annotation in without["annotations"]:
        del annotation[key]
    found = []
    for each in (truth, without):
        scores = KeypointScores(each)
        scores.update(*rows)
        found.append(scores.scores())
    assert found[1] == pytest.approx(found[0], abs=1e-9)
    assert found[0]["AP"] > 0.05


@pytest.mark.parametrize("ids", [lambda number: number, lambda number: 5, lambda number: -number])
def test_the_ids_of_annotations_do_not_matter(ids):
    """COCO's evaluation takes id 0 for nobody: the first person of files that count from 0 was never found."""
    generator = np.random.default_rng(3)
    truth = annotated(generator, 12, 17)
    truth["annotations"][0].update(iscrowd=0, num_keypoints=17)
    truth["annotations"][0]["keypoints"][2::3] = [2] * 17
    rows = predictions(generator, truth, 17, 12)
    others = copy.deepcopy(truth)
    for number, annotation in enumerate(others["annotations"]):
        annotation["id"] = ids(number)
    rows[1][0] = torch.tensor(truth["annotations"][0]["keypoints"]).view(17, 3)[:, :2]
    scores = KeypointScores(others)
    scores.update(*rows)
    found = scores.scores()
    assert found == pytest.approx(official(truth, scores.results(), COCO_SIGMAS), abs=1e-6)
    assert found["AP"] > 0.05


@pytest.mark.parametrize("passed_over", [{"iscrowd": 1}, {"num_keypoints": 0}])
def test_crowds_without_keypoints_are_passed_over(passed_over):
    """They stopped the evaluation, although COCO's own files have such crowds."""
    generator = np.random.default_rng(5)
    truth = annotated(generator, 12, 17)
    rows = predictions(generator, truth, 17, 12)
    without, zeros = copy.deepcopy(truth), copy.deepcopy(truth)
    for annotation, same in zip(without["annotations"][::4], zeros["annotations"][::4], strict=True):
        annotation.update(passed_over)
        same.update(passed_over, keypoints=[0] * 51, num_keypoints=0)
        del annotation["keypoints"]
    scores = KeypointScores(without)
    scores.update(*rows)
    found = scores.scores()
    assert found == pytest.approx(official(zeros, scores.results(), COCO_SIGMAS), abs=1e-6)
    assert found["AP"] > 0.05


def test_people_of_another_category_number_are_scored():
    """Predictions were always of category 1: in a file that calls people 7 nobody was found."""
    truth, points = one_person()
    truth["categories"][0]["id"] = truth["annotations"][0]["category_id"] = 7
    truth["categories"].append({"id": 8, "name": "cat"})
    truth["annotations"].append({"id": 2, "image_id": 1, "category_id": 8, "bbox": [0, 0, 9, 9], "area": 81.0})
    scores = KeypointScores(truth)
    scores.update(torch.tensor([1]), points, torch.ones(1, 17), torch.ones(1), torch.ones(1))
    assert scores.scores()["AP"] == pytest.approx(1)
    assert [entry["category_id"] for entry in scores.results()] == [7]


@pytest.mark.parametrize("area", [0, -1.0, None])
def test_an_area_of_nothing_is_the_boxs(area):
    """With "area": 0 every similarity was 0, and so was AP."""
    generator = np.random.default_rng(4)
    truth = annotated(generator, 12, 17)
    for annotation in truth["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    without = copy.deepcopy(truth)
    for annotation in without["annotations"]:
        annotation["area"] = area
    rows = predictions(generator, truth, 17, 12)
    found = []
    for each in (truth, without):
        scores = KeypointScores(each)
        scores.update(*rows)
        found.append(scores.scores())
    assert found[1] == found[0]
    assert found[0]["AP"] > 0.05


def test_categories_with_the_same_joints_are_scored_as_one():
    """Only the first of them was read, and scored: of four animals one."""
    truth, points = one_person()
    truth["categories"] = [{"id": 3, "name": "x"}, *({**truth["categories"][0], "id": number} for number in (5, 6))]
    truth["annotations"] = [{**truth["annotations"][0], "id": number, "category_id": number} for number in (5, 6)]
    truth["images"] = [{"id": 1}, {"id": 2}]
    truth["annotations"][1]["image_id"] = 2
    scores = KeypointScores(truth)
    scores.update(torch.tensor([1, 2]), points.repeat(2, 1, 1), torch.ones(2, 17), torch.ones(2), torch.ones(2))
    assert scores.scores()["AR"] == pytest.approx(1)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nobody_predicted_scores_zero():
    truth, _ = one_person()
    assert KeypointScores(truth).scores()["AP"] == 0


def test_nobody_annotated_scores_minus_one():
    truth, points = one_person()
    truth["annotations"] = []
    scores = KeypointScores(truth)
    scores.update(torch.tensor([1]), points, torch.ones(1, 17), torch.ones(1), torch.ones(1))
    assert scores.scores() == dict.fromkeys(KEYPOINT_SCORES, -1.0)


def test_average_precision_by_hand():
    """A uniform offset of d pixels gives one similarity; AP is the share of the ten thresholds it reaches."""
    sigmas = (0.05,) * 17
    truth, points = one_person(offset=3.0)
    scores = KeypointScores(truth, sigmas)
    scores.update(torch.tensor([1]), points, torch.ones(1, 17), torch.ones(1), torch.ones(1))
    similarity = math.exp(-(3**2 + 3**2) / (2 * 5000 * (2 * 0.05) ** 2))  # 0.835: 0.50, 0.55 ... 0.80 are reached
    result = scores.scores()
    assert 0.80 < similarity < 0.85
    assert (result["AP"], result["AP50"], result["AR75"]) == pytest.approx((0.7, 1, 1))


def test_final_score_is_box_score_times_mean_of_clear_joints():
    truth, points = one_person()
    joint_scores = torch.tensor([[0.9, 0.5, 0.2, 0.1] + [0.0] * 13])
    scores = KeypointScores(truth)
    scores.update(torch.tensor([1]), points, joint_scores, torch.tensor([0.5]), torch.ones(1))
    scores.update(torch.tensor([1]), points, torch.zeros(1, 17), torch.tensor([0.5]), torch.ones(1))
    assert [entry["score"] for entry in scores.results()] == pytest.approx([0.5 * (0.9 + 0.5) / 2, 0])


def test_doubles_are_removed_only_within_a_image():
    truth, points = one_person()
    truth["images"].append({"id": 2, "width": 9, "height": 9})
    scores = KeypointScores(truth, nms_threshold=0.9)
    rows = points.repeat(3, 1, 1), torch.ones(3, 17), torch.tensor([0.5, 0.9, 0.7]), torch.full((3,), 5000.0)
    scores.update(torch.tensor([1, 1, 2]), *rows)
    kept = [(entry["image_id"], round(entry["score"], 3)) for entry in scores.results()]
    assert kept == [(1, 0.9), (2, 0.7)]


def test_reset_forgets():
    truth, points = one_person()
    scores = KeypointScores(truth)
    scores.update(torch.tensor([1]), points, torch.ones(1, 17), torch.ones(1), torch.ones(1))
    scores.reset()
    assert scores.results() == []


def test_nonsense_is_refused():
    truth, points = one_person()
    with pytest.raises(InputError, match=r"keypoints has 51 numbers; expected 42: .* of 14 joints"):
        KeypointScores(truth, LSP_SIGMAS)
    with pytest.raises(InputError, match="the keypoint annotations has no list 'annotations'"):
        KeypointScores({"images": []})
    with pytest.raises(InputError, match="has no categories"):
        KeypointScores({"images": [], "annotations": [], "categories": []})
    scores = KeypointScores(truth)
    with pytest.raises(InputError, match="expected \\(1,17,2\\)"):
        scores.update(torch.tensor([1]), points[:, :14], torch.ones(1, 14), torch.ones(1), torch.ones(1))
    scores.update(torch.tensor([77]), points, torch.ones(1, 17), torch.ones(1), torch.ones(1))
    with pytest.raises(InputError, match="image id 77"):
        scores.scores()


def test_pck_by_hand():
    """Box 40 x 100: 20 pixels are allowed. Of four joints one is unlabeled, one exactly at 20, one just beyond."""
    target = torch.tensor([[[0.0, 0, 2], [50, 50, 1], [90, 90, 2], [0, 0, 0]]])
    predicted = torch.tensor([[[12.0, 16], [50, 50], [90, 110.1], [0, 0]]])
    scores = PercentageCorrectKeypoints()
    scores.update(predicted, target, torch.tensor([[0.0, 0, 40, 100]]))
    assert scores.scores() == pytest.approx({"pck@0.2": 2 / 3})


def test_pck_of_nothing_labeled_is_nan():
    scores = PercentageCorrectKeypoints()
    scores.update(torch.zeros(1, 3, 2), torch.zeros(1, 3, 3), torch.ones(1, 4))
    assert math.isnan(scores.scores()["pck@0.2"])


def test_pck_refuses_boxes_of_other_people():
    with pytest.raises(InputError, match="expected \\(B,J,2\\)"):
        PercentageCorrectKeypoints().update(torch.zeros(2, 3, 2), torch.zeros(2, 3, 3), torch.ones(1, 4))


def people_of(split):
    annotations = json.loads((POSE / f"person_keypoints_{split}_coco17.json").read_text())["annotations"]
    joints = torch.tensor([annotation["keypoints"] for annotation in annotations]).double().view(-1, 17, 3)
    return joints, torch.tensor([annotation["bbox"] for annotation in annotations]).double()


@pytest.mark.skipif(not POSE.exists(), reason="the small pose data set is not next to this checkout")
def test_pck_of_the_mean_pose():
    """The mean of the training poses in units of their boxes: what a model must beat."""
    joints, boxes = people_of("train")
    seen = joints[..., 2:] > 0
    relative = (joints[..., :2] - boxes[:, None, :2]) / boxes[:, None, 2:]
    mean = (relative * seen).sum(0) / seen.sum(0).clamp_min(1)
    joints, boxes = people_of("val")
    scores = PercentageCorrectKeypoints()
    scores.update(boxes[:, None, :2] + mean * boxes[:, None, 2:], joints, boxes)
    assert scores.scores()["pck@0.2"] == pytest.approx(0.361, abs=5e-4)
