"""Where a problem comes from: the name of one that ships, ``path/to/file.py:name`` or ``package.module:name``.

What a reference names is a :class:`~raytune_hyperlearn.problems.problem.Problem` or a
:class:`~raytune_hyperlearn.problems.training_function.TrainingFunction`, or a function that returns one.
Looking a reference up needs neither torch nor what the file imports; :func:`load` runs the file.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from raytune_hyperlearn.problems.names import PROBLEMS

if TYPE_CHECKING:
    from raytune_hyperlearn.problems.problem import Problem
    from raytune_hyperlearn.problems.training_function import TrainingFunction

OTHERS = "path/to/file.py:name or package.module:name"


@dataclass(frozen=True)
class ProblemSource:
    """An own problem, to be built in any process: pass it where a problem is expected.

    Attributes:
        reference: As the user wrote it.
        folder: Where relative paths and modules are looked for.
        arguments: Given to the function that builds the problem.
        digest: SHA-256 of the source file; the file that is run must have it.
        code: The file's text, run on machines that do not have the file; empty for modules, which must be installed.
    """

    reference: str
    folder: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    digest: str = ""
    code: str = field(default="", repr=False)

    def __call__(self) -> Problem | TrainingFunction:
        """Build the problem or training function.

        Raises:
            ValueError: In one line that begins with the reference.
        """
        module_name, _, name = self.reference.rpartition(":")
        try:
            module = _run_file(self, module_name) if _is_file(module_name) else _import(self.folder, module_name)
        except Exception as error:
            raise ValueError(f"problem is {self.reference!r}; {module_name} cannot be run: {_line(error)}") from error
        return _built(self, _attribute(self, module, name))


_BUILT: ContextVar[dict[str | ProblemSource, Problem] | None] = ContextVar("built", default=None)
"""What :func:`load` has built, while somebody wants that kept."""


def source_of(reference: str, arguments: Mapping[str, Any] | None = None) -> str | ProblemSource:
    """What a trial's config holds for a reference: a built-in problem's name as it is, else a :class:`ProblemSource`.

    Args:
        reference: Name of a built-in problem, ``path/to/file.py:name`` or ``package.module:name``.
        arguments: Given to the function that is named.

    Raises:
        ValueError: In one line, if there is no such problem, file or module, or a built-in one is given arguments.
    """
    if reference in PROBLEMS:
        if arguments:
            raise ValueError(f"problem_args is {dict(arguments)}; {reference} takes none")
        return reference
    module, _, name = reference.rpartition(":")
    if not module or not name:
        raise ValueError(f"problem is {reference!r}; it must be one of {', '.join(PROBLEMS)}, or {OTHERS}")
    file = Path(module) if _is_file(module) else _module_file(reference, module)
    if not file.is_file():
        raise ValueError(f"problem is {reference!r}; there is no file {file}")
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    code = content.decode("utf-8", "replace") if _is_file(module) else ""
    return ProblemSource(reference, str(Path.cwd()), dict(arguments or {}), digest, code)


def digest_of(source: str | ProblemSource) -> str | None:
    """The digest of an own problem's source file; None for a built-in problem."""
    return source.digest if isinstance(source, ProblemSource) else None


def short_name(reference: str) -> str:
    """What folders and records call a reference: ``mine`` for ``path/to/mine.py:problem``, a built-in name as it is."""
    module, _, name = reference.rpartition(":")
    if not module:
        return reference
    stem = Path(module).stem if _is_file(module) else module.rpartition(".")[2]
    return stem if name == "problem" else f"{stem}-{name}"


def training_function_of(source: str | ProblemSource) -> TrainingFunction | None:
    """The training function that a reference names; None for a problem.

    A file is run only if its text names ``TrainingFunction``: problems may have large data, and wait for the checks.

    Raises:
        ValueError: In one line, if such a file cannot be run.
    """
    if isinstance(source, str):
        return None
    module = source.reference.rpartition(":")[0]
    code = source.code or _module_file(source.reference, module).read_text(encoding="utf-8", errors="replace")
    if "TrainingFunction" not in code:
        return None
    from raytune_hyperlearn.problems.training_function import TrainingFunction

    found = source()
    return found if isinstance(found, TrainingFunction) else None


def reference_to(problem: Callable[..., Any] | TrainingFunction) -> str:
    """The reference of a function that builds a problem, or of a training function, so that workers find it.

    Raises:
        ValueError: If it can not be found by its name: it is a lambda, or defined in another function.
    """
    if not inspect.isfunction(problem) and hasattr(problem, "train"):
        return _reference_to_value(problem)
    module, name = getattr(problem, "__module__", None), getattr(problem, "__qualname__", "<lambda>")
    if module is None or not inspect.isfunction(problem) or "<" in name:
        raise ValueError(f"problem is {problem!r}; it must be a function at the top level of a file, or {OTHERS}")
    if module != "__main__":
        return f"{module}:{name}"
    return f"{inspect.getfile(problem)}:{name}"


