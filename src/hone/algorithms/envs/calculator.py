"""Arithmetic on text, read as a syntax tree: nothing but numbers, operators and a few functions can be in it."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

from hone.algorithms.envs.tools import Tool, ToolError, tool_spec

Number = int | float
LONGEST_EXPRESSION = 1000
LARGEST_BITS = 10_000
"""Whole numbers stay below 2 to this power: the next multiplication still takes no time."""

BINARY: dict[type[ast.operator], Callable[[Any, Any], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def _rounded(number: Number, digits: int = 0) -> Number:
    """Python rounds 5 to minus a billion digits by way of ten to that power."""
    if abs(digits) > LARGEST_BITS:
        raise ValueError(f"{digits} digits are too many to round to")
    return round(number, digits) if digits else round(number)


FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "gcd": math.gcd,
    "log": math.log,
    "max": max,
    "min": min,
    "round": _rounded,
    "sqrt": math.sqrt,
}
CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e}


def calculate(expression: str) -> Number:
    """The value of an expression such as `(3 + 4) * sqrt(2)`; `^` is a power.

    Raises:
        ToolError: it is none, or its value is no number that could be written down.
    """
    if len(expression) > LONGEST_EXPRESSION:
        raise ToolError(f"the expression has {len(expression)} characters; {LONGEST_EXPRESSION} are allowed")
    try:
        tree = ast.parse(expression.strip().replace("^", "**"), mode="eval")
        value = _value(tree.body)
    except ZeroDivisionError:
        raise ToolError("division by zero") from None
    except (SyntaxError, ValueError, OverflowError, TypeError, MemoryError, RecursionError) as error:
        raise ToolError(f"cannot calculate {expression!r}: {error}") from None
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        raise ToolError(f"the value of {expression!r} is not a finite real number")
    return value


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=value) if type(value) in (int, float):
            return _bounded(value)  # type: ignore[arg-type]
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
            one, other = _value(left), _value(right)
            if isinstance(op, ast.Pow):
                _check_power(one, other)
            return _bounded(BINARY[type(op)](one, other))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            return _bounded(FUNCTIONS[name](*map(_value, args)))
    raise ToolError(f"{ast.unparse(node)!r} is not arithmetic; use + - * / // % **, ( ) and {', '.join(FUNCTIONS)}")


def _check_power(base: Number, exponent: Number) -> None:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > LARGEST_BITS:
        raise ToolError("the result is too large")


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        raise ToolError("the result is too large")
    return value


class Calculator(Tool):
    spec = tool_spec(
        "calculator", "Evaluates arithmetic exactly.", expression="what to calculate, such as 12 * (3 + 4)"
    )

    async def call(self, arguments: dict[str, Any]) -> str:
        value = calculate(str(arguments["expression"]))
        return str(value) if isinstance(value, int) else f"{value:.12g}"
