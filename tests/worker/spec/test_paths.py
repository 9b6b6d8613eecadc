"""Which paths an input takes in, by names alone."""

import pytest

from shuffle_worker.spec import paths


@pytest.mark.parametrize(
    ("pattern", "path", "taken"),
    [
        ("/d/*.parquet", "/d/a.parquet", True),
        ("/d/*.parquet", "/d/out/part.parquet", False),
        ("/d/**/*.parquet", "/d/part.parquet", True),
        ("/d/**/*.parquet", "/d/a/b/part.parquet", True),
        ("/d/*", "/d/out/part.parquet", True),
        ("/d", "/d/out/part.parquet", True),
        ("/d", "/data/part.parquet", False),
        ("/d/./x/..", "/d/part", True),
        ("/d/[ab]/*", "/d/b/part", True),
        ("s3://b/in/", "s3://b/in/out/part", True),
        ("s3://b/in", "s3://b/input/part", False),
        ("s3://b/in/*.parquet", "/in/a.parquet", False),
        ("/d/" + "**/" * 12 + "x", "/d/" + "a/" * 40 + "y", False),
    ],
)
def test_reads(pattern, path, taken):
    assert paths.reads(pattern, path) is taken


@pytest.mark.parametrize(
    ("pattern", "fixed"),
    [("/d/x/*.parquet", "/d/x"), ("/d/x", "/d/x"), ("/*", "/"), ("s3://b/a//c*/d", "s3://b/a"), ("s3://b/*", "s3://b")],
)
def test_fixed_part(pattern, fixed):
    assert paths.fixed_part(pattern) == fixed


def test_relative_and_absolute_paths_meet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.reads("in/*.parquet", f"{tmp_path}/in/a.parquet")


@pytest.mark.parametrize(
    ("path", "scheme"),
    [("a/b", ""), ("/a", ""), ("S3://b/k", "s3"), ("gs://b", "gs"), ("file:/x", "file"), ("a:b", ""), ("1:/x", "")],
)
def test_scheme(path, scheme):
    assert paths.scheme_of(path) == scheme
