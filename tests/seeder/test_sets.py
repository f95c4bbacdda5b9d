"""Models of several files, published and pulled by a real swarm on loopback: sets, projectors, adapters, folders."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gguf_maker import gguf_bytes, tensor, text
from support.pulls import Pull, options, pulled
from support.swarms import seeding
from support.world import FIXTURES, NOW, QUICK, Shelf, leftovers, random_file, trusting_home

from samara.cli.run import choose_model
from samara.fetcher.companions import is_adapter, what_is_missing
from samara.fetcher.local import locate
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.trust.making import init_publisher
from samara.registry.trust.publishers import Publisher
from samara.runner.engine import Engine
from samara.runner.options import EngineOptions
from samara.schemas.errors import UsageError
from samara.schemas.events import Event, Warned
from samara.schemas.manifest import INLINE_LIMIT, Release, ReleaseFile, Role, parse_manifest
from samara.schemas.references import parse_reference
from samara.seeder.publish import INLINE_TOTAL, Description, publish

PARTS = 3


@pytest.fixture
def acme(tmp_path: Path) -> Publisher:
    return init_publisher(
        Home(tmp_path / "publisher"), "acme", passphrase=None, recovery=None, now=NOW, kdf_rounds=QUICK
    )  # fmt: skip


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """tiny-q8_0.gguf in three files, cut by the gguf package."""
    return split(FIXTURES / "tiny-q8_0.gguf", tmp_path_factory.mktemp("parts") / "tiny.gguf")


def split(model: Path, stem: Path) -> tuple[Path, ...]:
    import gguf

    reader = gguf.GGUFReader(model)
    most = -(-len(reader.tensors) // PARTS)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(None, architecture, split_max_tensors=most)
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    for one in reader.tensors:
        writer.add_tensor(one.name, one.data, raw_dtype=one.tensor_type)
    writer.write_header_to_file(stem)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = tuple(sorted(stem.parent.glob("tiny-*.gguf")))
    assert [path.name for path in found] == [f"tiny-{n:05}-of-{PARTS:05}.gguf" for n in range(1, PARTS + 1)]
    return found


def released(
    acme: Publisher,
    root: Path,
    named: Sequence[Path],
    *,
    reference: str = "acme/model:v1",
    base_model: str | None = None,
) -> tuple[Shelf, list[Event]]:
    """Publish what is named; the release with its files where they lie, and what was said meanwhile."""
    home = Home(root / "publisher")
    heard: list[Event] = []
    output = root / f"{reference.replace('/', '-').replace(':', '-')}.samara"
    done = publish(
        home, named, parse_reference(reference), acme, description=Description(base_model=base_model), output=output,
        on_event=heard.append,
    )  # fmt: skip
    with Index.open(home) as index:
        blobs = {file.b3: index.blob(file.b3) for file in done.release.files}
    known = {b3: blob for b3, blob in blobs.items() if blob is not None}
    shelved = Shelf(
        home=home,
        publisher=acme,
        release=done.release,
        file=done.release_file,
        sources=tuple(known[file.b3].locations[0].path for file in done.release.files),
        torrents={b3: blob.torrent for b3, blob in known.items() if blob.torrent is not None},
    )
    return shelved, heard


def fetched(shelved: Shelf, home: Home, **changes: Any) -> dict[str, Path]:
    """Pull it from a real peer; path in the release → where it lies."""
    with seeding(shelved) as peer:
        done = pulled(home, shelved.file, options(peer.endpoint, **changes))
    assert leftovers(home) == []
    return {file.path: file.location for file in done.files}


def safetensors(seed: int, size: int, folder: Path, name: str) -> Path:
    """A file of that format: a JSON header and one tensor."""
    header = json.dumps({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path = random_file(folder / name, size, seed=seed)
    path.write_bytes(struct.pack("<Q", len(header)) + header + path.read_bytes())
    return path


class TestSets:
    def test_a_whole_set_is_pulled_and_runs(self, acme: Publisher, tmp_path: Path, parts: tuple[Path, ...]) -> None:
        shelved, heard = released(acme, tmp_path, [parts[2], parts[0], parts[1]])
        assert not [event for event in heard if isinstance(event, Warned)]
        assert {file.role for file in shelved.release.files} == {Role.WEIGHTS}
        assert all(file.gguf is not None for file in shelved.release.files)
        home = trusting_home(tmp_path / "home", shelved)
        places = fetched(shelved, home)
        assert {name: path.read_bytes() for name, path in places.items()} == {p.name: p.read_bytes() for p in parts}
        with Index.open(home) as index:
            assert what_is_missing(home, index, shelved.release) == ()
        found = {file.file.path: file.path for file in locate(home, shelved.reference).files}
        first = found[choose_model(tuple(found), None, shelved.reference)]
        with Engine(EngineOptions(model=first, threads=1)) as engine:
            assert "".join(engine.stream("2+3=", raw=True)).startswith("5")

    @pytest.mark.parametrize("gone", range(PARTS))
    def test_one_that_lacks_a_file_is_not_published(
        self, acme: Publisher, tmp_path: Path, parts: tuple[Path, ...], gone: int
    ) -> None:
        rest = [part for number, part in enumerate(parts) if number != gone]
        with pytest.raises(UsageError, match=f"missing: {parts[gone].name} of a set of 3 files") as caught:
            released(acme, tmp_path, rest)
        assert caught.value.next_step
        assert not list(tmp_path.glob("*.samara"))

    def test_of_one_that_somebody_published_all_the_same_it_is_said_what_is_missing(
        self, acme: Publisher, tmp_path: Path, parts: tuple[Path, ...]
    ) -> None:
        shelved, _ = released(acme, tmp_path, parts)
        half = replace(shelved.release, files=shelved.release.files[1:])
        with Index.open(shelved.home) as index:
            (said,) = what_is_missing(shelved.home, index, half)
        assert parts[0].name in said


class TestProjectors:
    @pytest.mark.parametrize(
        ("keys", "name"),
        [
            ([("general.architecture", text("clip")), ("general.type", text("mmproj"))], "vision.gguf"),
            ([("general.architecture", text("clip"))], "vision.gguf"),
            ([("general.architecture", text("llama"))], "mmproj-tiny-f16.gguf"),
        ],
    )
    def test_are_told_from_the_model_beside_them(
        self, acme: Publisher, tmp_path: Path, keys: list[tuple[str, bytes]], name: str
    ) -> None:
        projector = tmp_path / name
        projector.write_bytes(gguf_bytes(keys, [tensor("v.blk.0.attn_q.weight", bytes(range(256)) * 500)]))
        shelved, _ = released(acme, tmp_path, [FIXTURES / "tiny-q8_0.gguf", projector])
        assert [file.role for file in shelved.release.files] == [Role.WEIGHTS, Role.PROJECTOR]
        home = trusting_home(tmp_path / "home", shelved)
        places = fetched(shelved, home)
        assert places[name].read_bytes() == projector.read_bytes()
        runnable = [f.path for f in shelved.release.files if f.role == Role.WEIGHTS]
        assert choose_model(tuple(runnable), None, "acme/model:v1") == "tiny-q8_0.gguf"


class TestAdapters:
    @pytest.fixture
    def lora(self, tmp_path: Path) -> Path:
        """Under a name that doesn't say what it is."""
        path = tmp_path / "athens.gguf"
        path.write_bytes((FIXTURES / "tiny-lora.gguf").read_bytes())
        return path

    def missing(self, home: Home, release: Release) -> tuple[str, ...]:
        with Index.open(home) as index:
            return what_is_missing(home, index, release)

    def test_say_which_model_they_are_for_in_a_form_that_means_the_same_everywhere(
        self, acme: Publisher, tmp_path: Path, lora: Path
    ) -> None:
        shelved, heard = released(acme, tmp_path, [lora], base_model="acme/tiny:q8_0")
        assert shelved.only.role == Role.ADAPTER
        assert shelved.release.base_model == f"samara:{acme.identity}/tiny:q8_0"
        assert not [event for event in heard if isinstance(event, Warned)]

    @pytest.mark.parametrize("told", ["meta-llama/Llama-3.2-1B", "google/gemma-2b:latest", "whatever it was"])
    def test_of_a_base_that_is_nobodys_here_the_name_is_kept_as_it_is(
        self, acme: Publisher, tmp_path: Path, lora: Path, told: str
    ) -> None:
        shelved, _ = released(acme, tmp_path, [lora], base_model=told)
        assert shelved.release.base_model == told
        (said,) = self.missing(shelved.home, shelved.release)
        assert told in said
        assert "samara pull" not in said

    def test_without_a_base_they_are_published_with_a_warning(
        self, acme: Publisher, tmp_path: Path, lora: Path
    ) -> None:
        shelved, heard = released(acme, tmp_path, [lora])
        assert [event.message for event in heard if isinstance(event, Warned)] == [
            "an adapter without its base: say which model it is for with --base-model"
        ]
        assert self.missing(shelved.home, shelved.release) == ()

    def test_who_pulls_one_is_told_how_to_get_its_base_until_it_is_here(
        self, acme: Publisher, tmp_path: Path, lora: Path
    ) -> None:
        base, _ = released(acme, tmp_path, [FIXTURES / "tiny-q8_0.gguf"], reference="acme/tiny:q8_0")
        adapter, _ = released(acme, tmp_path, [lora], reference="acme/athens:v1", base_model="acme/tiny:q8_0")
        assert self.missing(base.home, adapter.release) == (), "its publisher has it in place"
        home = trusting_home(tmp_path / "home", adapter)
        fetched(adapter, home)
        (said,) = self.missing(home, adapter.release)
        assert said == "athens:v1 is an adapter and needs its base, which is not here; run: samara pull acme/tiny:q8_0"
        with seeding(base) as peer:
            half = Pull(home, base.file, options(peer.endpoint))
            half.result()
        assert self.missing(home, adapter.release) == ()
        home.blob(base.only.b3_hex).unlink()
        assert self.missing(home, adapter.release) == (said,)

    def test_beside_their_base_in_one_release_they_need_nothing(
        self, acme: Publisher, tmp_path: Path, lora: Path
    ) -> None:
        shelved, heard = released(acme, tmp_path, [FIXTURES / "tiny-q8_0.gguf", lora], base_model="samara/other:v1")
        assert [file.role for file in shelved.release.files] == [Role.WEIGHTS, Role.ADAPTER]
        assert not is_adapter(shelved.release)
        assert self.missing(shelved.home, shelved.release) == ()
        assert not [event for event in heard if isinstance(event, Warned)]


