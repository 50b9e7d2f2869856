"""Caption files of every format: what is read, and which line is named where it can't be."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bt_cli.captions.captions import Caption, CaptionSet, caption_files, read_captions
from bt_cli.errors import Misuse, NotFound, UnreadableCaptions

Read = Callable[..., CaptionSet]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Write a file without a telling name and read it."""
    path = tmp_path_factory.mktemp("captions") / "file"

    def write_and_read(content: str | bytes, **options: Any) -> CaptionSet:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_captions(path, **options)

    return write_and_read


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;;;"])
def test_the_line_that_spreadsheets_put_above_a_header_is_no_caption(read: Read, first: str) -> None:
    captions = read(f"{first}\r\nimage;caption\r\na.jpg;a dog, wet\r\n")
    assert (captions.format, triples(captions)) == ("csv", [("a.jpg", "a dog, wet", 3)])
    assert triples(read("sep=; is what spreadsheets write\n")) == [(None, "sep=; is what spreadsheets write", 1)]


def test_a_column_of_addresses_names_the_images_where_no_other_does(read: Read) -> None:
    assert triples(read("url,caption\nhttps://a.example/b.jpg,a dog\n")) == [("https://a.example/b.jpg", "a dog", 2)]
    both = "url,caption,file_name\nhttps://a.example/b.jpg,a dog,c.jpg\n"
    assert triples(read(both)) == [("c.jpg", "a dog", 2)]


def test_an_image_that_a_map_has_twice_keeps_all_its_captions(read: Read) -> None:
    found = read('{"a.jpg": "One", "b.jpg": ["Two"], "a.jpg": ["Three", "Four"]}')
    assert triples(found) == [("a.jpg", "One", 1), ("a.jpg", "Three", 1), ("a.jpg", "Four", 1), ("b.jpg", "Two", 2)]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption\na dog\n")
    (tmp_path / "link.csv").symlink_to("a.csv")
    named = [tmp_path / "a.csv", f"{tmp_path}/./a.csv", tmp_path / "link.csv"]
    assert caption_files(named) == [str(tmp_path / "a.csv")]
    assert len(read_captions(named).items) == 1


def triples(captions: CaptionSet) -> list[tuple[str | None, str, int | None]]:
    return [(item.image, item.text, item.line) for item in captions.items]


COCO = {
    "info": {"year": 2014},
    "images": [{"id": 9, "file_name": "val/a.jpg"}, {"id": 10, "file_name": "b.jpg"}],
    "annotations": [{"id": 70, "image_id": 9, "caption": " One. "}, {"id": 71, "image_id": 10, "caption": "Two"}],
}
KARPATHY = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val",
            "filename": "a.jpg",
            "imgid": 3,
            "split": "test",
            "sentences": [{"raw": "One.", "sentid": 1}],
        },
        {"filename": "b.jpg", "imgid": 4, "split": "restval", "sentences": [{"raw": "Two"}, {"raw": "Three"}]},
    ],
}


