"""YAML is read as kubectl reads it (Go's YAML 1.1 reader, then JSON)."""

from pathlib import Path

import pytest

from shuffle_worker.spec import ManifestError, load_manifest
from shuffle_worker.spec.yaml_text import read_documents

RIGHT = """\
apiVersion: shuffle-operator.dev/v1alpha1
kind: ShuffleJob
metadata: {name: by-order}
spec:
  source: {parquet: {paths: [data/*.parquet]}}
  shuffle: {type: Hash, keys: [k], partitions: 4}
  sink: {parquet: {path: out/x}}
"""


def read(text: str):
    (document,) = read_documents(text, "test")
    return document


def told(text: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load_manifest(text, "job.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("word", ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"])
def test_words_that_kubectl_reads_as_true(word):
    assert read(f"a: {word}") == {"a": True}
    assert read(f"a: '{word}'") == {"a": word}


@pytest.mark.parametrize("word", ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"])
def test_words_that_kubectl_reads_as_false(word):
    assert read(f"a: {word}") == {"a": False}
    assert read(f'a: "{word}"') == {"a": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yEs", "yEs"),
        ("none", "none"),
        ("None", "None"),
        ("~", None),
        ("Null", None),
        ("", None),
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        ("1_000", 1000),
        ("017", 15),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b101", 5),
        ("08", 8.0),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-", ["no"]),
        ("1:30", "1:30"),
        ("2024-01-31", "2024-01-31"),
        ("2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("s3://b/k", "s3://b/k"),
    ],
)
def test_plain_scalars(text, value):
    if text == "-":
        text, value = "'-'", "-"
    assert read(f"a: {text}") == {"a": value}


def test_keys_are_text_as_in_json():
    assert read("{1: a, true: b, x: c}") == {"1": "a", "true": "b", "x": "c"}


def test_merged_keys_give_way_to_own_ones():
    assert read("base: &b {x: 1, y2: 2}\nmore: {<<: *b, x: 3}")["more"] == {"x": 3, "y2": 2}


def test_json_is_yaml():
    assert read('{"a": [1, 2.5, "y", null, true]}') == {"a": [1, 2.5, "y", None, True]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\na: 2", "line 2, column 1: the key 'a' is given twice: mend the YAML"),
        ("a: [1, 2", "line 1, column 9: expected ',' or ']', but got '<stream end>': mend the YAML"),
        ("a: .inf", "line 1, column 4: '.inf' is no number that JSON can hold: mend the YAML"),
        ("a: .nan", "line 1, column 4: '.nan' is no number that JSON can hold: mend the YAML"),
        ("a: 1e999", "line 1, column 4: '1e999' is no number that JSON can hold: mend the YAML"),
        ("a: !!binary aGk=", "line 1, column 4: the tag tag:yaml.org,2002:binary is not allowed: mend the YAML"),
        ("a: !!python/name:os.system x", "line 1, column 4: could not determine a constructor for the tag"),
        ("? [1]\n: 2", "line 1, column 3: a key is not text: mend the YAML"),
        ("a: &x [*x]", "line 1, column 4: found unconstructable recursive node: mend the YAML"),
        ("a: *x", "line 1, column 4: found undefined alias 'x': mend the YAML"),
        ("[" * 100, "line 1, column 65: nested deeper than 64 levels: mend the YAML"),
        ("a: \x07", "character 4: the character U+0007 is not allowed: remove it"),
        ("", "is empty: write a ShuffleJob of shuffle-operator.dev/v1alpha1"),
    ],
)
def test_what_is_no_manifest_at_all(text, sentence):
    (told_once,) = told(text)
    assert told_once.startswith(sentence)


def test_aliases_cannot_stand_for_more_than_memory_holds():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    assert told("\n".join(lines)) == ["more than 1000000 values, aliases counted each time: mend the YAML"]


def test_an_unquoted_column_called_n_is_refused_with_the_remedy_as_it_would_be_by_kubectl():
    (sentence,) = told(RIGHT.replace("[k]", "[n]"))
    assert sentence.startswith("spec.shuffle.keys[0]: the boolean false does not fit")
    assert sentence.endswith("quote it")
    assert load_manifest(RIGHT.replace("[k]", "['n']")).spec.shuffle.keys == ("n",)


def test_the_one_job_of_several_documents_is_taken():
    other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
    assert load_manifest(f"{other}---\n{RIGHT}---\n").metadata.name == "by-order"


def test_several_jobs_are_refused():
    assert told(f"{RIGHT}---\n{RIGHT}") == [
        "holds 2 ShuffleJobs in 2 documents (ShuffleJob, ShuffleJob): one at a time: split the file"
    ]
    assert told("kind: ShufleJob\n---\nkind: Pod") == [
        "holds 0 ShuffleJobs in 2 documents (ShufleJob, Pod): did you mean ShuffleJob?"
    ]


def test_the_status_that_kubectl_get_writes_is_ignored():
    assert load_manifest(f"{RIGHT}status: {{phase: Running, unknown: 1}}\n").metadata.name == "by-order"


def test_null_stands_for_a_field_left_out():
    assert load_manifest(f"{RIGHT}  verify: null\n  suspend: ~\n").spec.suspend is False


def test_a_whole_float_is_a_whole_number():
    assert load_manifest(RIGHT.replace("partitions: 4", "partitions: 4e0")).spec.shuffle.partitions == 4


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read (No such file or directory): check the path"),
        (b"\xff\xfe\x00", "is not UTF-8 (byte 0): save it as UTF-8"),
        (b"#" * 1_500_001, "is larger than 1500000 bytes: is it a manifest?"),
    ],
    ids=["missing", "not-utf-8", "large"],
)
def test_files_that_cannot_be_manifests(tmp_path: Path, content, sentence):
    path = tmp_path / "job.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    assert str(caught.value) == f"{path}: {sentence}"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text(RIGHT, encoding="utf-8-sig")
    assert load_manifest(path).kind == "ShuffleJob"
