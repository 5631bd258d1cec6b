"""Measure how much memory segmentation of a 2048x1024 image takes beyond the model, with Cityscapes' protocol.

    python benchmarks/evaluation_memory.py [--scales 0.5,1,1.75] [--flip] [--window-batch 1]

A miniature random model predicts 19 classes in windows of 1024, stride 512. Prints the peak resident memory after the
model has predicted one such window, after the whole image, and their difference: what evaluation adds. Exits with 1
if that is more than 1 GB.
"""

import argparse
import resource
import sys
import time

import torch

from metaprompts.data.class_names import CITYSCAPES
from metaprompts.evaluation.evaluate import predict
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks import Segmentation
from metaprompts.tasks.protocol import scaled_name
from metaprompts.tasks.segmentation import SegmentationProtocol

HEIGHT, WIDTH, SIDE, STRIDE = 1024, 2048, 1024, 512
BOUND_MIB = 1e9 / 2**20
# Linux counts in KiB, macOS in bytes.
PER_MIB = 2**20 if sys.platform == "darwin" else 2**10


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / PER_MIB


def main() -> int:
    """Measure and print; 1 if evaluation takes more than the bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", default="1")
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--window-batch", type=int, default=1)
    options = parser.parse_args()
    scales = tuple(float(scale) for scale in options.scales.split(","))
    test = SegmentationProtocol(
        window=SIDE, stride=STRIDE, scales=scales, flip=options.flip, window_batch=options.window_batch
    )
    model = MetaPromptModel.from_backbone("random:micro", task=Segmentation(classes=CITYSCAPES, width=16)).eval()
    size = (HEIGHT, WIDTH)
    batch = {scaled_name(scale): torch.rand(1, 3, int(HEIGHT * scale), int(WIDTH * scale)) for scale in {1.0, *scales}}
    with torch.no_grad():
        start = peak_mib()
        # What the model takes for one pass, it takes without evaluation, too.
        model(torch.rand(options.window_batch, 3, SIDE, SIDE))
        before, started = peak_mib(), time.perf_counter()
        raw = predict(model, batch, test)
        labels = raw.argmax(dim=1)
    assert labels.shape[1:] == size
    after = peak_mib()
    sys.stdout.write(
        f"{test}\nmodel and images {start:.0f} MiB, one window {before:.0f} MiB, whole image {after:.0f} MiB: "
        f"evaluation takes {after - before:.0f} MiB more, {time.perf_counter() - started:.0f} s\n"
    )
    return int(after - before > BOUND_MIB)


if __name__ == "__main__":
    sys.exit(main())
