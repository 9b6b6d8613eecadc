"""The model and its JSON are one; its checks agree with msgspec's."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shuffle_worker.spec import ShuffleJob, check, load_manifest
from shuffle_worker.spec.problems import nearest
from shuffle_worker.spec.structure import check_structure

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
COLUMNS = st.lists(TEXT, min_size=1, max_size=4, unique=True)
ORDER = st.fixed_dictionaries(
    {}, optional={"order": st.sampled_from(["Ascending", "Descending"]), "nulls": st.sampled_from(["First", "Last"])}
)


def named(columns, extra):
    return st.tuples(
        *(st.one_of(st.just(name), extra.map(lambda more, n=name: {"name": n, **more})) for name in columns)
    )


@st.composite
def shuffles(draw):
    kind = draw(st.sampled_from(["Hash", "Range", "Rebalance", "Broadcast"]))
    shuffle = {"type": kind, "partitions": draw(st.integers(1, 65_536))}
    if draw(st.booleans()):
        shuffle["compression"] = draw(st.sampled_from(["None", "LZ4", "Zstd", "Snappy"]))
    if kind == "Rebalance" and draw(st.booleans()):
        shuffle["rebalance"] = {"sliceRows": draw(st.integers(1, 16_777_216))}
    if kind == "Hash":
        cast = st.fixed_dictionaries({}, optional={"as": st.sampled_from(["int64", "decimal128(9, 2)", "time64[us]"])})
        shuffle["keys"] = list(draw(named(draw(COLUMNS), cast)))
        if draw(st.booleans()):
            shuffle["hash"] = {"function": draw(st.sampled_from(["XxHash64", "SparkMurmur3"]))}
    if kind == "Range":
        columns = draw(COLUMNS)
        shuffle["keys"] = list(draw(named(columns, ORDER)))
        cuts = draw(st.integers(0, 5))
        if draw(st.booleans()):
            # Ordered for any order and nulls: text is left to the check that knows the column's type.
            shuffle["partitions"] = cuts + 1
            shuffle["range"] = {"boundaries": [[f"v{cut}"] * len(columns) for cut in range(cuts)]}
    return shuffle


@st.composite
def manifests(draw):
    sink = {"path": f"out/{draw(st.integers(0, 9))}", "sortBy": list(draw(named(draw(COLUMNS), ORDER)))}
    optional = {
        "verify": st.sampled_from(["Keys", "Rows"]),
        "replication": st.just(1),
        "backoffLimit": st.integers(0, 1000),
        "activeDeadlineSeconds": st.integers(1, 2**31 - 1),
        "suspend": st.booleans(),
        "cluster": st.fixed_dictionaries({"name": st.just("c")}),
        "ttlSecondsAfterFinished": st.integers(0, 100),
    }
    spec = {
        "source": {draw(st.sampled_from(["parquet", "arrow"])): {"paths": ["in/*.x"]}},
        "shuffle": draw(shuffles()),
        "sink": {
            draw(st.sampled_from(["parquet", "arrow"])): sink,
            "overwrite": draw(st.sampled_from(["Never", "Replace"])),
        },
        **draw(st.fixed_dictionaries({}, optional=optional)),
    }
    return {
        "apiVersion": "shuffle-operator.dev/v1alpha1",
        "kind": "ShuffleJob",
        "metadata": {"name": draw(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True))},
        "spec": spec,
    }


@given(manifests())
def test_a_right_manifest_survives_json_and_yaml(document):
    job, problems = check(document)
    assert problems == []
    text = job.to_json()
    assert msgspec.json.decode(text, type=ShuffleJob) == job
    assert load_manifest(text.decode()) == job
    assert check(msgspec.to_builtins(job))[0] == job


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | TEXT,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
        max_leaves=8,
    ),
    st.data(),
)
def test_any_value_anywhere_is_told_about_or_taken_never_raised(value, data):
    document = data.draw(manifests())
    node, path = document, []
    while isinstance(node, dict) and node and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(node)))
        path.append((node, key))
        node = node[key]
    if path:
        parent, key = path[-1]
        parent[key] = value
    else:
        document = value
    job, problems = check(document)
    assert (job is not None) or problems
    assert all(problem.fault and problem.remedy for problem in problems)


@given(manifests(), st.data())
def test_the_structure_check_refuses_what_msgspec_refuses(document, data):
    shuffle = document["spec"]["shuffle"]
    shuffle[data.draw(st.sampled_from(["type", "partitions", "keys", "hash", "nonsense"]))] = data.draw(
        st.one_of(st.integers(-5, 70_000), TEXT, st.lists(TEXT, max_size=2), st.dictionaries(TEXT, TEXT, max_size=2))
    )
    _, problems = check_structure(document, ShuffleJob)
    try:
        msgspec.convert(document, ShuffleJob)
    except msgspec.ValidationError:
        assert problems
    else:
        assert not problems


def test_every_field_of_the_model_is_described():
    undescribed = [
        f"{name}.{field}"
        for name, node in msgspec.json.schema(ShuffleJob)["$defs"].items()
        for field, schema in node.get("properties", {}).items()
        if not schema.get("description")
    ]
    assert undescribed == []


def test_a_frozen_job_can_be_a_key_part(manifest):
    job, _ = check(manifest)
    assert hash(job.spec.shuffle) == hash(check(manifest)[0].spec.shuffle)
    with pytest.raises(AttributeError):
        job.spec.shuffle.partitions = 5


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("partitons", ["partitions", "keys"], "partitions"),
        ("row_group_rows", ["rowGroupRows", "path"], "rowGroupRows"),
        ("hash", ["Hash", "Range"], "Hash"),
        ("zstandard", ["Zstd", "LZ4"], "Zstd"),
        ("l_order_key", ["l_orderkey", "l_partkey"], "l_orderkey"),
        ("xyz", ["Hash", "Range"], None),
    ],
)
def test_nearest_names(word, known, meant):
    assert nearest(word, known) == meant


def test_normal_forms(manifest, change):
    document = change(
        manifest,
        {
            "spec.shuffle.keys": ["a", {"name": "b", "as": "int64"}],
            "spec.sink.parquet.sortBy": ["c", {"name": "d", "order": "Descending", "nulls": "First"}],
        },
    )
    spec = check(document)[0].spec
    assert [(key.name, key.cast) for key in spec.shuffle.key_columns] == [("a", None), ("b", "int64")]
    assert [(key.name, key.order, key.nulls) for key in spec.sink.files.sort_columns] == [
        ("c", "Ascending", "Last"),
        ("d", "Descending", "First"),
    ]
    assert (spec.source.format, spec.source.files.paths) == ("parquet", ("data/lineitem/*.parquet",))
    assert (spec.shuffle.hash_function, spec.shuffle.slice_rows, spec.shuffle.boundaries) == ("XxHash64", 8192, None)


def test_boundary_values_keep_their_kinds(manifest, change):
    values = [1, 1.5, "1", True, None]
    document = change(
        manifest,
        {
            "spec.shuffle.type": "Range",
            "spec.shuffle.partitions": 2,
            "spec.shuffle.keys": list("abcde"),
            "spec.shuffle.range": {"boundaries": [values]},
        },
    )
    (kept,) = check(document)[0].spec.shuffle.boundaries
    assert [(type(value), value) for value in kept] == [(type(value), value) for value in values]
    assert math.isclose(kept[1], 1.5)