def _reference_to_value(value: Any) -> str:
    """The reference of a training function, by the name that the file of its ``train`` gives it."""
    module = sys.modules.get(getattr(value.train, "__module__", ""))
    names = [name for name, found in vars(module).items() if found is value] if module is not None else []
    if module is None or not names:
        raise ValueError(f"problem is {value.name}; it must have a name at the top level of the file of its train")
    return f"{inspect.getfile(value.train) if module.__name__ == '__main__' else module.__name__}:{names[0]}"


def load(problem: str | Problem | Callable[[], Problem | TrainingFunction]) -> Problem:
    """A problem from its name or reference, from a function that builds one, or as it is.

    Args:
        problem: A name, path/to/file.py:name, package.module:name, a function without arguments, or a problem.

    Raises:
        ValueError: In one line, if there is no such problem or it cannot be built.
        MissingDataError: If its data are missing.
    """
    from raytune_hyperlearn.problems.problem import Problem

    if isinstance(problem, Problem):
        return problem
    source = source_of(problem) if isinstance(problem, str) else problem
    built = _BUILT.get()
    if built is None or not isinstance(source, (str, ProblemSource)):
        return _build(problem, source)
    if source not in built:
        built[source] = _build(problem, source)
    return built[source]


def _build(problem: object, source: str | Callable[[], Problem | TrainingFunction]) -> Problem:
    """What a source builds, if it is a problem; messages name what was asked for."""
    from raytune_hyperlearn.problems import built_in
    from raytune_hyperlearn.problems.problem import Problem
    from raytune_hyperlearn.problems.training_function import TrainingFunction

    made = getattr(built_in, PROBLEMS[source].function)() if isinstance(source, str) else source()
    if isinstance(made, TrainingFunction):
        raise ValueError(f"problem is the training function {made.name}; what trains a network itself needs a Problem")
    if not isinstance(made, Problem):
        raise ValueError(f"problem is {problem!r}; it must return a Problem, not {type(made).__name__}")
    return made


@contextmanager
def built_once() -> Iterator[None]:
    """Within it, in this thread, :func:`load` builds each problem that has a name or reference once."""
    token = _BUILT.set({})
    try:
        yield
    finally:
        _BUILT.reset(token)


def _is_file(module: str) -> bool:
    return module.endswith(".py")


def _module_file(reference: str, module: str) -> Path:
    try:
        with_folder(str(Path.cwd()))
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise ValueError(f"problem is {reference!r}; module {module} cannot be found: {_line(error)}") from error
    if spec is None or spec.origin is None:
        raise ValueError(f"problem is {reference!r}; there is no module {module}")
    return Path(spec.origin)


def with_folder(folder: str) -> None:
    """Let modules beside an own problem be imported, as ``python file.py`` would."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _import(folder: str, module: str) -> ModuleType:
    with_folder(folder)
    return importlib.import_module(module)


def _run_file(source: ProblemSource, name: str) -> ModuleType:
    """The module that an own file makes; in one process it runs once, so that its classes stay the same."""
    known = f"raytune_hyperlearn_own_{source.digest}"
    if known in sys.modules:
        return sys.modules[known]
    path = Path(source.folder, name)
    if path.is_file():
        with_folder(str(path.parent))
        if hashlib.sha256(path.read_bytes()).hexdigest() != source.digest:
            raise ValueError("it has changed since the run began")
    module = ModuleType(known)
    module.__file__ = str(path)
    sys.modules[known] = module
    try:
        exec(compile(source.code, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[known]
        raise
    return module


def _attribute(source: ProblemSource, module: ModuleType, name: str) -> Any:
    if not hasattr(module, name):
        raise ValueError(f"problem is {source.reference!r}; there is no {name!r} in it, {_offer(module)}")
    return getattr(module, name)


def _offer(module: ModuleType) -> str:
    """What a module has to offer: its Problems, training functions and functions of its own."""
    from raytune_hyperlearn.problems.problem import Problem
    from raytune_hyperlearn.problems.training_function import TrainingFunction

    offered = [
        key
        for key, value in vars(module).items()
        if isinstance(value, (Problem, TrainingFunction))
        or (inspect.isfunction(value) and key[0] != "_" and value.__module__ == module.__name__)
    ]
    return f"only {', '.join(offered)}" if offered else "and no Problem and no function either"


def _built(source: ProblemSource, found: Any) -> Problem | TrainingFunction:
    from raytune_hyperlearn.problems.problem import Problem
    from raytune_hyperlearn.problems.training_function import TrainingFunction

    if isinstance(found, (Problem, TrainingFunction)):
        if source.arguments:
            kind = type(found).__name__
            raise ValueError(f"problem_args is {dict(source.arguments)}; {source.reference} is a {kind} and takes none")
        return found
    if not callable(found):
        kind = type(found).__name__
        raise ValueError(f"problem is {source.reference!r}; it must be a Problem or return one, not {kind}")
    try:
        made = found(**source.arguments)
    except Exception as error:
        raise ValueError(f"problem is {source.reference!r}; it raises {_line(error)}") from error
    if not isinstance(made, (Problem, TrainingFunction)):
        raise ValueError(f"problem is {source.reference!r}; it must return a Problem, not {type(made).__name__}")
    return made


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
