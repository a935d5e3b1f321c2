"""The report of a running comparison in a browser: served on this machine alone, and rebuilt as results come in."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from raytune_hyperlearn.comparison.analysis.results import load_studies
from raytune_hyperlearn.comparison.records import CONFIRMATIONS_FILE, EXPERIMENT_FILE, RECORDS_FILE, RUNS_FILE
from raytune_hyperlearn.comparison.reporting.page import write_page

HOST = "127.0.0.1"
PORT = 8765
"""Where it is served; if that is taken, at any free port."""
WAIT = 2.0
"""Seconds between two looks at the folders."""
WATCHED = (EXPERIMENT_FILE, RECORDS_FILE, RUNS_FILE, CONFIRMATIONS_FILE)


@dataclass
class LivePage:
    """The newest page of some folders.

    Attributes:
        folders: Result folders.
        focus: The method to test against each other one; None takes the experiments' own.
        version: Of the page, which changes with what the folders hold; empty before the first.
        text: The page.
    """

    folders: Sequence[Path]
    focus: str | None = None
    version: str = ""
    text: str = ""
    _seen: tuple[object, ...] = field(default=(), repr=False)

    def refresh(self) -> bool:
        """Build the page again if a file has changed; whether there is a new page.

        Raises:
            ValueError: In one line, if a folder cannot be read.
        """
        seen = tuple(_state(folder / name) for folder in self.folders for name in WATCHED)
        if seen == self._seen:
            return False
        version = _digest([folder / name for folder in self.folders for name in WATCHED])
        with tempfile.TemporaryDirectory() as scratch:
            page = write_page(load_studies(self.folders, self.focus), Path(scratch) / "report.html", version)
            self._seen, self.text, self.version = seen, page.read_text(encoding="utf-8"), version
        return True

    def keep_fresh(self, stopped: threading.Event) -> None:
        """Refresh until ``stopped``; a folder that cannot be read for a moment leaves the last page."""
        while not stopped.wait(WAIT):
            with suppress(ValueError, OSError):
                self.refresh()


def _state(file: Path) -> tuple[int, int] | None:
    """Size and time of the last change; None where there is no such file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _digest(files: Sequence[Path]) -> str:
    """Of what the files hold; those that are not there yet hold nothing."""
    found = hashlib.sha256()
    for file in files:
        found.update(hashlib.sha256(file.read_bytes() if file.is_file() else b"").digest())
    return found.hexdigest()[:16]


def make_server(page: LivePage, port: int = PORT) -> ThreadingHTTPServer:
    """A server of the page on the loopback interface; any free port if ``port`` is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = (self.headers.get("Host") or "").partition(":")[0]
            answers = {"/": (page.text, "text/html"), "/version": (page.version, "text/plain")}
            found = answers.get(self.path.partition("?")[0])
            if name not in (HOST, "localhost"):  # another site's name that leads here
                self.send_error(HTTPStatus.FORBIDDEN)
            elif found is None:
                self.send_error(HTTPStatus.NOT_FOUND)
            else:
                self._answer(*found)

        def _answer(self, text: str, kind: str) -> None:
            content = text.encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: every browser asks every few seconds."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError:
        return ThreadingHTTPServer((HOST, 0), Handler)


def serve(page: LivePage, server: ThreadingHTTPServer) -> None:
    """Serve the page, fresh, until Ctrl-C."""
    stopped = threading.Event()
    keeper = threading.Thread(target=page.keep_fresh, args=(stopped,), daemon=True)
    keeper.start()
    try:
        server.serve_forever()
    finally:
        stopped.set()
        server.server_close()