@pytest.mark.parametrize(
    ("content", "format", "expected"),
    [
        ("a cat\n\n a dog \n", "plain", [(None, "a cat", 1), (None, "a dog", 3)]),
        ("a cat\r\na dog\ra bird", "plain", [(None, "a cat", 1), (None, "a dog", 2), (None, "a bird", 3)]),
        ("a\u2028b\x0bc\x1cd\u0085e\n", "plain", [(None, "a\u2028b\x0bc\x1cd\u0085e", 1)]),
        ("twice\ntwice\n", "plain", [(None, "twice", 1), (None, "twice", 2)]),
        ("one, two, three\n", "plain", [(None, "one, two, three", 1)]),
        ("[laughing] a man\n{odd} one\n", "plain", [(None, "[laughing] a man", 1), (None, "{odd} one", 2)]),
        ("image,caption\na.jpg,a cat\n", "csv", [("a.jpg", "a cat", 2)]),
        ("\ufeffImage Path,Sentence\r\na.jpg,a cat\r\n", "csv", [("a.jpg", "a cat", 2)]),
        ('file,text\na.jpg,"a, ""b""\nand c"\nb.jpg,d\n', "csv", [("a.jpg", 'a, "b"\nand c', 2), ("b.jpg", "d", 4)]),
        ("id;image;caption\n1;a.jpg;a, b\n", "csv", [("a.jpg", "a, b", 2)]),
        ("image_name| comment_number| comment\na.jpg| 0| A man .\n", "csv", [("a.jpg", "A man .", 2)]),
        ("caption\na cat\n", "csv", [(None, "a cat", 2)]),
        ("a.jpg,a cat\nb.jpg,a dog\n", "csv", [("a.jpg", "a cat", 1), ("b.jpg", "a dog", 2)]),
        (
            'filename\tcaption\na.jpg\ta "b" c\nb.jpg\t"d ""e"""\n',
            "tsv",
            [("a.jpg", 'a "b" c', 2), ("b.jpg", 'd "e"', 3)],
        ),
        ("a b.jpg\ta, cat\n", "tsv", [("a b.jpg", "a, cat", 1)]),
        ("1.jpg#0\tA man\n1.jpg#1\tA # person\n", "token", [("1.jpg", "A man", 1), ("1.jpg", "A # person", 2)]),
        (json.dumps(COCO), "coco", [("val/a.jpg", "One.", 1), ("b.jpg", "Two", 2)]),
        (json.dumps(COCO, indent=1), "coco", [("val/a.jpg", "One.", 1), ("b.jpg", "Two", 2)]),
        (json.dumps(KARPATHY), "karpathy", [("val/a.jpg", "One.", 1), ("b.jpg", "Two", 2), ("b.jpg", "Three", 2)]),
        ('[{"img": "a", "text": ["b", "c"]}]', "json", [("a", "b", 1), ("a", "c", 1)]),
        ('["a dog",\n "a cat"]', "json", [(None, "a dog", 1), (None, "a cat", 2)]),
        ('["quoted", he said\n', "plain", [(None, '["quoted", he said', 1)]),
        ("Text, logo and sign\nanother\n", "plain", [(None, "Text, logo and sign", 1), (None, "another", 2)]),
        ("text, logo and sign\n", "plain", [(None, "text, logo and sign", 1)]),
        ('image,caption,by whom\na.jpg,"x\ny",me\n', "csv", [("a.jpg", "x\ny", 2)]),
        (
            '{"caption": "a", "annotations": []}\n{"caption": "b"}\n',
            "jsonl",
            [(None, "a", 1), (None, "b", 2)],
        ),
        ('{"caption": "a", "images": ["x"]}\n{"caption": "b"}\n', "jsonl", [(None, "a", 1), (None, "b", 2)]),
        ('{"image": {"path": "a"}, "caption": "b"}\n\n{"caption": "c"}\n', "jsonl", [("a", "b", 1), (None, "c", 3)]),
    ],
)
def test_formats_are_told_by_their_content(read: Read, content: str, format: str, expected: list) -> None:
    captions = read(content)
    assert (captions.format, triples(captions)) == (format, expected)
    assert triples(read(content, format=format)) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings(read: Read, encoding: str, newline: str) -> None:
    content = newline.join(["image,caption", "\u732b.jpg,une \u00e9toile \U0001f31f", ""])
    assert triples(read(content.encode(encoding))) == [("\u732b.jpg", "une \u00e9toile \U0001f31f", 2)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file: holds no caption"),
        (b"\n \n", "file: holds no caption"),
        (b"image,caption\n", "file: holds no caption"),
        (b"fine\n\xe9t\xe9\n", "file:2: not UTF-8 (byte 0xe9); convert the file to UTF-8"),
        (
            b"image,caption\na.jpg,b, c\n",
            "file:2: 3 cells where the header has 2; a caption with a separator in it needs quotes",
        ),
        (b"image,caption\na.jpg,b\nc.jpg\n", "file:3: 1 cells where the header has 2"),
        (b"image,caption\na.jpg,b\n\nc.jpg,\n", "file:4: no caption"),
        (b"1.jpg#0\tA\n1.jpg\tB\n", "file:2: not of the form name.jpg#0<TAB>caption"),
        (b'{"caption": "a"}\n{"caption": 3}\n', "file:2: caption is no text: 3"),
        (b'{"caption": "a"}\n{"caption": "b"\n', "file:2: no JSON: Expecting ',' delimiter"),
        (b'{"caption": "a"}\n["b"]\n', "file:2: no JSON object"),
        (b'{"caption": "a"}\n{"image": "b"}\n', "file:2: no caption"),
        (b'{"images": [],\n "annotations": [}\n', "file:2: no JSON: Expecting value"),
        (
            b'{"images": [], "annotations": [{"image_id": 1, "caption": "a"}]}',
            "file: annotation 1: its image 1 is not among the images",
        ),
        (b'{"images": [{"filename": "a", "sentences": [{}]}]}', "file: image 1: a sentence without its raw text"),
        (b'[{"caption": "a"}, 3]', "file: entry 2: no JSON object"),
        (
            b'{"images": [{"id": [1], "file_name": "a"}], "annotations": [{"image_id": 1, "caption": "a"}]}',
            "file: annotation 1: its image 1 is not among the images",
        ),
        (b"PAR1 and no more", "file: no Parquet: "),
        (
            b'{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], '
            b'"annotations": [{"image_id": 1, "caption": "a"}]}',
            "file: annotation 1: two images have the id 1",
        ),
        (gzip.compress(b"image,caption\n", mtime=0), "file: gzip's, compressed; unpack it first (gunzip)"),
        (bz2.compress(b"image,caption\n"), "file: bzip2's, compressed; unpack it first (bunzip2)"),
        (lzma.compress(b"image,caption\n"), "file: xz's, compressed; unpack it first (unxz)"),
        (b"PK\3\4\x14\0", "file: a zip archive or a workbook; unpack it, or save the sheet as CSV"),
        (b"%PDF-1.7\n", "file: a PDF; captions are text"),
        (
            "image,caption\na.jpg,ein Häuschen\n".encode("utf-16-le"),
            "file:1: UTF-16 without a byte order mark, it seems; convert the file to UTF-8",
        ),
    ],
)
def test_the_line_that_cannot_be_read_is_named(read: Read, content: bytes, message: str) -> None:
    with pytest.raises(UnreadableCaptions, match=re.escape("/" + message)):
        read(content)


