package daemon

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
)

func TestConnectionsPastTheLimitAreClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	inner, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l := &limited{Listener: inner, all: 10, each: 3, log: slog.New(slog.DiscardHandler), byUID: map[uint32]int{}}
	defer l.Close()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	var in []net.Conn
	for range 3 {
		dial()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, c)
	}
	over := dial()
	next := make(chan net.Conn, 1)
	go func() { c, _ := l.Accept(); next <- c }()
	if _, err := over.Read(make([]byte, 1)); err == nil {
		t.Error("a connection past the limit was not closed")
	}
	_ = in[0].Close()
	_ = in[0].Close() // counted out once
	dial()
	if c := <-next; c == nil {
		t.Error("after one has left, the next was refused")
	}
	if l.total != 3 {
		t.Errorf("%d connections are counted, want 3", l.total)
	}
}
