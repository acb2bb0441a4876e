package daemon

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/signetd/signet/daemon/config"
	"github.com/signetd/signet/daemon/policy"
	"github.com/signetd/signet/daemon/secret"
)

// skew is how far a caller's clock may be ahead of ours.
const skew = time.Minute

func (d *Daemon) openGate(context.Context) (err error) {
	if d.gate, err = newGate(d.cfg, d.serial); err != nil {
		return err
	}
	// A rule that needs what this kernel or user can't read would only deny.
	return d.gate.CheckHost()
}

// newGate makes the policy of a configuration. Its mistakes have their places
// in the file.
func newGate(cfg *config.Config, serial func() (uint64, error)) (*policy.Gate, error) {
	all, wrong := profiles(cfg)
	gate, err := policy.New(all, policy.Options{Now: now, Rand: rand.Reader, Skew: skew, Serial: serial})
	for _, e := range flat(err) {
		var field *policy.FieldError
		if !errors.As(e, &field) {
			return nil, err
		}
		wrong = append(wrong, cfg.Mistake(field.Path, field.Problem, field.Hint))
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return gate, nil
}

// flat are the errors that were joined.
func flat(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flat(e)...)
	}
	return all
}

// Check finds what a start would find in a configuration, as far as that can be
// seen without starting anything: its policy, and the files that it names.
func Check(cfg *config.Config) error {
	_, err := newGate(cfg, func() (uint64, error) { return 0, errNoSerials })
	var all config.Errors
	if err != nil && !errors.As(err, &all) {
		return err
	}
	for i, b := range cfg.Backends {
		at := fmt.Sprintf("backends[%d].", i)
		if b.Softkey != nil {
			all = append(all, look(cfg, at+"softkey.secret", b.Softkey.Secret)...)
		}
		if b.PKCS11 != nil {
			all = append(all, look(cfg, at+"pkcs11.pin", b.PKCS11.PIN)...)
		}
	}
	if len(all) > 0 {
		return all
	}
	return nil
}

// look says what is wrong with where a secret is.
func look(cfg *config.Config, at string, s *config.Secret) config.Errors {
	if s == nil {
		return nil
	}
	err := secret.Source{Credential: s.Credential, File: s.File, Command: s.Command}.Look()
	if err == nil {
		return nil
	}
	problem, hint, _ := strings.Cut(err.Error(), "\nhint: ")
	return config.Errors{cfg.Mistake(at+".file", problem, hint)}
}

// profiles are the configuration's profiles, as policy takes them.
func profiles(cfg *config.Config) (all []policy.Profile, wrong config.Errors) {
	for i, p := range cfg.Profiles {
		to := policy.Profile{
			Name: p.Name, Key: p.Key, Format: cfg.ProfileFormat(p), Type: p.Type, Issuer: p.Issuer,
			Kind: policy.Kind(p.Kind), TrustDomain: p.TrustDomain,
			Audiences: p.Audiences, Scopes: p.Scopes, Subjects: p.Subjects, MaxTTL: p.MaxTTL.D(),
			AllowedClaims: p.Claims.Allowed, RequiredClaims: p.Claims.Required, FixedClaims: map[string]json.RawMessage{},
			RequireHolder: p.RequireHolder, Principals: p.Principals,
			AllowedOptions: p.Options.Allowed, RequiredOptions: p.Options.Required, FixedOptions: p.Options.Fixed,
			AllowedExtensions: p.Extensions.Allowed, FixedExtensions: p.Extensions.Fixed, AllowAssertion: p.Assertion.Allowed,
			SingleUse: p.SingleUse,
		}
		if p.Assertion.Fixed != "" {
			to.FixedAssertion = []byte(p.Assertion.Fixed)
		}
		for name, value := range p.Claims.Fixed {
			raw, err := json.Marshal(value)
			if err != nil {
				wrong = append(wrong, cfg.Mistake(fmt.Sprintf("profiles[%d].claims.fixed.%s", i, name), err.Error(), "a claim's value is text, a whole number, true, false, a list or a map"))
			}
			to.FixedClaims[name] = raw
		}
		for j, file := range p.Conditions {
			text, err := os.ReadFile(file) //nolint:gosec // named by the configuration
			if err != nil {
				wrong = append(wrong, cfg.Mistake(fmt.Sprintf("profiles[%d].conditions[%d]", i, j), unreadable(err), "name a file of Cedar policies that the daemon's user can read; a relative path is relative to the configuration"))
				continue
			}
			to.Conditions = append(to.Conditions, policy.Condition{File: file, Text: string(text)})
		}
		for _, c := range p.Callers {
			to.Callers = append(to.Callers, callerRule(c))
		}
		for _, c := range p.Verifiers {
			to.Verifiers = append(to.Verifiers, callerRule(c))
		}
		all = append(all, to)
	}
	return all, wrong
}

// unreadable is why a file can't be read, without the name of a system call.
func unreadable(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Sprintf("%q: %v", p.Path, p.Err)
	}
	return err.Error()
}

func callerRule(c config.Caller) policy.CallerRule {
	return policy.CallerRule{UID: c.UID, GID: c.GID, Unit: c.Unit, Cgroup: c.Cgroup, Exe: c.Exe}
}
