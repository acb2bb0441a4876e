// Package signertest holds the promises of signers.Backend as checks. Every
// back-end runs them against itself, and `signet conform` runs them against a
// real HSM:
//
//	conformance.Run(t, signertest.Checks(signers.ECDSAP256, signers.Ed25519), open)
//
// The package knows the contract and no implementation. Each check makes keys
// under ids of its own and destroys them, so that one token can serve them all.
package signertest

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	"github.com/signetd/signet/conformance"
	"github.com/signetd/signet/signers"
)

// A Subject is one back-end to check, fresh and open.
type Subject struct {
	Backend signers.Backend

	// Reopen opens the same store of keys anew after Backend was closed, as
	// a daemon does when it starts again. It is nil if keys do not outlive
	// the Backend. The check closes what it reopened.
	Reopen func() (signers.Backend, error)

	// Faults are what can be made to go wrong, for the checks of level 3.
	Faults []Fault

	// RawMost is how many bytes the back-end takes, and at least one, of a
	// message that it hashes itself, as for Ed25519; 0: any number. What it
	// does not take it refuses by name, and never cuts.
	RawMost int

	// Slow has the largest RSA keys made too, which takes minutes on some.
	Slow bool
}

// A Fault is something that can be made to go wrong.
type Fault struct {
	Name  string
	Begin func() (end func())
}

// The levels of the suite. Each contains those below it for `signet conform`.
const (
	LevelOpen        = iota // it is there; nothing is made
	LevelVectors            // every algorithm, every length
	LevelLife               // keys come and go
	LevelFaults             // what goes wrong is over soon
	LevelMisuse             // what must be refused is
	LevelConcurrency        // many at once
)

// Checks returns the promises of a back-end that has algs. Name at least one;
// a back-end may have more than it names, where making keys is slow.
func Checks(algs ...signers.Algorithm) []conformance.Check[Subject] {
	if len(algs) == 0 {
		panic("signertest: no algorithm to check")
	}
	var checks []conformance.Check[Subject]
	level := LevelOpen
	add := func(name, why string, f func(*run)) {
		checks = append(checks, conformance.Check[Subject]{Name: name, Level: level, Why: why, Run: func(t conformance.T, s Subject) {
			t.Helper()
			r := &run{T: t, Subject: s, algs: algs, alg: cheapest(algs)}
			defer r.cleanup()
			f(r)
		}})
	}
	addOpenChecks(add)
	level = LevelVectors
	for _, alg := range algs {
		add("sign-"+string(alg), "a key signs, and what it signed verifies under its own public half", func(r *run) { checkSign(r, alg) })
	}
	addKeyChecks(add)
	level = LevelLife
	addLifeChecks(add)
	level = LevelFaults
	addFaultChecks(add)
	level = LevelMisuse
	addMisuseChecks(add)
	level = LevelConcurrency
	addConcurrentChecks(add)
	return checks
}

// An adder takes one check: name, reason, and what it does.
type adder func(name, why string, f func(*run))

// A run is one check at work on one subject.
type run struct {
	conformance.T
	Subject
	algs     []signers.Algorithm
	alg      signers.Algorithm // the one for checks where any will do
	made     []signers.KeyID   // to be destroyed at the end
	reopened bool              // Backend is ours to close
}

// cheapest prefers anything to RSA, whose keys take seconds to make.
func cheapest(algs []signers.Algorithm) signers.Algorithm {
	for _, a := range algs {
		if p, err := a.Params(); err == nil && p.Kind != signers.KindRSA {
			return a
		}
	}
	return slices.Min(algs) // rsa2048 sorts first
}

// id returns an id that nobody has used, and destroys its key at the end.
func (r *run) id() signers.KeyID {
	id := signers.KeyID("check-" + strings.ToLower(rand.Text()))
	r.made = append(r.made, id)
	return id
}

// create makes a key or ends the check.
func (r *run) create(id signers.KeyID, alg signers.Algorithm) signers.Key {
	r.Helper()
	k, err := r.Backend.Create(r.Context(), id, alg)
	if err != nil {
		r.Fatalf("Create(%q, %s): got %v, want a key", id, alg, err)
	}
	return k
}

// open opens a key or ends the check.
func (r *run) open(id signers.KeyID, alg signers.Algorithm) signers.Key {
	r.Helper()
	k, err := r.Backend.Open(r.Context(), id, alg)
	if err != nil {
		r.Fatalf("Open(%q, %s): got %v, want a key", id, alg, err)
	}
	return k
}

// signs reports an error unless k signs message so that it verifies under pub.
// It is also called from goroutines, so it never ends the check.
func (r *run) signs(k signers.Key, alg signers.Algorithm, pub crypto.PublicKey, message []byte) []byte {
	r.Helper()
	sig, err := k.Sign(r.Context(), message)
	if err != nil {
		r.Errorf("%s: Sign of %d bytes: got %v, want a signature", alg, len(message), err)
		return nil
	}
	if err := alg.Verify(pub, message, sig); err != nil {
		r.Errorf("%s: Sign of %d bytes: %v", alg, len(message), err)
	}
	return sig
}

// refuses reports an error unless err is target and no key came with it.
func (r *run) refuses(what string, k signers.Key, err, target error) {
	r.Helper()
	if !errors.Is(err, target) {
		r.Errorf("%s: got %v, want %q", what, err, target)
	}
	if err != nil && k != nil {
		r.Errorf("%s: got a key beside the error", what)
	}
}

// same says whether two public keys are equal.
func same(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// restart closes the back-end and opens the same keys again.
func (r *run) restart() {
	r.Helper()
	if err := r.Backend.Close(); err != nil {
		r.Fatalf("Close: got %v, want nil", err)
	}
	b, err := r.Reopen()
	if err != nil {
		r.Fatalf("Reopen: got %v, want the back-end again", err)
	}
	r.Backend, r.reopened = b, true
}

// cleanup leaves nothing behind on a token that other checks use too. What it
// cannot destroy is told, not failed: the check has its verdict by now.
func (r *run) cleanup() {
	ctx := context.WithoutCancel(r.Context())
	for _, id := range r.made {
		err := r.Backend.Destroy(ctx, id)
		if errors.Is(err, signers.ErrClosed) && r.Reopen != nil && !r.reopened {
			r.restart()
			err = r.Backend.Destroy(ctx, id)
		}
		if err != nil && !errors.Is(err, signers.ErrClosed) {
			r.Logf("left behind: %q: %v", id, err)
		}
	}
	if r.reopened {
		_ = r.Backend.Close() // the check has its verdict by now
	}
}
