"""llama.cpp as `llama-server -hf REPOSITORY[:QUANTISATION] [-hff FILE]`: its own code asks, downloads and loads; then
the model adds two numbers. Run by test_hub_llama; xllamacpp has llama.cpp's server and downloader inside.

    llama_driver.py acme/tiny [tiny.gguf]
"""

from __future__ import annotations

import json
import sys

import xllamacpp


def main() -> None:
    """Print what the model says."""
    params = xllamacpp.CommonParams()
    params.model.path = "unused"  # xllamacpp wants one; what is downloaded takes its place
    params.model.hf_repo = sys.argv[1]
    params.model.hf_file = sys.argv[2] if len(sys.argv) > 2 else ""
    params.n_gpu_layers = 0
    params.warmup = False
    params.n_ctx = 256
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    said = server.handle_completions({"prompt": "2+3=", "max_tokens": 1, "temperature": 0})
    print(json.dumps(said["choices"][0]["text"]))


if __name__ == "__main__":
    main()
