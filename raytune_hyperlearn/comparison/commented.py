"""An experiment's settings as a YAML file with a comment for each."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import replace

from raytune_hyperlearn.comparison.experiment import Experiment, experiment_to_yaml

WIDTH = 100


def commented_yaml(experiment: Experiment) -> str:
    """The whole file: what each setting means, then its value; ``hyperlearn compare --config`` reads it."""
    meanings = descriptions(Experiment)
    lines = []
    # The digest says which file was trained; settings may be used again after the file has changed.
    for line in experiment_to_yaml(replace(experiment, problem_digest=None)).splitlines():
        setting = re.match(r"(\w+):", line)
        if setting:
            lines += ["", *textwrap.wrap(meanings[setting[1]], WIDTH, initial_indent="# ", subsequent_indent="# ")]
        lines.append(line)
    return "\n".join(lines[1:]) + "\n"


def descriptions(record_type: type) -> dict[str, str]:
    """What each field of a record means, from the one place that says so: its class's documentation."""
    _, _, attributes = inspect.cleandoc(record_type.__doc__ or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", attributes, re.MULTILINE | re.DOTALL)
    return {
        name: re.sub(r":class:`~[\w.]*\.(\w+)`", r"\1", " ".join(text.split())).replace("``", "")
        for name, text in found
    }
