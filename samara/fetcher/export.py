"""Giving a release that is here to other programs, without a second copy where the disk can: a folder, the Hugging Face
cache, Ollama's store.

Nothing is fetched. Bytes are shared extents, else hard links of the store's read-only blobs, else copies; files in
place are never hard-linked: their owner may change them. Where a program names bytes by SHA-256, they are hashed first:
a publisher is believed about its own release, not about what another program takes for somebody else's. What is there
already and right stays, what is there and wrong is never replaced. The name by which a program finds a release comes
last: a kill leaves bytes without a name, which the same command goes on from.

    export_to            DIR/<path>
    export_to_hub_cache  models--<publisher>--<model>/{blobs/<sha256>, snapshots/<commit>/<path>, refs/<tag>}
    export_to_ollama     manifests/registry.ollama.ai/<publisher>/<model>/<tag>, blobs/sha256-<hex>
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from samara.fetcher.held import Resolved
from samara.fetcher.local import LocalFile, locate
from samara.fetcher.recheck import recheck
from samara.fetcher.resolve import resolve
from samara.registry.durable import io_errors, make_folder, write_durably
from samara.registry.home import Home
from samara.registry.store import link_into
from samara.schemas.digests import b3_hex, sha256_text
from samara.schemas.errors import IntegrityError, NotFoundError, UsageError
from samara.schemas.events import OnEvent, ignore
from samara.schemas.manifest import ReleaseFile, Role

COMMIT_DIGITS = 40  # the Hub names snapshots by git commits; ours by the beginning of the manifest's digest
OLLAMA_HOST = "registry.ollama.ai"  # what Ollama takes for the host of a name that has none
_LAYERS = {  # what Ollama knows of a release; the rest of it is none of its business
    Role.WEIGHTS: "application/vnd.ollama.image.model",
    Role.PROJECTOR: "application/vnd.ollama.image.projector",
    Role.ADAPTER: "application/vnd.ollama.image.adapter",
    Role.LICENCE: "application/vnd.ollama.image.license",
}
_CONFIG = "application/vnd.docker.container.image.v1+json"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedFile:
    """One file and where it lies now. `how`: same (it was there), reflink, hardlink or copy."""

    path: str
    location: Path
    how: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was exported. `name`: by which the other program finds it; `revision`: the Hub's commit."""

    reference: str
    manifest: str
    folder: Path
    name: str
    revision: str | None
    files: tuple[ExportedFile, ...]


def hub_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """Where huggingface_hub looks (its documentation, "Environment variables")."""
    for told in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(told):
            return Path(environ[told]).expanduser()
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser() / "hub"
    return Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def ollama_models(environ: Mapping[str, str] = os.environ) -> Path:
    """Where Ollama looks (its FAQ, "Where are models stored?")."""
    return Path(environ.get("OLLAMA_MODELS") or "~/.ollama/models").expanduser()


def export_to(home: Home, reference: str, folder: Path, *, on_event: OnEvent = ignore) -> Exported:
    """Every file of a release below `folder`, by its own name.

    Raises NotFoundError for what isn't here, UsageError where another file is in the way, IntegrityError for a file in
    place that changes meanwhile, TrustError, DiskFullError, StoreError.
    """
    work = _Work(home, reference, folder, on_event)
    files = [work.put(one, folder / one.file.path) for one in work.files]
    return work.result(files, name=str(folder))


def export_to_hub_cache(home: Home, reference: str, cache: Path, *, on_event: OnEvent = ignore) -> Exported:
    """A release as huggingface_hub keeps one: `hf_hub_download(…, revision=<tag>, local_files_only=True)` finds it.

    Raises what `export_to` raises.
    """
    work = _Work(home, reference, cache, on_event)
    release, alias = work.resolved.release, work.resolved.alias
    repository = cache / f"models--{alias}--{release.model}"
    commit = b3_hex(release.digest)[:COMMIT_DIGITS]
    files = []
    for one in work.files:
        blob = repository / "blobs" / work.sha256_hex(one)
        put = work.put(one, blob)
        name = repository / "snapshots" / commit / one.file.path
        files.append(ExportedFile(path=one.file.path, location=_pointer(name, blob), how=put.how))
    ref = repository / "refs" / work.resolved.tag
    work.check_untouched(files)
    make_folder(ref.parent)
    write_durably(ref, commit.encode())
    return work.result(files, name=f"{alias}/{release.model}", revision=commit)


