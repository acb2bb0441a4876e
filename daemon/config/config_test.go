package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// good is a configuration that others differ from.
const good = `version: 1
state_dir: state
runtime_dir: /run/signet
backends:
  - {name: main, type: softkey, softkey: {dir: keys, secret: {file: secret}}}
  - {name: hsm, type: pkcs11, pkcs11: {module: /usr/lib/m.so, token_label: t, pin: {credential: pin}}}
keys:
  - {name: ci, backend: main, algorithm: ecdsa-p256-sha256, format: jwt}
profiles:
  - name: ci
    key: ci
    issuer: https://signet.example
    type: at+jwt
    callers: [{uid: 1000}, {unit: ci.service, exe: /usr/bin/ci}]
    audiences: [https://api.example]
    subjects: ["ci/*"]
    max_ttl: 15m
    claims: {fixed: {tenant: acme, level: 3}}
    conditions: [hours.cedar]
admins:
  - {uid: 0, rights: [view, revoke]}
ledger: {segment_size: 1MiB}
`

func TestAGoodFileIsReadWhole(t *testing.T) {
	c, err := Parse("/etc/signet/signet.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct{ field, got, want string }{
		{"state_dir", c.StateDir, "/etc/signet/state"},
		{"runtime_dir", c.RuntimeDir, "/run/signet"},
		{"softkey.dir", c.Backends[0].Softkey.Dir, "/etc/signet/keys"},
		{"softkey.secret.file", c.Backends[0].Softkey.Secret.File, "/etc/signet/secret"},
		{"conditions[0]", c.Profiles[0].Conditions[0], "/etc/signet/hours.cedar"},
		{"ledger", c.LedgerDir(), "/etc/signet/state/ledger"},
		{"format", c.FormatOf("ci"), "jwt"},
		{"format of no key", c.FormatOf("x"), ""},
	} {
		if p.got != p.want {
			t.Errorf("%s: got %q, want %q", p.field, p.got, p.want)
		}
	}
	if p := c.Profiles[0]; p.MaxTTL.D() != 15*time.Minute || *p.Callers[0].UID != 1000 || p.Claims.Fixed["tenant"] != "acme" {
		t.Errorf("profile: got %+v", p)
	}
	if c.Ledger.SegmentSize.Bytes() != 1<<20 || c.Lifecycle.Drain.Or(time.Second) != time.Second || *c.Admins[0].UID != 0 {
		t.Errorf("ledger, lifecycle or admins: got %+v %+v %+v", c.Ledger, c.Lifecycle, c.Admins)
	}
}

