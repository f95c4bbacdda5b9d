// transformers.js loads a tokenizer and a config by its own means; node transformers.mjs REPOSITORY [REVISION]
import { AutoConfig, AutoTokenizer, env } from "@huggingface/transformers";

env.remoteHost = process.env.HF_ENDPOINT;
env.allowLocalModels = false;
env.cacheDir = "./transformers-cache";

const [, , repository, revision = "main"] = process.argv;
try {
  const config = await AutoConfig.from_pretrained(repository, { revision });
  const seen = [];
  const tokenizer = await AutoTokenizer.from_pretrained(repository, {
    revision,
    progress_callback: (told) => seen.push(told),
  });
  const totals = Object.fromEntries(seen.filter((one) => one.status === "progress").map((one) => [one.file, one.total]));
  console.log(
    JSON.stringify({ ids: tokenizer.encode("The seed flies away"), type: config.model_type, size: config.hidden_size, totals }),
  );
} catch (error) {
  console.log(JSON.stringify({ error: error.message }));
}