class TestFolders:
    """A repository of safetensors, as people have them."""

    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        folder = tmp_path / "repo"
        for name, size in (("config.json", 700), ("tokenizer_config.json", 2000), ("1_Pooling/config.json", 190)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(json.dumps({"name": name, "pad": "x" * size}))
        (folder / "LICENSE").write_text("Do as you please.\n")
        random_file(folder / "tokenizer.json", INLINE_LIMIT + 1, seed=7)
        for number in (1, 2):
            safetensors(number, 300_000, folder, f"model-0000{number}-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')
        (folder / ".gitattributes").write_text("*.safetensors filter=lfs\n")
        (folder / "__init__.py").touch()
        return folder

    def expected(self, repository: Path) -> dict[str, bytes]:
        return {
            path.relative_to(repository).as_posix(): path.read_bytes()
            for path in repository.rglob("*")
            if path.is_file() and not path.name.startswith(".") and path.stat().st_size
        }

    def file(self, shelved: Shelf, path: str) -> ReleaseFile:
        return next(file for file in shelved.release.files if file.path == path)

    def test_a_folder_is_pulled_with_its_sub_folders(self, acme: Publisher, tmp_path: Path, repository: Path) -> None:
        shelved, heard = released(acme, tmp_path, [repository])
        home = trusting_home(tmp_path / "home", shelved)
        places = fetched(shelved, home, to=tmp_path / "out")
        expected = self.expected(repository)
        assert {name: path.read_bytes() for name, path in places.items()} == expected
        view = home.models / "acme" / "model" / "v1"
        assert {path.relative_to(view).as_posix() for path in view.rglob("*") if path.is_file()} == set(expected)
        assert (tmp_path / "out" / "1_Pooling" / "config.json").read_bytes() == expected["1_Pooling/config.json"]
        assert "__init__.py is empty and stays out of the release" in {
            event.message for event in heard if isinstance(event, Warned)
        }

    def test_small_files_travel_in_the_manifest_and_large_ones_by_swarm(
        self, acme: Publisher, tmp_path: Path, repository: Path
    ) -> None:
        shelved, _ = released(acme, tmp_path, [repository])
        by_swarm = {file.path for file in shelved.release.files if file.inline is None}
        assert by_swarm == {
            "tokenizer.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
        }  # fmt: skip
        assert self.file(shelved, "config.json").inline == (repository / "config.json").read_bytes()

    def test_every_file_has_its_role(self, acme: Publisher, tmp_path: Path, repository: Path) -> None:
        shelved, _ = released(acme, tmp_path, [repository])
        assert {file.path: file.role for file in shelved.release.files} == {
            "1_Pooling/config.json": Role.CONFIG,
            "LICENSE": Role.LICENCE,
            "config.json": Role.CONFIG,
            "model-00001-of-00002.safetensors": Role.WEIGHTS,
            "model-00002-of-00002.safetensors": Role.WEIGHTS,
            "model.safetensors.index.json": Role.CONFIG,
            "tokenizer.json": Role.TOKENIZER,
            "tokenizer_config.json": Role.TOKENIZER,
        }

    def test_publishing_it_again_changes_nothing(self, acme: Publisher, tmp_path: Path, repository: Path) -> None:
        first, _ = released(acme, tmp_path, [repository])
        again, _ = released(acme, tmp_path, [repository])
        assert again.release == first.release

    def test_a_pull_may_take_or_leave_files_by_pattern(self, acme: Publisher, tmp_path: Path, repository: Path) -> None:
        shelved, _ = released(acme, tmp_path, [repository])
        home = trusting_home(tmp_path / "home", shelved)
        assert set(fetched(shelved, home, include=("*.json",), exclude=("1_Pooling/*",))) == {
            "config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"
        }  # fmt: skip
        assert not list(home.models.rglob("*.safetensors"))
        assert set(fetched(shelved, home)) == set(self.expected(repository))

    def test_a_shard_that_is_missing_is_told(self, acme: Publisher, tmp_path: Path, repository: Path) -> None:
        (repository / "model-00001-of-00002.safetensors").unlink()
        with pytest.raises(UsageError, match=r"missing: model-00001-of-00002\.safetensors of a set of 2 files"):
            released(acme, tmp_path, [repository])

    def test_many_small_files_are_inline_only_as_far_as_a_manifest_should_go(
        self, acme: Publisher, tmp_path: Path
    ) -> None:
        count = INLINE_TOTAL // INLINE_LIMIT + 3
        for number in range(count):
            random_file(tmp_path / "repo" / f"{number:03}.txt", INLINE_LIMIT, seed=number)
        (tmp_path / "repo" / "last.txt").write_text("x")
        shelved, _ = released(acme, tmp_path, [tmp_path / "repo"])
        assert [file.inline is None for file in shelved.release.files] == [False] * (count - 3) + [True] * 4
        home = trusting_home(tmp_path / "home", shelved)
        places = fetched(shelved, home)
        assert len(places) == count + 1
        assert all(path.read_bytes() == (tmp_path / "repo" / name).read_bytes() for name, path in places.items())
        with Index.open(home) as index:
            (stored,) = index.releases()
        assert parse_manifest(stored.envelope.payload) == shelved.release

    @pytest.mark.parametrize(
        ("limit", "says"),
        [
            ("samara.schemas.envelope.MAX_PAYLOAD_BYTES", "envelope payload is too large"),
            ("samara.schemas.release_file.MAX_SMALL_FILE", "release object too large"),
            ("samara.schemas.release_file.MAX_COMPRESSED_BYTES", "release file too large"),
        ],
    )
    def test_what_nobody_could_read_is_not_published(
        self, acme: Publisher, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, limit: str, says: str
    ) -> None:
        """The limits are large: here they are small."""
        monkeypatch.setattr(limit, 2000)
        with pytest.raises(UsageError, match=f"too much for one release: {says}"):
            released(acme, tmp_path, [repository])
        assert not list(tmp_path.glob("*.samara"))
        with Index.open(Home(tmp_path / "publisher")) as index:
            assert index.counts().releases == index.counts().locations == 0
