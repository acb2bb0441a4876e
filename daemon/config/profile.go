package config

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/signetd/signet/signers"
)

// A Profile is one kind of token. Which fields it has follows from the format
// of its key.
type Profile struct {
	Name          string     `yaml:"name" jsonschema:"required" jsonschema_description:"What callers ask for."`
	Key           string     `yaml:"key,omitempty" jsonschema_description:"The key that signs. Needed, but for format: opaque."`
	Format        string     `yaml:"format,omitempty" jsonschema:"enum=opaque" jsonschema_description:"opaque, for reference tokens, which no key signs and only introspection understands; else it is the key's and is left out."`
	Issuer        string     `yaml:"issuer,omitempty" jsonschema_description:"iss of its tokens. Needed, but for SSH, where the key is the issuer."`
	Type          string     `yaml:"type" jsonschema:"required" jsonschema_description:"typ of its tokens (RFC 8725 section 3.11), such as at+jwt: it keeps tokens of different purpose apart. Of SSH certificates user or host."`
	Kind          string     `yaml:"kind,omitempty" jsonschema:"enum=access,enum=authentication,enum=svid,enum=plain" jsonschema_description:"JWT: by which rules tokens are made: access (RFC 9068), authentication (who authenticated, when and how; it grants nothing), svid (SPIFFE JWT-SVID) or plain. If absent, access for type at+jwt, else plain."`
	TrustDomain   string     `yaml:"trust_domain,omitempty" jsonschema_description:"JWT-SVID: the SPIFFE trust domain of the subjects."`
	Callers       []Caller   `yaml:"callers" jsonschema:"required,minItems=1" jsonschema_description:"Who may have one. Each entry must hold in full."`
	Audiences     []string   `yaml:"audiences,omitempty" jsonschema:"minItems=1" jsonschema_description:"Who tokens may be for, exactly. Needed, but for SSH."`
	Scopes        []string   `yaml:"scopes,omitempty" jsonschema_description:"What tokens may be good for, exactly."`
	Subjects      []string   `yaml:"subjects" jsonschema:"required,minItems=1" jsonschema_description:"Who tokens may be about: exactly, or with one * at the end. Of SSH certificates their key ids."`
	MaxTTL        Duration   `yaml:"max_ttl" jsonschema:"required" jsonschema_description:"The longest lifetime, at most 24h. A longer one is refused, not cut."`
	Claims        Claims     `yaml:"claims,omitempty" jsonschema_description:"Further claims."`
	SingleUse     bool       `yaml:"single_use,omitempty" jsonschema_description:"A token is good once: whoever accepts it redeems it first."`
	Verifiers     []Caller   `yaml:"verifiers,omitempty" jsonschema:"minItems=1" jsonschema_description:"Who may introspect and redeem tokens. Each entry must hold in full. Needed for format: opaque and for single_use."`
	RequireHolder bool       `yaml:"require_holder,omitempty" jsonschema_description:"Refuse tokens that are not bound to a holder (RFC 7800)."`
	Principals    []string   `yaml:"principals,omitempty" jsonschema:"minItems=1" jsonschema_description:"SSH: accounts or hosts that certificates may name, exactly or with one * at the end; hosts also with *. in front, which stands for one label."`
	Options       Options    `yaml:"options,omitempty" jsonschema_description:"SSH: critical options."`
	Extensions    Extensions `yaml:"extensions,omitempty" jsonschema_description:"SSH: extensions, such as permit-pty."`
	Assertion     Assertion  `yaml:"assertion,omitempty" jsonschema_description:"PASETO: the implicit assertion."`
	Conditions    []string   `yaml:"conditions,omitempty" jsonschema_description:"Files with Cedar policies, which must permit each request as well."`
}

// Claims are what a profile's tokens may say beside the registered claims.
type Claims struct {
	Allowed  []string       `yaml:"allowed,omitempty" jsonschema_description:"Claims that the caller may set."`
	Required []string       `yaml:"required,omitempty" jsonschema_description:"Claims that the caller must set."`
	Fixed    map[string]any `yaml:"fixed,omitempty" jsonschema_description:"Claims that every token has, with their values."`
}

// Options are the critical options of a profile's SSH certificates.
type Options struct {
	Allowed  []string          `yaml:"allowed,omitempty" jsonschema:"enum=force-command,enum=source-address,enum=verify-required" jsonschema_description:"Options that the caller may set."`
	Required []string          `yaml:"required,omitempty" jsonschema:"enum=force-command,enum=source-address,enum=verify-required" jsonschema_description:"Options that the caller must set."`
	Fixed    map[string]string `yaml:"fixed,omitempty" jsonschema_description:"Options that every certificate has, with their values; verify-required has an empty one."`
}

// Extensions are those of a profile's SSH certificates.
type Extensions struct {
	Allowed []string          `yaml:"allowed,omitempty" jsonschema_description:"Extensions that the caller may set, without a value."`
	Fixed   map[string]string `yaml:"fixed,omitempty" jsonschema_description:"Extensions that every certificate has. Only a vendor's, name@domain, has a value."`
}

// Assertion is the implicit assertion of a profile's PASETOs: signed, and not
// in the token, so whoever verifies it must know it.
type Assertion struct {
	Allowed bool   `yaml:"allowed,omitempty" jsonschema_description:"The caller may give one."`
	Fixed   string `yaml:"fixed,omitempty" jsonschema_description:"Every token has this one."`
}

