package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Unattestable are the attributes that quirks.unattested may name, and
// Omissible those that quirks.omit may. They are signers/pkcs11's, which a
// configuration can be checked without.
var (
	Unattestable = []string{
		"CKA_LOCAL", "CKA_ALWAYS_SENSITIVE", "CKA_NEVER_EXTRACTABLE", "CKA_SIGN_RECOVER", "CKA_UNWRAP", "CKA_DERIVE",
	}
	Omissible = []string{
		"CKA_SIGN_RECOVER", "CKA_DECRYPT", "CKA_UNWRAP", "CKA_DERIVE", "CKA_ENCRYPT", "CKA_WRAP", "CKA_VERIFY",
		"CKA_SENSITIVE", "CKA_EXTRACTABLE", "CKA_PRIVATE", "CKA_PUBLIC_EXPONENT",
	}
)

// A Token is how a PKCS #11 token is found.
type Token struct{ Module, Label, Serial string }

// Token is the token that the settings name, by fields or by URI.
func (p PKCS11) Token() (Token, error) {
	if p.URI == "" {
		return Token{p.Module, p.TokenLabel, p.TokenSerial}, nil
	}
	return parseURI(p.URI)
}

// parseURI reads a PKCS#11 URI (RFC 7512 section 2.3) that names a token and
// its module, and nothing that we would have to ignore.
func parseURI(uri string) (Token, error) {
	rest, ok := strings.CutPrefix(uri, "pkcs11:")
	if !ok {
		return Token{}, fmt.Errorf("%s is no URI of scheme pkcs11", quote(uri))
	}
	path, query, _ := strings.Cut(rest, "?")
	var t Token
	fields := map[string]*string{"token": &t.Label, "serial": &t.Serial}
	if err := attributes(path, ";", fields); err != nil {
		return Token{}, err
	}
	return t, attributes(query, "&", map[string]*string{"module-path": &t.Module})
}

// attributes reads name=value pairs, each known and there once.
func attributes(text, separator string, to map[string]*string) error {
	for pair := range strings.SplitSeq(text, separator) {
		name, value, _ := strings.Cut(pair, "=")
		field, ok := to[name]
		switch {
		case pair == "":
			continue
		case name == "pin-value":
			return fmt.Errorf("it has a PIN in it, which is never in a configuration")
		case !ok:
			return fmt.Errorf("attribute %s is not one that finds a token", quote(name))
		case *field != "":
			return fmt.Errorf("attribute %s stands twice", quote(name))
		}
		decoded, err := url.PathUnescape(value)
		if err != nil || decoded == "" {
			return fmt.Errorf("attribute %s is empty, or wrongly escaped", quote(name))
		}
		*field = decoded
	}
	return nil
}

func (k checker) pkcs11(at string, p PKCS11) {
	k.token(at, p)
	if p.Sessions < 0 || p.Sessions > 64 || p.Sessions == 0 && k.places[at+".sessions"].line > 0 {
		k.wrong(at+".sessions", fmt.Sprintf("%d is not 1 to 64", p.Sessions), "2 is good for most HSMs")
	}
	k.secret(at+".pin", p.PIN)
	k.oneOf(at+".isolation", p.Isolation, "", "process", "none")
	k.within(at+".keep_alive", p.KeepAlive, time.Hour, "choose less: tokens drop sessions sooner")
	k.within(at+".hang_after", p.HangAfter, time.Minute, "choose less: callers wait for it")
	k.distinct(at+".files", p.Files)
	for i, path := range p.Files {
		k.absolute(fmt.Sprintf("%s.files[%d]", at, i), path, true)
	}
	for i, name := range p.Environment {
		if strings.ContainsAny(name, "= ") || name == "" {
			k.wrong(fmt.Sprintf("%s.environment[%d]", at, i), quote(name)+" is not the name of a variable", "names alone; the values are the daemon's own")
		}
	}
	k.quirks(at+".quirks", p.Quirks)
}

