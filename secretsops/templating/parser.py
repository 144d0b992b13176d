"""Tokens into trees, by the rules of go1.26 `src/text/template/parse/parse.go`. Pure.

What never lives here: running what is parsed.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from secretsops.errors import TemplateFailed
from secretsops.templating.constants import character, read_number, unquote
from secretsops.templating.lexer import Token, syntax_error
from secretsops.templating.nodes import (
    Action,
    Bool,
    Branch,
    Call,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Jump,
    Literal,
    Nil,
    Node,
    Number,
    Operand,
    Pipe,
    Text,
    Variable,
)

DEPTH_LIMIT = 80
"""Levels of control structures and parentheses in one another."""
_STARTS = frozenset(
    {
        "bool",
        "char constant",
        "complex",
        "dot",
        "field",
        "identifier",
        "number",
        "nil",
        "raw",
        "string",
        "variable",
        "(",
    }
)
_SHOWN = 40
_END, _ELSE = "end", "else"


def parse(text: str, tokens: Sequence[Token], functions: Container[str]) -> dict[str, Sequence[Node]]:
    """Give the template and all it defines by name; its own name is the empty string. `text` is for places in errors.

    Raises:
        TemplateFailed: it does not parse; reason `TemplateSyntax`, with line and column.
    """
    return _Parser(text, tokens, functions).parse()


class _Parser:
    def __init__(self, text: str, tokens: Sequence[Token], functions: Container[str]) -> None:
        self._text = text
        self._functions = functions
        self._tokens = tokens
        self._at = 0
        self._variables = ["$"]
        self._ranges = 0
        self._depth = 0
        self._trees: dict[str, Sequence[Node]] = {}

    def parse(self) -> dict[str, Sequence[Node]]:
        nodes: list[Node] = []
        while self._peek().kind != "eof":
            if self._peek().kind == "left":
                begin = self._at
                self._at += 1
                if self._next_word().kind == "define":
                    self._definition()
                    continue
                self._at = begin
            found = self._text_or_action()
            if isinstance(found, str):
                raise self._error(f"unexpected {{{{{found}}}}}")
            nodes.append(found)
        self._add("", nodes)
        return self._trees

    # --- Tokens ----------------------------------------------------------------------------------------

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _peek_word(self) -> Token:
        while self._tokens[self._at].kind == "space":
            self._at += 1
        return self._tokens[self._at]

    def _next_word(self) -> Token:
        token = self._peek_word()
        if token.kind != "eof":
            self._at += 1
        return token

    def _expect(self, kind: str, context: str) -> Token:
        token = self._next_word()
        if token.kind != kind:
            raise self._unexpected(token, context)
        return token

    def _error(self, problem: str, token: Token | None = None) -> TemplateFailed:
        position = (token or self._tokens[max(0, self._at - 1)]).position
        return syntax_error(self._text, position, problem)

    def _unexpected(self, token: Token, context: str) -> TemplateFailed:
        # What a quoted string holds stays out of errors.
        shown = "a string" if token.kind in {"string", "raw", "text", "char constant"} else f'"{token.text[:_SHOWN]}"'
        return self._error(f"unexpected {'end of text' if token.kind == 'eof' else shown} in {context}", token)

    # --- Structure -------------------------------------------------------------------------------------

    def _add(self, name: str, nodes: Sequence[Node]) -> None:
        old = self._trees.get(name)
        if old is None or _is_empty(old):
            self._trees[name] = nodes
        elif not _is_empty(nodes):
            raise self._error("a template is defined twice")

    def _definition(self) -> None:
        name = self._template_name(self._next_word(), "define clause")
        self._expect("right", "define clause")
        self._add(name, self._inner("define clause"))

    def _inner(self, context: str) -> list[Node]:
        """Give the body of a definition: variables and ranges around it are out of its sight."""
        outer = self._variables, self._ranges
        self._variables, self._ranges = ["$"], 0
        nodes, end = self._list()
        self._variables, self._ranges = outer
        if end != _END:
            raise self._error(f"unexpected {{{{{end}}}}} in {context}")
        return nodes

    def _list(self) -> tuple[list[Node], str]:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise self._error("nested too deep")
        nodes: list[Node] = []
        while self._peek_word().kind != "eof":
            found = self._text_or_action()
            if isinstance(found, str):
                self._depth -= 1
                return nodes, found
            nodes.append(found)
        raise self._error("unexpected EOF")

    def _text_or_action(self) -> Node | str:
        token = self._next_word()
        if token.kind == "text":
            return Literal(token.position, token.text.encode("utf-8", "surrogateescape"))
        if token.kind == "left":
            return self._action()
        raise self._unexpected(token, "input")

    def _action(self) -> Node | str:
        token = self._next_word()
        match token.kind:
            case "if" | "with" | "range":
                return self._control(token)
            case "end":
                self._expect("right", "end")
                return _END
            case "else":
                if self._peek_word().kind not in {"if", "with"}:
                    self._expect("right", "else")
                return _ELSE
            case "break" | "continue":
                self._expect("right", f"{{{{{token.kind}}}}}")
                if not self._ranges:
                    raise self._error(f"{{{{{token.kind}}}}} outside {{{{range}}}}")
                return Jump(token.position, token.kind)
            case "template":
                return self._call()
            case "block":
                return self._block()
        if token.kind != "eof":
            self._at -= 1
        position = self._peek().position
        return Action(position, self._pipeline("command", "right"))

    def _control(self, token: Token) -> Branch:
        keyword, scope = token.kind, len(self._variables)
        pipe = self._pipeline(keyword, "right")
        self._ranges += keyword == "range"
        body, end = self._list()
        self._ranges -= keyword == "range"
        otherwise: list[Node] | None = None
        if end == _ELSE:
            following = self._peek_word()
            if following.kind in {"if", "with"} and following.kind == keyword:
                self._at += 1
                self._depth += 1
                if self._depth > DEPTH_LIMIT:
                    raise self._error("nested too deep")
                otherwise = [self._control(following)]
                self._depth -= 1
            else:
                otherwise, end = self._list()
                if end != _END:
                    raise self._error("expected end; found {{else}}")
        del self._variables[scope:]
        return Branch(token.position, keyword, pipe, body, otherwise)

    def _call(self) -> Call:
        token = self._next_word()
        name = self._template_name(token, "template clause")
        if self._next_word().kind == "right":
            return Call(token.position, name, None)
        self._at -= 1
        return Call(token.position, name, self._pipeline("template clause", "right"))

    def _block(self) -> Call:
        token = self._next_word()
        name = self._template_name(token, "block clause")
        pipe = self._pipeline("block clause", "right")
        self._add(name, self._inner("block clause"))
        return Call(token.position, name, pipe)

    def _template_name(self, token: Token, context: str) -> str:
        if token.kind not in {"string", "raw"}:
            raise self._unexpected(token, context)
        return self._unquoted(token).decode("utf-8", "surrogateescape")

    # --- Pipelines -------------------------------------------------------------------------------------

    def _pipeline(self, context: str, end: str) -> Pipe:
        pipe = Pipe(self._peek_word().position)
        self._declarations(pipe, context)
        commands: list[Command] = []
        while True:
            token = self._next_word()
            if token.kind == end:
                break
            if token.kind not in _STARTS:
                raise self._unexpected(token, context)
            self._at -= 1
            commands.append(self._command())
        if not commands:
            raise self._error(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], start=2):
            if isinstance(command.operands[0], Bool | Dot | Nil | Number | Text):
                raise self._error(f"non executable command in pipeline stage {stage}")
        pipe.commands = commands
        return pipe

    def _declarations(self, pipe: Pipe, context: str) -> None:
        """Read `$x :=`, `$x =` and, in a range, `$i, $x :=`."""
        declared: list[str] = []
        while self._peek_word().kind == "variable":
            begin = self._at
            variable = self._next_word()
            following = self._peek_word()
            if following.kind in {"=", ":="}:
                self._at += 1
                pipe.assigns = following.kind == "="
            elif following.kind != "char" or following.text != ",":
                self._at = begin
                break
            else:
                self._at += 1
                if context != "range" or declared:
                    raise self._error(f"too many declarations in {context}", variable)
                if self._peek_word().kind not in {"variable", "right", ")"}:
                    raise self._error("range can only initialize variables", variable)
            declared.append(variable.text)
            self._variables.append(variable.text)
            if following.kind in {"=", ":="}:
                break
        pipe.variables = tuple(declared)

    def _command(self) -> Command:
        position = self._peek_word().position
        operands: list[Operand] = []
        while True:
            self._peek_word()
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._peek()
            if token.kind == "space":
                self._at += 1
                continue
            if token.kind == "|":
                self._at += 1
            elif token.kind not in {"right", ")"}:
                raise self._unexpected(token, "operand")
            break
        if not operands:
            raise self._error("empty command")
        return Command(position, tuple(operands))

    def _operand(self) -> Operand | None:
        node = self._term()
        if node is None or self._peek().kind != "field":
            return node
        position, names = self._peek().position, []
        while self._peek().kind == "field":
            names.append(_name(self._peek().text[1:]))
            self._at += 1
        match node:
            case Field():
                return Field(node.position, (*node.names, *names))
            case Variable():
                return Variable(node.position, node.name, (*node.names, *names))
            case Bool() | Text() | Number() | Nil() | Dot():
                raise self._error("unexpected . after a constant")
        return Chain(position, node, tuple(names))

    def _term(self) -> Operand | None:  # noqa: PLR0911 - one return per token
        token = self._next_word()
        position, text = token.position, token.text
        match token.kind:
            case "identifier":
                if text not in self._functions:
                    raise self._error(f'function "{text[:_SHOWN]}" not defined', token)
                return Identifier(position, text)
            case "dot":
                return Dot(position)
            case "nil":
                return Nil(position)
            case "variable":
                if text not in self._variables:
                    raise self._error(f'undefined variable "{text[:_SHOWN]}"', token)
                return Variable(position, text)
            case "field":
                return Field(position, (_name(text[1:]),))
            case "bool":
                return Bool(position, text == "true")
            case "char constant" | "complex" | "number":
                return self._number(token)
            case "(":
                return self._parenthesized()
            case "string" | "raw":
                return Text(position, self._unquoted(token))
        if token.kind != "eof":
            self._at -= 1
        return None

    def _parenthesized(self) -> Pipe:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise self._error("max expression depth exceeded")
        pipe = self._pipeline("parenthesized pipeline", ")")
        self._depth -= 1
        return pipe

    # --- Constants -------------------------------------------------------------------------------------

    def _unquoted(self, token: Token) -> bytes:
        if token.kind == "raw":
            return token.text[1:-1].replace("\r", "").encode("utf-8", "surrogateescape")
        found = unquote(token.text[1:-1], '"')
        if found is None:
            raise self._error("invalid syntax in a string", token)
        return found

    def _number(self, token: Token) -> Number:
        text, position = token.text, token.position
        if token.kind == "char constant":
            # A constant of more than one character, or of a byte, is none.
            raw = text[1:-1]
            code = character(raw)
            if code is None:
                raise self._error("malformed character constant", token)
            return Number(position=position, text=text, integer=code, unsigned=code, floating=float(code))
        number = read_number(text, position)
        if number is None:
            raise self._error("illegal number syntax", token)
        return number


def _name(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _is_empty(nodes: Sequence[Node]) -> bool:
    """Say whether a template holds nothing but space: it may be defined again."""
    return all(isinstance(node, Literal) and not node.data.strip() for node in nodes)
