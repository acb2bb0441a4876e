package secret

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

// flags are what the kernel says of the page that holds b (proc_pid_smaps(5)).
func flags(t *testing.T, b []byte) string {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at, in := uintptr(unsafe.Pointer(&b[0])), false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n == 2 {
			in = from <= at && at < to
		}
		if rest, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && in {
			return rest + " "
		}
	}
	t.Fatal("the page is not in smaps")
	return ""
}

func TestASecretIsInLockedMemory(t *testing.T) {
	for _, s := range []Source{{File: place(t, 0o600)}, {Command: []string{script(t, "echo "+theSecret)}}} {
		got, err := s.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(flags(t, got), " lo ") {
			t.Errorf("%v: the page is not locked: VmFlags %s", s, flags(t, got))
		}
		runtime.KeepAlive(got)
	}
}

// TestLocksDoNotAddUp reads more secrets than the limit of locked memory has
// room for: each lock ends with its buffer.
func TestLocksDoNotAddUp(t *testing.T) {
	for range 50 {
		for range 20 {
			if _, err := locked(MaxSize + 1); err != nil {
				t.Fatal(err)
			}
		}
		runtime.GC()
	}
	for tries := 0; lockedKB(t) > 1024; tries++ { // 1,000 of them were 8,000 kB
		if tries == 1000 {
			t.Fatalf("%d kB are still locked", lockedKB(t))
		}
		runtime.GC()
		runtime.Gosched()
	}
}

func lockedKB(t *testing.T) (n int) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmLck:")
	if _, err := fmt.Sscanf(rest, "%d kB", &n); err != nil {
		t.Fatal(err)
	}
	return n
}
