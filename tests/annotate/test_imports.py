"""Bytes become records, whatever they are. What makes a record a prompt is tested in test_prompts.py."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.services.importing import conversations, encodings, sources
from annotate.services.importing.encodings import NotUTF8
from annotate.services.importing.sources import NotJSON, Record, Unreadable

TEXT = '{"text": "Où est la gare?"}\n' * 40


def read(data: bytes | str) -> list[Record]:
    return list(sources.read(io.BytesIO(data if isinstance(data, bytes) else data.encode())).records)


def bodies(data: bytes | str) -> list[object]:
    return [record.body for record in read(data) if not record.error]


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("prompts.jsonl", data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        *(
            (TEXT.encode(name), name.upper().replace("LE", " LE").replace("BE", " BE"))
            for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
        ),
        (b"\r\0\n\0" + TEXT.encode("utf-16-le"), "UTF-16- LE"),
        ("[]".encode("utf-16-be"), "UTF-16- BE"),
        (TEXT.encode("utf-16"), "UTF-16- LE"),
        (TEXT.encode("utf-32"), "UTF-32- LE"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-16- BE"),
        (b"\0\0\xfe\xff" + TEXT.encode("utf-32-be"), "UTF-32- BE"),
        (TEXT.encode("latin-1"), "Latin-1 or Windows-1252"),
        ('{"text": "It costs 5 €"}'.encode("cp1252"), "Latin-1 or Windows-1252"),
        ('{"text": "駅はどこですか"}'.encode("shift-jis"), "an older encoding"),
        ('{"text": "\ud83d\ude00"}'.encode("utf-8", "surrogatepass"), "CESU-8"),
        (gzip.compress(TEXT.encode(), mtime=0), "a gzip archive"),
        (zipped(TEXT.encode()), "a zip archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8, "a binary file"),
    ],
)
def test_what_is_no_utf8_is_refused_as_a_whole_and_named(data, looks_like):
    with pytest.raises(NotUTF8, match=looks_like.replace("- ", " ")) as refused:
        read(data)
    assert "\n" not in str(refused.value)


def test_a_byte_far_behind_refuses_the_file_and_names_its_line(monkeypatch):
    monkeypatch.setattr(encodings, "CHUNK", 64)
    good = '{"text": "Größe?"}\n'.encode()
    assert len(read(good * 30)) == 30
    with pytest.raises(NotUTF8, match="line 31"):
        read(good * 30 + '{"text": "Größe?"}\n'.encode("latin-1") + good)


def test_a_file_that_ends_within_a_character_was_cut_off():
    with pytest.raises(NotUTF8, match="incomplete"):
        read('{"text": "Größe'.encode()[:-2])


@pytest.mark.parametrize("data", [b"", b" \n\r\n\t", b"\xef\xbb\xbf"])
def test_a_file_with_nothing_in_it_is_said_to_be_so(data):
    with pytest.raises(Unreadable, match="only white space"):
        read(data)


@pytest.mark.parametrize("data", ["id,text\n1,Why?", '"Why?"\n"How?"', "\ufeffWhy?\nHow?", "\n\n12"])
def test_what_does_not_begin_with_an_object_or_a_list_is_refused_as_a_whole(data):
    with pytest.raises(NotJSON, match="does not begin with a JSON object"):
        read(data)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_are_numbered_whatever_ends_them(mark, end):
    records = read(mark + end.join([b'{"a": 1}', b"", b"{", b' {"b": "\xe2\x80\xa8"} ']))
    assert [(record.line, bool(record.error)) for record in records] == [(1, False), (3, True), (4, False)]
    assert records[2].body == {"b": "\u2028"}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_a_list_is_read_in_whatever_pieces_it_comes(monkeypatch, chunk, mark):
    monkeypatch.setattr(sources, "CHUNK", chunk)
    values = [{"text": ']},[ " \\'}, 12, "x", None, [[1], {}], {"text": "é" * 50}, True]
    for indent in (None, 2):
        source = sources.read(io.BytesIO((mark + "\n " + json.dumps(values, indent=indent) + "\n").encode()))
        assert source.is_list
        assert [(record.line, record.body) for record in source.records] == list(enumerate(values, 1))
    assert read("[ ]") == []


@pytest.mark.parametrize(
    ("data", "good", "said"),
    [
        ('[{"a": 1}, {"a": 2}, {"a', 2, "Invalid JSON in item 3"),
        ('[{"a": 1} {"a": 2}]', 1, "Invalid JSON in item 2"),
        ('[{"a": 1}', 1, "Invalid JSON in item 2"),
        ("[", 0, "Invalid JSON in item 1"),
        ('[{"a": 1},]', 1, "Invalid JSON in item 2"),
        ('[{"a": 1}] {"a": 2}', 1, "after the end of the list"),
        ('[{"a": 1}, ' + "[" * 100_000, 1, "Item 2 of the list is nested too deeply"),
        ('[{"a": 1}, {"text": "' + "x" * 200_000, 1, "Invalid JSON in item 2"),
    ],
)
def test_a_list_that_breaks_off_keeps_what_came_before_and_says_where(monkeypatch, data, good, said):
    monkeypatch.setattr(sources, "RECORD_LIMIT", 100_000)
    *kept, last = read(data)
    assert len(kept) == good
    assert not any(record.error for record in kept)
    assert said in last.error
    assert last.ends


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "Invalid JSON at character 1 of"),
        ('{"a": 1} x', "Invalid JSON at character 10"),
        ('{"a": NaN}', "NaN is not valid JSON"),
        ('{"a": -Infinity}', "-Infinity is not valid JSON"),
        ('{"a": 1, "a": 2}', "“a” occurs twice"),
        ('{"m": {"b": 1, "c": 0, "b": 2}}', "“b” occurs twice"),
        ('{"a": ' + "1" * 5000 + "}", "more than 300 digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": "\x00"}', "Invalid JSON"),
    ],
)
def test_a_bad_line_spoils_no_other(line, said):
    first, bad, last = read(f'{{"a": 1}}\n{{"a": 1}}\n{line}\n{{"a": 3}}'.replace('{"a": 1}\n', "", 1))
    assert first.body == {"a": 1}
    assert said in bad.error
    assert last.body == {"a": 3}


def test_an_external_id_of_any_depth_is_refused_with_a_sentence():
    nested: list[object] = []
    for _ in range(10_000):
        nested = [nested]
    with pytest.raises(conversations.BadRecord, match=r"must be a string in quotes, not \[…\]\."):
        conversations.read({"text": "Why?", "external_id": nested})


@pytest.mark.parametrize("item", ['{"a": NaN}', '{"a": 1, "a": 2}', '{"a": ' + "1" * 5000 + "}"])
def test_a_bad_item_of_a_list_spoils_no_other(item):
    first, bad, last = read(f'[{{"a": 1}}, {item}, {{"a": 3}}]')
    assert (first.body, last.body) == ({"a": 1}, {"a": 3})
    assert bad.error
    assert not bad.ends


def test_limits_are_named_when_they_are_passed(monkeypatch):
    monkeypatch.setattr(sources, "RECORD_LIMIT", 30)
    monkeypatch.setattr(sources, "MOST_RECORDS", 3)
    lines = ['{"a": 1}', '{"a": "%s"}' % ("x" * 100), '{"a": 3}']
    for data in ("\n".join([*lines, *lines]), "[" + ",".join([*lines, *lines]) + "]"):
        records = read(data)
        assert [record.body for record in records] == [
            {"a": 1},
            None if data[0] == "{" else records[1].body,
            {"a": 3},
            None,
        ]
        assert "longer than 30 characters" in records[1].error
        assert "more than 3 prompts" in records[3].error
        assert [record.ends for record in records] == [False, False, False, True]


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=300)
    | st.text(max_size=100).map(lambda text: f'[{{"text": {text}}}'.encode())
    | st.lists(st.text('[]{}",:1e-NaN \\\n\ud800', max_size=4), max_size=60).map(
        lambda parts: "".join(parts).encode("utf-8", "surrogatepass")
    )
)
def test_any_bytes_are_read_or_refused_with_a_sentence(data):
    try:
        records = read(data)
    except (Unreadable, NotUTF8):
        return
    assert all((record.body is None) == bool(record.error) for record in records if record.ends)
    assert not any(record.ends for record in records[:-1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=20), st.lists, max_leaves=6
)


@settings(max_examples=40, deadline=None)
@given(st.lists(JSON, min_size=1, max_size=4), st.sampled_from([None, 1]))
def test_what_json_wrote_comes_back_as_lines_and_as_a_list(values, indent):
    assert bodies("\n".join(json.dumps({"v": value}) for value in values)) == [{"v": value} for value in values]
    assert bodies(json.dumps(values, indent=indent)) == values
