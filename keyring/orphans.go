package keyring

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/signers"
)

// ErrNoOrphan says that a key is not in its back-end, is not ours, or is on
// record.
var ErrNoOrphan = errors.New("no such orphan")

// Grace is how long a key counts as being made: another ring, whose records
// this one does not see, may be at it.
const Grace = time.Hour

// An Origin says whose work an orphan is.
type Origin string

// The origins of orphans. Somebody else's key is none.
const (
	Unclaimed   Origin = "unclaimed"    // a ring's, and no record of this ring has it
	HalfMade    Origin = "half-made"    // the same, and it is used by nobody: it was never named
	HealthCheck Origin = "health-check" // of a check that is not made any more
	Conformance Origin = "conformance"  // the suite's, which takes its keys away unless it is cut off
)

// An Orphan is a key of ours in a back-end that no record claims.
type Orphan struct {
	signers.Holding
	Backend string
	Origin  Origin
	Young   bool // younger than Grace, or of unknown age
}

// What ids of ours look like: see reserve, and conformance/signertest.
var (
	reserved = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}-v[1-9][0-9]*-[0-9a-f]{8}$`)
	checked  = regexp.MustCompile(`^` + signers.CheckPrefix + `[a-z2-7]{26}$`)
)

// originOf says whose work a key is, "" if not ours.
func originOf(h signers.Holding) Origin {
	health, isHealth := strings.CutPrefix(string(h.ID), signers.HealthPrefix)
	_, unknown := signers.Algorithm(health).Params()
	switch {
	case reserved.MatchString(string(h.ID)) && h.Stray:
		return HalfMade
	case reserved.MatchString(string(h.ID)):
		return Unclaimed
	case isHealth && unknown == nil:
		return HealthCheck
	case checked.MatchString(string(h.ID)):
		return Conformance
	}
	return ""
}

// Backends are the names of the back-ends, sorted.
func (r *Ring) Backends() []string { return slices.Sorted(maps.Keys(r.backends)) }

// Orphans lists the orphans in a back-end, oldest first. Nothing is done about
// them: a ring whose records were lost, or restored from an old backup, would
// take its own keys for orphans.
func (r *Ring) Orphans(ctx context.Context, backend string) ([]Orphan, error) {
	s, err := r.surveyor(backend)
	if err != nil {
		return nil, err
	}
	held, err := s.Survey(ctx)
	if err != nil {
		return nil, err
	}
	// Only now: a key that the back-end has by now was on record before.
	claims := r.claims(backend)
	var all []Orphan
	for _, h := range held {
		state, claimed := claims[h.ID]
		_, adopted := claims[h.AsAdopted]
		if adopted || claimed && (!h.Stray || state == Creating) {
			continue
		}
		if origin := originOf(h); origin != "" {
			young := h.Created.IsZero() || r.opts.Now().Before(h.Created.Add(Grace))
			all = append(all, Orphan{h, backend, origin, young})
		}
	}
	slices.SortFunc(all, func(a, b Orphan) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID)+a.Ref, string(b.ID)+b.Ref)
	})
	return all, nil
}

// surveyor is a back-end that can say what it holds.
func (r *Ring) surveyor(name string) (signers.Surveyor, error) {
	b, ok := r.backends[name]
	if !ok {
		return nil, fmt.Errorf("back-end %q: not configured: %w\nhint: see backends: in the configuration", name, ErrNoOrphan)
	}
	s, ok := b.(signers.Surveyor)
	if !ok {
		return nil, fmt.Errorf("back-end %q does not say what it holds: %w", name, signers.ErrUnsupported)
	}
	return s, nil
}

// claims are the ids that records have in a back-end, with their states. A
// version that is destroyed has none: if its key is there, it should not be.
func (r *Ring) claims(backend string) map[signers.KeyID]State {
	all := map[signers.KeyID]State{}
	for _, e := range r.List() {
		for _, v := range e.Versions {
			if e.Backend == backend && v.State != Destroyed {
				all[v.ID] = v.State
			}
		}
	}
	return all
}

// A Cleaning names one orphan to destroy: by id and by reference, as Orphans
// has them.
type Cleaning struct {
	Backend string
	ID      signers.KeyID
	Ref     string
	Young   bool // accept one that may be in the making
}

// Clean destroys one orphan and returns what it was.
func (r *Ring) Clean(ctx context.Context, c Cleaning) (Orphan, error) {
	all, err := r.Orphans(ctx, c.Backend)
	if err != nil {
		return Orphan{}, err
	}
	i := slices.IndexFunc(all, func(o Orphan) bool { return o.ID == c.ID && o.Ref == c.Ref && c.Ref != "" })
	if i < 0 {
		return Orphan{}, fmt.Errorf("back-end %q: key %q with reference %q: %w\nhint: copy both whole from `signet key orphans`; a key on record is none: see `signet key destroy`", c.Backend, c.ID, c.Ref, ErrNoOrphan)
	}
	o := all[i]
	if o.Young && !c.Young {
		return Orphan{}, fmt.Errorf("back-end %q: key %q: %w: it %s, and another daemon may be making it\nhint: wait, or say that none is, with --young", c.Backend, c.ID, ErrTooEarly, o.age())
	}
	s, err := r.surveyor(c.Backend)
	if err != nil {
		return Orphan{}, err
	}
	return o, s.Discard(ctx, o.ID, o.Ref)
}

// age says how old a young orphan is.
func (o Orphan) age() string {
	if o.Created.IsZero() {
		return "is of an age that the back-end does not say"
	}
	return "was made at " + o.Created.UTC().Format(time.RFC3339) + ", less than an hour ago"
}
