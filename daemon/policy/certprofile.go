package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// The critical options and extensions that OpenSSH knows, all of them of user
// certificates (PROTOCOL.certkeys). Others have a vendor's domain in their name.
var (
	knownOptions    = []string{"force-command", "source-address", "verify-required"}
	knownExtensions = []string{
		"no-touch-required", "permit-X11-forwarding", "permit-agent-forwarding",
		"permit-port-forwarding", "permit-pty", "permit-user-rc",
	}
)

// onlySSH refuses what a certificate has no place for.
func (c *compiler) onlySSH(p Profile) {
	c.foreign("issuer", len(p.Issuer))
	c.foreign("audiences", len(p.Audiences))
	c.foreign("scopes", len(p.Scopes))
	c.foreign("claims", len(p.AllowedClaims)+len(p.RequiredClaims)+len(p.FixedClaims))
	if p.Type != "user" && p.Type != "host" {
		c.bad("type", "user or host", "%s is no type of SSH certificate", quote(p.Type))
	}
}

// certificate checks what only SSH profiles have and makes it ready.
func (c *compiler) certificate(p Profile, to *profile) {
	if p.Format != formatSSH {
		return
	}
	to.principals, to.openPrincipals = c.principals(p)
	c.options(p)
	c.extensions(p)
	to.options = setOf(slices.Concat(p.AllowedOptions, p.RequiredOptions))
	to.extensions = setOf(p.AllowedExtensions)
	to.requiredOptions = slices.Clone(p.RequiredOptions)
	to.fixedOptions, to.fixedExtensions = maps.Clone(p.FixedOptions), maps.Clone(p.FixedExtensions)
}

// principals sorts them into exact and open ones.
func (c *compiler) principals(p Profile) (set, []string) {
	c.unique("principals", p.Principals, true, func(s string) bool { return sound(s, maxTokenID) })
	exact, open := set{}, []string(nil)
	for i, s := range p.Principals {
		bare, starred := strings.CutSuffix(s, "*")
		if p.Type == "host" && !starred {
			bare, starred = strings.CutPrefix(s, "*.")
		}
		switch at := fmt.Sprintf("principals[%d]", i); {
		case s == "*", s == "*.":
			c.bad(at, "list the accounts or hosts", "%s would allow every one, root's too", quote(s))
		case !isPrincipal(bare, p.Type):
			c.bad(at, "exact, or one \"*\" at the end; a host's in lower case, or one \"*.\" in front", "%s is malformed", quote(s))
		case starred:
			open = append(open, s)
		default:
			exact[s] = struct{}{}
		}
	}
	return exact, open
}

func (c *compiler) options(p Profile) {
	taken := slices.Sorted(maps.Keys(p.FixedOptions))
	for _, name := range taken {
		c.known("options.fixed."+name, name, knownOptions, p.Type, true)
		if problem := optionProblem(name, p.FixedOptions[name]); problem != "" {
			c.bad("options.fixed."+name, "", "%s", problem)
		}
	}
	for _, l := range []struct {
		field string
		names []string
	}{{"options.allowed", p.AllowedOptions}, {"options.required", p.RequiredOptions}} {
		for i, name := range l.names {
			at := fmt.Sprintf("%s[%d]", l.field, i)
			c.known(at, name, knownOptions, p.Type, false)
			c.once(at, name, taken)
			taken = append(taken, name)
		}
	}
}

func (c *compiler) extensions(p Profile) {
	taken := slices.Sorted(maps.Keys(p.FixedExtensions))
	for _, name := range taken {
		c.known("extensions.fixed."+name, name, knownExtensions, p.Type, true)
		if value := p.FixedExtensions[name]; value != "" && (!vendors(name) || !sound(value, maxSubject)) {
			c.bad("extensions.fixed."+name, "write \"\"", "%s has no value, or not this one", quote(name))
		}
	}
	for i, name := range p.AllowedExtensions {
		at := fmt.Sprintf("extensions.allowed[%d]", i)
		c.known(at, name, knownExtensions, p.Type, false)
		c.once(at, name, taken)
		taken = append(taken, name)
	}
}

// once refuses a name that is there already, in this list or another.
func (c *compiler) once(at, name string, taken []string) {
	if slices.Contains(taken, name) {
		c.bad(at, "keep one of them", "%s is named twice", quote(name))
	}
}

// known refuses names that OpenSSH would not know: an unknown critical option
// makes a certificate useless, an unknown extension is a slip of the pen. A
// vendor's mean what only the vendor knows, so their values are fixed.
func (c *compiler) known(at, name string, all []string, certType string, fixed bool) {
	switch {
	case vendors(name) && isScopeToken(name):
		if !fixed {
			c.bad(at, "give it a value under fixed", "%s is a vendor's, and can't be left to callers", quote(name))
		}
	case !slices.Contains(all, name):
		c.bad(at, "one of "+strings.Join(all, ", ")+", or a vendor's name@domain", "%s is not known", quote(name))
	case certType == "host":
		c.bad(at, "leave it out", "%s has no meaning in a host certificate", quote(name))
	}
}

func vendors(name string) bool { return strings.Contains(name, "@") }

// optionProblem says what is wrong with a critical option's value, "" for
// nothing. A value that sshd can't read makes it refuse the certificate, or
// worse, some older one take it for none.
func optionProblem(name, value string) string {
	switch name {
	case "force-command":
		if !sound(value, maxSubject) {
			return "a command is wanted, without control characters"
		}
	case "verify-required":
		if value != "" {
			return "it has no value"
		}
	case "source-address":
		return addressProblem(value)
	default:
		if value != "" && !sound(value, maxSubject) {
			return "its value is too long, or has control characters"
		}
	}
	return ""
}

// addressProblem reads a list of addresses and networks as sshd does, and more
// strictly: a network that is everything is no restriction.
func addressProblem(list string) string {
	if len(list) > maxSubject {
		return "the list is too long"
	}
	for one := range strings.SplitSeq(list, ",") {
		if addr, err := netip.ParseAddr(one); err == nil && addr.Zone() == "" {
			continue
		}
		network, err := netip.ParsePrefix(one)
		switch {
		case err != nil:
			return quote(one) + " is no address or network, such as 192.0.2.0/24"
		case network.Bits() == 0:
			return quote(one) + " is every address"
		case network != network.Masked():
			return quote(one) + " has bits beyond its length; write " + network.Masked().String()
		}
	}
	return ""
}

// assertion checks the one that is fixed.
func (c *compiler) assertion(p Profile) {
	n := len(p.FixedAssertion)
	if p.Format != formatPASETO {
		if p.AllowAssertion {
			n++
		}
		c.foreign("assertion", n)
		return
	}
	if p.AllowAssertion && n > 0 {
		c.bad("assertion", "keep one of allowed and fixed", "it can't be both fixed and the caller's")
	}
	if n > maxAssertion {
		c.bad("assertion.fixed", "fix a hash of it", "%d bytes, the limit is %d", n, maxAssertion)
	}
}
