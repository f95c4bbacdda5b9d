#!/usr/bin/env python3
"""Make the models that tests, quickstart and bench use. Everything is generated here; nothing is downloaded. CC0.

    make_models.py big OUT --preset llama-1b|256mb|3mb    standard library only, a few seconds, same bytes everywhere
    make_models.py train OUT --lora LORA                  needs torch, numpy and gguf, some minutes

`big` writes a GGUF of a real model's shape: the tensors, quantisation and header of Llama 3.2 1B as llama.cpp's Q4_0
makes it, with a made-up vocabulary of the same size and random weights of sane scale. An engine loads and runs it; what
it says is noise. No two of its blocks are equal. Tensors are written as a stream: memory is that of making the header
(60 MB), whatever the size.

`train` remakes tests/fixtures, small models that answer right; see tiny_model.py, which does it.
"""

from __future__ import annotations

import argparse
import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import shake_128
from itertools import islice, product
from pathlib import Path
from typing import BinaryIO

# --------------------------------------------------------------------------------------------------------------- shapes


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Llama with tied embeddings; head size 64."""

    name: str
    width: int
    layers: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    merges: int

    @property
    def heads(self) -> int:
        return self.width // 64


PRESETS = {
    "llama-1b": Shape(
        name="Llama 3.2 1B", width=2048, layers=16, kv_heads=8, feed_forward=8192, vocabulary=128_256, merges=280_147
    ),
    "256mb": Shape(
        name="256 MB", width=1024, layers=16, kv_heads=4, feed_forward=4224, vocabulary=128_256, merges=280_147
    ),
    "3mb": Shape(name="3 MB", width=256, layers=8, kv_heads=2, feed_forward=512, vocabulary=2_048, merges=3_000),
}


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """One ggml type, and where in its blocks the scale's high byte lies.

    Uniform random bytes would make infinities and NaN of the 16-bit scales; with their high bytes set, weights are of
    the size a trained model has (about 0.02 for the layers, 0.08 for the embeddings).
    """

    number: int
    elements: int
    size: int
    high_bytes: dict[int, int]


Q4_0 = Quantisation(number=2, elements=32, size=18, high_bytes={1: 0x1C})
Q4_1 = Quantisation(number=3, elements=32, size=20, high_bytes={1: 0x1C, 3: 0xA8})  # scale 2^-8, minimum -8 of those
Q6_K = Quantisation(number=14, elements=256, size=210, high_bytes={209: 0x04})
F32 = Quantisation(number=0, elements=1, size=4, high_bytes={2: 0x80, 3: 0x3F})  # 1.000 to 1.008, for norms


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor to write; dimensions as GGUF has them, the row length first."""

    name: str
    dimensions: tuple[int, ...]
    kind: Quantisation

    @property
    def size(self) -> int:
        return math.prod(self.dimensions) // self.kind.elements * self.kind.size


def tensors_of(shape: Shape) -> Iterator[Tensor]:
    """In llama-quantize's order and with its choice of types for Q4_0."""
    width, ff, kv = shape.width, shape.feed_forward, shape.kv_heads * 64
    yield Tensor(name="output_norm.weight", dimensions=(width,), kind=F32)
    yield Tensor(name="rope_freqs.weight", dimensions=(32,), kind=F32)
    yield Tensor(name="token_embd.weight", dimensions=(width, shape.vocabulary), kind=Q6_K)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        down = Q4_1 if layer < shape.layers // 8 else Q4_0
        yield Tensor(name=block + "attn_k.weight", dimensions=(width, kv), kind=Q4_0)
        yield Tensor(name=block + "attn_norm.weight", dimensions=(width,), kind=F32)
        yield Tensor(name=block + "attn_output.weight", dimensions=(width, width), kind=Q4_0)
        yield Tensor(name=block + "attn_q.weight", dimensions=(width, width), kind=Q4_0)
        yield Tensor(name=block + "attn_v.weight", dimensions=(width, kv), kind=Q4_0)
        yield Tensor(name=block + "ffn_down.weight", dimensions=(ff, width), kind=down)
        yield Tensor(name=block + "ffn_gate.weight", dimensions=(width, ff), kind=Q4_0)
        yield Tensor(name=block + "ffn_norm.weight", dimensions=(width,), kind=F32)
        yield Tensor(name=block + "ffn_up.weight", dimensions=(width, ff), kind=Q4_0)


