from metaprompts.data.config.base import joined


def open_split(data, split, *classes):
    """The samples of a split of a recipe's data section; segmentation also needs the task's classes."""
    return joined(data.parts(split, *classes))
