// Package opencryptoki makes a throw-away token of openCryptoki's software
// token, for tests: a second PKCS #11 module, which has RSA only and locks after
// three wrong PINs.
//
// openCryptoki knows one configuration and one daemon for the whole machine, so
// this needs root and changes both: it adds a token of its own to
// /etc/opencryptoki/opencryptoki.conf and restarts pkcsslotd. No other token is
// touched.
package opencryptoki

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/pkcs11"
)

// ErrMissing says that openCryptoki is not installed, or not ours to set up.
var ErrMissing = errors.New("openCryptoki can't be set up\nhint: apt-get install opencryptoki, and run the tests as root")

const (
	config = "/etc/opencryptoki/opencryptoki.conf"
	socket = "/var/run/pkcsslotd.socket"
	pid    = "/var/run/pkcsslotd.pid"
	slot   = 17 // of the token that is ours
	name   = "signet-conformance"
	lock   = "/run/lock/signet-conformance-opencryptoki"

	// The PINs of a new token: public, and good only to set others.
	newSO, newUser = "87654321", "12345678"
)

// A Token is a fresh token.
type Token struct {
	Module string // path of the PKCS#11 module
	Label  string
	PIN    string

	lock *os.File
}

// Release lets another process make its token, which ends this one.
func (t Token) Release() { _ = t.lock.Close() }

// Make sets openCryptoki up and makes a token; what was in ours before is gone.
// It waits for another process that has one, until that releases it or ends.
func Make() (Token, error) {
	found, _ := filepath.Glob("/usr/lib/*/pkcs11/libopencryptoki.so") // the pattern is good
	if len(found) == 0 || os.Geteuid() != 0 {
		return Token{}, ErrMissing
	}
	held, err := exclusive()
	if err != nil {
		return Token{}, fmt.Errorf("opencryptoki: %w", err)
	}
	if err := restart(); err != nil {
		return Token{}, fmt.Errorf("opencryptoki: %w", err)
	}
	secrets := make([]byte, 8)
	if _, err := rand.Read(secrets); err != nil {
		return Token{}, fmt.Errorf("opencryptoki: %w", err)
	}
	t := Token{Module: found[0], Label: "signet-" + hex.EncodeToString(secrets[:4]), PIN: hex.EncodeToString(secrets[4:]), lock: held}
	if err := t.initialise(); err != nil {
		return Token{}, fmt.Errorf("opencryptoki: %w", err)
	}
	return t, nil
}

// exclusive takes the machine's openCryptoki for this process: packages are
// tested at the same time.
func exclusive() (*os.File, error) {
	f, err := os.OpenFile(lock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// restart stops the daemon, makes our token anew and starts the daemon.
func restart() error {
	if err := stop(); err != nil {
		return err
	}
	if err := configure(); err != nil {
		return err
	}
	old, _ := filepath.Glob("/dev/shm/*" + name + "*") // the pattern is good
	for _, dir := range []string{"/var/lib/opencryptoki/", "/var/lock/opencryptoki/"} {
		old = append(old, dir+name)
	}
	for _, path := range old {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/var/lib/opencryptoki/" + name, "/var/lib/opencryptoki/" + name + "/TOK_OBJ", "/var/lock/opencryptoki/" + name} {
		if err := private(dir); err != nil {
			return err
		}
	}
	if out, err := exec.Command("pkcsslotd").CombinedOutput(); err != nil {
		return fmt.Errorf("pkcsslotd: %w: %s", err, out)
	}
	// A connection that says nothing would end it: only its socket is looked for.
	return until("pkcsslotd to listen", func() bool { _, err := os.Stat(socket); return err == nil })
}

// private makes a directory for the group pkcs11, which the module insists on.
func private(dir string) error {
	group, err := user.LookupGroup("pkcs11")
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return err
	}
	return errors.Join(os.Mkdir(dir, 0o770), os.Chmod(dir, 0o770), os.Chown(dir, 0, gid)) //nolint:gosec // as openCryptoki's own
}

// stop ends the daemon, if it runs.
func stop() error {
	data, err := os.ReadFile(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || n < 2 {
		return fmt.Errorf("%s has %q", pid, data)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", n))
	if err != nil || strings.TrimSpace(string(comm)) != "pkcsslotd" {
		return errors.Join(os.Remove(pid), os.RemoveAll(socket)) // of a daemon that died
	}
	if err := syscall.Kill(n, syscall.SIGTERM); err != nil {
		return err
	}
	if err := until("pkcsslotd to end", func() bool { return syscall.Kill(n, 0) != nil }); err != nil {
		return err
	}
	for _, left := range []string{pid, socket} {
		if err := os.Remove(left); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// configure adds our token to the configuration, once.
func configure() error {
	data, err := os.ReadFile(config)
	if err != nil || strings.Contains(string(data), name) {
		return err
	}
	more := fmt.Sprintf("\nslot %d\n{\nstdll = libpkcs11_sw.so\ntokname = %s\n}\n", slot, name)
	return os.WriteFile(config, append(data, more...), 0o644) //nolint:gosec // as it was
}

// patience is how long the daemon may take to start or stop.
const patience = 10 * time.Second

func until(what string, ok func() bool) error {
	for waited := time.Duration(0); !ok(); waited += time.Millisecond {
		if waited > patience {
			return fmt.Errorf("waited %v for %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// initialise gives a new token its label and its PINs.
func (t Token) initialise() error {
	ctx := pkcs11.New(t.Module)
	if ctx == nil {
		return fmt.Errorf("%s can't be loaded", t.Module)
	}
	defer ctx.Destroy()
	if err := ctx.Initialize(); err != nil {
		return fmt.Errorf("C_Initialize: %w", err)
	}
	defer ctx.Finalize() //nolint:errcheck // what matters is done
	if err := ctx.InitToken(slot, newSO, t.Label); err != nil {
		return fmt.Errorf("C_InitToken: %w", err)
	}
	if err := as(ctx, pkcs11.CKU_SO, newSO, func(s pkcs11.SessionHandle) error { return ctx.SetPIN(s, newSO, "0"+t.PIN[1:]) }); err != nil {
		return err
	}
	if err := as(ctx, pkcs11.CKU_SO, "0"+t.PIN[1:], func(s pkcs11.SessionHandle) error { return ctx.InitPIN(s, newUser) }); err != nil {
		return err
	}
	return as(ctx, pkcs11.CKU_USER, newUser, func(s pkcs11.SessionHandle) error { return ctx.SetPIN(s, newUser, t.PIN) })
}

// as does something in a session of a user.
func as(ctx *pkcs11.Ctx, user uint, pin string, do func(pkcs11.SessionHandle) error) error {
	s, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("C_OpenSession: %w", err)
	}
	defer ctx.CloseSession(s) //nolint:errcheck // the login goes with it
	if err := ctx.Login(s, user, pin); err != nil {
		return fmt.Errorf("C_Login: %w", err)
	}
	if err := do(s); err != nil {
		return fmt.Errorf("set a PIN: %w", err)
	}
	return nil
}
