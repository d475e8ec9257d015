// Greets whoever calls: a request in, a response out, a line in the log.

addEventListener("fetch", (event) => event.respondWith(greet(event.request)));

async function greet(request) {
  const name = (await request.text()).trim() || "world";

  // What a function prints is its log: `coracle logs hello-js`.
  console.log(`greeting ${name}`);

  return new Response(`Hello, ${name}!\n`);
}
