"""docs/manifest.md is what the model says, and its example is right."""

import re
from pathlib import Path

from shuffle_worker.spec import load_manifest
from shuffle_worker.spec.reference import reference

DOCUMENT = Path(__file__).parents[3] / "docs" / "manifest.md"


def test_the_reference_is_up_to_date():
    remedy = "write it anew: python -m shuffle_worker.spec.reference > docs/manifest.md"
    assert DOCUMENT.read_text(encoding="utf-8") == reference(), remedy


def test_the_example_of_the_reference_is_valid():
    (example,) = re.findall(r"```yaml\n(.*?)```", reference(), re.DOTALL)
    assert load_manifest(example).spec.shuffle.partitions == 64


def test_every_object_has_its_place():
    headings = re.findall(r"^## (.+)$", reference(), re.MULTILINE)
    assert {"spec.source.parquet", "spec.shuffle.keys[]", "spec.sink.parquet.sortBy[]", "status.stats"} <= set(headings)
    assert len(headings) == len(set(headings))
