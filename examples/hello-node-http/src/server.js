// Greets whoever calls: a web server of Node's own library, with a line in the log.

const http = require("node:http");

const server = http.createServer(async (request, response) => {
  response.setHeader("Content-Type", "text/plain; charset=utf-8");
  if (request.url === "/healthz") return response.end("ok\n");

  const body = [];
  for await (const chunk of request) body.push(chunk);
  const name = Buffer.concat(body).toString().trim() || "world";

  // What a function prints is its log: `coracle logs hello-node-http`.
  console.log(`greeting ${name}`);

  response.end(`Hello, ${name}!\n`);
});

server.listen(process.env.PORT || 8080);
process.on("SIGTERM", () => server.close(() => process.exit(0)));
