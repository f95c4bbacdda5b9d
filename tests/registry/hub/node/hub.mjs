// One function of @huggingface/hub, as its user would call it; what it gave is printed as JSON.
//     node hub.mjs '{"call": "listFiles", "repo": "acme/tiny"}'
import { createHash } from "node:crypto";
import * as hub from "@huggingface/hub";

const { call, ...params } = JSON.parse(process.argv[2]);
params.hubUrl = process.env.HF_ENDPOINT;

const digest = (bytes) => createHash("sha256").update(new Uint8Array(bytes)).digest("hex");

async function all(generator) {
  const found = [];
  for await (const one of generator) {
    found.push(one);
  }
  return found;
}

const calls = {
  async listFiles() {
    return await all(hub.listFiles(params));
  },
  async listModels() {
    return await all(hub.listModels(params));
  },
  async listCommits() {
    return await all(hub.listCommits(params));
  },
  async downloadFile() {
    const blob = await hub.downloadFile(params);
    if (blob === null) {
      return null;
    }
    const part = await blob.slice(1000, 5000).arrayBuffer();
    return { size: blob.size, whole: digest(await blob.arrayBuffer()), part: digest(part) };
  },
};

try {
  const result = await (calls[call] ?? (() => hub[call](params)))();
  console.log(JSON.stringify(result ?? null));
} catch (error) {
  console.log(JSON.stringify({ error: error.message, status: error.statusCode }));
}
