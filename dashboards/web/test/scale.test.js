import assert from "node:assert/strict";
import { test } from "node:test";
import { colours, high, low } from "../js/page/scale.js";

const channels = (fill) => fill.match(/\d+/g).map(Number);

// luminance is that of WCAG 2.
function luminance(rgb) {
  const [r, g, b] = rgb.map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);

test("the ends of the scale are the first and the last stop", () => {
  assert.equal(colours("light", low).fill, "rgb(226,233,237)");
  assert.equal(colours("light", high).fill, "rgb(90,17,39)");
  assert.equal(colours("dark", low).fill, "rgb(33,41,46)");
  assert.equal(colours("dark", high).fill, "rgb(250,239,173)");
});

test("a temperature beyond an end has the colour of the end", () => {
  for (const theme of ["light", "dark"]) {
    assert.deepEqual(colours(theme, -40), colours(theme, low));
    assert.deepEqual(colours(theme, 120), colours(theme, high));
  }
});

test("hotter is darker in light and lighter in dark, in every step", () => {
  for (const [theme, sign] of [["light", -1], ["dark", 1]]) {
    let last = null;
    for (let t = low; t <= high; t++) {
      const y = luminance(channels(colours(theme, t).fill));
      if (last !== null) assert.ok(sign * (y - last) > 0, `${theme} at ${t} °C: ${last} to ${y}`);
      last = y;
    }
  }
});

test("the ink can be read on every fill", () => {
  const inks = { "#ffffff": 1, "#101214": luminance([0x10, 0x12, 0x14]) };
  for (const theme of ["light", "dark"]) {
    for (let t = low; t <= high; t += 0.25) {
      const { fill, ink } = colours(theme, t);
      const c = contrast(luminance(channels(fill)), inks[ink]);
      assert.ok(c >= 4.3, `${theme} at ${t} °C: contrast ${c}`);
    }
  }
});
