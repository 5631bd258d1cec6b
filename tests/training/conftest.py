import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _quick(request):
    if "draws_curves" not in request.keywords:
        request.getfixturevalue("no_curves")


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Five training and two validation images of 64x64 with depth in millimeters and two classes."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        lines = []
        for index in range(count):
            image = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / f"{split}{index}.png")
            depth = generator.integers(500, 9000, (64, 64)).astype(np.uint16)
            Image.fromarray(depth).save(folder / f"{split}{index}_depth.png")
            Image.fromarray((image[..., 0] > 127).astype(np.uint8)).save(folder / f"{split}{index}_labels.png")
            lines.append(f"{split}{index}.png {split}{index}_KIND.png\n")
        for kind in ("depth", "labels"):
            (folder / f"{split}_{kind}.txt").write_text("".join(lines).replace("KIND", kind))
    return folder
