package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/plugins/strictjson"
)

// A Kind says by which rules a JWT is made, so that none can stand in for
// another (RFC 8725 section 3.12). Other formats have none.
type Kind string

// The kinds. A profile that names none is of kind access if its type is
// at+jwt, and else plain.
const (
	// KindAccess is an access token of RFC 9068: typ at+jwt, and client_id.
	KindAccess Kind = "access"
	// KindAuthentication says who authenticated, when and how, as an ID token
	// does (OpenID Connect Core section 2), and grants nothing: no scope, a typ
	// of its own, and always auth_time.
	KindAuthentication Kind = "authentication"
	// KindSVID is a SPIFFE JWT-SVID: typ JWT or JOSE, and a SPIFFE ID of the
	// profile's trust domain as its subject.
	KindSVID Kind = "svid"
	// KindPlain is any other JWT, with a typ of its own (RFC 8725 section 3.11).
	KindPlain Kind = "plain"
)

const (
	formatJWT  = "jwt"
	accessType = "at+jwt"
	clientID   = "client_id"
	authTime   = "auth_time"
)

// vague types say nothing of a token's purpose; only a JWT-SVID has one.
var vague = []string{"JWT", "JOSE"}

// taken are types that say "this is no authentication token" to those who know
// them (IANA, Media Types).
var taken = []string{
	"at+jwt", "dpop+jwt", "entity-statement+jwt", "kb+jwt", "logout+jwt", "oauth-authz-req+jwt",
	"secevent+jwt", "statuslist+jwt", "token-introspection+jwt",
}

// onlyID are claims that make a relying party take a token for an ID token.
var onlyID = []string{"at_hash", "c_hash", "nonce", "s_hash"}

// kindOf is the profile's kind, named or not.
func kindOf(p Profile) Kind {
	switch {
	case p.Kind != "" || p.Format != formatJWT:
		return p.Kind
	case strings.EqualFold(p.Type, accessType):
		return KindAccess
	}
	return KindPlain
}

// kind checks a profile by the rules of its kind.
func (c *compiler) kind(p Profile) {
	if p.Format != formatJWT {
		c.foreign("kind", len(p.Kind))
		c.foreign("trust_domain", len(p.TrustDomain))
		return
	}
	if prefix := "application/"; len(p.Type) > len(prefix) && strings.EqualFold(p.Type[:len(prefix)], prefix) {
		c.bad("type", "write it without application/ (RFC 7515 section 4.1.9)", "%s would be another text for the same type", quote(p.Type))
	}
	kind := kindOf(p)
	if kind != KindSVID && p.TrustDomain != "" {
		c.bad("trust_domain", "leave it out, or write kind: svid", "only a JWT-SVID has a trust domain")
	}
	switch kind {
	case KindAccess:
		c.accessKind(p)
	case KindAuthentication:
		c.authenticationKind(p)
	case KindSVID:
		c.svidKind(p)
	case KindPlain:
		c.ownType(p, vague, []string{accessType})
	default:
		c.bad("kind", "access, authentication, svid or plain", "%s is not a kind of JWT", quote(string(kind)))
	}
}

// ownType wants a typ that says what the token is for.
func (c *compiler) ownType(p Profile, not ...[]string) {
	for _, t := range slices.Concat(not...) {
		if strings.EqualFold(p.Type, t) {
			c.bad("type", "choose one of your own, such as example+jwt (RFC 8725 section 3.11)", "%s can't be the type of kind %s", quote(p.Type), quote(string(kindOf(p))))
		}
	}
}

func (c *compiler) accessKind(p Profile) {
	if p.Type != accessType {
		c.bad("type", "write "+accessType+" (RFC 9068 section 2.1), or another kind", "%s can't be the type of an access token", quote(p.Type))
	}
	c.surely(p, clientID, "an access token names its client (RFC 9068 section 2.2)")
	for _, name := range onlyID {
		if slices.Contains(p.AllowedClaims, name) || slices.Contains(p.RequiredClaims, name) || p.FixedClaims[name] != nil {
			c.bad("claims", "leave it out", "claim %s belongs in an authentication token: with it an access token could be taken for one", quote(name))
		}
	}
}

func (c *compiler) authenticationKind(p Profile) {
	c.ownType(p, vague, taken)
	if len(p.Scopes) > 0 {
		c.bad("scopes", "give scopes in a profile of access tokens", "an authentication token grants nothing")
	}
	if !slices.Contains(p.RequiredClaims, authTime) {
		c.bad("claims.required", "add "+authTime, "an authentication token says when somebody authenticated (OpenID Connect Core section 2)")
	}
}

