"""A captioner of a few thousand parameters that has learned nothing."""

from pathlib import Path

import torch
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil, BlipProcessor

_WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[DEC]",
    *"a the red blue car tree house street room lamp".split(),
]


def write_captioner(folder: Path, seed: int = 0) -> Path:
    """Write a BLIP with random weights, as transformers reads it from a folder."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(_WORDS))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    size = {"height": 16, "width": 16}
    BlipProcessor(BlipImageProcessorPil(size=size), tokenizer).save_pretrained(folder)
    torch.manual_seed(seed)
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": 5, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    text = layers | special | {"vocab_size": len(_WORDS), "encoder_hidden_size": 16, "max_position_embeddings": 64}
    config = BlipConfig(
        text_config=text | {"initializer_range": 1.0},
        vision_config=layers | {"image_size": 16, "patch_size": 8, "initializer_range": 1.0},
        projection_dim=16,
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    return folder
