"""Text encoders in folders, as Stable Diffusion 1.5 is laid out."""

import json
from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from metaprompts.pretraining.config import Text
from metaprompts.pretraining.tokenizer_stage import make_tokenizer

FULL_WIDTH = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SMALL_WIDTH = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SENTENCES = ("a photo of a wall.", "an image of the sky.", "there is a tree in the scene.", "a close view of a road.")


def write_text_encoder(folder: Path, sizes: dict[str, int] = SMALL_WIDTH, seed: int = 0) -> Path:
    """Write tokenizer/ and text_encoder/ with random weights and a vocabulary learned from a few sentences."""
    _write_tokenizer(folder / "tokenizer")
    words = len(json.loads((folder / "tokenizer/vocab.json").read_text()))
    torch.manual_seed(seed)
    # The id of the end that Stable Diffusion 1.5's config names is wrong; the true one is the vocabulary's last.
    config = CLIPTextConfig(**sizes, vocab_size=words, max_position_embeddings=77, bos_token_id=0, eos_token_id=2)
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    return folder


def _write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True)
    made = make_tokenizer(SENTENCES, Text(merges=40))
    made.backend_tokenizer.model.save(str(folder))
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    settings = {**special, "pad_token": "<|endoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
