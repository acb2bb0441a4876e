package server

import (
	"strings"
	"testing"
	"time"
)

func TestRefusalsPastTheBudgetAreCountedAndNotRecorded(t *testing.T) {
	var d denials
	now := time.Unix(1000, 0)
	recorded := 0
	for range 1000 {
		if ok, _ := d.admit(7, now); ok {
			recorded++
		}
	}
	if recorded != denialsMost {
		t.Errorf("%d of 1,000 refusals are recorded, want %d", recorded, denialsMost)
	}
	if ok, _ := d.admit(8, now); !ok {
		t.Error("another uid's refusal is not recorded")
	}
	ok, note := d.admit(7, now.Add(denialsWithin))
	if !ok || !strings.Contains(note, "900 more") {
		t.Errorf("the next window: got %t, %q; want the 900 that were left out", ok, note)
	}
}
