package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/signers"
)

// Ceilings that no configuration lifts.
const (
	maxTTL      = 24 * time.Hour // of any token
	maxLead     = 30 * 24 * time.Hour
	maxDrain    = time.Hour
	maxDeadline = time.Minute
	maxName     = 40
)

// A checker holds a whole configuration against what it must be.
type checker struct{ *source }

func (c *Config) check() {
	k := checker{c.src}
	if c.Version != 1 && k.need("version", k.places["version"].line > 0, "version: 1") {
		k.wrong("version", fmt.Sprintf("%d is not a version that this signet reads", c.Version), "version: 1")
	}
	k.directories(c)
	k.unit("sockets.mode", c.Sockets.Mode.check(), `an octal mode in quotes, such as "0660"`)
	k.within("lifecycle.lead_time", c.Lifecycle.LeadTime, maxLead, "choose less: it delays every rotation")
	k.within("lifecycle.drain", c.Lifecycle.Drain, maxDrain, "choose less: it is for requests under way")
	k.issuers(c.Issuers)
	k.plugins(c)
	if c.Tokens.Most < 0 || c.Tokens.Most == 0 && k.places["tokens.most"].line > 0 {
		k.wrong("tokens.most", fmt.Sprintf("%d is not over zero", c.Tokens.Most), "leave it out for 1000000")
	}
	k.unit("ledger.segment_size", c.Ledger.SegmentSize.check(), "a size such as 64MiB")
	k.oneOf("log.level", c.Log.Level, "", "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "", "text", "json")
	k.backends(c)
	k.keys(c)
	k.profiles(c)
	for i, a := range c.Admins {
		k.admin(fmt.Sprintf("admins[%d]", i), a)
	}
}

// directories wants two: callers may look into the one, nobody into the other.
func (k checker) directories(c *Config) {
	state := k.need("state_dir", c.StateDir != "", "a directory for the daemon alone, such as /var/lib/signet")
	runtime := k.need("runtime_dir", c.RuntimeDir != "", "a directory for its sockets, such as /run/signet")
	if state && runtime && filepath.Clean(c.StateDir) == filepath.Clean(c.RuntimeDir) {
		k.wrong("runtime_dir", "the same directory as state_dir", "callers must reach the sockets, and nobody the records")
	}
}

func (k checker) backends(c *Config) {
	k.some("backends", len(c.Backends))
	seen := map[string]bool{}
	for i, b := range c.Backends {
		at := fmt.Sprintf("backends[%d]", i)
		k.unique(at+".name", b.Name, seen)
		k.oneOf(at+".type", b.Type, "softkey", "pkcs11", "awskms", "gcpkms")
		k.section(at, b)
		k.limits(at, b)
		if b.Softkey != nil {
			k.softkey(at+".softkey", *b.Softkey)
		}
		if b.PKCS11 != nil {
			k.pkcs11(at+".pkcs11", *b.PKCS11)
		}
		if b.AWSKMS != nil {
			k.awskms(at+".awskms", *b.AWSKMS)
		}
		if b.GCPKMS != nil {
			k.gcpkms(at+".gcpkms", *b.GCPKMS)
		}
	}
}

// section wants the settings of the back-end's own type, and no other.
func (k checker) section(at string, b Backend) {
	for _, s := range []struct {
		name string
		here bool
	}{{"softkey", b.Softkey != nil}, {"pkcs11", b.PKCS11 != nil}, {"awskms", b.AWSKMS != nil}, {"gcpkms", b.GCPKMS != nil}} {
		if s.here && b.Type != s.name && b.Type != "" {
			k.wrong(at+"."+s.name, fmt.Sprintf("settings of %s in a back-end of type %s", s.name, quote(b.Type)), "remove them, or change type")
		}
		if !s.here && b.Type == s.name && !k.bad[at+"."+s.name] {
			k.wrong(at, fmt.Sprintf("a back-end of type %s needs its settings", s.name), "add a section "+s.name+":")
		}
	}
}

func (k checker) softkey(at string, s Softkey) {
	if s.Memory {
		if s.Dir != "" || s.Secret != nil {
			k.wrong(at+".memory", "keys in memory have no directory and no secret", "remove dir and secret, or memory")
		}
	} else {
		k.need(at+".dir", s.Dir != "", "a directory for the key files, or memory: true for a trial")
		k.secret(at+".secret", s.Secret)
	}
	if f := s.UnsafeFaults; f != nil {
		k.duration(at+".unsafe_faults.delay", f.Delay)
		if f.Sessions < 0 {
			k.wrong(at+".unsafe_faults.sessions", fmt.Sprintf("%d is less than nothing", f.Sessions), "such as 16")
		}
	}
}

// secret wants exactly one place, and never the secret itself.
func (k checker) secret(at string, s *Secret) {
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
	if ways != 1 && !k.anyBad(at+".") {
		k.wrong(at, fmt.Sprintf("names %d places, not one", ways), hint)
	}
	if len(s.Command) > 0 && !filepath.IsAbs(s.Command[0]) {
		k.wrong(at+".command", "not an absolute path", "name the command by its whole path")
	}
}

func (k checker) keys(c *Config) {
	k.some("keys", len(c.Keys))
	seen, backends := map[string]bool{}, backendNames(c)
	for i, key := range c.Keys {
		at := fmt.Sprintf("keys[%d]", i)
		k.unique(at+".name", key.Name, seen)
		k.refers(at+".backend", key.Backend, "backends", backends)
		k.oneOf(at+".format", key.Format, formatNames(c)...)
		k.algorithm(at+".algorithm", key.Algorithm)
		k.fits(at+".algorithm", key)
		k.blind(at, key)
	}
}

func (k checker) algorithm(field, name string) {
	if _, err := signers.Algorithm(name).Params(); err != nil {
		k.wrong(field, quote(name)+" is not known", "one of "+joined(signers.Algorithms()))
	}
}

// fits wants an algorithm that the key's format signs with: a key of another
// would be made and published, and never sign.
func (k checker) fits(field string, key Key) {
	all, limited := Algorithms[key.Format]
	if a := signers.Algorithm(key.Algorithm); limited && !slices.Contains(all, a) && slices.Contains(signers.Algorithms(), a) {
		k.wrong(field, "format "+key.Format+" does not sign with "+key.Algorithm, "one of "+joined(all))
	}
}

func (k checker) caller(at string, c Caller) {
	if c.UID == nil && c.GID == nil && c.Unit == "" && c.Cgroup == "" && !k.anyBad(at+".") {
		problem, hint := "selects nobody", "name a uid, gid, unit or cgroup"
		if c.Exe != "" {
			problem, hint = "exe alone is not an identity", "add the uid, gid, unit or cgroup that it narrows"
		}
		k.wrong(at, problem, hint)
	}
}

func (k checker) admin(at string, a Admin) {
	k.caller(at, a.Caller)
	k.some(at+".rights", len(a.Rights))
	for i, right := range a.Rights {
		k.oneOf(fmt.Sprintf("%s.rights[%d]", at, i), right, "view", "rotate", "revoke", "destroy", "policy")
	}
}

// anyBad reports whether a field that begins like this has a mistake: what
// its section lacks may follow from it.
func (k checker) anyBad(prefix string) bool {
	for field := range k.bad {
		if strings.HasPrefix(field, prefix) {
			return true
		}
	}
	return false
}

// need wants a value to be there, and reports whether it is.
func (k checker) need(field string, there bool, hint string) bool {
	if !there {
		k.wrong(field, "missing", hint)
	}
	return there
}

func (k checker) some(field string, n int) {
	if n == 0 && k.need(field, k.places[field].line > 0, "it needs at least one entry") {
		k.wrong(field, "empty", "it needs at least one entry")
	}
}

// distinct wants each entry to say something, and once.
func (k checker) distinct(field string, entries []string) {
	for i, e := range entries {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case strings.TrimSpace(e) != e || e == "":
			k.wrong(at, quote(e)+" is empty or has space around it", "write the value itself")
		case slices.Contains(entries[:i], e):
			k.wrong(at, quote(e)+" is there already", "name it once")
		}
	}
}

