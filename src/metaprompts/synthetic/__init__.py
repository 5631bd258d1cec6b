"""Generated scenes: small worlds of rooms and streets, with the truth about every pixel."""

from metaprompts.synthetic.scene import Scene, ScenePerson, generate_scene
from metaprompts.synthetic.world import CLASSES

__all__ = ["CLASSES", "Scene", "ScenePerson", "generate_scene"]
