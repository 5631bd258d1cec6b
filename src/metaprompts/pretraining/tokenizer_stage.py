"""Stage text: a CLIP tokenizer with the vocabulary of the captions."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from metaprompts.errors import InputError
from metaprompts.pretraining.config import Text
from metaprompts.utils.files import write_folder_whole

_END_OF_WORD = "</w>"
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
_LENGTH_STEP = 8


def write_tokenizer(captions: Sequence[str], settings: Text, folder: Path) -> None:
    """Learn a vocabulary and write it in the format of transformers' CLIPTokenizer.

    Args:
        captions: the training text
        settings: settings of the stage
        folder: output folder for vocab.json, merges.txt and the other files

    Raises:
        InputError: the folder cannot be written
    """
    tokenizer = make_tokenizer(captions, settings)
    with write_folder_whole(folder) as scratch:
        tokenizer.save_pretrained(scratch)
        # transformers 5 writes a single tokenizer.json; older versions and other tools need these two files.
        tokenizer.backend_tokenizer.model.save(str(scratch))


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """Read what `write_tokenizer` wrote.

    Raises:
        InputError: there is no tokenizer
    """
    if not (folder / "vocab.json").is_file():
        raise InputError(f"no tokenizer in {folder}: run stage text first")
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


def make_tokenizer(captions: Sequence[str], settings: Text) -> CLIPTokenizer:
    """Learn a vocabulary of byte pairs: single bytes, inside and at the end of a word, and their merges.

    It can encode any text. Its ``model_max_length`` is the length of the longest caption, rounded up, but at most
    ``settings.longest``.
    """
    merges = _learn_merges(captions, settings.merges)
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + _END_OF_WORD for letter in letters), *map("".join, merges), *_SPECIAL]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges)  # type: ignore[arg-type]  # it expects pairs
    longest = max(len(numbers) for numbers in tokenizer(list(captions))["input_ids"])
    tokenizer.model_max_length = min(-(-longest // _LENGTH_STEP) * _LENGTH_STEP, settings.longest)
    return tokenizer


def _learn_merges(captions: Sequence[str], count: int) -> list[tuple[str, str]]:
    published = CLIPTokenizer().backend_tokenizer
    tokenizer = Tokenizer(BPE(end_of_word_suffix=_END_OF_WORD))
    tokenizer.normalizer, tokenizer.pre_tokenizer = published.normalizer, published.pre_tokenizer
    letters = ByteLevel.alphabet()
    # The trainer's size also counts single letters, and letters at word ends separately.
    trainer = BpeTrainer(
        vocab_size=2 * len(letters) + count,
        initial_alphabet=letters,
        end_of_word_suffix=_END_OF_WORD,
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]][:count]
