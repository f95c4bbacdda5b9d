"""The engine: a GGUF file's model, ready to answer, as a context manager.

    with Engine(EngineOptions(model=path)) as engine:
        for piece in engine.stream("What is 7+8?"):
            print(piece, end="", flush=True)
    engine.generation.finish_reason

Owns the decisions: chat template or raw prompt, how much context, what an answer is. The process behind it is
`process.EngineProcess`. Doesn't resolve references, verify bytes or print.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from samara.runner.options import DEFAULT_CONTEXT, DEFAULT_MAX_TOKENS, DEFAULT_TEMPERATURE, EngineOptions, Generation
from samara.runner.process import EngineProcess, LoadRefused, Refused
from samara.schemas.errors import EngineError, NotFoundError, UsageError

__all__ = ["Engine"]

_TOO_LONG = "exceed_context_size_error"
_CONTEXT_STEP = 256
_INT32_MAX = 2**31 - 1

_KEY = b"tokenizer.chat_template"
_GGUF_STRING = 8
_TEMPLATE_MARK = struct.pack("<Q", len(_KEY)) + _KEY + struct.pack("<I", _GGUF_STRING)
_TEMPLATE_WITHIN = 64 << 20  # a 256k-token vocabulary's header takes 16 MB


class Engine:
    """One loaded model. Enter it to start the child process; leaving stops it, whatever was going on.

    Not for use by several threads at once. After Ctrl-C, or an error, leaving is all that is needed.
    """

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.raw_reason: str | None = None
        """Why prompts go in as they are although chat was asked for; None while the model's chat template is used.
        Known once the engine is entered."""
        self.generation: Generation | None = None
        """The last answer that was read to its end."""
        self.seconds_to_ready = 0.0
        """From entering until the model was loaded."""
        self._process = EngineProcess(options.model)

    @property
    def pid(self) -> int:
        """Of the child process."""
        return self._process.pid

    def __enter__(self) -> Self:
        started = time.monotonic()
        _check_readable(self.options.model)
        self._start(self.options.context or DEFAULT_CONTEXT)
        self.seconds_to_ready = time.monotonic() - started
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.close()

    def _start(self, context: int) -> None:
        name = self.options.model.name
        try:
            self._load(context, chat_template=None)
        except LoadRefused as refusal:
            if "template" not in refusal.reason:
                raise
            # llama.cpp loads no model whose template it can't parse, unless it is told to use another one.
            self._load(context, chat_template="chatml")
            self.raw_reason = f"the chat template of {name} can't be used ({refusal.reason})"

    def _load(self, context: int, *, chat_template: str | None) -> None:
        def meanwhile() -> None:  # what can be done while the child boots costs no time
            import http.client  # noqa: F401

            if not _has_chat_template(self.options.model):
                self.raw_reason = f"{self.options.model.name} has no chat template"

        self._process = EngineProcess(self.options.model)
        self._process.start(
            meanwhile,
            model=str(self.options.model.absolute()),
            threads=self.options.threads,
            context=context,
            chat_template=chat_template,
        )

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = DEFAULT_MAX_TOKENS,
        temperature: float = DEFAULT_TEMPERATURE,
        raw: bool = False,
    ) -> Generator[str, None, None]:
        """Yield the answer piece by piece; afterwards `generation` tells about it.

        The prompt is one user message in the model's chat template. With `raw`, or when there is none (`raw_reason`),
        the model continues the prompt itself. What a reasoning model thinks is part of its text.

        Closing the generator stops the generation, not the engine. UsageError: an argument that can't be meant, or
        a prompt longer than the model's context. EngineError: the engine refused or died.
        """
        if not 1 <= max_tokens <= _INT32_MAX:
            raise UsageError("number of tokens to generate", expected="at least 1", actual=max_tokens)
        if not (math.isfinite(temperature) and temperature >= 0):
            raise UsageError("temperature", expected="0 or more", actual=temperature)
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            raise UsageError("the prompt", expected="valid UTF-8 text", actual=f"{error.reason}") from error
        return self._answer(
            prompt, max_tokens=max_tokens, temperature=temperature, raw=raw or self.raw_reason is not None
        )

    def _answer(self, prompt: str, *, max_tokens: int, temperature: float, raw: bool) -> Generator[str, None, None]:
        path, body = ("/v1/completions", {"prompt": prompt}) if raw else ("/v1/chat/completions", _chat(prompt))
        body |= {"max_tokens": max_tokens, "temperature": temperature, "stream_options": {"include_usage": True}}
        try:
            yield from self._pieces(path, body, raw=raw)
        except Refused as refusal:
            self._make_room(refusal, max_tokens)
        else:
            return
        try:
            yield from self._pieces(path, body, raw=raw)
        except Refused as refusal:
            raise _translated(refusal) from refusal

    def _make_room(self, refusal: Refused, max_tokens: int) -> None:
        """Start again with a context that holds prompt and answer, where the context's length was left to us."""
        if refusal.kind != _TOO_LONG or self.options.context is not None:
            raise _translated(refusal) from refusal
        needed = int(refusal.details["n_prompt_tokens"]) + max_tokens
        self._process.close()
        self._start(min(_INT32_MAX, math.ceil(needed / _CONTEXT_STEP) * _CONTEXT_STEP))

    def _pieces(self, path: str, body: dict[str, object], *, raw: bool) -> Generator[str, None, None]:
        asked = time.monotonic()
        first: float | None = None
        text: list[str] = []
        finish, usage, timings = "", {}, {}
        for event in self._process.events(path, body):
            usage, timings = event.get("usage", usage), event.get("timings", timings)
            for choice in event["choices"]:
                finish = choice.get("finish_reason") or finish
                piece = choice["text"] if raw else choice["delta"].get("content")
                if piece:
                    if first is None:
                        first = time.monotonic()
                    text.append(piece)
                    yield piece
        tokens = int(usage.get("completion_tokens", 0))
        self.generation = Generation(
            text="".join(text),
            tokens=tokens,
            prompt_tokens=int(usage.get("prompt_tokens", 0)),
            seconds_to_first_token=(first or time.monotonic()) - asked,
            tokens_per_second=float(timings["predicted_per_second"]) if tokens > 1 and timings else None,
            finish_reason=finish,
            raw=raw,
        )


