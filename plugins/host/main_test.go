package host

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/signetd/signet/plugins/host/sandbox"
)

// TestMain makes this binary its own trampoline and its own issuers. When the
// tests have passed, no goroutine and no process may be left.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "launch" {
		fmt.Fprintln(os.Stderr, sandbox.Exec(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == "issuer" {
		issue(os.Args[2])
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
			fmt.Fprintln(os.Stderr, "a child process is left")
			code = 1
		}
		os.Exit(code)
	}))
}
