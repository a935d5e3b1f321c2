"""Where a problem comes from: the name of one that ships, a function that builds one, or the problem itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raytune_hyperlearn.problems.names import PROBLEMS

if TYPE_CHECKING:
    from raytune_hyperlearn.problems.problem import Problem


def load(problem: str | Problem | Callable[[], Problem]) -> Problem:
    """A problem from its name, from a function that builds one, or as it is.

    Raises:
        ValueError: If no problem has that name.
        MissingDataError: If its data are missing.
    """
    from raytune_hyperlearn.problems import built_in
    from raytune_hyperlearn.problems.problem import Problem

    if isinstance(problem, Problem):
        return problem
    if isinstance(problem, str):
        if problem not in PROBLEMS:
            raise ValueError(f"problem is {problem!r}; it must be one of {', '.join(PROBLEMS)}")
        made: Problem = getattr(built_in, PROBLEMS[problem].function)()
        return made
    return problem()
