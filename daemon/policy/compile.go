package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/plugins/strictjson"
)

// A FieldError says which field of a profile is wrong, and what would mend it.
type FieldError struct {
	Path    string // as in the configuration: "profiles[0].audiences[1]"
	Profile string // the profile's name; empty if it is not about one
	Problem string
	Hint    string
}

// Error returns the field and its problem in one line, the hint in another.
func (e *FieldError) Error() string {
	text := e.Path
	if e.Profile != "" {
		text += " (profile " + quote(e.Profile) + ")"
	}
	text += ": " + e.Problem
	if e.Hint != "" {
		text += "\nhint: " + e.Hint
	}
	return text
}

// A set answers in the same time however long a profile's list is.
type set map[string]struct{}

func setOf(names []string) set {
	s := make(set, len(names))
	for _, n := range names {
		s[n] = struct{}{}
	}
	return s
}

func (s set) has(name string) bool { _, ok := s[name]; return ok }

// A profile is a Profile made ready for judging. The zero profile allows nothing.
type profile struct {
	Profile
	audiences, scopes, subjects, claims set
	principals, options, extensions     set

	// rules are Callers again: those are handed out with the Profile, and
	// whoever changes them must change no verdict.
	rules      []CallerRule
	verifiers  []CallerRule
	ruleNames  []string            // "pay.callers[0]", as the ledger records them
	open       []string            // subjects that end in "*"
	fixed      []strictjson.Member // in order of name
	required   []string            // claims
	kind       Kind
	conditions *conditions

	openPrincipals                []string // with a "*"
	requiredOptions               []string
	fixedOptions, fixedExtensions map[string]string
	assertion                     []byte // fixed
}

// ssh reports whether the profile's tokens are SSH certificates, which have
// fields of their own and lack most of the others'.
func (p *profile) ssh() bool { return p.Format == formatSSH }

// subject returns the pattern that allows s. "*" is only ever the last
// character of a pattern: a regular expression invites holes.
func (p *profile) subject(s string) (string, bool) {
	if p.subjects.has(s) {
		return s, true
	}
	for _, pattern := range p.open {
		if strings.HasPrefix(s, pattern[:len(pattern)-1]) {
			return pattern, true
		}
	}
	return "", false
}

// A compiler collects everything that is wrong with one profile.
type compiler struct {
	number int
	name   string
	format string
	errs   []error
}

// bad notes a mistake and goes on, so that one start shows them all.
func (c *compiler) bad(field, hint, format string, args ...any) {
	path := fmt.Sprintf("profiles[%d].%s", c.number, field)
	c.errs = append(c.errs, &FieldError{path, c.name, fmt.Sprintf(format, args...), hint})
}

// compile checks p and takes copies of what it refers to.
func compile(p Profile, i int) (*profile, error) {
	c := &compiler{number: i, name: p.Name, format: p.Format}
	p = cloneProfile(p)
	c.names(p)
	c.callers(p.Callers)
	c.verification(p)
	c.lifetime(p.MaxTTL)
	if p.Format == formatSSH {
		c.onlySSH(p)
	} else {
		c.notSSH(p)
	}
	c.assertion(p)
	c.kind(p)
	done := &profile{
		Profile: p, audiences: setOf(p.Audiences), scopes: setOf(p.Scopes), claims: setOf(slices.Concat(p.AllowedClaims, p.RequiredClaims)),
		rules: cloneRules(p.Callers), verifiers: cloneRules(p.Verifiers), fixed: c.claims(p), required: slices.Clone(p.RequiredClaims), conditions: c.conditions(p.Conditions),
		assertion: slices.Clone(p.FixedAssertion), kind: kindOf(p),
	}
	done.subjects, done.open = c.subjects(p.Subjects)
	c.certificate(p, done)
	for i := range p.Callers {
		done.ruleNames = append(done.ruleNames, fmt.Sprintf("%s.callers[%d]", p.Name, i))
	}
	return done, errors.Join(c.errs...)
}

// cloneProfile copies what p refers to, so that whoever holds on to it can
// change nothing.
func cloneProfile(p Profile) Profile {
	for _, list := range []*[]string{
		&p.Audiences, &p.Scopes, &p.Subjects, &p.AllowedClaims, &p.RequiredClaims,
		&p.Principals, &p.AllowedOptions, &p.RequiredOptions, &p.AllowedExtensions,
	} {
		*list = slices.Clone(*list)
	}
	p.Callers, p.Verifiers = slices.Clone(p.Callers), slices.Clone(p.Verifiers)
	p.Conditions, p.FixedAssertion = slices.Clone(p.Conditions), slices.Clone(p.FixedAssertion)
	p.FixedClaims, p.FixedOptions, p.FixedExtensions = maps.Clone(p.FixedClaims), maps.Clone(p.FixedOptions), maps.Clone(p.FixedExtensions)
	return p
}

