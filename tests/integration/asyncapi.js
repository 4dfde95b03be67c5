// SPDX-License-Identifier: Apache-2.0
// Reads AsyncAPI documents, with the Avro schemas in them, as the AsyncAPI initiative's own parser does; says what is
// wrong with each, a line a fault. node asyncapi.js MODULES FILE…
const { createRequire } = require("module");
const { readFileSync } = require("fs");

const [modules, ...files] = process.argv.slice(2);
const load = createRequire(`${modules}/`);
const { Parser } = load("@asyncapi/parser");
const { AvroSchemaParser } = load("@asyncapi/avro-schema-parser");

const ERROR = 0;
const WARNING = 1;

(async () => {
  for (const file of files) {
    const parser = new Parser();
    parser.registerSchemaParser(AvroSchemaParser());
    const { document, diagnostics } = await parser.parse(readFileSync(file, "utf8"));
    const faults = diagnostics.filter(({ severity }) => severity === ERROR || severity === WARNING);
    const found = {
      faults: faults.map(({ path, message }) => `${path.join(".")}: ${message}`),
      channels: document ? document.channels().all().map((each) => each.address()) : [],
    };
    console.log(JSON.stringify(found));
  }
})();
