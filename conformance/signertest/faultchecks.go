package signertest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/signers"
)

func addOpenChecks(add adder) {
	add("opens", "a back-end that opened is there: it lists its keys and says that it is ready", checkOpens)
}

func addFaultChecks(add adder) {
	add("faults", "what goes wrong in a token or on the way to it is over soon after its cause is, without a person", checkFaults)
}

func checkOpens(r *run) {
	if lister, ok := r.Backend.(signers.Lister); ok {
		ids, err := lister.List(r.Context())
		if err != nil && !errors.Is(err, signers.ErrUnsupported) {
			r.Errorf("List: got %v, want the ids", err)
		}
		r.Logf("%d keys of ours are there", len(ids))
	}
	if reporter, ok := r.Backend.(signers.Reporter); ok {
		if got := reporter.Report(); got.State != "ready" {
			r.Errorf("Report: got %q (%s), want ready", got.State, got.Why)
		}
	}
}

// checkOffers asks for every algorithm that there is: one is had, which a
// signature proves, or it is refused by name.
func checkOffers(r *run) {
	var has, lacks []string
	for _, alg := range signers.Algorithms() {
		if p, err := alg.Params(); err != nil || p.Bits > 2048 && !r.Slow {
			continue
		}
		k, err := r.Backend.Create(r.Context(), r.id(), alg)
		if errors.Is(err, signers.ErrUnsupported) {
			lacks = append(lacks, string(alg))
			continue
		}
		if err != nil {
			r.Errorf("Create as %s: got %v, want a key or %q", alg, err, signers.ErrUnsupported)
			continue
		}
		if r.signs(k, alg, k.Public(), []byte("proved")) != nil {
			has = append(has, string(alg))
		}
	}
	for _, alg := range signers.PostQuantum() {
		k, err := r.Backend.Create(r.Context(), r.id(), alg)
		r.refuses("Create as "+string(alg), k, err, signers.ErrUnsupported)
		lacks = append(lacks, string(alg))
	}
	r.Logf("offers, each proved by a signature: %s", orNone(has))
	r.Logf("refuses: %s", orNone(lacks))
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// backWithin is how soon after the end of a fault a key must sign again.
const backWithin = 2 * time.Second

func checkFaults(r *run) {
	if len(r.Faults) == 0 {
		conformance.Skip(r.T, "nothing can be made to go wrong here")
	}
	k := r.create(r.id(), r.alg)
	for _, f := range r.Faults {
		end := f.Begin()
		_ = r.tries(k, 100*time.Millisecond) // it may fail as it likes
		end()
		ctx, cancel := context.WithTimeout(r.Context(), backWithin)
		err := r.tries(k, backWithin)
		for err != nil && ctx.Err() == nil {
			err = r.tries(k, backWithin)
		}
		cancel()
		if err != nil {
			r.Errorf("%s: %v after its end: %v", f.Name, backWithin, err)
		}
	}
	r.Logf("%d faults were over in time", len(r.Faults))
}

// tries signs once, as the keyring does: what does not verify is never let go
// of, and has the key looked up again.
func (r *run) tries(k signers.Key, within time.Duration) error {
	ctx, cancel := context.WithTimeout(r.Context(), within)
	defer cancel()
	message := []byte("through a fault")
	sig, err := k.Sign(ctx, message)
	if err == nil {
		err = r.alg.Verify(k.Public(), message, sig)
	}
	if d, ok := k.(signers.Doubter); ok && errors.Is(err, signers.ErrBadSignature) {
		d.Doubt()
	}
	return err
}
