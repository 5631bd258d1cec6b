"""Parts of the page that Gradio does not have: an upload field, errors as one line, colors and fonts."""

import functools
import html
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr
from gradio.component_meta import ComponentMeta

from metaprompts.errors import InputError, one_line

_logger = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])

ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "models", "concurrency_limit": 1}
"""Settings of all events that compute."""

CSS = """
.gradio-container { max-width: 1180px !important; width: 100%; margin: 0 auto !important; }
.gradio-container main { width: 100%; }
.file-preview button[aria-label^="Remove"], .file-preview .label-clear-button { display: none; }
#title h1 { font-weight: 650; letter-spacing: -0.01em; margin-bottom: 0; }
#title p { color: var(--body-text-color-subdued); margin-top: 0.25rem; }
.note, .note p { color: var(--body-text-color-subdued); font-size: 0.9rem; }
.answer p { font-size: 1.1rem; }
.bar { padding: 0 2px; }
.bar-colors { height: 14px; border-radius: 4px; }
.bar-marks { display: flex; justify-content: space-between; font-size: 0.85rem; padding-top: 4px;
  font-variant-numeric: tabular-nums; color: var(--body-text-color-subdued); }
.people { width: 100%; border: none !important; border-collapse: collapse; margin-top: 8px;
  font-size: 0.95rem; font-variant-numeric: tabular-nums; }
.people th, .people td { text-align: left; padding: 4px 12px 4px 0; border: none !important;
  border-bottom: 1px solid var(--border-color-primary) !important; }
"""


def theme() -> Any:
    """Plain colors and system fonts, so that nothing is downloaded."""
    return gr.themes.Default(
        primary_hue="indigo",
        neutral_hue="slate",
        font=["system-ui", "-apple-system", "Segoe UI", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
        radius_size="md",
    )


class _WithoutStubFile(ComponentMeta):  # type: ignore[misc]
    """Gradio writes a stub file next to the module of every component, even in an installed package."""

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> Any:
        return super(ComponentMeta, cls).__new__(cls, name, bases, attributes)


class Photo(gr.Image, metaclass=_WithoutStubFile):  # type: ignore[misc]
    """An image field whose handlers get the uploaded file; Gradio would open it, with its own error messages."""

    is_template = True

    def preprocess(self, payload: Any) -> str | None:
        """The path of the uploaded file; Gradio has verified that it is an upload."""
        return None if payload is None or payload.path is None else str(payload.path)

    async def async_move_resource_to_block_cache(self, url_or_file_path: Any) -> Any:
        """Keep uploads; URLs are not fetched, because the app contacts no other host."""
        if str(url_or_file_path).startswith(("http://", "https://")):
            raise gr.Error("this app does not download from URLs: upload the file", print_exception=False)
        return await super().async_move_resource_to_block_cache(url_or_file_path)


def reporting(handler: Handler) -> Handler:
    """Show errors of a handler as one line on the page."""

    @functools.wraps(handler)
    def run(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except InputError as error:
            raise _shown(one_line(error)) from None
        except gr.Error:
            raise
        except Exception:
            _logger.exception("an error in the app")
            raise _shown("an unexpected error in the app; its log has the details") from None

    return run  # type: ignore[return-value]


def _shown(line: str) -> gr.Error:
    # Messages may quote names, which the page would render as HTML.
    return gr.Error(html.escape(line[0].upper() + line[1:], quote=False), title="Not done", print_exception=False)
