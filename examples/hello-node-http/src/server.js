// Greets whoever calls: a web server of Node's own library, with a line in the log.

const http = require("node:http");

async function answer(request, response) {
  response.setHeader("Content-Type", "text/plain; charset=utf-8");
  if (request.url === "/healthz") return response.end("ok\n");

  const body = [];
  for await (const chunk of request) body.push(chunk);
  const name = Buffer.concat(body).toString().trim() || "world";

  // What a function prints is its log: `coracle logs hello-node-http`.
  console.log(`greeting ${name}`);

  response.end(`Hello, ${name}!\n`);
}

// What goes wrong with one call, as a caller who leaves in the middle, must not end the others.
const server = http.createServer((request, response) => {
  answer(request, response).catch((error) => response.destroy(error));
});

server.listen(process.env.PORT || 8080);
process.on("SIGTERM", () => server.close(() => process.exit(0)));
