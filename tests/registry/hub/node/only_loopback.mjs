// Loaded before a client (node --import): it can reach nothing but this machine.
import net from "node:net";

const connect = net.Socket.prototype.connect;

net.Socket.prototype.connect = function (...given) {
  const options = Array.isArray(given[0]) ? given[0][0] : given[0];
  const host = typeof options === "object" ? (options.host ?? "localhost") : (given[1] ?? "localhost");
  if (host !== "127.0.0.1") {
    console.error(`OUTSIDE ${host}`);
    throw new Error(`a test may not reach ${host}`);
  }
  return connect.apply(this, given);
};
