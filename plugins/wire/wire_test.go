package wire

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/signers"
)

// plain is a Grant without its methods: cmp would ask its Equal, which leaves
// the profile out.
type plain plugins.Grant

// there sends a grant over the wire and reads it back.
func there(t interface {
	Helper()
	Fatalf(string, ...any)
}, g plugins.Grant) plugins.Grant {
	t.Helper()
	var m, back pluginsv1.Grant
	size, err := PutGrant(&m, g)
	if err != nil {
		t.Fatalf("PutGrant(%+v): %v", g, err)
	}
	data, err := proto.Marshal(&m)
	if err != nil {
		t.Fatalf("Marshal: %v", err)
	}
	if len(data) > size {
		t.Fatalf("PutGrant(%+v): says %d bytes at most, they are %d", g, size, len(data))
	}
	if err := proto.Unmarshal(data, &back); err != nil {
		t.Fatalf("Unmarshal: %v", err)
	}
	return Grant(&back)
}

// filled sets every field of a struct, so that one that is added later and
// forgotten here comes back empty.
func filled(v reflect.Value) {
	for i := range v.NumField() {
		name, f := v.Type().Field(i).Name, v.Field(i)
		switch value := f.Interface().(type) {
		case string:
			f.SetString(name)
		case []string:
			f.Set(reflect.ValueOf([]string{name, "two"}))
		case []byte:
			f.SetBytes([]byte(name))
		case uint64:
			f.SetUint(uint64(100 + i))
		case time.Time:
			f.Set(reflect.ValueOf(time.Unix(int64(1e9+i), 0).UTC()))
		case map[string]string:
			f.Set(reflect.ValueOf(map[string]string{name: "value", "other": ""}))
		case plugins.Form:
			f.SetUint(uint64(plugins.DER))
		case plugins.Encoding:
			f.SetUint(uint64(plugins.Base64))
		default:
			if f.Kind() != reflect.Struct {
				panic("a field of a new type: " + name + " " + reflect.TypeOf(value).String())
			}
			filled(f)
		}
	}
}

func TestEveryFieldOfAGrantTravels(t *testing.T) {
	var g plugins.Grant
	filled(reflect.ValueOf(&g).Elem())
	if diff := cmp.Diff(plain(g), plain(there(t, g))); diff != "" {
		t.Errorf("a grant with every field set (-sent +received):\n%s", diff)
	}
	if diff := cmp.Diff(plain{}, plain(there(t, plugins.Grant{}))); diff != "" {
		t.Errorf("an empty grant (-sent +received):\n%s", diff)
	}
}

// The other way round: a field of the message that nobody reads is lost too.
func TestEveryFieldOfTheMessageIsRead(t *testing.T) {
	var g plugins.Grant
	filled(reflect.ValueOf(&g).Elem())
	var m pluginsv1.Grant
	if _, err := PutGrant(&m, g); err != nil {
		t.Fatal(err)
	}
	d, err := NewDraft(draft())
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range []proto.Message{&m, d} {
		fields := message.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if !message.ProtoReflect().Has(fields.Get(i)) {
				t.Errorf("%s is written by nobody", fields.Get(i).FullName())
			}
		}
	}
	// One field at a time, each must make a difference to the reader.
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		one := &pluginsv1.Grant{}
		one.ProtoReflect().Set(f, v)
		if cmp.Equal(plain(Grant(one)), plain(Grant(&pluginsv1.Grant{}))) {
			t.Errorf("%s is read by nobody", f.FullName())
		}
		return true
	})
}

func draft() plugins.Draft {
	var d plugins.Draft
	filled(reflect.ValueOf(&d).Elem())
	return d
}

func TestEveryFieldOfADraftTravels(t *testing.T) {
	m, err := NewDraft(draft())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Draft(m)
	if diff := cmp.Diff(draft(), got); diff != "" || err != nil {
		t.Errorf("a draft with every field set (-sent +received): %v\n%s", err, diff)
	}
}

func TestAnyGrantTravels(t *testing.T) {
	text := rapid.String()
	list := rapid.Custom(func(t *rapid.T) []string {
		if l := rapid.SliceOfN(text, 0, 4).Draw(t, "list"); len(l) > 0 {
			return l
		}
		return nil
	})
	table := rapid.Custom(func(t *rapid.T) map[string]string {
		if m := rapid.MapOfN(text, text, 0, 4).Draw(t, "map"); len(m) > 0 {
			return m
		}
		return nil
	})
	when := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "time"), 0).UTC()
	})
	rapid.Check(t, func(t *rapid.T) {
		g := plugins.Grant{
			Profile: text.Draw(t, "profile"), Subject: text.Draw(t, "subject"), Audience: list.Draw(t, "aud"), Scope: list.Draw(t, "scope"),
			IssuedAt: when.Draw(t, "iat"), NotBefore: when.Draw(t, "nbf"), Expires: when.Draw(t, "exp"),
			Holder: plugins.Holder{Kind: text.Draw(t, "kind"), Value: text.Draw(t, "value")}, Serial: rapid.Uint64().Draw(t, "serial"),
			Options: table.Draw(t, "options"), Extensions: table.Draw(t, "extensions"),
		}
		if diff := cmp.Diff(plain(g), plain(there(t, g))); diff != "" {
			t.Fatalf("(-sent +received):\n%s", diff)
		}
	})
}