def test_json_that_python_cannot_take_is_named(read: Read) -> None:
    deep, long = b"[" * 100_000 + b"]" * 100_000, b"1" * 5_000
    for content, message in (
        (b'{"caption": "a", "b": ' + deep + b"}\n", "file:1: no JSON: nested too deep"),
        (b'{"caption": "a"}\n{"b": ' + deep + b"}\n", "file:2: no JSON: nested too deep"),
        (b'[{"caption": "a"}, ' + deep + b"]", "file: no JSON: nested too deep"),
        (b'{"caption": "a", "id": ' + long + b"}", "file:1: no JSON: a whole number of thousands of digits; write it"),
        (b'[{"caption": "a", "id": ' + long + b"}]", "file: no JSON: a whole number of thousands of digits; write it"),
    ):
        with pytest.raises(UnreadableCaptions, match=re.escape("/" + message)):
            read(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"caption": "a"}\n{"caption": "x \\ud83d"}\n', r"file:2: half a character (\ud83d) in the caption"),
        ('{"caption": "a", "negative": "x \\udc00"}\n', r"file:1: half a character (\udc00) in the caption"),
        ('[{"caption": "x \\udcff"}]', r"file: entry 1: half a character (\udcff) in the caption"),
        ('{"caption": "a", "image": "\\ud83d.jpg"}\n', r"file:1: \ud83d in \ud83d.jpg: no character that a name"),
        ('{"caption": "a", "image": "b\\u0000.jpg"}\n', r"file:1: \x00 in b\x00.jpg: no character that a name"),
        ("image,caption\nb\0.jpg,a\n", r"file:2: \x00 in b\x00.jpg: no character that a name"),
        ('{"caption": "a", "id": "\\udfff"}\n', r"file:1: \udfff in \udfff: no character that a name"),
    ],
)
def test_half_characters_are_refused_before_they_can_end_a_run(read: Read, content: str, message: str) -> None:
    with pytest.raises(UnreadableCaptions, match=re.escape("/" + message)):
        read(content)


def test_names_that_are_no_utf8_and_whole_emoji_are_read(read: Read) -> None:
    found = read('{"caption": "a \\ud83d\\ude00", "image": "caf\\udce9.jpg"}\n').items[0]
    assert (found.text, found.image) == ("a \U0001f600", os.fsdecode(b"caf\xe9.jpg"))


