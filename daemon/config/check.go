package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/signetd/signet/signers"
)

// maxTTL is the longest lifetime that any profile may give.
const maxTTL = 24 * time.Hour

// A checker collects mistakes and finds where in the file they are.
type checker struct {
	name string
	file *ast.File
	errs Errors
}

// check holds a whole configuration against what it must be.
func check(name string, file *ast.File, c *Config) Errors {
	k := &checker{name: name, file: file}
	if c.Version != 1 {
		k.wrong("version", fmt.Sprintf("%d is not a version that this signet reads", c.Version), "version: 1")
	}
	k.need("state_dir", c.StateDir)
	k.need("runtime_dir", c.RuntimeDir)
	k.unit("sockets.mode", c.Sockets.Mode.check(), `an octal mode in quotes, such as "0660"`)
	k.duration("lifecycle.lead_time", c.Lifecycle.LeadTime)
	k.duration("lifecycle.drain", c.Lifecycle.Drain)
	k.duration("issuers.deadline", c.Issuers.Deadline)
	k.unit("ledger.segment_size", c.Ledger.SegmentSize.check(), "a size such as 64MiB")
	k.oneOf("log.level", c.Log.Level, "", "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "", "text", "json")
	k.backends(c)
	k.keys(c)
	k.profiles(c)
	for i, a := range c.Admins {
		k.admin(fmt.Sprintf("admins[%d]", i), a)
	}
	slices.SortStableFunc(k.errs, func(a, b Error) int { return cmp.Compare(a.Line, b.Line) })
	return k.errs
}

func (k *checker) backends(c *Config) {
	k.some("backends", len(c.Backends))
	var names []string
	for i, b := range c.Backends {
		at := fmt.Sprintf("backends[%d]", i)
		names = k.unique(at+".name", b.Name, names)
		k.oneOf(at+".type", b.Type, "softkey", "pkcs11")
		k.section(at, b)
		if b.Softkey != nil {
			k.softkey(at+".softkey", *b.Softkey)
		}
		if b.PKCS11 != nil {
			k.pkcs11(at+".pkcs11", *b.PKCS11)
		}
	}
}

// section wants the settings of the back-end's own type, and no other.
func (k *checker) section(at string, b Backend) {
	for _, s := range []struct {
		name string
		here bool
	}{{"softkey", b.Softkey != nil}, {"pkcs11", b.PKCS11 != nil}} {
		if s.here && b.Type != s.name {
			k.wrong(at+"."+s.name, fmt.Sprintf("settings of %s in a back-end of type %q", s.name, b.Type), "remove them, or change type")
		}
		if !s.here && b.Type == s.name {
			k.wrong(at, fmt.Sprintf("a back-end of type %s needs its settings", s.name), "add a section "+s.name+":")
		}
	}
}

func (k *checker) softkey(at string, s Softkey) {
	if s.Memory {
		if s.Dir != "" || s.Secret != nil {
			k.wrong(at+".memory", "keys in memory have no directory and no secret", "remove dir and secret, or memory")
		}
	} else {
		k.need(at+".dir", s.Dir)
		k.secret(at+".secret", s.Secret)
	}
	if s.UnsafeFaults != nil {
		k.duration(at+".unsafe_faults.delay", s.UnsafeFaults.Delay)
	}
}

func (k *checker) pkcs11(at string, p PKCS11) {
	k.need(at+".module", p.Module)
	if p.Module != "" && !filepath.IsAbs(p.Module) {
		k.wrong(at+".module", fmt.Sprintf("%q is not an absolute path", p.Module), "name the module by its whole path, so that no other can be loaded")
	}
	if p.TokenLabel == "" && p.TokenSerial == "" {
		k.wrong(at, "no token is named", "set token_label or token_serial; `pkcs11-tool -L` lists them")
	}
	if p.Sessions < 0 || p.Sessions > 64 {
		k.wrong(at+".sessions", fmt.Sprintf("%d is not 1 to 64", p.Sessions), "2 is good for most HSMs")
	}
	k.secret(at+".pin", p.PIN)
}

// secret wants exactly one place, and never the secret itself.
func (k *checker) secret(at string, s *Secret) {
	const hint = "one of credential: NAME, file: PATH, command: [PATH, …]"
	if s == nil {
		k.wrong(at, "missing", hint)
		return
	}
	ways := 0
	for _, set := range []bool{s.Credential != "", s.File != "", len(s.Command) > 0} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		k.wrong(at, fmt.Sprintf("names %d places, not one", ways), hint)
	}
	if len(s.Command) > 0 && !filepath.IsAbs(s.Command[0]) {
		k.wrong(at+".command", fmt.Sprintf("%q is not an absolute path", s.Command[0]), "name the command by its whole path")
	}
}

