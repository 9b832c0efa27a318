"""Conditions that stand in experiment files: `algorithm.kind == 'sft' or algorithm.params.lr < 2e-5`.

They are written as in Python and can do nothing but look at values: names with dots, numbers, texts, lists,
comparisons, `and or not in`, `+ - * / %`, and the functions listed in `FUNCTIONS`. A name that is not there is an
error, so that a typing mistake is not silently false; where a value may be missing, ask `has(name)` first or take
`get(name, default)`.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from hone.errors import UserError
from hone.experiments.dotted import value_at

LONGEST = 2000
"""Characters of an expression: Python's own parser gives up on what is nested some hundred levels deep."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len,
    "abs": abs,
    "min": min,
    "max": max,
    "round": round,
    "int": int,
    "float": float,
    "str": str,
    "lower": lambda text: str(text).lower(),
    "upper": lambda text: str(text).upper(),
    "strip": lambda text: str(text).strip(),
    "words": lambda text: len(str(text).split()),
    "startswith": lambda text, start: str(text).startswith(start),
    "endswith": lambda text, end: str(text).endswith(end),
    "matches": lambda text, pattern: re.search(pattern, str(text)) is not None,
}
"""Beside these, `has(name)` says whether a value is there and not null, and `get(name, default)` takes it if so."""

_ASKING = ("has", "get")
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_SUMS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}
_CONSTANTS = {"true": True, "false": False, "null": None}
"""YAML's words beside Python's."""


class ExpressionError(UserError):
    """It cannot be read, or not with these values."""


class Expression:
    """Read once, asked often."""

    def __init__(self, text: str) -> None:
        """Raises `ExpressionError` if the text is none, or asks for more than looking at values."""
        self.text = text
        if len(text) > LONGEST:
            raise ExpressionError(f"the expression has {len(text)} characters; write one of at most {LONGEST}")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ExpressionError(f"{text!r} is no expression: {getattr(error, 'msg', error)}") from None
        self.names = frozenset(_check(self._tree, text))
        """The dotted names that it looks at."""

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def value(self, values: Mapping[str, Any]) -> Any:
        """What it comes to; names are looked up in `values`, with dots into objects.

        Raises:
            ExpressionError: a name is not there, or the values do not allow it (text < number).
        """
        try:
            return _value(self._tree, values)
        except ExpressionError as error:
            raise ExpressionError(f"{self.text!r} cannot be decided: {error}") from None
        except (TypeError, ValueError, ArithmeticError, LookupError, re.error) as error:
            raise ExpressionError(f"{self.text!r} cannot be decided: {error}") from None

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true of the values."""
        return bool(self.value(values))


def _check(node: ast.expr, text: str) -> list[str]:
    """The names in it; `ExpressionError` for anything that is not on the short list of what may stand there."""
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return []
        case ast.Name() | ast.Attribute() if (name := _name(node)) is not None:
            return [] if name in _CONSTANTS else [name]
        case ast.BoolOp(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts):
            return _all(parts, text)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=part):
            return _check(part, text)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _SUMS:
            return _all([left, right], text)
        case ast.Compare(left=left, comparators=others):
            return _all([left, *others], text)
        case ast.IfExp(test=test, body=body, orelse=other):
            return _all([test, body, other], text)
        case ast.Subscript(value=value, slice=ast.Constant() | ast.UnaryOp() as key):
            return _all([value, key], text)
        case ast.Call(func=ast.Name(id=called), args=args, keywords=[]):
            if called in _ASKING:
                if not args or _name(args[0]) is None or len(args) != 1 + (called == "get"):
                    form = "has(name)" if called == "has" else "get(name, default)"
                    raise ExpressionError(f"{text!r} uses {called} in another way than {form}")
                return _all(args[1:], text)
            if called not in FUNCTIONS:
                known = sorted([*FUNCTIONS, *_ASKING])
                raise ExpressionError(f"{text!r} calls {called!r}; {_near(called, known)}there are {', '.join(known)}")
            return _all(args, text)
    raise ExpressionError(
        f"{text!r} holds {ast.unparse(node)!r}; an expression compares names, numbers and texts, "
        "with and, or, not, in, + - * / % and a few functions"
    )


def _all(nodes: list[ast.expr], text: str) -> list[str]:
    return [name for node in nodes for name in _check(node, text)]


def _name(node: ast.expr) -> str | None:
    """`a.b.c`, if that is what it is."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and not node.attr.startswith("__"):
        before = _name(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=constant):
            return constant
        case ast.Name() | ast.Attribute():
            return _looked_up(_name(node) or "", values)
        case ast.BoolOp(op=sign, values=parts):
            found: Any = None
            for part in parts:
                found = _value(part, values)
                if bool(found) == isinstance(sign, ast.Or):
                    return found
            return found
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, values) for part in parts]
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return not _value(part, values)
        case ast.UnaryOp(op=sign, operand=part):
            return _number(_value(part, values)) * (-1 if isinstance(sign, ast.USub) else 1)
        case ast.BinOp(left=left, op=sign, right=right):
            return _sum(sign, _value(left, values), _value(right, values))
        case ast.Compare(left=left, ops=comparisons, comparators=others):
            one = _value(left, values)
            for comparison, other in zip(comparisons, others, strict=True):
                two = _value(other, values)
                if not _COMPARISONS[type(comparison)](one, two):
                    return False
                one = two
            return True
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if _value(test, values) else other, values)
        case ast.Subscript(value=value, slice=key):
            return _value(value, values)[_value(key, values)]
        case ast.Call(func=ast.Name(id=called), args=args):
            if called in _ASKING:
                return _asked(called, args, values)
            return FUNCTIONS[called](*(_value(arg, values) for arg in args))
    raise AssertionError(f"{ast.dump(node)} passed the check")


def _asked(called: str, args: list[ast.expr], values: Mapping[str, Any]) -> Any:
    try:
        found = value_at(values, _name(args[0]) or "")
    except KeyError:
        found = None
    if called == "has":
        return found is not None
    return _value(args[1], values) if found is None else found


def _looked_up(name: str, values: Mapping[str, Any]) -> Any:
    try:
        return value_at(values, name)
    except KeyError:
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        known = sorted(map(str, values))
        there = ", ".join(known[:20]) or "no values at all"
        raise ExpressionError(f"there is no {name!r}; {_near(name, known)}there are {there}") from None


def _sum(sign: ast.operator, one: Any, other: Any) -> Any:
    # Texts are joined with +, and nothing else: 'a' * 10**9 and '%0999999999d' % 1 fill the memory.
    if isinstance(sign, ast.Add) and isinstance(one, str) and isinstance(other, str):
        return one + other
    return _SUMS[type(sign)](_number(one), _number(other))


def _number(value: Any) -> int | float:
    if isinstance(value, int | float):
        return value
    raise ExpressionError(f"{value!r} is no number")


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""
