import numpy as np

from metaprompts.data.sample import Person, Sample
from metaprompts.tasks import Depth, Pose, Segmentation
from metaprompts.tasks.drawing import shrunk

GRAY = np.full((40, 60, 3), 128, np.uint8)


def changed(drawn, image=GRAY):
    return (drawn[: image.shape[0]] != image).any(-1)


def test_classes_are_tinted_and_ignored_pixels_are_not():
    labels = np.full((40, 60), 255, np.uint8)
    labels[10:20, 10:30] = 1
    drawn = changed(Segmentation(classes=("a", "b")).draw_sample(Sample(image=GRAY, path="", labels=labels)))
    assert drawn[11:19, 11:29].all()
    assert not drawn[:9].any()


def test_depth_is_below_and_sparse_points_grow():
    depth_m = np.zeros((40, 60), np.float32)
    depth_m[20, 30] = 5
    drawn = Depth(max_depth_m=80).draw_sample(Sample(image=GRAY, path="", depth_m=depth_m))
    assert drawn.shape == (80, 60, 3)
    assert not changed(drawn).any()
    assert (drawn[40:] > 0).any(-1).sum() == 25


def test_the_nearer_of_two_points_covers_the_other():
    depth_m = np.zeros((40, 60), np.float32)
    depth_m[20, 30], depth_m[20, 32] = 5, 10
    below = Depth(max_depth_m=80).draw_sample(Sample(image=GRAY, path="", depth_m=depth_m))[40:].astype(int).sum(-1)
    assert (below[20, 28:33] == below[20, 28]).all()
    assert 0 < below[20, 34] < below[20, 28]


def test_dense_depth_keeps_its_holes():
    depth_m = np.ones((40, 60), np.float32)
    depth_m[20, 30] = 0
    below = Depth(max_depth_m=80).draw_sample(Sample(image=GRAY, path="", depth_m=depth_m))[40:]
    assert (below == 0).all(-1).sum() == 1


def test_person_with_box_and_joints():
    task = Pose(joints=("head", "hip", "knee"), skeleton=((0, 1), (1, 2)))
    keypoints = np.array([[15, 15, 2], [25, 25, 1], [50, 35, 0]], np.float32)
    person = Person(
        keypoints=keypoints, box_xywh=np.float32([5, 5, 30, 30]), image_id=1, annotation_id=1, score=1, area=900
    )
    drawn = changed(task.draw_sample(Sample(image=GRAY, path="", person=person)))
    assert drawn[5, 5:35].all()
    assert drawn[15, 15]
    assert drawn[20, 20]
    assert not drawn[:, 40:].any()


def test_large_images_are_made_smaller():
    drawn = shrunk(Sample(image=np.zeros((1024, 2048, 3), np.uint8), path=""))
    assert drawn.image.shape == (512, 1024, 3)
