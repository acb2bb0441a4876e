package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/signetd/signet/plugins"
	pluginsv1 "github.com/signetd/signet/plugins/api/v1"
	"github.com/signetd/signet/plugins/wire"
)

// attacks are what a mode does with the n-th request that it is told to attack.
var attacks = map[string]func(h *hostile, r *pluginsv1.PrepareRequest, n int){
	"tamper": (*hostile).tamper,
	"unasked": func(h *hostile, r *pluginsv1.PrepareRequest, _ int) {
		other := h.honest(r)
		other.Id += 1000
		h.send(other)
	},
	"twice": func(h *hostile, r *pluginsv1.PrepareRequest, _ int) { h.send(h.honest(r)); h.send(h.honest(r)) },
	"late": func(h *hostile, r *pluginsv1.PrepareRequest, _ int) {
		time.Sleep(3 * time.Second)
		h.send(h.honest(r))
	},
	// Answers each request with the draft of the one before it.
	"swap": func(h *hostile, r *pluginsv1.PrepareRequest, _ int) {
		mine := h.honest(r)
		if h.held == nil {
			h.held = mine
			widened := wire.Grant(r.GetGrant())
			widened.TokenID = "of-another-request"
			if d, err := h.draft(widened, r.GetKey()); err == nil {
				mine = reply(r.GetId(), d)
			}
			h.send(mine)
			return
		}
		mine, h.held = h.held, mine
		mine.Id = r.GetId()
		h.send(mine)
	},
	"zero": func(h *hostile, r *pluginsv1.PrepareRequest, _ int) {
		mine := h.honest(r)
		mine.Id = 0
		h.send(mine)
	},
	"flood": func(h *hostile, r *pluginsv1.PrepareRequest, _ int) {
		for range 100_000 {
			h.send(h.honest(r))
		}
	},
	"big": func(h *hostile, r *pluginsv1.PrepareRequest, _ int) {
		mine := h.honest(r)
		mine.Draft.ToBeSigned = make([]byte, 64<<20)
		h.send(mine)
	},
	"hang":    func(*hostile, *pluginsv1.PrepareRequest, int) { select {} },
	"exit":    func(*hostile, *pluginsv1.PrepareRequest, int) { os.Exit(7) },
	"garbage": func(*hostile, *pluginsv1.PrepareRequest, int) { os.Exit(8) },
	"chatter": func(h *hostile, r *pluginsv1.PrepareRequest, _ int) {
		for range 100_000 {
			fmt.Fprintln(os.Stderr, strings.Repeat("noise ", 100))
		}
		h.send(h.honest(r))
	},
	"spin": func(*hostile, *pluginsv1.PrepareRequest, int) {
		for i := 0; ; i++ {
			go func() {
				for { //nolint:staticcheck // all the CPU there is
				}
			}()
			time.Sleep(time.Millisecond)
		}
	},
	"alloc": func(*hostile, *pluginsv1.PrepareRequest, int) {
		var all [][]byte
		for range 10 << 10 {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		fmt.Fprintln(os.Stderr, "REACHED 10 GB of memory", len(all))
	},
	"fork":  func(h *hostile, r *pluginsv1.PrepareRequest, _ int) { fork(); h.send(h.honest(r)) },
	"reach": func(h *hostile, r *pluginsv1.PrepareRequest, _ int) { h.reach(); h.send(h.honest(r)) },
}

// tamper alters the n-th thing there is to alter in an honest draft, and says so
// when there are no more.
func (h *hostile) tamper(r *pluginsv1.PrepareRequest, n int) {
	mine := h.honest(r)
	d := mine.GetDraft()
	for _, field := range []*[]byte{&d.ToBeSigned, &d.Prefix, &d.Head, &d.Tail, &d.Suffix} {
		if n < len(*field) {
			*field = bytes.Clone(*field)
			(*field)[n] ^= 1 << (n % 8)
			h.send(mine)
			return
		}
		n -= len(*field)
		if n == 0 {
			*field = append(bytes.Clone(*field), 0)
			h.send(mine)
			return
		}
		n--
	}
	h.rewrite(r, mine, n)
}

// rewrite makes another draft altogether.
func (h *hostile) rewrite(r *pluginsv1.PrepareRequest, mine *pluginsv1.PrepareReply, n int) {
	other := func(edit func(*plugins.Grant)) func() {
		return func() {
			g := wire.Grant(r.GetGrant())
			edit(&g)
			if d, err := h.draft(g, r.GetKey()); err == nil {
				mine.Draft = reply(0, d).GetDraft()
			}
		}
	}
	all := []func(){
		other(func(g *plugins.Grant) { g.Scope = append(g.Scope, "admin") }),
		other(func(g *plugins.Grant) { g.Audience = append(g.Audience, "https://evil.example") }),
		other(func(g *plugins.Grant) { g.Audience = []string{"https://evil.example"} }),
		other(func(g *plugins.Grant) { g.Expires = g.Expires.Add(time.Hour) }),
		other(func(g *plugins.Grant) { g.NotBefore = g.NotBefore.Add(-time.Hour) }),
		other(func(g *plugins.Grant) { g.Subject = "root" }),
		other(func(g *plugins.Grant) { g.Issuer = "https://evil.example" }),
		other(func(g *plugins.Grant) { g.Type = "application/other" }),
		other(func(g *plugins.Grant) { g.TokenID = "mine" }),
		other(func(g *plugins.Grant) { g.Claims = []byte(`{"admin":true}`) }),
		func() { mine.Draft.ToBeSigned = nil },
		func() { mine.Draft.ToBeSigned = []byte("SSHSIG\x00\x00\x00\x04file") },
		func() { mine.Draft.ToBeSigned = jws() },
		func() {
			mine.Draft.ToBeSigned = []byte(strings.Repeat(" ", 64) + "TLS 1.3, client CertificateVerify\x00hash")
		},
		func() { mine.Draft.ToBeSigned = append([]byte{0x30, 0x20}, make([]byte, 32)...) },
	}
	for form := range uint32(6) {
		for encoding := range uint32(6) {
			if form != mine.GetDraft().GetForm() || encoding != mine.GetDraft().GetEncoding() {
				all = append(all, func() { mine.Draft.Form, mine.Draft.Encoding = form, encoding })
			}
		}
	}
	if n >= len(all) {
		mine = &pluginsv1.PrepareReply{Id: r.GetId(), Refused: "that was all"}
	} else {
		all[n]()
	}
	h.send(mine)
}

func jws() []byte {
	return []byte(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"at+jwt"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"root"}`)))
}

// fork is a small bomb: how many processes it got is what counts.
func fork() {
	for n := range 64 {
		pid, _, errno := syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
		if errno != 0 {
			fmt.Fprintln(os.Stderr, "TRIED fork:", errno)
			return
		}
		if pid == 0 {
			for { //nolint:staticcheck // a child that stays
			}
		}
		fmt.Fprintln(os.Stderr, "REACHED fork", n)
	}
}

// reach tries what no plug-in needs.
func (h *hostile) reach() {
	try := func(what string, do func() error) {
		if err := do(); err != nil {
			fmt.Fprintf(os.Stderr, "TRIED %s: %v\n", what, err)
			return
		}
		fmt.Fprintln(os.Stderr, "REACHED", what)
	}
	dial := func(network, address string) func() error {
		return func() error {
			c, err := net.DialTimeout(network, address, time.Second)
			if err != nil {
				return err
			}
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			if _, err = c.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			return err
		}
	}
	open := func(path string) func() error {
		return func() error {
			f, err := os.Open(path) //nolint:gosec // that is the attempt
			if err != nil {
				return err
			}
			_, err = f.Read(make([]byte, 1))
			return err
		}
	}
	daemon := fmt.Sprintf("/proc/%d/", os.Getppid())
	try("issue.sock", dial("unix", h.dir+"/run/issue.sock"))
	try("admin.sock", dial("unix", h.dir+"/run/admin.sock"))
	try("metrics.sock", dial("unix", h.dir+"/run/metrics.sock"))
	try("an abstract socket", dial("unix", "\x00signet-test"))
	try("a network", dial("tcp", "127.0.0.1:1"))
	try("UDP", func() error { _, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0); return err })
	for _, path := range []string{daemon + "environ", daemon + "mem", daemon + "maps", "/etc/passwd", h.dir + "/signet.yaml", h.dir + "/pin"} {
		try(path, open(path))
	}
	try("a signal to the daemon", func() error { return syscall.Kill(os.Getppid(), 0) })
	try("ptrace", func() error { return syscall.PtraceAttach(os.Getppid()) })
	try("exec", func() error { _, err := os.StartProcess("/bin/true", nil, &os.ProcAttr{}); return err })
	try("a file", func() error { return os.WriteFile(h.dir+"/hostile", []byte("x"), 0o600) })
}
