"""Generated scenes: small worlds of rooms and streets, with the truth about every pixel."""

from metaprompts.data.scenes.scene import Scene, ScenePerson, generate_scene
from metaprompts.data.scenes.world import CLASSES

__all__ = ["CLASSES", "Scene", "ScenePerson", "generate_scene"]
