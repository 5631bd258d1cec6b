"""``metaprompts heatmaps``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from metaprompts.cli.captions import CaptionOptions
from metaprompts.cli.options import argument, given_options, option
from metaprompts.cli.people import BoxOptions
from metaprompts.cli.recipe_keys import WithModelRecipeKeys
from metaprompts.embedded import embedded_models
from metaprompts.errors import CaptionerError, InputError
from metaprompts.recipes.registry import recipe_names
from metaprompts.utils.schema import Range

if TYPE_CHECKING:
    from metaprompts.analysis.prompt_maps import PromptMaps
    from metaprompts.visualize.text import ImageArray

_TOP = 8
_CELL = (240, 320)


@dataclass(frozen=True, kw_only=True)
class Heatmaps(WithModelRecipeKeys, BoxOptions, CaptionOptions):
    """Show where prompts respond in images, or measure what they respond to over a data set.

    With images: writes for each image STEM_promptNNN.png, the gray image overlaid with the prompt's heatmap (from dark
    blue to dark red, scaled for each prompt), and STEM_prompts.png, a sheet of all heatmaps with a color key. An
    image that cannot be read does not stop the others: it is listed at the end, and the exit code is 1, or 2 if no
    image could be read.

    --top chooses prompts that respond clearly and differently: first the prompt whose map, scaled to 0..1, has the
    largest variance, then repeatedly the prompt with the largest variance times 1 - r, where r is the largest absolute
    correlation of its map with that of a prompt already chosen. To compare one prompt across images, use --prompts.

    A segmentation model has one map per UNet level. The default is the finest level, which aligns best with
    the image and is used by the head (the mean of all levels is not).

    With --data.root DIR instead of images: measures every prompt over the validation split, with the options of
    metaprompts evaluate (--recipe, --data.key value ...), and writes responses.json, responses.md and responses.png:
    the mean response for each class (segmentation) or direction (normals), the correlation with depth, or the mean
    response at each visible joint and the joint's distance from the map's peak (pose). The preferred class, direction
    or joint has the highest z: the difference between its mean response and the prompt's overall mean, in standard
    deviations of the prompt.
    """

    model: str = argument("MODEL", names=embedded_models)
    """A model folder, a hub id, or an embedded model: micro-depth, micro-pose, micro-segmentation."""
    inputs: tuple[str, ...] = argument("IMAGE", ())
    """Images: files, folders or quoted globs."""
    out: Path = option(metavar="DIR")
    """Folder for the results."""
    prompts: str | None = option(None, metavar="N,N,...")
    """Prompt indices, from 0; for example 3,17,42."""
    top: Annotated[int, Range(1, 10**6)] | None = None
    """Instead of --prompts: number of prompts to choose for each image; by default 8."""
    level: Literal["0", "1", "2", "3", "mean"] = "0"
    """Segmentation: level 0 (finest) to 3, or mean for the mean of all levels."""
    white_level: int | None = option(None, metavar="N")
    """Value of white in images with more than 8 bits, for example 4095 for 12 bits; by default 65535."""
    recipe: str | None = option(None, metavar="RECIPE", names=recipe_names)
    """With --data.root: recipe that describes how to read the data, a name or file; by default MODEL/recipe.json."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default the GPU if there is one."""
    workers: Annotated[int, Range(1, 1024)] = option(1, metavar="N")
    """With --data.root: number of processes, each with a copy of the model; the result does not depend on it."""

    def run(self) -> int:
        """Draw heatmaps, or measure responses."""
        from metaprompts.cli.boxes import check_pose_options
        from metaprompts.utils.locks import writing_into

        if not self.inputs and (self.overrides or self.recipe):
            with writing_into(self.out, "heatmaps"):
                return self._measure()
        if self.workers > 1:
            raise InputError("--workers applies only to a data set: images are drawn by one process")
        if given := [*(each.partition("=")[0] for each in self.overrides), *["--recipe"] * bool(self.recipe)]:
            raise InputError(
                f"{given[0]} applies only to a data set: omit it, or give --data.root DIR instead of images"
            )
        if not self.inputs:
            raise InputError("no images given: name files, folders or quoted globs, or a data set with --data.root DIR")
        check_pose_options(self.model, (), given_options(self, BoxOptions))
        self.check_boxes()
        with writing_into(self.out, "heatmaps"):
            return self._draw()

    def _measure(self) -> int:
        from metaprompts.cli.prompt_statistics import measure

        instead = {
            **dict.fromkeys(("--prompts", "--top"), "a data set is measured with every prompt"),
            **dict.fromkeys(
                ("--boxes", "--min-box-score", "--box-category"), "a data set is measured with its annotated people"
            ),
            **dict.fromkeys(
                ("--caption", "--captions", "--captioner"), "for a data set, set data.captions or data.captioner"
            ),
            "--white-level": "for a data set, pass --data.white_level",
            "--text-source": "for a data set, pass --prompts.text_source",
        }
        given = given_options(self, Heatmaps)
        for name, advice in instead.items():
            if name in given:
                raise InputError(f"{name} applies only to images: {advice}")
        return measure(
            self.model,
            self.recipe,
            self.overrides,
            out=self.out,
            level=self._level,
            device=self.device,
            workers=self.workers,
        )

    def _draw(self) -> int:
        from metaprompts.cli.inputs import check_exists, why_unreadable
        from metaprompts.cli.output_names import output_names
        from metaprompts.data.io.images import list_images, read_image

        numbers, top = self._choice()
        check_exists(self.boxes, self.captions)
        paths = list_images(self.inputs, out=self.out)
        if failures := why_unreadable(paths, white_level=self.white_level):
            return self._report(paths, failures)
        # Imports torch.
        from metaprompts.analysis.prompts import chosen_prompts, image_prompt_maps
        from metaprompts.models.loading import load
        from metaprompts.utils.progress import tracked

        names, failures = output_names(self.inputs, paths), list[str]()
        boxes = self.read_boxes(paths)
        model = load(self.model, self.device)
        captions = self.open_captions([model])
        chosen = chosen_prompts(model, numbers, top)
        for path in tracked(names, what="drawing"):
            try:
                image = read_image(path, white_level=self.white_level)
                found = None if boxes is None else boxes.of(path, image.shape[:2])
                if found is not None and not found:
                    raise InputError(f"{self.boxes} has no box for {path}")
                caption = None if captions is None else captions(path, image)
            except CaptionerError:
                raise
            except InputError as error:
                failures.append(str(error))
                continue
            maps = image_prompt_maps(model, image, level=self._level, boxes=found, caption=caption)
            try:
                order = "in the order of --prompts" if chosen else "the most distinct one first"
                _write(self.out, names[path], image, maps, maps.chosen(chosen, top), order)
            except InputError as error:
                failures.append(str(error))
        return self._report(paths, failures)

    @property
    def _level(self) -> int | Literal["mean"]:
        return "mean" if self.level == "mean" else int(self.level)

    def _report(self, paths: list[Path], failures: list[str]) -> int:
        from metaprompts.cli.outcome import report_outcome
        from metaprompts.utils.wording import counted

        done = len(paths) - len(failures)
        return report_outcome(
            f"heatmaps of {done} of {counted(len(paths), 'image')}, results in {self.out}", len(paths), failures
        )

    def _choice(self) -> tuple[list[int] | None, int]:
        """The prompt indices, or None; and the number of prompts to choose."""
        if self.prompts is None:
            return None, _TOP if self.top is None else self.top
        if self.top is not None:
            raise InputError("got both --prompts and --top: give the prompts or how many to choose, not both")
        try:
            return [int(number) for number in self.prompts.split(",") if number.strip()], 0
        except ValueError as error:
            raise InputError(f"--prompts is {self.prompts!r}; expected indices from 0, such as 3,17,42") from error


