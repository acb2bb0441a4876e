package bench

import (
	"context"
	"testing"
	"time"

	"github.com/signetd/signet/conformance/shim"
)

// BenchmarkIsolation does what BenchmarkSoftHSM does with 64 callers, with the
// module in this daemon and in a process of its own.
func BenchmarkIsolation(b *testing.B) {
	raw := newRawToken(b, token.Module, sessions)
	for _, isolation := range []string{"none", "process"} {
		b.Run("isolation="+isolation, func(b *testing.B) {
			r := newRig(b, setup{NoSync: true, Backends: map[string]string{"main": hsm(token.Module, isolation, sessions)}})
			for b.Loop() {
				was, is := versus(b, 64, r.pids(b), raw.signAndVerify, r.sign("main"))
				report(b, was, is)
			}
		})
	}
}

// BenchmarkSlowModule holds both against a module whose C_Sign takes 5 ms more,
// with 16 sessions each: what an HSM behind a network does to a module.
func BenchmarkSlowModule(b *testing.B) {
	slow := newShim(b, 5*time.Millisecond)
	raw := newRawToken(b, slow.Module, 16)
	for _, isolation := range []string{"none", "process"} {
		b.Run("isolation="+isolation, func(b *testing.B) {
			r := newRig(b, setup{NoSync: true, Backends: map[string]string{"main": hsm(slow.Module, isolation, 16)}})
			for b.Loop() {
				was, is := versus(b, 64, r.pids(b), raw.signAndVerify, r.sign("main"))
				report(b, was, is)
			}
		})
	}
}

// newShim is the token's module with a C_Sign that takes longer.
func newShim(b *testing.B, delay time.Duration) *shim.Shim {
	b.Helper()
	s, err := shim.Make(b.TempDir(), token.Module)
	must(b, err)
	s.Set(shim.Fault{Function: "C_Sign", When: shim.After, Action: shim.Wait, Delay: delay})
	return s
}

// BenchmarkBulkhead holds a back-end against itself while another one, with
// all that it may hold in flight, takes 200 ms a signature.
func BenchmarkBulkhead(b *testing.B) {
	for _, isolation := range []string{"none", "process"} {
		b.Run("isolation="+isolation, func(b *testing.B) {
			slow := newShim(b, 200*time.Millisecond)
			r := newRig(b, setup{NoSync: true, Backends: map[string]string{
				"main": hsm(token.Module, isolation, sessions), "slow": hsm(slow.Module, isolation, 16),
			}})
			for b.Loop() {
				was, is := beside(b, r, r.sign("slow"), r.sign("main"))
				report(b, was, is)
				b.ReportMetric(float64(is.p99)/float64(was.p99), "p99-ratio")
			}
		})
	}
}

// beside measures work alone and while 160 callers wait for other, in turn: some of
// them are refused, and come back.
func beside(b *testing.B, r *rig, other, work subject) (reading, reading) {
	b.Helper()
	const length = 700 * time.Millisecond
	round(b, 8, length/4, nil, work)
	var alone, loaded []reading
	for range rounds {
		alone = append(alone, round(b, 8, length, r.pids(b), work))
		stop := load(b, 160, other)
		loaded = append(loaded, round(b, 8, length, r.pids(b), work))
		stop()
	}
	return median(alone), median(loaded)
}

// load keeps callers busy until it is stopped.
func load(b *testing.B, callers int, work subject) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan struct{})
	for range callers {
		go func() {
			for ctx.Err() == nil {
				if work() != nil {
					time.Sleep(10 * time.Millisecond) // as a client that backs off
				}
			}
			left <- struct{}{}
		}()
	}
	return func() {
		cancel()
		for range callers {
			<-left
		}
	}
}
