package foreign

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// verify has go-cose take a token apart, and returns its claims.
func verify(t *testing.T, r *rig, profile, token string) map[any]any {
	t.Helper()
	keys, _, err := r.client.PublicKeys(t.Context(), profile)
	if err != nil || len(keys) != 1 {
		t.Fatalf("PublicKeys of %s: %d, %v", profile, len(keys), err)
	}
	v, err := cose.NewVerifier(cose.AlgorithmES256, keys[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	var m cose.Sign1Message
	if err := errors.Join(m.UnmarshalCBOR([]byte(token)), m.Verify(nil, v)); err != nil {
		t.Fatalf("go-cose: %v", err)
	}
	if kid, _ := m.Headers.Protected[cose.HeaderLabelKeyID].([]byte); string(kid) != keys[0].Kid {
		t.Errorf("kid: got %q, want %q", kid, keys[0].Kid)
	}
	var claims map[any]any
	if err := cbor.Unmarshal(m.Payload, &claims); err != nil {
		t.Fatal(err)
	}
	m.Payload[len(m.Payload)-1] ^= 1
	if m.Verify(nil, v) == nil {
		t.Error("go-cose takes a changed payload")
	}
	return claims
}

// issuesCWTs holds a daemon with a CWT plug-in against all that it should do.
func issuesCWTs(t *testing.T, r *rig) {
	t.Helper()
	token, err := r.issue(t.Context(), "cwt", "ci/7")
	if err != nil {
		t.Fatalf("Issue: %v\n%s", err, r.said)
	}
	claims := verify(t, r, "cwt", token.Value)
	for key, want := range map[any]any{
		uint64(1): "https://signet.example", uint64(2): "ci/7", uint64(3): "https://api.example", uint64(9): "read",
		uint64(4): uint64(token.Expires.Unix()), "team": "x",
	} {
		if claims[key] != want {
			t.Errorf("claim %v: got %v, want %v", key, claims[key], want)
		}
	}
	if id, _ := claims[uint64(7)].([]byte); string(id) != token.ID {
		t.Errorf("cti: got %q, want %q", id, token.ID)
	}
	if _, err := r.client.Sign(t.Context(), "cwt", []byte("\x84\x6aSignature1")); status.Code(err) != codes.InvalidArgument {
		t.Errorf("Sign: got %v, want InvalidArgument", err)
	}
	keys, _, err := r.client.PublicKeys(t.Context(), "")
	if err != nil || len(keys) != 1 || keys[0].Key != "jwt" {
		t.Errorf("PublicKeys of all: got %v, %v; want the JWT key alone", keys, err)
	}
	if _, err := r.issue(t.Context(), "jwt", "ci/7"); err != nil {
		t.Errorf("a JWT beside it: %v", err)
	}
	out, ok := r.signet("status", "--runtime-dir", filepath.Join(r.dir, "run"))
	if !ok || !strings.Contains(out, "inspector") {
		t.Errorf("signet status does not show the inspector:\n%s", out)
	}
}

func TestCWTInGo(t *testing.T) {
	r := newRig(t)
	r.configure(plugin{format: "cwt", backend: "main", lines: r.pinned(filepath.Join(built, "issuer-cwt"))})
	r.mustStart("cwt")
	issuesCWTs(t, r)
}

// python is what Debian's Python needs to run the example, or the test is left out.
func python(t *testing.T) (dir string, runtime []string) {
	t.Helper()
	dir = t.TempDir()
	script, err := os.ReadFile("../../examples/issuer-cwt/python/issuer_cwt.py")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "issuer_cwt.py"), script, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("protoc", "-I", "../../plugins/api/v1", "--python_out="+dir, "../../plugins/api/v1/issuer.proto").CombinedOutput()
	if err == nil {
		out, err = exec.Command("/usr/bin/python3", "-IB", filepath.Join(dir, "issuer_cwt.py"), "files").CombinedOutput()
	}
	if err != nil && os.Getenv("REQUIRE_SOFTHSM") == "" {
		t.Skipf("Python's gRPC is not there; hint: apt-get install protobuf-compiler python3-grpcio python3-protobuf python3-cbor2 python3-cryptography\n%s", out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir, strings.Fields(string(out))
}

// TestCWTInPython shows that the wire asks for no Go: plain gRPC, an interpreter
// that is pinned with all that it reads, the same containment.
func TestCWTInPython(t *testing.T) {
	dir, runtime := python(t)
	r := newRig(t)
	interpreter, err := filepath.EvalSymlinks("/usr/bin/python3")
	if err != nil {
		t.Fatal(err)
	}
	sum, ok := r.signet(append([]string{"plugin", "digest", interpreter}, runtime...)...)
	if !ok {
		t.Fatal(sum)
	}
	r.configure(plugin{format: "cwt", backend: "main", lines: "path: " + interpreter + ", sha256: " + strings.TrimSpace(sum) +
		", plain_grpc: true, args: [-IB, " + dir + "/issuer_cwt.py], runtime: [" + strings.Join(runtime, ", ") + "]"})
	r.mustStart("cwt")
	issuesCWTs(t, r)
}

// TestAPluginThatNothingReadsBack has the daemon refuse one, take it with a key
// that allows it, and refuse to take that back.
func TestAPluginThatNothingReadsBack(t *testing.T) {
	r := newRig(t)
	mute := plugin{format: "mute", backend: "main", lines: r.pinned(filepath.Join(built, "hostile"), "mute", "mute") + ", plain_grpc: true"}
	r.configure(mute)
	said, ok := r.start()
	if ok || !strings.Contains(said, "nothing reads its drafts back") || !strings.Contains(said, "hint: ") {
		t.Fatalf("started: %v, want to be told why not:\n%s", ok, said)
	}
	mute.blind = true
	r.configure(mute)
	r.mustStart("mute")
	token, err := r.issue(t.Context(), "mute", "ci/7")
	if err != nil {
		t.Fatal(err)
	}
	verify(t, r, "mute", token.Value)
	if keys, _, err := r.client.PublicKeys(t.Context(), ""); err != nil || len(keys) != 1 {
		t.Errorf("PublicKeys of all: got %v, %v; want the JWT key alone", keys, err)
	}
	if !strings.Contains(r.said.String(), "a key signs what nothing has read") {
		t.Error("the log does not warn")
	}
	_ = r.cmd.Process.Kill()
	_, _ = r.cmd.Process.Wait()
	mute.blind = false
	mute.lines = r.pinned(filepath.Join(built, "hostile"), "honest", "mute") + ", plain_grpc: true"
	r.configure(mute)
	if said, ok := r.start(); ok || !strings.Contains(said, "allow_blind_signing is true on record, not false") {
		t.Errorf("converted: %v, want a refusal:\n%s", ok, said)
	}
}

// TestConformOverTheWire runs the command against plug-ins of others.
func TestConformOverTheWire(t *testing.T) {
	r := newRig(t)
	out, ok := r.signet("conform", "issuer", "--accept-missing", "uid,cgroup", "--plugin", filepath.Join(built, "issuer-cwt"),
		"--vectors", "../../examples/issuer-cwt/testdata/vectors.json")
	if !ok || !strings.Contains(out, "18 passed, 0 failed, 0 skipped") {
		t.Errorf("issuer-cwt: %s", out)
	}
	out, ok = r.signet("conform", "issuer", "--accept-missing", "uid,cgroup", "--plugin", filepath.Join(built, "hostile"), "--arg", "mute,mute", "--plain-grpc", "--level", "4")
	if !ok || !strings.Contains(out, "does not serve Inspect") {
		t.Errorf("a plug-in that does not read back: %s", out)
	}
}
