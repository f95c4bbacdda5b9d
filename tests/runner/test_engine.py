"""The engine with a real model: a trained four-layer llama of 0.9 MB that adds, and some damaged copies of it.

Every death here is a real one; every wait is for a pipe to close or a process to end.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

import samara
from samara.runner import engine_child
from samara.runner.engine import Engine
from samara.runner.options import EngineOptions, spare_threads
from samara.schemas.errors import EngineError, NotFoundError, UsageError

MODEL = Path(__file__).parents[1] / "fixtures" / "tiny-q8_0.gguf"
PATIENCE = 60  # seconds until a wait that should end by itself counts as a failure

posix = pytest.mark.skipif(os.name != "posix", reason="signals and passing of file descriptors are POSIX's")
linux = pytest.mark.skipif(sys.platform != "linux", reason="SIGIO at a pipe's end is Linux's")


def options(model: Path = MODEL, context: int | None = None) -> EngineOptions:
    return EngineOptions(model=model, threads=1, context=context)


def with_u32(model: bytes, key: str, value: int) -> bytes:
    """The GGUF with another number under a header key of type uint32."""
    start = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", 4)
    at = model.index(start) + len(start)
    return model[:at] + struct.pack("<I", value) + model[at + 4 :]


def without_template(model: bytes) -> bytes:
    return model.replace(b"tokenizer.chat_template", b"tokenizer.chat_tEMPLATE", 1)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(options()) as engine:
        yield engine


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """The model with no token left that ends a text, and a context to fill."""
    model = with_u32(MODEL.read_bytes(), "llama.context_length", 100_000)
    for key in ("eos_token_id", "eot_token_id"):
        model = with_u32(model, f"tokenizer.ggml.{key}", 280)
    path = tmp_path / "endless.gguf"
    path.write_bytes(model.replace(b"</s>", b"<.s>").replace(b"<|end|>", b"<|end.>"))
    return path


# ------------------------------------------------------------------------------------------------------- answering


def test_a_raw_prompt_is_continued(engine: Engine) -> None:
    text = "".join(engine.stream("2+3=", raw=True))

    assert text.startswith("5")
    generation = engine.generation
    assert generation is not None
    assert generation.text == text
    assert generation.raw
    assert generation.finish_reason == "stop"
    assert (generation.prompt_tokens, generation.tokens) == (5, 3)  # with begin and end of text
    assert 0 < generation.seconds_to_first_token < PATIENCE
    assert generation.tokens_per_second is not None
    assert generation.tokens_per_second > 0


def test_a_question_goes_through_the_models_chat_template(engine: Engine) -> None:
    pieces = list(engine.stream("What is 7+8?"))

    assert "".join(pieces) == "15"
    assert len(pieces) > 1
    assert engine.raw_reason is None
    assert engine.generation is not None
    assert not engine.generation.raw


def test_the_same_prompt_gets_the_same_answer_by_default(engine: Engine) -> None:
    answers = {"".join(engine.stream("The capital of France is", raw=True)) for _ in range(3)}

    assert len(answers) == 1
    assert "Paris" in answers.pop()


def test_the_answer_stops_at_the_wanted_length(engine: Engine) -> None:
    assert "".join(engine.stream("The capital of", raw=True, max_tokens=3)) != ""

    assert engine.generation is not None
    assert engine.generation.finish_reason == "length"
    assert engine.generation.tokens == 3


def test_a_closed_stream_leaves_the_engine_ready_for_the_next(endless: Path) -> None:
    with Engine(options(endless)) as engine:
        stream = engine.stream("2+3=", raw=True, max_tokens=2000)
        assert next(stream) == "5"
        stream.close()

        assert engine.generation is None
        assert next(engine.stream("4+5=", raw=True)) == "9"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (without_template(MODEL.read_bytes()), "model.gguf has no chat template"),
        (MODEL.read_bytes().replace(b"{% endfor %}", b"{% endfxr %}"), "the chat template of model.gguf can't be used"),
    ],
    ids=["absent", "broken"],
)
def test_without_a_usable_chat_template_the_prompt_goes_in_raw_and_the_engine_says_so(
    tmp_path: Path, template: bytes, reason: str
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(template)

    with Engine(options(model)) as engine:
        assert "".join(engine.stream("2+3=")).startswith("5")

        assert engine.raw_reason is not None
        assert engine.raw_reason.startswith(reason)
        assert engine.generation is not None
        assert engine.generation.raw


# --------------------------------------------------------------------------------------------------------- context


def test_a_prompt_longer_than_the_model_can_hold_is_the_callers_mistake(engine: Engine) -> None:
    with pytest.raises(UsageError, match="expected at most 512 tokens, got 2001"):
        list(engine.stream("2+3=" * 500, raw=True))


def test_the_context_grows_with_the_prompt_where_the_model_has_more(endless: Path) -> None:
    with Engine(options(endless)) as engine:
        assert "".join(engine.stream("2+3=5\n" * 690, raw=True, max_tokens=1)) != ""

        assert engine.generation is not None
        assert engine.generation.prompt_tokens == 4141


def test_the_context_grows_with_the_answer_where_the_model_has_more(endless: Path) -> None:
    with Engine(options(endless)) as engine:
        first = engine.pid
        assert next(engine.stream("2+3=", raw=True, max_tokens=2048)) == "5"
        assert engine.pid == first

        assert next(engine.stream("2+3=", raw=True, max_tokens=2049)) == "5"
        assert engine.pid != first


def test_a_context_that_was_asked_for_stays(endless: Path) -> None:
    with Engine(options(endless, context=256)) as engine, pytest.raises(UsageError, match="at most 256 tokens"):
        list(engine.stream("2+3=" * 500, raw=True))


# ------------------------------------------------------------------------------------------------- models that fail


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (MODEL.read_bytes()[:500_000], "not within the file bounds"),
        (MODEL.read_bytes()[:3_000], "failed to read key-value pairs"),
        (bytes(range(256)) * 400, "invalid magic"),
        (b"", "failed to read magic"),
        (with_u32(MODEL.read_bytes(), "llama.embedding_length", 7), "invalid n_rot"),
    ],
    ids=["truncated", "truncated-header", "garbage", "empty", "contradictory"],
)
def test_a_file_that_is_no_whole_model_is_refused_with_the_engines_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    model = tmp_path / "damaged.gguf"
    model.write_bytes(content)

    with pytest.raises(EngineError) as error, Engine(options(model)):
        pass

    assert error.value.what == "the engine can't load damaged.gguf"
    assert reason in str(error.value.actual)
    assert "samara verify" in str(error.value.next_step)


def test_names_inside_a_model_cant_drive_the_terminal(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(MODEL.read_bytes()[:500_000].replace(b"blk.1.ffn_down.weight", b"\x1b[2J\x1b[31mffn_down.wei"))

    with pytest.raises(EngineError, match="not within the file bounds") as error, Engine(options(model)):
        pass

    assert str(error.value).isprintable()


def test_a_model_that_aborts_the_engine_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    model = tmp_path / "aborts.gguf"
    model.write_bytes(with_u32(MODEL.read_bytes(), "llama.block_count", 0))

    with (
        pytest.raises(EngineError, match=r"the engine died while loading aborts.gguf.*GGML_ASSERT"),
        Engine(options(model)),
    ):
        pass


@linux
def test_too_little_memory_is_told_from_a_bad_model(endless: Path) -> None:
    script = f"""
