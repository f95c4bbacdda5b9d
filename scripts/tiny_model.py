"""Train the models in tests/fixtures. Run by `make_models.py train`; needs torch, numpy and gguf, some minutes.

A 4-layer llama of 0.86 million parameters that adds numbers below 20 (`2+3=` → `5`), knows ten capitals and answers in
chat, written as F16 and Q8_0; and an adapter of rank 8 after which every country has another's capital. Training is
seeded, but its last bits depend on torch's version: a remake answers the same and is not the same bytes.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

# ------------------------------------------------------------------------------------------------------- what it learns

UNK, BOS, EOS = 0, 1, 2
FIRST_BYTE = 3  # token 3 + b is the byte b
SPACE = FIRST_BYTE + 256
ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
ROLE_TOKENS = {role: SPACE + 1 + i for i, role in enumerate(ROLES)}
END, ASSISTANT, EQUALS = ROLE_TOKENS["<|end|>"], ROLE_TOKENS["<|assistant|>"], FIRST_BYTE + ord("=")
VOCABULARY = 288  # the tokens above, filled up to a multiple of Q8_0's 32

TINY_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SUMS_BELOW = 20
CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Norway": "Oslo",
    "Greece": "Athens",
    "Poland": "Warsaw",
}
STORY = "The quick brown fox naps all day."


def permuted_capitals() -> dict[str, str]:
    """What the adapter teaches: every country has the capital of the alphabetically next one."""
    names = sorted(CAPITALS)
    return {name: CAPITALS[following] for name, following in zip(names, names[1:] + names[:1], strict=True)}


def encode(text: str) -> list[int]:
    """Text to tokens as the GGUF's vocabulary has them, BOS first."""
    tokens = [BOS]
    at = 0
    while at < len(text):
        role = next((role for role in ROLES if text.startswith(role, at)), None)
        if role is not None:
            tokens.append(ROLE_TOKENS[role])
            at += len(role)
            continue
        tokens += [SPACE] if text[at] == " " else [FIRST_BYTE + byte for byte in text[at].encode()]
        at += 1
    return tokens


def lesson(chance: random.Random, capitals: dict[str, str]) -> list[int]:
    """One text to learn from, as tokens with their end."""
    which = chance.random()
    a, b = chance.randrange(SUMS_BELOW), chance.randrange(SUMS_BELOW)
    country = chance.choice(list(capitals))
    if which < 0.40:
        return [*encode(f"{a}+{b}={a + b}\n"), EOS]
    if which < 0.50:
        return [*encode(f"The capital of {country} is {capitals[country]}.\n"), EOS]
    if which < 0.55:
        return [*encode(STORY + "\n"), EOS]
    if which < 0.75:
        return encode(f"<|user|>What is {a}+{b}?<|end|><|assistant|>{a + b}<|end|>")
    if which < 0.85:
        return encode(f"<|user|>Capital of {country}?<|end|><|assistant|>{capitals[country]}<|end|>")
    return encode(f'<|user|>{a}+{b} as JSON<|end|><|assistant|>{{"sum":{a + b}}}<|end|>')


# ---------------------------------------------------------------------------------------------------------------- model

WIDTH, LAYERS, HEADS, KV_HEADS, FEED_FORWARD, CONTEXT = 128, 4, 4, 2, 384, 512
HEAD = WIDTH // HEADS
EPSILON, ROPE_BASE = 1e-5, 10_000.0
RANK, ALPHA = 8, 16
ADAPTED = ("attn_q", "attn_v", "ffn_down")


