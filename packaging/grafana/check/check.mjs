// Holds dashboards against Grafana's own types: `node check.mjs [--write] DASHBOARD...`.
//
// The types are those of @grafana/schema, made into JSON Schemas: the dashboard's, and for each kind of panel that is used
// its options and what it adds to the settings of a field, which the dashboard's leaves open.
// It is run where its packages are installed; with --write it formats files, too.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { Ajv } from "ajv";
import format from "json-stringify-pretty-compact";
import { createGenerator } from "ts-json-schema-generator";

const TYPES = "node_modules/@grafana/schema/dist/types/raw";
const WIDTH = 120;

const ajv = new Ajv({ allErrors: true, allowUnionTypes: true });
const files = process.argv.slice(2).filter((argument) => argument !== "--write");
const write = files.length < process.argv.length - 2;
const validators = new Map();
let failures = 0;

function fail(file, where, what) {
  failures += 1;
  console.log(`${file}: ${where}: ${what}`);
}

// What says whether a value is of this type; undefined if its file has no such type.
function validator(path, type) {
  const file = `${TYPES}/${path}/x/types.gen.d.ts`;
  const key = `${path} ${type}`;
  if (!validators.has(key)) {
    const declared = existsSync(file) && new RegExp(`^export interface ${type}\\b`, "m").test(readFileSync(file, "utf8"));
    const settings = { path: file, type, skipTypeCheck: true, additionalProperties: false };
    validators.set(key, declared ? ajv.compile(createGenerator(settings).createSchema(type)) : undefined);
  }
  return validators.get(key);
}

function hold(file, where, validate, value) {
  if (validate(value)) return;
  // Where one of several types would do, why each of them does not is more than anybody wants to know.
  const unions = validate.errors.filter((error) => error.keyword === "anyOf");
  const inUnion = (error) => unions.some((union) => union !== error && error.instancePath.startsWith(union.instancePath));
  for (const error of validate.errors.filter((error) => !inUnion(error))) {
    const which = Object.values(error.params).join(", ") || JSON.stringify(at(value, error.instancePath));
    fail(file, `${where}${error.instancePath.replaceAll("/", ".")}`, `${error.message} (${which})`);
  }
}

// What a JSON Pointer points to; no name here has a slash or a tilde.
function at(value, pointer) {
  return pointer.split("/").slice(1).reduce((inside, name) => inside[name], value);
}

// A panel with nothing but what the dashboard's own types know: panels and rows, told apart first, make for messages that
// can be read.
function holdPanel(file, panel) {
  const where = `panel ${panel.id}, ${panel.title}`;
  if (panel.type === "row") {
    hold(file, where, validator("dashboard", "RowPanel"), panel);
    return;
  }
  hold(file, where, validator("dashboard", "Panel"), panel);
  const folder = `composable/${panel.type.replaceAll("-", "")}/panelcfg`;
  const options = validator(folder, "Options");
  if (options === undefined) {
    fail(file, where, `Grafana's types know no panel ${panel.type}`);
    return;
  }
  hold(file, `${where}: options`, options, panel.options);
  const custom = validator(folder, "FieldConfig") ?? ajv.compile({ type: "object", additionalProperties: false });
  const field = validator("dashboard", "FieldConfig");
  hold(file, `${where}: custom`, custom, panel.fieldConfig.defaults.custom ?? {});
  for (const { matcher, properties } of panel.fieldConfig.overrides) {
    const own = {};
    const ofPanel = { ...panel.fieldConfig.defaults.custom };
    for (const { id, value } of properties) {
      if (id.startsWith("custom.")) ofPanel[id.slice("custom.".length)] = value;
      else own[id] = value;
    }
    hold(file, `${where}: override of ${matcher.options}`, field, own);
    hold(file, `${where}: override of ${matcher.options}: custom`, custom, ofPanel);
  }
}

for (const file of files) {
  const text = readFileSync(file, "utf8");
  const dashboard = JSON.parse(text);
  const formatted = `${format(dashboard, { maxLength: WIDTH, indent: 2 })}\n`;
  if (text !== formatted) {
    if (write) writeFileSync(file, formatted);
    else fail(file, "formatting", "is not that of json-stringify-pretty-compact; UPDATE_EXPECT=1 puts it right");
  }
  // What is to be asked, and how the answer reads, is the data source's own; Rust looks at that.
  const annotations = { list: dashboard.annotations.list.map(({ target, titleFormat, textFormat, ...rest }) => rest) };
  hold(file, "dashboard", validator("dashboard", "Dashboard"), { ...dashboard, annotations, panels: [] });
  dashboard.panels.forEach((panel) => holdPanel(file, panel));
}
console.log(`${files.length} dashboards, ${validators.size} of Grafana's types, ${failures} differences`);
process.exitCode = failures ? 1 : 0;
