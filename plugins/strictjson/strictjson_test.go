package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/signetd/signet/plugins/strictjson"
)

var limits = strictjson.Limits{Reserved: []string{"aud", "sub"}}

func TestWhatIsAcceptedIsCanonical(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                             `{}`,
		` { "b" : 1 , "a" : [ true ] } `: `{"a":[true],"b":1}`,
		`{"a":{"y":"é","x":-5}}`:         `{"a":{"x":-5,"y":"é"}}`,
		`{"a":"\u0041\n\"\\"}`:           `{"a":"A\n\"\\"}`,
		`{"a":"\ud83d\ude00"}`:           `{"a":"😀"}`,
		`{"aud":9007199254740991}`:       `{"aud":9007199254740991}`,
		`{"a":[],"b":{},"c":""}`:         `{"a":[],"b":{},"c":""}`,
	} {
		got, err := strictjson.Canonical([]byte(in), limits)
		if err != nil || string(got) != want {
			t.Errorf("Canonical(%s): got %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestWhatOthersReadDifferentlyIsRefused(t *testing.T) {
	for _, c := range []struct{ name, in, says string }{
		{"duplicate name", `{"a":1,"a":2}`, "twice"},
		{"duplicate name, escaped", `{"a":1,"\u0061":2}`, "twice"},
		{"duplicate name, nested", `{"x":{"a":1,"a":2}}`, "twice"},
		{"names that differ in case", `{"a":1,"A":2}`, "only in case"},
		{"a reserved name in another case", `{"AUD":"x"}`, `"aud"`},
		{"invalid UTF-8", "{\"a\":\"\xff\"}", "UTF-8"},
		{"lone surrogate", `{"a":"\ud800"}`, "surrogate"},
		{"trailing data", `{} {}`, "follow"},
		{"trailing letter", `{}x`, ""},
		{"exponent", `{"a":1e3}`, "integer"},
		{"fraction", `{"a":1.0}`, "integer"},
		{"too large an integer", `{"a":9007199254740993}`, "integer"},
		{"minus zero", `{"a":-0}`, "integer"},
		{"null", `{"a":null}`, "null"},
		{"control character in a name", `{"a\u0000":1}`, "control"},
		{"array", `[1]`, "not an object"},
		{"string", `"x"`, "not an object"},
		{"empty", ``, "not an object"},
		{"cut off", `{"a":`, "early"},
		{"comment", `{"a":1/*x*/}`, "malformed"},
		{"single quotes", `{'a':1}`, "malformed"},
		{"leading zero", `{"a":01}`, ""},
		{"too deep", strings.Repeat(`{"a":`, 17) + "1" + strings.Repeat("}", 17), "deep"},
		{"too many members", "{" + strings.Repeat(`"a":1,`, 0) + members(300) + "}", "members"},
		{"too long a string", `{"a":"` + strings.Repeat("x", 9000) + `"}`, "9000 bytes"},
		{"too long", `{"a":"` + strings.Repeat("x", 70000) + `"}`, "limit is 65536"},
	} {
		_, err := strictjson.Canonical([]byte(c.in), limits)
		if !errors.Is(err, strictjson.ErrRefused) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: got %v, want ErrRefused with %q", c.name, err, c.says)
		}
	}
}

func members(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"m%d":%d`, i, i))
	}
	return strings.Join(all, ",")
}

// TestBombsAreCheap holds what each bomb may allocate.
// TestANameThatIsRefusedIsNamed: whoever is to mend it must find it.
func TestANameThatIsRefusedIsNamed(t *testing.T) {
	for in, want := range map[string]string{
		`{"team":"a","team":"b"}`:     `at "/team": a name stands twice`,
		`{"a":{"b":1,"B":2}}`:         `at "/a/B": two names differ only in case`,
		`{"SUB":"x"}`:                 `at "/SUB": the name is "sub" in another case`,
		`{"a":1,"a\u0001":2,"b":"x"}`: `a name has a control character`,
	} {
		_, err := strictjson.Object([]byte(in), limits)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", in, err, want)
		}
	}
}

func TestBombsAreCheap(t *testing.T) {
	for name, bomb := range map[string][]byte{
		"4 MB of {},":   append([]byte(`{"a":[`), bytes.Repeat([]byte("{},"), 4<<20/3)...),
		"10,000 levels": []byte(strings.Repeat("[", 10_000)),
		"1 MB of names": []byte("{" + members(90_000) + "}"),
		"64 KB of [":    []byte(`{"a":` + strings.Repeat("[", 60_000)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := strictjson.Canonical(bomb, limits); !errors.Is(err, strictjson.ErrRefused) {
			t.Errorf("%s: got %v, want ErrRefused", name, err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 256<<10 {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}
}

func TestMembersReadBack(t *testing.T) {
	all, err := strictjson.Object([]byte(`{"s":"a\"b","n":7,"l":["x","y"],"m":[1]}`), limits)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := all[0].Text(); !ok || s != `a"b` {
		t.Errorf("Text: got %q, %t", s, ok)
	}
	if n, ok := all[1].Int(); !ok || n != 7 {
		t.Errorf("Int: got %d, %t", n, ok)
	}
	if l, ok := all[2].Texts(); !ok || !cmp.Equal(l, []string{"x", "y"}) {
		t.Errorf("Texts: got %q, %t", l, ok)
	}
	if _, ok := all[3].Texts(); ok {
		t.Error("Texts of numbers: got ok")
	}
}

// FuzzCanonical holds that what is accepted means the same to encoding/json,
// and that the canonical form is its own canonical form.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{`{"a":1}`, `{"a":[{"b":"\u00e9"}]}`, `{"AUD":1}`, `{"a":1,"a":2}`, "{\"\xff\":1}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := strictjson.Canonical(in, limits)
		if err != nil {
			return
		}
		// The library's strict decoder refuses duplicates and wrong UTF-8 too.
		if !jsontext.Value(in).IsValid() {
			t.Fatalf("accepted %q, which jsontext does not", in)
		}
		var a, b any
		if err := errors.Join(json.Unmarshal(in, &a), json.Unmarshal(out, &b)); err != nil {
			t.Fatalf("accepted %q, which encoding/json does not read: %v", in, err)
		}
		if !cmp.Equal(a, b) {
			t.Errorf("%q became %q", in, out)
		}
		again, err := strictjson.Canonical(out, limits)
		if err != nil || !bytes.Equal(out, again) {
			t.Errorf("%q became %q, %v", out, again, err)
		}
	})
}

func BenchmarkCanonical(b *testing.B) {
	in := []byte(`{"team":"core","roles":["reader","writer"],"region":"eu-north-1","level":3,"nested":{"a":true,"b":"` + strings.Repeat("x", 150) + `"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := strictjson.Canonical(in, limits); err != nil {
			b.Fatal(err)
		}
	}
}
