package host

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/signetd/signet/plugins/host/sandbox"
)

// TestMain makes this binary its own trampoline and its own issuers.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "launch" {
		err := sandbox.Exec(os.Args[2:])
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == "issuer" {
		issue(os.Args[2])
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