def test_an_unclosed_quote_is_named_by_the_line_where_it_opens(read: Read) -> None:
    with pytest.raises(UnreadableCaptions, match=r"file:3: .*quote that is not closed"):
        read('image,caption\na.jpg,b\nc.jpg,"d\ne.jpg,f\n')


def test_a_format_overrides_the_content(read: Read) -> None:
    assert triples(read("image,caption\n", format="plain")) == [(None, "image,caption", 1)]
    with pytest.raises(UnreadableCaptions, match="file:1: no column for captions in the header"):
        read("a,b\nc,d\n", format="csv")
    with pytest.raises(Misuse, match="'xml' is no caption format: plain, csv"):
        read("a", format="xml")
    with pytest.raises(NotFound, match="nowhere: no such file"):
        read_captions("nowhere")


def test_splits(read: Read) -> None:
    content = json.dumps(KARPATHY)
    assert [item.text for item in read(content, split="test").items] == ["One."]
    assert [item.text for item in read(content, split="test+restval").items] == ["One.", "Two", "Three"]
    with pytest.raises(UnreadableCaptions, match="no split 'train'; it has restval, test"):
        read(content, split="train")
    with pytest.raises(UnreadableCaptions, match="no split 'test'; it has no splits"):
        read("a cat\n", split="test")
    assert read("image,caption,split\na,b,val\nc,d,test\n", split="val").items[0].text == "b"


def test_ids_and_negatives(read: Read) -> None:
    csv_file = "caption_id,image,image_id,caption,negative_1,neg2\n7,a.jpg,12,right,wrong,\n"
    expected = Caption("right", "a.jpg", "12", "7", ("wrong",), None, 2)
    assert read(csv_file).items == [expected]
    jsonl = '{"id": 7, "image": "a.jpg", "image_id": 12, "caption": "right", "negatives": ["wrong", "worse"]}\n'
    assert read(jsonl).items[0].negatives == ("wrong", "worse")
    # Without an id of its own an image goes by its name, so that its captions belong together.
    assert {item.image_id for item in read("a.jpg#0\tx\na.jpg#1\ty\n").items} == {"a.jpg"}
    assert read(json.dumps(COCO)).items[1] == Caption("Two", "b.jpg", "10", "71", (), None, 2)


def test_several_columns_of_captions(read: Read) -> None:
    assert [item.text for item in read("image,caption,caption_2,text_2\na.jpg,x,y,z\n").items] == ["x", "y"]
    assert [item.text for item in read("image,caption_1,caption_2\na.jpg,x,y\n").items] == ["x", "y"]
    for header in ("image,caption,caption", "image,Caption,caption", "image,caption,image"):
        with pytest.raises(
            UnreadableCaptions, match=r"file:1: two columns are called '\w+'; give each a name of its own"
        ):
            read(f"{header}\na.jpg,x,y\n")
    assert read("image,caption,,\na.jpg,x,,\n").items[0].text == "x"


def test_images_and_their_captions(read: Read) -> None:
    captions = read("image,caption\nb,1\na,2\nb,3\n")
    assert captions.images == ["b", "a"]
    assert captions.by_image() == {"b": [0, 2], "a": [1]}
    assert len(captions) == 3


