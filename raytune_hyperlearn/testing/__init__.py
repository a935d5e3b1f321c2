"""Checks that every trainable, scheduler and searcher of this package passes, to be run on one's own as well.

    CASE = TrainableCase(MyTrainable, {"problem": my_problem})

    @pytest.mark.parametrize("check", CASE.checks())
    def test_my_trainable(check):
        check()

A check is a function without arguments that raises an AssertionError; none needs pytest, or a running Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_hyperlearn.testing.check import Check
    from raytune_hyperlearn.testing.private_names import private_names_of_ray
    from raytune_hyperlearn.testing.schedulers import SchedulerCase
    from raytune_hyperlearn.testing.searchers import SearcherCase
    from raytune_hyperlearn.testing.trainables import TrainableCase
else:
    from raytune_hyperlearn.lazy_exports import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            ".check": ["Check"],
            ".private_names": ["private_names_of_ray"],
            ".schedulers": ["SchedulerCase"],
            ".searchers": ["SearcherCase"],
            ".trainables": ["TrainableCase"],
        },
    )

__all__ = ["Check", "SchedulerCase", "SearcherCase", "TrainableCase", "private_names_of_ray"]
