package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/plugins/host/sandbox"
)

// Harden keeps this process from being looked into by others of its user: no
// memory, environment or descriptors in /proc, no debugger, no core file.
func Harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("daemon: PR_SET_DUMPABLE: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("daemon: RLIMIT_CORE: %w", err)
	}
	return nil
}

// issuerMemory is what an issuer may have unless the configuration says
// otherwise, in bytes: a stock one uses a tenth of it.
const issuerMemory = 512 << 20

// issuerConfinement is what one process is kept to that works on a format.
func (d *Daemon) issuerConfinement(name, format string) (_ sandbox.Confinement, err error) {
	i := d.cfg.Issuers
	c := sandbox.Confinement{Memory: memory(i.Memory, issuerMemory), Accept: i.AcceptMissing}
	if p, ok := d.cfg.PluginOf(format); ok {
		c.Memory = memory(p.Memory, c.Memory)
		c.Accept = slices.Concat(c.Accept, p.AcceptMissing)
	}
	if c.UID, err = d.uids.take(d.cfg, name); err != nil {
		return c, err
	}
	c.Cgroup, err = d.cgroup.plugin(name, c.Memory)
	return c, err
}

func memory(s config.Size, otherwise uint64) uint64 {
	if n := s.Bytes(); n > 0 {
		return uint64(n)
	}
	return otherwise
}

// moduleConfinement is what the process of an HSM's module is kept to. Where
// its files are restricted it keeps those that the configuration names: the
// module, where the PIN is, and what its variables point to.
func (d *Daemon) moduleConfinement(name string, p config.PKCS11) (_ sandbox.Confinement, err error) {
	c := sandbox.Confinement{Backend: true, Network: p.Network, Write: p.Files}
	if d.cfg != nil {
		c.Accept = d.cfg.Issuers.AcceptMissing
	}
	paths := []string{p.Module}
	if token, err := p.Token(); err == nil {
		paths = append(paths, token.Module)
	}
	if p.PIN != nil {
		paths = append(paths, p.PIN.File)
		c.Execute = existing(p.PIN.Command)
	}
	for _, name := range slices.Concat(moduleEnvironment, p.Environment) {
		if name != "HOME" {
			paths = append(paths, os.Getenv(name))
		}
	}
	c.Read = existing(paths)
	c.Cgroup, err = d.cgroup.plugin("backend-"+name, 0)
	return c, err
}

// existing are the absolute paths among some texts that are there.
func existing(texts []string) (paths []string) {
	for _, text := range texts {
		if !filepath.IsAbs(text) {
			continue
		}
		if _, err := os.Stat(text); err == nil { //nolint:gosec // a path of the configuration or of the daemon's environment
			paths = append(paths, text)
		}
	}
	return paths
}
