// node verify.mjs ISSUER AUDIENCE < token
// Prints the claims as JSON, or the refusal on standard error with exit code 1. jose has no discovery of its own: it is
// given the jwks_uri that the metadata names.
import { readFileSync } from "node:fs";
import { createRemoteJWKSet, jwtVerify } from "jose";

const [issuer, audience] = process.argv.slice(2);

async function jwksUri() {
  const response = await fetch(`${issuer}/.well-known/openid-configuration`);
  const metadata = await response.json();
  if (metadata.issuer !== issuer) throw new Error(`the metadata is that of ${metadata.issuer}`);
  return new URL(metadata.jwks_uri);
}

try {
  const token = readFileSync(0, "utf8").trim();
  const { payload } = await jwtVerify(token, createRemoteJWKSet(await jwksUri()), {
    issuer,
    audience,
    typ: "at+jwt",
    algorithms: ["ES256"],
    requiredClaims: ["sub", "client_id", "exp", "iat", "nbf", "jti", "scope"],
  });
  process.stdout.write(JSON.stringify(payload));
} catch (error) {
  process.stderr.write(`${error.code ?? error.name}: ${error.message}\n`);
  process.exitCode = 1;
}
