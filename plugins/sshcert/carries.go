package sshcert

import (
	"net"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/signetd/signet/plugins"
)

// carries refuses a grant that a certificate can't carry whole.
func carries(g plugins.Grant) error {
	named := named
	if g.Type == Host {
		named = hostName
	}
	for _, f := range []struct {
		ok   bool
		what string
	}{
		{g.Type == User || g.Type == Host, "the type is neither user nor host"},
		{g.Issuer == "" && len(g.Audience) == 0 && len(g.Scope) == 0, "a certificate has no issuer, audience or scope"},
		{len(g.Claims) == 0 && len(g.Assertion) == 0, "a certificate has no claims and no assertion"},
		{nonce(g.TokenID), "the token id is not 32 bytes in base64url"},
		{text(g.Subject, maxText), "the key id is missing, too long or not printable"},
		{g.Serial != 0, "the serial is 0"},
		{len(g.Principals) > 0, "no principals: it would be good for every name"},
		{len(g.Principals) <= MaxPrincipals, "too many principals"},
		{!slices.ContainsFunc(g.Principals, func(p string) bool { return !named(p) }), "a principal is empty, too long or has a character that none can have"},
		{inSeconds(g.IssuedAt) && inSeconds(g.NotBefore) && inSeconds(g.Expires), "a time is missing, not in whole seconds or out of range"},
		{g.IssuedAt.Equal(g.NotBefore), "a certificate can't say that it was issued at another time than its first"},
		{g.Expires.After(g.NotBefore), "it would expire before it is valid"},
		{g.Holder.Kind == HolderKind, "the holder is not an SSH key"},
		{g.Type == User || len(g.Options)+len(g.Extensions) == 0, "a host certificate has no options or extensions"},
	} {
		if !f.ok {
			return refuse("%s", f.what)
		}
	}
	return carriesOptions(g)
}

func carriesOptions(g plugins.Grant) error {
	for name, value := range g.Options {
		var ok bool
		switch name {
		case optForce:
			ok = text(value, maxBody)
		case optSource:
			ok = addresses(value)
		case optVerified:
			ok = value == ""
		default:
			return refuse("critical option %.64q is unknown", name)
		}
		if !ok {
			return refuse("critical option %s has a value that it can't have", name)
		}
	}
	for name, value := range g.Extensions {
		switch {
		case slices.Contains(flags, name):
			if value != "" {
				return refuse("extension %s has a value", name)
			}
		case !private(name):
			return refuse("extension %.64q is unknown\nhint: one of your own is called name@domain", name)
		case value != "" && !text(value, maxBody):
			return refuse("extension %s has a value that is not printable", name)
		}
	}
	return nil
}

func nonce(s string) bool {
	raw, err := nonceEncoding.DecodeString(s)
	return err == nil && len(raw) == nonceLength && !strings.ContainsAny(s, "\r\n")
}

func inSeconds(t time.Time) bool {
	return t.Nanosecond() == 0 && t.Unix() > 0 && t.Unix() < endOfTime
}

// text is what a person can read on one line.
func text(s string, limit int) bool {
	return s != "" && len(s) <= limit && utf8.ValidString(s) &&
		strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// named is a principal of a user: text without what separates names, in a list
// or on a line of AuthorizedPrincipalsFile.
func named(s string) bool { return text(s, maxName) && !strings.ContainsAny(s, ", ") }

// hostName is a host's name or address. ssh takes no pattern for one.
func hostName(s string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:"
	return s != "" && len(s) <= maxName && strings.IndexFunc(s, func(r rune) bool {
		return !strings.ContainsRune(letters, r)
	}) < 0
}

// addresses is OpenSSH's list for source-address, each in the one text that it
// has: a host part that is not zero makes sshd refuse the whole list.
func addresses(list string) bool {
	for one := range strings.SplitSeq(list, ",") {
		ip := net.ParseIP(one)
		if strings.Contains(one, "/") {
			at, block, err := net.ParseCIDR(one)
			if err != nil || block.String() != one {
				return false
			}
			ip = at
		} else if ip == nil || ip.String() != one {
			return false
		}
		// sshd sees such a peer as IPv4, and never as this.
		if strings.Contains(one, ":") && ip.To4() != nil {
			return false
		}
	}
	return true
}

// private is an extension's name with a domain (RFC 4251 section 6).
func private(name string) bool {
	who, domain, ok := strings.Cut(name, "@")
	return ok && who != "" && domain != "" && len(name) <= 64 &&
		strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }) < 0 && !strings.Contains(domain, "@")
}
