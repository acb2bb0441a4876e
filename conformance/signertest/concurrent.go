package signertest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/signetd/signet/signers"
)

func addConcurrentChecks(add adder) {
	add("sign-at-once", "the daemon signs for many callers over few sessions, and must never mix their answers up", checkSignAtOnce)
	add("create-one-id-at-once", "two callers that reserve one id must not both believe they made the key", checkCreateOneAtOnce)
	add("create-many-at-once", "keys made at the same moment are different keys under their own ids", checkCreateManyAtOnce)
	add("destroy-while-signing", "once Destroy has returned, no signature that starts may succeed", checkDestroyWhileSigning)
	add("close-while-signing", "a graceful stop lets signatures under way end, and refuses the rest by name", checkCloseWhileSigning)
}

// together runs f(0) … f(n-1), all let go at the same moment.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

func checkSignAtOnce(r *run) {
	var keys []signers.Key
	var algs []signers.Algorithm
	for _, alg := range append(shapes(r.algs), r.alg, r.alg) {
		keys, algs = append(keys, r.create(r.id(), alg)), append(algs, alg)
	}
	together(64, func(i int) {
		k, alg := keys[i%len(keys)], algs[i%len(keys)]
		for n := range 4 {
			r.signs(k, alg, k.Public(), fmt.Appendf(nil, "caller %d, message %d", i, n))
		}
	})
}

func checkCreateOneAtOnce(r *run) {
	id := r.id()
	var won atomic.Pointer[signers.Key]
	together(8, func(int) {
		k, err := r.Backend.Create(r.Context(), id, r.alg)
		if err != nil {
			r.refuses("Create against others", k, err, signers.ErrExists)
			return
		}
		if !won.CompareAndSwap(nil, &k) {
			r.Errorf("Create(%q) succeeded twice", id)
		}
	})
	if won.Load() == nil {
		r.Fatalf("Create(%q): nobody made the key", id)
	}
	k := *won.Load()
	if !same(k.Public(), r.open(id, r.alg).Public()) {
		r.Errorf("the key that stayed is not the key of the caller that won")
	}
	r.signs(k, r.alg, k.Public(), []byte("I won"))
}

func checkCreateManyAtOnce(r *run) {
	ids := make([]signers.KeyID, 8)
	for i := range ids {
		ids[i] = r.id()
	}
	keys := make([]signers.Key, len(ids))
	together(len(ids), func(i int) {
		k, err := r.Backend.Create(r.Context(), ids[i], r.alg)
		if err != nil {
			r.Errorf("Create(%q) beside others: got %v, want a key", ids[i], err)
			return
		}
		keys[i] = k
	})
	for i, k := range keys {
		if k == nil {
			continue // reported above
		}
		if !same(k.Public(), r.open(ids[i], r.alg).Public()) {
			r.Errorf("Open(%q) found the key of another id", ids[i])
		}
		for j := range i {
			if keys[j] != nil && same(k.Public(), keys[j].Public()) {
				r.Errorf("%q and %q are the same key", ids[i], ids[j])
			}
		}
		r.signs(k, r.alg, k.Public(), []byte(ids[i]))
	}
}

func checkDestroyWhileSigning(r *run) {
	id := r.id()
	k := r.create(id, r.alg)
	r.signsUntil(k, signers.ErrNotFound, func() error { return r.Backend.Destroy(r.Context(), id) })
}

func checkCloseWhileSigning(r *run) {
	k := r.create(r.id(), r.alg)
	r.signsUntil(k, signers.ErrClosed, r.Backend.Close)
}

// signsUntil signs from eight goroutines while stop is called. Each signature
// must be good, or refused with target; one that starts after stop has
// returned must be refused. Every goroutine ends at its first refusal, and
// after 100,000 signatures at most.
func (r *run) signsUntil(k signers.Key, target error, stop func() error) {
	r.Helper()
	var stopped atomic.Bool
	var signed sync.WaitGroup
	signed.Add(8)
	together(9, func(i int) {
		if i == 8 {
			signed.Wait() // all eight are at work
			if err := stop(); err != nil {
				r.Errorf("while signing: got %v, want nil", err)
			}
			stopped.Store(true)
			return
		}
		for n := range 100_000 {
			over := stopped.Load()
			ok := r.signsOr(k, target, over)
			if n == 0 {
				signed.Done()
			}
			if !ok || over {
				return
			}
		}
	})
}

// signsOr signs once. It returns false when the key was refused with target,
// and reports an error for anything that is neither that nor a good signature.
func (r *run) signsOr(k signers.Key, target error, over bool) bool {
	r.Helper()
	message := []byte("to the last")
	sig, err := k.Sign(r.Context(), message)
	if err == nil && over {
		r.Errorf("Sign succeeded although it began after the end, want %q", target)
	}
	if err == nil {
		err = r.alg.Verify(k.Public(), message, sig)
	}
	if err != nil && !errors.Is(err, target) {
		r.Errorf("Sign while the end comes: got %v, want a good signature or %q", err, target)
	}
	return err == nil
}