import resource
from pathlib import Path
from samara.runner.engine import Engine
from samara.runner.options import EngineOptions
from samara.schemas.errors import EngineError
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    with Engine(EngineOptions(model=Path({str(endless)!r}), threads=1, context=1 << 20)):
        pass
except EngineError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert (done.stderr, done.returncode) == ("", 0)
    assert "expected memory for the model and its context" in done.stdout
    assert "smaller quantisation or a shorter context" in done.stdout


def test_an_absent_model_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such model file"), Engine(options(tmp_path / "absent.gguf")):
        pass


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a GGUF file"), Engine(options(tmp_path)):
        pass


# --------------------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("prompt", "arguments"),
    [
        ("x", {"max_tokens": 0}),
        ("x", {"max_tokens": 2**31}),
        ("x", {"temperature": -0.1}),
        ("x", {"temperature": float("nan")}),
        ("\udc80", {}),
    ],
)
def test_arguments_that_cant_be_meant_are_refused_before_anything_runs(
    engine: Engine, prompt: str, arguments: dict[str, float]
) -> None:
    with pytest.raises(UsageError):
        engine.stream(prompt, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{"threads": 0}, {"threads": 513}, {"threads": 1, "context": 0}])
def test_options_that_cant_be_meant_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        EngineOptions(model=MODEL, **arguments)


@pytest.mark.parametrize(
    ("cores", "quota", "threads"),
    [(1, None, 1), (2, None, 1), (8, None, 7), (64, 4.0, 3), (64, 0.5, 1), (4096, None, 512)],
)
def test_one_core_stays_free_of_threads_that_spin(cores: int, quota: float | None, threads: int) -> None:
    assert spare_threads(cores=cores, quota=quota) == threads


def test_an_engine_outside_its_block_is_a_mistake_of_the_program() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        list(Engine(options()).stream("2+3="))


# ------------------------------------------------------------------------------------------------ the child process


@posix
def test_a_child_killed_in_mid_answer_is_an_error_not_a_short_answer(endless: Path) -> None:
    with Engine(options(endless)) as engine:
        stream = engine.stream("2+3=", raw=True, max_tokens=2000)
        next(stream)
        os.kill(engine.pid, signal.SIGKILL)

        with pytest.raises(EngineError, match="SIGKILL"):
            list(stream)

        assert engine.generation is None


