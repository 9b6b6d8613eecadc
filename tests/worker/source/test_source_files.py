"""Finding local files: what a path stands for, and what is said when it stands for nothing."""

import os

import pytest

from shuffle_worker.errors import InputError
from shuffle_worker.source.files import LocalFiles, file_store

SUFFIXES = (".parquet", ".pq")


@pytest.fixture
def tree(tmp_path):
    for name in (
        "a/2.parquet",
        "a/1.parquet",
        "a/x.csv",
        "a/_temp.parquet",
        "a/.hidden.parquet",
        "a/b/3.pq",
        "c/4.dat",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a", ["a/1.parquet", "a/2.parquet"]),
        ("a/", ["a/1.parquet", "a/2.parquet"]),
        ("a/*", ["a/1.parquet", "a/2.parquet", "a/x.csv"]),
        ("a/[1-9].parquet", ["a/1.parquet", "a/2.parquet"]),
        ("**/*.p*", ["a/1.parquet", "a/2.parquet", "a/b/3.pq"]),
        ("c/4.dat", ["c/4.dat"]),
        ("a/_*", ["a/_temp.parquet"]),
        ("a/_temp.parquet", ["a/_temp.parquet"]),
    ],
)
def test_what_a_pattern_finds(tree, pattern, found):
    assert LocalFiles().find(f"{tree}/{pattern}", SUFFIXES) == [str(tree / name) for name in found]


def test_a_file_named_twice_is_read_once(tree):
    found = LocalFiles().find_all([f"{tree}/a/*.parquet", f"{tree}/a/1.parquet", f"{tree}/a"], SUFFIXES)
    assert found == [str(tree / "a/1.parquet"), str(tree / "a/2.parquet")]


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("a/1.parqet", r"no file matches .*1\.parqet: .*/a holds 1\.parquet"),
        ("aa/*.parquet", r"there is no folder .*/aa; .* holds a"),
        ("c", r"none of the 1 names in this folder ends in \.parquet or \.pq; name the files by a pattern"),
        ("a/*.orc", r"no file matches .*\*\.orc: .*/a holds"),
    ],
)
def test_no_match_tells_what_is_there_instead(tree, pattern, sentence):
    with pytest.raises(InputError, match=sentence):
        LocalFiles().find(f"{tree}/{pattern}", SUFFIXES)


def test_an_empty_folder_is_called_empty(tmp_path):
    (tmp_path / "e").mkdir()
    with pytest.raises(InputError, match=r"/e is empty"):
        LocalFiles().find(f"{tmp_path}/e/*.parquet", SUFFIXES)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_listed(tree):
    (tree / "a").chmod(0)
    try:
        with pytest.raises(InputError, match="cannot be listed: Permission denied"):
            LocalFiles().find(f"{tree}/a", SUFFIXES)
    finally:
        (tree / "a").chmod(0o755)


def test_a_file_in_place_of_a_folder_is_named(tree):
    with pytest.raises(InputError, match=r"no file matches .*x\.csv/y\.parquet.*x\.csv"):
        LocalFiles().find(f"{tree}/a/x.csv/y.parquet", SUFFIXES)


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        (["gs://b/x"], "the scheme gs:// is not supported: use local paths or s3://bucket/key"),
        (["s3://b/x", "/tmp/x"], "partly local and partly on S3"),
    ],
)
def test_storage_that_is_not_known_or_mixed_is_refused(paths, sentence):
    with pytest.raises(InputError, match=sentence):
        file_store(paths)
