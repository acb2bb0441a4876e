"""An issuer of CBOR Web Tokens (RFC 8392) in Python: the same bytes as the one in
Go, written without it. It shows all that the wire asks of another language; see
plugins/README.md.

Debian has what it needs: python3-grpcio python3-protobuf python3-cbor2
python3-cryptography. `python3 issuer_cwt.py files` prints the paths that pin it.
"""

import json
import os
import re
import signal
import sys
import threading
from concurrent import futures

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import cbor2
import grpc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

import issuer_pb2 as pb

FORMAT = "cwt"
# COSE's number, the length of a signature, and what verifies it (RFC 9053 section 2).
ALGORITHMS = {
    "ecdsa-p256-sha256": (-7, 64, hashes.SHA256),
    "ecdsa-p384-sha384": (-35, 96, hashes.SHA384),
    "ecdsa-p521-sha512": (-36, 132, hashes.SHA512),
    "ed25519": (-8, 64, None),
}
RAW, BINARY = 1, 1  # plugins.Raw, plugins.Binary
REGISTERED = {"iss", "sub", "aud", "exp", "nbf", "iat", "cti", "jti", "scope", "cnf"}
LAST = 253402300799  # the year 9999
LARGEST = 2**53 - 1


class Refused(Exception):
    """The format can't carry this. The text reaches the caller: no claim is in it."""


def want(ok, what):
    if not ok:
        raise Refused("cwt: " + what)


