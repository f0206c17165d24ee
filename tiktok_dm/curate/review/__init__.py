"""`tiktok-dm review`: a local web page on which a person confirms or mends what was proposed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from tiktok_dm.errors import UserError


def serve(
    folder: Path, *, media: Path | None = None, host: str = "127.0.0.1", port: int = 0, open_browser: bool = True
) -> None:
    """Hold a review until it is interrupted: `tiktok_dm.curate.review.server.serve`, where its packages are installed.

    Raises:
        UserError: the web packages are absent, the folder or its videos are not fit for it, or the port is taken.
    """
    if any(find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise UserError("the review needs the web packages: run pip install 'tiktok-dm[web]'")
    from tiktok_dm.curate.review import server

    server.serve(folder, media=media, host=host, port=port, open_browser=open_browser)
