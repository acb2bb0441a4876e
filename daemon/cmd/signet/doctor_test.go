package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestDoctorSaysWhatItMeans looks at this machine, whatever it has.
func TestDoctorSaysWhatItMeans(t *testing.T) {
	var out, text bytes.Buffer
	code := run(t.Context(), []string{"doctor", "--json"}, &out, &bytes.Buffer{})
	var got struct {
		Findings []struct {
			Name        string
			Has, Needed bool
			Detail      string
			Means       string
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	run(t.Context(), []string{"doctor"}, &text, &bytes.Buffer{})
	want, names := 0, map[string]bool{}
	for _, f := range got.Findings {
		names[f.Name] = true
		if f.Detail == "" || f.Means == "" {
			t.Errorf("%s: no detail, or not what it means: %+v", f.Name, f)
		}
		if !f.Has && f.Needed {
			want = 3
		}
		if told := strings.Contains(text.String(), "without "+f.Name+": "+f.Means); told == f.Has {
			t.Errorf("%s: here is %v, and what it means is told: %v", f.Name, f.Has, told)
		}
	}
	if code != want {
		t.Errorf("exit status %d, want %d", code, want)
	}
	for _, name := range []string{"seccomp", "landlock", "SO_PEERPIDFD", "memfd_secret", "cgroup", "locked memory", "own uids", "user"} {
		if !names[name] {
			t.Errorf("doctor does not look at %s", name)
		}
	}
}
