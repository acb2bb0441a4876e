// Command signet is the daemon and everything that talks to it: see
// `signet help`. An issuer process is this same binary, run again by the daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with everything passed in, so that tests can call it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot() //nolint:contextcheck // commands get theirs from ExecuteContext
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "signet: "+message(err))
	var coded exitCode
	if errors.As(err, &coded) {
		return coded.code
	}
	return 1
}

// exitCode is an error with an exit status of its own: 2 for a refusal by the
// daemon, so that a script can tell it from a fault.
type exitCode struct {
	error
	code int
}

func (e exitCode) Unwrap() error { return e.error }

// message is what a person reads: a gRPC status without its wrapping.
func message(err error) string {
	var remote interface{ GRPCStatus() *status.Status }
	if errors.As(err, &remote) {
		st := remote.GRPCStatus()
		return fmt.Sprintf("%s: %s", words(st.Code().String()), st.Message())
	}
	return err.Error()
}

// words turns PermissionDenied into "permission denied".
func words(camel string) string {
	var b strings.Builder
	for i, r := range camel {
		if r >= 'A' && r <= 'Z' && i > 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// newRoot is the whole command line.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "signet",
		Short: "Lend signatures, never keys",
		Long: `signet keeps signing keys in a PKCS#11 HSM or an encrypted file and lends single
signatures to token issuers, each decided by policy and written in a
tamper-evident ledger.

Start with: signet demo`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(
		newDemo(), newInit(), newServe(), newCheckConfig(),
		newIssue(), newVerify(), newInspect(), newExplain(), newJWKS(), newPASERK(), newSSHCA(), newIntrospect(), newRedeem(),
		newKey(), newPlugin(), newDoctor(), newAudit(), newStatus(), newConform(), newVersion(),
		newIssuer(), newLaunch(), newLauncher(), newBackend(),
	)
	strict(root)
	complete(root)
	return root
}
