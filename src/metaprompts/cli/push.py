"""``metaprompts push``."""

from dataclasses import dataclass

from metaprompts.cli.options import argument, option
from metaprompts.embedded import embedded_models


@dataclass(frozen=True, kw_only=True)
class Push:
    """Upload a model to the Hugging Face hub, where metaprompts.load and every command read it.

    Uploads config.json, model.safetensors, recipe.json and README.md, the model card that training wrote (edit the card
    before uploading). Log in with `hf auth login`, or set HF_TOKEN.
    """

    model: str = argument("MODEL", names=embedded_models)
    """A model folder, for example runs/mine/best, or an embedded model."""
    repo: str = argument("OWNER/NAME")
    """The repository; it is created if it does not exist."""
    private: bool = False
    """Create a private repository."""
    message: str | None = option(None, metavar="TEXT")
    """Commit message."""

    def run(self) -> int:
        """Upload."""
        from metaprompts.cli.console import complain, say
        from metaprompts.models.push import local_paths, push

        for path in local_paths(self.model):
            complain(f"note: {path} is a path on this machine, and will be public\n")
        say(f"{push(self.model, self.repo, private=self.private, message=self.message)}\n")
        return 0
