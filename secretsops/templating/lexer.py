"""A template's text into tokens, as Go's text/template reads it (go1.26 `src/text/template/parse/lex.go`). Pure.

What never lives here: what the tokens mean together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from secretsops.errors import TemplateFailed
from secretsops.templating.meter import limit

KEYWORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"})
TOKEN_LIMIT = 50_000
"""Tokens of one template: some 10,000 actions; reading them takes a third of a second."""
_SPACES = " \t\r\n"
_SPACE = re.compile(r"[ \t\r\n]+")
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_CHARACTER = re.compile(r"'(?:[^'\\\n]|\\[^\n])*'")
_TERMINATORS = ".,|:)("


@dataclass(slots=True)
class Token:
    """One token: its kind, its text, the offset of its first character."""

    kind: str
    text: str
    position: int


def place(text: str, position: int) -> tuple[int, int]:
    """Give line (from 1) and column (bytes, from 0) of an offset, as Go's errors count them."""
    start = text.rfind("\n", 0, position) + 1
    column = len(text[start:position].encode("utf-8", "surrogateescape"))
    return text.count("\n", 0, position) + 1, column


def syntax_error(text: str, position: int, problem: str) -> TemplateFailed:
    """Give the error of a template that does not parse."""
    line, column = place(text, position)
    return TemplateFailed(problem, line=line, column=column, reason="TemplateSyntax", hint="correct the template")


class Lexer:
    """Cuts a template into tokens; `{{` and `}}` may be others."""

    def __init__(self, text: str, left: str, right: str) -> None:
        self._text = text
        self._left = left
        self._right = right
        self._position = 0
        self._tokens: list[Token] = []

    def tokens(self) -> list[Token]:
        """Give all tokens, the last one of kind `eof`.

        Raises:
            TemplateFailed: the text ends within an action, or holds what no token is.
        """
        text, left = self._text, self._left
        start = 0
        while (found := text.find(left, start)) >= 0:
            inside = found + len(left)
            trim = self._trims_left(inside)
            before = text[start:found].rstrip(_SPACES) if trim else text[start:found]
            if before:
                self._tokens.append(Token("text", before, start))
            self._position = inside + (2 if trim else 0)
            if text.startswith("/*", self._position):
                start = self._comment()
                continue
            self._tokens.append(Token("left", left, found))
            start = self._action()
        if start < len(text):
            self._tokens.append(Token("text", text[start:], start))
        self._tokens.append(Token("eof", "EOF", len(text)))
        return self._tokens

    def _trims_left(self, at: int) -> bool:
        return self._text.startswith("-", at) and self._text[at + 1 : at + 2] in {" ", "\t", "\r", "\n"}

    def _at_right(self, at: int) -> tuple[bool, bool]:
        """Say whether an action ends here, and whether it takes the space behind it away."""
        text = self._text
        if text[at : at + 1] in {" ", "\t", "\r", "\n"} and text.startswith("-" + self._right, at + 1):
            return True, True
        return text.startswith(self._right, at), False

    def _after_right(self, at: int, *, trim: bool) -> int:
        end = at + (2 if trim else 0) + len(self._right)
        if trim:
            while end < len(self._text) and self._text[end] in _SPACES:
                end += 1
        return end

    def _comment(self) -> int:
        end = self._text.find("*/", self._position + 2)
        if end < 0:
            raise self._error("unclosed comment", self._position)
        closed, trim = self._at_right(end + 2)
        if not closed:
            raise self._error("comment ends before closing delimiter", self._position)
        return self._after_right(end + 2, trim=trim)

    def _error(self, problem: str, position: int) -> TemplateFailed:
        return syntax_error(self._text, position, problem)

    def _action(self) -> int:
        text, depth = self._text, 0
        while True:
            at = self._position
            closed, trim = self._at_right(at)
            if closed:
                if depth:
                    raise self._error("unclosed left paren", at)
                self._tokens.append(Token("right", self._right, at))
                return self._after_right(at, trim=trim)
            if at >= len(text):
                raise self._error("unclosed action", at)
            token = self._next(at)
            depth += {"(": 1, ")": -1}.get(token.kind, 0)
            if depth < 0:
                raise self._error("unexpected right paren", at)
            self._tokens.append(token)
            if len(self._tokens) > TOKEN_LIMIT:
                raise limit("more actions than a template may hold")
            self._position = at + len(token.text)

    def _next(self, at: int) -> Token:
        text, character = self._text, self._text[at]
        if space := _SPACE.match(text, at):
            end = space.end()
            # A space in front of the right trim marker belongs to it.
            if self._at_right(end - 1) == (True, True):
                end -= 1
            return Token("space", text[at:end], at)
        if character == ":":
            if not text.startswith(":=", at):
                raise self._error("expected :=", at)
            return Token(":=", ":=", at)
        if character in "=|()":
            return Token(character, character, at)
        if character in "\"'`":
            return self._quoted(at, character)
        if character == "$" or (character == "." and not _is_digit(text, at + 1)):
            return self._field(at, character)
        if character in "+-." or "0" <= character <= "9":
            return self._number(at)
        if word := _WORD.match(text, at):
            return self._word(at, word.group())
        if character.isascii() and character.isprintable():
            return Token("char", character, at)
        raise self._error("unrecognized character in action", at)

    def _quoted(self, at: int, quote: str) -> Token:
        if quote == "`":
            end = self._text.find("`", at + 1)
            if end < 0:
                raise self._error("unterminated raw quoted string", at)
            return Token("raw", self._text[at : end + 1], at)
        found = (_QUOTED if quote == '"' else _CHARACTER).match(self._text, at)
        if not found:
            what = "quoted string" if quote == '"' else "character constant"
            raise self._error(f"unterminated {what}", at)
        return Token("string" if quote == '"' else "char constant", found.group(), at)

    def _ends(self, at: int) -> bool:
        character = self._text[at : at + 1]
        return not character or character in _SPACES + _TERMINATORS or self._text.startswith(self._right, at)

    def _field(self, at: int, first: str) -> Token:
        if self._ends(at + 1):
            return Token("variable" if first == "$" else "dot", first, at)
        word = _WORD.match(self._text, at + 1)
        end = word.end() if word else at + 1
        if not self._ends(end):
            raise self._error("bad character in a name", end)
        return Token("variable" if first == "$" else "field", self._text[at:end], at)

    def _number(self, at: int) -> Token:
        found = _NUMBER.match(self._text, at)
        end = found.end() if found else at
        kind = "number"
        if self._text[end : end + 1] in {"+", "-"}:
            found = _NUMBER.match(self._text, end)
            end = found.end() if found else end
            if self._text[end - 1 : end] != "i":
                raise self._error("bad number syntax", at)
            kind = "complex"
        if _WORD.match(self._text, end):
            raise self._error("bad number syntax", at)
        return Token(kind, self._text[at:end], at)

    def _word(self, at: int, word: str) -> Token:
        if not self._ends(at + len(word)):
            raise self._error("bad character in a name", at + len(word))
        if word in KEYWORDS:
            return Token(word, word, at)
        return Token("bool" if word in {"true", "false"} else "identifier", word, at)


def _is_digit(text: str, at: int) -> bool:
    return "0" <= text[at : at + 1] <= "9"
