"""Files of a trial's checkpoints: whole or refused, and where the newest is damaged the one before it is read.

A checkpoint is ``checkpoint.pt`` and its SHA-256 in ``checkpoint.pt.sha256``, as ``sha256sum --check`` reads it. Tune
copies both into the trial's folder, where each checkpoint has a folder of its own, ``checkpoint_000000`` and so on.
"""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch

LOGGER = logging.getLogger(__name__)

STATE_FILE = "checkpoint.pt"
DIGEST_FILE = f"{STATE_FILE}.sha256"


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write a state and its digest; each file is whole or absent.

    Args:
        folder: Of the checkpoint.
        state: Tensors, numbers and strings, in lists and mappings.
    """
    stream = io.BytesIO()
    torch.save(state, stream)
    content = stream.getvalue()
    _write_whole(folder / STATE_FILE, content)
    _write_whole(folder / DIGEST_FILE, f"{hashlib.sha256(content).hexdigest()}  {STATE_FILE}\n".encode())


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The state in a checkpoint's folder, or if that is damaged in the newest whole one before it.

    Args:
        folder: Of the checkpoint; those before it lie beside it.

    Returns:
        The state; tensors are on the CPU.

    Raises:
        ValueError: In one line that names the file, if it is damaged and there is no whole one before it.
    """
    earlier = sorted(other for other in folder.parent.glob("checkpoint_*") if other.name < folder.name)
    for tried in (folder, *reversed(earlier)):
        content = _read_whole(tried)
        if content is not None:
            if tried != folder:
                LOGGER.warning("%s is damaged; the one before is used, %s", folder / STATE_FILE, tried / STATE_FILE)
            state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            return state
    raise ValueError(
        f"checkpoint is {folder / STATE_FILE}; it must be whole, as its digest says, or have a whole one before it"
    )


def _read_whole(folder: Path) -> bytes | None:
    """The content of a checkpoint's file; None if it is damaged or lost."""
    try:
        content, digest = (folder / STATE_FILE).read_bytes(), (folder / DIGEST_FILE).read_bytes()
    except OSError:
        return None
    return content if digest.split()[:1] == [hashlib.sha256(content).hexdigest().encode()] else None


def _write_whole(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)
