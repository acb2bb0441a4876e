// Verifies PASETOs with paseto (https://github.com/panva/paseto), and those of
// v4 with paseto-ts (https://github.com/auth70/paseto-ts) as well, as a relying
// party would: key, implicit assertion, audience, issuer and times. It reads
// {cases: [{name, token, key, assertion, audience, issuer, typ, fast}]} from
// standard input, key being a PASERK and assertion base64 or null, and writes
// {"LIBRARY NAME": "good" or why not}. A case that is to be fast is paseto's
// alone: Ed25519 in JavaScript takes thirty times as long.
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto; // Node.js 18
const { PublicProtocol } = await import("paseto");
const v3 = await import("paseto/v3/public");
const v4 = await import("paseto/v4/public");
const ts = await import("paseto-ts/v4");
const { BLAKE2b } = await import("@stablelib/blake2b");

const protocols = {
  k3: new PublicProtocol(v3.ImportPublicKeyFactory, v3.VerifyFactory, v3.PublicKeyIDFactory),
  k4: new PublicProtocol(v4.ImportPublicKeyFactory, v4.VerifyFactory),
};

// keyID is the PASERK id of a key. For k4 paseto has none: Web Cryptography has
// no BLAKE2b.
async function keyID(paserk) {
  if (paserk.startsWith("k3.")) return protocols.k3.PublicKeyID(paserk);
  const hash = new BLAKE2b(33).update(Buffer.from("k4.pid." + paserk)).digest();
  return "k4.pid." + Buffer.from(hash).toString("base64url");
}

// The footer, as a library authenticated it, must name the key that verified.
async function named(footer, key, typ) {
  const [{ kid, typ: said }, id] = [footer, await keyID(key)];
  if (kid !== id) throw new Error(`the footer names ${kid}, the key is ${id}`);
  if (said !== typ) throw new Error(`the type is ${said}, not ${typ}`);
}

async function panva(c, assertion) {
  const protocol = protocols[c.key.slice(0, 2)];
  const key = await protocol.ImportPublicKey(c.key);
  const { footer } = await protocol.Verify(key, c.token, {
    audience: c.audience,
    issuer: c.issuer,
    implicitAssertion: assertion,
    requiredClaims: ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"],
  });
  await named(JSON.parse(Buffer.from(footer).toString("utf8")), c.key, c.typ);
}

async function auth70(c, assertion) {
  const { payload, footer } = ts.verify(c.key, c.token, { assertion });
  if (payload.aud !== c.audience) throw new Error(`it is for ${payload.aud}`);
  if (payload.iss !== c.issuer) throw new Error(`it is from ${payload.iss}`);
  await named(footer, c.key, c.typ);
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { cases } = JSON.parse(Buffer.concat(chunks).toString("utf8"));

const verdicts = {};
for (const c of cases) {
  const assertion = new Uint8Array(Buffer.from(c.assertion ?? "", "base64"));
  const libraries = c.key.startsWith("k4.") && !c.fast ? { panva, auth70 } : { panva };
  for (const [name, verify] of Object.entries(libraries)) {
    try {
      await verify(c, assertion);
      verdicts[`${name} ${c.name}`] = "good";
    } catch (error) {
      verdicts[`${name} ${c.name}`] = `${error.code ?? error.name}: ${error.message}`;
    }
  }
}
process.stdout.write(JSON.stringify(verdicts));
