"""Regular expressions in time linear in the subject: the RE2 way, for patterns that strangers write.

A pattern becomes a small program (`regex_syntax` reads it); matching walks all its threads at once, one
character at a time, so there is no backtracking to blow up. Transitions are remembered, which makes ordinary
patterns fast. Every step is charged to the evaluation's budget. `search` answers only whether the pattern
occurs somewhere, which is all `matches()` asks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from perdure.expressions.errors import EvaluationError
from perdure.expressions.regex_syntax import Assertion, Empty, Group, Part, PatternError, Repeat, Set, read

MAX_SUBJECT: Final = 256 * 1024
_MAX_PROGRAM: Final = 3000
_MAX_EMITTED: Final = 20_000
_MAX_REMEMBERED: Final = 20_000
# What stands before a position, as far as an assertion can tell.
_START, _NEWLINE, _WORD, _OTHER = range(4)

# An instruction: a character set and where it leads; an assertion; a fork; or the end ("match").
_Instruction = tuple[str, object, tuple[int, ...]]


@lru_cache(maxsize=128)
def compile_pattern(pattern: str) -> Pattern:
    """The compiled pattern; raises `EvaluationError` naming what is wrong or not supported."""
    try:
        return Pattern(read(pattern))
    except PatternError as error:
        raise EvaluationError(f"bad regular expression {pattern[:60]!r}: {error}") from None


class Pattern:
    """A compiled pattern."""

    def __init__(self, tree: Part) -> None:
        self._program: list[_Instruction] = []
        self._emitted = 0
        self._start = self._emit(tree, self._add("match", None))
        self._remembered: dict[tuple[frozenset[int], int, str], tuple[frozenset[int], bool]] = {}
        self._remembered_size = 0

    def search(self, subject: str, charge: Callable[[int], None]) -> bool:
        """Whether the pattern occurs in the subject."""
        if len(subject) > MAX_SUBJECT:
            raise EvaluationError(f"matches() looks at no more than {MAX_SUBJECT} characters")
        charge(1 + len(subject) // 32)
        threads: frozenset[int] = frozenset()
        before = _START
        for char in subject:
            # Every position may start a match: the search is not anchored.
            known = self._remembered.get((threads, before, char))
            if known is None:
                charge(1 + len(self._program) // 8)
                known = self._remember(threads, before, char)
            threads, matched = known
            if matched:
                return True
            before = _kind(char)
        return self._follow(threads, before, None)[1]

    def _remember(self, threads: frozenset[int], before: int, char: str) -> tuple[frozenset[int], bool]:
        known = self._step(threads, before, char)
        self._remembered_size += 2 + len(known[0])
        if self._remembered_size > _MAX_REMEMBERED:
            self._remembered.clear()
            self._remembered_size = 0
        self._remembered[(threads, before, char)] = known
        return known

    def _step(self, threads: frozenset[int], before: int, char: str) -> tuple[frozenset[int], bool]:
        reached, matched = self._follow(threads, before, char)
        if matched:
            return frozenset(), True
        following: set[int] = set()
        for at in reached:
            _, chars, (target,) = self._program[at]
            if isinstance(chars, Set) and chars.contains(char):
                following.add(target)
        return frozenset(following), False

    def _follow(self, threads: frozenset[int], before: int, char: str | None) -> tuple[list[int], bool]:
        """All character instructions reachable without consuming anything, and whether the end is."""
        stack = [*threads, self._start]
        seen: set[int] = set()
        reached: list[int] = []
        while stack:
            at = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            kind, argument, targets = self._program[at]
            if kind == "match":
                return [], True
            if kind == "set":
                reached.append(at)
            elif kind == "fork" or (isinstance(argument, str) and _holds(argument, before, char)):
                stack.extend(targets)
        return reached, False

    def _add(self, kind: str, argument: object, *targets: int) -> int:
        if len(self._program) >= _MAX_PROGRAM:
            raise PatternError("it is too large once its repetitions are written out")
        self._program.append((kind, argument, targets))
        return len(self._program) - 1

    def _emit(self, part: Part, after: int) -> int:
        """Adds instructions for the part, which go on at `after`; returns where they start."""
        self._emitted += 1
        if self._emitted > _MAX_EMITTED:
            # Repetitions of nothing add no instruction, but writing them out takes time all the same.
            raise PatternError("it is too large once its repetitions are written out")
        match part:
            case Empty():
                return after
            case Set():
                return self._add("set", part, after)
            case Assertion():
                return self._add("assert", part.kind, after)
            case Group(alternatives=alternatives):
                starts: list[int] = []
                for sequence in alternatives:
                    start = after
                    for item in reversed(sequence):
                        start = self._emit(item, start)
                    starts.append(start)
                return starts[0] if len(starts) == 1 else self._add("fork", None, *starts)
            case Repeat():
                return self._repeat(part, after)

    def _repeat(self, part: Repeat, after: int) -> int:
        start = after
        if part.most is None:
            start = self._add("fork", None)
            body = self._emit(part.part, start)
            self._program[start] = ("fork", None, (body, after))
        else:
            for _ in range(part.most - part.least):
                start = self._add("fork", None, self._emit(part.part, start), after)
        for _ in range(part.least):
            start = self._emit(part.part, start)
        return start


def _kind(char: str) -> int:
    if char == "\n":
        return _NEWLINE
    return _WORD if char.isascii() and (char.isalnum() or char == "_") else _OTHER


def _holds(assertion: str, before: int, char: str | None) -> bool:
    match assertion:
        case "start":
            return before == _START
        case "end":
            return char is None
        case "line start":
            return before in (_START, _NEWLINE)
        case "line end":
            return char is None or char == "\n"
        case _:
            at_boundary = (before == _WORD) != (char is not None and _kind(char) == _WORD)
            return at_boundary == (assertion == "boundary")
