// Package policy decides who may have which token. A [Gate] turns a request
// into an [Approval], which can be used once, or into a [Denial], which is safe
// to show to whoever asked.
//
// What no profile allows is denied. A profile can only narrow: nothing is
// trimmed to fit, and no rule gives more than was asked for. The checks are
// plain Go; Cedar policies ([Condition]) may forbid further.
package policy

import (
	"encoding/json"
	"io"
	"time"

	"github.com/signetd/signet/daemon/peer"
	"github.com/signetd/signet/plugins"
)

// Limits that no configuration can relax.
const (
	// Ceiling is the longest lifetime that any profile may give.
	Ceiling = 24 * time.Hour
	// MaxSkew is the most that clocks may differ in the Sign lane, and
	// DefaultSkew what they may if nothing is said. It can't be nothing: a
	// second may end between the caller's look at the clock and ours.
	MaxSkew     = 5 * time.Minute
	DefaultSkew = 5 * time.Second

	// Backdate is how far the start of an SSH certificate that its caller wrote
	// may lie back, beside the skew: `ssh-keygen -V +15m` takes 59 seconds off
	// and rounds down to the minute. The end is not moved by it.
	Backdate = 2 * time.Minute

	maxSubject    = 1024    // bytes
	maxTokenID    = 255     // bytes, of an id that the caller wrote
	maxAssertion  = 4 << 10 // bytes
	maxPrincipals = 256     // as many as OpenSSH reads
)

// The formats that are judged by rules of their own.
const (
	formatPASETO = "paseto"
	formatSSH    = "ssh"
)

// FormatOpaque is that of reference tokens: random text that says nothing by
// itself. The daemon remembers what it stands for, so there is no key.
const FormatOpaque = "opaque"

// A Profile is one kind of token: the key and format that make it, who may
// have it, and what it may say. Lists name what is allowed; an empty list
// allows nothing.
type Profile struct {
	Name   string
	Key    string // the key's name; its format is fixed when it is made; none for FormatOpaque
	Format string // "jwt", "paseto", "ssh", or a third party's
	Type   string // the token's type; tells apart tokens of different purpose. Of SSH: "user" or "host"
	Issuer string // none for SSH, whose issuer is the key
	Kind   Kind   // of a JWT

	Callers   []CallerRule
	Audiences []string // exact; none for SSH
	Scopes    []string // exact
	Subjects  []string // exact, or with one "*" at the end, which stands for anything or nothing

	MaxTTL         time.Duration
	AllowedClaims  []string
	RequiredClaims []string                   // allowed, and never absent
	FixedClaims    map[string]json.RawMessage // written into every token
	RequireHolder  bool
	TrustDomain    string // of a JWT-SVID
	Conditions     []Condition

	Verifiers []CallerRule // who may ask what a token says, and use a single-use one up
	SingleUse bool         // a token is good once: whoever accepts it redeems it first

	// SSH. Principals are exact or have one "*" at the end; those of host
	// certificates may begin with "*." instead, which stands for one label.
	Principals        []string
	AllowedOptions    []string
	RequiredOptions   []string // allowed, and never absent
	FixedOptions      map[string]string
	AllowedExtensions []string // without a value; one that has a value is fixed
	FixedExtensions   map[string]string

	// PASETO: the implicit assertion, which is signed and not in the token.
	AllowAssertion bool
	FixedAssertion []byte // signed with every token
}

// A Condition is Cedar text. If a profile has any, they must permit the request.
type Condition struct {
	File string // for messages
	Text string
}

// A Request is what a caller asks for in the Issue lane.
type Request struct {
	Caller   peer.Caller // only package peer makes one
	Profile  string
	Subject  string
	Audience []string
	Scope    []string
	TTL      time.Duration
	Claims   []byte // one JSON object, or nothing
	Holder   plugins.Holder

	Principals []string          // SSH
	Options    map[string]string // SSH critical options
	Extensions map[string]string // SSH
	Assertion  []byte            // PASETO
}

// Options are what a Gate takes from outside. Now and Rand are required.
type Options struct {
	Now  func() time.Time
	Rand io.Reader
	// Skew is how far the times in a token that its caller wrote may lie from
	// our clock: at most [MaxSkew], [DefaultSkew] if zero.
	Skew time.Duration
	// Serial draws the next serial number of an SSH certificate, never zero and
	// never one again. Required where a profile has format ssh.
	Serial func() (uint64, error)
}

// The rules, in the order in which they are looked at. [Denial.Rule] is always
// one of them, so it can be the label of a metric.
const (
	RuleProfile    = "profile"
	RuleCaller     = "caller"
	RuleIssuer     = "issuer" // Sign lane
	RuleType       = "type"   // Sign lane
	RuleSubject    = "subject"
	RuleAudience   = "audience"
	RuleScope      = "scope"
	RuleTokenID    = "token-id"   // Sign lane
	RuleIssuedAt   = "issued-at"  // Sign lane
	RuleExpires    = "expires"    // Sign lane
	RuleNotBefore  = "not-before" // Sign lane
	RuleLifetime   = "lifetime"
	RuleSerial     = "serial" // Sign lane
	RulePrincipals = "principals"
	RuleOptions    = "options"
	RuleExtensions = "extensions"
	RuleAssertion  = "assertion"
	RuleClaims     = "claims"
	RuleKind       = "kind" // of a JWT
	RuleHolder     = "holder"
	RuleConditions = "conditions"
	RuleVerifier   = "verifier" // Introspect and Redeem
	RuleSingleUse  = "single-use"
)

// Rules returns every name that [Denial.Rule] can have.
func Rules() []string {
	return []string{
		RuleProfile, RuleCaller, RuleIssuer, RuleType, RuleSubject, RuleAudience, RuleScope, RuleTokenID,
		RuleIssuedAt, RuleExpires, RuleNotBefore, RuleLifetime, RuleSerial, RulePrincipals, RuleOptions, RuleExtensions,
		RuleAssertion, RuleClaims, RuleKind, RuleHolder, RuleConditions, RuleVerifier, RuleSingleUse,
	}
}

// A Denial says which rule refused a request and what would mend it. It is
// safe to show to the caller: it has no subject, no value of a claim or holder
// and nothing of another profile.
type Denial struct {
	Rule   string // one of Rules
	Reason string
	Hint   string

	// detail is for Explain alone, whose reader may see the rules.
	detail string
}

// Error returns the denial in one line, and its hint in another.
func (d *Denial) Error() string {
	text := "denied by rule " + d.Rule + ": " + d.Reason
	if d.Hint != "" {
		text += "\nhint: " + d.Hint
	}
	return text
}

// An Explanation says what the Gate makes of a request, check by check.
type Explanation struct {
	Allowed bool
	Rule    string // the rule that decided: what Denial.Rule or Approval.Rule would be
	Reason  string // why not; empty when allowed
	Steps   []Step
}

// A Step is one check: what was compared and, where it did not hold, what
// would mend it.
type Step struct {
	Rule   string
	Held   bool
	Detail string
}
