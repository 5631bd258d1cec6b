"""Serve the page."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from metaprompts.app.model_process import ModelProcess
from metaprompts.app.settings import Limits, ModelSettings
from metaprompts.errors import InputError

# The browser itself keeps the page from contacting any other host.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; frame-ancestors 'self'"
)
_FIRST_PORT = 7860


@contextmanager
def serving(
    settings: ModelSettings, limits: Limits, *, host: str = "127.0.0.1", port: int | None = None
) -> Iterator[str]:
    """Serve the app while the block runs.

    Args:
        settings: the models
        limits: limits on requests
        host: address to listen on
        port: None for the first free port from 7860

    Yields:
        the address of the page

    Raises:
        InputError: Gradio is not installed, a model does not load, or the port is taken
    """
    if find_spec("gradio") is None:
        raise InputError("the app needs Gradio: pip install 'metaprompts[app]'")
    _check_address(host, port)
    with tempfile.TemporaryDirectory(prefix="metaprompts-app-", ignore_cleanup_errors=True) as text:
        root = Path(text)
        models = ModelProcess(settings, limits)
        try:
            with _page(models, root, limits) as page:
                yield _launch(page, root, limits, host, port)
        finally:
            models.stop()


def _check_address(host: str, port: int | None) -> None:
    """Check the address before models are loaded."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port or 0), family=family):
            pass
    except OSError as error:
        place = host if port is None else f"{host}, port {port}"
        # The message of create_server repeats the address; name resolution errors have their own numbers.
        reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or error
        raise InputError(f"the app cannot listen on {place}: {reason}; change --host or --port") from error


@contextmanager
def _page(models: ModelProcess, root: Path, limits: Limits) -> Iterator[Any]:
    # Uploads are removed with the folder.
    os.environ["GRADIO_TEMP_DIR"] = str(root / "uploads")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    from metaprompts.app.examples import example_images
    from metaprompts.app.page import build_page
    from metaprompts.app.results import Results

    examples = [Path(shutil.copy(path, root)) for path in example_images()]
    gr.set_static_paths(examples)
    page = build_page(models, models.wait_until_ready(), Results(root / "uploads"), limits, examples)
    try:
        yield page
    finally:
        page.close(verbose=False)


def _launch(page: Any, root: Path, limits: Limits, host: str, port: int | None) -> str:
    from starlette.middleware import Middleware

    from metaprompts.app.widgets import CSS, theme

    page.queue(max_size=limits.queue, api_open=False, default_concurrency_limit=1)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=False,
            max_file_size=limits.upload_bytes,
            footer_links=["api"],
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            theme=theme(),
            css=CSS,
            app_kwargs={"middleware": [Middleware(SameHostOnly)]},
        )
    except OSError as error:
        raise InputError(
            f"found no free port on {host}, starting from {_FIRST_PORT}: choose one with --port"
        ) from error
    return str(address)


class SameHostOnly:
    """Add a policy to every response that keeps the browser from contacting other hosts.

    Args:
        app: the application
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Respond to a request."""

        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _POLICY.encode())
                message = {**message, "headers": [*message.get("headers", []), policy]}
            await send(message)

        await self._app(scope, receive, send_with_policy if scope["type"] == "http" else send)
