import json

import pytest

from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe
from metaprompts.recipes.model_recipe import _check_same_share


def test_another_share_than_was_held_out_is_refused(tmp_path):
    """evaluate --data.val 0.3 of a model trained with 0.2 scored training images, and called them held out."""
    words = ["--data.train", "train.txt", "--data.val"]
    recipe = read_recipe("micro_depth", [*words, "0.3"])
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_dict()))
    _check_same_share(tmp_path, recipe)

    path.write_text(json.dumps(read_recipe("micro_depth", [*words, "0.2", "--data.held_out", "a.png"]).to_dict()))
    with pytest.raises(InputError, match=r"trained without the 1 image .* omit --data\.val, or name a list$"):
        _check_same_share(tmp_path, read_recipe(str(path), ["--data.val", "0.3"]))
    _check_same_share(tmp_path, read_recipe(str(path)))
    _check_same_share(tmp_path, read_recipe(str(path), ["--data.val", "val.txt"]))
