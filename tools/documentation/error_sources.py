"""The errors as the source has them: the classes of each tree, and every message with its cure.

Nothing is imported, so the errors of all parts are found, whatever is installed.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from latency_service.core import exit_codes
from latency_service.core.transport import ApiError

ROOT = Path(__file__).parents[2]
SERVICE, RECEIVED, COMMAND, CLIENT = "ServiceError", "ApiError", "CommandError", "PruningError"
#: Trees whose errors each package raises.
TREES = {"latency_service": (SERVICE, RECEIVED, COMMAND), "pruning_client": (CLIENT,)}
#: Functions that are called with status, code, message and cure, and the tree that these are of.
_ANSWERS = {"render": SERVICE, "_refuse": SERVICE, "__init__": RECEIVED, RECEIVED: RECEIVED}
#: What a database that fails is answered with.
_FAULT = "Fault"
#: Stands for what is filled in when an error is raised.
GAP = "…"


@dataclass(frozen=True, kw_only=True)
class ErrorClass:
    """One class of a tree, with what it inherits."""

    name: str
    tree: str
    meaning: str = ""
    code: str = "failed"
    #: HTTP status; 0 where no answer carries it.
    status: int = 0
    exit_code: int = exit_codes.FAILED


#: Attributes of a class that its page tells.
_TOLD = ("code", "status", "exit_code")


@dataclass(frozen=True, kw_only=True)
class Message:
    """One place where an error is raised, with `GAP` for what is filled in."""

    tree: str
    code: str
    status: int
    exit_code: int
    message: str
    cure: str


@dataclass(frozen=True, kw_only=True)
class Errors:
    """All errors of both packages."""

    classes: list[ErrorClass]
    messages: list[Message]


@cache
def read(root: Path = ROOT) -> Errors:
    """The errors of the packages below `root`."""
    found: list[ErrorClass] = []
    said: set[Message] = set()
    for package, trees in TREES.items():
        parsed = [ast.parse(path.read_text()) for path in sorted((root / package).rglob("*.py"))]
        known = _classes(parsed, trees)
        found += [one for name, one in known.items() if name not in trees]
        scopes = [scope for module in parsed for scope in _scopes(module)]
        said |= {message for scope in scopes for message in scope.messages(known)}
    return Errors(
        classes=found, messages=sorted(said, key=lambda one: (one.code, one.message, one.cure))
    )


def exit_code_of(status: int, code: str) -> int:
    """Exit code of a command to which the service answers so."""
    return exit_codes.of_error(ApiError(status, code, "", ""))


def _classes(parsed: list[ast.Module], trees: tuple[str, ...]) -> dict[str, ErrorClass]:
    """Every class by its name, bases first."""
    found = {name: ErrorClass(name=name, tree=name) for name in trees}
    if SERVICE in found:
        found[SERVICE] = replace(found[SERVICE], code="internal", status=500)
    waiting = [node for module in parsed for node in module.body if isinstance(node, ast.ClassDef)]
    while ready := [node for node in waiting if _base(node) in found]:
        found |= {node.name: _derived(node, found[_base(node)]) for node in ready}
        waiting = [node for node in waiting if node not in ready]
    return found


def _base(node: ast.ClassDef) -> str:
    return ast.unparse(node.bases[0]) if node.bases else ""


def _derived(node: ast.ClassDef, base: ErrorClass) -> ErrorClass:
    own: dict[str, Any] = {
        ast.unparse(statement.targets[0]): ast.literal_eval(statement.value)
        for statement in node.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) in _TOLD
    }
    if base.tree == RECEIVED:
        own |= _passed_on(node)
    meaning = inspect.cleandoc(ast.get_docstring(node) or "").split("\n\n")[0]
    made = replace(base, name=node.name, meaning=meaning, **own)
    if base.tree in (SERVICE, RECEIVED):
        made = replace(made, exit_code=exit_code_of(made.status, made.code))
    return made


def _passed_on(node: ast.ClassDef) -> dict[str, Any]:
    """Status and code that a class gives to `ApiError`."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
            status, code = (ast.literal_eval(argument) for argument in call.args[:2])
            return {"status": status, "code": code}
    return {}


