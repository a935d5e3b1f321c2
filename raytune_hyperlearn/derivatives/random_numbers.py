"""Random numbers inside a forward pass (dropout) that can be drawn again: the same seed, the same masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def private_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's default generators for the body and puts their states back afterwards.

    Dropout draws from the default generators and takes no other; this keeps their states the caller's.

    Args:
        seed: Any integer in [0, 2⁶³).
        device: Where the body computes; its generator is seeded beside the CPU's.
    """
    accelerators = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices=accelerators, device_type=device.type if accelerators else "cuda"):
        torch.default_generator.manual_seed(seed)
        for accelerator in accelerators:
            module = torch.get_device_module(accelerator)
            with module.device(accelerator):
                module.manual_seed(seed)
        yield