func (k checker) profiles(c *Config) {
	k.some("profiles", len(c.Profiles))
	seen, keys := map[string]bool{}, keyNames(c)
	for i, p := range c.Profiles {
		at := fmt.Sprintf("profiles[%d]", i)
		k.unique(at+".name", p.Name, seen)
		if p.Format == "" {
			k.refers(at+".key", p.Key, "keys", keys)
		}
		k.verification(at, c, p)
		k.some(at+".callers", len(p.Callers))
		k.some(at+".subjects", len(p.Subjects))
		for _, l := range lists(p) {
			k.distinct(at+l.field, l.entries)
		}
		k.ttl(at+".max_ttl", p.MaxTTL)
		k.byFormat(at, c.ProfileFormat(p), p)
		if p.Kind == "svid" && c.algorithmOf(p.Key) == signers.Ed25519 {
			k.wrong(at+".key", quote(p.Key)+" signs with EdDSA, which no JWT-SVID may", "use a key of algorithm ecdsa-p256-sha256")
		}
		for j, caller := range p.Callers {
			k.caller(fmt.Sprintf("%s.callers[%d]", at, j), caller)
		}
	}
}

// verification wants somebody who accepts tokens that nobody can verify, or use
// up, without the daemon.
func (k checker) verification(at string, c *Config, p Profile) {
	k.oneOf(at+".format", p.Format, "", formatOpaque)
	if p.Format != "" && p.Key != "" {
		k.wrong(at+".format", "both a format and a key, which has its own", "remove key for opaque tokens, else format")
	}
	if c.ProfileFormat(p) == formatSSH {
		k.foreign(at, formatSSH, map[string]bool{".single_use": p.SingleUse, ".verifiers": len(p.Verifiers) > 0})
	} else if p.SingleUse || p.Format == formatOpaque {
		k.need(at+".verifiers", len(p.Verifiers) > 0, "who accepts the tokens, such as verifiers: [{uid: 1000}]; without any they are good for nothing")
	}
	for j, caller := range p.Verifiers {
		k.caller(fmt.Sprintf("%s.verifiers[%d]", at, j), caller)
	}
}

// A list is one field of a profile.
type list struct {
	field   string
	entries []string
}

// lists are a profile's fields that name each thing once.
func lists(p Profile) []list {
	return []list{
		{".audiences", p.Audiences}, {".subjects", p.Subjects}, {".scopes", p.Scopes},
		{".claims.allowed", p.Claims.Allowed}, {".claims.required", p.Claims.Required},
		{".principals", p.Principals}, {".options.allowed", p.Options.Allowed}, {".options.required", p.Options.Required},
		{".extensions.allowed", p.Extensions.Allowed}, {".conditions", p.Conditions},
	}
}

// The formats whose profiles have fields of their own.
const (
	formatJWT    = "jwt"
	formatPASETO = "paseto"
	formatSSH    = "ssh"
	formatOpaque = "opaque"
)

// byFormat wants the fields that the format needs, and none that it can't say.
// What they may hold is for policy to judge.
func (k checker) byFormat(at, format string, p Profile) {
	if format == formatSSH {
		k.oneOf(at+".type", p.Type, "user", "host")
		k.some(at+".principals", len(p.Principals))
		k.foreign(at, format, map[string]bool{
			".issuer": p.Issuer != "", ".audiences": len(p.Audiences) > 0, ".scopes": len(p.Scopes) > 0,
			".claims":         len(p.Claims.Allowed)+len(p.Claims.Required)+len(p.Claims.Fixed) > 0,
			".require_holder": p.RequireHolder, ".assertion": p.Assertion != Assertion{},
			".kind": p.Kind != "", ".trust_domain": p.TrustDomain != "",
		})
		return
	}
	k.need(at+".issuer", p.Issuer != "", "the name by which verifiers know you, often a URL")
	k.need(at+".type", p.Type != "", "such as at+jwt; it keeps tokens of different purpose apart")
	k.some(at+".audiences", len(p.Audiences))
	k.foreign(at, format, map[string]bool{
		".principals": len(p.Principals) > 0,
		".options":    len(p.Options.Allowed)+len(p.Options.Required)+len(p.Options.Fixed) > 0,
		".extensions": len(p.Extensions.Allowed)+len(p.Extensions.Fixed) > 0,
		".assertion":  format != formatPASETO && p.Assertion != Assertion{},
		".kind":       format != formatJWT && p.Kind != "", ".trust_domain": format != formatJWT && p.TrustDomain != "",
	})
	k.oneOf(at+".kind", p.Kind, "", "access", "authentication", "svid", "plain")
	if p.Assertion.Allowed && p.Assertion.Fixed != "" {
		k.wrong(at+".assertion", "both fixed and the caller's", "keep one of allowed and fixed")
	}
}

// foreign refuses fields that the format has no place for. Without a format
// nobody knows.
func (k checker) foreign(at, format string, there map[string]bool) {
	for _, field := range slices.Sorted(maps.Keys(there)) {
		if there[field] && format != "" {
			k.wrong(at+field, "format "+format+" has no such field", "remove it, or use a key of another format")
		}
	}
}

func (k checker) ttl(at string, d Duration) {
	if !k.need(at, d != "", "every profile bounds its tokens' lifetime, such as max_ttl: 15m") {
		return
	}
	k.within(at, d, maxTTL, "short-lived tokens are the point: renew them instead")
	if d.D()%time.Second != 0 {
		k.wrong(at, fmt.Sprintf("%s is not whole seconds", d), "round it")
	}
}