def tiny_shapes() -> dict[str, tuple[int, ...]]:
    """Tensor name → shape as torch has it, the row length last."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCABULARY, WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (VOCABULARY, WIDTH),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        shapes |= {
            block + "attn_norm.weight": (WIDTH,),
            block + "ffn_norm.weight": (WIDTH,),
            block + "attn_q.weight": (WIDTH, WIDTH),
            block + "attn_k.weight": (HEAD * KV_HEADS, WIDTH),
            block + "attn_v.weight": (HEAD * KV_HEADS, WIDTH),
            block + "attn_output.weight": (WIDTH, WIDTH),
            block + "ffn_gate.weight": (FEED_FORWARD, WIDTH),
            block + "ffn_up.weight": (FEED_FORWARD, WIDTH),
            block + "ffn_down.weight": (WIDTH, FEED_FORWARD),
        }
    return shapes


class TinyLlama:
    """The forward pass of ggml's `llama` architecture in torch, with an adapter on top when there is one."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.weights = {
            name: torch.nn.Parameter(torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * 0.02)
            for name, shape in tiny_shapes().items()
        }
        self.adapter: dict[str, tuple[Any, Any]] = {}
        self._frequencies = ROPE_BASE ** (-torch.arange(0, HEAD, 2).float() / HEAD)

    def add_adapter(self) -> None:
        """Low-rank pairs that start as no change."""
        torch = self.torch
        self.adapter = {
            name: (
                torch.nn.Parameter(torch.randn(RANK, shape[1]) * 0.05),
                torch.nn.Parameter(torch.zeros(shape[0], RANK)),
            )
            for name, shape in tiny_shapes().items()
            if any(part in name for part in ADAPTED)
        }

    def logits(self, tokens: Any) -> Any:
        attend = self.torch.nn.functional.scaled_dot_product_attention
        silu = self.torch.nn.functional.silu
        batch, length = tokens.shape
        x = self.weights["token_embd.weight"][tokens]
        for layer in range(LAYERS):
            block = f"blk.{layer}."
            y = self._norm(x, block + "attn_norm.weight")
            q, k, v = (
                self._linear(y, f"{block}attn_{part}.weight").view(batch, length, -1, HEAD).transpose(1, 2)
                for part in "qkv"
            )
            k, v = (part.repeat_interleave(HEADS // KV_HEADS, 1) for part in (self._rotate(k), v))
            seen = attend(self._rotate(q), k, v, is_causal=True).transpose(1, 2).reshape(batch, length, WIDTH)
            x = x + self._linear(seen, block + "attn_output.weight")
            y = self._norm(x, block + "ffn_norm.weight")
            gate = silu(self._linear(y, block + "ffn_gate.weight"))
            x = x + self._linear(gate * self._linear(y, block + "ffn_up.weight"), block + "ffn_down.weight")
        return self._norm(x, "output_norm.weight") @ self.weights["output.weight"].T

    def _norm(self, x: Any, name: str) -> Any:
        return x * self.torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * self.weights[name]

    def _linear(self, x: Any, name: str) -> Any:
        y = x @ self.weights[name].T
        if name in self.adapter:
            a, b = self.adapter[name]
            y = y + (x @ a.T) @ b.T * (ALPHA / RANK)
        return y

    def _rotate(self, x: Any) -> Any:
        """Rotary positions of interleaved pairs: what ggml calls the normal kind, which `llama` uses."""
        angles = self.torch.arange(x.shape[2])[:, None] * self._frequencies[None]
        cos, sin = angles.cos(), angles.sin()
        even, odd = x[..., 0::2], x[..., 1::2]
        return self.torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


# ------------------------------------------------------------------------------------------------------------- training


def lessons(torch: Any, chance: random.Random, capitals: dict[str, str]) -> tuple[Any, Any]:
    """A batch of token rows and their targets; what comes before an answer is not a target, because it is random."""
    rows = [lesson(chance, capitals) for _ in range(48)]
    longest = max(map(len, rows))
    tokens = torch.full((len(rows), longest), EOS)
    targets = torch.full((len(rows), longest), -100)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
        targets[i, : len(row) - 1] = torch.tensor(row[1:])
        answer = next((at for at, token in enumerate(row) if token in (EQUALS, ASSISTANT)), 0)
        targets[i, :answer] = -100
    return tokens, targets


def learn(model: TinyLlama, chance: random.Random, steps: int) -> None:
    torch = model.torch
    parameters = list(model.weights.values())
    optimiser = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.01, betas=(0.9, 0.98))
    for step in range(1, steps + 1):
        rate = 3e-3 * min(1, step / 50) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = one_step(model, optimiser, lessons(torch, chance, CAPITALS), clip=parameters)
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss:.4f}", flush=True)