def test_images_are_found_in_their_folder(read: Read, tmp_path: Path) -> None:
    for name in ("train/1.jpg", "val/1.jpg", "val/2.png", "3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = read("image,caption\nval/1.jpg,a\ndata/val/1.jpg,b\n2,c\n3.jpg,d\n", images=tmp_path)
    assert found.images == [str(tmp_path / name) for name in ("val/1.jpg", "val/2.png", "3.jpg")]
    assert [item.image_id for item in found.items] == ["val/1.jpg", "data/val/1.jpg", "2", "3.jpg"]
    with pytest.raises(
        NotFound,
        match=r"file:3: its image 1\.jpg fits 2 files, .*train/1\.jpg, .*val/1\.jpg; write which, with its folder",
    ):
        read("image,caption\n3.jpg,a\n1.jpg,ambiguous\n", images=tmp_path)


def test_a_missing_image_is_named_by_its_place_and_may_be_left_out(read: Read, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"x")
    for content, place in (
        (json.dumps(COCO, indent=1), "file: annotation 1"),
        (json.dumps(KARPATHY), "file: image 1"),
        ('[{"image": "b.jpg", "caption": "x"}, {"image": "a.jpg", "caption": "y"}]', "file: entry 2"),
        ("image,caption\na.jpg,x\nb.jpg,y\n", "file:2"),
    ):
        with pytest.raises(NotFound, match=re.escape(f"/{place}: its image ")):
            read(content, images=tmp_path)
        said: list[NotFound] = []
        found = read(content, images=tmp_path, on_missing=said.append)
        assert found.images == [str(tmp_path / "b.jpg")]
        assert [place in str(error) for error in said] == [True]
    with pytest.raises(NotFound, match="none of its 2 images is below .*; --images names their folder"):
        read("image,caption\nc.jpg,x\nd.jpg,y\n", images=tmp_path, on_missing=said.append)


def test_parquet(read: Read) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    def table(columns: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        pyarrow.parquet.write_table(pa.table(columns), out)
        return out.getvalue()

    hub = {"image": [{"bytes": b"", "path": "a.jpg"}], "captions": [["one", "two"]], "other": [1.5]}
    assert triples(read(table(hub))) == [("a.jpg", "one", 1), ("a.jpg", "two", 1)]
    assert read(table({"file_name": ["a", "b"], "text": ["x", "y"]})).format == "parquet"
    with pytest.raises(UnreadableCaptions, match="file: row 2: no caption"):
        read(table({"image": ["a", "b"], "caption": ["x", None]}))
    with pytest.raises(UnreadableCaptions, match="no column for captions .* among a"):
        read(table({"a": [1]}))


def test_values_of_a_parquet_table_that_python_cannot_hold_are_named_by_row(read: Read) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    no_text = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff\xfe")]
    )
    late = pa.array([0, 2**61], pa.timestamp("us"))
    for columns in ({"caption": no_text}, {"caption": ["a", "b"], "id": late}):
        out = io.BytesIO()
        pyarrow.parquet.write_table(pa.table(columns), out)
        with pytest.raises(UnreadableCaptions, match="file: row 2: a value that can't be read: "):
            read(out.getvalue())


CAPTIONS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(lambda text: text.strip())
LINES = CAPTIONS.map(lambda text: " ".join(text.split())).filter(bool)
IMAGES = st.text("abcXYZ019 -_\u00e9\u732b", min_size=1, max_size=8).map(lambda name: name.strip() + "x.jpg")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(IMAGES, CAPTIONS), min_size=1, max_size=6), st.sampled_from(",;"))
def test_csv_round_trip(read: Read, rows: list[tuple[str, str]], delimiter: str) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("image", "caption"), *rows])
    content = out.getvalue()
    captions = read(content)
    assert captions.format == "csv"
    # Within a quoted cell a line break of any kind is read as a line feed.
    expected = [(image, text.replace("\r\n", "\n").replace("\r", "\n").strip()) for image, text in rows]
    assert [(item.image, item.text) for item in captions.items] == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(IMAGES, CAPTIONS, st.lists(CAPTIONS, max_size=2)), min_size=1, max_size=6), st.booleans())
