"""``metaprompts import-released``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metaprompts.cli.console import say
from metaprompts.cli.options import argument, option


@dataclass(frozen=True, kw_only=True)
class ImportReleased:
    """Convert a checkpoint of the authors' released code into a model folder."""

    file: Path = argument("FILE")
    """The checkpoint: .pth, .ckpt or .safetensors."""
    preset: Literal["nyu", "kitti", "ade20k", "cityscapes"]
    """Recipe it was trained with."""
    out: Path = option(metavar="DIR")
    """Folder for config.json and model.safetensors."""

    def run(self) -> int:
        """Import and save."""
        from metaprompts.models.released import import_released
        from metaprompts.utils.locks import writing_into

        with writing_into(self.out, "import-released"):
            model = import_released(self.file, self.preset)
            model.save(self.out)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        say(f"{self.out}: {model.task.name} model of {parameters:,} parameters\n")
        return 0
