package signertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/signetd/signet/signers"
)

func addKeyChecks(add adder) {
	add("offers", "an algorithm is had or refused by name: nothing is assumed, and nothing fails half-way", checkOffers)
	add("message-lengths", "tokens have any length, and a back-end must not cut, pad or refuse one", checkLengths)
	add("buffers", "the daemon reuses what it passed and keeps what it got, so neither may change under it", checkBuffers)
	add("public", "the public half is published once and for all, so it must fit the algorithm and never change", checkPublic)
	add("ecdsa-form", "ECDSA signatures are DER, and a nonce used twice gives the private key away", checkECDSAForm)
}

func addMisuseChecks(add adder) {
	add("open-wrong-algorithm", "a key used with another algorithm than it was made for is a forgery tool", checkWrongAlgorithm)
	add("one-algorithm", "a handle signs with the algorithm it was opened for, whatever other handles do", checkOneAlgorithm)
	add("unknown-algorithm", "what a back-end does not know it refuses, and makes no key of some other kind", checkUnknownAlgorithm)
	add("bad-ids", "an id becomes a file name, a label, a URL: nothing else may get that far", checkBadIDs)
	add("long-ids", "an id that a back-end cuts short makes two keys one", checkLongIDs)
	add("cancelled", "a caller that has gone must not leave a key or a signature behind", checkCancelled)
}

func checkSign(r *run, alg signers.Algorithm) {
	id := r.id()
	made := r.create(id, alg)
	opened := r.open(id, alg)
	if err := alg.Fits(made.Public()); err != nil {
		r.Errorf("public half of a new key: %v", err)
	}
	if !same(made.Public(), opened.Public()) {
		r.Errorf("%s: Create and Open give different public keys", alg)
	}
	r.signs(made, alg, made.Public(), []byte("made here"))
	r.signs(opened, alg, made.Public(), []byte("opened here"))
}

func checkLengths(r *run) {
	for _, alg := range shapes(r.algs) {
		k := r.create(r.id(), alg)
		p, err := alg.Params()
		limited := err == nil && p.Hash == 0 && r.RawMost > 0
		for _, n := range []int{0, 1, 31, 32, 33, 127, 128, 4096, 4097, 1 << 20} {
			message := bytes.Repeat([]byte{'x'}, n)
			if !limited || n > 0 && n <= r.RawMost {
				r.signs(k, alg, k.Public(), message)
			} else if _, err := k.Sign(r.Context(), message); !errors.Is(err, signers.ErrUnsupported) {
				r.Errorf("%s: Sign of %d bytes: got %v, want %q", alg, n, err, signers.ErrUnsupported)
			}
		}
		if !limited {
			r.signs(k, alg, k.Public(), nil)
		}
	}
}

func checkBuffers(r *run) {
	k := r.create(r.id(), r.alg)
	message := []byte("leave me as I am")
	first := r.signs(k, r.alg, k.Public(), message)
	if string(message) != "leave me as I am" {
		r.Errorf("Sign changed its message to %q", message)
	}
	kept := bytes.Clone(first)
	r.signs(k, r.alg, k.Public(), []byte("another message"))
	if !bytes.Equal(first, kept) {
		r.Errorf("the next Sign wrote over the signature given out before")
	}
}

func checkPublic(r *run) {
	for _, alg := range shapes(r.algs) {
		id := r.id()
		k := r.create(id, alg)
		if err := alg.Fits(k.Public()); err != nil {
			r.Errorf("Public: %v", err)
		}
		if again := k.Public(); !same(k.Public(), again) {
			r.Errorf("%s: Public gave two different keys", alg)
		}
		if !same(k.Public(), r.open(id, alg).Public()) {
			r.Errorf("%s: Open gives another public key than Create", alg)
		}
		if other := r.create(r.id(), alg); same(k.Public(), other.Public()) {
			r.Errorf("%s: two ids share one key", alg)
		}
	}
}

func checkECDSAForm(r *run) {
	message := []byte("the same message")
	for _, alg := range r.algs {
		if _, err := alg.RawLength(); err != nil {
			continue // not ECDSA
		}
		k := r.create(r.id(), alg)
		a, b := r.signs(k, alg, k.Public(), message), r.signs(k, alg, k.Public(), message)
		ra, errA := alg.RawFromDER(a)
		rb, errB := alg.RawFromDER(b)
		if errA != nil || errB != nil {
			r.Fatalf("%s: not DER: %v", alg, errors.Join(errA, errB))
		}
		if n := len(ra) / 2; bytes.Equal(ra[:n], rb[:n]) {
			r.Errorf("%s: two signatures share R, so a nonce was used twice", alg)
		}
	}
}

func checkCreateTwice(r *run) {
	id := r.id()
	first := r.create(id, r.alg)
	for _, alg := range append(shapes(r.algs), r.alg) {
		k, err := r.Backend.Create(r.Context(), id, alg)
		r.refuses(fmt.Sprintf("second Create(%q, %s)", id, alg), k, err, signers.ErrExists)
	}
	if !same(first.Public(), r.open(id, r.alg).Public()) {
		r.Errorf("the second Create replaced the key")
	}
	r.signs(first, r.alg, first.Public(), []byte("still the first"))
}

func checkOpenAbsent(r *run) {
	for _, alg := range r.algs {
		k, err := r.Backend.Open(r.Context(), r.id(), alg)
		r.refuses("Open of an absent key as "+string(alg), k, err, signers.ErrNotFound)
	}
}

