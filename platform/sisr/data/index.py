"""What is known about every file of a source: sizes, content hashes, verdicts, and one fingerprint over all of them."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from sisr.config.wording import printable
from sisr.data import outputs
from sisr.data.images import Verdict
from sisr.errors import DataError

MAX_BAD_FRACTION = 0.01
NAMED = 10  # offenders named in a message
_COLUMNS = ("name", *(field.name for field in fields(Verdict)))


@dataclass(frozen=True)
class Index:
    """Verdicts by file name, sorted by name."""

    verdicts: Mapping[str, Verdict]

    @classmethod
    def of(cls, verdicts: Iterable[tuple[str, Verdict]]) -> "Index":
        """Return the index of (name, verdict) pairs in any order."""
        return cls(dict(sorted(verdicts)))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, contents and verdicts: the same for the same files anywhere; times don't matter."""
        digest = hashlib.sha256()
        for name, v in self.verdicts.items():
            line = [name, v.size, v.sha256, v.mode, v.width, v.height, v.kind, *([v.lr_sha256] if v.lr_sha256 else [])]
            digest.update(json.dumps(line).encode() + b"\n")
        return digest.hexdigest()

    @cached_property
    def good(self) -> list[str]:
        """Names of the files that can be used."""
        return [name for name, v in self.verdicts.items() if v.kind is None]

    @cached_property
    def refused(self) -> dict[str, Verdict]:
        """The files that can't be used, by name."""
        return {name: v for name, v in self.verdicts.items() if v.kind is not None}

    def reasons(self) -> dict[str, int]:
        """Return how many files were refused, by reason, most frequent first."""
        return dict(Counter(v.kind for v in self.refused.values() if v.kind).most_common())

    def notes(self) -> dict[str, int]:
        """Return how many good files were converted, by what was done, most frequent first."""
        return dict(Counter(note for v in self.verdicts.values() for note in v.notes).most_common())

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file's content by its name; that of a given lr by its picture's name and (lr)."""
        lr = {f"{name} (lr)": v.lr_sha256 for name, v in self.verdicts.items() if v.lr_sha256}
        return {name: v.sha256 for name, v in self.verdicts.items()} | lr

    def check(self, source: str, max_bad_fraction: float = MAX_BAD_FRACTION, remedy: str = "") -> None:
        """Raise DataError if more than this fraction of the files, or every file, was refused.

        The message has the counts by reason, the first ten offenders, and the remedy where one is known.
        """
        bad, total = len(self.refused), len(self.verdicts)
        if bad < total and bad <= max_bad_fraction * total:
            return
        counts = ", ".join(f"{count} {kind}" for kind, count in self.reasons().items())
        more = []
        if bad < total:
            more.append(f"remove or mend them, or leave them out: --max-bad {self.share_refused():g}")
        head = f"{source}: {bad} of {total} image files can't be used, more than {max_bad_fraction:.0%}: {counts}"
        raise DataError("\n".join([head, *self.offenders(), *filter(None, [remedy]), *more]))

    def share_refused(self) -> float:
        """Return the fraction of files that were refused, rounded up to a whole percent."""
        return math.ceil(100 * len(self.refused) / len(self.verdicts)) / 100

    def offenders(self) -> list[str]:
        """Return the first refused files with their reasons, and how many more there are, as lines of a message."""
        lines = [f"  {printable(name)}: {v.kind}: {v.detail}" for name, v in list(self.refused.items())[:NAMED]]
        return lines + ([f"  and {len(self.refused) - NAMED} more"] if len(self.refused) > NAMED else [])

    def to_columns(self) -> dict[str, list[object]]:
        """Return the index as columns for JSON, which loads faster than one object per file."""
        rows = [(name, *(getattr(v, key) for key in _COLUMNS[1:])) for name, v in self.verdicts.items()]
        columns = {key: list(column) for key, column in zip(_COLUMNS, zip(*rows, strict=True), strict=True)}
        return columns if any(columns["lr_sha256"]) else {key: columns[key] for key in _COLUMNS if key != "lr_sha256"}

    @classmethod
    def from_columns(cls, columns: Mapping[str, list[Any]]) -> "Index":
        """Return the index that `to_columns` described."""
        columns = {"lr_sha256": [""] * len(columns["name"]), **columns}
        columns["notes"] = [tuple(notes) for notes in columns["notes"]]  # JSON has lists
        rows = zip(*(columns[key] for key in _COLUMNS), strict=True)
        return cls({name: Verdict(*values) for name, *values in rows})


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return what differs between two states of a source, such as "+12 -3 ~1 files, e.g. a.png"; else "".

    Both are content hashes by file name. Of what is called as an output of `sisr upscale`, that is said.
    """
    added = [name for name in after if name not in before]
    removed = [name for name in before if name not in after]
    modified = [name for name in after if name in before and before[name] != after[name]]
    examples = [printable(name) for name in (added + removed + modified)[:3]]
    if not examples:
        return ""
    made = sorted({*outputs.among(after)} & {*added})
    hint = f"; {printable(made[0])} is {outputs.REMEDY.format('it')}" if made else ""
    return f"+{len(added)} -{len(removed)} ~{len(modified)} files, e.g. {', '.join(examples)}{hint}"
