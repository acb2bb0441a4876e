package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write schema.json anew")

// generate makes the schema from the structs, so that it can't differ.
func generate(t *testing.T) []byte {
	t.Helper()
	r := jsonschema.Reflector{FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, Anonymous: true}
	s := r.Reflect(&Config{})
	s.Title = "signet configuration"
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestTheSchemaIsTheOneOfTheStructs(t *testing.T) {
	want := generate(t)
	if *update {
		if err := os.WriteFile("schema.json", want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(Schema(), want) {
		t.Error("schema.json is stale\nhint: go test ./daemon/config -run Schema -update, and once more without")
	}
}

// TestEveryFieldIsDescribed walks the schema as an editor would.
func TestEveryFieldIsDescribed(t *testing.T) {
	var s struct {
		Defs map[string]struct {
			Properties           map[string]struct{ Description string }
			AdditionalProperties *bool
		} `json:"$defs"`
	}
	if err := json.Unmarshal(generate(t), &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Defs) < 10 {
		t.Fatalf("the schema has %d definitions", len(s.Defs))
	}
	for def, d := range s.Defs {
		if d.AdditionalProperties == nil || *d.AdditionalProperties {
			t.Errorf("%s: unknown fields are not refused", def)
		}
		for name, p := range d.Properties {
			if p.Description == "" {
				t.Errorf("%s.%s: no description", def, name)
			}
		}
	}
}

// everything sets every field there is, so that none can be forgotten.
const everything = `version: 1
state_dir: s
runtime_dir: r
sockets: {mode: "0660", group: signet}
lifecycle: {lead_time: 5m, drain: 30s}
backends:
  - {name: a, type: softkey, softkey: {dir: d, secret: {credential: c, file: f, command: [/c]}, memory: true, unsafe_faults: {delay: 2ms, sessions: 16}}}
  - {name: b, type: pkcs11, pkcs11: {module: /m, token_label: t, token_serial: 12, sessions: 3, pin: {credential: c, file: f, command: [/c]}}}
  - name: c
    type: pkcs11
    pkcs11:
      uri: pkcs11:token=t
      keep_alive: 1s
      isolation: process
      hang_after: 1s
      environment: [A]
      network: true
      files: [/f]
      quirks: {initialize_args: a, max_sessions: 3, login: session, read_only_sessions: true, public_read_only: true, eddsa_mechanism: 1, eddsa_generate: 2, eddsa_params: name, ec_point: raw, omit: [CKA_WRAP], algorithms: [ed25519], unattested: [CKA_LOCAL]}
      pin: {credential: c}
    limits: {in_flight: 1, rate: 2, rates: {rsa: 3, ecc: 4}, failures: 3, pause: 1s, creations_per_hour: 5}
    health: {every: 1s, timeout: 1s, off: true}
  - {name: d, type: awskms, awskms: {region: eu-central-1, alias_prefix: p, endpoint: e, allow_endpoint: true, delete_after_days: 7, settle: 1s}}
  - {name: e, type: gcpkms, gcpkms: {key_ring: r, protection: HSM, connection: c, endpoint: e, generation: 1s}}
keys: [{name: k, backend: b, algorithm: ed25519, format: jwt, allow_blind_signing: true}]
profiles:
  - name: p
    key: k
    issuer: i
    type: t
    callers: [{uid: 1, gid: 2, unit: u, cgroup: /c, exe: /e}]
    audiences: [a]
    scopes: [s]
    subjects: [s]
    max_ttl: 1m
    kind: plain
    trust_domain: a.example
    principals: [a]
    options: {allowed: [force-command], required: [source-address], fixed: {verify-required: "", force-command: c}}
    extensions: {allowed: [permit-pty], fixed: {a@b.example: c}}
    assertion: {allowed: true, fixed: f}
    claims:
      allowed: [a]
      required: [b]
      fixed:
        number: 7
        truth: true
        list: [a, 1, false]
        deep:
          x: |
            text
    require_holder: true
    conditions: [c]
    format: opaque
    single_use: true
    verifiers: [{uid: 1, gid: 2, unit: u, cgroup: /c, exe: /e}]
admins: [{uid: 3, gid: 4, unit: u, cgroup: /c, exe: /e, rights: [view, rotate, revoke, destroy, policy]}]
issuers: {deadline: 1s, uids: 60000-60009, cgroup: /sys/fs/cgroup/signet, memory: 512MiB, accept_missing: [landlock, seccomp, uid, cgroup]}
plugins:
  - {name: cwt, format: cwt, path: /p, sha256: s, args: [a], runtime: [/r], plain_grpc: true, uid: 60001, memory: 1GiB, accept_missing: [cgroup], inspector: {path: /p, sha256: s, args: [a], runtime: [/r], plain_grpc: true}}
tokens: {most: 9}
ledger: {dir: l, segment_size: 1GiB, unsafe_no_sync: true}
log: {level: debug, format: json}
`

// TestEveryFieldIsDecoded finds a field that the decoder does not fill in.
func TestEveryFieldIsDecoded(t *testing.T) {
	c := &Config{}
	src := newSource("signet.yaml", []byte(everything))
	if !src.decode([]byte(everything), c) || len(src.errs) > 0 {
		t.Fatal(src.errs)
	}
	empty := map[string]bool{}
	unset(reflect.ValueOf(c), "", empty)
	for field, isEmpty := range empty {
		if isEmpty {
			t.Errorf("%s: not set", field)
		}
	}
	if len(empty) < 50 {
		t.Errorf("%d fields were looked at", len(empty))
	}
	want := map[string]any{"number": int64(7), "truth": true, "list": []any{"a", int64(1), false}, "deep": map[string]any{"x": "text\n"}}
	if d := cmp.Diff(want, c.Profiles[0].Claims.Fixed); d != "" {
		t.Errorf("fixed claims (-want +got):\n%s", d)
	}
}

// unset notes for each field, lists' entries taken together, whether it is
// empty everywhere.
func unset(v reflect.Value, at string, empty map[string]bool) {
	switch v.Kind() { //nolint:exhaustive // no other holds fields
	case reflect.Pointer:
		if !v.IsNil() {
			unset(v.Elem(), at, empty)
		}
	case reflect.Slice:
		for i := range v.Len() {
			unset(v.Index(i), at, empty)
		}
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			path, value := at+"."+f.name, v.FieldByIndex(f.index)
			before, seen := empty[path]
			empty[path] = value.IsZero() && (before || !seen)
			unset(value, path, empty)
		}
	}
}

// A rule is the part of JSON Schema that ours uses.
type rule struct {
	Ref                  string `json:"$ref"`
	Type                 string
	Enum                 []any
	Properties           map[string]rule
	Required             []string
	Items                *rule
	MinItems             int
	Minimum, Maximum     *float64
	AdditionalProperties *others
	Defs                 map[string]rule `json:"$defs"`
}

// others are what is said of properties without a name of ours: refused, or
// held against a rule.
type others struct {
	refused bool
	rule    *rule
}

// UnmarshalJSON takes false, true or a rule.
func (o *others) UnmarshalJSON(data []byte) error {
	var allowed bool
	if json.Unmarshal(data, &allowed) == nil {
		o.refused = !allowed
		return nil
	}
	return json.Unmarshal(data, &o.rule)
}

// breaks lists what in a value breaks the schema.
func (r rule) breaks(defs map[string]rule, at string, v any) []string {
	if r.Ref != "" {
		return defs[strings.TrimPrefix(r.Ref, "#/$defs/")].breaks(defs, at, v)
	}
	var found []string
	if len(r.Enum) > 0 && !slices.Contains(r.Enum, v) {
		found = append(found, fmt.Sprintf("%s: %v is none of %v", at, v, r.Enum))
	}
	switch v := v.(type) {
	case map[string]any:
		found = append(found, r.breaksInMap(defs, at, v)...)
	case []any:
		if r.Type != "array" || len(v) < r.MinItems {
			return append(found, at+": a list, or too short a one")
		}
		for i, item := range v {
			found = append(found, r.Items.breaks(defs, fmt.Sprintf("%s[%d]", at, i), item)...)
		}
	case float64:
		if r.Type != "integer" || r.Minimum != nil && v < *r.Minimum || r.Maximum != nil && v > *r.Maximum {
			found = append(found, fmt.Sprintf("%s: the number %v", at, v))
		}
	default:
		if want := map[string]string{"string": "string", "bool": "boolean"}[fmt.Sprintf("%T", v)]; r.Type != want {
			found = append(found, fmt.Sprintf("%s: %T, want %s", at, v, r.Type))
		}
	}
	return found
}

func (r rule) breaksInMap(defs map[string]rule, at string, v map[string]any) []string {
	if r.Type != "object" {
		return []string{at + ": a map"}
	}
	var found []string
	for _, name := range r.Required {
		if _, ok := v[name]; !ok {
			found = append(found, at+"."+name+": missing")
		}
	}
	for name, value := range v {
		p, known := r.Properties[name]
		switch {
		case known:
			found = append(found, p.breaks(defs, at+"."+name, value)...)
		case r.AdditionalProperties != nil && r.AdditionalProperties.refused:
			found = append(found, at+"."+name+": unknown")
		case r.AdditionalProperties != nil && r.AdditionalProperties.rule != nil:
			found = append(found, r.AdditionalProperties.rule.breaks(defs, at+"."+name, value)...)
		}
	}
	return found
}

// held holds a configuration against the published schema.
func held(t *testing.T, text []byte) []string {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(asJSON, &value); err != nil {
		t.Fatal(err)
	}
	var root rule
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	return root.breaks(root.Defs, "", value)
}

// TestTheSchemaTakesWhatIsGood and what an editor then need not underline.
func TestTheSchemaTakesWhatIsGood(t *testing.T) {
	example, err := Example{UID: 1000, Algorithm: "ed25519"}.Text()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"the example": example, "a good file": good, "every field": strings.Replace(everything, "token_serial: 12", `token_serial: "12"`, 1)} {
		for _, broken := range held(t, []byte(text)) {
			t.Errorf("%s: %s", name, broken)
		}
	}
}

// TestTheSchemaFindsMistakes of the kinds that a schema can find.
func TestTheSchemaFindsMistakes(t *testing.T) {
	for _, name := range []string{
		"unknown-field", "unknown-field-nested", "wrong-type-list", "wrong-type-map", "wrong-type-text", "wrong-type-bool", "wrong-type-uid",
		"uid-negative", "uid-of-nobody", "version-other", "version-missing", "missing-directories", "no-backends", "sections-missing", "backend-type",
		"pkcs11-sessions", "secret-missing", "secret-in-the-file", "plugin-missing", "no-callers", "unknown-right", "rights-missing", "max-ttl-missing",
		"ssh-option-values",
	} {
		a, err := txtar.ParseFile("testdata/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		if len(held(t, a.Files[0].Data)) == 0 {
			t.Errorf("%s: the schema takes it", name)
		}
	}
}