def _scopes(module: ast.Module) -> Iterator[_Scope]:
    """The functions of a module, nested ones apart."""
    shared = _texts(module.body)
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield _Scope(node=node, values=shared | _texts(list(ast.walk(node))))
    yield _Scope(node=ast.Module([*filter(_is_constant, module.body)], []), values=shared)


def _is_constant(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign)


def _texts(nodes: Sequence[ast.AST]) -> dict[str, ast.expr]:
    """Values of the names that are assigned once."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return {name: values[0] for name, values in found.items() if len(values) == 1}


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """A function, or a module's constants, with the values of the names that it can see."""

    node: ast.AST
    values: Mapping[str, ast.expr]

    def messages(self, known: Mapping[str, ErrorClass]) -> Iterator[Message]:
        """What is raised or answered here."""
        for node in ast.walk(self.node):
            if isinstance(node, ast.Call):
                yield from self._of_call(node, known)

    def _of_call(self, call: ast.Call, known: Mapping[str, ErrorClass]) -> Iterator[Message]:
        name = _called(call)
        if name in _ANSWERS:
            yield from self._of_answer(call, _ANSWERS[name])
        elif name == _FAULT:
            yield from self._of_fault(call)
        elif name in known:
            yield from self._of_error(call, known[name])

    def _of_answer(self, call: ast.Call, tree: str) -> Iterator[Message]:
        """Status, code, message and cure in this order."""
        if len(call.args) < 3:
            return
        status, code = call.args[:2]
        if isinstance(code, ast.Constant) and isinstance(code.value, str):
            known = status.value if isinstance(status, ast.Constant) else 0
            yield self._message(tree, code.value, int(str(known)), call.args[2:4])

    def _of_fault(self, call: ast.Call) -> Iterator[Message]:
        given = {str(keyword.arg): keyword.value for keyword in call.keywords}
        if {"code", "message", "cure"} <= given.keys():
            words = [given["message"], given["cure"]]
            yield self._message(SERVICE, self._text(given["code"]), 503, words)

    def _of_error(self, call: ast.Call, error: ErrorClass) -> Iterator[Message]:
        given = {str(keyword.arg): keyword.value for keyword in call.keywords}
        code = self._text(given["code"]) if "code" in given else error.code
        has_own_words = error.tree != RECEIVED and len(call.args) > 1
        if not has_own_words or code == GAP:
            return
        made = self._message(error.tree, code, error.status, call.args[:2])
        if error.tree == CLIENT:
            made = replace(made, exit_code=error.exit_code)
        if error.tree == COMMAND:
            made = replace(made, exit_code=_named_exit_code(given.get("exit_code")))
        yield made

    def _message(self, tree: str, code: str, status: int, words: list[ast.expr]) -> Message:
        message, cure = [*map(self._text, words), ""][:2]
        return Message(
            tree=tree,
            code=code,
            status=status,
            exit_code=exit_code_of(status, code),
            message=message,
            cure=cure,
        )

    def _text(self, node: ast.expr) -> str:
        """What a string says, with `GAP` for everything that is known at run time only."""
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.JoinedStr(values=parts):
                return "".join(map(self._text, parts))
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._text(left) + self._text(right)
            case ast.FormattedValue(value=ast.Name() as name) if name.id.isupper():
                return self._text(name)
            case ast.Name(id=name) if name in self.values:
                found = self.values[name]
                return GAP if isinstance(found, ast.Name) else self._text(found)
        return GAP


def _called(call: ast.Call) -> str:
    """The last name of what is called."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _named_exit_code(node: ast.expr | None) -> int:
    if isinstance(node, ast.Attribute):
        return int(getattr(exit_codes, node.attr))
    return exit_codes.FAILED
