package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// DefaultPath is where the configuration is unless somebody says otherwise.
const DefaultPath = "/etc/signet/signet.yaml"

// Load reads and checks a configuration file. Its error is an Errors with
// every mistake that was found, or says why the file can't be read.
func Load(path string) (*Config, error) {
	// Not to wait for a writer, should somebody have put a pipe there.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the file that the operator names
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("configuration: %w\nhint: `signet init DIR` writes one; name it with --config or SIGNET_CONFIG", err)
	case err != nil:
		return nil, fmt.Errorf("configuration: %w\nhint: run as a user that may read it, or name another with --config", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	// The open file is asked, not the path: that may be another by now.
	if err := guarded(f, path); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(path, data)
}

// guarded refuses a file that others could have written or could replace:
// whoever writes it decides who may have a signature, and what runs to fetch a PIN.
func guarded(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	switch owner := info.Sys().(*syscall.Stat_t).Uid; {
	case !info.Mode().IsRegular():
		return fmt.Errorf("configuration %s is not a file\nhint: name signet.yaml itself", path)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("configuration %s has mode %04o: others may change it\nhint: chmod go-w %s", path, info.Mode().Perm(), path)
	case os.Geteuid() == 0 && owner != 0:
		return fmt.Errorf("configuration %s belongs to uid %d, who could have root run anything\nhint: chown root %s, or run signet as that user", path, owner, path)
	case dir.Mode().Perm()&0o002 != 0 && dir.Mode()&fs.ModeSticky == 0:
		return fmt.Errorf("configuration %s is in a directory where anybody may replace it\nhint: chmod o-w %s", path, filepath.Dir(path))
	}
	return nil
}

// Parse reads and checks a configuration. Its name is for messages, and its
// folder is what relative paths are relative to.
func Parse(name string, data []byte) (*Config, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // some editors put it there
	src, cfg := newSource(name, data), &Config{}
	cfg.src = src
	if src.decode(data, cfg) {
		cfg.check()
	}
	if errs := src.found(); len(errs) > 0 {
		return nil, errs
	}
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	cfg.absolute(dir)
	return cfg, nil
}

// Mistake is a mistake in a field of this configuration, with its place in the
// file: for those who check what only they know.
func (c *Config) Mistake(field, problem, hint string) Error {
	src := newSource("configuration", nil)
	if c.src != nil {
		*src = *c.src
	}
	src.errs, src.bad = nil, map[string]bool{}
	src.wrong(field, problem, hint)
	return src.found()[0]
}

// absolute makes relative paths absolute.
func (c *Config) absolute(dir string) {
	paths := []*string{&c.StateDir, &c.RuntimeDir, &c.Ledger.Dir}
	for i := range c.Backends {
		b := &c.Backends[i]
		if b.Softkey != nil {
			paths = append(paths, &b.Softkey.Dir)
			paths = append(paths, b.Softkey.Secret.paths()...)
		}
		if b.PKCS11 != nil {
			paths = append(paths, b.PKCS11.PIN.paths()...)
		}
	}
	for i := range c.Profiles {
		for j := range c.Profiles[i].Conditions {
			paths = append(paths, &c.Profiles[i].Conditions[j])
		}
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

func (s *Secret) paths() []*string {
	if s == nil {
		return nil
	}
	return []*string{&s.File}
}
