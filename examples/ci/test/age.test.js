import assert from "node:assert/strict";
import { test } from "node:test";

import { age } from "../src/age.js";

test("words for a duration", () => {
  assert.equal(age(0, 2 * 24 * 60 * 60 * 1000), "2 days ago");
  assert.equal(age(0, 999), "just now");
});

test("the future is refused", () => {
  assert.throws(() => age(1, 0), RangeError);
});
