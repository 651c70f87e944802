// Holds objects against the models of their kinds, and values against their schema.
//
// In: {"objects": {NAME: OBJECT}, "schema": SCHEMA, "values": {NAME: VALUES}} on stdin.
// Out: {NAME: [COMPLAINT]} of those that there are complaints of.
//
// A model's validate() knows patterns, and lets pass what it does not know; the types of the same models refuse that.

import { readFileSync } from "node:fs";
import Ajv from "ajv";
import ts from "typescript";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";
import { DaemonSet } from "kubernetes-models/apps/v1/DaemonSet";
import { ConfigMap } from "kubernetes-models/v1/ConfigMap";
import { Namespace } from "kubernetes-models/v1/Namespace";
import { Service } from "kubernetes-models/v1/Service";
import { ServiceAccount } from "kubernetes-models/v1/ServiceAccount";

const operator = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
const kinds = {
  ConfigMap: [ConfigMap, "kubernetes-models/v1"],
  DaemonSet: [DaemonSet, "kubernetes-models/apps/v1"],
  Namespace: [Namespace, "kubernetes-models/v1"],
  PrometheusRule: [PrometheusRule, operator],
  Service: [Service, "kubernetes-models/v1"],
  ServiceAccount: [ServiceAccount, "kubernetes-models/v1"],
  ServiceMonitor: [ServiceMonitor, operator],
};

const { objects, schema, values } = JSON.parse(readFileSync(0, "utf8"));
const complaints = {};
const complain = (name, complaint) => (complaints[name] ??= []).push(complaint);

const lines = [];
const named = [];
for (const [name, object] of Object.entries(objects)) {
  const [Model, place] = kinds[object.kind] ?? [];
  if (Model === undefined) {
    complain(name, `no model of a ${object.kind}`);
    continue;
  }
  try {
    new Model(object).validate();
  } catch (error) {
    complain(name, error.message);
  }
  const type = `import("${place}/${object.kind}").I${object.kind}`;
  lines.push(`export const object${named.length}: ${type} = ${JSON.stringify(object)};`);
  named.push(name);
}

// A line for each, of a file that is nowhere but here.
const file = new URL("objects.ts", import.meta.url).pathname;
const options = {
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  noEmit: true,
  skipLibCheck: true,
  strict: true,
  types: [],
};
const host = ts.createCompilerHost(options);
const { fileExists, getSourceFile } = host;
host.fileExists = (name) => name === file || fileExists(name);
host.getSourceFile = (name, ...rest) =>
  name === file
    ? ts.createSourceFile(name, lines.join("\n"), ts.ScriptTarget.ESNext)
    : getSourceFile(name, ...rest);
for (const diagnostic of ts.getPreEmitDiagnostics(ts.createProgram([file], options, host))) {
  const text = ts.flattenDiagnosticMessageText(diagnostic.messageText, " ");
  if (diagnostic.file?.fileName !== file) {
    throw new Error(text);
  }
  complain(named[diagnostic.file.getLineAndCharacterOfPosition(diagnostic.start).line], text);
}

const validate = new Ajv({ allErrors: true }).compile(schema);
for (const [name, one] of Object.entries(values)) {
  if (!validate(one)) {
    for (const error of validate.errors) {
      complain(name, `${error.instancePath} ${error.message} ${JSON.stringify(error.params)}`);
    }
  }
}

console.log(JSON.stringify(complaints));
