"""``metaprompts evaluate``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from metaprompts.cli.console import complain
from metaprompts.cli.engines import PLAIN
from metaprompts.cli.options import argument, option
from metaprompts.cli.recipe_keys import WithModelRecipeKeys
from metaprompts.embedded import embedded_models
from metaprompts.recipes.registry import recipe_names
from metaprompts.utils.schema import Range
from metaprompts.utils.wording import counted

if TYPE_CHECKING:
    from metaprompts.evaluation.resumable import Evaluation
    from metaprompts.models.model import MetaPromptModel
    from metaprompts.recipes.recipe import Recipe
    from metaprompts.training.dataloaders import Split

_WORST_AT_MOST = 100


@dataclass(frozen=True, kw_only=True)
class Evaluate(WithModelRecipeKeys):
    """Score a trained model on the validation split of a data set.

    Every key of the recipe can be changed: metaprompts evaluate MODEL --help lists them. Its test section defines how
    images are predicted; by default each is predicted once.

    The most common keys:
      --data.root DIR            folder of the images; or --data.shards DIR, a folder written by metaprompts data shard
      --test.flip                also predict the mirrored image and average
      --test.window N            segmentation: side of square windows in pixels (ADE20K: 512; Cityscapes: 1024)
      --test.scales 0.5,1,1.5    segmentation: scale factors of the image
      --test.num_windows N       depth: number of square windows along the long side (NYU: 2, KITTI: 16)
      --test.crop nyu            depth: evaluated region: nyu, garg or eigen
      --test.oks_nms 0.9         pose: OKS threshold of non-maximum suppression within an image
      --data.val_boxes FILE      pose: JSON of detected boxes, with scores, instead of the annotated ones
      --data.captions FILE       models that read captions: JSON of images and captions; or --data.captioner MODEL
      --training.device cuda     the compute device
      --training.val_batch_size  images in a group
      --data.num_workers N       processes that read images

    DIR gets metrics.json, per_image.jsonl (a line for each image; for pose, for each person), evaluation.json (what was
    evaluated), worst.jpg, and for segmentation the confusion matrix: confusion.json and .csv (pixels), .png (shares).
    The same command again predicts only images that are missing or have changed since. Scores are fractions of 1 or
    meters; an undefined score is "-" (null in the files), and the exit code is 1 if mIoU, RMSE or AP is undefined.

    Several processes share the work under torchrun: torchrun --nproc-per-node 4 -m metaprompts evaluate MODEL ...
    """

    model: Path = argument("MODEL", names=embedded_models)
    """A folder written by training (best/ or last/), an embedded model (micro-depth, micro-pose, micro-segmentation),
    or any model folder together with --recipe."""
    recipe: str | None = option(None, metavar="RECIPE", names=recipe_names)
    """Recipe that describes how to read the data: a name or file; by default MODEL/recipe.json."""
    out: Path | None = option(None, metavar="DIR")
    """Output folder; by default MODEL/evaluation, or ./evaluation-NAME."""
    resume: Literal["auto", "never"] = "auto"
    """auto: resume an interrupted evaluation; never: start over."""
    worst: Annotated[int, Range(0, _WORST_AT_MOST)] = 8
    """Number of worst images in worst.jpg, each next to ground truth and prediction, with name and score."""
    engine: Literal["plain", "auto", "eager", "compile", "openvino", "onnx"] = "plain"
    """Engine that executes the model; plain is the model as in training."""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """bf16: 16-bit matrix products; int8: 8-bit weights (openvino): evaluate with it to measure the loss in quality."""

    def run(self) -> int:
        """Evaluate."""
        from metaprompts.analysis.worst_images import write_worst
        from metaprompts.cli.engines import opened
        from metaprompts.cli.foreign_labels import show_missing_classes, warn_below_random
        from metaprompts.cli.model_and_recipe import load_with_recipe
        from metaprompts.cli.scored import report_undefined
        from metaprompts.evaluation.resumable import evaluate_split
        from metaprompts.training.dataloaders import validation_split
        from metaprompts.training.label_check import check_labels
        from metaprompts.utils.distributed_env import is_first_process, local_device, processes
        from metaprompts.utils.progress import ProgressBar

        model, recipe = load_with_recipe(self.model, self.recipe, self.overrides, local_device)
        out = self.out or _default_out(self.model)
        recipe.data.check_output(out)
        split = validation_split(recipe)
        if recipe.data.val_share is not None and is_first_process():
            complain(
                f"data.val {recipe.data.val_share:g}: scoring {counted(len(split.samples), 'sample')} held out of the "
                f"training images by training.seed {recipe.training.seed}\n"
            )
        labels = check_labels(recipe, warns=is_first_process(), validation=split.stored).get("validation")
        if labels is not None:
            show_missing_classes(labels)
        evaluation = _evaluation(model, recipe, split, out)
        if (self.engine, self.precision) != (PLAIN, "fp32"):
            evaluation = replace(
                evaluation, what={**evaluation.what, "engine": self.engine, "precision": self.precision}
            )
        predictor: Any = opened(model, self.engine, self.precision, images=len(evaluation.images))
        with (
            processes() as together,
            ProgressBar("evaluating", len(evaluation.images), quiet=together.rank > 0) as bar,
        ):
            scores = evaluate_split(
                predictor,
                evaluation,
                restart=self.resume == "never",
                processes=together,
                on_done=bar.advance,
                on_earlier=bar.resumed,
            )
        if together.rank == 0:
            write_worst(predictor, evaluation, self.worst)
            _show(scores, model, evaluation.out)
            if labels is not None:
                warn_below_random(labels, scores)
        return report_undefined(model.task.name, scores)


def _default_out(model: Path) -> Path:
    """Next to the model's weights; in the working directory for a model that is not a local folder."""
    return model / "evaluation" if model.is_dir() else Path(f"evaluation-{model.name}")


def _evaluation(model: "MetaPromptModel", recipe: "Recipe", split: "Split", out: Path) -> "Evaluation":
    from metaprompts.evaluation.dataset import EvalDataset
    from metaprompts.evaluation.resumable import Evaluation
    from metaprompts.utils.fingerprint import tensors_fingerprint
    from metaprompts.utils.schema import to_dict

    images = EvalDataset(split.samples, split.transforms, recipe.test)
    data: dict[str, Any] = to_dict(recipe.data.resolved())
    what = {
        "weights": tensors_fingerprint(sorted(model.state_dict().items())),
        "task": model.config.to_dict()["task"],
        "test": to_dict(recipe.test),
        "data": {key: value for key, value in data.items() if key not in ("num_workers", "cache")},
        "samples": len(images),
    }
    return Evaluation(
        images=images,
        test=recipe.test,
        metric_kwargs=split.metric_kwargs,
        out=out,
        what=what,
        root=recipe.data.names_from("val"),
        group=recipe.training.val_batch_size,
        workers=recipe.data.num_workers,
    )


def _show(scores: dict[str, Any], model: "MetaPromptModel", out: Path) -> None:
    from rich.console import Console

    from metaprompts.evaluation.report import class_table, score_table

    console = Console()
    if "iou_per_class" in scores:
        console.print(class_table(model.config.to_dict()["task"]["classes"], scores["iou_per_class"]))
    console.print(score_table(scores, model.task.name))
    console.print(f"results in {out}", markup=False, highlight=False, soft_wrap=True)
