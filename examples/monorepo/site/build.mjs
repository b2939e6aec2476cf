// The price list as a page.
import { readFileSync, writeFileSync } from "node:fs";

const { currency, prices } = JSON.parse(readFileSync("/prices/prices.json", "utf8"));
const rows = Object.entries(prices).map(([name, price]) => `<tr><td>${name}</td><td>${price.toFixed(2)} ${currency}</td></tr>`);
writeFileSync("index.html", `<!doctype html>\n<title>Prices</title>\n<table>\n${rows.join("\n")}\n</table>\n`);
console.log(`index.html: ${rows.length} prices`);
