"""A stream of documents cut into pieces of whole documents, so that endless input needs bounded memory. Pure.

In YAML a line that begins with `---` starts a document wherever it stands, in quotes and literals too (YAML 1.2 §9.1.2,
c-forbidden), so lines are all that has to be looked at. A JSON stream is cut where braces balance; a JSON text has no
line break inside a string.

What never lives here: reading documents, files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from secretsops.errors import UsageError

SIZE = 128 * 1024
"""Bytes from which on a piece ends with its document: some hundred Secrets."""
LIMIT = 64 * 1024 * 1024
"""Bytes of one document at most: etcd refuses objects over 1.5 MiB."""
_BRACES = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]')
_OPEN = (b"{", b"[")


class Chunk(NamedTuple):
    """Whole documents. `document` is the number of the first, from 1; `line` that of its first line, from 1.

    A tuple, not a dataclass: making one of those costs every call of `seal` a millisecond.
    """

    content: bytes
    document: int
    line: int

    def __repr__(self) -> str:
        """Leave the content out: it is plaintext."""
        return f"Chunk({len(self.content)} bytes, document {self.document}, line {self.line})"


def chunks(lines: Iterable[bytes], *, size: int = SIZE, limit: int = LIMIT) -> Iterator[Chunk]:
    """Give the stream in pieces of about `size` bytes.

    Raises:
        UsageError: one document is larger than `limit`.
    """
    held: list[bytes] = []
    held_size = depth = 0
    document = line_number = first_line = 1
    documents = 0
    json_like: bool | None = None
    directive = started = False
    for line in lines:
        marker = line.startswith(b"---") and line[3:4] in (b"", b" ", b"\t", b"\r", b"\n")
        if json_like is None and line.strip(b"\xef\xbb\xbf \t\r\n"):
            json_like = line.lstrip(b"\xef\xbb\xbf \t").startswith(b"{")
        if marker and held_size >= size and not directive and depth <= 0:
            yield Chunk(content=b"".join(held), document=document, line=first_line)
            held, held_size = [], 0
            document, first_line, documents, started = document + max(documents, 1), line_number, 0, False
        held.append(line)
        held_size += len(line)
        if held_size > limit:
            raise UsageError(
                f"a document from line {first_line} on is larger than {limit // (1024 * 1024)} MiB",
                reason="TooLarge",
                hint="the API server takes 1.5 MiB; split the file",
            )
        documents += marker or (not started and bool(line.strip()) and not line.startswith((b"#", b"%")))
        started = started or documents > 0
        directive = (directive or line.startswith(b"%")) and not marker
        line_number += 1
        if json_like:
            for token in _BRACES.findall(line):
                depth += (token in _OPEN) - (token in (b"}", b"]"))
            if depth == 0 and held_size >= size and line.strip():
                objects = _objects(b"".join(held))
                if objects:
                    yield Chunk(content=b"".join(held), document=document, line=first_line)
                    held, held_size = [], 0
                    document, first_line, documents, started = document + objects, line_number, 0, False
    if held:
        yield Chunk(content=b"".join(held), document=document, line=first_line)


def _objects(content: bytes) -> int:
    """Count the JSON texts of a piece; 0 where it is no JSON (flow YAML begins with a brace too)."""
    import json

    decoder, position, count = json.JSONDecoder(), 0, 0
    try:
        text = content.decode("utf-8-sig").strip()
        while position < len(text):
            _, position = decoder.raw_decode(text, position)
            position += len(text[position : position + 4096]) - len(text[position : position + 4096].lstrip())
            count += 1
    except (ValueError, RecursionError):
        return 0
    return count