func TestGrantsTheWireCannotCarry(t *testing.T) {
	rows := []struct {
		name  string
		grant plugins.Grant
	}{
		{"subject is not UTF-8", plugins.Grant{Subject: "a\xff"}},
		{"one audience is not UTF-8", plugins.Grant{Audience: []string{"a", "\xff"}}},
		{"a scope is not UTF-8", plugins.Grant{Scope: []string{"\xff"}}},
		{"a principal is not UTF-8", plugins.Grant{Principals: []string{"\xff"}}},
		{"an option's name is not UTF-8", plugins.Grant{Options: map[string]string{"\xff": ""}}},
		{"an extension's value is not UTF-8", plugins.Grant{Extensions: map[string]string{"a": "\xff"}}},
		{"a holder is not UTF-8", plugins.Grant{Holder: plugins.Holder{Value: "\xff"}}},
		{"half a second", plugins.Grant{Expires: time.Unix(1e9, 5e8)}},
		{"claims of 256 KiB", plugins.Grant{Claims: make([]byte, MaxRequest)}},
		{"a million empty audiences", plugins.Grant{Audience: make([]string, 1e6)}},
	}
	for _, row := range rows {
		if _, err := PutGrant(&pluginsv1.Grant{}, row.grant); !errors.Is(err, plugins.ErrRefused) {
			t.Errorf("PutGrant, %s: got %v, want ErrRefused", row.name, err)
		}
	}
}

// Protobuf itself refuses the text: without the check above a whole batch
// would fail for one caller.
func TestEveryStringIsChecked(t *testing.T) {
	var g plugins.Grant
	filled(reflect.ValueOf(&g).Elem())
	var m pluginsv1.Grant
	if _, err := PutGrant(&m, g); err != nil {
		t.Fatal(err)
	}
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Kind() != protoreflect.StringKind || f.IsList() || f.IsMap() {
			return true
		}
		broken := proto.CloneOf(&m)
		broken.ProtoReflect().Set(f, protoreflect.ValueOfString("\xff"))
		if _, err := PutGrant(&pluginsv1.Grant{}, Grant(broken)); !errors.Is(err, plugins.ErrRefused) {
			t.Errorf("PutGrant with broken %s: got %v, want ErrRefused", f.Name(), err)
		}
		return true
	})
}

func TestDraftsTheWireCannotCarry(t *testing.T) {
	if _, err := NewDraft(plugins.Draft{ToBeSigned: make([]byte, MaxDraft+1)}); !errors.Is(err, plugins.ErrRefused) {
		t.Errorf("NewDraft of %d bytes: got %v, want ErrRefused", MaxDraft+1, err)
	}
	for _, m := range []*pluginsv1.Draft{{Form: 257}, {Encoding: 257}} {
		if _, err := Draft(m); !errors.Is(err, ErrMalformed) {
			t.Errorf("Draft(%v): got %v, want ErrMalformed", m, err)
		}
	}
}

func keys(t *testing.T) []plugins.VerifyingKey {
	t.Helper()
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return []plugins.VerifyingKey{
		{ID: "same", Algorithm: signers.Ed25519, Public: ed},
		{ID: "same", Algorithm: signers.ECDSAP256, Public: ec.Public()},
		{ID: "other", Algorithm: signers.Ed25519, Public: ed},
		{ID: "same", Algorithm: signers.Ed25519, Public: ed25519.PublicKey(make([]byte, ed25519.PublicKeySize))},
	}
}

func TestKeysTravelAndAreRemembered(t *testing.T) {
	var w KeyWriter
	var r KeyReader
	all := keys(t)
	for range 3 { // the second and third time from memory
		for _, k := range all {
			m, err := w.Message(k)
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Key(m)
			if err != nil || got.ID != k.ID || got.Algorithm != k.Algorithm || !equal(got.Public, k.Public) {
				t.Errorf("key %+v: got %+v, %v", k, got, err)
			}
		}
	}
	first, _ := w.Message(all[0])
	if again, _ := w.Message(all[0]); first != again {
		t.Error("Message: the same key was encoded twice")
	}
}

func TestManyKeysAreNotKept(t *testing.T) {
	var w KeyWriter
	var r KeyReader
	for i := range 3 * maxKeys {
		pub := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+i%26)), 31) + string(rune(i%128)))).Public()
		m, err := w.Message(plugins.VerifyingKey{ID: "k", Algorithm: signers.Ed25519, Public: pub})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Key(m); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(*w.known.Load()); n > maxKeys || len(r.known) > maxKeys {
		t.Errorf("after %d keys: %d and %d are kept, want at most %d", 3*maxKeys, n, len(r.known), maxKeys)
	}
}

func TestKeysTheWireCannotCarry(t *testing.T) {
	pub := keys(t)[0].Public
	for _, k := range []plugins.VerifyingKey{
		{},
		{ID: "k", Algorithm: signers.ECDSAP256, Public: pub},
		{ID: "\xff", Algorithm: signers.Ed25519, Public: pub},
		{ID: strings.Repeat("k", 300), Algorithm: signers.Ed25519, Public: pub},
	} {
		if _, err := new(KeyWriter).Message(k); !errors.Is(err, plugins.ErrRefused) {
			t.Errorf("Message(%+v): got %v, want ErrRefused", k, err)
		}
	}
	m, err := new(KeyWriter).Message(keys(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	other := &pluginsv1.VerifyingKey{Public: m.GetPublic(), Algorithm: string(signers.ECDSAP256)}
	for _, m := range []*pluginsv1.VerifyingKey{nil, {Public: []byte("x")}, other} {
		if _, err := new(KeyReader).Key(m); !errors.Is(err, ErrMalformed) {
			t.Errorf("Key(%v): got %v, want ErrMalformed", m, err)
		}
	}
}
