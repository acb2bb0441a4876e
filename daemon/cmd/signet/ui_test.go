package main

import (
	"bytes"
	"testing"
)

// TestACellStaysInItsRow: status shows errors in a table, each with its hint.
func TestACellStaysInItsRow(t *testing.T) {
	var b bytes.Buffer
	if err := table(&b, []string{"PART", "DETAIL"}, [][]string{{"key", "it is not ours\nhint: find out\twhose"}}); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "PART  DETAIL\nkey   it is not ours; hint: find out whose\n"; got != want {
		t.Errorf("table: got %q, want %q", got, want)
	}
}
