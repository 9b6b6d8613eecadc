"""What a wrong manifest is told, sentence by sentence, against a golden file.

python tests/worker/spec/test_wrong_manifests.py      writes the sentences anew; read the difference
"""

import copy
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from shuffle_worker.spec import check

TABLE = Path(__file__).with_name("wrong_manifests.yaml")
CASES: list[dict[str, Any]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))


def sentences(document: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in check(document)[1]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["change"]))
def test_each_wrong_manifest_gets_its_sentences(case, manifest, change):
    assert sentences(change(manifest, case["change"])) == case["told"]


def test_the_table_is_large_and_each_case_is_wrong():
    assert len(CASES) >= 40
    assert all(case["told"] for case in CASES)


def test_what_is_changed_was_right(manifest):
    assert sentences(manifest) == []


def write_anew() -> None:
    spec = importlib.util.spec_from_file_location("spec_conftest", TABLE.with_name("conftest.py"))
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    change = helpers.change.__wrapped__()
    header = "".join(line for line in TABLE.read_text(encoding="utf-8").splitlines(keepends=True) if line[0] == "#")
    entries = [
        {
            "change": case["change"],
            "told": sentences(change(copy.deepcopy(helpers.RIGHT), copy.deepcopy(case["change"]))),
        }
        for case in CASES
    ]
    text = yaml.safe_dump(entries, sort_keys=False, width=1000, allow_unicode=True, default_flow_style=None)
    TABLE.write_text(header + text, encoding="utf-8")


if __name__ == "__main__":
    write_anew()
