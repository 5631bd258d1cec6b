"""``metaprompts evaluate``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaprompts.cli.console import complain, say
from metaprompts.cli.engines import PLAIN
from metaprompts.cli.overrides import check_override_keys, check_resume, take_options
from metaprompts.errors import InputError
from metaprompts.utils.wording import counted

if TYPE_CHECKING:
    from metaprompts.evaluation.resumable import Evaluation
    from metaprompts.models.model import MetaPromptModel
    from metaprompts.recipes.recipe import Recipe
    from metaprompts.training.dataloaders import Split

_OPTIONS = ("--recipe", "--out", "--resume", "--engine", "--precision", "--worst")
_WORST, _WORST_AT_MOST = 8, 100
_USAGE = """usage: metaprompts evaluate MODEL --data.root DIR [--section.key value ...]

Score a trained model on the validation split of a data set. MODEL is a folder written by training (best/ or last/),
an embedded model, or any model folder together with --recipe RECIPE, the recipe that describes how to read the data.

  --data.root DIR      folder of the images; or --data.shards DIR, a folder written by metaprompts data shard
  --recipe RECIPE      recipe name or file (default: MODEL/recipe.json)
  --out DIR            output folder (default: MODEL/evaluation, or ./evaluation-NAME)
  --resume auto|never  resume an interrupted evaluation (default), or start over
  --worst N            number of worst images in worst.jpg, each next to ground truth and prediction, with name and
                       score (default: 8; 0 for none)
  --engine ENGINE      executes the model: auto, eager, compile, openvino or onnx (default: plain, as in training)
  --precision fp32     or bf16, or int8 weights: evaluate with it to measure the loss in quality

The recipe's test section defines how images are predicted; by default each is predicted once. Its keys and defaults:

  segmentation, depth and pose
  --test.flip false          also predict the mirrored image and average; --test.flip alone means true

  segmentation
  --test.window none         side of square windows in pixels (ADE20K: 512; Cityscapes: 1024)
  --test.stride none         step between windows (ADE20K: 341; Cityscapes: 512); none for half a window
  --test.scales 1.0          scale factors of the image (published: 0.5,0.75,1,1.25,1.5,1.75,2)
  --test.window_batch 1      windows per forward pass

  depth
  --test.num_windows none    number of square windows along the long side (NYU: 2, KITTI: 16)
  --test.crop none           evaluated region: nyu, garg or eigen
  --test.kitti_crop false    first crop images and depth to KITTI's benchmark crop

  pose
  --test.oks_nms none        OKS threshold of non-maximum suppression within an image (published: 0.9)
  --data.val_boxes none      JSON of detected boxes, with scores, instead of the annotated ones

  models that read captions (prompts.kind caption)
  --data.captions FILE       JSON of images and captions, relative to data.root; or --data.captioner MODEL
  --data.cache DIR           cache of captions and their encodings (default: $METAPROMPTS_CACHE or
                             ~/.cache/metaprompts)
  --prompts.text_source DIR  source of the text encoder, if it has moved since training

DIR gets metrics.json, per_image.jsonl (a line for each image; for pose, for each person), evaluation.json (what was
evaluated), worst.jpg, and for segmentation the confusion matrix: confusion.json and .csv (pixels), .png (shares). The
same command again predicts only images that are missing or have changed since. Scores are fractions of 1 or meters; an
undefined score is "-" (null in the files), and the exit code is 1 if mIoU, RMSE or AP is undefined.
Several processes share the work under torchrun:
torchrun --nproc-per-node 4 -m metaprompts evaluate MODEL ...
Also useful: --training.device cuda, --training.val_batch_size 4 (images in a group), --data.num_workers 2. All keys of
the data and training sections: metaprompts train RECIPE --help.
"""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score a model on a validation split: metaprompts evaluate MODEL --data.root DIR."""

    model: Path
    """A folder written by training, or the name of an embedded model."""
    recipe: str | None = None
    """Recipe name or file; by default MODEL/recipe.json."""
    out: Path | None = None
    """Output folder; by default MODEL/evaluation."""
    resume: str = "auto"
    """auto: resume an interrupted evaluation; never: start over."""
    engine: str = PLAIN
    """Engine that executes the model."""
    precision: str = "fp32"
    """Precision of the engine."""
    overrides: tuple[str, ...] = ()
    """--section.key value ..."""
    worst: int = _WORST
    """Number of worst images to draw."""
    wants_help: bool = False
    """Print help instead of evaluating."""

    @classmethod
    def from_words(cls, words: Sequence[str]) -> "Evaluate":
        """Parse the arguments of ``evaluate``.

        Raises:
            InputError: no model is given
        """
        if not words or "--help" in words or "-h" in words:
            return cls(model=Path(), wants_help=True)
        if words[0].startswith("-"):
            raise InputError("no model given: metaprompts evaluate MODEL --data.root DIR")
        rest = list(words[1:])
        options = take_options(rest, _OPTIONS)
        check_override_keys(rest, _OPTIONS)
        return cls(
            model=Path(words[0]),
            recipe=options["--recipe"],
            out=Path(options["--out"]) if options["--out"] else None,
            resume=check_resume(options["--resume"]) or "auto",
            engine=options["--engine"] or PLAIN,
            precision=options["--precision"] or "fp32",
            worst=_count(options["--worst"]),
            overrides=tuple(rest),
        )

    def run(self) -> int:
        """Evaluate, or print help."""
        if self.wants_help:
            say(_USAGE)
            return 0
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


def _count(text: str | None) -> int:
    if text is None:
        return _WORST
    if not text.isdecimal() or not text.isascii() or int(text) > _WORST_AT_MOST:
        raise InputError(f"--worst is {text!r}; expected a number of images, 0 to {_WORST_AT_MOST}")
    return int(text)


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
