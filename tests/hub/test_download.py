"""Fetching from the hub, against a hub on loopback: what is asked for, what is kept, what is said when it fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub.fake_hub import FakeHub, go_online, tag
from random_checkpoint import random_checkpoint

from bt_cli.checkpoints.checkpoint import Checkpoint
from bt_cli.errors import BadConfig, BrokenCheckpoint, BtError, DownloadFailed, NotFound, Offline, UnknownModel
from bt_cli.hub import download as hub
from bt_cli.hub.hub_cache import cached_names, cached_snapshot, repo_folder

NAME = "someone/little-tower"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies on the hub: a checkpoint, and files of other frameworks that nobody here needs."""
    folder = random_checkpoint(tmp_path_factory.mktemp("hub") / "little")
    (folder / "README.md").write_text("# A little tower\n")
    for unneeded in ("flax_model.msgpack", "tf_model.h5", "pytorch_model.bin", "training_args.bin"):
        (folder / unneeded).write_bytes(b"never to be fetched" * 1000)
    return folder


@pytest.fixture
def served(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The repository on a running hub that this process believes to be the hub."""
    with FakeHub({NAME: repository}) as running:
        go_online(monkeypatch, running.url)
        yield running


def test_first_load_downloads_what_is_needed_and_the_second_needs_no_hub(served: FakeHub, repository: Path) -> None:
    ticks: list[tuple[int, int]] = []
    first = Checkpoint.open(NAME, progress=lambda done, total: ticks.append((done, total)))
    names = {path.name for path in first.folder.iterdir()}
    assert names == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
    }
    needed = sum((repository / name).stat().st_size for name in names)
    assert served.sent == needed
    assert ticks[-1] == (needed, needed)
    assert ticks == sorted(ticks)
    served.stop()
    again = Checkpoint.open(NAME)
    assert again.folder == first.folder
    assert again.fingerprint == first.fingerprint == Checkpoint.open(repository).fingerprint
    assert again.tokenizer().encode(["a tower"]).input_ids.shape == (1, 9)
    assert cached_names() == [NAME]


def test_image_settings_of_the_newer_name_come_along_and_count(
    served: FakeHub, repository: Path, tmp_path: Path
) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(repository, newer)
    settings = json.loads((newer / "preprocessor_config.json").read_text())
    (newer / "preprocessor_config.json").unlink()
    settings["image_mean"] = [0.1, 0.2, 0.3]
    (newer / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    served.repositories[NAME] = newer
    assert Checkpoint.open(NAME).fingerprint == Checkpoint.open(newer).fingerprint
    assert Checkpoint.open(NAME).image_processor().settings.image_mean == (0.1, 0.2, 0.3)
    served.requests.clear()
    Checkpoint.open(NAME)
    assert served.requests == []


def test_a_cached_checkpoint_is_used_without_a_single_request(served: FakeHub) -> None:
    Checkpoint.open(NAME)
    served.requests.clear()
    Checkpoint.open(NAME)
    assert served.requests == []


def test_download_asks_for_news_and_fetches_only_what_changed(
    served: FakeHub, repository: Path, tmp_path: Path
) -> None:
    old = hub.download(NAME)
    changed = tmp_path / "changed"
    shutil.copytree(repository, changed)
    config = changed / "config.json"
    config.write_text(config.read_text().replace('"bridgetower"', '"bridgetower" '))
    served.repositories[NAME] = changed
    served.sent = 0
    new = hub.download(NAME)
    assert new != old
    assert served.sent == config.stat().st_size
    assert (new / "config.json").read_text() == config.read_text()
    assert (new / "model.safetensors").read_bytes() == (repository / "model.safetensors").read_bytes()


def test_a_broken_connection_is_taken_up_where_it_broke(
    served: FakeHub, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits a second before it goes on
    served.cut["model.safetensors"] = 100_000
    folder = hub.download(NAME)
    assert (folder / "model.safetensors").read_bytes() == (repository / "model.safetensors").read_bytes()
    ranges = [request.range for request in served.asked("GET", "model.safetensors")]
    assert ranges == [None, f"bytes={1 << 16}-"]


def test_the_space_that_a_part_already_takes_is_not_asked_for_again(
    served: FakeHub, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (repository / "model.safetensors").read_bytes()
    part = repo_folder(NAME) / "blobs" / f"{tag(content)}.bt.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(content[:-1000])
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=100_000))
    assert len(content) > 200_000
    assert (hub.download(NAME) / "model.safetensors").read_bytes() == content


def test_an_interrupted_download_resumes_in_the_next_run(
    served: FakeHub, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    size = (repository / "model.safetensors").stat().st_size

    def interrupt(done: int, total: int) -> None:
        if done > size // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.download(NAME, progress=interrupt)
    assert cached_snapshot(NAME) is None
    served.requests.clear()
    folder = hub.download(NAME)
    (request,) = served.asked("GET", "model.safetensors")
    start = int(request.range.removeprefix("bytes=").removesuffix("-"))
    assert size // 2 - (1 << 16) <= start < size
    assert (folder / "model.safetensors").read_bytes() == (repository / "model.safetensors").read_bytes()
    assert not list(repo_folder(NAME).rglob("*.incomplete"))


def test_a_corrupt_file_is_refused_and_the_next_try_is_whole(served: FakeHub, repository: Path) -> None:
    served.garble.add("model.safetensors")
    with pytest.raises(DownloadFailed) as caught:
        Checkpoint.open(NAME)
    assert str(caught.value) == (
        f"{NAME}: model.safetensors arrived broken (its checksum is not the hub's); download it again"
    )
    assert cached_snapshot(NAME) is None
    served.garble.clear()
    assert Checkpoint.open(NAME).fingerprint == Checkpoint.open(repository).fingerprint


def test_more_bytes_than_the_file_has_are_nothing_to_go_on_from(served: FakeHub, repository: Path) -> None:
    content = (repository / "model.safetensors").read_bytes()
    part = repo_folder(NAME) / "blobs" / f"{tag(content)}.bt.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(content + b"more")
    assert (hub.download(NAME) / "model.safetensors").read_bytes() == content


def test_a_mirror_that_lists_names_alone_will_do(served: FakeHub, repository: Path) -> None:
    served.taciturn = True
    assert Checkpoint.open(NAME).fingerprint == Checkpoint.open(repository).fingerprint


def test_a_sharded_checkpoint_comes_with_all_its_shards(served: FakeHub, repository: Path, tmp_path: Path) -> None:
    from bt_cli.checkpoints.saving import save_checkpoint

    sharded = tmp_path / "sharded"
    save_checkpoint(Checkpoint.open(repository).network(), sharded, shard_bytes=1_000_000)
    served.repositories["someone/sharded"] = sharded
    opened = Checkpoint.open("someone/sharded")
    assert len(opened.files.paths) == 3
    assert opened.parameters == Checkpoint.open(repository).parameters


REFUSALS: list[tuple[tuple[int, str], type[BtError], str]] = [
    (
        (404, "RepoNotFound"),
        UnknownModel,
        "no checkpoint someone/little-tower at {url}; `bt models list` shows names that work",
    ),
    (
        (401, ""),
        DownloadFailed,
        "the hub refused someone/little-tower (401): it is private or does not exist; check the name, "
        "or set HF_TOKEN to a valid token",
    ),
    (
        (403, "GatedRepo"),
        DownloadFailed,
        "someone/little-tower is gated: accept its terms at {url}/someone/little-tower, "
        "then set HF_TOKEN to your token",
    ),
    ((403, ""), DownloadFailed, "the hub refused someone/little-tower (403): your token (HF_TOKEN) has no right to it"),
    (
        (429, ""),
        DownloadFailed,
        "the hub asks for a pause (429, too many requests) while fetching someone/little-tower; try again later",
    ),
    (
        (500, ""),
        DownloadFailed,
        "the hub at {url} answered 500 while someone/little-tower was fetched; try again later",
    ),
]


@pytest.mark.parametrize(("answer", "kind", "message"), REFUSALS, ids=[f"{r[0][0]}{r[0][1]}" for r in REFUSALS])
def test_what_the_hub_refuses_is_one_clear_line(
    served: FakeHub, answer: tuple[int, str], kind: type[BtError], message: str
) -> None:
    served.refuse[NAME] = answer
    with pytest.raises(kind) as caught:
        Checkpoint.open(NAME)
    assert str(caught.value) == message.format(url=served.url)


def test_a_near_miss_of_an_official_name_is_pointed_out(served: FakeHub) -> None:
    with pytest.raises(UnknownModel) as caught:
        Checkpoint.open("BridgeTower/bridgetower-base-itm")
    assert str(caught.value) == (
        f"no checkpoint BridgeTower/bridgetower-base-itm at {served.url}; "
        "did you mean BridgeTower/bridgetower-base-itm-mlm?"
    )


def test_an_unknown_revision_is_named(served: FakeHub) -> None:
    with pytest.raises(UnknownModel) as caught:
        Checkpoint.open(NAME, revision="v9")
    assert str(caught.value) == f"{NAME} has no revision 'v9'"


def test_a_revision_may_be_a_commit(served: FakeHub) -> None:
    commit = served.commit(NAME)
    assert Checkpoint.open(NAME, revision=commit).folder.name == commit


def test_a_token_opens_a_private_checkpoint(served: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    served.private.add(NAME)
    with pytest.raises(DownloadFailed, match="401"):
        Checkpoint.open(NAME)
    assert Checkpoint.open(NAME, token="secret").heads
    shutil.rmtree(repo_folder(NAME))
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert Checkpoint.open(NAME).heads


def test_a_repository_of_something_else_is_refused(served: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    served.repositories["someone/words"] = tmp_path
    with pytest.raises(UnknownModel) as caught:
        Checkpoint.open("someone/words")
    assert str(caught.value) == (
        "someone/words on the hub is no checkpoint for bt: it has no weights (safetensors or pytorch_model.bin)"
    )


def test_offline_with_nothing_cached_names_the_bundled_checkpoint() -> None:
    with pytest.raises(Offline) as caught:
        Checkpoint.open(NAME)
    assert "HF_HUB_OFFLINE" in str(caught.value)
    assert "--model tiny" in str(caught.value)


def test_an_unreachable_hub_names_the_bundled_checkpoint(served: FakeHub) -> None:
    served.stop()
    with pytest.raises(Offline) as caught:
        Checkpoint.open(NAME)
    assert str(caught.value).startswith(f"can't reach the hub at {served.url} and {NAME} is not in the cache (")
    assert "--model tiny" in str(caught.value)


def test_a_download_without_a_hub_gives_what_is_cached_and_says_so(
    served: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bt_cli")
    folder = hub.download(NAME)
    served.portal = True
    assert hub.download(NAME) == folder
    served.stop()
    assert hub.download(NAME) == folder
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.download(NAME) == folder
    assert [record.getMessage() for record in caplog.records if "cache has" in record.getMessage()] == [
        f"{NAME}: {served.url} can't be reached, so this is what the cache has of it",
        f"{NAME}: {served.url} can't be reached, so this is what the cache has of it",
        f"{NAME}: HF_HUB_OFFLINE is set, so this is what the cache has of it",
    ]


def test_a_login_page_in_place_of_the_hub_is_named(served: FakeHub) -> None:
    served.portal = True
    with pytest.raises(Offline) as caught:
        Checkpoint.open(NAME)
    assert str(caught.value).startswith(f"{served.url} does not answer as a hub does, and {NAME} is not in the cache (")
    assert str(caught.value).endswith("open the address in a browser, or set HF_ENDPOINT to the hub's own")


def test_a_file_that_is_listed_and_not_there_is_named(served: FakeHub) -> None:
    served.lost.add("model.safetensors")
    with pytest.raises(DownloadFailed) as caught:
        Checkpoint.open(NAME)
    assert str(caught.value) == (
        f"the hub at {served.url} lists model.safetensors of {NAME} and does not have it (404); "
        "try again later, or name another --revision"
    )


CHATTER = """
    import logging, sys
    from bt_cli.hub import download as hub
    with hub.in_our_words("a/b", None):
        from huggingface_hub import file_download
        file_download.logger.warning("Error while downloading, trying to resume")
"""


def test_the_clients_own_remarks_stay_out_though_it_is_imported_only_then() -> None:
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(CHATTER)], capture_output=True, text=True, check=True)
    assert ran.stderr == ""


def test_weights_cached_by_another_program_are_completed_when_the_hub_is_there(served: FakeHub) -> None:
    folder = hub.download(NAME)
    (folder / "vocab.json").unlink()
    (folder / "tokenizer.json").unlink()
    assert Checkpoint.open(NAME).tokenizer().vocab_size == 261
    (folder / "vocab.json").unlink()
    (folder / "tokenizer.json").unlink()
    served.stop()
    assert Checkpoint.open(NAME).heads  # what needs no text still works


WRONG_NAMES: list[tuple[str, type[BtError], str]] = [
    ("tiney", UnknownModel, "no checkpoint is called tiney; did you mean tiny?"),
    (
        "bridgetower-base",
        UnknownModel,
        "no checkpoint is called bridgetower-base; did you mean BridgeTower/bridgetower-base?",
    ),
    ("qwerty", UnknownModel, "no checkpoint is called qwerty; `bt models list` shows names that work"),
    ("./nowhere", NotFound, "no checkpoint folder ./nowhere"),
    ("/no/such/folder", NotFound, "no checkpoint folder /no/such/folder"),
    ("a/b/c", NotFound, "no checkpoint folder a/b/c"),
    ("", NotFound, "the checkpoint's name is empty; `bt models list` shows names that work"),
]


@pytest.mark.parametrize(("name", "kind", "message"), WRONG_NAMES)
def test_a_wrong_name_or_path_is_told_apart(
    name: str, kind: type[BtError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as caught:
        Checkpoint.open(name)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("file", "way_out"),
    [
        ("model.ckpt", "make a checkpoint folder of it with `bt models convert {path} OUT`"),
        ("x.bin", "name its folder"),
    ],
)
def test_a_file_in_place_of_a_folder_has_a_way_out(tmp_path: Path, file: str, way_out: str) -> None:
    path = tmp_path / file
    path.write_bytes(b"")
    with pytest.raises(NotFound) as caught:
        Checkpoint.open(path)
    assert way_out.format(path=path) in str(caught.value)


def test_a_full_disk_is_seen_before_the_first_byte(served: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1))
    with pytest.raises(BtError, match=r"someone/little-tower needs \d\.\d MB|someone/little-tower needs \d+ [kM]B"):
        hub.download(NAME)
    assert served.sent == 0


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("else")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("place", ["blob", "snapshot"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "bytes, not"),
        (lambda path: path.write_bytes(b""), "has 0 bytes, not"),
        (flip, "is not what the hub has (its checksum differs)"),
        (to_folder, "is no file"),
    ],
    ids=["cut", "empty", "flipped", "folder"],
)
def test_a_download_mends_what_is_damaged_in_the_cache(
    served: FakeHub, repository: Path, caplog: pytest.LogCaptureFixture, name: str, place: str, damage, said: str
) -> None:
    caplog.set_level("INFO", "bt_cli")
    cached = hub.download(NAME) / name
    damage(cached.resolve() if place == "blob" else cached)
    served.requests.clear()
    sent = served.sent
    assert hub.download(NAME) / name == cached
    assert cached.read_bytes() == (repository / name).read_bytes()
    whole_blob = damage is to_folder and place == "snapshot"  # the link alone was lost
    fetched = 0 if whole_blob else (repository / name).stat().st_size
    assert served.sent - sent == fetched, "nothing else is fetched"
    assert f"{NAME}: {name} in the cache " in caplog.text
    assert said in caplog.text
    sent = served.sent
    hub.download(NAME)
    assert served.sent == sent


def test_loading_a_damaged_file_of_the_cache_names_it_and_the_command_that_mends_it(served: FakeHub) -> None:
    folder = hub.download(NAME)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.resolve().write_bytes(content[:-9])
    with pytest.raises(BrokenCheckpoint) as error:
        Checkpoint.open(NAME)
    message = str(error.value)
    assert message.startswith(f"{weights} is cut short")
    assert message.endswith(f"; `bt models download {NAME}` compares the cache with the hub and mends it")
    weights.resolve().write_bytes(content)
    (folder / "config.json").resolve().write_text("{")
    with pytest.raises(BadConfig, match=f"config.json: not valid JSON .*bt models download {NAME}"):
        Checkpoint.open(NAME)
    weights.resolve().write_bytes(content[:-9])
    with pytest.raises(BrokenCheckpoint) as plain:
        Checkpoint.open(folder)
    assert "models download" not in str(plain.value)
