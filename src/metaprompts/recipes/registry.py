"""The shipped recipes; a separate module, so that a command's help need not import PyTorch."""

from importlib import resources


def recipe_names() -> list[str]:
    """The names of the shipped recipes, sorted."""
    folder = resources.files("metaprompts") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
