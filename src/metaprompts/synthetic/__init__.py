"""Generated scenes: rooms and streets with ground truth for every pixel."""

from metaprompts.synthetic.scene import Scene, ScenePerson, generate_scene
from metaprompts.synthetic.world import CLASSES

__all__ = ["CLASSES", "Scene", "ScenePerson", "generate_scene"]
