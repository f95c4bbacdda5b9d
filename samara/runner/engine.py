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
import os
import stat
import struct
import time
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from samara.runner.options import DEFAULT_CONTEXT, DEFAULT_MAX_TOKENS, DEFAULT_TEMPERATURE, EngineOptions, Generation
from samara.runner.process import LOAD, MORE_MEMORY, EngineProcess, Refused, check_file
from samara.schemas.errors import EngineError, NotFoundError, SamaraError, UsageError

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
        self._context = 0
        self._process = EngineProcess(options.model)

    @property
    def pid(self) -> int:
        """Of the child process."""
        return self._process.pid

    def __enter__(self) -> Self:
        started = time.monotonic()
        _check_readable(self.options.model)
        try:
            self._start(self.options.context or DEFAULT_CONTEXT)
        except Refused as refusal:
            raise self._translated(refusal) from refusal
        self.seconds_to_ready = time.monotonic() - started
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.close()

    def _start(self, context: int) -> None:
        """Load the model with a context of so many tokens; a new process each time."""
        self._process.close()
        self._context = context
        try:
            self._load(chat_template=None)
        except Refused as refusal:
            if "template" not in str(refusal):
                raise
            # llama.cpp loads no model whose template it can't parse, unless it is told to use another one.
            self._load(chat_template="chatml")
            self.raw_reason = f"the chat template of {self.options.model.name} can't be used ({refusal})"

    def _load(self, *, chat_template: str | None) -> None:
        self._process = EngineProcess(self.options.model)
        self._process.start(
            self._while_it_boots,
            model=str(self.options.model.absolute()),
            threads=self.options.threads,
            context=self._context,
            chat_template=chat_template,
        )

    def _while_it_boots(self) -> None:
        import http.client  # noqa: F401  (takes time that is free here)

        if not _has_chat_template(self.options.model):
            self.raw_reason = f"{self.options.model.name} has no chat template"

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
        path = "/v1/completions" if raw else "/v1/chat/completions"
        body = {"prompt": prompt} if raw else _chat(prompt)
        body |= {"max_tokens": max_tokens, "temperature": temperature, "stream_options": {"include_usage": True}}
        try:
            if max_tokens > self._context // 2:
                self._make_room(max_tokens + DEFAULT_CONTEXT)
            try:
                yield from self._pieces(path, body, raw=raw)
            except Refused as refusal:
                needed = int(refusal.details.get("n_prompt_tokens", 0)) + max_tokens
                if refusal.kind != _TOO_LONG or not self._make_room(needed):
                    raise
                yield from self._pieces(path, body, raw=raw)
        except Refused as refusal:
            raise self._translated(refusal) from refusal

    def _make_room(self, tokens: int) -> bool:
        """Start again with a context of so many tokens, if its length was left to us and the model has more."""
        if self.options.context is not None:
            return False
        trained = int(self._process.facts("/v1/models")["data"][0]["meta"]["n_ctx_train"])
        wanted = min(trained, math.ceil(tokens / _CONTEXT_STEP) * _CONTEXT_STEP)
        if wanted <= self._context:
            return False
        self._start(wanted)
        return True

    def _pieces(self, path: str, body: dict[str, object], *, raw: bool) -> Generator[str, None, None]:
        asked = time.monotonic()
        first: float | None = None
        text: list[str] = []
        finish = ""
        usage: dict[str, Any] = {}
        timings: dict[str, Any] = {}
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

    def _translated(self, refusal: Refused) -> SamaraError:
        model = self.options.model
        if refusal.kind == _TOO_LONG:
            return UsageError(
                "the prompt is too long",
                expected=f"at most {refusal.details['n_ctx']} tokens",
                actual=refusal.details["n_prompt_tokens"],
                next_step="shorten it, or take a model with a longer context",
            )
        if refusal.kind == LOAD:
            memory = "alloc" in str(refusal)
            return EngineError(
                f"the engine can't load {model.name}",
                expected="memory for the model and its context" if memory else "a GGUF model it knows",
                actual=refusal,
                next_step=MORE_MEMORY if memory else check_file(model),
            )
        return EngineError("the engine refused the prompt", actual=refusal, next_step="pass it as it is: --raw")


def _chat(prompt: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": prompt}], "reasoning_format": "none"}


def _check_readable(model: Path) -> None:
    try:
        if not stat.S_ISREG(model.stat().st_mode):
            raise UsageError("the model", expected="a GGUF file", actual=f"{model}, which is none")
        with model.open("rb"):
            pass
    except FileNotFoundError as error:
        raise NotFoundError("no such model file", actual=model) from error
    except OSError as error:
        raise EngineError(f"{model} can't be read", actual=error.strerror, next_step="check its permissions") from error


def _has_chat_template(model: Path) -> bool:
    """Whether the header holds a template that isn't empty.

    llama.cpp silently formats as ChatML when there is none, and doesn't tell. The key's encoding (length, name, type:
    35 bytes) is looked for instead of walking a header of half a million strings: a few milliseconds.
    """
    tail = b""
    with model.open("rb") as file:
        while file.tell() < _TEMPLATE_WITHIN and (chunk := file.read(4 << 20)):
            window = tail + chunk
            at = window.find(_TEMPLATE_MARK)
            if at >= 0:
                file.seek(at + len(_TEMPLATE_MARK) - len(window), os.SEEK_CUR)
                return any(file.read(8))  # the text's length
            tail = window[-len(_TEMPLATE_MARK) :]
    return False