def test_json_lines_round_trip(read: Read, rows: list[tuple[str, str, list[str]]], ascii: bool) -> None:
    objects = [{"image": image, "caption": text, "negatives": negatives} for image, text, negatives in rows]
    captions = read("\n".join(json.dumps(row, ensure_ascii=ascii) for row in objects))
    assert captions.format == "jsonl"
    found = [(item.image, item.text, list(item.negatives)) for item in captions.items]
    assert found == [(image, text.strip(), [wrong.strip() for wrong in negatives]) for image, text, negatives in rows]


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=8))
def test_plain_round_trip(read: Read, lines: list[str]) -> None:
    assert [item.text for item in read("\n".join(lines), format="plain").items] == lines


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text('{}[]",:#\t\n\r;|abc1caption', max_size=80).map(str.encode)))
def test_anything_is_read_or_refused_in_one_line(read: Read, content: bytes) -> None:
    captions: CaptionSet | None = None
    message = ""
    try:
        captions = read(content)
    except UnreadableCaptions as refused:
        message = str(refused)
    assert "\n" not in message
    assert captions is None or all(item.text == item.text.strip() != "" for item in captions.items)


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', \"b's\"]", ["a", "b's"]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),
        ('["caf\\u00e9"]', ["caf\u00e9"]),
        ("['it\\'s']", ["it's"]),
        ("[laughing] a man", ["[laughing] a man"]),
        ("[0, 1]", ["[0, 1]"]),
        ('["a", 1]', ['["a", 1]']),
        ("['a', b]", ["['a', b]"]),
        ("['a'b']", ["['a'b']"]),
        ('["a", "b"', ['["a", "b"']),
    ],
)
def test_a_list_in_a_cell_is_several_captions(read: Read, cell: str, texts: list[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    out = io.StringIO(newline="")
    csv.writer(out).writerows([("image", "caption"), ("a.jpg", cell)])
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"image": ["a.jpg"], "caption": [cell]}), parquet)
    files: list[str | bytes] = [out.getvalue(), json.dumps({"image": "a.jpg", "caption": cell}), parquet.getvalue()]
    files += [json.dumps([{"image": "a.jpg", "caption": cell}]), json.dumps({"a.jpg": cell})]
    for content in files:
        assert triples(read(content)) == [("a.jpg", text, read(content).items[0].line) for text in texts]


def test_the_hubs_table_of_flickr30k(read: Read) -> None:
    header = "raw,sentids,split,filename,img_id\n"
    found = read(header + '"[""a"", ""b""]","[0, 1]",test,scene-0163.jpg,7\n')
    assert found.items == [
        Caption(text, "scene-0163.jpg", "7", number, (), "test", 2) for text, number in (("a", "0"), ("b", "1"))
    ]
    assert read(header + '[],[],test,a.jpg,8\n"[""a""]","[5]",test,a.jpg,8\n', on_skip=[].append).skipped == 1


def test_bad_rows_are_told_and_left_out_unless_all_are(read: Read) -> None:
    flickr = (
        "image_name| comment_number| comment\na.jpg| 0| A man .\nb.jpg| 4   A dog .\nc.jpg| 1| \nd.jpg| 2| A cat .\n"
    )
    said: list[UnreadableCaptions] = []
    found = read(flickr, on_skip=said.append)
    assert triples(found) == [("a.jpg", "A man .", 2), ("d.jpg", "A cat .", 5)]
    assert [str(error).rpartition("/")[2] for error in said] == [
        "file:3: 2 cells where the header has 3",
        "file:4: no caption",
    ]
    assert found.skipped == 2
    with pytest.raises(UnreadableCaptions, match="file:3: 2 cells"):
        read(flickr)
    said.clear()
    with pytest.raises(
        UnreadableCaptions, match=r"file:2: no caption \(and 1 more that can't be read; no caption can\)"
    ):
        read("image,caption\na.jpg,\nb.jpg,\n", on_skip=said.append)
    assert said == []


@pytest.mark.parametrize(
    ("content", "texts", "places"),
    [
        (b"fine\n\xe9t\xe9\nwell\n", ["fine", "well"], ["file:2: not UTF-8 (byte 0xe9)"]),
        (b'image,caption\na.jpg,b\nc.jpg,"d\ne.jpg,f\n', ["b", "f"], ["file:3: unexpected end of data"]),
        (b'image,caption\na.jpg,"b" c\ne.jpg,f\n', ["f"], ["file:2: ',' expected after '\"'"]),
        (b'{"caption": "a"}\n{"caption": \n{"caption": "b"}\n', ["a", "b"], ["file:2: no JSON"]),
        (b'["a", "", 3, {"text": "b"}]', ["a", "b"], ["file: entry 2: no caption", "file: entry 3: no JSON object"]),
        (b"1.jpg#0\tA\n1.jpg\tB\n", ["A"], ["file:2: not of the form"]),
        (b"a\n" + b"b" * 65_537 + b"\nc\0d\n", ["a"], ["file:2: a caption of 65,537 characters", "file:3: a NUL"]),
        (
            b'{"images": [{"filename": "a", "sentences": [{}, {"raw": "b"}]}, 3]}',
            ["b"],
            ["file: image 1: a sentence without", "file: image 2: no filename"],
        ),
        (b'{"caption": "a"}\n{"caption": ' + b"[" * 900 + b"]" * 900 + b"}\n", ["a"], ["file:2: "]),
    ],
)
def test_the_rows_behind_a_bad_one_are_read(read: Read, content: bytes, texts: list[str], places: list[str]) -> None:
    said: list[UnreadableCaptions] = []
    assert [item.text for item in read(content, on_skip=said.append).items] == texts
    assert len(said) == len(places)
    for error, place in zip(said, places, strict=True):
        assert place in str(error)


