"""A worker's environment: what it becomes, and what each wrong value is told."""

from pathlib import Path

import pytest

from shuffle_worker.errors import SpecError
from shuffle_worker.quantity import format_bytes, parse_bytes
from shuffle_worker.settings import Settings


def test_defaults_listen_on_loopback() -> None:
    settings = Settings.from_environment({"SHUFFLE_NAME": "w"})
    assert (settings.http_host, settings.data_host, settings.tokens) == ("127.0.0.1", "127.0.0.1", ())


def test_every_start_is_another_incarnation() -> None:
    assert Settings.from_environment({}).incarnation != Settings.from_environment({}).incarnation


def test_tokens_come_from_a_file_and_may_rotate(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("new\nold\n", encoding="utf-8")
    settings = Settings.from_environment({"SHUFFLE_TOKEN_FILE": str(path), "SHUFFLE_HTTP_HOST": "0.0.0.0"})
    assert settings.tokens == ("new", "old")


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("SHUFFLE_HTTP_PORT", "x", "SHUFFLE_HTTP_PORT: expected a whole number, got 'x'"),
        ("SHUFFLE_HTTP_PORT", "70000", "SHUFFLE_HTTP_PORT: 70000 is not within 0..65535"),
        ("SHUFFLE_MEMORY", "2GB", "SHUFFLE_MEMORY: expected a quantity such as 2Gi, 500M or 1048576, got '2GB'"),
        ("SHUFFLE_TIME_SCALE", "0", "SHUFFLE_TIME_SCALE: 0.0 is not within 0.001..1000"),
        ("SHUFFLE_TOKEN_FILE", "/nowhere", "SHUFFLE_TOKEN_FILE: cannot read /nowhere: No such file or directory"),
        (
            "SHUFFLE_DATA_HOST",
            "0.0.0.0",
            "SHUFFLE_TOKEN_FILE: listening on 0.0.0.0 needs a token: set it to a file that holds one, or listen on "
            "127.0.0.1",
        ),
    ],
)
def test_a_wrong_value_names_its_variable(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        Settings.from_environment({variable: value})
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("1Ki", 1024), ("2Gi", 2 << 30), ("500M", 500_000_000), ("1.5Gi", 3 << 29), ("7", 7), ("1k", 1000)],
)
def test_quantities_are_kubernetes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (1023, "1023"), (1536, "1.5Ki"), (1 << 30, "1.0Gi"), (5 << 40, "5.0Ti"), (10**6, "977Ki")],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text
