// The WebSocket protocols on Bun's own server.
const [protocol, hostname, port, peer] = process.argv.slice(2);
const fanout = protocol === "ws-fanout";
const window = protocol === "ws-deflate" ? "4KB" : "shared";

function echo(ws, message) {
  ws.send(message, true);
}

function broadcast(ws, message) {
  const text = typeof message === "string";
  const kind = text ? message.charCodeAt(0) : message[0];
  if (message.length === 1 && kind === 83) {
    ws.subscribe("all");
    ws.send(message, true);
  } else if (kind === 80) {
    server.publish("all", text ? message.slice(1) : message.subarray(1), true);
  } else {
    ws.close(1008);
  }
}

const server = Bun.serve({
  hostname,
  port: Number(port),
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response("a WebSocket is asked for", { status: 426 });
  },
  websocket: {
    perMessageDeflate: { compress: window, decompress: window },
    maxPayloadLength: 16 << 20,
    backpressureLimit: 64 << 20,
    idleTimeout: 0,
    message: fanout ? broadcast : echo,
  },
});

Bun.gc(true); // As the Go peers do: memory is measured from a heap that was collected.
console.log(`listening on tcp://${hostname}:${server.port} peer=${peer}`);
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit(0));