// notSSH wants an audience, and nothing that only certificates have.
func (c *compiler) notSSH(p Profile) {
	if !sound(p.Issuer, maxSubject) {
		c.bad("issuer", "the name by which verifiers know you, often a URL", "missing or malformed")
	}
	c.unique("audiences", p.Audiences, true, func(s string) bool { return sound(s, maxSubject) })
	if i := slices.Index(p.Audiences, "*"); i >= 0 {
		c.bad(fmt.Sprintf("audiences[%d]", i), "list each audience; a token for everybody can be replayed by everybody", "* is no pattern here")
	}
	c.unique("scopes", p.Scopes, false, isScopeToken)
	c.foreign("principals", len(p.Principals))
	c.foreign("options", len(p.AllowedOptions)+len(p.RequiredOptions)+len(p.FixedOptions))
	c.foreign("extensions", len(p.AllowedExtensions)+len(p.FixedExtensions))
}

// foreign refuses a field that the profile's format has no place for.
func (c *compiler) foreign(field string, n int) {
	if n > 0 {
		c.bad(field, "leave it out, or use a key of another format", "format %s has no %s", quote(c.format), field)
	}
}

// cloneRules copies what the rules point to as well.
func cloneRules(rules []CallerRule) []CallerRule {
	clone := func(id *uint32) *uint32 {
		if id == nil {
			return nil
		}
		copied := *id
		return &copied
	}
	all := slices.Clone(rules)
	for i := range all {
		all[i].UID, all[i].GID = clone(all[i].UID), clone(all[i].GID)
	}
	return all
}

// names wants a type as well: without it tokens of different purpose could
// stand in for each other (RFC 8725 section 3.11).
func (c *compiler) names(p Profile) {
	if !isName(p.Name) {
		c.bad("name", "use 1 to 63 of a-z, 0-9, \"-\", \"_\" and \".\", a letter or digit first", "%s is not a name", quote(p.Name))
	}
	if p.Format != FormatOpaque && !sound(p.Key, maxSubject) {
		c.bad("key", "name the key that signs", "missing or malformed")
	}
	for _, f := range []struct{ field, value, hint string }{
		{"format", p.Format, "such as jwt"},
		{"type", p.Type, "such as at+jwt; it keeps tokens of different purpose apart"},
	} {
		if !sound(f.value, maxSubject) {
			c.bad(f.field, f.hint, "missing or malformed")
		}
	}
}

// callers wants somebody: a profile for nobody is a mistake, not a lock.
func (c *compiler) callers(rules []CallerRule) {
	if len(rules) == 0 {
		c.bad("callers", "name who may use the profile by uid, gid, unit or cgroup", "nobody is allowed: the list is empty")
	}
	c.callerRules("callers", rules)
}

func (c *compiler) callerRules(field string, rules []CallerRule) {
	for i, r := range rules {
		if err := r.Check(); err != nil {
			problem, hint, _ := strings.Cut(err.Error(), "\nhint: ")
			c.bad(fmt.Sprintf("%s[%d]", field, i), hint, "%s", problem)
		}
	}
}

// lifetime holds the profile's ceiling against ours.
func (c *compiler) lifetime(most time.Duration) {
	switch {
	case most <= 0:
		c.bad("max_ttl", "such as 15m", "must be over zero; it is %v", most)
	case most > Ceiling:
		c.bad("max_ttl", "short-lived tokens are the point; renew them instead", "%v is over %v, which no profile may exceed", most, Ceiling)
	case most%time.Second != 0:
		c.bad("max_ttl", "round it", "%v is not in whole seconds", most)
	}
}

// unique requires each of a list to be well formed and named once.
func (c *compiler) unique(field string, names []string, required bool, fits func(string) bool) {
	if required && len(names) == 0 {
		c.bad(field, "name at least one", "the list is empty, so no request could be allowed")
	}
	for i, n := range names {
		at := fmt.Sprintf("%s[%d]", field, i)
		if !fits(n) {
			c.bad(at, "", "%s is empty, too long or has characters that do not belong", quote(n))
		}
		if slices.Contains(names[:i], n) {
			c.bad(at, "name it once", "%s is named twice", quote(n))
		}
	}
}

// subjects sorts patterns into exact and open ones. A bare "*" allows
// everybody, as it says.
func (c *compiler) subjects(patterns []string) (set, []string) {
	c.unique("subjects", patterns, true, func(s string) bool { return sound(s, maxSubject) })
	exact, open := set{}, []string(nil)
	for i, s := range patterns {
		prefix, starred := strings.CutSuffix(s, "*")
		if strings.Contains(prefix, "*") {
			c.bad(fmt.Sprintf("subjects[%d]", i), "list the subjects, or end a common prefix in one \"*\"",
				"%s has a \"*\" that is not its last character", quote(s))
		}
		if starred {
			open = append(open, s)
			continue
		}
		exact[s] = struct{}{}
	}
	return exact, open
}

// isName keeps profile names fit for logs, labels of metrics and file names.
func isName(s string) bool {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}
	return s != "" && len(s) <= 63 && !strings.ContainsFunc(s, odd) && !strings.ContainsAny(s[:1], "-_.")
}

// isScopeToken follows RFC 6749 section 3.3: scopes are joined by spaces.
func isScopeToken(s string) bool {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
	return s != "" && len(s) <= maxSubject && !strings.ContainsFunc(s, odd)
}
