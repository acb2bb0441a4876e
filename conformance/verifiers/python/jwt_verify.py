"""Verifies JWTs with PyJWT (Debian: python3-jwt, python3-cryptography).

It does what a relying party would: the algorithm that the key's JWK names,
audience, issuer, type and times. It reads
{jwks, cases: [{name, token, audience, issuer, type}]} from standard input and
writes {name: "good" or why not}.
"""

import json
import sys

import jwt


def verify(keys, case):
    """Returns "good", or why a token is not."""
    try:
        header = jwt.get_unverified_header(case["token"])
        key = keys[header["kid"]]
        jwt.decode(
            case["token"],
            key.key,
            algorithms=[key.algorithm_name],
            audience=case["audience"],
            issuer=case["issuer"],
            options={"require": ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"]},
        )
    except (jwt.PyJWTError, KeyError, UnicodeDecodeError) as error:
        return f"{type(error).__name__}: {error}"
    # PyJWT looks at the signature alone; the type is the caller's to compare.
    if header.get("typ") != case["type"]:
        return f"typ is {header.get('typ')!r}"
    return "good"


def main():
    """Reads the cases and writes the verdicts."""
    asked = json.load(sys.stdin)
    keys = {}
    for jwk in asked["jwks"]["keys"]:
        key = jwt.PyJWK.from_dict(jwk)
        key.algorithm_name = jwk["alg"]
        keys[jwk["kid"]] = key
    json.dump({case["name"]: verify(keys, case) for case in asked["cases"]}, sys.stdout)


main()
