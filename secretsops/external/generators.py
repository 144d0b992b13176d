"""Generators as values, and those that need nothing but chance: passwords, identifiers, listed values. Pure.

A `ClusterGenerator` is read as the namespaced generator it holds. Rules of External Secrets 2.9.0 (`generators/v1`).

What never lives here: asking Vault, AWS or an endpoint (`secretsops.external.generating`), sources of randomness.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from secretsops.errors import InvalidManifest
from secretsops.external.entries import GENERATORS, GeneratorRef
from secretsops.manifest import GroupVersionKind, Manifest
from secretsops.secret import Plaintext

Chance = Callable[[int], bytes]
"""Gives so many random bytes."""

CLUSTER_GENERATOR = "ClusterGenerator"
BUILT = (
    "ECRAuthorizationToken",
    "Fake",
    "Password",
    "SSHKey",
    "STSSessionToken",
    "UUID",
    "VaultDynamicSecret",
    "Webhook",
)
"""Kinds of generators that can be run."""
_HELD_AS = {
    "ECRAuthorizationToken": "ecrAuthorizationTokenSpec",
    "Fake": "fakeSpec",
    "Password": "passwordSpec",
    "SSHKey": "sshKeySpec",
    "STSSessionToken": "stsSessionTokenSpec",
    "UUID": "uuidSpec",
    "VaultDynamicSecret": "vaultDynamicSecretSpec",
    "Webhook": "webhookSpec",
}
LENGTH_LIMIT, KEYS_LIMIT = 4096, 100
"""Characters of a password, and passwords of one generator."""

_LOWER, _UPPER, _DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
_SYMBOLS = '~!@#$%^&*()_+`-={}|[]\\:"<>?,./'


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """One generator as somebody in `namespace` runs it."""

    kind: str
    name: str
    namespace: str
    spec: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def controller(self) -> str:
        """Give the controller class it asks for, "" for any."""
        return str(self.spec.get("controller") or "")


def kind_of(ref: GeneratorRef) -> GroupVersionKind:
    """Give the kind of object a reference names.

    Raises:
        InvalidManifest: such generators cannot be run.
    """
    if ref.kind not in BUILT and ref.kind != CLUSTER_GENERATOR:
        raise _not_built(ref.kind)
    return GroupVersionKind(GENERATORS, "v1alpha1", ref.kind)


def read_generator(manifest: Manifest, namespace: str) -> Generator:
    """Give the generator an object describes, for a namespace.

    Raises:
        InvalidManifest: it describes none that can be run.
    """
    kind, spec = manifest.kind.kind, manifest.spec
    if kind == CLUSTER_GENERATOR:
        kind, holder = str(spec.get("kind") or ""), spec.get("generator")
        if kind not in _HELD_AS:
            raise _not_built(kind)
        found = holder.get(_HELD_AS[kind]) if isinstance(holder, dict) else None
        if not isinstance(found, dict):
            raise InvalidManifest(
                f"ClusterGenerator {manifest.name!r} has no {_HELD_AS[kind]}",
                reason="InvalidSpec",
                hint="fill in spec.generator for the kind it names",
            )
        spec = found
    return Generator(kind=kind, name=manifest.name, namespace=namespace, spec=spec)


def listed(generator: Generator) -> dict[str, Plaintext]:
    """Give the values of a `Fake`."""
    data = generator.spec.get("data")
    return {str(key): Plaintext(str(value).encode()) for key, value in (data or {}).items()}


def identifier(chance: Chance) -> dict[str, Plaintext]:
    """Give a random identifier (version 4 of RFC 9562) under `uuid`."""
    return {"uuid": Plaintext(str(uuid.UUID(bytes=chance(16), version=4)).encode())}


# --- Passwords -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a password is made of; numbers are characters."""

    length: int = 24
    digits: int
    symbols: int
    symbol_characters: str = _SYMBOLS
    upper: bool = True
    repeat: bool = False
    encoding: str = "raw"


