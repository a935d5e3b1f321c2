"""A headless Chromium that opens a local page: its document after loading, or a picture of it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--proxy-server=http://127.0.0.1:9",  # nobody listens there: whatever the browser itself asks for stays here
)


def find_browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for found in map(shutil.which, names) if found), None)


@dataclass(frozen=True)
class Browser:
    executable: str

    def document(self, page: Path, *flags: str) -> str:
        """The page's document after it has loaded and its scripts have run."""
        return self._run(page, "--dump-dom", *flags)

    def screenshot(self, page: Path, picture: Path, width: int, height: int) -> Path:
        self._run(page, f"--screenshot={picture}", f"--window-size={width},{height}")
        return picture

    def _run(self, page: Path, *flags: str) -> str:
        with tempfile.TemporaryDirectory() as profile:
            command = [self.executable, *FLAGS, f"--user-data-dir={profile}", *flags, page.resolve().as_uri()]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return ended.stdout
