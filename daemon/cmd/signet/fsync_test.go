package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signetd/signet/daemon/client"
)

// A call is a system call of the daemon: when it began and when it was done, as
// lines of the trace.
type call struct {
	name, path, data string
	began, done      int
}

var (
	whole   = regexp.MustCompile(`^(\d+) +(\w+)\(\d+<([^>]*)>(.*)\) += (-?\d+)`)
	begun   = regexp.MustCompile(`^(\d+) +(\w+)\(\d+<([^>]*)>(.*) <unfinished`)
	resumed = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)`)
)

// TestNoTokenLeavesBeforeItsRecordIsDurable watches the daemon's system calls:
// the ledger's record of a token is written, then synced, then the token is
// sent. A daemon that is told not to sync shows that the test would see it.
func TestNoTokenLeavesBeforeItsRecordIsDurable(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil && os.Getenv("REQUIRE_SOFTHSM") == "" {
		t.Skip("strace is not installed; hint: apt-get install strace")
	}
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		t.Skip("the daemon can't be traced by its own user; hint: run this test as root")
	}
	sent, early := watched(t, strace, newTrial(t))
	if sent != 20 || early != 0 {
		t.Errorf("of 20 tokens %d were seen being sent, %d before their record was durable", sent, early)
	}
	sent, early = watched(t, strace, newTrial(t, "segment_size: 64MiB", "segment_size: 64MiB\n  unsafe_no_sync: true"))
	if early != 20 || sent != 20 {
		t.Errorf("without syncing: of 20 tokens %d were seen being sent, and only %d too early", sent, early)
	}
}

// watched has twenty tokens issued, and counts those that it saw being sent and
// those that were sent too early.
func watched(t *testing.T, strace string, tr *trial) (sent, early int) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(strace, "-f", "-y", "-s", "65536", "-e", "trace=fsync,fdatasync,write,writev,sendmsg", "-o", trace, "-p", strconv.Itoa(tr.cmd.Process.Pid))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var tokens []client.Token
	for begun := time.Now(); time.Since(begun) < 20*time.Second && len(tokens) < 26; {
		token, err := tr.issue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// strace says nothing when it is there; its first lines do.
		if info, err := os.Stat(trace); err == nil && info.Size() > 0 {
			tokens = append(tokens, token)
		}
		select {
		case err := <-ended:
			t.Skipf("strace may not watch a process here: %v", err) // a container without ptrace
		default:
		}
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	<-ended
	calls := readTrace(t, trace)
	for _, token := range tokens[5:25] { // threads are watched, and let go, one after the other
		seen, durable := durableFirst(calls, token)
		if seen {
			sent++
		}
		if seen && !durable {
			early++
		}
	}
	return sent, early
}

// durableFirst reports whether a token was seen being sent, and whether its
// record was written and synced before.
func durableFirst(calls []call, token client.Token) (seen, durable bool) {
	signature := token.Value[strings.LastIndexByte(token.Value, '.')+1:]
	reply := slices.IndexFunc(calls, func(c call) bool {
		return strings.HasPrefix(c.path, "socket:") && strings.Contains(c.data, signature)
	})
	if reply < 0 {
		return false, false
	}
	recorded := -1
	for _, c := range calls {
		switch {
		case !strings.Contains(c.path, "/ledger/") || c.began > calls[reply].began:
		case strings.Contains(c.data, token.ID):
			recorded, durable = c.done, false
		case recorded >= 0 && strings.HasSuffix(c.name, "sync") && c.began > recorded && c.done < calls[reply].began:
			durable = true
		}
	}
	return true, durable
}

// readTrace puts the halves of calls that others came between together.
func readTrace(t *testing.T, path string) (all []call) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	open := map[string]int{}
	for n := 0; lines.Scan(); n++ {
		if m := whole.FindStringSubmatch(lines.Text()); m != nil {
			all = append(all, call{m[2], m[3], m[4], n, n})
		} else if m := begun.FindStringSubmatch(lines.Text()); m != nil {
			open[m[1]+m[2]] = len(all)
			all = append(all, call{m[2], m[3], m[4], n, 1 << 30})
		} else if m := resumed.FindStringSubmatch(lines.Text()); m != nil {
			if i, ok := open[m[1]+m[2]]; ok {
				all[i].done = n
			}
		}
	}
	return all
}
