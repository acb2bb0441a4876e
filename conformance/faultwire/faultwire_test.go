package faultwire

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestWhatGoesWrongIsSaidFromElsewhere(t *testing.T) {
	var now string
	s := httptest.NewServer(Handler(map[string]func(){
		"a reset": func() { now = "reset" }, "100% slow/late": func() { now = "slow" },
	}, func() { now = "" }))
	defer s.Close()
	c, err := Dial(t.Context(), s.URL)
	if err != nil || !slices.Equal(c.Names, []string{"100% slow/late", "a reset"}) {
		t.Fatalf("Dial: got %+v, %v", c, err)
	}
	for name, want := range map[string]string{"a reset": "reset", "100% slow/late": "slow"} {
		if err := c.Begin(t.Context(), name); err != nil || now != want {
			t.Errorf("Begin %s: got %q, %v", name, now, err)
		}
	}
	if err := c.End(t.Context()); err != nil || now != "" {
		t.Errorf("End: got %q, %v", now, err)
	}
	if err := c.Begin(t.Context(), "nothing"); err == nil || !strings.Contains(err.Error(), "no such fault") {
		t.Errorf("Begin of what is not there: got %v", err)
	}
	for _, bad := range []string{"http://192.0.2.1:80", "http://fake.example", "::"} {
		if _, err := Dial(t.Context(), bad); err == nil {
			t.Errorf("Dial %s: got nil, want it refused", bad)
		}
	}
}