func (k checker) unit(field string, err error, hint string) {
	if err != nil {
		k.wrong(field, err.Error(), hint)
	}
}

func (k checker) duration(field string, d Duration) {
	k.unit(field, d.check(), "a time with its unit, such as 90s or 5m")
}

// within wants a time with its unit, and not an absurd one.
func (k checker) within(field string, d Duration, most time.Duration, why string) {
	k.duration(field, d)
	if d.D() > most {
		k.wrong(field, fmt.Sprintf("%s is over the ceiling of %s", d, short(most)), why)
	}
}

// short is a duration without the zeros that Go's has.
func short(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} { // "10m0s" is 10m, and "30s" stays
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

func (k checker) oneOf(field, value string, allowed ...string) {
	hint := "one of " + strings.TrimPrefix(strings.Join(allowed, ", "), ", ")
	switch {
	case slices.Contains(allowed, value):
	case value == "":
		k.wrong(field, "missing", hint)
	default:
		k.wrong(field, quote(value)+" is not known", hint)
	}
}

// unique wants a name that can name something and is not there yet.
func (k checker) unique(field, name string, seen map[string]bool) {
	const hint = "1 to 40 of a-z, 0-9 and '-', beginning with a letter"
	switch {
	case name == "":
		k.wrong(field, "missing", hint)
	case signers.KeyID(name).Check() != nil || len(name) > maxName || name[0] < 'a' || name[0] > 'z':
		k.wrong(field, quote(name)+" is not a name", hint)
	case seen[name]:
		k.wrong(field, quote(name)+" is there already", "names are unique")
	}
	seen[name] = true
}

// names is what a section has, in its order.
type names struct {
	all []string
	has map[string]bool
}

func (n *names) add(name string) {
	if name != "" {
		n.all, n.has[name] = append(n.all, name), true
	}
}

// hint offers what there is, as far as it fits in a line.
func (n *names) hint(section string) string {
	const most = 10
	switch {
	case len(n.all) == 0:
		return "add one under " + section
	case len(n.all) > most:
		return fmt.Sprintf("one of %s and %d more", strings.Join(n.all[:most], ", "), len(n.all)-most)
	}
	return "one of " + strings.Join(n.all, ", ")
}

func (k checker) refers(field, name, section string, there *names) {
	switch {
	case there.has[name]:
	case name == "":
		k.wrong(field, "missing", there.hint(section))
	default:
		k.wrong(field, quote(name)+" is not among "+section, there.hint(section))
	}
}

func backendNames(c *Config) *names {
	n := &names{has: map[string]bool{}}
	for _, b := range c.Backends {
		n.add(b.Name)
	}
	return n
}

// formatNames are the formats that are compiled in, and the plug-ins'.
func formatNames(c *Config) []string {
	all := slices.Clone(Formats)
	for _, p := range c.Plugins {
		all = append(all, p.Makes())
	}
	return all
}

func keyNames(c *Config) *names {
	n := &names{has: map[string]bool{}}
	for _, key := range c.Keys {
		n.add(key.Name)
	}
	return n
}

func joined(algs []signers.Algorithm) string {
	var names []string
	for _, a := range algs {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}
