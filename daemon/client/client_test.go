package client

import (
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestEveryFieldOfARequestTravels finds a field that the wire forgets, in
// either direction.
func TestEveryFieldOfARequestTravels(t *testing.T) {
	r := Request{
		Profile: "p", Subject: "s", Audience: []string{"a"}, Scope: []string{"r"}, TTL: time.Second, Claims: []byte("{}"),
		Holder: map[string]string{"sshkey": "k"}, Principals: []string{"root"}, Options: map[string]string{"o": ""},
		Extensions: map[string]string{"e": "v"}, Assertion: []byte("t"),
	}
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not set by this test", v.Type().Field(i).Name)
		}
	}
	w, err := r.wire()
	if err != nil {
		t.Fatal(err)
	}
	m := w.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		if f := m.Descriptor().Fields().Get(i); !m.Has(f) {
			t.Errorf("%s is written by nobody", f.Name())
		}
	}
}

func TestARequestThatTheWireWouldChangeIsRefused(t *testing.T) {
	for what, r := range map[string]Request{
		"half a second": {TTL: 500e6},
		"two holders":   {TTL: 1e9, Holder: map[string]string{"jkt": "x", "x5t#S256": "y"}},
	} {
		if _, err := r.wire(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: got %v, want InvalidArgument", what, err)
		}
	}
}
