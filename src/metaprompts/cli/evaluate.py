"""``metaprompts evaluate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from metaprompts.cli.calibration import CALIBRATION, WithCalibration
from metaprompts.cli.options import argument, option
from metaprompts.cli.outcome import report_undefined
from metaprompts.cli.recipe_keys import WithModelRecipeKeys
from metaprompts.embedded import embedded_models
from metaprompts.utils.schema import Range


@dataclass(frozen=True, kw_only=True)
class Evaluate(WithModelRecipeKeys, WithCalibration):
    """Score a trained model on the validation split of a data set.

    Every key of the recipe can be changed: metaprompts evaluate MODEL --help lists them. The recipe's test section
    defines how images are predicted; by default each is predicted once.

    The most common keys:
      --data.root DIR            folder of the images; or --data.shards DIR, a folder written by metaprompts data shard
      --test.flip                also predict the mirrored image and average
      --test.window N            segmentation: side of square windows in pixels (ADE20K: 512; Cityscapes: 1024)
      --test.scales 0.5,1,1.5    segmentation: scale factors of the image
      --test.num_windows N       depth: number of square windows along the long side (NYU: 2, KITTI: 16)
      --test.crop nyu            depth: evaluated region: nyu, garg or eigen
      --test.oks_nms 0.9         pose: OKS threshold of non-maximum suppression within an image
      --data.val_boxes FILE      pose: JSON of detected boxes, with scores, instead of the annotated boxes
      --data.captions FILE       models that read captions: JSON of images and captions; or --data.captioner MODEL
      --training.device cuda     the compute device
      --training.val_batch_size  images per forward pass
      --data.num_workers N       processes that read images

    Writes to DIR: metrics.json, per_image.jsonl (a line for each image; for pose, for each person), evaluation.json
    (what was evaluated), worst.jpg, and for segmentation the confusion matrix: confusion.json and .csv (pixels), .png
    (shares). Running the same command again predicts only images that are new or have changed. Scores are fractions of
    1, meters or degrees; an undefined score is shown as "-" (null in the files), and the exit code is 1 if the main
    score (mIoU, RMSE, AP, mean_deg) is undefined.

    Several processes can share the work: use --workers N or, on several machines, torchrun ... -m metaprompts evaluate
    MODEL. The scores do not depend on the number of processes.
    """

    model: Path = argument("MODEL", names=embedded_models)
    """A folder written by training (best/ or last/), an embedded model (micro-depth, micro-pose, micro-segmentation),
    or any model folder together with --recipe."""
    out: Path | None = option(None, metavar="DIR")
    """Output folder; by default MODEL/evaluation, or ./evaluation-NAME."""
    resume: Literal["auto", "never"] = "auto"
    """auto: resume an interrupted evaluation; never: start over."""
    worst: Annotated[int, Range(0, 100)] = 8
    """Number of worst images in worst.jpg, each next to ground truth and prediction, with name and score."""
    engine: Literal["plain", "auto", "eager", "compile", "openvino", "onnx"] = "plain"
    """Engine that executes the model; plain is the model as in training."""
    workers: Annotated[int, Range(1, 1024)] = option(1, metavar="N")
    """Number of processes, each with a copy of the model; they share the CPU cores and GPUs."""
    precision: Literal["fp32", "bf16", "fp16", "w8a16", "w8a8"] = "fp32"
    """bf16, or fp16 on a GPU: 16-bit matrix products; w8a16: 8-bit weights, 32-bit arithmetic; w8a8: 8-bit weights
    and activations (both openvino)."""
    steps: Annotated[int, Range(1, 64)] | Literal["auto"] | None = option(None, metavar="N|auto")
    """Use fewer refinement steps than in training, see metaprompts predict --help; not with engine plain."""
    calibration: Path | None = option(None, metavar="DIR", group=CALIBRATION)
    """w8a8: folder of images on which the ranges of activations are measured; by default images of the validation
    split."""

    def run(self) -> int:
        """Evaluate."""
        from metaprompts.engines.evaluate import evaluate, evaluation_folder
        from metaprompts.evaluation.records import WHAT
        from metaprompts.tasks import task_class
        from metaprompts.utils.distributed_env import is_first_process
        from metaprompts.utils.files import read_json

        out = self.out or evaluation_folder(self.model)
        scores = evaluate(
            self.model,
            self.overrides,
            recipe=self.recipe,
            out=out,
            engine=self.engine,
            precision=self.precision,
            calibration=self.calibration_options,
            resume=self.resume,
            worst=self.worst,
            workers=self.workers,
            steps=self.steps,
        )
        task = read_json(out / WHAT)["task"]
        if is_first_process():
            _show(scores, task, out)
        return report_undefined(task_class(task["name"]), scores)


def _show(scores: dict[str, Any], task: dict[str, Any], out: Path) -> None:
    from rich.console import Console

    from metaprompts.evaluation.report import class_table, score_table

    console = Console()
    if "iou_per_class" in scores:
        console.print(class_table(task["classes"], scores["iou_per_class"]))
    console.print(score_table(scores, task["name"]))
    console.print(f"results in {out}", markup=False, highlight=False, soft_wrap=True)
