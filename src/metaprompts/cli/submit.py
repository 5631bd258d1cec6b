"""``metaprompts submit``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metaprompts.cli.console import say
from metaprompts.cli.options import argument, option
from metaprompts.cli.recipe_keys import WithModelRecipeKeys
from metaprompts.embedded import embedded_models
from metaprompts.errors import InputError

if TYPE_CHECKING:
    from metaprompts.models.model import MetaPromptModel
    from metaprompts.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Submit(WithModelRecipeKeys):
    """Predict a test split without public targets, and write the files for the benchmark server.

    FORMAT is one of:
      cityscapes  PNG files of labelIds, named like the images        PATH: a folder, or a name that ends in .zip
      ade20k      PNG files of classes 1-150, named like the images   PATH: a folder, or a name that ends in .zip
      kitti       16-bit PNG files of depth, 256 per meter            PATH: a folder, or a name that ends in .zip
      coco        keypoint results                                    PATH: a name that ends in .json or .zip

    The recipe's test section defines how images are predicted: see metaprompts evaluate --help.
    """

    model: Path = argument("MODEL", names=embedded_models)
    """A folder written by training, a hub id, or an embedded model."""
    format: Literal["cityscapes", "ade20k", "kitti", "coco"] = argument("FORMAT")
    """The benchmark."""
    images: Path = option(metavar="DIR")
    """Folder of the test images; subfolders are searched."""
    out: Path = option(metavar="PATH")
    """Output path."""
    info: Path | None = option(None, metavar="FILE")
    """coco: image_info JSON of the images."""
    boxes: Path | None = option(None, metavar="FILE")
    """coco: JSON of detected boxes."""

    def run(self) -> int:
        """Predict and write."""
        from metaprompts.cli.inputs import check_exists
        from metaprompts.evaluation.submission.archive import check_suffix
        from metaprompts.evaluation.submission.formats import FORMATS
        from metaprompts.recipes.model_recipe import load_with_recipe

        form = FORMATS[self.format]
        if form.encode is None and self.info and self.boxes:
            check_suffix(self.out)
        check_exists(self.images, self.info, self.boxes)
        model, recipe = load_with_recipe(self.model, self.recipe, self.overrides, reads_data=False)
        if model.task.name != form.task:
            raise InputError(
                f"{self.model} predicts {model.task.name}, but {self.format} is a benchmark for {form.task}"
            )
        form.check(model.task)
        if form.encode is None:
            self._submit_people(model, recipe)
        else:
            self._submit_maps(model, recipe)
        say(f"{self.format} submission in {self.out}\n")
        return 0

    def _submit_maps(self, model: "MetaPromptModel", recipe: "Recipe") -> None:
        from metaprompts.data.io.file_search import check_outside
        from metaprompts.evaluation.submission.formats import FORMATS
        from metaprompts.evaluation.submission.submit import submit_maps
        from metaprompts.evaluation.submission.test_sets import ImageFolder
        from metaprompts.training.dataloaders import with_contexts
        from metaprompts.utils.progress import ProgressBar

        if self.out.suffix.lower() != ".zip":
            check_outside(self.out, self.images)
        folder, transforms = ImageFolder(self.images), recipe.data.val_transforms()
        folder.reading = recipe.data.reading
        samples, workers = with_contexts(recipe, folder, self.images), recipe.data.num_workers
        form = FORMATS[self.format]
        with ProgressBar("predicting", len(samples)) as bar:
            submit_maps(model, samples, transforms, recipe.test, form, self.out, workers=workers, on_done=bar.advance)

    def _submit_people(self, model: "MetaPromptModel", recipe: "Recipe") -> None:
        from metaprompts.evaluation.submission.submit import submit_people
        from metaprompts.evaluation.submission.test_sets import DetectedPeople
        from metaprompts.tasks.pose import Pose, PoseProtocol
        from metaprompts.training.dataloaders import with_contexts
        from metaprompts.utils.progress import ProgressBar

        if self.info is None or self.boxes is None:
            raise InputError("coco needs --info FILE (the images' image_info JSON) and --boxes FILE (detected boxes)")
        assert isinstance(model.task, Pose)
        assert isinstance(recipe.test, PoseProtocol)
        people = DetectedPeople(self.images, self.info, self.boxes, joints=len(model.task.joints))
        people.reading = recipe.data.reading
        with ProgressBar("predicting", len(people)) as bar:
            submit_people(
                model,
                people,
                recipe.test,
                self.out,
                samples=with_contexts(recipe, people, self.images),
                batch_size=recipe.training.val_batch_size,
                workers=recipe.data.num_workers,
                on_done=bar.advance,
            )
