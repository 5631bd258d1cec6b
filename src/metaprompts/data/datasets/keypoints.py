"""People with their joints, from COCO keypoint files."""

import logging
from pathlib import Path

from metaprompts.data.datasets.coco_files import read_detections, read_keypoints
from metaprompts.data.io.decoding import ReadsImages
from metaprompts.data.io.list_files import listed_file
from metaprompts.data.io.orientation import read_annotated
from metaprompts.data.joints import read_names
from metaprompts.data.sample import Person, Sample, SampleDataset
from metaprompts.errors import InputError
from metaprompts.utils.files import is_file
from metaprompts.utils.wording import counted, listed

logger = logging.getLogger(__name__)

_NAMED_AT_MOST = 5


class People(SampleDataset):
    """Interface of data sets of people, in addition to samples.

    Attributes:
        annotation_path: the annotation file, for COCO's own evaluation
        joint_names: the J joints in order
        skeleton: pairs of joint indices, from 0, connected in drawings
    """

    annotation_path: Path
    joint_names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]

    def check_joints(self, joints: tuple[str, ...]) -> None:
        """Check that the file's joints match those of a task, in any spelling (L_Eye, left_eye).

        Raises:
            InputError: names or order differ
        """
        if self.joint_names != joints and read_names(self.joint_names) != read_names(joints):
            raise InputError(
                f"{self.annotation_path} has the joints {', '.join(self.joint_names)}; the recipe's task.joints are "
                f"{', '.join(joints)}: use the same joints in both"
            )

    def person(self, index: int) -> Person:
        """The person of a sample, without loading its image if possible."""
        person = self[index].person
        assert person is not None, "every sample of people has a person"
        return person


class CocoKeypoints(People, ReadsImages):
    """One sample for every person in a COCO keypoint file, or for every detected box.

    Skips crowds, and annotations without labeled joints, with a box smaller than one pixel, or of a category whose
    joints differ from those of the first category with joints. Oddities in the file are logged.

    Args:
        root: folder that paths are relative to
        annotations: COCO keypoint JSON with any number of joints
        images: folder of the images
        detections: JSON list of ``{image_id, category_id, bbox, score}`` whose boxes replace the annotated boxes; such
            samples have no keypoints (all 0). Skips boxes of other categories and of images that ``annotations`` does
            not list.
        minimum_score: detections with lower scores are skipped

    Attributes:
        left_out: number of skipped annotations, by reason

    Raises:
        InputError: the JSON is broken, entries are missing or invalid, no person remains, or images of people are
            missing; the message names up to 5 of them
    """

    def __init__(
        self,
        root: str | Path,
        annotations: str,
        images: str = "",
        *,
        detections: str | None = None,
        minimum_score: float = 0.0,
    ) -> None:
        folder = Path(root)
        self.annotation_path = folder / annotations
        content = read_keypoints(self.annotation_path)
        self.joint_names, self.skeleton = content.categories[0].joints, content.categories[0].skeleton
        self._folder = folder / images
        self._images = content.images
        self._persons = content.persons
        self.left_out = content.left_out
        self._said_by: tuple[Path, ...] = (self.annotation_path,)
        remarks = content.remarks
        if detections is not None:
            self._said_by += (folder / detections,)
            self._persons, remarks = read_detections(folder / detections, content, minimum_score=minimum_score)
        self._check_none_missing()
        for remark in remarks:
            logger.warning("%s", remark)

    def __len__(self) -> int:
        return len(self._persons)

    @property
    def image_count(self) -> int:
        """Number of images in the annotation file, with or without people."""
        return len(self._images)

    def by_image(self) -> list[list[int]]:
        """The samples grouped by image, in their original order; images without samples are left out."""
        groups: dict[int, list[int]] = {}
        for index, image_id in enumerate(self._persons.image_ids.tolist()):
            groups.setdefault(image_id, []).append(index)
        return list(groups.values())

    def path(self, index: int) -> str:
        """The path of a sample's image."""
        return str(self._path(int(self._persons.image_ids[index])))

    def files(self, index: int) -> tuple[Path, ...]:
        """The image of a person, and the annotation files."""
        return (self._path(int(self._persons.image_ids[index])), *self._said_by)

    def __getitem__(self, index: int) -> Sample:
        """Read one person and the whole image.

        Returns:
            a sample with ``person``

        Raises:
            InputError: the image is missing or invalid, or its size differs from that in the annotation file, or an
                EXIF orientation makes the alignment ambiguous
        """
        person = self.person(index)
        entry = self._images[person.image_id]
        path = self._path(person.image_id)
        image = read_annotated(path, (entry.height, entry.width), self.annotation_path, self.reading)
        return Sample(image=image, path=str(path), person=person)

    def _path(self, image_id: int) -> Path:
        name = self._images[image_id].file_name
        return listed_file(name, [self._folder]) or self._folder / name

    def _check_none_missing(self) -> None:
        # Report a missing file now instead of hours into a run.
        image_ids = dict.fromkeys(self._persons.image_ids.tolist())
        missing = [path for path in map(self._path, image_ids) if not is_file(path)]
        if missing:
            named = listed([str(path) for path in missing], _NAMED_AT_MOST)
            raise InputError(
                f"{len(missing)} of {counted(len(image_ids), 'image')} of people in {self.annotation_path} missing: "
                f"{named}; add them, or correct data.root, data.train_images or data.val_images"
            )

    def person(self, index: int) -> Person:
        """The person of a sample, without its image."""
        persons = self._persons
        return Person(
            keypoints=persons.keypoints[index].copy(),
            box_xywh=persons.boxes_xywh[index].copy(),
            image_id=int(persons.image_ids[index]),
            annotation_id=int(persons.annotation_ids[index]),
            score=float(persons.scores[index]),
            area=float(persons.areas[index]),
        )
