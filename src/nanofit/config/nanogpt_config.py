"""Reads nanoGPT's config files without ever running them.

nanoGPT executes its config files. Here they are parsed. Assignments of literals, of arithmetic, of f-strings and of names
assigned before are read, imports and calls of `print` are skipped, and any other code is refused with its line. A value that
can't be read is left out with a warning where a run can do without it (a run name made from the time). What a file leaves
out takes nanoGPT's defaults (train.py of github.com/karpathy/nanoGPT), as it would there.
"""

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanofit.common.durable import require_regular
from nanofit.common.errors import MAX_VALUE_CHARACTERS, UserError, nearest
from nanofit.config.capabilities import without_pretrained_weights
from nanofit.config.recipe import known_names, lay_over, read_flag

NANOGPT_DEFAULTS: dict[str, Any] = {
    "out_dir": "out",
    "eval_interval": 2000,
    "log_interval": 1,
    "eval_iters": 200,
    "wandb_log": False,
    "wandb_project": "owt",
    "wandb_run_name": "gpt2",
    "dataset": "openwebtext",
    "gradient_accumulation_steps": 5 * 8,
    "batch_size": 12,
    "block_size": 1024,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "dropout": 0.0,
    "bias": False,
    "learning_rate": 6e-4,
    "max_iters": 600_000,
    "weight_decay": 1e-1,
    "beta1": 0.9,
    "beta2": 0.95,
    "grad_clip": 1.0,
    "decay_lr": True,
    "warmup_iters": 2000,
    "lr_decay_iters": 600_000,
    "min_lr": 6e-5,
    # What nanoGPT always does, by our names: its GELU is the exact one, and every tensor of two dimensions decays.
    "arch": "gpt2",
    "gelu": "exact",
    "optimizer": "adamw",
    "decay_embeddings": True,
}
"""train.py's defaults. `device`, `dtype` and `compile` are left to nanofit, which chooses them by the machine."""

PRETRAINED_SHAPES: dict[str, dict[str, Any]] = {
    name: {"n_layer": n_layer, "n_head": n_head, "n_embd": n_embd, "bias": True}
    for name, n_layer, n_head, n_embd in (
        ("gpt2", 12, 12, 768),
        ("gpt2-medium", 24, 16, 1024),
        ("gpt2-large", 36, 20, 1280),
        ("gpt2-xl", 48, 25, 1600),
    )
}
"""The shapes of the weights that `init_from` names (transformers' configurations of OpenAI's models)."""

OPTIONAL = (
    *("wandb_run_name", "wandb_project", "out_dir", "logging_name", "logging_project", "out"),
    *("device", "dtype", "precision", "compile"),
)
"""Settings that a run can do without: names, which have defaults, and what nanofit chooses by the machine."""

MAX_TEXT = 4096
"""Characters of a text that is joined of others: twenty lines that double a text would take a terabyte."""

IGNORED: dict[str, tuple[Any, str]] = {
    "always_save_checkpoint": (True, "nanofit keeps the newest checkpoints, not the one of the lowest validation loss"),
    "backend": ("nccl", "nanofit chooses the backend by the device"),
}
"""nanoGPT's settings that nanofit does without: the value that asks for nothing, and what nanofit does."""

KNOWN_ONLY_THERE = (*IGNORED, "eval_only")
"""nanoGPT's settings that are no fields of a recipe."""

FLAGS_ONLY_THERE = ("eval_only", "always_save_checkpoint")
"""Those of them that are True or False."""


@dataclass
class NanogptConfig:
    """What a config file sets, by the names that it uses, and what should be said about it."""

    values: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


class _Unreadable(Exception):
    """An expression that is neither a literal nor arithmetic nor joined text."""


def read_nanogpt_config(path: Path) -> NanogptConfig:
    """Reads what `path` sets. Raises UserError, with the line, for code that is not settings, and for an unknown name."""
    try:
        tree = ast.parse(require_regular(path).read_text(encoding="utf-8-sig"), filename=str(path))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a Python file: {error}") from None
    settings = {*known_names(), *KNOWN_ONLY_THERE}
    # Names that the file reads: one that is no setting is a value for the settings after it.
    helpers = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    helpers -= settings
    assigned: dict[str, Any] = {}
    warnings: list[str] = []
    for statement in tree.body:
        match statement:
            case ast.Import(names=imported) | ast.ImportFrom(names=imported) if not _bound(imported) & {*settings, "*"}:
                continue
            case ast.Pass() | ast.Expr(value=ast.Constant() | ast.Call(func=ast.Name(id="print"))):
                continue
            case ast.Assign(targets=targets, value=expression):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
                is_setting = len(names) == len(targets)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as expression):
                names, is_setting = [name], True
            case ast.AugAssign(target=ast.Name(id=name), op=operation, value=value):
                names, is_setting, expression = [name], True, ast.BinOp(ast.Name(name), operation, value)
            case _:
                names, is_setting, expression = [], False, ast.Constant(None)
        if not is_setting:
            raise UserError(
                f"{path}, line {statement.lineno}: '{_first_line(statement)}' is code, not a setting; "
                "nanofit reads config files without running them: keep only lines of the form name = value"
            )
        try:
            # nanoGPT runs the file inside train.py, where its defaults are names already.
            assigned |= dict.fromkeys(names, _value(expression, NANOGPT_DEFAULTS | assigned))
        except (_Unreadable, RecursionError):
            for name in names:
                assigned.pop(name, None)
                if name in helpers:
                    continue
                if name not in OPTIONAL:
                    raise UserError(
                        f"{path}, line {statement.lineno}: {name} = {_text(expression)} is neither a literal nor "
                        f"arithmetic; nanofit reads config files without running them: write the value of {name}"
                    ) from None
                warnings.append(f"{name} = {_text(expression)} is not a plain value and was left out")
    for name in assigned.keys() - settings:
        suggestion = nearest(name, known_names())
        if name not in helpers:
            raise UserError(f"{path}: unknown setting '{name}'{suggestion}")
        if suggestion:
            warnings.append(f"{name} is no setting{suggestion}: only the lines that read it have its value")
    return NanogptConfig({name: value for name, value in assigned.items() if name in settings}, warnings)


