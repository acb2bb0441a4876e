package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/invopop/jsonschema"
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