// checkWrongAlgorithm opens each kind of key as everything that it is not. An
// algorithm that the back-end may lack can be ErrUnsupported instead.
func checkWrongAlgorithm(r *run) {
	for _, alg := range shapes(r.algs) {
		id := r.id()
		made := r.create(id, alg)
		for _, wrong := range signers.Algorithms() {
			if wrong.Fits(made.Public()) == nil {
				continue
			}
			k, err := r.Backend.Open(r.Context(), id, wrong)
			if errors.Is(err, signers.ErrUnsupported) && !slices.Contains(r.algs, wrong) {
				continue
			}
			r.refuses(fmt.Sprintf("Open of a key for %s as %s", alg, wrong), k, err, signers.ErrMismatch)
		}
	}
}

// checkOneAlgorithm opens a key for every algorithm that its public half fits
// (RSA has six). A back-end that remembers what the key was made for refuses;
// one that cannot must keep the handles apart.
func checkOneAlgorithm(r *run) {
	message := []byte("signed one way only")
	for _, alg := range shapes(r.algs) {
		id := r.id()
		made := r.create(id, alg)
		for _, sibling := range r.algs {
			if sibling == alg || sibling.Fits(made.Public()) != nil {
				continue
			}
			k, err := r.Backend.Open(r.Context(), id, sibling)
			if err != nil {
				r.refuses(fmt.Sprintf("Open of a key for %s as %s", alg, sibling), k, err, signers.ErrMismatch)
				continue
			}
			r.signs(k, sibling, made.Public(), message)
		}
		sig := r.signs(made, alg, made.Public(), message)
		for _, other := range signers.Algorithms() {
			if other != alg && other.Verify(made.Public(), message, sig) == nil {
				r.Errorf("a signature made for %s verifies as %s", alg, other)
			}
		}
	}
}

func checkUnknownAlgorithm(r *run) {
	id := r.id()
	for _, alg := range []signers.Algorithm{"", "none", "ES256", "rsa1024-pkcs1-sha1", "ecdsa-p256-sha512", "ED25519"} {
		k, err := r.Backend.Create(r.Context(), id, alg)
		r.refuses(fmt.Sprintf("Create as %q", alg), k, err, signers.ErrUnsupported)
	}
	k, err := r.Backend.Open(r.Context(), id, r.alg)
	r.refuses("Open after a refused Create", k, err, signers.ErrNotFound)
	r.create(id, r.alg)
	k, err = r.Backend.Open(r.Context(), id, "none")
	r.refuses(`Open as "none"`, k, err, signers.ErrUnsupported)
}

func checkBadIDs(r *run) {
	ctx := r.Context()
	for _, id := range []signers.KeyID{"", "A", "a_b", "a.b", "a/b", "../a", "a b", "a\n", "a\x00", "a*", "é", "a\xff", signers.KeyID(strings.Repeat("a", 64))} {
		if k, err := r.Backend.Create(ctx, id, r.alg); err == nil || k != nil {
			r.Errorf("Create(%q): got a key, want an error", id)
			r.made = append(r.made, id)
		}
		_, err := r.Backend.Open(ctx, id, r.alg)
		if err == nil || errors.Is(err, signers.ErrNotFound) {
			r.Errorf("Open(%q): got %v, want an error that names the id as bad", id, err)
		}
		if err := r.Backend.Destroy(ctx, id); err == nil {
			r.Errorf("Destroy(%q): got nil, want an error", id)
		}
	}
}

// checkLongIDs makes keys whose ids differ in their last character only, and
// one whose id is the beginning of the others.
func checkLongIDs(r *run) {
	stem := string(r.id())
	stem += strings.Repeat("-", 62-len(stem))
	ids := []signers.KeyID{signers.KeyID(stem), signers.KeyID(stem + "a"), signers.KeyID(stem + "b"), signers.KeyID(stem + "-")}
	r.made = append(r.made, ids...)
	made := map[signers.KeyID]signers.Key{}
	for _, id := range ids {
		made[id] = r.create(id, r.alg)
	}
	for _, id := range ids {
		k := r.open(id, r.alg)
		if !same(k.Public(), made[id].Public()) {
			r.Errorf("Open(%q) found the key of another id", id)
		}
		r.signs(k, r.alg, made[id].Public(), []byte(id))
	}
}

func checkCancelled(r *run) {
	id, absent := r.id(), r.id()
	k := r.create(id, r.alg)
	ctx, cancel := context.WithCancel(r.Context())
	cancel()

	made, err := r.Backend.Create(ctx, absent, r.alg)
	r.refuses("Create with a cancelled context", made, err, context.Canceled)
	opened, err := r.Backend.Open(ctx, id, r.alg)
	r.refuses("Open with a cancelled context", opened, err, context.Canceled)
	sig, err := k.Sign(ctx, []byte("too late"))
	if !errors.Is(err, context.Canceled) || sig != nil {
		r.Errorf("Sign with a cancelled context: got %d bytes and %v, want %q", len(sig), err, context.Canceled)
	}
	if err := r.Backend.Destroy(ctx, id); !errors.Is(err, context.Canceled) {
		r.Errorf("Destroy with a cancelled context: got %v, want %q", err, context.Canceled)
	}

	made, err = r.Backend.Open(r.Context(), absent, r.alg)
	r.refuses("Open after a cancelled Create", made, err, signers.ErrNotFound)
	r.signs(r.open(id, r.alg), r.alg, k.Public(), []byte("still here"))
}

// shapes returns one algorithm for each kind, curve and size of key in algs,
// but only the smallest RSA key: the larger ones take seconds to make.
func shapes(algs []signers.Algorithm) []signers.Algorithm {
	seen := map[string]bool{}
	var first []signers.Algorithm
	for _, a := range slices.Sorted(slices.Values(algs)) {
		shape := string(a)
		if p, err := a.Params(); err == nil && p.Kind == signers.KindRSA {
			shape = string(p.Kind)
		}
		if !seen[shape] {
			seen[shape] = true
			first = append(first, a)
		}
	}
	return first
}
