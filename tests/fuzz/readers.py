"""Every reader of files, each with small valid ones."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from metaprompts.ablation.study import read_study
from metaprompts.captioning.disk_cache import CaptionStore, EncodingStore
from metaprompts.cli.boxes import Boxes
from metaprompts.data.config.depth import DepthData
from metaprompts.data.config.pose import PoseData
from metaprompts.data.config.segmentation import SegmentationData
from metaprompts.data.datasets.keypoints import CocoKeypoints
from metaprompts.data.io.caption_file import CaptionFile
from metaprompts.data.io.images import read_image
from metaprompts.data.io.list_files import read_pairs
from metaprompts.data.shards.writer import begin, write_split
from metaprompts.evaluation.records import RecordWriter, belongs_to, drop_damaged, read_records
from metaprompts.evaluation.records import begin as begin_records
from metaprompts.models.model import MetaPromptModel
from metaprompts.models.released import import_released
from metaprompts.modules.backbone import build_backbone, load_backbone
from metaprompts.modules.backbone.distilled_encoder import EncoderShape, SmallEncoder
from metaprompts.pretraining.config import Vae
from metaprompts.pretraining.train_loop import TrainConfig, new_state, resume, save
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.ema import WeightAverage
from metaprompts.training.logger import read_lines
from metaprompts.training.train_state import TrainState
from metaprompts.utils.tensor_files import load_tensors, read_tensors, write_tensors
from open_split import open_split
from small import small_model

SEED = np.random.default_rng(0)
SIDE = (12, 10)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader and a folder that it reads.

    Attributes:
        files: name -> valid content
        target: name of the file that is changed
        read: the reader; takes the folder
        is_json: whether values are changed, not bytes
        is_valid: whether the reader takes the files as they are
    """

    files: Mapping[str, bytes]
    target: str
    read: Callable[[Path], Any]
    is_json: bool = False
    is_valid: bool = True


def image_file(mode: str = "RGB", ending: str = "PNG", *, high: int = 256, **options: Any) -> bytes:
    height, width = SIDE
    channels = {"RGB": (3,), "RGBA": (4,), "L": (), "P": (), "I;16": ()}[mode]
    high = 4 if mode in ("L", "P") else high
    values = SEED.integers(0, high, (height, width, *channels), np.uint8)
    image = Image.fromarray(values.astype(np.uint16) * (40 if high > 4 else 1) if mode == "I;16" else values)
    if mode == "P":
        image = image.convert("P")
    file = io.BytesIO()
    image.save(file, ending, **options)
    return file.getvalue()


def exif() -> Any:
    found = Image.Exif()
    found[0x0112] = 6
    return found


def array(kind: str = "npy") -> bytes:
    file = io.BytesIO()
    depth = SEED.random(SIDE).astype(np.float32) * 5
    np.save(file, depth) if kind == "npy" else np.savez(file, depth=depth)
    return file.getvalue()


def pfm() -> bytes:
    return b"Pf\n10 12\n-1.0\n" + SEED.random(SIDE).astype("<f4").tobytes()


def float_tiff() -> bytes:
    file = io.BytesIO()
    Image.fromarray(SEED.random(SIDE).astype(np.float32)).save(file, "TIFF")
    return file.getvalue()


def images() -> dict[str, Reader]:
    files = {
        "png": image_file(), "rgba": image_file("RGBA"), "palette": image_file("P"),
        "jpeg": image_file(ending="JPEG", exif=exif()),
        "bmp": image_file(ending="BMP"), "tiff": image_file(ending="TIFF"), "webp": image_file(ending="WEBP"),
        "gif": image_file("P", "GIF"), "deep": image_file("I;16"),
    }  # fmt: skip
    return {
        f"image_{kind}": Reader(files={"x.png": content}, target="x.png", read=lambda f: read_image(f / "x.png"))
        for kind, content in files.items()
    }


def masks() -> dict[str, Reader]:
    data = SegmentationData(train="train.txt", val="train.txt")
    both = {"a.png": image_file(), "train.txt": b"a.png m.png\n"}

    def read(folder: Path) -> Any:
        return open_split(replace(data, root=folder), "train", 4)[0]

    return {
        f"mask_{kind}": Reader(files={**both, "m.png": content}, target="m.png", read=read)
        for kind, content in {
            "gray": image_file("L"),
            "palette": image_file("P"),
            "deep": image_file("I;16", high=4),
        }.items()
    }


def depths() -> dict[str, Reader]:
    made = {}
    contents = {
        "png": image_file("I;16"), "npy": array(), "npz": array("npz"), "pfm": pfm(), "tiff": float_tiff(),
    }  # fmt: skip
    for ending, content in contents.items():
        files = {"a.png": image_file(), "train.txt": f"a.png d.{ending}\n".encode(), f"d.{ending}": content}

        def read(folder: Path) -> Any:
            return open_split(DepthData(root=folder, val="train.txt"), "train")[0]

        made[f"depth_{ending}"] = Reader(files=files, target=f"d.{ending}", read=read)
    return made