def canonical(value):
    """The daemon's JSON: no space, names in order, nothing escaped that need not be."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def claims_of(data):
    """Reads further claims. What reads back as other bytes was not canonical."""
    try:
        claims = json.loads(data)
        want(isinstance(claims, dict) and canonical(claims) == data, "claims are not canonical")
    except (ValueError, RecursionError):
        raise Refused("cwt: claims are not JSON") from None
    want(not REGISTERED & {name.lower() for name in claims}, "a further claim has a registered name")
    whole(claims)
    return claims


def whole(value, depth=0):
    """JSON that is not the same to every reader is refused: fractions, large numbers."""
    want(depth < 16, "claims are too deep")
    want(value is not None and not isinstance(value, float), "a claim is null or has a fraction")
    want(not isinstance(value, int) or abs(value) <= LARGEST, "a claim has a number over 2^53")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        whole(inner, depth + 1)


def write(value):
    return cbor2.dumps(value, canonical=True)


def prepare(g, k):
    want(k.algorithm in ALGORITHMS, "COSE has no number for the algorithm")
    want(re.fullmatch(r"[^/ ]+/[^/ ]+", g.type), "typ is not a media type, such as application/at+cwt (RFC 9596 section 2)")
    want(k.id and g.issuer and g.subject and g.token_id, "kid, iss, sub or cti is missing")
    want(g.audience and "" not in g.audience, "aud is missing")
    want(all(0 < t <= LAST for t in (g.issued_at, g.not_before, g.expires)), "iat, nbf or exp is not a time between 1970 and 9999")
    want(not any(s == "" or " " in s for s in g.scope), "a scope is empty or has a space")
    want(not (g.holder_kind or g.holder_value or g.assertion), "a holder or an assertion can't be carried")
    want(not (g.serial or g.principals or g.options or g.extensions), "a CWT has no serial, principals, options or extensions")
    claims = {1: g.issuer, 2: g.subject, 3: g.audience[0] if len(g.audience) == 1 else list(g.audience),
              4: g.expires, 5: g.not_before, 6: g.issued_at, 7: g.token_id.encode()}
    if g.scope:
        claims[9] = " ".join(g.scope)
    if g.claims:
        further = claims_of(g.claims)
        want(further, "claims are not canonical")
        claims.update(further)
    return draft(write({1: ALGORITHMS[k.algorithm][0], 4: k.id.encode(), 16: g.type}), write(claims), k)


def draft(protected, payload, k):
    """The Sig_structure (RFC 9052 section 4.4), and the token up to the signature."""
    length = ALGORITHMS[k.algorithm][1]
    token = write(cbor2.CBORTag(18, [protected, {}, payload, bytes(length)]))
    return pb.Draft(to_be_signed=write(["Signature1", protected, b"", payload]), head=token[:-length], form=RAW, encoding=BINARY)


def inspect(d, k, token):
    """Reads a draft back, and wants it to be what draft() makes of what it says."""
    want(k.algorithm in ALGORITHMS, "COSE has no number for the algorithm")
    context, protected, external, payload = parts(read(d.to_be_signed), 4)
    want(context == "Signature1" and external == b"", "not a Sig_structure")
    want(isinstance(protected, bytes) and isinstance(payload, bytes), "not a Sig_structure")
    header, claims = read(protected), read(payload)
    want(isinstance(header, dict) and set(header) == {1, 4, 16} and isinstance(header[16], str), "not the header that is wanted here")
    want(header[1] == ALGORITHMS[k.algorithm][0] and header[4] == k.id.encode(), "not this key's header")
    want(isinstance(claims, dict), "not claims")
    g = grant(claims)
    g.type = header[16]
    # All that is not looked at above shows here: order, lengths, the frame.
    want(prepare(g, k).SerializeToString(deterministic=True) == d.SerializeToString(deterministic=True), "not the draft that its claims call for")
    if token:
        want(token[:len(d.head)] == d.head, "the token is not the draft's")
        verify(k, d.to_be_signed, token[len(d.head):])
    return g


def read(data):
    try:
        return cbor2.loads(data)
    except (cbor2.CBORDecodeError, RecursionError, ValueError, TypeError, MemoryError, OverflowError):
        raise Refused("cwt: not CBOR") from None


def parts(value, n):
    want(isinstance(value, list) and len(value) == n, "not an array of %d" % n)
    return value


def grant(claims):
    texts = {1: "issuer", 2: "subject"}
    times = {4: "expires", 5: "not_before", 6: "issued_at"}
    g, further = pb.Grant(), {}
    for key, value in claims.items():
        if isinstance(key, str):
            further[key] = value
        elif key in texts and isinstance(value, str):
            setattr(g, texts[key], value)
        elif key in times and type(value) is int and 0 < value <= LAST:
            setattr(g, times[key], value)
        elif key == 3:
            audience = [value] if isinstance(value, str) else value
            want(isinstance(audience, list) and all(isinstance(a, str) for a in audience), "aud is not as it should be")
            g.audience.extend(audience)
        elif key == 7 and isinstance(value, bytes):
            g.token_id = value.decode()
        elif key == 9 and isinstance(value, str):
            g.scope.extend(value.split(" "))
        else:
            raise Refused("cwt: a claim is not as it should be")
    if further:
        g.claims = canonical(further)
    return g


def verify(k, message, signature):
    _, length, hash_of = ALGORITHMS[k.algorithm]
    want(len(signature) == length, "the signature has another length")
    public = serialization.load_der_public_key(k.public)
    try:
        if isinstance(public, ed25519.Ed25519PublicKey):
            public.verify(signature, message)
            return
        r, s = (int.from_bytes(half, "big") for half in (signature[:length // 2], signature[length // 2:]))
        public.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hash_of()))
    except InvalidSignature:
        raise Refused("cwt: the signature does not verify") from None


def answer(make):
    """A draft or a grant, or why not. What is no refusal is logged without its text,
    which may have claims in it, and costs this one request alone."""
    try:
        return make(), ""
    except Refused as e:
        return None, str(e)
    except Exception as e:  # pylint: disable=broad-except
        print("failed:", type(e).__name__, file=sys.stderr, flush=True)
        return None, "the issuer failed on this grant"


class Issuer(grpc.GenericRpcHandler):
    """signet.plugins.v1.Issuer, without generated stubs."""

    def service(self, call):
        serve = {
            "/signet.plugins.v1.Issuer/Describe": grpc.unary_unary_rpc_method_handler(
                self.describe, pb.DescribeRequest.FromString, pb.DescribeReply.SerializeToString),
            "/signet.plugins.v1.Issuer/Prepare": grpc.stream_stream_rpc_method_handler(
                self.prepare, pb.PrepareBatch.FromString, pb.PrepareReplyBatch.SerializeToString),
            "/signet.plugins.v1.Issuer/Inspect": grpc.unary_unary_rpc_method_handler(
                self.inspect, pb.InspectRequest.FromString, pb.InspectReply.SerializeToString),
        }
        return serve.get(call.method)

    def describe(self, _request, _context):
        return pb.DescribeReply(format=FORMAT, algorithms=list(ALGORITHMS), inspects=True)

    def prepare(self, batches, _context):
        try:
            for batch in batches:
                replies = []
                for r in batch.requests:
                    d, refused = answer(lambda r=r: prepare(r.grant, r.key))
                    replies.append(pb.PrepareReply(id=r.id, draft=d, refused=refused))
                yield pb.PrepareReplyBatch(replies=replies)
        finally:
            os._exit(0)  # the stream lives as long as the daemon's interest in us

    def inspect(self, request, _context):
        g, refused = answer(lambda: inspect(request.draft, request.key, request.token))
        return pb.InspectReply(grant=g, refused=refused)


def serve():
    if not os.environ.get("SIGNET_ISSUER"):
        sys.exit("issuer_cwt.py: this is a plug-in of signet's: the daemon starts it")
    # A service manager signals every process of a service; we end with the stream.
    for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(s, signal.SIG_IGN)
    path = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "s")
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Issuer()], options=[("grpc.max_receive_message_length", 2 << 20)])
    server.add_insecure_port("unix:" + path)
    server.start()
    print("1|1|unix|%s|grpc" % path, flush=True)
    threading.Event().wait()


def files():
    """What the interpreter has open once everything is imported: its runtime."""
    here = os.path.dirname(os.path.abspath(__file__))
    found = {here, os.path.dirname(json.__path__[0]), os.path.dirname(grpc.__path__[0])}
    with open("/proc/self/maps", encoding="ascii") as maps:
        mapped = {m[1] for m in (re.search(r" (/\S+\.so\S*)$", line.rstrip()) for line in maps) if m}
    found |= {p for p in mapped if not any(p.startswith(d + "/") for d in found)}
    print("\n".join(sorted(found)))


if __name__ == "__main__":
    files() if sys.argv[1:] == ["files"] else serve()
