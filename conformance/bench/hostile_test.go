package bench

import (
	"context"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/daemon/client"
	"github.com/signetd/signet/plugins/host"
)

// BenchmarkBesideHostile holds a profile against itself, at the rate that its
// callers choose, while a plug-in that was taken over is asked all the time. One
// that is killed, hangs or floods is ended and started again until it may not be.
func BenchmarkBesideHostile(b *testing.B) {
	for _, mode := range []string{"exit", "hang", "flood", "chatter", "spin"} {
		b.Run("mode="+mode, func(b *testing.B) {
			s := setup{NoSync: true, Backends: map[string]string{"main": softKey("")}, Foreign: []string{"a", "b", "c", "d", "e"}, Mode: mode}
			s.Hostile, s.HostileSum = buildHostile(b)
			r := newRig(b, s)
			for b.Loop() {
				var quiet, beside []reading
				for _, format := range s.Foreign { // each a fresh one: what dies too often stays down
					quiet = append(quiet, paced(b, r, 2*time.Second))
					stop := r.attack(format)
					beside = append(beside, paced(b, r, 2*time.Second))
					stop()
				}
				was, is := median(quiet), median(beside)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(micros(was.p99), "quiet-p99-µs")
				b.ReportMetric(micros(is.p99), "p99-µs")
				b.ReportMetric(float64(is.p50)/float64(was.p50), "p50-ratio")
				b.ReportMetric(float64(is.p99)/float64(was.p99), "ratio")
			}
		})
	}
}

func buildHostile(b *testing.B) (path, sum string) {
	b.Helper()
	path = filepath.Join(b.TempDir(), "hostile")
	if out, err := exec.Command("go", "build", "-o", path, "../foreign/cmd/hostile").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	sum, err := host.Digest(path, nil)
	must(b, err)
	return path, sum
}

// paced has four callers ask a hundred times a second each. No request may fail.
func paced(b *testing.B, r *rig, length time.Duration) reading {
	b.Helper()
	work := r.lane(b, "issue")
	took := make([][]time.Duration, 4)
	var wg sync.WaitGroup
	begun := time.Now()
	for i := range took {
		wg.Go(func() {
			for t := time.NewTicker(10 * time.Millisecond); time.Since(begun) < length; <-t.C {
				start := time.Now()
				if err := work(); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	all := slices.Concat(took...)
	if b.Failed() || len(all) == 0 {
		b.FailNow()
	}
	slices.Sort(all)
	return reading{p50: all[len(all)/2], p99: all[len(all)*99/100]}
}

// attack asks the hostile plug-in again and again, until it is told to stop.
func (r *rig) attack(profile string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := r.client.Issue(ctx, client.Request{Profile: profile, Subject: "ci/attack-1", Audience: []string{"https://api.example"}, TTL: time.Minute})
				if err != nil {
					time.Sleep(time.Millisecond) // as a client that backs off, a little
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}