def export_to_ollama(home: Home, reference: str, models: Path, *, on_event: OnEvent = ignore) -> Exported:
    """A release of one GGUF model as Ollama keeps one: `ollama run <publisher>/<model>:<tag>` finds it.

    Raises what `export_to` raises, and UsageError for what Ollama can't run.
    """
    work = _Work(home, reference, models, on_event)
    weights = [one.file for one in work.files if one.file.role == Role.WEIGHTS and one.file.gguf is not None]
    if len(weights) != 1:
        raise UsageError(
            f"{work.resolved.reference} is nothing that Ollama runs", expected="weights in one GGUF file",
            actual=f"{len(weights)} of them", next_step="export it --to a folder",
        )  # fmt: skip
    files, layers = [], []
    for one in work.files:
        media_type = _LAYERS.get(Role(one.file.role)) if one.file.role in set(Role) else None
        if media_type is None or (one.file.role == Role.WEIGHTS and one.file.gguf is None):
            continue
        digest = work.sha256_hex(one)
        files.append(work.put(one, models / "blobs" / f"sha256-{digest}"))
        layers.append({"mediaType": media_type, "digest": f"sha256:{digest}", "size": one.file.size})
    config = _ollama_config(weights[0], [str(layer["digest"]) for layer in layers])
    config_digest = hashlib.sha256(config).hexdigest()
    make_folder(models / "blobs")
    write_durably(models / "blobs" / f"sha256-{config_digest}", config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": f"sha256:{config_digest}", "size": len(config)},
        "layers": layers,
    }
    release, alias, tag = work.resolved.release, work.resolved.alias, work.resolved.tag
    path = models / "manifests" / OLLAMA_HOST / alias / release.model / tag
    work.check_untouched(files)
    make_folder(path.parent)
    write_durably(path, json.dumps(manifest, separators=(",", ":")).encode())
    return work.result(files, name=f"{alias}/{release.model}:{tag}")


class _Work:
    """One export: what is exported, and from where."""

    def __init__(self, home: Home, reference: str, folder: Path, on_event: OnEvent) -> None:
        if folder.absolute().is_relative_to(home.root.absolute()):
            raise UsageError(f"{folder} lies inside the store", next_step="choose another folder")
        self._home = home
        self._folder = folder
        self._on_event = on_event
        self.resolved: Resolved = resolve(home, reference)
        release = self.resolved.release
        self._pinned = f"{self.resolved.alias}/{release.model}@{release.digest}"
        self.files: tuple[LocalFile, ...] = locate(home, self._pinned).files

    def put(self, one: LocalFile, target: Path) -> ExportedFile:
        """The file at `target`, unless it is there."""
        with io_errors(target):
            is_there = target.exists() or target.is_symlink()
        if is_there:
            if not self._is_right(target, one.file):
                raise UsageError(
                    f"{target} already exists and is something else", next_step="move it away or choose another folder"
                )
            return ExportedFile(path=one.file.path, location=target, how="same")
        source = self._source(one)
        how = link_into(source, target, replace=False, hard_links=self._is_in_store(source))
        return ExportedFile(path=one.file.path, location=target, how=how)

    def sha256_hex(self, one: LocalFile) -> str:
        """The SHA-256 of the bytes that are here. Raises IntegrityError if the manifest says another."""
        source = self._source(one)
        with io_errors(source), source.open("rb") as file:
            raw = hashlib.file_digest(file, "sha256").digest()
        if sha256_text(raw) != one.file.sha256:
            raise IntegrityError(
                f"{one.file.path} is not what the manifest says of it", expected=one.file.sha256,
                actual=sha256_text(raw), next_step=f"samara verify {self._pinned}",
            )  # fmt: skip
        return raw.hex()

    def check_untouched(self, files: list[ExportedFile]) -> None:
        """After the last copy: the owner of a file in place may have written into it meanwhile."""
        try:
            locate(self._home, self._pinned)
        except NotFoundError:
            for made in files:
                if made.how != "same":
                    with contextlib.suppress(OSError):
                        made.location.resolve().unlink()  # of the Hub's cache: the blob that the snapshot points to
            raise IntegrityError(
                f"{self.resolved.reference} changed while it was exported", next_step="run the same command again"
            ) from None

    def result(self, files: list[ExportedFile], *, name: str, revision: str | None = None) -> Exported:
        """What was done, after a last look."""
        self.check_untouched(files)
        return Exported(
            reference=self.resolved.reference,
            manifest=self.resolved.release.digest,
            folder=self._folder,
            name=name,
            revision=revision,
            files=tuple(files),
        )

    def _source(self, one: LocalFile) -> Path:
        """The blob rather than a view of it, which may be a link."""
        blob = self._home.blob(one.file.b3_hex)
        return blob if one.path.is_relative_to(self._home.root) and blob.is_file() else one.path

    def _is_in_store(self, source: Path) -> bool:
        return source.is_relative_to(self._home.blobs)

    def _is_right(self, target: Path, file: ReleaseFile) -> bool:
        if not target.is_file() or target.stat().st_size != file.size:
            return False
        return recheck(target, file, on_event=self._on_event).ok


def _pointer(name: Path, blob: Path) -> Path:
    """The Hub's snapshots hold relative links to blobs; where the disk knows no links, the bytes themselves."""
    make_folder(name.parent)
    with io_errors(name):
        if name.exists() and name.samefile(blob):
            return name
        if name.is_symlink():  # to nothing, or to what isn't this
            name.unlink()
        try:
            name.symlink_to(PurePosixPath(os.path.relpath(blob, name.parent)))
        except OSError:
            link_into(blob, name, replace=False)
    return name


def _ollama_config(weights: ReleaseFile, digests: list[str]) -> bytes:
    """What Ollama shows of a model; it reads the rest from the GGUF itself."""
    facts = weights.gguf
    assert facts is not None
    billions = facts.parameter_count / 1e9
    config = {
        "model_format": "gguf",
        "model_family": facts.architecture,
        "model_families": [facts.architecture],
        "model_type": f"{billions:.1f}B" if billions >= 1 else f"{facts.parameter_count / 1e6:.2f}M",
        "file_type": facts.quantisation,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": digests},
    }
    return json.dumps(config, separators=(",", ":")).encode()
