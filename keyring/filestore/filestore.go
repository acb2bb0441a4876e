// Package filestore keeps the keyring's records on one machine: one file a key,
// replaced by rename after its bytes and before its name are on disk.
package filestore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/signetd/signet/keyring"
)

// ErrLocked says that another process has the directory.
var ErrLocked = errors.New("another process has it")

// Options are for tests; the zero Options are what a daemon wants.
type Options struct {
	// Fault, if any, is called before each write, fsync and rename, and what
	// it returns fails that step.
	Fault func(op string) error
}

// A Store is a directory of records. It implements keyring.Store.
type Store struct {
	dir   string
	lock  *os.File
	fault func(op string) error

	mu       sync.Mutex // one save at a time
	watchers []*watcher
}

var _ keyring.Store = (*Store)(nil)

// record is what a file holds.
type record struct {
	Revision keyring.Revision `json:"revision"`
	Key      keyring.Entry    `json:"key"`
}

// Open takes the directory dir, making it if it is not there. Only its owner
// may have access to it, and only one process at a time.
func Open(dir string, o Options) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("filestore: directory %q has mode %04o\nhint: chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	lock, err := takeLock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, lock: lock, fault: o.Fault}
	if s.fault == nil {
		s.fault = func(string) error { return nil }
	}
	return s, s.sweep()
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // in the state directory
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("filestore: %q: %w\nhint: is a daemon running with this state_dir?", path, ErrLocked)
	}
	return f, nil
}

// sweep removes what a crash left of a save: its name was never the record's.
func (s *Store) sweep() error {
	left, err := filepath.Glob(filepath.Join(s.dir, "*.json.new"))
	if err != nil {
		return fmt.Errorf("filestore: %w", err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("filestore: %w", err)
		}
	}
	return nil
}

// Close gives the directory back.
func (s *Store) Close() error { return s.lock.Close() }

func (s *Store) path(name string) string { return filepath.Join(s.dir, name+".json") }

// Load reads a record. One that can't be read whole is an error, never an
// empty record: a key must not be made anew over a damaged file.
func (s *Store) Load(_ context.Context, name string) (keyring.Entry, keyring.Revision, error) {
	if err := keyring.CheckName(name); err != nil {
		return keyring.Entry{}, 0, fmt.Errorf("filestore: %w", err)
	}
	data, err := os.ReadFile(s.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return keyring.Entry{}, 0, nil
	}
	if err != nil {
		return keyring.Entry{}, 0, fmt.Errorf("filestore: %w", err)
	}
	r, err := decode(data)
	if err == nil && r.Key.Name != name {
		err = fmt.Errorf("it holds key %q", r.Key.Name)
	}
	if err != nil {
		return keyring.Entry{}, 0, fmt.Errorf("filestore: record %q: %w\nhint: restore it from a backup; nothing was changed", s.path(name), err)
	}
	return r.Key, r.Revision, nil
}

// decode is strict: an unknown field may be a newer version's promise.
func decode(data []byte) (record, error) {
	var r record
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return record{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return record{}, errors.New("bytes after the record")
	}
	if r.Revision == 0 {
		return record{}, errors.New("revision is missing")
	}
	return r, r.Key.Check()
}

// List returns the names that have a record.
func (s *Store) List(context.Context) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("filestore: %w", err)
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	slices.Sort(names)
	return names, nil
}

// Save replaces a record if its revision is still prev.
func (s *Store) Save(ctx context.Context, name string, e keyring.Entry, prev keyring.Revision) (keyring.Revision, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, have, err := s.Load(ctx, name)
	if err != nil {
		return 0, err
	}
	if have != prev {
		return 0, fmt.Errorf("filestore: %q is at revision %d, not %d: %w", name, have, prev, keyring.ErrConflict)
	}
	if e.Name != name {
		return 0, fmt.Errorf("filestore: record of %q saved as %q", e.Name, name)
	}
	data, err := json.MarshalIndent(record{prev + 1, e}, "", "  ")
	if err != nil {
		return 0, fmt.Errorf("filestore: %w", err)
	}
	if err := s.replace(s.path(name), append(data, '\n')); err != nil {
		return 0, fmt.Errorf("filestore: save %q: %w", name, err)
	}
	s.tell(name)
	return prev + 1, nil
}

// replace makes data the file's content: bytes on disk, then the name, then
// the directory. A power cut leaves the old file or the new one.
func (s *Store) replace(path string, data []byte) error {
	temp := path + ".new"
	if err := s.write(temp, data); err != nil {
		_ = os.Remove(temp)
		return err
	}
	if err := s.step("rename", func() error { return os.Rename(temp, path) }); err != nil {
		return err
	}
	return s.step("fsync directory", func() error { return syncDir(s.dir) })
}

func (s *Store) write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // a name that CheckName passed
	if err != nil {
		return err
	}
	err = s.step("write", func() error {
		_, err := f.Write(data)
		return err
	})
	if err == nil {
		err = s.step("fsync", f.Sync)
	}
	return errors.Join(err, f.Close())
}

func (s *Store) step(op string, do func() error) error {
	if err := s.fault(op); err != nil {
		return err
	}
	return do()
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the state directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