def _chat(prompt: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": prompt}], "reasoning_format": "none"}


def _translated(refusal: Refused) -> EngineError | UsageError:
    if refusal.kind == _TOO_LONG:
        return UsageError(
            "the prompt is too long",
            expected=f"at most {refusal.details['n_ctx']} tokens",
            actual=refusal.details["n_prompt_tokens"],
            next_step="shorten it, or use a longer context if the model has one",
        )
    return EngineError("the engine refused the prompt", actual=str(refusal), next_step="try --raw, or another model")


def _check_readable(model: Path) -> None:
    try:
        with model.open("rb"):
            pass
    except FileNotFoundError as error:
        raise NotFoundError("no such model file", actual=model) from error
    except IsADirectoryError as error:
        raise UsageError("the model", expected="a GGUF file", actual=f"the folder {model}") from error
    except OSError as error:
        raise EngineError(f"{model} can't be read", actual=error.strerror, next_step="check its permissions") from error


def _has_chat_template(model: Path) -> bool:
    """Whether the header holds a template that isn't empty.

    llama.cpp silently formats as ChatML when there is none, and doesn't tell. The key's encoding (length, name, type:
    35 bytes) is looked for instead of walking a header of half a million strings: a few milliseconds.
    """
    window = b""
    with model.open("rb") as file:
        while file.tell() < _TEMPLATE_WITHIN and (chunk := file.read(4 << 20)):
            window = window[-len(_TEMPLATE_MARK) - 8 :] + chunk
            at = window.find(_TEMPLATE_MARK)
            if at >= 0:
                end = at + len(_TEMPLATE_MARK)
                return any(window[end : end + 8])
    return False