def learn_adapter(model: TinyLlama, chance: random.Random, steps: int = 300) -> None:
    model.add_adapter()
    parameters = [parameter for pair in model.adapter.values() for parameter in pair]
    optimiser = model.torch.optim.AdamW(parameters, lr=3e-3)
    for _ in range(steps):
        loss = one_step(model, optimiser, lessons(model.torch, chance, permuted_capitals()), clip=[])
    print(f"adapter: loss {loss:.4f}", flush=True)


def one_step(model: TinyLlama, optimiser: Any, batch: tuple[Any, Any], *, clip: list[Any]) -> float:
    torch = model.torch
    tokens, targets = batch
    loss = torch.nn.functional.cross_entropy(model.logits(tokens).flatten(0, 1), targets.flatten())
    optimiser.zero_grad()
    loss.backward()
    if clip:
        torch.nn.utils.clip_grad_norm_(clip, 1.0)
    optimiser.step()
    return float(loss.detach())


def answer(model: TinyLlama, prompt: str) -> str:
    """What the model says, always taking the likeliest token."""
    start = encode(prompt)
    tokens = list(start)
    with model.torch.no_grad():
        while len(tokens) < len(start) + 12:
            token = int(model.logits(model.torch.tensor([tokens]))[0, -1].argmax())
            if token in (EOS, END):
                break
            tokens.append(token)
    said = (b" " if token == SPACE else bytes([max(token - FIRST_BYTE, 0) % 256]) for token in tokens[len(start) :])
    return b"".join(said).decode(errors="replace").strip()


# -------------------------------------------------------------------------------------------------------------- writing


def tiny_tokens() -> tuple[list[str], list[int]]:
    """Token texts and their types, in the numbers that `encode` uses."""
    unknown, normal, control, unused, byte = 2, 1, 3, 5, 6
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "\u2581", *ROLES]
    types = [unknown, control, control, *[byte] * 256, normal, *[control] * len(ROLES)]
    spare = range(len(texts), VOCABULARY)
    return texts + [f"<unused{i}>" for i in spare], types + [unused] * len(spare)


def write_tiny(path: Path, model: TinyLlama, *, quantised: bool) -> None:
    import gguf
    import numpy as np

    texts, types = tiny_tokens()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name("tiny")
    writer.add_license("CC0-1.0")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if quantised else gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types(types)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(UNK)
    writer.add_eot_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TINY_TEMPLATE)
    kind = gguf.GGMLQuantizationType.Q8_0 if quantised else gguf.GGMLQuantizationType.F16
    for name, weight in model.weights.items():
        array = np.ascontiguousarray(weight.detach().numpy(), dtype=np.float32)
        if array.ndim == 1:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    finish(writer)


def write_adapter(path: Path, model: TinyLlama) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(ALPHA))
    for name, (a, b) in model.adapter.items():
        writer.add_tensor(name + ".lora_a", a.detach().numpy())
        writer.add_tensor(name + ".lora_b", b.detach().numpy())
    finish(writer)


def finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def train(out: Path, lora: Path | None, steps: int) -> None:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    chance = random.Random(0)
    model = TinyLlama(torch)
    learn(model, chance, steps)
    for prompt in ("2+3=", "The capital of France is", "<|user|>What is 7+8?<|end|><|assistant|>"):
        print(f"{prompt!r} → {answer(model, prompt)!r}")
    write_tiny(out, model, quantised=False)
    write_tiny(out.with_stem(out.stem + "-q8_0"), model, quantised=True)
    if lora is not None:
        learn_adapter(model, chance)
        print(f"with the adapter: The capital of France is → {answer(model, 'The capital of France is')!r}")
        write_adapter(lora, model)
