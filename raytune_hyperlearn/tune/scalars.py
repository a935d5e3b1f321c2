"""What loggers are shown of a result: plain metrics, and every value of a schedule as a scalar of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray import tune

SCHEDULES = ("hyperparameters", "hypergradient")
"""Entries of a result that are mappings of names to lists of numbers."""
TUNES_OWN = ("config",)
"""Entries that Tune adds and loggers treat by themselves."""


def scalars(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result for a logger: no state of a method that lists and mappings hold, and schedules value by value.

    Args:
        result: As a trainable reports it.

    Returns:
        Numbers and texts as they are, without what is None; of schedules
        ``{"hyperparameters": {"learning_rate": {"0": …, "1": …}}}``, which loggers show as
        ``hyperparameters/learning_rate/0``.
    """
    plain = {
        name: value
        for name, value in result.items()
        if name in TUNES_OWN or not (value is None or isinstance(value, (Mapping, list, tuple)))
    }
    schedules = {
        kind: {name: {str(index): value for index, value in enumerate(own)} for name, own in result[kind].items()}
        for kind in SCHEDULES
        if isinstance(result.get(kind), Mapping)
    }
    return plain | schedules


class Scalars(tune.Callback):
    """Shows another callback, such as Ray Tune's loggers for TensorBoard and MLflow, the :func:`scalars` of a result.

    The harness wraps its ``callbacks`` so; with a Tuner of your own, ``callbacks=[Scalars(TBXLoggerCallback())]``.

    It answers ``isinstance`` as the callback itself. Else Tune would add a TBXLoggerCallback of its own, and two
    loggers that start in the same second write into the same file.

    Args:
        callback: Called in all else as Tune would.
    """

    def __init__(self, callback: tune.Callback) -> None:
        if not isinstance(callback, tune.Callback):
            raise ValueError(f"callback is {callback!r}; it must be a ray.tune.Callback")
        self.callback = callback

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Class of the callback that is wrapped."""
        return type(self.callback)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy it as what it is, whatever class it names."""
        return Scalars, (self.callback,)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass the scalars on."""
        self.callback.on_trial_result(iteration, trials, trial, scalars(result), **info)


def _passed_on(name: str) -> Callable[..., Any]:
    def method(self: Scalars, *arguments: Any, **options: Any) -> Any:
        return getattr(self.callback, name)(*arguments, **options)

    method.__doc__ = f"As the callback's own ``{name}``."
    return method


for _name in (
    "setup",
    "on_step_begin",
    "on_step_end",
    "on_trial_start",
    "on_trial_restore",
    "on_trial_save",
    "on_trial_complete",
    "on_trial_recover",
    "on_trial_error",
    "on_checkpoint",
    "on_experiment_end",
    "get_state",
    "set_state",
):
    setattr(Scalars, _name, _passed_on(_name))
