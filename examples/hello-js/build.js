// Makes the component hello-js.wasm of app.js: `npm run build`, which `coracle deploy` runs.

import { readFile, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

// What the function asks of Coracle, and what Coracle calls.
const world = `
  package local:function;
  world function {
    import wasi:cli/environment@0.2.10;
    include wasi:http/proxy@0.2.10;
  }
`;

// The interfaces of WASI come with jco. The engine has those of 0.2.10, which differ from 0.2.12 by that number alone.
const wasi = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"].map(async (name) => {
  const file = `node_modules/@bytecodealliance/jco/lib/wit/builtin/0.2.12/wasi-${name}/package.wit`;
  const text = (await readFile(file, "utf8")).replaceAll("0.2.12", "0.2.10");
  return text.replace(/^package (.*);/m, "package $1 {") + "}\n";
});

const { component } = await componentize({
  sourcePath: "app.js",
  witWorld: world + (await Promise.all(wasi)).join(""),
  worldName: "function",
});
await writeFile("hello-js.wasm", component);
