"""What is wrong with a command line is one line and exit code 2."""

import pytest

from metaprompts.cli import main


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("predict", "error: missing MODEL, --out DIR; see metaprompts predict --help"),
        (
            "predict m a --out o --steps x",
            "error: --steps is 'x'; expected --steps INT; see metaprompts predict --help",
        ),
        ("predict m a --out", "Missing value for argument '--out'"),
        ("predict m a --out o --engine foo", "invalid choice 'foo' for argument '--engine'. Expected one of ('auto',"),
        ("predict m a --out o --otu x", "Unrecognized options: --otu, x; did you mean --out?; see metaprompts predict"),
        ("scenes --layout nyu --out x --count 1.5", "error: --count is '1.5'; expected --count INT; see metaprompts"),
        ("heatmaps m a --out o --level 7x", "error: --level is '7x'; expected --level INT|{mean}; see"),
        ("export m --out o --format onnx --size a b", "error: --size is 'a b'; expected --size HEIGHT WIDTH; see"),
        (
            "pretrain --out x --vae.steps -1",
            "error: vae.steps is -1; expected 1 to 1000000000; see metaprompts pretrain --help",
        ),
        ("predcit m a", "error: unknown command predcit: did you mean predict? expected one of train, memory,"),
        ("", "error: no command given: expected one of train, memory,"),
    ],
)
def test_bad_words_are_one_line(words, expected, capsys):
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert expected in printed.err
    assert printed.err.count("\n") == 1


def test_every_command_is_listed_with_what_it_does(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "  train            Train on your own images\n" in printed
    assert "  import-released  Convert a checkpoint" in printed
