"""Reads a ShuffleJob manifest, or says everything that is wrong with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from shuffle_worker.spec import rules
from shuffle_worker.spec.model import API_VERSION, KIND, Shuffle, ShuffleJob, Sink, Source
from shuffle_worker.spec.problems import ManifestError, Problem, did_you_mean, quoted
from shuffle_worker.spec.structure import check_structure
from shuffle_worker.spec.yaml_text import MAX_BYTES, read_documents


def load_manifest(source: Path | str, name: str = "manifest") -> ShuffleJob:
    """The ShuffleJob of a file (a Path) or of a text (a str; `name` stands for it in messages).

    :raises ManifestError: with all problems.
    """
    text, name = (_read(source), str(source)) if isinstance(source, Path) else (source, name)
    document = _find_job(text, name)
    job, problems = check(document)
    if job is None or problems:
        raise ManifestError(name, problems)
    return job


def check(document: object) -> tuple[ShuffleJob | None, list[Problem]]:
    """A raw manifest as JSON gives it: the job if its fields fit, and all problems. Rules between fields are looked
    at wherever the fields themselves are right."""
    if isinstance(document, dict):
        document = {key: value for key, value in document.items() if key != "status"}  # as kubectl get writes it
    cleaned, problems = check_structure(document, ShuffleJob)
    if not problems:
        job = msgspec.convert(cleaned, ShuffleJob)
        return job, validate(job)
    spec = cleaned.get("spec") if isinstance(cleaned, dict) else None
    if isinstance(spec, dict):
        broken = {problem.at for problem in problems}
        problems += _section_problems(spec, broken)
    return None, problems


def validate(job: ShuffleJob) -> list[Problem]:
    """The rules between the fields of a typed job."""
    spec = job.spec
    problems = [
        *rules.source_problems(spec.source),
        *rules.shuffle_problems(spec.shuffle),
        *rules.sink_problems(spec.sink),
    ]
    if not problems:
        problems.extend(rules.spec_problems(spec))
    return problems


def _section_problems(spec: dict[str, Any], broken: set[str]) -> Iterator[Problem]:
    """The rules of the sections in which every field is right."""

    def right(section: str) -> bool:
        at = f"spec.{section}"
        return section in spec and not any(place == at or place.startswith((f"{at}.", f"{at}[")) for place in broken)

    if right("source"):
        yield from rules.source_problems(msgspec.convert(spec["source"], Source))
    if right("shuffle"):
        yield from rules.shuffle_problems(msgspec.convert(spec["shuffle"], Shuffle))
    if right("sink"):
        yield from rules.sink_problems(msgspec.convert(spec["sink"], Sink))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(str(path), [Problem("", f"cannot be read ({error.strerror})", "check the path")]) from None
    if len(data) > MAX_BYTES:
        raise ManifestError(str(path), [Problem("", f"is larger than {MAX_BYTES} bytes", "is it a manifest?")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = Problem("", f"is not UTF-8 (byte {error.start})", "save it as UTF-8")
        raise ManifestError(str(path), [problem]) from None


def _find_job(text: str, name: str) -> object:
    """The one ShuffleJob among the documents; whatever there is, if there is only one."""
    try:
        documents = [document for document in read_documents(text, name) if document is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ManifestError(name, [Problem(at, error.problem or "not YAML", "mend the YAML")]) from None
    except yaml.reader.ReaderError as error:
        fault = f"the character U+{error.character:04X} is not allowed"
        raise ManifestError(name, [Problem(f"character {error.position + 1}", fault, "remove it")]) from None
    if not documents:
        raise ManifestError(name, [Problem("", "is empty", f"write a {KIND} of {API_VERSION}")])
    jobs = [each for each in documents if isinstance(each, dict) and each.get("kind") == KIND]
    if len(documents) == 1:
        return documents[0]
    if len(jobs) != 1:
        kinds = [str(each.get("kind")) if isinstance(each, dict) else quoted(each) for each in documents]
        fault = f"holds {len(jobs)} ShuffleJobs in {len(documents)} documents ({', '.join(kinds)})"
        remedy = "one at a time: split the file" if jobs else did_you_mean(kinds[0], [KIND], "write a")
        raise ManifestError(name, [Problem("", fault, remedy)])
    return jobs[0]


def read_job(manifest: bytes) -> ShuffleJob:
    """A manifest that was checked before and travelled as JSON."""
    return msgspec.json.decode(manifest, type=ShuffleJob)


def parse_job(document: object, name: str = "manifest") -> ShuffleJob:
    """The job of a raw manifest. :raises ManifestError: with all problems."""
    job, problems = check(document)
    if job is None or problems:
        raise ManifestError(name, problems)
    return job