# --------------------------------------------------------------------------------------------------------------- header

ALIGNMENT = 32
UINT32, INT32, FLOAT32, STRING, ARRAY = 4, 5, 6, 8, 9
NORMAL, CONTROL = 1, 3

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)


def string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def key(name: str, kind: int, value: bytes | bytearray) -> bytes:
    return string(name) + struct.pack("<I", kind) + value


def text_key(name: str, value: str) -> bytes:
    return key(name, STRING, string(value))


def number_key(name: str, value: int) -> bytes:
    return key(name, UINT32, struct.pack("<I", value))


def float_key(name: str, value: float) -> bytes:
    return key(name, FLOAT32, struct.pack("<f", value))


def strings_key(name: str, values: Iterable[str], count: int) -> bytes:
    body = bytearray(struct.pack("<IQ", STRING, count))
    for value in values:
        body += string(value)
    return key(name, ARRAY, body)


def integers_key(name: str, values: list[int]) -> bytes:
    return key(name, ARRAY, struct.pack(f"<IQ{len(values)}i", INT32, len(values), *values))


def byte_letters() -> list[str]:
    """The letters that stand for the 256 bytes in GPT-2's byte-level vocabulary: itself where it prints."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(printing)]
    letters = {byte: chr(byte) for byte in printing} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    return [letters[byte] for byte in range(256)]


def words() -> Iterator[str]:
    """Endless distinct made-up words, short ones first, with and without a space in front."""
    syllables = ["".join(pair) for pair in product("bdklmnrs", "aeio")]
    for length in range(1, 9):
        for parts in product(syllables, repeat=length):
            word = "".join(parts)
            yield word
            yield "\u0120" + word


def vocabulary(shape: Shape) -> tuple[list[str], list[int], Iterator[str]]:
    """Tokens, their types, and merges, which are distinct ways to put the words together, the longest first."""
    letters = byte_letters()
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    special += [f"<|reserved_special_token_{i}|>" for i in range(256 - len(special))]
    ordinary = list(islice(words(), shape.vocabulary - len(letters) - len(special)))
    types = [NORMAL] * (len(letters) + len(ordinary)) + [CONTROL] * len(special)
    merges = (f"{word[:cut]} {word[cut:]}" for word in reversed(ordinary) for cut in range(1, len(word)))
    return letters + ordinary + special, types, islice(merges, shape.merges)


def header_of(shape: Shape, tensors: list[Tensor]) -> bytes:
    """Everything up to the tensor data, padding included."""
    tokens, types, merges = vocabulary(shape)
    special = len(tokens) - 256
    keys = [
        text_key("general.architecture", "llama"),
        text_key("general.type", "model"),
        text_key("general.name", f"Samara noise, the shape of {shape.name}"),
        text_key("general.license", "CC0-1.0"),
        number_key("llama.block_count", shape.layers),
        number_key("llama.context_length", 131_072),
        number_key("llama.embedding_length", shape.width),
        number_key("llama.feed_forward_length", shape.feed_forward),
        number_key("llama.attention.head_count", shape.heads),
        number_key("llama.attention.head_count_kv", shape.kv_heads),
        float_key("llama.rope.freq_base", 500_000.0),
        float_key("llama.attention.layer_norm_rms_epsilon", 1e-5),
        number_key("llama.attention.key_length", 64),
        number_key("llama.attention.value_length", 64),
        number_key("llama.vocab_size", len(tokens)),
        number_key("llama.rope.dimension_count", 64),
        text_key("tokenizer.ggml.model", "gpt2"),
        text_key("tokenizer.ggml.pre", "llama-bpe"),
        strings_key("tokenizer.ggml.tokens", tokens, len(tokens)),
        integers_key("tokenizer.ggml.token_type", types),
        strings_key("tokenizer.ggml.merges", merges, shape.merges),
        number_key("tokenizer.ggml.bos_token_id", special),
        number_key("tokenizer.ggml.eos_token_id", special + 4),
        text_key("tokenizer.chat_template", CHAT_TEMPLATE),
        number_key("general.quantization_version", 2),
        number_key("general.file_type", 2),
    ]
    infos = []
    offset = 0
    for tensor in tensors:
        rank = len(tensor.dimensions)
        infos.append(
            string(tensor.name) + struct.pack(f"<I{rank}QIQ", rank, *tensor.dimensions, tensor.kind.number, offset)
        )
        offset += padded(tensor.size)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys)) + b"".join(keys) + b"".join(infos)
    return head.ljust(padded(len(head)), b"\0")


def padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


# -------------------------------------------------------------------------------------------------------------- tensors

CHUNK = 832 * 1260  # bytes drawn at a time: about 1 MiB, and whole blocks of every type above


class Noise:
    """Cheap random-looking bytes: one pool of them, each time with the 256 byte values exchanged in another way.

    A hash makes both pool and exchanges, because Python's generators may change between versions.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._pool = self._stream("pool", CHUNK)
        self._drawn = 0

    def draw(self, size: int) -> bytearray:
        self._drawn += 1
        order = struct.unpack("<256Q", self._stream(f"exchange {self._drawn}", 256 * 8))
        exchange = bytes(sorted(range(256), key=order.__getitem__))
        return bytearray(self._pool[:size].translate(exchange))

    def _stream(self, name: str, size: int) -> bytes:
        return shake_128(f"samara noise {self._seed} {name}".encode()).digest(size)


