// Verifies JWTs with jose (https://github.com/panva/jose), as a relying party
// would: the algorithms that the JWK Set names, audience, issuer, type and
// times. It reads {jwks, cases: [{name, token, audience, issuer, type}]} from
// standard input and writes {name: "good" or why not}.
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto; // Node.js 18
const { createLocalJWKSet, jwtVerify } = await import("jose");

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { jwks, cases } = JSON.parse(Buffer.concat(chunks).toString("utf8"));

const keys = createLocalJWKSet(jwks);
const algorithms = jwks.keys.map((key) => key.alg);
const verdicts = {};
for (const c of cases) {
  try {
    await jwtVerify(c.token, keys, {
      algorithms,
      audience: c.audience,
      issuer: c.issuer,
      typ: c.type,
      requiredClaims: ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"],
    });
    verdicts[c.name] = "good";
  } catch (error) {
    verdicts[c.name] = `${error.code ?? error.name}: ${error.message}`;
  }
}
process.stdout.write(JSON.stringify(verdicts));