func (c *compiler) svidKind(p Profile) {
	if !slices.Contains(vague, p.Type) {
		c.bad("type", "write JWT (SPIFFE JWT-SVID section 2.3)", "%s can't be the type of a JWT-SVID", quote(p.Type))
	}
	if !isTrustDomain(p.TrustDomain) {
		c.bad("trust_domain", "such as example.org: lower case, digits, '.', '-' and '_'", "missing, or not a trust domain")
		return
	}
	for i, s := range p.Subjects {
		bare, _ := strings.CutSuffix(s, "*")
		if !strings.HasPrefix(bare, "spiffe://"+p.TrustDomain+"/") {
			c.bad(fmt.Sprintf("subjects[%d]", i), "such as spiffe://"+p.TrustDomain+"/ci/*", "%s is no workload of trust domain %s", quote(s), quote(p.TrustDomain))
		}
	}
}

// surely wants a claim that every token will have.
func (c *compiler) surely(p Profile, name, why string) {
	if raw, fixed := p.FixedClaims[name]; fixed {
		if text, ok := (strictjson.Member{Value: raw}).Text(); !ok || text == "" {
			c.bad("claims.fixed."+name, "write a text", "%s is no text, or an empty one", quote(name))
		}
		return
	}
	if !slices.Contains(p.RequiredClaims, name) {
		c.bad("claims", "add "+name+" under claims.fixed, or claims.required", "%s", why)
	}
}

// judgeKind holds what a token says against its kind, in both lanes: the
// profile was checked, and values that callers give are not in it.
func (j *judgement) judgeKind() *Denial {
	switch j.profile.kind {
	case KindAccess:
		return j.judgeTexts(true, clientID)
	case KindAuthentication:
		return j.judgeAuthentication()
	case KindSVID:
		if !isSPIFFEID(j.Subject, j.profile.TrustDomain) {
			return deny("such as spiffe://"+j.profile.TrustDomain+"/ci/build", "the subject is not a SPIFFE ID of a workload of trust domain %s", quote(j.profile.TrustDomain))
		}
	case KindPlain:
	}
	return nil
}

func (j *judgement) tellKind() string {
	if j.profile.kind == "" {
		return "the format has no kinds"
	}
	return "as kind " + quote(string(j.profile.kind)) + " wants"
}

// claim is one of the grant's, the caller's or a fixed one.
func (j *judgement) claim(name string) (strictjson.Member, bool) {
	if m, ok := find(j.given, name); ok {
		return m, true
	}
	return find(j.profile.fixed, name)
}

// judgeTexts wants claims, where they are there, to be texts that say something.
func (j *judgement) judgeTexts(needed bool, names ...string) *Denial {
	for _, name := range names {
		m, there := j.claim(name)
		if text, ok := m.Text(); there && (!ok || text == "") || needed && !there {
			return deny("send a text", "claim %s of kind %s is missing, or no text", quote(name), quote(string(j.profile.kind)))
		}
	}
	return nil
}

// judgeAuthentication reads the claims of OpenID Connect Core section 2. An
// authentication in the future would stay recent for ever.
func (j *judgement) judgeAuthentication() *Denial {
	m, _ := j.claim(authTime)
	at, ok := m.Int()
	if !ok || at <= 0 || time.Unix(at, 0).After(j.now.Add(j.skew)) {
		return deny("send the seconds since 1970 at which it was", "claim %s is not a time of authentication that is over", quote(authTime))
	}
	if m, there := j.claim("amr"); there {
		if all, ok := m.Texts(); !ok || len(all) == 0 || slices.Contains(all, "") {
			return deny("such as [\"hwk\"] (RFC 8176)", "claim %s is no list of texts", quote("amr"))
		}
	}
	return j.judgeTexts(false, "nonce", "acr", "azp")
}

// isTrustDomain follows SPIFFE-ID section 2.1.
func isTrustDomain(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	})
}

// isSPIFFEID follows SPIFFE-ID section 2: the trust domain, and a path whose
// segments are not empty and not dots. A trust domain alone is no workload.
func isSPIFFEID(s, domain string) bool {
	path, ok := strings.CutPrefix(s, "spiffe://"+domain+"/")
	if !ok || len(s) > 2048 {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		odd := func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
		}
		if segment == "" || segment == "." || segment == ".." || strings.ContainsFunc(segment, odd) {
			return false
		}
	}
	return true
}

// sameKind refuses two profiles whose tokens a verifier takes for the same,
// while they are of different kinds: whatever their keys are, since an issuer's
// keys are published together.
func sameKind(profiles []Profile) []error {
	type known struct{ issuer, typ string }
	first, errs := map[known]Profile{}, []error(nil)
	for i, p := range profiles {
		if p.Format != formatJWT {
			continue
		}
		k := known{p.Issuer, strings.ToLower(p.Type)}
		other, seen := first[k]
		if !seen {
			first[k] = p
			continue
		}
		if kindOf(other) != kindOf(p) {
			errs = append(errs, &FieldError{
				fmt.Sprintf("profiles[%d].type", i), p.Name,
				fmt.Sprintf("the same issuer and type as profile %s, of kind %s: one could stand in for the other", quote(other.Name), quote(string(kindOf(other)))),
				"give each kind a type of its own (RFC 8725 section 3.12)",
			})
		}
	}
	return errs
}
