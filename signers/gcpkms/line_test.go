package gcpkms

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// TestAConnectionThatWentSilentAfterAWordIsCut: HTTP/2 acknowledges a request
// before it answers, so a connection may have been heard since it was asked.
func TestAConnectionThatWentSilentAfterAWordIsCut(t *testing.T) {
	for _, c := range []struct {
		what  string
		heard time.Duration // after the request
		cut   bool
	}{
		{"never", 0, true}, {"at once, and then nothing", 10 * time.Millisecond, true}, {"a moment ago", silence - time.Millisecond, false},
	} {
		now := time.Unix(1767323045, 0)
		l := &line{now: func() time.Time { return now }}
		near, far := net.Pipe()
		w := &watchedConn{Conn: near, line: l, heard: now.Add(-time.Hour)}
		l.conns = map[*watchedConn]struct{}{w: {}}
		if c.heard > 0 {
			now = now.Add(c.heard)
			go func() { _, _ = far.Write([]byte("x")) }()
			if _, err := w.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			now = now.Add(-c.heard)
		}
		now = now.Add(silence)
		l.cut()
		_ = near.SetReadDeadline(time.Unix(1, 0))
		_, err := near.Read(make([]byte, 1))
		if cut := !errors.Is(err, os.ErrDeadlineExceeded); cut != c.cut {
			t.Errorf("heard %s: cut %t (%v), want %t", c.what, cut, err, c.cut)
		}
		_, _ = near.Close(), far.Close()
	}
}