func (k *checker) keys(c *Config) {
	k.some("keys", len(c.Keys))
	var names []string
	for i, key := range c.Keys {
		at := fmt.Sprintf("keys[%d]", i)
		names = k.unique(at+".name", key.Name, names)
		k.refers(at+".backend", key.Backend, "backends", backendNames(c))
		k.oneOf(at+".format", key.Format, "jwt")
		if _, err := signers.Algorithm(key.Algorithm).Params(); err != nil {
			k.wrong(at+".algorithm", fmt.Sprintf("%q is not known", key.Algorithm), "one of "+joined(signers.Algorithms()))
		}
	}
}

func (k *checker) profiles(c *Config) {
	k.some("profiles", len(c.Profiles))
	var names []string
	for i, p := range c.Profiles {
		at := fmt.Sprintf("profiles[%d]", i)
		names = k.unique(at+".name", p.Name, names)
		k.refers(at+".key", p.Key, "keys", keyNames(c))
		k.need(at+".issuer", p.Issuer)
		k.need(at+".type", p.Type)
		k.some(at+".callers", len(p.Callers))
		k.some(at+".audiences", len(p.Audiences))
		k.some(at+".subjects", len(p.Subjects))
		k.ttl(at+".max_ttl", p.MaxTTL)
		for j, caller := range p.Callers {
			k.caller(fmt.Sprintf("%s.callers[%d]", at, j), caller)
		}
	}
}

func (k *checker) ttl(at string, d Duration) {
	if d == "" {
		k.wrong(at, "missing", "every profile bounds its tokens' lifetime, such as max_ttl: 15m")
		return
	}
	k.duration(at, d)
	switch {
	case d.D() > maxTTL:
		k.wrong(at, fmt.Sprintf("%s is over the ceiling of %s", d, maxTTL), "short-lived tokens are the point: renew them instead")
	case d.D()%time.Second != 0:
		k.wrong(at, fmt.Sprintf("%s is not whole seconds", d), "round it")
	}
}

func (k *checker) caller(at string, c Caller) {
	if c.UID == nil && c.GID == nil && c.Unit == "" && c.Cgroup == "" {
		problem, hint := "selects nobody", "name a uid, gid, unit or cgroup"
		if c.Exe != "" {
			problem, hint = "exe alone is not an identity", "add the uid, gid, unit or cgroup that it narrows"
		}
		k.wrong(at, problem, hint)
	}
}

func (k *checker) admin(at string, a Admin) {
	k.caller(at, a.Caller)
	k.some(at+".rights", len(a.Rights))
	for i, right := range a.Rights {
		k.oneOf(fmt.Sprintf("%s.rights[%d]", at, i), right, "view", "rotate", "revoke", "destroy", "policy")
	}
}

// wrong notes a mistake.
func (k *checker) wrong(field, problem, hint string) {
	e := Error{File: k.name, Field: field, Problem: problem, Hint: hint}
	e.Line, e.Column = k.place(field)
	k.errs = append(k.errs, e)
}

// place finds a field in the file, or what it is missing from.
func (k *checker) place(field string) (int, int) {
	for field != "" {
		if path, err := yaml.PathString("$." + field); err == nil {
			if node, err := path.FilterFile(k.file); err == nil && node != nil && node.GetToken() != nil {
				p := node.GetToken().Position
				return p.Line, p.Column
			}
		}
		field = field[:max(0, strings.LastIndexAny(field, ".["))]
	}
	return 1, 1
}

func (k *checker) need(field, value string) {
	if value == "" {
		k.wrong(field, "missing", "it has no default")
	}
}

func (k *checker) some(field string, n int) {
	if n == 0 {
		k.wrong(field, "empty", "it needs at least one entry")
	}
}

func (k *checker) unit(field string, err error, hint string) {
	if err != nil {
		k.wrong(field, err.Error(), hint)
	}
}

func (k *checker) duration(field string, d Duration) {
	k.unit(field, d.check(), "a time with its unit, such as 90s or 5m")
}

func (k *checker) oneOf(field, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		k.wrong(field, fmt.Sprintf("%q is not known", value), "one of "+strings.TrimPrefix(strings.Join(allowed, ", "), ", "))
	}
}

// unique wants a name that can name something and is not there yet.
func (k *checker) unique(field, name string, seen []string) []string {
	switch {
	case signers.KeyID(name).Check() != nil || len(name) > 40 || name[0] < 'a' || name[0] > 'z':
		k.wrong(field, fmt.Sprintf("%q is not a name", name), "1 to 40 of a-z, 0-9 and '-', beginning with a letter")
	case slices.Contains(seen, name):
		k.wrong(field, fmt.Sprintf("%q is there already", name), "names are unique")
	}
	return append(seen, name)
}

func (k *checker) refers(field, name, section string, names []string) {
	if !slices.Contains(names, name) {
		k.wrong(field, fmt.Sprintf("%q is not among %s", name, section), "one of "+strings.Join(names, ", "))
	}
}

func backendNames(c *Config) []string {
	var names []string
	for _, b := range c.Backends {
		names = append(names, b.Name)
	}
	return names
}

func keyNames(c *Config) []string {
	var names []string
	for _, key := range c.Keys {
		names = append(names, key.Name)
	}
	return names
}

func joined(algs []signers.Algorithm) string {
	var names []string
	for _, a := range algs {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}
