// Reads pairs, one a line: the JSON text that was sent, and the answer it was read back with.
// Prints the numbers of the lines where JavaScript does not see the same value in both.
"use strict";

const { isDeepStrictEqual } = require("node:util");
const lines = require("node:fs").readFileSync(0, "utf8").split("\n");

lines.forEach((line, number) => {
  if (!line) return;
  const [sent, answer] = JSON.parse(line);
  const message = JSON.parse(answer);
  const got = "ok" in message ? message.ok : message.result.value;
  if (!isDeepStrictEqual(JSON.parse(sent), got)) console.log(number);
});
