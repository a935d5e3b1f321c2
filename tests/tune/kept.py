"""What a kept state says of a run's trials."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

from raytune_hyperlearn.tune.kept_state import KEPT_FILE


def kept_trials(run: Path) -> str:
    """The newest experiment state that a run's folder keeps, as text; empty before the first."""
    path = run / KEPT_FILE
    if not path.exists():
        return ""
    with ZipFile(path) as kept:
        newest = max(name for name in kept.namelist() if name.startswith("experiment_state-"))
        return kept.read(newest).decode()


def keeps_a_checkpoint(run: Path) -> bool:
    """Whether the newest experiment state names a checkpoint; Tune writes those pickled, in hexadecimal digits."""
    return b"checkpoint_0000".hex() in kept_trials(run)
