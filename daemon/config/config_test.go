package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
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

// TestEachMistakeIsNamed reads the cases of testdata: one file, one case, and
// all that is said of it, to the letter.
func TestEachMistakeIsNamed(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 90 {
		t.Fatalf("testdata: %d cases, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil || len(a.Files) != 2 {
				t.Fatalf("a case is a signet.yaml and what is wanted: %v", err)
			}
			_, err = Parse("signet.yaml", a.Files[0].Data)
			var all Errors
			if !errors.As(err, &all) {
				t.Fatalf("got %v, want Errors", err)
			}
			if *update {
				a.Files[1].Data = []byte(err.Error() + "\n")
				if err := os.WriteFile(file, txtar.Format(a), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if d := cmp.Diff(string(a.Files[1].Data), err.Error()+"\n"); d != "" {
				t.Errorf("Parse (-want +got):\n%s", d)
			}
			if said := err.Error(); strings.Contains(said, "1234") || strings.Contains(said, "hunter2") {
				t.Error("a secret of the file is repeated")
			}
			for _, e := range all {
				if e.File != "signet.yaml" || e.Line == 0 || e.Column == 0 || e.Hint == "" {
					t.Errorf("a mistake without its place or remedy: %+v", e)
				}
			}
		})
	}
}

// TestAMistakeFoundLaterHasItsPlace is for what only the daemon can check.
func TestAMistakeFoundLaterHasItsPlace(t *testing.T) {
	c, err := Parse("/etc/signet/signet.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct {
		field string
		want  Error
	}{
		{"profiles[0].audiences[0]", Error{Line: 15, Column: 17, Source: "    audiences: [https://api.example]"}},
		{"profiles[0].claims.fixed.level", Error{Line: 18, Column: 43, Source: "    claims: {fixed: {tenant: acme, level: 3}}"}},
		{"profiles[0].scopes", Error{Line: 10, Column: 5, Source: "  - name: ci"}},
		{"backends[1].pkcs11.pin", Error{Line: 6, Column: 84}},
		{"ledger.dir", Error{Line: 22, Column: 9, Source: "ledger: {segment_size: 1MiB}"}},
		{"issuers", Error{Line: 1, Column: 1}},
	} {
		m.want.File, m.want.Field, m.want.Problem, m.want.Hint = "/etc/signet/signet.yaml", m.field, "not so", "do so"
		if d := cmp.Diff(m.want, c.Mistake(m.field, "not so", "do so")); d != "" {
			t.Errorf("Mistake(%q) (-want +got):\n%s", m.field, d)
		}
	}
	if again := c.Mistake("issuers", "not so", "do so"); again.Line != 1 {
		t.Errorf("Mistake, a second time: got %+v", again)
	}
	made := &Config{}
	if e := made.Mistake("log", "not so", ""); e.Field != "log" {
		t.Errorf("Mistake of a configuration without a file: got %+v", e)
	}
}

