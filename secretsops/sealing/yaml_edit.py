"""Changing a few scalars of a YAML or JSON file and nothing else: comments, order, quotes, other documents stay. Pure.

The text is cut at the marks of the parser's events, so every byte outside a changed entry is the byte it was. What
comes out is parsed again and compared with what was wanted; a file that cannot be edited this way (an alias in the
path, a value that is no scalar) is refused and never written in some other shape.

What never lives here: what a SealedSecret is, files.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import yaml

from secretsops.errors import InvalidManifest, Refused
from secretsops.manifest import load_values

try:
    from yaml.cyaml import CSafeLoader as _Parser
except ImportError:  # PyYAML without libyaml: the same events, slower
    from yaml import SafeLoader as _Parser  # type: ignore[assignment]

Tree = Mapping[str, Union["Tree", str, None]]
"""What is wanted of a mapping: a key to its new text, to None where it goes, or to the same for the mapping below."""
_PLAIN = re.compile(r"[A-Za-z0-9_/+.=-](?:[A-Za-z0-9_/+.=:-]*[A-Za-z0-9_/+.=-])?")


@dataclass(slots=True, kw_only=True)
class Node:
    """A value with its place in the text: `kind` is scalar, map, seq or alias, `line` counts from 1.

    `pairs` are those of a mapping; a sequence has each of its values twice.
    """

    kind: str
    start: int
    end: int
    line: int
    text: str = ""
    plain: bool = False
    block: bool = True
    literal: bool = False
    pairs: list[tuple[Node, Node]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Cut:
    start: int
    end: int
    text: str


def edit(content: bytes, changes: Mapping[int, Tree], *, source: str = "") -> bytes:
    """Give the file with `changes` made, by number of document (from 0, empty ones counted).

    A new key goes behind the one that precedes it in the alphabet where its mapping is sorted, else to the end;
    mappings on the way are made. A mapping that loses its last key becomes `{}`.

    Raises:
        InvalidManifest: the file is no YAML.
        Refused: it can't be edited without touching more than these entries (reason `CannotEdit`).
    """
    before = list(load_values(content, source=source))
    wanted = copy.deepcopy(before)
    for number, tree in changes.items():
        wanted[number] = _applied(wanted[number], tree, source)
    if wanted == before:
        return content
    mark = "\ufeff" if content.startswith(b"\xef\xbb\xbf") else ""
    text = content.decode("utf-8-sig")
    try:
        documents = list(nodes(text))
        cuts = [cut for number, tree in changes.items() for cut in _Editor(text).edit(documents[number], tree)]
        edited = _cut(text, cuts)
        if list(load_values(edited.encode(), source=source)) == wanted:
            return (mark + edited).encode()
    except (_CannotEditError, yaml.YAMLError, IndexError, InvalidManifest):
        pass
    if text.lstrip().startswith("{") and (rewritten := _rewritten_json(text, wanted)) is not None:
        return (mark + rewritten).encode()
    raise Refused(
        f"{source or 'the file'} cannot be edited in place without changing more of it",
        reason="CannotEdit",
        hint="write metadata and spec as plain block mappings, without aliases and merge keys",
    )


class _CannotEditError(Exception):
    """The text has a shape that this module does not cut."""


def _applied(value: Any, tree: Tree, source: str) -> Any:
    """Give a value with the changes made, as data."""
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise Refused(f"{source or 'the file'}: not a mapping", reason="CannotEdit")
    for key, wish in tree.items():
        if wish is None:
            value.pop(key, None)
        elif isinstance(wish, str):
            value[key] = wish
        elif value.get(key) is not None or _wants(wish):
            value[key] = _applied(value.get(key), wish, source)
    return value


def _wants(tree: Tree) -> bool:
    """Say whether anything is to be there afterwards."""
    return any(_wants(wish) if isinstance(wish, Mapping) else wish is not None for wish in tree.values())


def _rewritten_json(text: str, wanted: Sequence[Any]) -> str | None:
    """Give a stream of JSON objects as kubeseal writes it; None when the text is no JSON. JSON has no comments."""
    try:
        json.JSONDecoder().raw_decode(text.lstrip())
    except ValueError:
        return None
    return "".join(json.dumps(body, indent=2, ensure_ascii=False) + "\n" for body in wanted)


def _cut(text: str, cuts: Sequence[_Cut]) -> str:
    """Replace the spans, those of one place in the order given; overlapping ones are refused."""
    parts: list[str] = []
    position = 0
    for cut in sorted(cuts, key=lambda cut: (cut.start, cut.end)):
        if cut.start < position:
            raise _CannotEditError
        parts += [text[position : cut.start], cut.text]
        position = cut.end
    return "".join([*parts, text[position:]])


# --- reading -------------------------------------------------------------------------------------------


def nodes(text: str) -> Iterator[Node]:
    """Give the root of every document, from parser events: a composed alias would carry its anchor's place."""
    stack: list[Node] = []
    keys: list[Node | None] = []
    root: Node | None = None

    def add(node: Node) -> None:
        nonlocal root
        if not stack:
            root = node
        elif stack[-1].kind == "map":
            key = keys[-1]
            if key is None:
                keys[-1] = node
            else:
                stack[-1].pairs.append((key, node))
                keys[-1] = None
        else:
            stack[-1].pairs.append((node, node))

    for event in yaml.parse(text, Loader=_Parser):
        assert event.start_mark is not None
        assert event.end_mark is not None
        start, end, line = event.start_mark.index, event.end_mark.index, event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            node = Node(kind="scalar", start=start, end=end, line=line, text=event.value)
            node.plain, node.literal = event.implicit[0] and not event.style, event.style in ("|", ">")
            add(node)
        elif isinstance(event, yaml.AliasEvent):
            add(Node(kind="alias", start=start, end=end, line=line))
        elif isinstance(event, yaml.CollectionStartEvent):
            kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
            node = Node(kind=kind, start=start, end=end, line=line, block=not event.flow_style)
            add(node)
            stack.append(node)
            keys.append(None)
        elif isinstance(event, yaml.CollectionEndEvent):
            stack[-1].end = end
            stack.pop()
            keys.pop()
        elif isinstance(event, yaml.DocumentEndEvent):
            assert root is not None
            yield root
            root = None


