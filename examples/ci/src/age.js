import ms from "ms";

/** How long ago `then` was, in words: "2 days ago". Throws a RangeError for the future. */
export function age(then, now = Date.now()) {
  const passed = now - then;
  if (passed < 0) throw new RangeError("that has not been yet");
  return passed < 1000 ? "just now" : `${ms(passed, { long: true })} ago`;
}
