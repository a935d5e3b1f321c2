"""Result folders and a browser for the comparison's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.comparison.reporting.browser import Browser, find_browser
from tests.comparison.synthetic import make_experiment, write_folder


@pytest.fixture(scope="session")
def result_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One comparison of six methods with three seeds on digits, FDS ahead; not to be changed."""
    return write_folder(tmp_path_factory.mktemp("results") / "digits", make_experiment(), skill=0.03)


@pytest.fixture(scope="session")
def browser() -> Browser:
    """A headless Chromium."""
    executable = find_browser()
    if executable is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the path to open the report with")
    return Browser(executable)