func TestAMistakeIsJSONAsWell(t *testing.T) {
	_, err := Parse("signet.yaml", []byte(strings.Replace(good, "15m", "99h", 1)))
	got, jsonErr := json.Marshal(err)
	if jsonErr != nil {
		t.Fatal(jsonErr)
	}
	want := `[{"file":"signet.yaml","line":17,"column":14,"field":"profiles[0].max_ttl","source":"    max_ttl: 99h",` +
		`"problem":"99h is over the ceiling of 24h","hint":"short-lived tokens are the point: renew them instead"}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestTheExampleStartsAsItIs reads it from where `signet init` writes it.
func TestTheExampleStartsAsItIs(t *testing.T) {
	text, err := Example{UID: 1000, Algorithm: "ed25519"}.Text()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "signet.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Keys[0].Algorithm != "ed25519" || *c.Profiles[0].Callers[0].UID != 1000 || *c.Admins[0].UID != 1000 {
		t.Errorf("the example: got %+v", c)
	}
}

// TestWindowsEditorsDoNoHarm takes their line ends and their byte order mark.
func TestWindowsEditorsDoNoHarm(t *testing.T) {
	c, err := Parse("signet.yaml", []byte("\ufeff"+strings.ReplaceAll(good, "\n", "\r\n")))
	if err != nil || c.Profiles[0].Issuer != "https://signet.example" {
		t.Errorf("got %+v, %v", c, err)
	}
}

// TestDigitsThatAreTextStayAsTheyAre is for serial numbers and file modes.
func TestDigitsThatAreTextStayAsTheyAre(t *testing.T) {
	text := strings.Replace(good, "token_label: t", "token_serial: 0123, token_label: 1.10", 1)
	c, err := Parse("signet.yaml", []byte(strings.Replace(text, "ledger:", "sockets: {mode: 0660}\nledger:", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Backends[1].PKCS11; p.TokenSerial != "0123" || p.TokenLabel != "1.10" || c.Sockets.Mode.Perm(0) != 0o660 {
		t.Errorf("got %q, %q, %o", p.TokenSerial, p.TokenLabel, c.Sockets.Mode.Perm(0))
	}
}

// TestASectionWithoutLinesIsNotThere lets somebody comment a section out.
func TestASectionWithoutLinesIsNotThere(t *testing.T) {
	if _, err := Parse("signet.yaml", []byte(good+"log:\n#  level: debug\nissuers: ~\n")); err != nil {
		t.Error(err)
	}
}

// TestWhatIsAtALimitIsGood changes the good file up to what is allowed.
func TestWhatIsAtALimitIsGood(t *testing.T) {
	profile := good[strings.Index(good, "  - name: ci\n"):strings.Index(good, "admins:")]
	var many strings.Builder
	for i := range 40 {
		many.WriteString(strings.Replace(profile, "name: ci", fmt.Sprintf("name: ci-%d", i), 1))
	}
	for _, c := range []struct{ name, old, with string }{
		{"the longest life", "max_ttl: 15m", "max_ttl: 24h"},
		{"the longest name", "name: hsm", "name: " + strings.Repeat("n", 40)},
		{"a group is an identity", "{uid: 1000}", "{gid: 1000}"},
		{"a cgroup is an identity", "{uid: 1000}", "{cgroup: /system.slice}"},
		{"empty where empty says nothing", "token_label: t", `token_label: t, token_serial: ""`},
		{"sixty-four sessions", "token_label: t", "token_label: t, sessions: 64"},
		{"many profiles", profile, many.String()},
		{"no admins", "admins:\n  - {uid: 0, rights: [view, revoke]}\n", ""},
	} {
		if text := strings.Replace(good, c.old, c.with, 1); text == good {
			t.Errorf("%s: %q is not in the good file", c.name, c.old)
		} else if _, err := Parse("signet.yaml", []byte(text)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestPathsAreRelativeToTheFile wherever one is.
func TestPathsAreRelativeToTheFile(t *testing.T) {
	text := strings.NewReplacer("{credential: pin}", "{file: pin}", "{segment_size: 1MiB}", "{dir: ledger}").Replace(good)
	c, err := Parse("/etc/signet/signet.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if c.Backends[1].PKCS11.PIN.File != "/etc/signet/pin" || c.LedgerDir() != "/etc/signet/ledger" {
		t.Errorf("got %q and %q", c.Backends[1].PKCS11.PIN.File, c.LedgerDir())
	}
}

// FuzzParse holds that no file makes the daemon panic, and that what is
// refused is refused with a place.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("a: &a [*a, *a]"))
	f.Add([]byte("version: 1\n---\n"))
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range cases {
		a, err := txtar.ParseFile(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			return
		}
		c, err := Parse("signet.yaml", data)
		var all Errors
		if (c == nil) != (err != nil) || err != nil && !errors.As(err, &all) {
			t.Errorf("got %v, %v, want a Config or Errors", c, err)
		}
		for _, e := range all {
			if e.Line < 1 || e.Column < 1 || e.Hint == "" || strings.ContainsAny(e.Error(), "\x00\x1b\r") {
				t.Errorf("a mistake without its place or remedy, or with what a terminal obeys: %+v", e)
			}
		}
	})
}
