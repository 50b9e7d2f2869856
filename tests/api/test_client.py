"""`--server`: the same output as without, and nothing heavy imported."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bt_cli.api import client, remote_pairs
from bt_cli.errors import BtError

SAMPLES = Path(__file__).resolve().parents[2] / "sample_data" / "images"


@pytest.fixture
def there(library, monkeypatch):
    monkeypatch.chdir(library)
    (library / "queries.tsv").write_text("7\ta dog\n9\ta red car\n")
    (library / "blank.tsv").write_text("7\ta dog\n9\t \n")
    (library / "empty.tsv").write_text("")
    run = [("7", name, rank) for rank, name in enumerate(("scene-0001.jpg", "captions.csv", "scene-0003.jpg"), 1)]
    run += [("9", name, rank) for rank, name in enumerate(("scene-0003.jpg", "gone.jpg", "scene-0001.jpg"), 1)]
    (library / "run.txt").write_text("".join(f"{q} Q0 {name} {rank} {1 / rank} x\n" for q, name, rank in run))
    monkeypatch.setenv("BT_DTYPE", "float32")


def rounded(text: str) -> str:
    """Without times and rates, and numbers to four digits: batches of another size move the last."""
    text = re.sub(r"in \d+\.\d+ s|, [\d.,]+ images/s|, limited by .*", "", text)
    return re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.3f}", text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "a red car", "-k", "3"],
        ["search", "a red car", "-k", "3", "--json"],
        ["search", "a dog", "--rerank", "--candidates", "5", "--json"],
        ["search", "--add", "2:a dog", "--subtract", "a cat", "--glob", "./scene-000*", "--paths"],
        ["search", "--image", "scene-0003.jpg", "--to", "captions", "--json"],
        ["rerank", "a dog", "scene-0001.jpg", "scene-0002.jpg", "captions.csv", "--model", "tiny", "--json"],
        ["score", "scene-0001.jpg", "a dog", "a cat", "--model", "tiny"],
        ["score", "--image", "scene-0001.jpg", "--image", "captions.csv", "a dog", "--model", "tiny", "--json"],
        ["fill-mask", "a <mask> above a <mask>", "--image", "scene-0001.jpg", "-k", "2", "--model", "tiny"],
        ["fill-mask", "a <mask> dog", "--image", "scene-0001.jpg", "--model", "tiny", "--json"],
        ["score", "nowhere.jpg", "a dog", "--model", "tiny"],
        ["search", "a dog", "--rerank", "--candidates", "5", "--combine", "itm+itc"],
        ["search", "--queries", "queries.tsv", "-k", "3"],
        ["search", "--queries", "queries.tsv", "-k", "3", "--glob", "*-000*", "--min-score", "0.1", "--json"],
        ["search", "--queries", "queries.tsv", "-k", "2", "--to", "captions", "--json"],
        ["search", "--queries", "empty.tsv"],
        ["search", "a dog", "--glob", "nothing*", "--glob", "*.jpg"],
        ["search", "a dog " * 60, "-k", "2"],
        ["search", "--queries", "blank.tsv"],
        ["rerank", "--run", "run.txt", "--queries", "queries.tsv", "--model", "tiny"],
        ["rerank", "--run", "run.txt", "--queries", "queries.tsv", "-k", "1", "--candidates", "2", "--model", "tiny"],
        ["rerank", "--run", "run.txt", "--queries", "queries.tsv", "--json", "--strict", "--model", "tiny"],
        ["rerank", "a dog", "gone.jpg", "captions.csv", "--model", "tiny"],
        ["rerank", "a dog", "scene-0001.jpg", "gone.jpg", "--strict", "--model", "tiny"],
    ],
)
def test_a_server_answers_as_the_command_does(bt, served, there, arguments):
    here = bt(*arguments)
    plain = [word for word in arguments if word not in ("--model", "tiny")]
    ran = bt(*plain, "--server", served.url)
    assert (ran.code, rounded(ran.out)) == (here.code, rounded(here.out))
    assert rounded(ran.err) == rounded(here.err)


def test_lines_of_a_search_are_reranked_by_the_server(bt, served, there, monkeypatch):
    monkeypatch.setenv("BT_SERVER", served.url)
    lines = bt("search", "a dog", "-k", "4", "--json").out_bytes
    ran = bt("rerank", "a dog", "--json", stdin=lines)
    assert sorted(hit["id"] for hit in ran.objects) == sorted(
        hit["id"] for hit in bt("search", "a dog", "-k", "4", "--json").objects
    )
    assert all(hit["itm_prob"] is not None and hit["itc"] is not None for hit in ran.objects)


@pytest.mark.parametrize(("images", "pairs"), [(2, 200), (64, 3)])
def test_what_is_too_much_for_a_request_is_asked_in_portions(bt, served, there, monkeypatch, images, pairs):
    monkeypatch.setattr(remote_pairs, "IMAGES", images)
    monkeypatch.setattr(remote_pairs, "PAIRS", pairs)
    files = [f"scene-{number:04}.jpg" for number in (1, 2, 3, 4, 5, 2)] + ["captions.csv", "gone.jpg"]
    for arguments in (
        ["rerank", "a dog", *files, "--json"],
        ["rerank", "a dog", *files, "-k", "2", "--json"],
        ["rerank", "a dog", "gone.jpg", "captions.csv", "captions.csv"],
        ["score", "--image", "gone.jpg", *[word for file in files for word in ("--image", file)], *"abcd", "--json"],
        ["score", "--image", "gone.jpg", "--image", "captions.csv", *"abcd"],
        ["rerank", "--run", "run.txt", "--queries", "queries.tsv"],
    ):
        here, ran = bt(*arguments, "--model", "tiny"), bt(*arguments, "--server", served.url)
        assert (ran.code, rounded(ran.out)) == (here.code, rounded(here.out))
        assert sorted(rounded(ran.err).splitlines()) == sorted(rounded(here.err).splitlines())


def test_many_queries_come_in_portions(bt, served, there, monkeypatch):
    here = bt("search", "--queries", "queries.tsv", "-k", "3")
    monkeypatch.setattr(client, "TEXTS", 1)
    ran = bt("search", "--queries", "queries.tsv", "-k", "3", "--server", served.url)
    assert (ran.code, rounded(ran.out)) == (0, rounded(here.out))


def test_a_page_of_a_search_has_the_servers_pictures(bt, served, there, tmp_path):
    for arguments in (
        ["a red car", "-k", "4"],
        ["a red car", "-k", "4", "--rerank"],
        ["--image", "scene-0001.jpg", "--to", "captions"],
    ):
        here, page = tmp_path / "here.html", tmp_path / "page.html"
        assert bt("search", *arguments, "--html", here).code == 0
        ran = bt("search", *arguments, "--html", page, "--server", served.url)
        assert ran.code == 0
        assert "no image" not in ran.err
        pictures = re.compile(r'src="data:image/jpeg;base64,[^"]+"')
        assert len(pictures.findall(page.read_text())) == len(pictures.findall(here.read_text())) > 0
        assert rounded(pictures.sub("", page.read_text())) == rounded(pictures.sub("", here.read_text()))


def test_heat_maps_of_the_server_are_those_drawn_here(bt, served, there, tmp_path):
    for arguments in (
        ["score", "scene-0001.jpg", "a dog"],
        ["fill-mask", "a <mask> dog", "--image", "scene-0001.jpg"],
    ):
        here, drawn = tmp_path / "here.png", tmp_path / "drawn.png"
        assert bt(*arguments, "--model", "tiny", "--heatmap", here).code == 0
        assert bt(*arguments, "--heatmap", drawn, "--server", served.url).code == 0
        assert drawn.read_bytes() == here.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (
            ["--server", "http://127.0.0.1:9"],
            1,
            "bt: http://127.0.0.1:9: Connection refused; is `bt serve` running there?",
        ),
        (
            ["--server", "http://[::1"],
            2,
            "bt: --server http://[::1: no address of a server, as http://127.0.0.1:7788 is",
        ),
        (["--server", "ftp://x"], 2, "bt: --server ftp://x: no address of a server, as http://127.0.0.1:7788 is"),
        (["--server", "http://127.0.0.1:9", "--model", "tiny"], 2, "bt: --model is the server's to choose"),
        (["--server", "http://127.0.0.1:9", "--device", "cpu"], 2, "bt: --device says how this machine computes"),
        *[
            (["--server", url], 2, f"bt: --server {url}: no address of a server")
            for url in ("http://[::1", "http://a b", "http://a..b", "http://x:y", "http://x/?y", "http://u:p@x")
        ],
    ],
)
def test_what_can_not_be_asked_is_one_line(bt, arguments, code, line):
    ran = bt("search", "a dog", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(line)


def test_a_search_by_server_imports_nothing_heavy(served, there):
    code = (
        "import sys\nfrom bt_cli.commands.app import main\n"
        f"code = main(['search', 'a dog', '--server', {served.url!r}])\n"
        "print(code, *[name for name in ('torch', 'numpy', 'PIL', 'pyarrow', 'starlette') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "0", ran.stderr


class StrangeServer(http.server.ThreadingHTTPServer):
    """A server of something else."""

    status: int
    body: bytes


class Stranger(http.server.BaseHTTPRequestHandler):
    """Answers everything with the status and the body that its server was given."""

    server: StrangeServer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *words: object) -> None:
        pass


HIT = '{"rank": 1, "id": 1, "path": 7, "score": 1, "itc": 1, "itm_logit": null, "itm_prob": null}'


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"<html>"),
        (200, b"\xff"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b"[" * 100_000),
        (200, b'{"remarks": 5}'),
        (200, b'{"skipped": [5]}'),
        (200, b'{"skipped": [], "hits": ["x"], "home": null}'),
        (200, f'{{"skipped": [], "hits": [{HIT}], "home": null}}'.encode()),
        (301, b""),
        (500, b'{"error": "x"}'),
        (400, b'{"error": {"message": 1, "type": 2}}'),
    ],
)
def test_a_stranger_that_answers_is_one_line(bt, tmp_path, status, body):
    picture = SAMPLES / "scene-0001.jpg"
    (tmp_path / "queries.txt").write_text("a\n")
    with StrangeServer(("127.0.0.1", 0), Stranger) as server:
        server.status, server.body = status, body
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for arguments in (
            ["search", "a dog"],
            ["search", "a dog", "--html", tmp_path / "x.html"],
            ["search", "--queries", tmp_path / "queries.txt"],
            ["score", picture, "a dog"],
            ["score", picture, "a dog", "--heatmap", tmp_path / "x.png"],
            ["rerank", "a dog", picture],
            ["fill-mask", "a <mask>", "--image", picture],
        ):
            ran = bt(*arguments, "--server", url)
            assert (ran.code, ran.out) == (1, "")
            assert ran.err == f"bt: {url}: answers {status}, and not as a bt server does\n"
        server.shutdown()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["queries.txt"]


@pytest.mark.parametrize("token", ["a\nb", "☃"])
def test_a_token_that_no_header_can_carry_is_one_line(bt, monkeypatch, token):
    monkeypatch.setenv("BT_TOKEN", token)
    ran = bt("search", "a dog", "--server", "http://127.0.0.1:9")
    assert (ran.code, ran.err[:39]) == (2, "bt: BT_TOKEN has to be printable ASCII ")


def test_a_page_is_given_no_pictures_of_another_state(served):
    with pytest.raises(BtError, match="the index library has changed"):
        client.Client(served.url).picture("library", 0, 300, "x.jpg", "another")
