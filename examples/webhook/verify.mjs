// Checks that a webhook came through the sidecar.
//
//     node verify.mjs SECRET_FILE SIGNATURE < body
//
// SIGNATURE is the header Sezzle-Sidecar-Signature, or an empty word if the request has none.
import crypto from "node:crypto";
import fs from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

// Whether the sidecar signed these bytes. The body is the raw one, before any JSON parser.
export function isGenuine(secret, body, signature) {
  const expected = Buffer.from(crypto.createHmac("sha256", secret).update(body).digest("hex"));
  const given = Buffer.from(signature ?? "");
  return given.length === expected.length && crypto.timingSafeEqual(given, expected);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [file, signature] = process.argv.slice(2);
  const body = fs.readFileSync(0);
  if (!isGenuine(fs.readFileSync(file, "utf8").trim(), body, signature)) {
    console.error("not signed by the sidecar: answer 401");
    process.exit(1);
  }
  // Every delivery of an event has the same uuid.
  console.log(JSON.parse(body).uuid);
}
