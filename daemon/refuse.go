package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/daemon/audit"
)

// The daemon's own children have no business at its sockets: an issuer could
// ask for what it then drafts, with the rights of the daemon's user. The filter
// keeps issuers from connecting at all; a vendor's library may connect to
// whatever it likes, and what a plug-in forked is its own.

// mostTold bounds how many processes are recorded: a library that forks could
// fill the disk with them. All are refused and counted.
const mostTold = 1000

// A refusing listener closes connections of the daemon's own children.
type refusing struct {
	net.Listener
	mine   func(*unix.Ucred) bool
	record func(*unix.Ucred)
}

func (d *Daemon) refuseOwn(l net.Listener, name string) net.Listener {
	var mu sync.Mutex
	told := map[int32]bool{} // by pid: one that tries for ever must not fill the ledger
	return &refusing{Listener: l, mine: d.isOwn, record: func(who *unix.Ucred) {
		d.metrics.Denied("plugin")
		mu.Lock()
		again := told[who.Pid] || len(told) >= mostTold
		if !again {
			told[who.Pid] = true
		}
		mu.Unlock()
		if again {
			return
		}
		caller := fmt.Sprintf("uid=%d gid=%d pid=%d", who.Uid, who.Gid, who.Pid)
		d.log.Error("a plug-in connected to the daemon, and was refused", slog.String("socket", name), slog.String("caller", caller),
			slog.String("hint", "it tries what no plug-in needs: stop using it"))
		err := d.ledger.Deny(context.Background(), audit.Event{Op: "connect", Caller: caller, Rule: "plugin", Reason: "a plug-in connected to " + name})
		if err != nil {
			d.log.Error("a refusal is not on record", slog.Any("error", err))
		}
	}}
}

// Accept implements net.Listener.
func (l *refusing) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who, err := credentialsOf(conn)
		if err == nil && !l.mine(who) {
			return conn, nil
		}
		_ = conn.Close()
		if err == nil {
			go l.record(who) // which waits for the ledger
		}
	}
}

// isOwn is whether a process is one of the daemon's children, was forked by
// one, or has a uid that is theirs.
func (d *Daemon) isOwn(who *unix.Ucred) bool {
	if first, last, err := d.cfg.Issuers.Range(); err != nil || first != 0 && who.Uid >= first && who.Uid <= last {
		return true
	}
	pid := int(who.Pid)
	if d.children.Has(pid) {
		return true
	}
	stat, err := readStat(pid)
	// Who is gone can't be asked any more, and is judged by its uid.
	return err == nil && (d.children.Has(stat.session) || d.children.Has(stat.parent) || d.inPluginsCgroup(pid))
}

// inPluginsCgroup is whether a process is in a control group for plug-ins.
func (d *Daemon) inPluginsCgroup(pid int) bool {
	if d.cgroup == nil {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err != nil || d.cgroup.holds(string(text))
}

type stat struct{ parent, session int }

// readStat reads the fields of /proc/PID/stat after the name (proc(5)).
func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The name may hold anything, a parenthesis too.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 4 {
		return stat{}, errors.New("/proc/PID/stat is not as expected")
	}
	parent, err := strconv.Atoi(fields[1])
	session, err2 := strconv.Atoi(fields[3])
	return stat{parent, session}, errors.Join(err, err2)
}

// credentialsOf is who connected, as the kernel noted it then.
func credentialsOf(conn net.Conn) (*unix.Ucred, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, credErr
}