def test_line_breaks_in_quoted_cells_of_tab_separated_tables(read: Read) -> None:
    rows = [("a.jpg", "two\nlines"), ("b.jpg", 'a "b"\n\nc'), ("c.jpg", "d")]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter="\t", lineterminator="\r\n").writerows([("image", "caption"), *rows])
    assert triples(read(out.getvalue())) == [("a.jpg", "two\nlines", 2), ("b.jpg", 'a "b"\n\nc', 4), ("c.jpg", "d", 7)]
    swapped = 'caption\timage\n"two\nlines"\ta.jpg\n'
    assert triples(read(swapped)) == [("a.jpg", "two\nlines", 2)]
    # A quote that merely begins a caption opens nothing: below it stand rows.
    assert triples(read('image\tcaption\na.jpg\t"he said\nb.jpg\tbye"\n')) == [
        ("a.jpg", '"he said', 2),
        ("b.jpg", 'bye"', 3),
    ]


@pytest.mark.parametrize(
    ("content", "format"),
    [
        ("text, logo, sign\na red car\na dog, running\n", "plain"),
        ("text, logo, sign\na red car, parked, old\na dog, brown, wet\n", "plain"),
        ("text, logo, sign\n", "plain"),
        ("image, text\na cat\na dog, running\na bird\n", "plain"),
        ("caption,words\na dog\na cat\n", "plain"),
        ("image, caption\na.jpg, a cat\n", "csv"),
        ("caption,score\na dog,1\na cat,2\n", "csv"),
        ("text;lang\na dog, wet;en\n", "csv"),
        ("id,caption,lang\n1,a dog,en\n2,a cat, black,en\n", "csv"),
    ],
)
def test_a_caption_with_commas_is_no_header(read: Read, content: str, format: str) -> None:
    found = read(content, on_skip=lambda error: None)
    assert found.format == format
    assert format == "csv" or len(found) == len(content.splitlines())


def test_maps_from_image_to_captions(read: Read) -> None:
    one, several = '{"a.jpg": "x", "b": "y"}', {"a.jpg": ["x", "y"], "b.jpg": {"caption": "z"}}
    assert (read(one).format, triples(read(one))) == ("map", [("a.jpg", "x", 1), ("b", "y", 2)])
    for indent in (None, 1):
        found = read(json.dumps(several, indent=indent))
        assert (found.format, triples(found)) == ("map", [("a.jpg", "x", 1), ("a.jpg", "y", 1), ("b.jpg", "z", 2)])
    with pytest.raises(UnreadableCaptions, match="file: entry 2: caption is no text: 3"):
        read('{"a.jpg": "x",\n "b.jpg": 3}')


def test_devices_and_files_beyond_any_measure_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCaptions, match="/dev/zero: a device, and no file that can be read whole"):
        read_captions("/dev/zero")
    if os.path.ismount("/proc"):
        with pytest.raises(UnreadableCaptions, match="/proc/kmsg: a file of the kernel's"):
            read_captions("/proc/kmsg")
    for name, size, reason in (
        ("huge", (1 << 30) + 1, r"larger than 1,024 MiB; split it"),
        ("zeros", 9, "begins with a NUL"),
    ):
        with open(tmp_path / name, "wb") as file:
            file.write(b"x" if name == "huge" else b"\0")
            file.truncate(size)
        with pytest.raises(UnreadableCaptions, match=f"{name}: {reason}"):
            read_captions(tmp_path / name)


def test_a_pipe_is_read(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"image,caption\na.jpg,x\n")
    os.close(writing)
    assert triples(read_captions(f"/dev/fd/{reading}")) == [("a.jpg", "x", 2)]
    os.close(reading)
