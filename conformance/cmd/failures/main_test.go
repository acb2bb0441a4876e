package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEachOutcomeIsCounted has a stream for each way in which tests can end.
func TestEachOutcomeIsCounted(t *testing.T) {
	for _, c := range []struct {
		name, counts string
		says, hides  string
		events       []string
	}{
		{"one passes", "1 0 0", "pass    0.5 s    1 passed  p", "quiet", []string{
			`{"Action":"run","Package":"p","Test":"A"}`, `{"Action":"output","Package":"p","Test":"A","Output":"quiet\n"}`,
			`{"Action":"pass","Package":"p","Test":"A"}`, `{"Action":"pass","Package":"p","Elapsed":0.5}`,
		}},
		{"subtests count, not what holds them", "2 0 0", "2 passed  p", "----", []string{
			`{"Action":"run","Package":"p","Test":"A"}`, `{"Action":"run","Package":"p","Test":"A/1"}`, `{"Action":"run","Package":"p","Test":"A/2"}`,
			`{"Action":"pass","Package":"p","Test":"A/1"}`, `{"Action":"pass","Package":"p","Test":"A/2"}`,
			`{"Action":"pass","Package":"p","Test":"A"}`, `{"Action":"pass","Package":"p"}`,
		}},
		{"a failed subtest is one failure", "1 1 0", "loud", "quiet", []string{
			`{"Action":"run","Package":"p","Test":"A"}`, `{"Action":"run","Package":"p","Test":"A/1"}`, `{"Action":"run","Package":"p","Test":"A/2"}`,
			`{"Action":"output","Package":"p","Test":"A/1","Output":"loud\n"}`, `{"Action":"output","Package":"p","Test":"A/2","Output":"quiet\n"}`,
			`{"Action":"fail","Package":"p","Test":"A/1"}`, `{"Action":"pass","Package":"p","Test":"A/2"}`,
			`{"Action":"fail","Package":"p","Test":"A"}`, `{"Action":"fail","Package":"p"}`,
		}},
		{"a test that fails beside its subtests", "1 1 0", "loud", "quiet", []string{
			`{"Action":"run","Package":"p","Test":"A"}`, `{"Action":"run","Package":"p","Test":"A/1"}`, `{"Action":"pass","Package":"p","Test":"A/1"}`,
			`{"Action":"output","Package":"p","Test":"A","Output":"loud\n"}`, `{"Action":"fail","Package":"p","Test":"A"}`, `{"Action":"fail","Package":"p"}`,
		}},
		{"a subtest of a subtest", "0 1 0", "loud", "quiet", []string{
			`{"Action":"run","Package":"p","Test":"A"}`, `{"Action":"run","Package":"p","Test":"A/1"}`, `{"Action":"run","Package":"p","Test":"A/1/x"}`,
			`{"Action":"output","Package":"p","Test":"A/1/x","Output":"loud\n"}`, `{"Action":"fail","Package":"p","Test":"A/1/x"}`,
			`{"Action":"fail","Package":"p","Test":"A/1"}`, `{"Action":"fail","Package":"p","Test":"A"}`, `{"Action":"fail","Package":"p"}`,
		}},
		{"a skip says why", "0 0 1", "no HSM here", "quiet", []string{
			`{"Action":"run","Package":"p","Test":"A"}`, `{"Action":"output","Package":"p","Test":"A","Output":"no HSM here\n"}`,
			`{"Action":"skip","Package":"p","Test":"A"}`, `{"Action":"pass","Package":"p"}`,
		}},
		{"a package that does not build", "0 1 0", "undefined: x", "quiet", []string{
			`{"ImportPath":"p","Action":"build-output","Output":"undefined: x\n"}`, `{"ImportPath":"p","Action":"build-fail"}`,
			`{"Action":"start","Package":"p"}`, `{"Action":"fail","Package":"p","FailedBuild":"p"}`,
		}},
		{"a package that dies", "1 1 0", "panic: gone", "quiet", []string{
			`{"Action":"run","Package":"p","Test":"A"}`, `{"Action":"pass","Package":"p","Test":"A"}`,
			`{"Action":"output","Package":"p","Output":"panic: gone\n"}`, `{"Action":"fail","Package":"p"}`,
		}},
		{"no test files", "0 0 0", "", "p", []string{`{"Action":"output","Package":"p","Output":"[no test files]\n"}`, `{"Action":"skip","Package":"p"}`}},
		{"what is not of the stream is shown", "0 0 0", "go: downloading", "{", []string{"go: downloading x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			file := filepath.Join(t.TempDir(), "counts")
			if err := run(strings.NewReader(strings.Join(c.events, "\n")), &out, file); err != nil {
				t.Fatal(err)
			}
			counts, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(string(counts)); got != c.counts {
				t.Errorf("passed, failed, skipped: got %q, want %q", got, c.counts)
			}
			if !strings.Contains(out.String(), c.says) || strings.Contains(out.String(), c.hides) {
				t.Errorf("got %q, want it to say %q and not %q", out.String(), c.says, c.hides)
			}
		})
	}
}
