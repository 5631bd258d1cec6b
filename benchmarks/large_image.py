"""Measure the prediction of a large image at Stable Diffusion's size on a CPU: its seconds and its peak memory.

    python benchmarks/large_image.py [--size 2048,4096] [--window 1024,1024] [--max-memory 9.5GB] [--threads 2]
        [--precision fp32] [--precise true]
    python benchmarks/large_image.py --part encoder [--whole] [--size 2048,4096] [--rows 128]

Random weights of the recipe cityscapes: Stable Diffusion 1.5's architecture, K = 3, N = 150, 19 classes. The first
segments an image in windows that do not overlap, the encoder going through each in strips if the limit wants it; in
double precision, as a loaded model's does on a CPU, unless --precise is false. The second only encodes the whole
image, in strips and in single precision; with --whole also without strips, in a process of its own. Sizes are heights
and widths.

The peak is the process's largest resident memory. Exits with 1 if windows take more than 10 GB.
"""

import argparse
import subprocess
import sys
import time

import numpy as np
import torch
from diffusers import AutoencoderKL

from metaprompts.engines.memory_budget import Budget, choose
from metaprompts.engines.optimized import Encode
from metaprompts.inference.predict import Windows, predict_in_windows
from metaprompts.modules.backbone import LatentEncoder
from metaprompts.modules.backbone.loading import named_config
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.dummy import stand_in_model
from metaprompts.utils.byte_size import parse_bytes
from metaprompts.utils.system import peak_bytes

BOUND = 10e9
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> int:
    """Measure and print; 1 if windows take more than the bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("windows", "encoder"), default="windows")
    parser.add_argument("--size", type=pair, default=(2048, 4096))
    parser.add_argument("--window", type=pair, default=(1024, 1024))
    parser.add_argument("--max-memory", default="9.5GB")
    parser.add_argument("--precise", choices=("true", "false"), default="true")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    seconds = encode(options) if options.part == "encoder" else segment(options)
    peak = peak_bytes()
    sys.stdout.write(f"{described(options)}: {seconds:.0f} s, peak {peak / 1e9:.2f} GB\n")
    sys.stdout.flush()
    if options.part == "encoder" and options.whole and options.rows:
        # The last of two equal options counts.
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--rows", "0"], check=True)
    return int(options.part == "windows" and peak > BOUND)


def segment(options: argparse.Namespace) -> float:
    """Predict an image in windows; seconds."""
    model = stand_in_model(read_recipe("cityscapes", ["--training.device", "cpu"])).to(PRECISIONS[options.precision])
    model.latent_encoder.precise = options.precise == "true"
    windows, limit = Windows(options.window, options.window), parse_bytes(options.max_memory, "--max-memory")
    held = windows.held_bytes(*options.size, model.task.outputs)
    sys.stdout.write(f"{choose(model, options.window, limit=limit, reserved=held)}\n")
    sys.stdout.flush()
    budget = Budget(model, limit, most=1)
    image = np.random.default_rng(0).integers(0, 256, (*options.size, 3), dtype=np.uint8)
    started = time.perf_counter()
    predict_in_windows(model, image, windows, batch=budget.batch(options.window, held))
    return time.perf_counter() - started


@torch.inference_mode()
def encode(options: argparse.Namespace) -> float:
    """Encode an image; seconds."""
    vae = AutoencoderKL.from_config(named_config("sd15")["vae"])
    whole = Encode(LatentEncoder(vae).to(PRECISIONS[options.precision]))
    encoder = whole.in_strips(options.rows) if options.rows else whole
    images = torch.rand(1, 3, *options.size).to(PRECISIONS[options.precision])
    started = time.perf_counter()
    encoder(images)
    return time.perf_counter() - started


def described(options: argparse.Namespace) -> str:
    """What was measured."""
    height, width = options.size
    how = f"in strips of {options.rows} rows" if options.rows else "without strips"
    if options.part == "windows":
        how = f"in windows of {options.window[0]}x{options.window[1]} within {options.max_memory}"
    return f"{options.part}, {height}x{width} {how}, {options.precision}, {options.threads} threads"


def pair(text: str) -> tuple[int, int]:
    """Read "height,width"."""
    height, width = text.split(",")
    return int(height), int(width)


if __name__ == "__main__":
    sys.exit(main())
