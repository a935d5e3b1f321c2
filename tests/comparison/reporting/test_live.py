"""The report that is served while a comparison runs: fresh, for this machine alone, and as the reader left it."""

from __future__ import annotations

import http.client
import shutil
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from raytune_hyperlearn.comparison.records import RECORDS_FILE, RecordWriter
from raytune_hyperlearn.comparison.reporting.live import LivePage, make_server
from tests.comparison.reporting.browser import FLAGS, find_browser
from tests.comparison.synthetic import make_experiment, make_record, write_folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment = make_experiment(methods=("fds", "rs"), seeds=(0, 1))
    return write_folder(tmp_path_factory.mktemp("live") / "run", experiment)


@pytest.fixture
def page(written: Path, tmp_path: Path) -> LivePage:
    folder = Path(shutil.copytree(written, tmp_path / "run"))
    made = LivePage([folder])
    assert made.refresh()
    return made


@pytest.fixture
def server(page: LivePage) -> Iterator[ThreadingHTTPServer]:
    server = make_server(page, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def add_a_result(page: LivePage) -> None:
    with RecordWriter(page.folders[0] / RECORDS_FILE) as writer:
        writer.append(make_record(method="rs", seed=1, trial="late", time=59.0, validation_loss=0.01))


def answer(server: ThreadingHTTPServer, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_the_page_is_built_anew_when_and_only_when_a_file_has_changed(page: LivePage) -> None:
    before = page.version
    assert not page.refresh()
    assert page.version == before
    add_a_result(page)
    assert page.refresh()
    assert page.version != before


def test_it_listens_on_this_machine_alone_and_answers_its_own_name(page: LivePage, server: ThreadingHTTPServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert answer(server, "/version") == (200, page.version)
    assert answer(server, "/") == (200, page.text)
    assert answer(server, "/", "evil.example")[0] == 403
    assert answer(server, "/../../etc/passwd")[0] == 404
    other = make_server(page, port=server.server_address[1])  # that port is taken
    assert other.server_address[1] != server.server_address[1]
    other.server_close()


def test_a_new_page_comes_by_itself_and_keeps_the_readers_switches(page: LivePage, server: ThreadingHTTPServer) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    executable = find_browser()
    if executable is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the path to open the report with")
    host, port = server.server_address[:2]
    with sync_api.sync_playwright() as playwright:
        allowed = [flag for flag in FLAGS if not flag.startswith("--proxy-server")]
        browser = playwright.chromium.launch(executable_path=executable, args=allowed)
        view: Any = browser.new_page()
        problems: list[str] = []
        view.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        view.on("pageerror", lambda error: problems.append(str(error)))
        view.goto(f"http://{host}:{port}/")
        figure = "figure[data-kind=regret] >> nth=0"
        view.select_option(f"{figure} >> [data-switch=spread]", "seeds")
        view.click(f"{figure} >> .names button >> nth=1")
        view.evaluate("document.querySelectorAll('details.fold')[2].open = true")
        shown = page.version
        add_a_result(page)
        page.refresh()
        view.wait_for_selector(f"html[data-version]:not([data-version='{shown}'])", state="attached", timeout=15_000)
        view.wait_for_selector(f"{figure} >> .names button[aria-pressed=false]", timeout=5_000)
        assert view.input_value(f"{figure} >> [data-switch=spread]") == "seeds"
        assert view.evaluate("document.querySelectorAll('details.fold')[2].open")
        assert problems == []
        browser.close()
