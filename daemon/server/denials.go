package server

import (
	"fmt"
	"sync"
	"time"
)

// Refusals that are recorded, for each uid: a caller that is let do nothing
// must not be able to fill the disk with that. All are answered and counted.
const (
	denialsMost   = 100
	denialsWithin = 30 * time.Second
)

// denials counts refusals by uid. The zero value counts from now on.
type denials struct {
	mu    sync.Mutex
	byUID map[uint32]*denialWindow
}

type denialWindow struct {
	from           time.Time
	recorded, more int
}

// admit says whether a refusal is to be recorded, and what to add to its
// reason: how many were not, before it.
func (d *denials) admit(uid uint32, now time.Time) (record bool, note string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byUID == nil {
		d.byUID = map[uint32]*denialWindow{}
	}
	w := d.byUID[uid]
	if w == nil || now.Sub(w.from) >= denialsWithin {
		if w != nil && w.more > 0 {
			note = fmt.Sprintf(" (and %d more refusals of this uid before it)", w.more)
		}
		w = &denialWindow{from: now}
		d.byUID[uid] = w
	}
	if w.recorded == denialsMost {
		w.more++
		return false, ""
	}
	w.recorded++
	return true, note
}
