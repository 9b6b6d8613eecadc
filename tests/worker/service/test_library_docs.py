"""The examples of docs/library.md run as they stand."""

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[3] / "docs" / "library.md"


def test_the_examples_run() -> None:
    examples = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 8
    session: dict[str, object] = {}
    for example in examples:
        exec(compile(example, str(DOCUMENT), "exec"), session)
