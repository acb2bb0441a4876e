package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// rest makes a whole configuration of a page's back-ends.
const rest = `
version: 1
state_dir: state
runtime_dir: run
keys:
  - {name: demo, backend: hsm, algorithm: ecdsa-p256-sha256, format: jwt}
profiles:
  - {name: demo, key: demo, issuer: i, type: at+jwt, callers: [{uid: 0}], audiences: [a], subjects: [s], max_ttl: 5m}
`

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestEveryExampleIsGood reads each configuration under examples, and each that
// a page shows.
func TestEveryExampleIsGood(t *testing.T) {
	n := 0
	check := func(name, text string) {
		n++
		if !strings.Contains(text, "version:") {
			text += rest
		}
		if _, err := Parse(name, []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := filepath.WalkDir("../../examples", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		switch {
		case err != nil:
			return err
		case d.Name() == "signet.yaml":
			check(path, string(text))
		case strings.HasSuffix(path, ".md"):
			for _, block := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
				check(path, block[1])
			}
		}
		return nil
	})
	if err != nil || n < 7 {
		t.Errorf("%d configurations were read, %v", n, err)
	}
}