# --- cutting -------------------------------------------------------------------------------------------


class _Editor:
    """Turns wishes into cuts of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"

    def edit(self, node: Node, tree: Tree) -> Iterator[_Cut]:
        """Give the cuts that make `tree` true below a mapping with at least one key."""
        if node.kind != "map" or not node.pairs:
            raise _CannotEditError
        present = {key.text: (key, value) for key, value in node.pairs if key.kind == "scalar"}
        if len(present) != len(node.pairs) or "<<" in present:
            raise _CannotEditError
        gone = [key for key, wish in tree.items() if wish is None and key in present]
        new = {key: wish for key, wish in tree.items() if key not in present and _wants({key: wish})}
        if len(gone) == len(present) and not new:
            raise _CannotEditError  # the caller replaces the whole mapping by {}
        for key, wish in tree.items():
            if key in present and wish is not None:
                yield from self._changed(*present[key], wish, parent=node)
        yield from self._removals(node, gone)
        if new:
            yield from self._insertions(node, [key for key in present if key not in gone], new)

    def _changed(self, key: Node, value: Node, wish: Tree | str, *, parent: Node) -> Iterator[_Cut]:
        if isinstance(wish, str):
            if value.kind != "scalar":
                raise _CannotEditError
            if value.text == wish and value.start != value.end:
                return
            blank = " " if value.start == value.end else ""
            yield _Cut(value.start, self._end(value, self._column(key)), blank + self._scalar(wish, parent, value))
            return
        kept = [one for one, _ in value.pairs if one.kind == "scalar" and wish.get(one.text, "") is not None]
        new = _wants(wish)
        if value.kind == "map" and value.pairs and (kept or new):
            yield from self.edit(value, wish)
        elif value.kind == "map" and value.pairs and value.block:
            # The last key goes: comments between the entries stay, `{}` takes their place.
            colon = self._text.index(":", key.end) + 1
            yield _Cut(colon, colon, " {}")
            for one, other in value.pairs:
                yield self._lines(one, other)
        elif value.kind == "map" and value.pairs:
            yield _Cut(value.start, value.end, "{}")
        elif new and (value.kind == "map" or (value.kind == "scalar" and value.text in ("", "~", "null"))):
            if parent.block:
                colon = self._text.index(":", key.end) + 1
                below = self._block(wish, self._column(key) + self._step(parent))
                yield _Cut(colon, value.end, self._newline + below.removesuffix(self._newline))
            else:
                yield _Cut(value.start, value.end, json.dumps(_plain(wish), ensure_ascii=False))
        elif new:
            raise _CannotEditError

    def _removals(self, node: Node, gone: Sequence[str]) -> Iterator[_Cut]:
        if node.block:
            yield from (self._lines(key, value) for key, value in node.pairs if key.text in gone)
            return
        for position, (key, value) in enumerate(node.pairs):
            if key.text not in gone:
                continue
            if position + 1 < len(node.pairs):
                yield _Cut(key.start, node.pairs[position + 1][0].start, "")
            else:
                # The last one takes the comma before it along, from the last entry that stays.
                stays = [pair for pair in node.pairs[:position] if pair[0].text not in gone]
                begin = max((pair[1].end for pair in node.pairs[:position]), default=key.start)
                if stays and stays[-1] is not node.pairs[position - 1]:
                    raise _CannotEditError
                yield _Cut(begin, value.end, "")

    def _insertions(self, node: Node, stay: Sequence[str], new: Mapping[str, Tree | str | None]) -> Iterator[_Cut]:
        ordered = list(stay) == sorted(stay)
        for key in sorted(new):
            wish = new[key]
            assert wish is not None
            before = [pair for pair in node.pairs if ordered and pair[0].text < key] or node.pairs
            anchor_key, anchor = before[-1]
            if node.block:
                place = self._line_end(self._end(anchor, self._column(anchor_key)))
                lines = self._block({key: wish}, self._column(node.pairs[0][0]))
                if not self._text[:place].endswith("\n"):
                    lines = self._newline + lines.removesuffix(self._newline)
                yield _Cut(place, place, lines)
            else:
                place = anchor.end
                begin = self._text.rfind("\n", 0, anchor_key.start) + 1
                indent = self._text[begin : anchor_key.start]
                between = self._newline + indent if begin > node.start and not indent.strip() else " "
                written = json.dumps(_plain(wish), ensure_ascii=False)
                yield _Cut(place, place, f",{between}{json.dumps(key)}: {written}")

    # --- places ---

    def _column(self, node: Node) -> int:
        return node.start - (self._text.rfind("\n", 0, node.start) + 1)

    def _line_end(self, position: int) -> int:
        """Give the position after the line break that follows, or the end of the text."""
        if position and self._text[position - 1] == "\n":
            return position
        found = self._text.find("\n", position)
        return len(self._text) if found < 0 else found + 1

    def _end(self, node: Node, column: int) -> int:
        """Give where a value ends; `column` is that of its key. A block collection ends with its last leaf."""
        while node.kind in ("map", "seq") and node.block and node.pairs:
            if node.kind == "map":
                column = self._column(node.pairs[-1][0])
            node = node.pairs[-1][1]
        if not node.literal or "+" in self._text[node.start : self._line_end(node.start)].partition("#")[0]:
            return node.end  # `|+` keeps the blank lines that follow: they are its value
        # A literal ends with its last line that is indented more than its key; blank lines and comments follow it.
        position = end = self._line_end(node.start)
        while position < len(self._text):
            next_line = self._line_end(position + 1) if self._text[position] != "\n" else position + 1
            line = self._text[position:next_line]
            if line.strip():
                if len(line) - len(line.lstrip(" ")) <= column:
                    break
                end = next_line
            position = next_line
        return end - len(self._text[:end]) + len(self._text[:end].rstrip("\r\n"))

    def _lines(self, key: Node, value: Node) -> _Cut:
        begin = self._text.rfind("\n", 0, key.start) + 1
        if self._text[begin : key.start].strip(" ?"):
            raise _CannotEditError
        return _Cut(begin, self._line_end(self._end(value, self._column(key))), "")

    def _step(self, node: Node) -> int:
        """Give the indentation of the block mappings here, two where none shows it."""
        outer = self._column(node.pairs[0][0])
        for _, value in node.pairs:
            if value.kind == "map" and value.block and value.pairs:
                return max(1, self._column(value.pairs[0][0]) - outer)
        return 2

    # --- writing ---

    def _scalar(self, text: str, parent: Node, old: Node) -> str:
        """Give a value as its neighbours are written."""
        quote = self._text[old.start : old.start + 1]
        if quote == '"' or not parent.block:
            return json.dumps(text, ensure_ascii=False)
        if quote == "'" and text.isprintable():
            return "'" + text.replace("'", "''") + "'"
        return _written(text)

    def _block(self, tree: Tree, column: int) -> str:
        lines = []
        for key in sorted(tree):
            wish = tree[key]
            if isinstance(wish, str):
                lines.append(f"{' ' * column}{_written(key)}: {_written(wish)}{self._newline}")
            elif wish is not None:
                lines.append(f"{' ' * column}{_written(key)}:{self._newline}{self._block(wish, column + 2)}")
        return "".join(lines)


def _plain(wish: Tree | str | None) -> Any:
    if isinstance(wish, str) or wish is None:
        return wish
    return {key: _plain(below) for key, below in wish.items() if below is not None}


def _written(text: str) -> str:
    """Give a text as a plain scalar where every reader takes that for the same text, else in double quotes."""
    if _PLAIN.fullmatch(text) and (len(text) > 60 or list(load_values(text.encode())) == [text]):
        return text
    return json.dumps(text, ensure_ascii=False)
