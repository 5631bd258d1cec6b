import pytest
from transformers import CLIPTokenizer

from metaprompts.errors import InputError
from metaprompts.pretraining.config import Text
from metaprompts.pretraining.tokenizer_stage import make_tokenizer, read_tokenizer, write_tokenizer

CAPTIONS = ["a street with two cars: a red one and a blue one", "a room with a table, a green ball"] * 3
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def test_a_caption_comes_back_from_its_tokens(tmp_path):
    write_tokenizer(CAPTIONS, Text(merges=100), tmp_path / "text")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "text")
    for caption in CAPTIONS[:2]:
        numbers = tokenizer(caption)["input_ids"]
        assert (numbers[0], numbers[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        found = tokenizer.decode(numbers, skip_special_tokens=True)
        assert found.replace(" ", "") == caption.replace(" ", "")
    words = tokenizer.tokenize("A red car,")
    assert words[:2] == ["a</w>", "red</w>"]


def test_what_is_read_is_what_was_made(tmp_path):
    made = make_tokenizer(CAPTIONS, Text(merges=50))
    write_tokenizer(CAPTIONS, Text(merges=50), tmp_path / "text")
    read = read_tokenizer(tmp_path / "text")
    assert read.get_vocab() == made.get_vocab()
    assert read(CAPTIONS)["input_ids"] == made(CAPTIONS)["input_ids"]
    # The two files alone, as other tools write them, say the same.
    (tmp_path / "text/tokenizer.json").unlink()
    alone = CLIPTokenizer.from_pretrained(tmp_path / "text")
    assert alone(CAPTIONS)["input_ids"] == made(CAPTIONS)["input_ids"]


def test_every_text_can_be_spelled():
    tokenizer = make_tokenizer(CAPTIONS, Text(merges=10))
    numbers = tokenizer("Žebra & quokka №7")["input_ids"][1:-1]
    assert tokenizer.eos_token_id not in numbers
    assert len(tokenizer) == 2 * 256 + 10 + 2


def test_the_longest_caption_decides_on_the_length_up_to_a_limit():
    letters = ["a b c d e f g"]
    assert make_tokenizer(letters, Text(merges=1)).model_max_length == 16
    assert make_tokenizer(["a b c d e f"], Text(merges=1)).model_max_length == 8
    assert make_tokenizer(letters, Text(merges=1, longest=10)).model_max_length == 10


def test_merging_is_most_frequent_first():
    tokenizer = make_tokenizer(["abab abab abab"], Text(merges=2))
    assert tokenizer.tokenize("abab")[-1].endswith("</w>")
    assert len(tokenizer.tokenize("abab")) == 2


def test_a_missing_tokenizer_names_the_stage(tmp_path):
    with pytest.raises(InputError, match="run stage text first"):
        read_tokenizer(tmp_path)
