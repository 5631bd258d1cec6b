"""Labels of every task, once each, whatever happens."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import metaprompts
from metaprompts.data.config.depth import DepthData
from metaprompts.data.config.pose import PoseData
from metaprompts.data.config.segmentation import SegmentationData
from metaprompts.errors import InputError
from metaprompts.scale import Labeler, review
from metaprompts.scale.job import Done
from metaprompts.scale.local import label_here
from metaprompts.scale.run import run
from open_split import open_split
from slow import slow_except

CLASSES = ("ground", "sky")


def read(content):
    return np.array(Image.open(BytesIO(content)))


def files(job):
    return {path.name: path.read_bytes() for path in Path(job.folder.url).iterdir()}


def margin(model, path):
    """The softmax margin, from PyTorch's two largest of all enlarged probabilities."""
    image = np.array(Image.open(path))
    (view,) = model.task.model_inputs(image, model.config.working_size, None)
    with torch.inference_mode():
        probabilities = model(view.image[None], None).softmax(dim=1)
    enlarged = F.interpolate(probabilities, image.shape[:2], mode="bilinear", align_corners=False)[0]
    first, second = enlarged.topk(2, dim=0).values
    return (first - second).numpy()


def counting(numbers):
    """A runner that notes the numbers of slices."""

    def runner(job, parts):
        def noted():
            for part in parts:
                numbers.append(part.number)
                yield part

        return label_here(job, noted())

    return runner


class TestLabeler:
    def test_segmentation(self, models, photos):
        labeler = Labeler(models / "segmentation", batch_size=2)
        names = [str(photos / name) for name in ("a.png", "d.png", "e.png")]
        found = labeler({"path": names})
        assert set(found) == set(metaprompts.scale.label.COLUMNS)
        assert found["path"] == names
        model = metaprompts.load(models / "segmentation")
        for name, stored, confidence, pixels in zip(
            names, found["prediction"], found["confidence"], found["confidence_map"], strict=True
        ):
            expected = model.predict(name)
            assert np.mean(read(stored) == expected.labels) > 0.999
            assert confidence == pytest.approx(margin(model, name).mean(), abs=1e-4)
            assert np.abs(read(pixels) / 255 - margin(model, name)).max() < 0.003

    @pytest.mark.slow
    def test_depth_is_compared_with_the_mirrored_image(self, models, photos):
        labeler = Labeler(models / "depth")
        found = labeler({"bytes": [(photos / "a.png").read_bytes()]})
        image = np.array(Image.open(photos / "a.png"))
        model = metaprompts.load(models / "depth")
        one, other = model.predict(image).depth_m, model.predict(image[:, ::-1].copy()).depth_m[:, ::-1]
        assert np.abs(read(found["prediction"][0]) / labeler.depth_scale - one).max() < 0.51 / labeler.depth_scale
        expected = np.minimum(one / other, other / one)
        assert np.abs(read(found["confidence_map"][0]) / 255 - expected).max() < 0.003
        assert found["path"] == ["image 0"]

    @pytest.mark.slow
    def test_pose(self, models, photos):
        found = Labeler(models / "pose")({"path": np.array([str(photos / "a.png")])})
        (person,) = found["people"][0]
        expected = metaprompts.load(models / "pose").predict(photos / "a.png").people[0]
        assert np.allclose(np.reshape(person["keypoints"], (-1, 3))[:, :2], expected.keypoints)
        assert found["confidence"][0] == pytest.approx(np.clip(expected.scores, 0, 1).mean())
        assert found["prediction"] == [None]

    def test_a_bad_image_is_a_row_with_its_error(self, models, photos):
        rows = {"path": ["x", "y", "z"], "bytes": [b"no image", (photos / "a.png").read_bytes(), None]}
        found = Labeler(models / "segmentation")(rows)
        assert [error is None for error in found["error"]] == [False, True, False]
        assert found["error"][0] == "image x is not an image: give a PNG or JPEG file"
        assert [content is None for content in found["prediction"]] == [True, False, True]

    @pytest.mark.slow
    def test_no_confidence(self, models, photos):
        found = Labeler(models / "depth", confidence=False)({"path": [str(photos / "a.png")]})
        assert (found["confidence"], found["confidence_map"]) == ([None], [None])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_size": 0}, "batch_size is 0; expected 1 or more"),
            ({"detector": "micro-segmentation"}, "a detector applies only to pose, but the model predicts depth"),
            ({"engine": "quantum"}, "engine is 'quantum'; expected auto"),
        ],
    )
    def test_errors_are_one_line(self, models, options, message):
        with pytest.raises(InputError, match=message):
            Labeler(models / "depth", **options)

    def test_a_batch_needs_images(self, models):
        with pytest.raises(InputError, match="a batch has the columns x; expected path or bytes"):
            Labeler(models / "depth")({"x": [1]})


