// Fetches what `?url=` names, and passes on the answer, if `outbound` in coracle.toml allows the host.

addEventListener("fetch", (event) => event.respondWith(relay(event.request)));

async function relay(request) {
  const url = new URL(request.url).searchParams.get("url");
  if (!url) {
    return new Response("say what to fetch: ?url=https://example.com\n", { status: 400 });
  }
  try {
    const { status, headers, body } = await fetch(url);
    console.log(`${url} answered ${status}`);
    return new Response(body, { status, headers: { "content-type": headers.get("content-type") ?? "" } });
  } catch (error) {
    console.error(`${url} was not reached: ${error.message}`);
    const answer = `${url} was not reached: ${error.message}\nhint: coracle logs fetch\n`;
    return new Response(answer, { status: 502 });
  }
}