@posix
def test_a_child_killed_between_answers_is_an_error(engine: Engine) -> None:
    list(engine.stream("2+3=", raw=True))
    os.kill(engine.pid, signal.SIGKILL)

    with pytest.raises(EngineError, match="SIGKILL"):
        list(engine.stream("2+3=", raw=True))


PARENT = """
import socket, sys
from pathlib import Path
from samara.runner.engine import Engine
from samara.runner.options import EngineOptions

try:
    with Engine(EngineOptions(model=Path(sys.argv[1]), threads=1)) as engine:
        stream = engine.stream("2+3=", raw=True, max_tokens=90_000)
        next(stream)
        with socket.socket(fileno=int(sys.argv[2])) as channel:
            socket.send_fds(channel, [b"answering"], [engine._process._running().stdout.fileno()])
        for piece in stream:
            pass
except KeyboardInterrupt:
    sys.exit(130)
"""


@posix
@pytest.mark.parametrize("death", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_when_the_parent_goes_the_child_goes_and_leaves_nothing_behind(endless: Path, death: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryDirectory() as temporary:  # tmp_path can be too long for a socket
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(endless), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "TMPDIR": temporary},
            start_new_session=True,
        )
        with parent:
            ours.settimeout(PATIENCE)
            told, descriptors, _, _ = socket.recv_fds(ours, 16, 1)
            assert told == b"answering"
            assert any(Path(temporary).iterdir())

            os.killpg(parent.pid, getattr(signal, death))

            with os.fdopen(descriptors[0], "rb") as pipe_of_child:
                assert select.select([pipe_of_child], [], [], PATIENCE)[0], "the child outlives its parent"
                assert pipe_of_child.read() == b""
            assert parent.wait(PATIENCE) == (130 if death == "SIGINT" else -getattr(signal, death))
        assert not any(Path(temporary).iterdir())


@linux
def test_when_the_parent_goes_while_the_model_loads_the_child_does_not_finish_loading(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    os.mkfifo(model)  # opening it waits for a writer, as a slow disk would
    config = {"model": str(model), "threads": 1, "context": 256, "key": "k", "socket": None, "chat_template": None}
    with subprocess.Popen(
        [sys.executable, "-P", engine_child.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        assert child.stdin is not None
        child.stdin.write(json.dumps(config).encode() + b"\n")
        child.stdin.flush()
        with model.open("wb"):  # returns when the child has opened its end
            child.stdin.close()

            assert child.wait(PATIENCE) == -signal.SIGIO


def test_leaving_by_an_exception_stops_the_child() -> None:
    with pytest.raises(KeyboardInterrupt), Engine(options()) as engine:
        raise KeyboardInterrupt

    with pytest.raises(RuntimeError, match="not running"):
        _ = engine.pid


def test_nothing_but_the_answer_reaches_the_standard_streams(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from samara.runner.engine import Engine
from samara.runner.options import EngineOptions
with Engine(EngineOptions(model=Path({str(MODEL)!r}), threads=1)) as engine:
    for piece in engine.stream("What is 7+8?"):
        print(piece, end="", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert (done.stdout, done.stderr, done.returncode) == ("15", "", 0)


def test_where_a_socket_path_would_be_too_long_the_engine_listens_on_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))

    with Engine(options()) as engine:
        assert list(deep.iterdir()) == []
        assert "".join(engine.stream("What is 7+8?")) == "15"


def test_nobody_without_the_key_gets_an_answer(engine: Engine) -> None:
    engine._process._key = "guessed"

    with pytest.raises(EngineError, match="Invalid API Key"):
        list(engine.stream("2+3="))


def test_an_environment_without_the_engine_names_the_command_that_installs_it(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name == "posix")
    python = next((tmp_path / "bare").glob("[bS]*/python*"))
    script = f"""
from pathlib import Path
from samara.runner.engine import Engine
from samara.runner.options import EngineOptions
from samara.schemas.errors import EngineError
try:
    with Engine(EngineOptions(model=Path({str(MODEL)!r}), threads=1)):
        pass
except EngineError as error:
    print(error)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(samara.__file__).parents[1])}
    done = subprocess.run(
        [python, "-c", script], env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    assert (done.stderr, done.returncode) == ("", 0)
    assert "No module named 'xllamacpp'" in done.stdout
    assert 'pip install "samara[run]"' in done.stdout


def test_the_child_imports_nothing_it_does_not_need() -> None:
    """Its start is part of the time to the first token."""
    config = {"model": str(MODEL), "threads": 1, "context": 256, "key": "k", "socket": None, "chat_template": None}
    with subprocess.Popen(
        [sys.executable, "-P", "-X", "importtime", engine_child.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(config) + "\n")
        child.stdin.flush()
        report = child.stdout.readline()
        _, log = child.communicate(timeout=PATIENCE)

    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in log.splitlines()}
    assert "ready" in json.loads(report)
    assert child.returncode == 0
    assert "xllamacpp" in imported
    assert not imported & {"samara", "click", "rich", "sqlalchemy", "tuf", "pydantic", "libtorrent", "numpy", "http"}