// TestEachMistakeIsNamed changes one thing of the good file. Each has its line,
// its field, what is wrong and what mends it.
func TestEachMistakeIsNamed(t *testing.T) {
	for _, c := range []struct{ name, old, with, says, hint string }{
		{"unknown field", "state_dir: state", "state_dri: state", `signet.yaml:2:1: unknown field "state_dri"`, `did you mean "state_dir"?`},
		{"unknown nested field", "max_ttl: 15m", "max_tll: 15m", "unknown field", `did you mean "max_ttl"?`},
		{"duplicate field", "state_dir: state", "state_dir: state\nstate_dir: other", "signet.yaml:3:1: ", "schema"},
		{"wrong type", "name: ci\n    key: ci", "name: [ci]\n    key: ci", "signet.yaml:10:", "schema"},
		{"wrong type of uid", "{uid: 1000}", "{uid: me}", "signet.yaml:14:", "schema"},
		{"not YAML", "backends:", "backends: [", "signet.yaml:", "schema"},
		{"anchor", "state_dir: state", "state_dir: &a state", "signet.yaml:2:12: anchors", "write the value out"},
		{"second document", "ledger: {segment_size: 1MiB}", "---\nversion: 1", "more than one YAML document", "remove"},
		{"version", "version: 1", "version: 2", "signet.yaml:1:10: version: 2 is not", "version: 1"},
		{"missing state_dir", "state_dir: state\n", "", "state_dir: missing", "no default"},
		{"no unit of time", "max_ttl: 15m", "max_ttl: 15", `max_ttl: "15" is not a time with its unit`, "90s or 5m"},
		{"zero time", "max_ttl: 15m", "max_ttl: 0s", `max_ttl: "0s" is not more than nothing`, "90s or 5m"},
		{"negative time", "max_ttl: 15m", "max_ttl: -5m", "not more than nothing", "90s or 5m"},
		{"too long a life", "max_ttl: 15m", "max_ttl: 25h", "over the ceiling of 24h", "renew"},
		{"half a second", "max_ttl: 15m", "max_ttl: 1500ms", "not whole seconds", "round"},
		{"no lifetime", "    max_ttl: 15m\n", "", "max_ttl: missing", "max_ttl: 15m"},
		{"unknown algorithm", "ecdsa-p256-sha256", "rot13", `signet.yaml:8:42: keys[0].algorithm: "rot13" is not known`, "rsa4096-pss-sha512"},
		{"unknown format", "format: jwt", "format: xml", `"xml" is not known`, "one of jwt"},
		{"no such back-end", "backend: main", "backend: other", `"other" is not among backends`, "main, hsm"},
		{"no such key", "    key: ci", "    key: other", `profiles[0].key: "other" is not among keys`, "one of ci"},
		{"duplicate name", "name: hsm", "name: main", `"main" is there already`, "unique"},
		{"bad name", "{name: ci,", "{name: CI,", `"CI" is not a name`, "a-z"},
		{"no callers", "callers: [{uid: 1000}, {unit: ci.service, exe: /usr/bin/ci}]", "callers: []", "callers: empty", "at least one"},
		{"exe alone", "unit: ci.service, exe", "exe", "exe alone is not an identity", "uid, gid"},
		{"nobody", "{uid: 1000}", "{}", "selects nobody", "uid, gid"},
		{"no audience", "audiences: [https://api.example]", "audiences: []", "audiences: empty", "at least one"},
		{"unknown right", "rights: [view, revoke]", "rights: [everything]", `"everything" is not known`, "view, rotate"},
		{"settings of another type", "type: softkey, softkey:", "type: softkey, pkcs11: {module: /m, token_label: t, pin: {file: p}}, softkey:", "settings of pkcs11 in a back-end of type", "remove"},
		{"no settings", "type: pkcs11, pkcs11: {module: /usr/lib/m.so, token_label: t, pin: {credential: pin}}", "type: pkcs11", "needs its settings", "add a section"},
		{"relative module", "/usr/lib/m.so", "m.so", "not an absolute path", "whole path"},
		{"no token", "token_label: t, ", "", "no token is named", "token_label"},
		{"two places of a secret", "{credential: pin}", "{credential: pin, file: x}", "names 2 places", "one of credential"},
		{"a secret in the file", "{credential: pin}", "{value: 1234}", "unknown field", "schema"},
		{"relative command", "{credential: pin}", "{command: [pass]}", "not an absolute path", "whole path"},
		{"too many sessions", "token_label: t, ", "token_label: t, sessions: 65, ", "65 is not 1 to 64", "2 is good"},
		{"no unit of size", "1MiB", "1000000", "not a size", "64MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(good, c.old, c.with, 1)
			if text == good {
				t.Fatalf("%q is not in the good file", c.old)
			}
			_, err := Parse("signet.yaml", []byte(text))
			var all Errors
			if !errors.As(err, &all) {
				t.Fatalf("got %v, want Errors", err)
			}
			if got := err.Error(); !strings.Contains(got, c.says) || !strings.Contains(got, c.hint) {
				t.Errorf("got:\n%s\nwant %q and the hint %q", got, c.says, c.hint)
			}
			for _, e := range all {
				if e.File != "signet.yaml" || e.Line == 0 || e.Hint == "" {
					t.Errorf("a mistake without its place or remedy: %+v", e)
				}
			}
		})
	}
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	text := strings.NewReplacer("max_ttl: 15m", "max_ttl: 99h", "rot", "rot", "ecdsa-p256-sha256", "x", "backend: main", "backend: y").Replace(good)
	_, err := Parse("signet.yaml", []byte(text))
	var all Errors
	if !errors.As(err, &all) || len(all) != 3 || all[0].Line > all[2].Line {
		t.Errorf("got %v, want three mistakes in the order of the file", err)
	}
}

func TestTheExampleStartsAsItIs(t *testing.T) {
	text, err := Example{UID: 1000, Algorithm: "ecdsa-p256-sha256"}.Text()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("signet.yaml", []byte(text)); err != nil {
		t.Errorf("the example: %v", err)
	}
}

func TestLoadRefusesAFileThatOthersMayChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signet.yaml")
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Errorf("Load: %v", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "hint: chmod go-w") {
		t.Errorf("Load of a file with mode 0666: got %v, want a refusal with its remedy", err)
	}
	if _, err := Load(path + ".absent"); err == nil || !strings.Contains(err.Error(), "signet init") {
		t.Errorf("Load of an absent file: got %v", err)
	}
}

// FuzzParse holds that no file makes the daemon panic, and that what is
// refused is refused with a place.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("a: &a [*a, *a]"))
	f.Add([]byte("version: 1\n---\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			return
		}
		_, err := Parse("signet.yaml", data)
		var all Errors
		if err != nil && !errors.As(err, &all) {
			t.Errorf("got %v, want Errors", err)
		}
	})
}
