package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/conformance/softhsm"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/keyring/filestore"
	"github.com/signetd/signet/signers"
)

// BenchmarkManyKeys holds a token of MANY_KEYS keys (1,000), all of them in
// use, against one of ten: the time from the start to a first signature, and
// what a signature costs.
func BenchmarkManyKeys(b *testing.B) {
	n := 1000
	if s := os.Getenv("MANY_KEYS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		must(b, err)
	}
	ten, many := newManyRig(b, 10), newManyRig(b, n)
	unix.Sync() // 20,000 new files are not what is measured
	b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
		for b.Loop() {
			var starts []time.Duration
			for range 3 {
				starts = append(starts, many.restart(b, func() subject { return many.sign("k7") }))
			}
			b.Logf("starts: %v", starts)
			first := slices.Sorted(slices.Values(starts))[1]
			many.open(b)
			was, is := versus(b, 8, append(ten.pids(b), many.pids(b)...), ten.each(), many.each())
			report(b, was, is)
			b.ReportMetric(first.Seconds(), "first-signature-s")
		}
	})
}

// newManyRig starts a daemon on a token of its own with n keys.
func newManyRig(b *testing.B, n int) *rig {
	b.Helper()
	dir := b.TempDir()
	own, err := softhsm.Make(dir)
	must(b, err)
	shared := token
	defer func() {
		token = shared
		must(b, os.Setenv("SOFTHSM2_CONF", token.Conf))
	}()
	token = own
	must(b, os.Setenv("SOFTHSM2_CONF", own.Conf))
	made := fillToken(b, n)
	must(b, os.WriteFile(filepath.Join(dir, "pin"), []byte(own.PIN), 0o600))
	main := fmt.Sprintf("type: pkcs11, pkcs11: {module: %s, token_label: %s, pin: {file: %s/pin}, sessions: %d}", own.Module, own.Label, dir, sessions)
	return newRig(b, setup{NoSync: true, Backends: map[string]string{"main": main}, Made: made})
}

// fillToken makes n keys by the ids that the first versions of k0, k1 and so
// on have, and lets the module go.
func fillToken(b *testing.B, n int) map[string]*ecdsa.PublicKey {
	b.Helper()
	r := newRawToken(b, token.Module, 1)
	s := <-r.sessions
	made := map[string]*ecdsa.PublicKey{}
	for i := range n {
		name := fmt.Sprint("k", i)
		_, made[name] = r.generate(b, s, name+"-v1-0011223344556677")
		if i%1000 == 999 {
			b.Logf("%d of %d keys made", i+1, n)
		}
	}
	must(b, r.ctx.Finalize())
	return made
}

// record puts keys that are in the token on record, as signing.
func (r *rig) record(b *testing.B, made map[string]*ecdsa.PublicKey) {
	b.Helper()
	must(b, os.Mkdir(filepath.Join(r.dir, "state"), 0o700))
	store, err := filestore.Open(filepath.Join(r.dir, "state", "keyring"), filestore.Options{})
	must(b, err)
	defer func() { must(b, store.Close()) }()
	for name, public := range made {
		der, err := x509.MarshalPKIXPublicKey(public)
		must(b, err)
		kid, err := keyring.Thumbprint(public)
		must(b, err)
		r.kids[name] = kid
		_, err = store.Save(context.Background(), name, keyring.Entry{
			Name: name, Backend: "main", Algorithm: signers.ECDSAP256, Format: "jwt",
			Versions: []keyring.Version{{
				Number: 1, ID: signers.KeyID(name + "-v1-0011223344556677"), State: keyring.Signing, Kid: kid, Public: der, Created: time.Now(), Published: time.Now(), Activated: time.Now(),
			}},
		}, 0)
		must(b, err)
	}
}

// open has every key sign once.
func (r *rig) open(b *testing.B) {
	b.Helper()
	for name := range r.kids {
		must(b, r.sign(name)())
	}
}

// each signs with one key after another.
func (r *rig) each() subject {
	var all []subject
	for _, name := range slices.Sorted(maps.Keys(r.kids)) {
		all = append(all, r.sign(name))
	}
	var next atomic.Int64
	return func() error { return all[int(next.Add(1))%len(all)]() }
}
