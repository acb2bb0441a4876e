package server

import (
	"context"
	"net"
	"net/http"

	"github.com/signetd/signet/daemon/peer"
)

// callerKey is where WithCaller leaves the caller of an HTTP connection, which
// has no other place for what it learned when it was accepted.
type callerKey struct{}

// WithCaller is an http.Server's ConnContext: it reads who is at the other end.
func WithCaller(ctx context.Context, conn net.Conn) context.Context {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	caller, err := peer.FromConn(unix)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, caller)
}

// Viewers lets holders of the right view through to h, and nobody else.
func (a *Admin) Viewers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, ok := r.Context().Value(callerKey{}).(peer.Caller)
		if !ok || !a.holds(caller, RightView) {
			http.Error(w, "forbidden: the right \"view\" is needed", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