def with_nanogpt_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The settings that nanoGPT's train.py trains with when `values` are given by file or command line."""
    # It saves with every evaluation.
    saves = {"checkpoint_interval": values.get("eval_interval", NANOGPT_DEFAULTS["eval_interval"])}
    filled = lay_over(NANOGPT_DEFAULTS | saves, values)
    if filled.get("init_from") in PRETRAINED_SHAPES:
        filled |= PRETRAINED_SHAPES[filled["init_from"]]  # whatever shape was given besides
    if "dtype" in filled and not str(filled.get("device", "cuda")).startswith("cuda"):
        filled["dtype"] = "float32"  # its autocast is for CUDA alone
    return filled


def leave_out_ignored(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """`values` without nanoGPT's settings that nanofit has no use for, and a warning for each that asked for something.

    Raises UserError for `eval_only = True`, which asks for no training, and for a flag that is neither True nor False.
    """
    flags = {name: read_flag(name, values[name]) for name in FLAGS_ONLY_THERE if name in values}
    if flags.get("eval_only"):
        asked = "eval_only = True asks for an evaluation and no training"
        if values.get("init_from") in PRETRAINED_SHAPES:
            raise UserError(f"{asked}; {without_pretrained_weights(values['init_from'])}")
        run = values.get("out_dir", values.get("out", "RUN"))
        raise UserError(f"{asked}: nanofit eval {run} evaluates a run; --eval_only=False trains one")
    kept = {name: value for name, value in values.items() if name not in KNOWN_ONLY_THERE}
    warnings = [
        f"{name} = {value} was left out: {IGNORED[name][1]}"
        for name, value in (values | flags).items()
        if name in IGNORED and value != IGNORED[name][0]
    ]
    return kept, warnings


def _power(base: int | float, exponent: int | float) -> int | float:
    """base ** exponent. Raises OverflowError beyond what a float holds: that is no setting, and would take all memory."""
    approximate = math.pow(base, exponent)
    exact = isinstance(base, int) and isinstance(exponent, int) and exponent >= 0
    return base**exponent if exact else approximate


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "str": str}


def _value(expression: ast.expr, names: dict[str, Any]) -> Any:
    """The value of a literal, of arithmetic, or of text that is joined; raises _Unreadable for all else, for division by zero,
    for numbers beyond what a float holds, and for text beyond MAX_TEXT."""
    match expression:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            value = _number(_value(operand, names))
            return -value if isinstance(sign, ast.USub) else value
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
            first, second = _value(left, names), _value(right, names)
            if isinstance(op, ast.Add) and isinstance(first, str) and isinstance(second, str):
                return _joined(first, second)
            return _computed(_OPERATORS[type(op)], _number(first), _number(second))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _CONVERSIONS:
            return _computed(_CONVERSIONS[name], _value(argument, names))
        case ast.JoinedStr(values=parts):
            return _joined(*(str(_value(part, names)) for part in parts))
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return _value(value, names)
        case _:
            raise _Unreadable


def _computed(function: Callable[..., Any], *values: Any) -> Any:
    try:
        result = function(*values)
        if isinstance(result, int):
            float(result)  # OverflowError: lines that square a number would take all memory
        return result
    except (ArithmeticError, ValueError):
        raise _Unreadable from None


def _joined(*parts: str) -> str:
    if sum(map(len, parts)) > MAX_TEXT:
        raise _Unreadable
    return "".join(parts)


def _number(value: Any) -> int | float:
    if not isinstance(value, (int, float)):
        raise _Unreadable
    return value


def _bound(imported: list[ast.alias]) -> set[str]:
    """The names that an import assigns."""
    return {alias.asname or alias.name for alias in imported}


def _first_line(statement: ast.stmt) -> str:
    return _text(statement).splitlines()[0]


def _text(node: ast.AST) -> str:
    """The node as Python code, cut where it is long."""
    try:
        text = ast.unparse(node)
    except RecursionError:
        return "..."
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 4] + " ..."
