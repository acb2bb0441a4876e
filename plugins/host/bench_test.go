package host

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
)

// BenchmarkPrepare reports what one draft costs, by callers, on both ends.
func BenchmarkPrepare(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			p := launch(b, testSpec(b, "honest"))
			ours, theirs := cpu(), cpuOf(b, p.PID())
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() { prepareMany(b, p, (b.N+callers-1-c)/callers) })
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(cpu()-ours)/1e3/float64(b.N), "host-µs/op")
			b.ReportMetric(float64(cpuOf(b, p.PID())-theirs)/1e3/float64(b.N), "issuer-µs/op")
		})
	}
}

// BenchmarkInspect reports the same for one reading back, which is a unary call:
// simpler to serve in another language, at five times what a batch costs.
func BenchmarkInspect(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			i, err := LaunchInspector(context.Background(), testSpec(b, "mirror"))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { i.Close() })
			ours, theirs := cpu(), cpuOf(b, i.p.PID())
			b.ResetTimer()
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					for range (b.N + callers - 1 - c) / callers {
						if _, err := inspect(i, "alice by k1"); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(cpu()-ours)/1e3/float64(b.N), "host-µs/op")
			b.ReportMetric(float64(cpuOf(b, i.p.PID())-theirs)/1e3/float64(b.N), "issuer-µs/op")
		})
	}
}

func prepareMany(b *testing.B, p *Process, n int) {
	for range n {
		if _, err := p.Prepare(context.Background(), grant("alice"), testKey); err != nil {
			b.Error(err)
			return
		}
	}
}

// cpu is what this process has used, in nanoseconds.
func cpu() int64 {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return r.Utime.Nano() + r.Stime.Nano()
}

// cpuOf is what the threads of process pid have used, in nanoseconds.
func cpuOf(b *testing.B, pid int) int64 {
	b.Helper()
	dir := fmt.Sprintf("/proc/%d/task", pid)
	threads, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	var sum int64
	for _, t := range threads {
		var n int64
		line, _ := os.ReadFile(dir + "/" + t.Name() + "/schedstat")
		_, _ = fmt.Sscan(string(line), &n)
		sum += n
	}
	return sum
}