def passwords(generator: Generator, chance: Chance) -> dict[str, Plaintext]:
    """Give a password for each of `secretKeys` (`password` where there are none).

    Raises:
        InvalidManifest: the recipe cannot be met.
    """
    spec = generator.spec
    keys = spec.get("secretKeys") or ["password"]
    if len(keys) > KEYS_LIMIT or len(set(keys)) != len(keys) or not all(keys):
        raise _impossible("secretKeys must be non-empty and unique", f"name up to {KEYS_LIMIT} keys, each once")
    recipe = _recipe(spec)
    return {str(key): Plaintext(_encoded(_password(recipe, chance), recipe.encoding)) for key in keys}


def _recipe(spec: Mapping[str, Any]) -> Recipe:
    length = _number(spec, "length", 24) or 24
    symbols = spec.get("symbolCharacters")
    recipe = Recipe(
        length=length,
        digits=_number(spec, "digits", length // 4),
        symbols=_number(spec, "symbols", length // 4),
        symbol_characters="".join(dict.fromkeys(str(symbols))) if symbols is not None else _SYMBOLS,
        upper=spec.get("noUpper") is not True,
        repeat=spec.get("allowRepeat") is True,
        encoding=str(spec.get("encoding") or "raw"),
    )
    if recipe.digits + recipe.symbols > recipe.length:
        raise _impossible("number of digits and symbols must be less than total length", "ask for fewer, or for more")
    letters = recipe.length - recipe.digits - recipe.symbols
    for what, wanted, available in (
        ("letters", letters, len(_letters(recipe))),
        ("digits", recipe.digits, len(_DIGITS)),
        ("symbols", recipe.symbols, len(recipe.symbol_characters)),
    ):
        if wanted > available and (not recipe.repeat or not available):
            raise _impossible(
                f"number of {what} exceeds available {what} and repeats are not allowed", "set allowRepeat: true"
            )
    return recipe


def _number(spec: Mapping[str, Any], name: str, default: int) -> int:
    found = spec.get(name)
    number = found if isinstance(found, int) and not isinstance(found, bool) else default
    if not 0 <= number <= LENGTH_LIMIT:
        raise _impossible(f"{name} is not between 0 and {LENGTH_LIMIT}", "choose another number")
    return number


def _letters(recipe: Recipe) -> str:
    return _LOWER + (_UPPER if recipe.upper else "")


def _password(recipe: Recipe, chance: Chance) -> bytes:
    """Draw letters, digits and symbols, then shuffle them; every order is equally likely."""
    letters = recipe.length - recipe.digits - recipe.symbols
    drawn = [
        *_drawn(_letters(recipe), letters, recipe, chance),
        *_drawn(_DIGITS, recipe.digits, recipe, chance),
        *_drawn(recipe.symbol_characters, recipe.symbols, recipe, chance),
    ]
    for last in range(len(drawn) - 1, 0, -1):
        other = _below(last + 1, chance)
        drawn[last], drawn[other] = drawn[other], drawn[last]
    return "".join(drawn).encode()


def _drawn(alphabet: str, count: int, recipe: Recipe, chance: Chance) -> list[str]:
    left = list(alphabet)
    found = []
    for _ in range(count):
        place = _below(len(left), chance)
        found.append(left[place] if recipe.repeat else left.pop(place))
    return found


def _below(limit: int, chance: Chance) -> int:
    """Give a number from 0 to `limit - 1`, each equally likely: draws from beyond the last whole range are refused."""
    ceiling = 2**32 - 2**32 % limit
    while True:
        drawn = int.from_bytes(chance(4), "big")
        if drawn < ceiling:
            return drawn % limit


def _encoded(password: bytes, encoding: str) -> bytes:
    encoders: Mapping[str, Callable[[bytes], bytes]] = {
        "base64": base64.b64encode,
        "base64url": base64.urlsafe_b64encode,
        "base32": base64.b32encode,
        "hex": lambda raw: raw.hex().encode(),
    }
    return encoders[encoding](password) if encoding in encoders else password


def _impossible(problem: str, hint: str) -> InvalidManifest:
    return InvalidManifest(problem, reason="InvalidSpec", hint=hint)


def _not_built(kind: str) -> InvalidManifest:
    return InvalidManifest(
        f"generators of kind {kind[:60]!r} are not supported",
        reason="Unsupported",
        hint=f"use one of {', '.join(BUILT)}",
    )
