"""Go text/template with sprig over bytes, for templates of strangers: ExternalSecrets, SealedSecrets, ApplicationSets.

    template = Template.parse(text, functions=external_secrets())
    data = template.render({"user": b"alice"})          # bytes; TemplateFailed says where, never what

What never lives here: which templates an object has and where their output goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secretsops.errors import TemplateFailed
from secretsops.templating.evaluator import Run
from secretsops.templating.gotypes import StringMap
from secretsops.templating.lexer import Lexer
from secretsops.templating.meter import Limits, Meter, limit
from secretsops.templating.parser import parse
from secretsops.templating.signature import Function
from secretsops.templating.tables import argo_cd, external_secrets, method, sprig
from secretsops.templating.world import REAL, World

__all__ = ["DEFAULT_LIMITS", "Limits", "Meter", "Template", "World", "argo_cd", "as_go", "external_secrets", "sprig"]

DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template that parses. Holds its text, and so never prints itself."""

    text: str
    trees: Mapping[str, Any]
    functions: Mapping[str, Function]
    missing_key_fails: bool

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        functions: Mapping[str, Function] | None = None,
        missing_key_fails: bool = True,
        left: str = "{{",
        right: str = "}}",
        limits: Limits = DEFAULT_LIMITS,
        meter: Meter | None = None,
    ) -> Template:
        """Read a template; `functions` are sprig's where none are given. `meter` pays where several share a budget.

        Raises:
            TemplateFailed: reason `TemplateSyntax` with line and column, or `TemplateLimit`.
        """
        if len(text) > limits.source_bytes:
            raise limit("the template's text is too long")
        table = functions if functions is not None else sprig()
        try:
            tokens = Lexer(text, left, right).tokens()
            if meter is not None:
                meter.step(4 * len(tokens))
            trees = parse(text, tokens, table)
        except RecursionError:
            raise limit("the template is nested too deep") from None
        return cls(text=text, trees=trees, functions=table, missing_key_fails=missing_key_fails)

    def render(
        self,
        data: Mapping[Any, Any],
        *,
        limits: Limits = DEFAULT_LIMITS,
        world: World = REAL,
        meter: Meter | None = None,
    ) -> bytes:
        """Give the output for a root of texts (`str` to `bytes`, a Go map[string]string) or of any plain data.

        A mapping whose values are all bytes is a map[string]string, as External Secrets and Sealed Secrets have it;
        any other becomes a map[string]interface {}, see `as_go`. `meter` takes the place of `limits` where several
        renderings share a budget.

        Raises:
            TemplateFailed: with line, column and kind of what went wrong; never a value.
        """
        root: Any
        if all(isinstance(value, bytes) for value in data.values()):
            root = StringMap({_bytes(key): value for key, value in data.items()})
        else:
            root = as_go(data)
        run = Run(
            self.text,
            self.trees,
            self.functions,
            method,
            meter=meter or Meter(limits, world.tick),
            world=world,
            missing_key_fails=self.missing_key_fails,
        )
        return run.render("", root)

    def __repr__(self) -> str:
        return f"Template({len(self.text)} characters)"

    __str__ = __repr__


def _bytes(key: Any) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogateescape")


def as_go(value: Any) -> Any:
    """Give plain data (from `json.loads`) as Go's JSON decoder would: numbers are float64, text is bytes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, Mapping):
        return {_bytes(key): as_go(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_go(item) for item in value]
    if isinstance(value, int) and type(value) is int:
        return float(value)
    if value is None or isinstance(value, bytes | bool | int | float):
        return value
    raise TemplateFailed(f"a template cannot be given a {type(value).__name__}", reason="TemplateFailed")
