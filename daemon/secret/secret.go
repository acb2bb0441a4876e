// Package secret reads a PIN or passphrase from where an operator put it: a
// systemd credential, a file that nobody else can read, or a command.
//
// Nothing that it returns as an error or writes to a log has any of the
// secret. What it returns is in locked memory, and for the caller to [Wipe].
package secret

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// MaxSize is the most that a secret may have, in bytes.
const MaxSize = 4096

// A Source says where a secret is. Exactly one field is set; the zero Source
// has no secret and is an error.
type Source struct {
	Credential string   `json:"credential,omitempty" yaml:"credential,omitempty"` // name in $CREDENTIALS_DIRECTORY
	File       string   `json:"file,omitempty" yaml:"file,omitempty"`             // absolute path
	Command    []string `json:"command,omitempty" yaml:"command,omitempty"`       // absolute path and arguments; no shell
}

// Errors that a caller may branch on. All name the source, none the secret.
var (
	ErrSource   = errors.New("secret: source is not usable")
	ErrUnsafe   = errors.New("secret: others could read or replace it")
	ErrTooLarge = fmt.Errorf("secret: over %d bytes", MaxSize)
	ErrEmpty    = errors.New("secret: empty")
	ErrCommand  = errors.New("secret: command failed")
	ErrLock     = errors.New("secret: memory for it can't be locked")
)

// Check says what is wrong with the Source itself, without reading anything.
func (s Source) Check() error {
	switch set := s.count(); {
	case set == 0:
		return fmt.Errorf("%w: none is named\nhint: give one of credential, file or command", ErrSource)
	case set > 1:
		return fmt.Errorf("%w: %d are named\nhint: give only one of credential, file and command", ErrSource, set)
	case s.Credential != "":
		return checkCredential(s.Credential)
	case s.File != "":
		return checkPath("file", s.File)
	}
	return checkPath("command", s.Command[0])
}

// count says how many fields are set. Two would leave it open which one wins.
func (s Source) count() int {
	n := 0
	for _, set := range []bool{s.Credential != "", s.File != "", len(s.Command) > 0} {
		if set {
			n++
		}
	}
	return n
}

// checkCredential keeps a name from leading out of the directory.
func checkCredential(name string) error {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '\\' }
	if len(name) > 255 || name[0] == '.' || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("%w: credential %q is not a name\nhint: use the name of LoadCredential=, such as \"pin\"", ErrSource, name)
	}
	return nil
}

// checkPath wants a path that means the same wherever the daemon is started.
func checkPath(what, path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("%w: %s %q\nhint: write an absolute path with no \"..\"", ErrSource, what, path)
	}
	return nil
}

// Read returns the secret, without one newline at its end. It is read anew
// each time, so that none is kept for a later need.
func (s Source) Read(ctx context.Context) ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	raw, err := s.read(ctx)
	if err != nil {
		Wipe(raw)
		return nil, err
	}
	cut := trimNewline(raw)
	if len(cut) == 0 {
		return nil, fmt.Errorf("%w: %s\nhint: put the secret there", ErrEmpty, s)
	}
	return cut, nil
}

// read may return part of a secret with an error; Read wipes it.
func (s Source) read(ctx context.Context) ([]byte, error) {
	switch {
	case s.Credential != "":
		return readCredential(s.Credential)
	case s.File != "":
		return readFile(s.File, forOwner)
	}
	return readCommand(ctx, s.Command)
}

// String names the source for logs. Of a command it leaves out the arguments.
func (s Source) String() string {
	switch {
	case s.Credential != "":
		return fmt.Sprintf("credential %q", s.Credential)
	case s.File != "":
		return fmt.Sprintf("file %q", s.File)
	case len(s.Command) > 0:
		return fmt.Sprintf("command %q", s.Command[0])
	}
	return "no source"
}

// Wipe overwrites a secret that is no longer needed. It reaches this copy
// only, which is why reading makes no other.
func Wipe(b []byte) { clear(b) }

// trimNewline cuts one newline off the end, since editors and echo add one.
func trimNewline(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
		if n > 1 && b[n-2] == '\r' {
			b = b[:n-2]
		}
	}
	return b
}
