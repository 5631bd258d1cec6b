"""How many samples the published data sets have, by layout and part."""

OFFICIAL: dict[str, dict[str, int]] = {
    "ade20k": {"train": 20210, "val": 2000},
    "cityscapes": {"train": 2975, "train_extra": 19998, "val": 500, "test": 1525},
    "mapillary": {"train": 18000, "val": 2000, "test": 5000},
    "nyu": {"train": 24231, "val": 654},
    "nyu_mat": {"train": 795, "val": 654},
    # 697 pictures, of which 652 have annotated depth.
    "kitti": {"train": 23158, "val": 652, "val_selection": 1000},
    # Persons with keypoints, not pictures; boxes of the detections AP_H_56.
    "coco": {"train": 149813, "val": 6352, "val_boxes": 104125},
}

COCO_PICTURES = {"train": 118287, "val": 5000}
"""Pictures that the annotation files of COCO 2017 list, most of them without a person with keypoints."""
