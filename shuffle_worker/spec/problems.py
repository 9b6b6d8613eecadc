"""What is wrong with a manifest, one problem at a time: place, fault, remedy. Pure."""

import difflib
import json
from collections.abc import Iterable, Sequence

from shuffle_worker.errors import SpecError


class Problem(SpecError):
    """One fault of a manifest. `at` is the field's path, `remedy` says what to write instead."""

    def __init__(self, at: str, fault: str, remedy: str) -> None:
        super().__init__(f"{fault}: {remedy}", at)
        self.fault = fault
        self.remedy = remedy


class ManifestError(SpecError):
    """All problems of one manifest; `source` is its file."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)), source)
        self.source = source
        self.problems = tuple(problems)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, whatever its case, dashes or underscores; None when none is near."""
    by_form = {_form(name): name for name in known}
    near = difflib.get_close_matches(_form(word), by_form, n=1, cutoff=0.6)
    return by_form[near[0]] if near else None


def did_you_mean(word: str, known: Sequence[str], otherwise: str) -> str:
    """The remedy for a word that is not known; `otherwise` introduces the list of known ones when none is near."""
    guess = nearest(word, known)
    return f"did you mean {guess}?" if guess else f"{otherwise} {', '.join(known)}"


def quoted(value: object, limit: int = 60) -> str:
    """A value as JSON writes it, cut to `limit` characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _form(word: str) -> str:
    return word.casefold().replace("_", "").replace("-", "")
