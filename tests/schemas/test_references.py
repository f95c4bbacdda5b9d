"""How releases are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from release_kit import HEX64, IDENTITY, digest_bytes, identities, names

from samara.schemas.digests import b3_text
from samara.schemas.errors import UsageError
from samara.schemas.references import (
    Reference,
    check_identity,
    check_name,
    is_identity,
    is_name,
    looks_like_reference,
    parse_reference,
)

tags = st.builds(
    lambda publisher, model, tag: Reference(publisher=publisher, model=model, tag=tag), names, names, names
)
pins = st.builds(
    lambda publisher, model, raw: Reference(publisher=publisher, model=model, manifest=b3_text(raw)),
    names, names, digest_bytes,
)  # fmt: skip
uris = st.builds(
    lambda identity, model, tag: Reference(publisher=identity, model=model, tag=tag, by_identity=True),
    identities, names, names,
)  # fmt: skip


@given(tags | pins | uris)
def test_a_reference_survives_being_written_and_read(reference: Reference) -> None:
    assert parse_reference(str(reference)) == reference
    assert looks_like_reference(str(reference))


def test_the_three_forms() -> None:
    assert parse_reference("acme/llama-3.2-1b:q4_0") == Reference(publisher="acme", model="llama-3.2-1b", tag="q4_0")
    pinned = parse_reference(f"acme/llama@b3:{HEX64}")
    assert (pinned.tag, pinned.manifest) == (None, f"b3:{HEX64}")
    portable = parse_reference(f"samara:{IDENTITY}/llama:q4_0")
    assert (portable.publisher, portable.by_identity) == (IDENTITY, True)
    assert parse_reference(f"samara:{IDENTITY}/llama@b3:{HEX64}").manifest == f"b3:{HEX64}"


def test_without_a_tag_the_latest_is_meant() -> None:
    assert parse_reference("acme/llama").tag == "latest"
    assert str(parse_reference("acme/llama")) == "acme/llama:latest"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme",
        "acme/",
        "/llama",
        "acme/llama:",
        "acme/llama:q4:0",
        "acme/llama/q4",
        "Acme/llama",
        "acme/Llama:q4",
        "acme/llama:Q4_0",
        "acme/llama@",
        "acme/llama@latest",
        "acme/llama@sha256:" + HEX64,
        "acme/llama@b3:" + HEX64.upper(),
        f"acme/llama:q4@b3:{HEX64}",
        "../llama",
        "acme/..",
        "acme/a..b",
        "acme/con:q4",
        "nul.x/llama",
        "acme/llama:q4\n",
        " acme/llama",
        "acme/llam\u0430",
        "acme /llama",
        "samara:acme/llama",
        f"samara:{IDENTITY[:-1]}b/llama",
        f"samara:{IDENTITY}",
        "https://example.org/tiny.samara",
        "./tiny.samara",
        "C:\\models\\tiny.samara",
        "acme/" + "a" * 65,
        "a" * 100_000,
    ],
)
def test_anything_else_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="not a reference") as caught:
        parse_reference(text)
    assert "publisher/model:tag" in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not looks_like_reference(text)


@given(st.text("ab1/:@._-\u00e9A \n", max_size=12) | st.text(max_size=30))
def test_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        reference = parse_reference(text)
    except UsageError:
        return
    assert str(reference) in {text, f"{text}:latest"}


class TestNames:
    @pytest.mark.parametrize("name", ["a", "7", "a-b", "a_b", "a.b", "llama-3.2-1b", "a" * 64, "console", "com10"])
    def test_a_name_is_lower_case_and_plain(self, name: str) -> None:
        assert check_name(name, "model") == name

    @pytest.mark.parametrize(
        "name",
        ["", "-a", "a-", ".a", "a.", "_", "a..b", "A", "a b", "a/b", "é", "a" * 65, "a\n",
         "con", "prn", "aux", "nul", "com0", "com1", "lpt9", "nul.gguf", "aux.tar.gz"],
    )  # fmt: skip
    def test_what_is_no_name_is_refused(self, name: str) -> None:
        assert not is_name(name)
        with pytest.raises(UsageError, match="not a model name"):
            check_name(name, "model")

    @given(names)
    def test_a_name_is_one_part_of_a_path_on_every_system(self, name: str) -> None:
        assert not set(name) & set('/\\:*?"<>| ')
        assert name == name.lower()
        assert name[-1] != "."


class TestIdentities:
    @given(identities)
    def test_52_digits_of_base32_are_an_identity(self, identity: str) -> None:
        assert check_identity(identity) == identity

    @pytest.mark.parametrize(
        "text",
        ["", IDENTITY[:-1], IDENTITY + "a", IDENTITY.upper(), IDENTITY[:-1] + "b", "1" + IDENTITY[1:], IDENTITY + "\n"],
    )
    def test_what_is_none_is_refused(self, text: str) -> None:
        assert not is_identity(text)
        with pytest.raises(UsageError, match="not a publisher identity"):
            check_identity(text)
