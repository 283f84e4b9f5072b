import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

/** @param {string} name */
const json = (name) => JSON.parse(readFileSync(new URL(`../../${name}`, import.meta.url), "utf8"));

test("every version is pinned, and every package is checked by its sum and comes from the public registry", () => {
  const { dependencies, devDependencies } = json("package.json");
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) assert.match(String(version), /^\d+\.\d+\.\d+$/, name);
  const { packages } = json("package-lock.json");
  for (const [name, entry] of Object.entries(packages)) {
    if (name === "") continue;
    assert.match(entry.integrity ?? "", /^sha512-/, name);
    if (entry.resolved !== undefined) assert.match(entry.resolved, /^https:\/\/registry\.npmjs\.org\//, name);
  }
});
