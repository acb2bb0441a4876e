// Package server is the pipeline: every signature that leaves signet is made
// by one function here, from the ticket of the step before.
//
//	peer -> policy -> keyring -> issuer -> inspect -> audit -> signer -> audit -> reply
//
// [Signer] is served on issue.sock and [Admin] on admin.sock, neither on the
// other. Errors meet the wire in one table, in status.go.
package server

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/metrics"
	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/keyring"
	"github.com/signetd/signet/plugins"
)

// A Format is one token format: who drafts it and who reads it back.
type Format struct {
	Issuer plugins.Issuer // a process of its own
	Reader Reader
}

// RequestTimeout bounds one request, whatever its caller asks for, so that a
// hung back-end can't hold memory for ever.
const RequestTimeout = 10 * time.Second

// A Pipeline holds what the steps need. All fields are required.
type Pipeline struct {
	Gate    *policy.Gate
	Ring    *keyring.Ring
	Ledger  *audit.Log
	Formats map[string]Format
	Tokens  Tokens
	Rand    io.Reader // of opaque tokens
	Metrics *metrics.Metrics
	Log     *slog.Logger
	Now     func() time.Time

	denials denials
}

// detach keeps ctx's values but not its cancellation: an outcome that is not
// written would hide a signature that was made.
func detach(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
