// Package filestore keeps the keyring's records on one machine: one file a key,
// replaced by rename after its bytes and before its name are on disk.
package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/signetd/signet/keyring"
)

var (
	// ErrLocked says that another process has the directory.
	ErrLocked = errors.New("another process has it")
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("store is closed")
	// ErrDamaged says that a record is not what was saved.
	ErrDamaged = errors.New("record is damaged")
)

// Options are for tests; the zero Options are what a daemon wants.
type Options struct {
	// Fault, if any, is called before each mkdir, write, fsync, rename,
	// remove and fsync-dir, and what it returns fails that step.
	Fault func(op string) error
}

// A Store is a directory of records. It implements keyring.Store.
type Store struct {
	dir string

	mu       sync.Mutex
	root     *os.Root // nil once closed
	lock     *os.File
	fault    func(op string) error
	watchers []*watcher

	// dirty is set while a change to keys/ may not survive a power cut.
	// Nothing is read before it is cleared: a revocation that was seen, relied
	// on and then undone would be worse than a store that can't be read.
	dirty bool
}

var _ keyring.Store = (*Store)(nil)

// Open takes the directory dir, making it if it is not there. Only its owner
// may have access to it, and only one process at a time.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{dir: dir, fault: o.Fault, dirty: true}
	if err := s.open(); err != nil {
		_ = s.Close() // err is the reason to tell
		return nil, fmt.Errorf("filestore: %q: %w", dir, err)
	}
	return s, nil
}

// Close gives the directory back. A second Close does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.lock != nil {
		err = s.lock.Close()
	}
	if s.root != nil {
		err = errors.Join(err, s.root.Close())
	}
	s.lock, s.root = nil, nil
	return err
}

// Load reads a record.
func (s *Store) Load(ctx context.Context, name string) (keyring.Entry, keyring.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.load(ctx, name)
	if err != nil {
		return keyring.Entry{}, 0, fmt.Errorf("filestore: load %q: %w", name, err)
	}
	return r.Key, r.Revision, nil
}

func (s *Store) load(ctx context.Context, name string) (record, error) {
	if err := s.ready(ctx, name); err != nil {
		return record{}, err
	}
	data, err := s.root.ReadFile(fileOf(name))
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, err
	}
	r, err := decode(data)
	if err == nil && r.Key.Name != name {
		err = fmt.Errorf("it holds key %q: %w", r.Key.Name, ErrDamaged)
	}
	if err != nil {
		file := path.Join(s.dir, fileOf(name))
		return record{}, fmt.Errorf("%s: %w\nhint: restore that file from a backup; nothing was changed", file, err)
	}
	return r, nil
}

// List returns the names that have a record.
func (s *Store) List(ctx context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx, "a"); err != nil {
		return nil, fmt.Errorf("filestore: list: %w", err)
	}
	files, err := fs.ReadDir(s.root.FS(), keysName)
	if err != nil {
		return nil, fmt.Errorf("filestore: list: %w", err)
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), fileSuffix)
		if isTemp(f.Name()) {
			continue // of a save that failed
		}
		if !ok || keyring.CheckName(name) != nil {
			file := path.Join(s.dir, keysName, f.Name())
			return nil, fmt.Errorf("filestore: %s: not a record\nhint: move it away", file)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Save replaces a record if its revision is still prev.
func (s *Store) Save(ctx context.Context, name string, e keyring.Entry, prev keyring.Revision) (keyring.Revision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.save(ctx, name, e, prev); err != nil {
		return 0, fmt.Errorf("filestore: save %q: %w", name, err)
	}
	return prev + 1, nil
}

func (s *Store) save(ctx context.Context, name string, e keyring.Entry, prev keyring.Revision) error {
	have, err := s.load(ctx, name)
	if err != nil {
		return err
	}
	if have.Revision != prev {
		return fmt.Errorf("revision %d, not %d: %w", have.Revision, prev, keyring.ErrConflict)
	}
	if e.Name != name {
		return fmt.Errorf("it is a record of %q", e.Name)
	}
	data, err := record{Revision: prev + 1, Key: e}.encode()
	if err != nil {
		return err
	}
	return s.replace(name, data)
}

// ready is what comes before every use of the directory.
func (s *Store) ready(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.root == nil {
		return ErrClosed
	}
	if err := keyring.CheckName(name); err != nil {
		return err
	}
	return s.sync()
}
