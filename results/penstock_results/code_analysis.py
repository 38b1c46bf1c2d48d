"""What a code object is, and what it refers to, read from its bytecode alone.

The same source gives the same facts wherever it stands: file names and line numbers do not count, and neither does
what the interpreter did to speed it up.

**Which global names matter** cannot be told from `co_names`, which mixes them with attributes. So the bytecode is
walked with a stack of labels: loading a global pushes its name, loading an attribute of it extends the name, and
everything else pushes "unknown". That yields paths such as ``("helpers", "LIMIT")``.

**What the function itself changes is not an input of its code.** ``calls.append(x)``, ``seen[x] = 1`` and
``global n; n += 1`` change a global or a closure cell; if its value counted, the key of a function that counts its
calls would differ at every call. The same walk finds the label under a store or a changing method. Where it loses
track of a label the value counts, so an error of this analysis costs a miss and never a wrong hit.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import TypeAlias
from weakref import WeakKeyDictionary

__all__ = ("CodeFacts", "Path", "plain_code", "read_code")

Path: TypeAlias = tuple[str, ...]

_MUTATORS = frozenset(
    [
        "add",
        "append",
        "appendleft",
        "clear",
        "discard",
        "extend",
        "extendleft",
        "insert",
        "pop",
        "popitem",
        "popleft",
        "remove",
        "reverse",
        "setdefault",
        "sort",
        "subtract",
        "update",
    ]
)
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_REBINDS = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF"})
_STORES_BELOW = {"STORE_SUBSCR": 2, "DELETE_SUBSCR": 2, "STORE_ATTR": 1, "DELETE_ATTR": 1, "STORE_SLICE": 3}
"""How far below the top of the stack the object lies that an instruction changes (1 is the top)."""


@dataclass(frozen=True, slots=True)
class CodeFacts:
    """What one code object and those nested in it refer to.

    Attributes:
        globals: Paths that start at a global name.
        rebound: Global names and closure cells that the code itself binds anew.
        mutated: Paths, from a global or a cell, of containers that the code itself changes.
    """

    globals: frozenset[Path]
    rebound: frozenset[str]
    mutated: frozenset[Path]


_known: WeakKeyDictionary[CodeType, CodeFacts] = WeakKeyDictionary()


def read_code(code: CodeType) -> CodeFacts:
    """Find what the code refers to; remembered for as long as the code object lives."""
    facts = _known.get(code)
    if facts is None:
        walks = [_Walk(part) for part in _with_nested(code)]
        facts = _known[code] = CodeFacts(
            globals=frozenset(path for walk in walks for path in walk.globals),
            rebound=frozenset(name for walk in walks for name in walk.rebound),
            mutated=frozenset(path for walk in walks for path in walk.mutated),
        )
    return facts


def plain_code(code: CodeType) -> tuple[object, ...]:
    """A code object as plain data, without the places it came from."""
    return (
        code.co_name,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
        code.co_code,
        getattr(code, "co_exceptiontable", b""),
        [plain_code(const) if isinstance(const, CodeType) else (const,) for const in code.co_consts],
        (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
    )


def _with_nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _with_nested(const)


class _Walk:
    """One pass over one code object; see the module's docstring."""

    def __init__(self, code: CodeType) -> None:
        self.globals: set[Path] = set()
        self.rebound: set[str] = set()
        self.mutated: set[Path] = set()
        self._stack: list[Path | None] = []
        for instruction in dis.get_instructions(code):
            self._step(instruction)

    def _step(self, instruction: dis.Instruction) -> None:
        name, argument = instruction.opname, instruction.argval
        if name in _REBINDS:
            self.rebound.add(argument)
        if name in _STORES_BELOW:
            self._changed(self._peek(_STORES_BELOW[name]))
        if name == "COPY":
            self._stack.append(self._peek(argument))
        elif name == "SWAP":
            self._swap(argument)
        elif name in _LOADS:
            self._load(instruction)
        elif name in _ATTRIBUTES:
            self._attribute(instruction)
        else:
            kept = self._peek(2) if name == "BINARY_SUBSCR" else None
            self._shift(instruction, kept)

    def _load(self, instruction: dis.Instruction) -> None:
        path: Path = (instruction.argval,)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            self.globals.add(path)
        self._shift(instruction, path)

    def _attribute(self, instruction: dis.Instruction) -> None:
        owner = self._peek(1)
        path = None if owner is None else (*owner, instruction.argval)
        if owner is not None and instruction.argval in _MUTATORS:
            self._changed(owner)
        elif owner in self.globals and path is not None:
            self.globals.add(path)
        self._shift(instruction, path)

    def _changed(self, path: Path | None) -> None:
        if path is not None:
            self.mutated.add(path)

    def _peek(self, depth: int) -> Path | None:
        return self._stack[-depth] if 0 < depth <= len(self._stack) else None

    def _swap(self, depth: int) -> None:
        if depth <= len(self._stack):
            self._stack[-1], self._stack[-depth] = self._stack[-depth], self._stack[-1]
        else:
            self._stack.clear()

    def _shift(self, instruction: dis.Instruction, top: Path | None) -> None:
        """Move the stack as the instruction does; of what it pushes, only the top can have a label."""
        effect = dis.stack_effect(instruction.opcode, instruction.arg, jump=False)
        if effect < 0:
            del self._stack[effect:]
        self._stack += [None] * effect
        if self._stack:
            self._stack[-1] = top
