from pathlib import Path

from metaprompts.data.datasets.pairs import DepthPairs
from metaprompts.data.datasets.segmentation import SegmentationPairs
from metaprompts.data.io.depth_files import DepthEncoding
from metaprompts.data.io.label_tables import label_table
from metaprompts.data.io.list_files import find_pairs


def segmentation_folder(root, images, labels=None, *, classes, **options):
    """Images and masks, from a list file or from two folders."""
    table = label_table(classes, **options)
    return SegmentationPairs(find_pairs(Path(root), images, labels), table)


def depth_folder(root, images, labels=None, *, encoding=None):
    """Images and depth files, from a list file or from two folders."""
    return DepthPairs(find_pairs(Path(root), images, labels), encoding or DepthEncoding())