def coco() -> dict[str, Any]:
    people = [
        {
            "id": number, "image_id": 1, "category_id": 1, "bbox": [1, 1, 6, 8], "area": 30.5, "iscrowd": 0,
            "num_keypoints": 2, "keypoints": [2, 3, 2, 4, 5, 1, 0, 0, 0],
        }
        for number in (1, 2)
    ]  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2]]}
    image = {"id": 1, "file_name": "1.png", "height": SIDE[0], "width": SIDE[1]}
    return {"images": [image], "annotations": people, "categories": [category]}


def annotations() -> dict[str, Reader]:
    truth = json.dumps(coco()).encode()
    found = json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 6, 8], "score": 0.9}]).encode()
    files = {"1.png": image_file(), "truth.json": truth, "found.json": found}

    def people(folder: Path) -> Any:
        samples = CocoKeypoints(folder, "truth.json")
        return [samples[index] for index in range(len(samples))]

    def detected(folder: Path) -> Any:
        return CocoKeypoints(folder, "truth.json", detections="found.json")[0]

    def boxes(name: str) -> Callable[[Path], Any]:
        return lambda folder: Boxes.read(folder / name, [folder / "1.png"]).of(folder / "1.png", SIDE)

    return {
        "coco": Reader(files=files, target="truth.json", read=people, is_json=True),
        "coco_bytes": Reader(files=files, target="truth.json", read=people),
        "detections": Reader(files=files, target="found.json", read=detected, is_json=True),
        "boxes": Reader(files=files, target="truth.json", read=boxes("truth.json"), is_json=True),
        "boxes_found": Reader(files=files, target="found.json", read=boxes("found.json"), is_json=True),
    }


def texts() -> dict[str, Reader]:
    captions = json.dumps({"a.png": "a lamp", "b/c.png": "a red chair"}).encode()
    lines = b"a.png m.png\nb/a.png b/m.png\n# a remark\n"
    pairs = {"list.txt": lines, **dict.fromkeys(("a.png", "m.png", "b/a.png", "b/m.png"), image_file("L"))}
    toml = b'extends = "micro_depth"\n[data]\nroot = "x"\nimage_size = [64, 96]\n[training]\nsteps = 9\n'
    toml += b'output_dir = "runs"\n'
    recipe = json.dumps(read_recipe("micro_pose").to_dict()).encode()
    study = (Path(__file__).parents[2] / "studies/steps.toml").read_bytes()
    log = b'{"step":1,"total":0.5,"lr":0.1}\n{"step":2,"total":null,"lr":0.1}\n'
    return {
        "captions": Reader(files={"x.json": captions}, target="x.json", read=_captions, is_json=True),
        "captions_bytes": Reader(files={"x.json": captions}, target="x.json", read=_captions),
        "lists": Reader(files=pairs, target="list.txt", read=lambda f: read_pairs(f / "list.txt", f)),
        "recipe_toml": Reader(files={"x.toml": toml}, target="x.toml", read=lambda f: read_recipe(str(f / "x.toml"))),
        "recipe_json": Reader(
            files={"x.json": recipe}, target="x.json", read=lambda f: read_recipe(str(f / "x.json")), is_json=True
        ),
        "study": Reader(files={"x.toml": study}, target="x.toml", read=lambda f: read_study(f / "x.toml")),
        "log": Reader(files={"x.jsonl": log}, target="x.jsonl", read=lambda f: read_lines(f / "x.jsonl")),
    }


def _captions(folder: Path) -> Any:
    return CaptionFile(folder / "x.json", folder).of("a.png")


def stores(folder: Path) -> dict[str, Reader]:
    encodings = EncodingStore(folder, "text")
    encodings.fill(["a"], lambda texts: torch.ones(len(texts), 4, 8))
    captions, pixels = CaptionStore(folder, "model"), np.zeros((4, 4, 3), np.uint8)
    captions.write(pixels, "a lamp")
    files = read_all(folder)
    kinds = {"encodings": (".npy", False), "captions_kept": (".json", True)}

    def encoded(folder: Path) -> Any:
        store = EncodingStore(folder, "text")
        return store.has("a"), store.read("a")

    reads = {"encodings": encoded, "captions_kept": lambda folder: CaptionStore(folder, "model").read(pixels)}
    return {
        name: Reader(
            files=files, target=next(each for each in files if each.endswith(ending)), read=reads[name], is_json=is_json
        )
        for name, (ending, is_json) in kinds.items()
    }


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def models(folder: Path) -> dict[str, Reader]:
    small_model("depth").save(folder / "model")
    model = read_all(folder / "model")
    shape = EncoderShape(widths=(8, 8), blocks=1, latent_channels=4, latent_scale=0.2)
    SmallEncoder(shape, "fingerprint").save(folder / "encoder")
    encoder = read_all(folder / "encoder")
    tensors = {"weight": torch.ones(3, 2), "bias": torch.ones(3)}
    write_tensors(folder / "x.safetensors", tensors)
    torch.save({"state_dict": tensors, "epoch": 3, "callbacks": {"a": Path("x")}}, folder / "x.ckpt")
    torch.save({"model": tensors}, folder / "old.pth", _use_new_zipfile_serialization=False)
    plain = {name: (folder / name).read_bytes() for name in ("x.safetensors", "x.ckpt", "old.pth")}

    def filled(name: str) -> Callable[[Path], Any]:
        return lambda folder: load_tensors(nn.Linear(2, 3), read_tensors(folder / name), origin=folder / name)

    def configured(folder: Path) -> Any:
        return MetaPromptModel.from_pretrained(folder)

    return {
        "config": Reader(files=model, target="config.json", read=configured, is_json=True),
        "model_weights": Reader(files=model, target="model.safetensors", read=configured),
        "encoder": Reader(files=encoder, target="encoder.json", read=SmallEncoder.read, is_json=True),
        "safetensors": Reader(files=plain, target="x.safetensors", read=filled("x.safetensors")),
        "ckpt": Reader(files=plain, target="x.ckpt", read=filled("x.ckpt")),
        "pth": Reader(files=plain, target="old.pth", read=filled("old.pth")),
        "released": Reader(
            files=plain,
            target="x.ckpt",
            read=lambda folder: import_released(folder / "x.ckpt", "ade20k"),
            is_valid=False,
        ),
    }


