"""Private names of Ray in source code, which another version of Ray may not have."""

from __future__ import annotations

import ast
from pathlib import Path

TO_BE_SET = frozenset({"_supports_buffered_results"})
"""Private in name, but read by Tune from schedulers that set it."""


def private_names_of_ray(file: Path) -> list[str]:
    """Private names of Ray that a Python file uses, each with file and line.

    These are modules and names with a leading underscore that are imported from Ray and, where the file imports Ray,
    attributes with a leading underscore which nothing in the file defines.

    Args:
        file: The Python file to read.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    own = _defined(tree) | TO_BE_SET
    imports_ray = any(name == "ray" for node in ast.walk(tree) for name, _ in _imported(node))
    found = []
    for node in ast.walk(tree):
        names = [path for package, path in _imported(node) if package == "ray" and _is_private(path)]
        if imports_ray and isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in own:
            names.append(node.attr)
        found += [f"{file}:{getattr(node, 'lineno', 0)}: {name} is private to Ray" for name in names]
    return found


def _imported(node: ast.AST) -> list[tuple[str, str]]:
    """Top package and whole path of each name that a statement imports."""
    if isinstance(node, ast.Import):
        return [(alias.name.partition(".")[0], alias.name) for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [(node.module.partition(".")[0], f"{node.module}.{alias.name}") for alias in node.names]
    return []


def _defined(tree: ast.AST) -> set[str]:
    """Names that a file defines: functions, classes, variables and attributes that it sets."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            names.add(node.attr)
    return names


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _is_private(path: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in path.split("."))
