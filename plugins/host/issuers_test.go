package host

import (
	"context"
	"fmt"
	"os"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/serve"
	"github.com/signetd/signet/signers"
)

// issue runs one of the issuers of these tests.
func issue(mode string) {
	switch mode {
	case "honest":
		serve.Main(honest{})
	default:
		fmt.Fprintln(os.Stderr, "unknown mode")
		os.Exit(2)
	}
}

// honest drafts the subject.
type honest struct{}

func (honest) Describe(context.Context) (plugins.Description, error) {
	return plugins.Description{Format: "test", Algorithms: []signers.Algorithm{signers.Ed25519, signers.ECDSAP256}}, nil
}

func (honest) Prepare(_ context.Context, g plugins.Grant, k plugins.VerifyingKey) (plugins.Draft, error) {
	if g.Subject == "refuse" {
		return plugins.Draft{}, fmt.Errorf("subject %q cannot be carried: %w", g.Subject, plugins.ErrRefused)
	}
	return plugins.Draft{
		ToBeSigned: []byte(g.Subject + " by " + k.ID),
		Frame:      plugins.Frame{Prefix: []byte("p"), Form: plugins.Raw, Encoding: plugins.Base64URL},
	}, nil
}