UNET = {
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 8,
}
VAE = {
    "block_out_channels": [32, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
}


def backbones(folder: Path) -> dict[str, Reader]:
    made = build_backbone(UNET, VAE)
    for part, safe in (("unet", True), ("vae", False)):
        getattr(made, part).save_pretrained(folder / part, safe_serialization=safe)
    files = read_all(folder)

    def read(folder: Path) -> Any:
        return load_backbone(str(folder))

    return {
        "backbone_unet": Reader(files=files, target="unet/config.json", read=read, is_json=True),
        "backbone_vae": Reader(files=files, target="vae/config.json", read=read, is_json=True),
        "backbone_bin": Reader(files=files, target="vae/diffusion_pytorch_model.bin", read=read),
    }


def shards(folder: Path) -> dict[str, Reader]:
    from metaprompts.data.shards.index import Origin

    root = folder / "data"
    root.mkdir(parents=True)
    (root / "1.png").write_bytes(image_file())
    (root / "truth.json").write_text(json.dumps(coco()))
    data = PoseData(root=root, train="truth.json", train_images="", val="truth.json", val_images="")
    begin(folder / "shards", Origin(task="pose", classes=None, shard_bytes=1, data=data.sample_settings()))
    for split in ("train", "val"):
        write_split(folder / "shards", split, open_split(data, split))
    files = read_all(folder / "shards")

    def read(folder: Path) -> Any:
        samples = open_split(replace(data, root=None, shards=folder), "train")
        return [samples[index] for index in range(len(samples))], samples.path(0)

    return {
        "shards_index": Reader(files=files, target="shards.json", read=read, is_json=True),
        "shards_index_bytes": Reader(files=files, target="shards.json", read=read),
        "shards_tar": Reader(files=files, target="train-000000.tar", read=read),
    }


def checkpoints(folder: Path) -> dict[str, Reader]:
    config = TrainConfig(settings=Vae(steps=9), seed=0, folder=folder, identity={"data": "x"}, checkpoint_seconds=0)

    def learner() -> TrainState:
        model = nn.Linear(2, 2)
        return new_state(model, config.settings, WeightAverage(model, 0.5))

    made = learner()
    made.model(torch.ones(1, 2)).sum().backward()
    made.optimizer.step()
    made.step = 1
    save(made, config)
    files = read_all(folder)

    def read(folder: Path) -> Any:
        return resume(learner(), replace(config, folder=folder))

    return {"checkpoint": Reader(files=files, target="00000001.pt", read=read)}


def records(folder: Path) -> dict[str, Reader]:
    what = {"weights": "a", "test": {"windows": (1, 2)}}
    begin_records(folder, what)
    with RecordWriter(folder, 0) as writer:
        for index in range(3):
            writer.write({"index": index, "name": f"{index}.png", "state": {"total": [0.5], "images": 1}})
    files = read_all(folder)

    def read(folder: Path) -> Any:
        if belongs_to(folder, what, restart=False):
            drop_damaged(folder)
        return read_records(folder)

    return {
        "records": Reader(files=files, target="per_image-part0.jsonl", read=read),
        "evaluation": Reader(files=files, target="evaluation.json", read=read, is_json=True),
    }


def all_readers(folder: Path) -> dict[str, Reader]:
    """Every reader by name.

    Args:
        folder: an empty one
    """
    parts = {"stores": stores, "models": models, "backbones": backbones, "shards": shards}
    parts |= {"checkpoints": checkpoints, "records": records}
    found = images() | masks() | depths() | annotations() | texts()
    for name, make in parts.items():
        (folder / name).mkdir()
        found |= make(folder / name)
    return found
