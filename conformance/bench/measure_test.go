package bench

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A subject does one unit of work: one signature, one token.
type subject func() error

// A reading is what one round measured.
type reading struct {
	rate     float64 // units a second
	p50, p99 time.Duration
	cpu      time.Duration // CPU time a unit, of all processes taking part
}

// round keeps callers goroutines busy with work for length.
func round(b *testing.B, callers int, length time.Duration, pids []int, work subject) reading {
	b.Helper()
	took := make([][]time.Duration, callers)
	before, begun := cpuOf(b, pids), time.Now()
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for time.Since(begun) < length {
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
	elapsed, cpu := time.Since(begun), cpuOf(b, pids)-before
	all := slices.Concat(took...)
	if b.Failed() || len(all) == 0 {
		b.FailNow()
	}
	slices.Sort(all)
	n := len(all)
	return reading{float64(n) / elapsed.Seconds(), all[n/2], all[n*99/100], cpu / time.Duration(n)}
}

// rounds is how often each side of a comparison is measured, in turn.
const rounds = 5

// versus measures two subjects in turn and returns their median readings.
func versus(b *testing.B, callers int, pids []int, raw, ours subject) (reading, reading) {
	b.Helper()
	length := 700 * time.Millisecond
	round(b, callers, length/4, pids, raw) // warm both
	round(b, callers, length/4, pids, ours)
	var rs, os []reading
	for range rounds {
		rs = append(rs, round(b, callers, length, nil, raw))
		os = append(os, round(b, callers, length, pids, ours))
	}
	return median(rs), median(os)
}

// median takes each figure's own median.
func median(rs []reading) reading {
	pick := func(of func(reading) float64) float64 {
		var xs []float64
		for _, r := range rs {
			xs = append(xs, of(r))
		}
		slices.Sort(xs)
		return xs[len(xs)/2]
	}
	return reading{
		rate: pick(func(r reading) float64 { return r.rate }),
		p50:  time.Duration(pick(func(r reading) float64 { return float64(r.p50) })),
		p99:  time.Duration(pick(func(r reading) float64 { return float64(r.p99) })),
		cpu:  time.Duration(pick(func(r reading) float64 { return float64(r.cpu) })),
	}
}

// report adds a comparison to the benchmark's line.
func report(b *testing.B, raw, ours reading) {
	b.ReportMetric(0, "ns/op") // one op is a whole comparison: its time says nothing
	b.ReportMetric(raw.rate, "raw/s")
	b.ReportMetric(ours.rate, "ours/s")
	b.ReportMetric(ours.rate/raw.rate, "ratio")
	b.ReportMetric(micros(raw.p50), "raw-p50-µs")
	b.ReportMetric(micros(ours.p50), "p50-µs")
	b.ReportMetric(micros(ours.p50-raw.p50), "added-p50-µs")
	b.ReportMetric(micros(ours.p99), "p99-µs")
	b.ReportMetric(micros(raw.cpu), "raw-cpu-µs/op")
	b.ReportMetric(micros(ours.cpu), "cpu-µs/op")
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// cpuOf is the CPU time that this process and pids have used.
func cpuOf(b *testing.B, pids []int) time.Duration {
	b.Helper()
	var self unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &self); err != nil {
		b.Fatal(err)
	}
	sum := time.Duration(self.Utime.Nano() + self.Stime.Nano())
	for _, pid := range pids {
		sum += ticksOf(b, pid)
	}
	return sum
}

// ticksOf reads utime and stime (proc(5), fields 14 and 15) of a process.
func ticksOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// The name, field 2, may hold spaces; it ends with the last bracket.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+2:]))
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100) // USER_HZ is 100 on Linux
}

// pssOf is a process's proportional set size in bytes.
func pssOf(b *testing.B, pid int) int64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if kb, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	b.Fatal("smaps_rollup has no Pss line")
	return 0
}