// token wants one way to find the token, whole.
func (k checker) token(at string, p PKCS11) {
	if p.URI != "" && p.Module+p.TokenLabel+p.TokenSerial != "" {
		k.wrong(at+".uri", "it stands beside module, token_label or token_serial", "keep one or the other")
		return
	}
	t, err := p.Token()
	if err != nil {
		k.wrong(at+".uri", err.Error(), "such as pkcs11:token=signet?module-path=/usr/lib/softhsm/libsofthsm2.so")
		return
	}
	field := at + ".module"
	if p.URI != "" {
		field = at + ".uri"
	}
	if k.need(field, t.Module != "", "the vendor's library, such as /usr/lib/softhsm/libsofthsm2.so") && !filepath.IsAbs(t.Module) {
		k.wrong(field, quote(t.Module)+" is not an absolute path", "name the module by its whole path, so that no other can be loaded")
	}
	if t.Label == "" && t.Serial == "" && !k.anyBad(at+".token_") {
		k.wrong(at, "no token is named", "set token_label or token_serial; `pkcs11-tool -L` lists them")
	}
}

func (k checker) quirks(at string, q Quirks) {
	k.oneOf(at+".login", q.Login, "", "token", "session")
	k.oneOf(at+".eddsa_params", q.EdDSAParams, "", "oid", "name")
	k.oneOf(at+".ec_point", q.ECPoint, "", "auto", "raw", "der")
	k.positive(at+".eddsa_mechanism", q.EdDSAMechanism)
	k.positive(at+".eddsa_generate", q.EdDSAGenerate)
	if q.MaxSessions == 1 || q.MaxSessions < 0 {
		k.wrong(at+".max_sessions", fmt.Sprintf("%d is too few", q.MaxSessions), "one is for finding and making keys, and one or more for signing")
	}
	for i, name := range q.Unattested {
		if !slices.Contains(Unattestable, name) {
			k.wrong(fmt.Sprintf("%s.unattested[%d]", at, i), quote(name)+" is always held against a key", "these can be left out: "+strings.Join(Unattestable, ", "))
		}
	}
	for i, name := range q.Algorithms {
		k.algorithm(fmt.Sprintf("%s.algorithms[%d]", at, i), name)
	}
	for i, name := range q.Omit {
		if !slices.Contains(Omissible, name) {
			k.wrong(fmt.Sprintf("%s.omit[%d]", at, i), "no template does without "+quote(name), "these can be left out: "+strings.Join(Omissible, ", "))
		}
	}
}

// limits holds what every kind of back-end has.
func (k checker) limits(at string, b Backend) {
	k.positive(at+".limits.in_flight", b.Limits.InFlight)
	k.positive(at+".limits.rate", b.Limits.Rate)
	k.positive(at+".limits.rates.rsa", b.Limits.Rates.RSA)
	k.positive(at+".limits.rates.ecc", b.Limits.Rates.ECC)
	k.positive(at+".limits.creations_per_hour", b.Limits.CreationsPerHour)
	k.positive(at+".limits.failures", b.Limits.Failures)
	k.within(at+".limits.pause", b.Limits.Pause, time.Minute, "choose less: nothing is signed meanwhile")
	k.within(at+".health.every", b.Health.Every, time.Hour, "choose less: it is how a sick back-end is seen")
	k.within(at+".health.timeout", b.Health.Timeout, time.Minute, "choose less")
	if b.Health.Off && b.Health.Every+b.Health.Timeout != "" {
		k.wrong(at+".health.off", "it stands beside every or timeout", "remove one or the other")
	}
}

// positive wants a number more than nothing, if there is one.
func (k checker) positive(at string, n int) {
	if n < 0 || n == 0 && k.places[at].line > 0 {
		k.wrong(at, fmt.Sprintf("%d is not more than nothing", n), "leave it out for the default")
	}
}