def tensor_bytes(tensor: Tensor, noise: Noise) -> Iterator[bytearray]:
    """The tensor's bytes in chunks of whole quantisation blocks."""
    block = tensor.kind.size
    for at in range(0, tensor.size, CHUNK):
        chunk = noise.draw(min(CHUNK, tensor.size - at))
        for place, value in tensor.kind.high_bytes.items():
            chunk[place::block] = bytes([value]) * (len(chunk) // block)
        yield chunk


def write_big(out: BinaryIO, shape: Shape, seed: int = 0) -> int:
    """Write the model; its size in bytes."""
    tensors = list(tensors_of(shape))
    noise = Noise(seed)
    size = out.write(header_of(shape, tensors))
    for tensor in tensors:
        for chunk in tensor_bytes(tensor, noise):
            size += out.write(chunk)
        size += out.write(bytes(padded(tensor.size) - tensor.size))
    return size


# --------------------------------------------------------------------------------------------------------- command line


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    big = commands.add_parser("big", help="a GGUF of a real model's shape with random weights")
    big.add_argument("out", type=Path)
    big.add_argument("--preset", choices=PRESETS, default="llama-1b")
    big.add_argument("--seed", type=int, default=0)
    tiny = commands.add_parser("train", help="the trained fixtures; needs torch, numpy and gguf")
    tiny.add_argument("out", type=Path)
    tiny.add_argument("--lora", type=Path, help="also train an adapter and write it here")
    tiny.add_argument("--steps", type=int, default=1000)
    chosen = parser.parse_args()
    if chosen.command == "train":
        from tiny_model import train

        train(chosen.out, chosen.lora, chosen.steps)
        return
    with chosen.out.open("wb") as out:
        size = write_big(out, PRESETS[chosen.preset], chosen.seed)
    print(f"{chosen.out}: {size:,} bytes")


if __name__ == "__main__":
    main()