class TestOnce:
    @pytest.mark.parametrize("format", slow_except(["tar", "parquet"], "parquet"))
    def test_the_same_call_labels_only_what_is_missing(self, job, photos, format):
        if format == "parquet":
            pytest.importorskip("pyarrow")
        made, numbers = job("segmentation", photos, format=format), []
        summary = run(made, counting(numbers))
        assert (summary.images, summary.errors, summary.earlier, summary.unfinished) == (5, 0, 0, 0)
        expected = files(made)
        summary = run(made, counting(numbers))
        assert (summary.images, summary.earlier, numbers) == (5, 5, [0, 1, 2])
        # What was begun is neither missing nor whole.
        broken = next(name for name in sorted(expected) if name.endswith(format))
        place = made.folder.place(broken)
        with open(place, "wb") as file:  # noqa: PTH123
            file.write(expected[broken][: len(expected[broken]) // 2])
        run(made, counting(numbers))
        assert numbers == [0, 1, 2, 0]
        assert files(made) == expected

    @pytest.mark.slow
    def test_a_replaced_image_replaces_its_slice(self, job, photos):
        made, numbers = job("segmentation", photos), []
        run(made, counting([]))
        before = files(made)
        Image.new("RGB", (16, 16)).save(photos / "d.png")
        run(made, counting(numbers))
        after = files(made)
        assert numbers == [1]
        assert len(after) == len(before)
        assert sorted(after.keys() - before.keys())[0].startswith("part-000001-")

    def test_other_models_and_settings_have_other_folders(self, job, photos):
        folders = [
            job("segmentation", photos),
            job("depth", photos),
            job("depth", photos, options={"batch_size": 3}),
            job("depth", photos, shard_size=3),
            job("depth", photos / "a.png"),
        ]
        assert len({each.folder.url for each in folders}) == 5
        # Where it is computed makes no difference.
        assert job("depth", photos, options={}).folder == job("depth", photos, options={"device": "cuda"}).folder

    @pytest.mark.slow
    def test_runs_share_a_job(self, job, photos):
        made = job("segmentation", photos)
        assert run(made, label_here, (1, 2)).unfinished == 2
        assert not any(name in files(made) for name in ("labels.json", "shards.json"))
        assert run(made, label_here, (0, 2)).unfinished == 0
        shared = files(made)
        (photos.parent / "out").rename(photos.parent / "first")
        run(made, label_here)
        assert files(made) == shared

    def test_results_on_another_machine_are_an_error(self, job, photos):
        """Ray's actors wrote to disks of their own, and the command said that other parts were unfinished."""

        def elsewhere(made, parts):
            return (Done(len(part.items), 0) for part in parts)

        with pytest.raises(InputError, match=r"the labels of 3 slices are not in .*: give an --out that all machines"):
            run(job("segmentation", photos), elsewhere)

    @pytest.mark.slow
    def test_to_a_url(self, job, photos):
        import fsspec

        made = job("segmentation", photos, format="tar")
        remote = metaprompts.scale.job.LabelJob(**{**vars(made), "out": "memory://labels"})
        for earlier in (0, 5):
            assert run(remote, label_here).earlier == earlier
        run(made, label_here)
        found = {name: fsspec.filesystem("memory").cat(remote.folder.place(name)) for name in remote.folder.sizes()}
        assert found == files(made)


class TestReview:
    @pytest.mark.slow
    @pytest.mark.parametrize("format", ["tar", "parquet"])
    def test_the_most_doubtful_come_first(self, job, models, photos, format, monkeypatch):
        if format == "parquet":
            pytest.importorskip("pyarrow")
        (photos / "0.jpg").write_bytes(b"broken")
        model = metaprompts.load(models / "segmentation")
        names = ("a.png", "b/c.png", "d.png", "e.png", "f.png")
        doubt = sorted(names, key=lambda name: margin(model, photos / name).mean())
        sheets = []
        drawn = review.contact_sheet
        monkeypatch.setattr(
            review,
            "contact_sheet",
            lambda rows, captions, cell: sheets.append((rows, captions)) or drawn(rows, captions, cell=cell),
        )
        made = job("segmentation", photos, format=format)
        run(made, label_here, review=4)
        ((rows, captions),) = sheets
        named = [text.split()[1] for row in captions for text in row[::2]]
        assert named == [Path(name).name for name in doubt[:4]]
        assert np.array_equal(rows[0][0], np.array(Image.open(photos / doubt[0])))
        assert (Path(made.folder.url) / "review.jpg").stat().st_size > 1000

    def test_without_confidence(self, job, photos, capfd):
        run(job("depth", photos / "a.png", options={"confidence": False}), label_here, review=3)
        assert "no review.jpg: no image has a confidence" in capfd.readouterr().err


class TestTraining:
    """Tar results are shards of ``metaprompts train --data.shards``."""

    def shards(self, job, task, photos):
        (photos / "broken.jpg").write_bytes(b"broken")
        made = job(task, photos)
        assert run(made, label_here).errors == 1
        return Path(made.folder.url)

    def test_segmentation(self, job, models, photos):
        data = SegmentationData(shards=self.shards(job, "segmentation", photos))
        samples = open_split(data, "train", CLASSES)
        model = metaprompts.load(models / "segmentation")
        assert len(samples) == 5
        for place in range(5):
            sample = samples[place]
            stored = np.array(Image.open(samples.path(place)))
            assert np.array_equal(sample.image, stored)
            assert np.mean(sample.labels == model.predict(stored).labels) > 0.999
        with pytest.raises(InputError, match=r"different task.classes"):
            open_split(data, "train", ("sky", "ground"))

    @pytest.mark.slow
    def test_depth(self, job, models, photos):
        sample = open_split(DepthData(shards=self.shards(job, "depth", photos), depth_scale=256.0), "train")[0]
        expected = metaprompts.load(models / "depth").predict(photos / "a.png").depth_m
        assert np.abs(sample.depth_m - expected).max() < 0.001

    @pytest.mark.slow
    def test_pose(self, job, models, photos):
        shards = self.shards(job, "pose", photos)
        samples = open_split(PoseData(shards=shards), "train")
        expected = metaprompts.load(models / "pose").predict(photos / "a.png").people[0]
        assert np.allclose(samples[0].person.keypoints[:, :2], expected.keypoints, atol=1e-3)
        content = json.loads(samples.annotation_path.read_text())
        assert [each["id"] for each in content["images"]] == [each["image_id"] for each in content["annotations"]]
        assert len({each["id"] for each in content["annotations"]}) == len(samples) == 5

    @pytest.mark.slow
    def test_uncertain_pixels_have_no_label(self, job, models, photos):
        """The histogram that balances classes counts the same pixels."""
        shards = self.shards(job, "segmentation", photos)
        whole = open_split(SegmentationData(shards=shards), "train", CLASSES)
        confidence = margin(metaprompts.load(models / "segmentation"), photos / "a.png")
        least = float(np.median(confidence))
        masked = open_split(SegmentationData(shards=shards, min_confidence=least), "train", CLASSES)
        labels = masked[0].labels
        ignored = labels == 255
        assert 0.1 < ignored.mean() < 0.9
        assert not (ignored & (confidence > least + 0.005)).any()
        assert not (~ignored & (confidence < least - 0.005)).any()
        assert np.array_equal(labels[~ignored], whole[0].labels[~ignored])
        counted = {value.label: value.pixels for value in masked.label_values(0)}
        assert (counted[255], sum(counted.values())) == (ignored.sum(), labels.size)

    @pytest.mark.slow
    def test_uncertain_depth_and_joints_have_no_target(self, job, models, photos):
        shards = self.shards(job, "depth", photos)
        whole, none = (open_split(DepthData(shards=shards, min_confidence=least), "train")[0] for least in (0, 1))
        assert (whole.depth_m > 0).all()
        kept = none.depth_m > 0
        assert 0 < kept.mean() < 1
        assert np.array_equal(none.depth_m[kept], whole.depth_m[kept])
        shards = self.shards(job, "pose", photos)
        scores = metaprompts.load(models / "pose").predict(photos / "a.png").people[0].scores
        least = float(np.clip(np.median(scores), 0, 1))
        person = open_split(PoseData(shards=shards, min_confidence=least), "train")[0].person
        assert np.array_equal(person.keypoints[:, 2] == 2, scores >= least)

    @pytest.mark.slow
    def test_images_of_which_nothing_is_left_are_dropped(self, job, models, photos, caplog):
        """An image whose pixels were all below data.min_confidence was trained on: its loss was that of nothing."""
        names = ("a.png", "b/c.png", "d.png", "e.png", "f.png")
        shards = self.shards(job, "segmentation", photos)
        model = metaprompts.load(models / "segmentation")
        largest = [margin(model, photos / name).max() for name in names]
        ordered = np.sort(largest)
        place = np.diff(ordered).argmax()
        least = float(ordered[place : place + 2].mean())
        samples = open_split(SegmentationData(shards=shards, min_confidence=least), "train", CLASSES)
        expected = [name for name, each in zip(names, largest, strict=True) if each >= least]
        assert 0 < len(expected) < 5
        assert [samples.path(place) for place in range(len(samples))] == [str(photos / name) for name in expected]
        said = f"{5 - len(expected)} of 5 samples in {shards} have no pixel or joint of confidence {least:g} or more"
        assert [f"{said}: dropped"] == [record.getMessage() for record in caplog.records if "dropped" in record.msg]
        with pytest.raises(InputError, match=r"5 of 5 samples .*: lower data.min_confidence"):
            open_split(SegmentationData(shards=shards, min_confidence=1.0), "train", CLASSES)

    @pytest.mark.slow
    def test_people_of_whom_no_joint_is_left_are_dropped(self, job, models, photos):
        shards = self.shards(job, "pose", photos)
        model, names = metaprompts.load(models / "pose"), ("a.png", "b/c.png", "d.png", "e.png", "f.png")
        largest = [max(0, *model.predict(photos / name).people[0].scores) for name in names]
        least = float(np.clip(sorted(largest)[2], 0, 1)) - 1e-6
        samples = open_split(PoseData(shards=shards, min_confidence=least), "train")
        assert len(samples) == sum(each >= least for each in largest)
        assert all((samples[place].person.keypoints[:, 2] == 2).any() for place in range(len(samples)))

    @pytest.mark.slow
    def test_labels_and_predicted_labels_together(self, job, photos, tmp_path):
        shards = self.shards(job, "depth", photos)
        real = tmp_path / "real"
        real.mkdir()
        Image.open(photos / "a.png").save(real / "a.png")
        Image.fromarray(np.full((24, 32), 2560, np.uint16)).save(real / "depth.png")
        for name in ("train", "val"):
            (real / f"{name}.txt").write_text("a.png depth.png\n")
        data = DepthData(root=real, shards=shards, add_shards=True, min_confidence=0.5, depth_scale=256.0)
        samples = open_split(data, "train")
        assert len(samples) == 6
        assert (samples[0].depth_m == 10).all()
        assert np.array_equal(
            samples[1].depth_m, open_split(DepthData(shards=shards, min_confidence=0.5), "train")[0].depth_m
        )
        assert len(open_split(data, "val")) == 1
        with pytest.raises(InputError, match=r"data.add_shards is true, but data.shards is none"):
            DepthData(root=real, add_shards=True)

    @pytest.mark.slow
    def test_min_confidence_needs_confidence(self, job, photos, tmp_path):
        with pytest.raises(InputError, match=r"data.min_confidence is 0.5, but the training images are not in shards"):
            open_split(DepthData(root=tmp_path, min_confidence=0.5), "train")
        made = job("depth", photos, options={"confidence": False})
        run(made, label_here)
        data = DepthData(shards=Path(made.folder.url), min_confidence=0.5)
        with pytest.raises(InputError, match=r"from the shards in .*, which have no confidence"):
            open_split(data, "train")

    @pytest.mark.slow
    def test_nothing_to_train_on_in_a_slice(self, job, photos):
        for name in ("a.png", "b/c.png"):
            (photos / name).write_bytes(b"broken")
        made = job("segmentation", photos)
        assert run(made, label_here).errors == 2
        assert run(made, label_here).earlier == 5
        assert len([name for name in files(made) if name.endswith(".tar")]) == 2
