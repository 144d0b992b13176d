"""Running a parsed template, by the rules of go1.26 `src/text/template/exec.go`. Pure.

Errors say where and what kind of thing went wrong, in Go's words as far as those hold no value: never what a value
is, never the text that `fail` was given.

What never lives here: what functions do (`secretsops.templating.functions`), reading templates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from secretsops.errors import TemplateFailed
from secretsops.templating.formatting import show
from secretsops.templating.gotypes import (
    INVALID,
    Int64,
    Struct,
    Uint32,
    is_integer,
    is_true,
    type_name,
)
from secretsops.templating.lexer import place
from secretsops.templating.meter import Meter, limit
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
from secretsops.templating.signature import (
    ANY,
    BOOL,
    FLOAT,
    GO_NAMES,
    INT,
    INT64,
    NILABLE,
    STRING,
    UINT32,
    VALUE,
    CallFailed,
    Function,
    is_of,
    short_circuit,
)
from secretsops.templating.world import World


class _Missing:
    """No argument came down the pipeline."""


_NO_FINAL = _Missing()


class _Break(Exception):
    """`{{ break }}`."""


class _Continue(Exception):
    """`{{ continue }}`."""


class Run:
    """One rendering: what functions may ask of it are `meter` and `world`."""

    def __init__(
        self,
        text: str,
        trees: Mapping[str, Sequence[Node]],
        functions: Mapping[str, Function],
        methods: Callable[[Any, bytes], Function | None],
        *,
        meter: Meter,
        world: World,
        missing_key_fails: bool,
    ) -> None:
        self.meter = meter
        self.world = world
        self._text = text
        self._trees = trees
        self._functions = functions
        self._methods = methods
        self._strict = missing_key_fails
        self._at = 0
        self._depth = 0
        self._output: list[bytes] = []
        self._variables: list[tuple[str, Any]] = []

    def render(self, name: str, root: Any) -> bytes:
        """Give what the template writes.

        Raises:
            TemplateFailed: with line and column.
        """
        try:
            self._variables = [("$", root)]
            self._walk(root, self._trees[name])
        except TemplateFailed as error:
            raise self._placed(error.problem, error.reason, error.hint) from None
        except CallFailed as error:
            raise self._placed(str(error), "TemplateFailed", "correct the template") from None
        except RecursionError:
            raise self._placed("nested too deep", "TemplateLimit", "make the template simpler") from None
        except MemoryError:
            raise self._placed("more memory than there is", "TemplateLimit", "make the template smaller") from None
        return b"".join(self._output)

    def _placed(self, problem: str, reason: str, hint: str) -> TemplateFailed:
        line, column = place(self._text, self._at)
        return TemplateFailed(problem, line=line, column=column, reason=reason, hint=hint)

    def fail(self, problem: str) -> NoReturn:
        """End the rendering at the node at hand."""
        raise TemplateFailed(problem, reason="TemplateFailed", hint="correct the template, or what it is given")

    # --- Nodes -----------------------------------------------------------------------------------------

    def _walk(self, dot: Any, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self._at = node.position
            self.meter.step()
            if isinstance(node, Literal):
                self._write(node.data)
            elif isinstance(node, Action):
                value = self._pipeline(dot, node.pipe)
                if not node.pipe.variables:
                    self._at = node.position
                    self._write(b"<no value>" if value is INVALID or value is None else show(value, self.meter))
            elif isinstance(node, Branch):
                if node.keyword == "range":
                    self._range(dot, node)
                else:
                    self._branch(dot, node)
            elif isinstance(node, Call):
                self._template(dot, node)
            else:
                self._jump(node)

    def _write(self, data: bytes) -> None:
        self.meter.output(len(data))
        self._output.append(data)

    def _jump(self, node: Jump) -> NoReturn:
        raise _Break if node.keyword == "break" else _Continue

    def _branch(self, dot: Any, node: Branch) -> None:
        mark = len(self._variables)
        value = self._pipeline(dot, node.pipe)
        try:
            if is_true(value):
                self._walk(value if node.keyword == "with" else dot, node.body)
            elif node.otherwise is not None:
                self._walk(dot, node.otherwise)
        finally:
            del self._variables[mark:]

    def _range(self, dot: Any, node: Branch) -> None:
        mark = len(self._variables)
        value = self._pipeline(dot, node.pipe)
        inner = len(self._variables)
        ran = False
        try:
            for index, element in self._items(value, node.pipe):
                ran = True
                self.meter.step()
                self._bind(node.pipe, index, element)
                try:
                    self._walk(element, node.body)
                except _Continue:
                    pass
                finally:
                    del self._variables[inner:]
            if not ran and node.otherwise is not None:
                self._walk(dot, node.otherwise)
        except _Break:
            pass
        finally:
            del self._variables[mark:]

    def _items(self, value: Any, pipe: Pipe) -> Any:
        if isinstance(value, list):
            return enumerate(list(value))
        if isinstance(value, dict):
            return [(key, value[key]) for key in sorted(value)]
        if is_integer(value):
            if len(pipe.variables) > 1:
                self.fail("can't use an integer to iterate over more than one variable")
            return ((INVALID, type(value)(number)) for number in range(value))
        if value is INVALID or value is None:
            return ()
        return self.fail(f"range can't iterate over a {type_name(value)}")

    def _bind(self, pipe: Pipe, index: Any, element: Any) -> None:
        """Give a range's variables their values; the pipeline has declared them."""
        names = pipe.variables
        if not names:
            return
        values = [element] if len(names) == 1 else [index, element]
        for position, (name, value) in enumerate(zip(names, values, strict=True)):
            if pipe.assigns:
                self._assign(name, value)
            else:
                self._variables[len(self._variables) - len(names) + position] = (name, value)

    def _template(self, dot: Any, node: Call) -> None:
        nodes = self._trees.get(node.name)
        if nodes is None:
            self.fail("the template that is called is not defined")
        if self._depth >= self.meter.limits.templates:
            raise limit("templates call one another too deep")
        value = self._pipeline(dot, node.pipe) if node.pipe is not None else INVALID
        outer, self._variables = self._variables, [("$", value)]
        self._depth += 1
        self._walk(value, nodes)
        self._depth -= 1
        self._variables = outer

    # --- Values ----------------------------------------------------------------------------------------

    def _assign(self, name: str, value: Any) -> None:
        for position in range(len(self._variables) - 1, -1, -1):
            if self._variables[position][0] == name:
                self._variables[position] = (name, value)
                return
        self.fail(f"undefined variable: {name}")

    def _pipeline(self, dot: Any, pipe: Pipe) -> Any:
        self._at = pipe.position
        value: Any = _NO_FINAL
        for command in pipe.commands:
            value = self._command(dot, command, value)
            if value is None:
                value = INVALID
        for name in pipe.variables:
            if pipe.assigns:
                self._assign(name, value)
            else:
                self._variables.append((name, value))
        return value

    def _command(self, dot: Any, command: Command, final: Any) -> Any:
        first, operands = command.operands[0], command.operands
        self.meter.step()
        match first:
            case Identifier():
                return self._function(dot, first, operands[1:], final)
            case Field():
                return self._field(dot, first, operands[1:], final)
            case Chain():
                return self._chain(dot, first, operands[1:], final)
            case Variable():
                return self._variable(dot, first, operands[1:], final)
        if len(operands) > 1 or final is not _NO_FINAL:
            self._at = first.position
            self.fail("can't give argument to non-function")
        if isinstance(first, Nil):
            self.fail("nil is not a command")
        return self._plain(dot, first)

    def _plain(self, dot: Any, node: Operand) -> Any:  # noqa: PLR0911 - one return per operand
        """Give the value of an operand that no type is asked of."""
        match node:
            case Dot():
                return dot
            case Bool() | Text():
                return node.value
            case Number():
                return self._constant(node)
            case Pipe():
                return self._pipeline(dot, node)
            case Identifier():
                return self._function(dot, node, (), _NO_FINAL)
            case Field():
                return self._field(dot, node, (), _NO_FINAL)
            case Variable():
                return self._variable(dot, node, (), _NO_FINAL)
            case Chain():
                return self._chain(dot, node, (), _NO_FINAL)
        return None

    def _constant(self, node: Number) -> Any:
        """Give a number the type it has when nobody asks for one."""
        self._at = node.position
        text = node.text
        if node.complex is not None:
            return node.complex
        is_hexadecimal = text[:2] in {"0x", "0X"} and not any(mark in text for mark in "pP")
        is_plain = not is_hexadecimal and not text.startswith("'")
        if node.floating is not None and is_plain and any(mark in text for mark in ".eEpP"):
            return node.floating
        if node.integer is None:
            self.fail("a constant overflows int")
        return node.integer

    def _variable(self, dot: Any, node: Variable, arguments: Sequence[Operand], final: Any) -> Any:
        self._at = node.position
        value = next((value for name, value in reversed(self._variables) if name == node.name), _NO_FINAL)
        if value is _NO_FINAL:
            self.fail(f"undefined variable: {node.name}")
        if not node.names:
            if arguments or final is not _NO_FINAL:
                self.fail("can't give argument to non-function")
            return value
        return self._fields(dot, value, node.names, arguments, final)

    def _field(self, dot: Any, node: Field, arguments: Sequence[Operand], final: Any) -> Any:
        self._at = node.position
        return self._fields(dot, dot, node.names, arguments, final)

    def _chain(self, dot: Any, node: Chain, arguments: Sequence[Operand], final: Any) -> Any:
        self._at = node.position
        if isinstance(node.node, Nil):
            self.fail("indirection through explicit nil")
        value = self._plain(dot, node.node)
        self._at = node.position
        return self._fields(dot, value, node.names, arguments, final)

    def _fields(self, dot: Any, value: Any, names: Sequence[bytes], arguments: Sequence[Operand], final: Any) -> Any:
        last = len(names) - 1
        for number, name in enumerate(names):
            self.meter.step()
            if number < last:
                value = self._get(dot, value, name, (), _NO_FINAL)
            else:
                value = self._get(dot, value, name, arguments, final)
        return value

    def _get(self, dot: Any, value: Any, name: bytes, arguments: Sequence[Operand], final: Any) -> Any:
        shown = name.decode("utf-8", "replace")[:64]
        if value is INVALID:
            if self._strict:
                self.fail(f'nil data; no entry for key "{shown}"')
            return INVALID
        if value is None:
            self.fail(f"nil pointer evaluating interface {{}}.{shown}")
        method = self._methods(value, name)
        if method is not None:
            return self._call(dot, shown, method, arguments, final, receiver=value)
        if isinstance(value, dict):
            if arguments or final is not _NO_FINAL:
                self.fail(f"{shown} is not a method but has arguments")
            if name in value:
                return value[name]
            if self._strict:
                self.fail(f'map has no entry for key "{shown}"')
            return INVALID
        if isinstance(value, Struct) and name in value.fields:
            if arguments or final is not _NO_FINAL:
                self.fail(f"{shown} has arguments but cannot be invoked as function")
            return value.fields[name]
        return self.fail(f"can't evaluate field {shown} in type {type_name(value)}")

    # --- Calls -----------------------------------------------------------------------------------------

    def _function(self, dot: Any, node: Identifier, arguments: Sequence[Operand], final: Any) -> Any:
        self._at = node.position
        found = self._functions[node.name]
        return self._call(dot, node.name, found, arguments, final)

    def _call(
        self, dot: Any, name: str, found: Function, arguments: Sequence[Operand], final: Any, receiver: Any = _NO_FINAL
    ) -> Any:
        position = self._at
        given = len(arguments) + (final is not _NO_FINAL)
        fixed = len(found.parameters)
        if found.variadic is None and given != fixed:
            self.fail(f"wrong number of args for {name}: want {fixed} got {given}")
        if given < fixed:
            self.fail(f"wrong number of args for {name}: want at least {fixed} got {given}")
        if found.call is short_circuit:
            return self._and_or(dot, arguments, final, stop=name == "or")
        types = (*found.parameters, *([found.variadic or ""] * (given - fixed)))
        values = [self._argument(dot, types[number], node) for number, node in enumerate(arguments)]
        if final is not _NO_FINAL:
            values.append(self._checked(final, types[-1]))
        if receiver is not _NO_FINAL:
            values.insert(0, receiver)
        self._at = position
        return self._guarded(name, found, values)

    def _guarded(self, name: str, found: Function, values: list[Any]) -> Any:
        """Call; whatever goes wrong inside becomes an error that holds no value."""
        self.meter.step(2)
        try:
            result = found.call(self, *values) if found.needs_run else found.call(*values)
        except CallFailed as error:
            self.fail(f"error calling {name}: {error}")
        except TemplateFailed:
            raise
        except (RecursionError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - a library's text may quote its argument: nothing of it passes
            self.fail(f"error calling {name}: it cannot do this with these arguments")
        if isinstance(result, bytes):
            self.meter.grow(len(result))
        elif isinstance(result, list | dict):
            self.meter.grow(64 * len(result))
        return result

    def _and_or(self, dot: Any, arguments: Sequence[Operand], final: Any, *, stop: bool) -> Any:
        value: Any = INVALID
        for node in arguments:
            value = self._argument(dot, VALUE, node)
            if is_true(value) == stop:
                return value
        return self._checked(final, VALUE) if final is not _NO_FINAL else value

    def _argument(self, dot: Any, wanted: str, node: Operand) -> Any:
        self._at = node.position
        if isinstance(node, Nil):
            if wanted not in NILABLE:
                self.fail(f"cannot assign nil to {GO_NAMES.get(wanted, wanted)}")
            return NILABLE[wanted]()
        if not isinstance(node, Bool | Text | Number):
            value = self._plain(dot, node)
            self._at = node.position
            return self._checked(value, wanted)
        if wanted in {ANY, VALUE}:
            return self._plain(dot, node)
        return self._literal(wanted, node)

    def _literal(self, wanted: str, node: Bool | Text | Number) -> Any:
        """Give a constant the type a parameter asks for."""
        match wanted, node:
            case "bool", Bool():
                return node.value
            case "string", Text():
                return node.value
            case "int", Number() if node.integer is not None:
                return node.integer
            case "int64", Number() if node.integer is not None:
                return Int64(node.integer)
            case "uint32", Number() if node.unsigned is not None:
                return Uint32(node.unsigned % 2**32)
            case "float", Number() if node.floating is not None:
                return node.floating
        names = {BOOL: "bool", STRING: "string", INT: "integer", INT64: "integer", UINT32: "unsigned integer"}
        if wanted in names or wanted == FLOAT:
            self.fail(f"expected {names.get(wanted, 'float')}; found another constant")
        return self.fail(f"can't handle a constant for arg of type {GO_NAMES.get(wanted, wanted)}")

    def _checked(self, value: Any, wanted: str) -> Any:
        """Give a value as a parameter takes it (`validateType`)."""
        if value is INVALID:
            if wanted not in NILABLE:
                self.fail(f"invalid value; expected {GO_NAMES.get(wanted, wanted)}")
            return NILABLE[wanted]()
        if wanted in {ANY, VALUE}:
            return value
        if not is_of(value, wanted):
            got = "interface {}" if value is None else type_name(value)
            self.fail(f"wrong type for value; expected {GO_NAMES.get(wanted, wanted)}; got {got}")
        return value
