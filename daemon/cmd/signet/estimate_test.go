package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/conformance/fakekms"
	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/signers"
)

// TestTheEstimateIsNotTooLow, nor absurd: what the suite really asks for is
// counted by the fake, with few algorithms and with many.
func TestTheEstimateIsNotTooLow(t *testing.T) {
	credentials(t)
	many := []signers.Algorithm{signers.ECDSAP256, signers.ECDSAP384, signers.ECDSAP521, signers.Ed25519, "rsa2048-pss-sha256"}
	for _, run := range []struct {
		level int
		algs  []signers.Algorithm
	}{{1, many}, {5, many[:1]}, {5, many}} {
		if testing.Short() && run.level > 1 {
			continue
		}
		s := fakekms.New(time.Now, 5*time.Millisecond)
		b, code, out := suiteOn(t, s, run.level, run.algs)
		if code != 0 {
			t.Fatalf("exit status %d:\n%s", code, out)
		}
		got := estimate{keys: s.Count("CreateKey"), signatures: s.Count("Sign"), requests: len(s.Log()) - s.Count("Sign")}
		s.Close()
		want := estimateOf(b, run.level, run.algs, false)
		t.Logf("level %d, %d algorithms: %+v; estimated %+v", run.level, len(run.algs), got, *want)
		for what, n := range map[string][2]int{
			"keys": {got.keys, want.keys}, "signatures": {got.signatures, want.signatures}, "requests": {got.requests, want.requests},
		} {
			if n[0] > n[1] || n[0] < n[1]/5 {
				t.Errorf("level %d, %d algorithms: %d %s, estimated at most %d", run.level, len(run.algs), n[0], what, n[1])
			}
		}
	}
}

// credentials are those that the fake knows.
func credentials(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": fakekms.AccessKey, "AWS_SECRET_ACCESS_KEY": fakekms.SecretKey, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/nowhere", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
	} {
		t.Setenv(name, value)
	}
}

// suiteOn runs the suite as `signet conform signer` does.
func suiteOn(t *testing.T, s *fakekms.Server, level int, algs []signers.Algorithm) (b config.Backend, code int, out string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "signet.yaml")
	text := fmt.Sprintf(`version: 1
state_dir: state
runtime_dir: run
backends:
  - {name: kms, type: awskms, awskms: {region: %s, endpoint: "%s", settle: 3s}}
keys:
  - {name: demo, backend: kms, algorithm: ecdsa-p256-sha256, format: jwt}
profiles:
  - {name: demo, key: demo, issuer: "https://i", type: at+jwt, callers: [{uid: 0}], audiences: [a], subjects: [s], max_ttl: 5m}
admins:
  - {uid: 0, rights: [view]}
`, fakekms.Region, s.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"conform", "signer", "--config", path, "--level", fmt.Sprint(level)}
	for _, a := range algs {
		args = append(args, "--algorithm", string(a))
	}
	var printed, said bytes.Buffer
	code = run(t.Context(), args, &printed, &said)
	if !strings.Contains(said.String(), "at most $") {
		t.Errorf("no estimate: %s", &said)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Backends[0], code, printed.String()
}

// TestWhatStaysIsNamed, also what was cut off before it had a name.
func TestWhatStaysIsNamed(t *testing.T) {
	credentials(t)
	s := fakekms.New(time.Now, 5*time.Millisecond)
	defer s.Close()
	s.Set(fakekms.Fault{Operation: "ScheduleKeyDeletion", Kind: "AccessDeniedException"},
		fakekms.Fault{Operation: "CreateAlias", Kind: "AccessDeniedException", Times: 1})
	_, code, out := suiteOn(t, s, 1, []signers.Algorithm{signers.ECDSAP256})
	if code != 1 || !strings.Contains(out, "which was cut off before it was named, is there now") || !strings.Contains(out, `key "check-`) {
		t.Errorf("exit status %d, want 1 and both kinds of key named:\n%s", code, out)
	}
}
