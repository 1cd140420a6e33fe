"""The syntax of regular expressions (RE2's, without what no automaton can do).

Reads a pattern into a tree of character sets, groups, repetitions and assertions. Backreferences, lookaround,
atomic groups and Unicode classes (`\\p{...}`) are refused by name, each with a reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

MAX_PATTERN: Final = 2000
_MAX_REPEAT: Final = 1000
_MAX_NESTING: Final = 40
_DIGIT: Final = ((48, 57),)
_SPACE: Final = ((9, 10), (12, 13), (32, 32))
_WORD: Final = ((48, 57), (65, 90), (95, 95), (97, 122))
_CLASSES: Final = {"d": _DIGIT, "s": _SPACE, "w": _WORD}
_POSIX: Final = {
    "alnum": ((48, 57), (65, 90), (97, 122)), "alpha": ((65, 90), (97, 122)), "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)), "cntrl": ((0, 31), (127, 127)), "digit": _DIGIT, "graph": ((33, 126),),
    "lower": ((97, 122),), "print": ((32, 126),), "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)), "upper": ((65, 90),), "word": _WORD,
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}  # fmt: skip
_CONTROLS: Final = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_COUNT = re.compile(r"\{([0-9]{1,5})(,?)([0-9]{0,5})\}")
_HEX = re.compile(r"x(?:([0-9a-fA-F]{2})|\{([0-9a-fA-F]{1,6})\})")
_GROUP = re.compile(r"\(\?(?:P?<([A-Za-z_][A-Za-z0-9_]*)>|([imsU]*)(?:-([imsU]+))?([:)]))")

Ranges: TypeAlias = tuple[tuple[int, int], ...]


class PatternError(Exception):
    """The pattern is malformed or asks for what is not supported."""


@dataclass(frozen=True, slots=True)
class Empty:
    pass


@dataclass(frozen=True, slots=True)
class Set:
    """A set of characters as code point ranges."""

    ranges: Ranges
    negated: bool = False
    fold: bool = False

    def contains(self, char: str) -> bool:
        forms = {char, char.lower(), char.upper()} if self.fold else (char,)
        codes = [ord(form) for form in forms if len(form) == 1]
        return any(low <= code <= high for code in codes for low, high in self.ranges) != self.negated


@dataclass(frozen=True, slots=True)
class Assertion:
    kind: str


@dataclass(frozen=True, slots=True)
class Repeat:
    part: Part
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Group:
    alternatives: tuple[tuple[Part, ...], ...]


Part: TypeAlias = Empty | Set | Assertion | Repeat | Group


def read(pattern: str) -> Part:
    """The pattern's tree; raises `PatternError`."""
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"it is longer than {MAX_PATTERN} characters")
    reader = _Reader(pattern)
    tree = reader.group("", 0)
    if reader.at < len(pattern):
        raise PatternError("there is a `)` too many")
    return tree


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.at = 0

    def _peek(self) -> str:
        return self._pattern[self.at : self.at + 1]

    def group(self, flags: str, nesting: int) -> Group:
        """Alternatives up to a closing parenthesis or the end (neither is consumed)."""
        if nesting > _MAX_NESTING:
            raise PatternError("its groups are nested too deeply")
        alternatives: list[tuple[Part, ...]] = []
        sequence: list[Part] = []
        while (char := self._peek()) not in ("", ")"):
            if char == "|":
                self.at += 1
                alternatives.append(tuple(sequence))
                sequence = []
            elif char == "(":
                found = self._flags(flags)
                if found is not None:
                    flags = found
                    continue
                sequence.append(self._repeated(self._parenthesis(flags, nesting)))
            else:
                sequence.append(self._repeated(self._atom(char, flags)))
        alternatives.append(tuple(sequence))
        return Group(tuple(alternatives))

    def _flags(self, flags: str) -> str | None:
        """The flags after a bare `(?i)`, which hold to the end of the group; None when it is a group."""
        found = _GROUP.match(self._pattern, self.at)
        if found is None or found[4] != ")":
            return None
        self.at = found.end()
        return "".join(set(flags + found[2]) - set(found[3] or ""))

    def _parenthesis(self, flags: str, nesting: int) -> Group:
        if self._pattern.startswith("(?", self.at):
            found = _GROUP.match(self._pattern, self.at)
            if found is None:
                raise PatternError("lookaround, backreferences and atomic groups are not supported")
            self.at = found.end()
            flags = "".join(set(flags + (found[2] or "")) - set(found[3] or ""))
        else:
            self.at += 1
        inner = self.group(flags, nesting + 1)
        if self._peek() != ")":
            raise PatternError("a `)` is missing")
        self.at += 1
        return inner

    def _repeated(self, part: Part) -> Part:
        char = self._peek()
        counted = _COUNT.match(self._pattern, self.at) if char == "{" else None
        if char and char in "*+?":
            self.at += 1
            part = Repeat(part, 1 if char == "+" else 0, 1 if char == "?" else None)
        elif counted:
            self.at = counted.end()
            least = int(counted[1])
            most = int(counted[3]) if counted[3] else None if counted[2] else least
            if least > _MAX_REPEAT or (most or 0) > _MAX_REPEAT or (most is not None and most < least):
                raise PatternError(f"{counted[0]} is not a repetition; at most {_MAX_REPEAT}, smaller number first")
            part = Repeat(part, least, most)
        else:
            return part
        # Lazy or greedy makes no difference to whether there is a match.
        if self._peek() == "?":
            self.at += 1
        if (char := self._peek()) and (char in "*+?" or (char == "{" and _COUNT.match(self._pattern, self.at))):
            raise PatternError("a repetition cannot be repeated; put the inner one in parentheses")
        return part

    def _atom(self, char: str, flags: str) -> Part:
        if char == "[":
            return self._bracket("i" in flags)
        if char == "\\":
            return self._escape(flags)
        self.at += 1
        match char:
            case "^":
                return Assertion("line start" if "m" in flags else "start")
            case "$":
                return Assertion("line end" if "m" in flags else "end")
            case ".":
                return Set(() if "s" in flags else ((10, 10),), negated=True)
            case "*" | "+" | "?":
                raise PatternError(f"there is nothing to repeat before `{char}`")
            case _:
                return Set(((ord(char), ord(char)),), fold="i" in flags)

    def _escape(self, flags: str) -> Part:
        letter = self._pattern[self.at + 1 : self.at + 2]
        assertions = {"A": "start", "z": "end", "b": "boundary", "B": "no boundary"}
        if letter in assertions:
            self.at += 2
            return Assertion(assertions[letter])
        if letter == "Q":
            end = self._pattern.find("\\E", self.at + 2)
            quoted = self._pattern[self.at + 2 : end if end >= 0 else None]
            self.at = end + 2 if end >= 0 else len(self._pattern)
            return Group((tuple(Set(((ord(c), ord(c)),), fold="i" in flags) for c in quoted),))
        ranges, negated = self._escaped_set()
        return Set(ranges, negated, fold="i" in flags)

    def _escaped_set(self) -> tuple[Ranges, bool]:
        """`\\d`, `\\W`, `\\n`, `\\x41`, `\\.`: ranges, and whether they are to be negated."""
        letter = self._pattern[self.at + 1 : self.at + 2]
        if letter == "":
            raise PatternError("it ends in a lone backslash")
        if letter.lower() in _CLASSES:
            self.at += 2
            return _CLASSES[letter.lower()], letter.isupper()
        if found := _HEX.match(self._pattern, self.at + 1):
            self.at = found.end()
            code = int(found[1] or found[2], 16)
            return ((code, code),), False
        if letter.isascii() and letter.isalnum() and letter not in _CONTROLS:
            what = "backreferences are" if letter.isdigit() else f"\\{letter} is"
            raise PatternError(f"{what} not supported")
        self.at += 2
        code = _CONTROLS.get(letter, ord(letter))
        return ((code, code),), False

    def _bracket(self, fold: bool) -> Set:
        self.at += 1
        negated = self._peek() == "^"
        self.at += negated
        ranges: list[tuple[int, int]] = []
        first = True
        while first or self._peek() != "]":
            first = False
            if self._peek() == "":
                raise PatternError("a `]` is missing")
            low = self._bracket_item(ranges)
            following = self._pattern[self.at + 1 : self.at + 2]
            if low is None:
                continue
            high: int | None = low
            if self._peek() == "-" and following not in ("]", ""):
                self.at += 1
                high = self._bracket_item([])
            if high is None or high < low:
                raise PatternError("a range in brackets runs backwards")
            ranges.append((low, high))
        self.at += 1
        return Set(tuple(ranges), negated, fold)

    def _bracket_item(self, ranges: list[tuple[int, int]]) -> int | None:
        """One character's code; None when a whole class was added to `ranges` instead."""
        if named := re.compile(r"\[:(\^?)([a-z]+):\]").match(self._pattern, self.at):
            if named[2] not in _POSIX:
                raise PatternError(f"[:{named[2]}:] is not a character class")
            self.at = named.end()
            ranges.extend(_complement(_POSIX[named[2]]) if named[1] else _POSIX[named[2]])
            return None
        if self._peek() != "\\":
            self.at += 1
            return ord(self._pattern[self.at - 1])
        found, negated = self._escaped_set()
        if len(found) == 1 and found[0][0] == found[0][1] and not negated:
            return found[0][0]
        ranges.extend(_complement(found) if negated else found)
        return None


def _complement(ranges: Ranges) -> list[tuple[int, int]]:
    gaps: list[tuple[int, int]] = []
    start = 0
    for low, high in ranges:
        gaps.append((start, low - 1))
        start = high + 1
    gaps.append((start, 0x10FFFF))
    return [(low, high) for low, high in gaps if low <= high]
