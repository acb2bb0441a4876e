package policy

import (
	"errors"
	"fmt"
	"os"

	"github.com/signetd/signet/daemon/peer"
)

// CheckHost says which caller rules could never hold on this machine. A
// configuration that rests on them is refused rather than left to deny.
func (g *Gate) CheckHost() error {
	return g.checkHost(peer.CanPin(), peer.CanReadExe(), uint32(os.Geteuid())) //nolint:gosec // uids fit
}

func (g *Gate) checkHost(pin, exe error, self uint32) error {
	var errs []error
	for _, name := range g.names {
		p := g.profiles[name]
		for field, rules := range map[string][]CallerRule{"callers": p.rules, "verifiers": p.verifiers} {
			for i, r := range rules {
				if err := r.holdsHere(pin, exe, self); err != nil {
					errs = append(errs, fmt.Errorf("profile %s: %s[%d]: %w", quote(name), field, i, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// holdsHere passes over exe where it is of our own uid, which we can read.
func (r CallerRule) holdsHere(pin, exe error, self uint32) error {
	if r.Unit == "" && r.Cgroup == "" && r.Exe == "" {
		return nil
	}
	if pin != nil {
		return pin
	}
	if r.Exe == "" || r.UID != nil && *r.UID == self {
		return nil
	}
	return exe
}