def _write(out: Path, stem: Path, image: "ImageArray", maps: "PromptMaps", prompts: list[int], order: str) -> None:
    """Write one image per prompt and the sheet of all; only the sheet's small images stay in memory."""
    import numpy as np
    from PIL import Image

    from metaprompts.utils.files import write_image
    from metaprompts.visualize.heatmaps import heat_legend, overlay_heat
    from metaprompts.visualize.sheets import contact_sheet
    from metaprompts.visualize.text import stack_down

    small: list[ImageArray] = []
    is_whole = True
    for prompt in prompts:
        heatmap = maps.heatmap(prompt)
        is_whole = bool(heatmap.seen.all())
        drawn = Image.fromarray(overlay_heat(image, heatmap.map, heatmap.seen))
        write_image(out / f"{stem}_prompt{prompt:03d}.png", drawn)
        drawn.thumbnail(_CELL[::-1])
        small.append(np.asarray(drawn))
    if small:
        columns = min(4, len(small))
        rows = [slice(start, start + columns) for start in range(0, len(small), columns)]
        captions = [f"prompt {prompt}" for prompt in prompts]
        sheet = contact_sheet([small[row] for row in rows], [captions[row] for row in rows], cell=_CELL)
        notes = [f"response of each prompt in this image, on its own scale; row by row, {order}"]
        notes += [] if is_whole else ["gray: outside all boxes, not seen by the model"]
        write_image(out / f"{stem}_prompts.png", stack_down(sheet, heat_legend(sheet.shape[1], notes)))
