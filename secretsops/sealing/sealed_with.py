"""`secretsops.dev/sealed-with`: which key sealed which item, as an annotation of the SealedSecret. Pure.

The wire format of an item names no key (bitnami/sealed-secrets #226), so opening tries them all. This annotation
makes it one attempt and makes "what still needs key K" a question for a file. It is a hint, never an authority: nothing
binds it to the ciphertexts, whoever edits a file by other tools leaves it behind, and a wrong hint costs one attempt.

    SHA256:kAP…                          every item was sealed with this key
    SHA256:kAP… SHA256:u7Q…=token,user   those two with the second key, the others with the first

Entries are separated by blanks; after `=` stand the item keys, separated by commas (neither occurs in a key of a
Secret, nor in an unpadded base64 digest). At most one entry names no items.

What never lives here: opening, deciding whether a key may be retired.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

ANNOTATION = "secretsops.dev/sealed-with"
TEXT_LIMIT = 256 * 1024
"""Characters of the annotation read at most; the API server allows no more for all annotations together."""
_PREFIX = "SHA256:"
_LENGTH = len(_PREFIX) + 43


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedWith:
    """Fingerprints by item; `default` (perhaps "") is that of every item not in `items`."""

    default: str = ""
    items: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, annotations: Mapping[str, object]) -> SealedWith:
        """Read an object's annotations; what is malformed is left out, for a hint is never an error."""
        text = annotations.get(ANNOTATION)
        if not isinstance(text, str) or len(text) > TEXT_LIMIT:
            return cls()
        default = ""
        items: dict[str, str] = {}
        for entry in text.split():
            fingerprint, equals, names = entry.partition("=")
            if not is_fingerprint(fingerprint):
                continue
            if not equals:
                default = default or fingerprint
                continue
            for name in names.split(","):
                items.setdefault(name, fingerprint)
        return cls(default=default, items=items)

    @classmethod
    def of_items(cls, keys: Mapping[str, str]) -> SealedWith:
        """Give the hint for fingerprints by item, "" where unknown; the key of most items becomes the default.

        An item of unknown key gets no hint, so beside one there is no default.
        """
        known = {item: key for item, key in keys.items() if key}
        if len(known) < len(keys) or not known:
            return cls(items=known)
        counted = Counter(known.values())
        default = min(counted, key=lambda key: (-counted[key], key))
        return cls(default=default, items={item: key for item, key in known.items() if key != default})

    def key_of(self, item: str) -> str:
        """Give the fingerprint that is said to have sealed an item, "" when none is named."""
        return self.items.get(item, self.default)

    def changed(self, new: Mapping[str, str], present: Iterable[str]) -> SealedWith:
        """Give the hint after the items of `new` were sealed with the keys named there, "" being an unknown one.

        `present` are all items now.
        """
        return SealedWith.of_items({item: new[item] if item in new else self.key_of(item) for item in present})

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Name every key that occurs, the default first."""
        return tuple(dict.fromkeys([*filter(None, [self.default]), *sorted(self.items.values())]))

    @property
    def text(self) -> str:
        """Give the annotation's value, "" when nothing is known."""
        by_key: dict[str, list[str]] = {}
        for item, key in self.items.items():
            by_key.setdefault(key, []).append(item)
        entries = [f"{key}={','.join(sorted(names))}" for key, names in sorted(by_key.items())]
        return " ".join([*filter(None, [self.default]), *entries])


def is_fingerprint(text: str) -> bool:
    """Say whether a text looks like `certificate.fingerprint_of`'s."""
    digest = text.removeprefix(_PREFIX)
    return len(text) == _LENGTH and digest != text and digest.replace("+", "").replace("/", "").isalnum()
