package main

import (
	"strings"
	"testing"
)

// TestWhatIsCompletedIsThere holds the tables against the commands.
func TestWhatIsCompletedIsThere(t *testing.T) {
	root := newRoot()
	for path := range completedArgs {
		if c, rest, err := root.Find(strings.Fields(path)); err != nil || len(rest) > 0 || c.ValidArgsFunction == nil {
			t.Errorf("no command %q: %v", path, err)
		}
	}
	for path := range completedFlags {
		command, flag, _ := strings.Cut(path, " --")
		c, rest, err := root.Find(strings.Fields(command))
		if err != nil || len(rest) > 0 {
			t.Errorf("no command %q: %v", command, err)
			continue
		}
		if _, ok := c.GetFlagCompletionFunc(flag); !ok {
			t.Errorf("%s: no flag --%s that is completed", command, flag)
		}
	}
}
