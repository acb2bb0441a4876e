package policy

import (
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"

	"github.com/signetd/signet/plugins"
)

// nonceBytes is the size of an SSH certificate's nonce, which is the token's id.
const nonceBytes = 32

// idBytes is how many random bytes a token's id has.
func (p *profile) idBytes() int {
	if p.ssh() {
		return nonceBytes
	}
	return 16
}

// judgePrincipals wants some: a certificate without any is good for every
// account, or every host.
func (j *judgement) judgePrincipals() *Denial {
	if !j.profile.ssh() {
		return j.none("principals", len(j.Principals), "leave them out")
	}
	if len(j.Principals) == 0 {
		return deny("allowed: "+list(j.profile.Principals), "the principals are missing; a certificate without any is good for all")
	}
	if len(j.Principals) > maxPrincipals {
		return deny("ask for fewer", "%d principals, the limit is %d", len(j.Principals), maxPrincipals)
	}
	for i, name := range j.Principals {
		if !isPrincipal(name, j.profile.Type) {
			return deny("a name of printable ASCII without space, comma, quote, * ? and !; a host's in lower case", "principal %s is malformed", quote(name))
		}
		if _, ok := j.profile.principal(name); !ok {
			return deny("allowed: "+list(j.profile.Principals), "principal %s is not allowed by profile %s", quote(name), quote(j.profile.Name))
		}
		if slices.Contains(j.Principals[:i], name) {
			return deny("name it once", "principal %s is named twice", quote(name))
		}
	}
	return nil
}

func (j *judgement) tellPrincipals() string {
	if !j.profile.ssh() {
		return "the format has none"
	}
	return "allowed: " + list(j.Principals)
}

// principal returns the pattern that allows name. A star at the end stands for
// anything or nothing, "*." in front for one label of a host's name.
func (p *profile) principal(name string) (string, bool) {
	if p.principals.has(name) {
		return name, true
	}
	for _, pattern := range p.openPrincipals {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			if strings.HasPrefix(name, prefix) {
				return pattern, true
			}
			continue
		}
		label, ok := strings.CutSuffix(name, pattern[1:])
		if ok && label != "" && !strings.Contains(label, ".") {
			return pattern, true
		}
	}
	return "", false
}

// isPrincipal keeps out what sshd and ssh give a meaning: lists are joined by
// commas, and a host certificate's principal may be a pattern.
func isPrincipal(s, certType string) bool {
	odd := func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`,*?!"`, r) || certType == "host" && unicode.IsUpper(r)
	}
	return s != "" && len(s) <= maxTokenID && !strings.ContainsFunc(s, odd)
}

// judgeOptions looks at each critical option. They only narrow what a
// certificate is good for; so the profile's own can't be left out.
func (j *judgement) judgeOptions() *Denial {
	p := j.profile
	if !p.ssh() {
		return j.none("options", len(j.Options), "leave them out")
	}
	for _, name := range slices.Sorted(maps.Keys(j.Options)) {
		if d := j.judgeNamed("option", name, j.Options[name], p.fixedOptions, p.options); d != nil {
			return d
		}
		if problem := optionProblem(name, j.Options[name]); problem != "" {
			return deny("", "option %s: %s", quote(name), problem)
		}
	}
	for _, name := range p.requiredOptions {
		if _, there := j.Options[name]; !there {
			return deny("such as source-address=192.0.2.0/24", "option %s is missing; profile %s requires it", quote(name), quote(p.Name))
		}
	}
	var d *Denial
	j.options, d = j.withFixed("option", j.Options, p.fixedOptions)
	return d
}

func (j *judgement) tellOptions() string {
	if !j.profile.ssh() {
		return "the format has none"
	}
	return "in the certificate: " + list(slices.Sorted(maps.Keys(j.options)))
}

// judgeExtensions looks at each extension: they widen what a certificate is
// good for.
func (j *judgement) judgeExtensions() *Denial {
	p := j.profile
	if !p.ssh() {
		return j.none("extensions", len(j.Extensions), "leave them out")
	}
	for _, name := range slices.Sorted(maps.Keys(j.Extensions)) {
		value := j.Extensions[name]
		if d := j.judgeNamed("extension", name, value, p.fixedExtensions, p.extensions); d != nil {
			return d
		}
		if _, fixed := p.fixedExtensions[name]; !fixed && value != "" {
			return deny("leave its value out", "extension %s has a value, which only a profile can give it", quote(name))
		}
	}
	var d *Denial
	j.extensions, d = j.withFixed("extension", j.Extensions, p.fixedExtensions)
	return d
}

func (j *judgement) tellExtensions() string {
	if !j.profile.ssh() {
		return "the format has none"
	}
	return "in the certificate: " + list(slices.Sorted(maps.Keys(j.extensions)))
}

// judgeNamed looks at one option or extension. As with claims, a fixed one may
// be repeated and never contradicted.
func (j *judgement) judgeNamed(what, name, value string, fixed map[string]string, allowed set) *Denial {
	if v, is := fixed[name]; is {
		if v != value {
			return deny("leave it out: the daemon writes it", "%s %s is fixed by profile %s to another value", what, quote(name), quote(j.profile.Name))
		}
		return nil
	}
	if allowed.has(name) {
		return nil
	}
	return deny("allowed: "+list(slices.Sorted(maps.Keys(allowed))), "%s %s is not allowed by profile %s", what, quote(name), quote(j.profile.Name))
}

// withFixed is what the grant has: in the Issue lane the fixed ones are added,
// in the Sign lane they must be there.
func (j *judgement) withFixed(what string, given, fixed map[string]string) (map[string]string, *Denial) {
	if j.written == nil {
		if len(given)+len(fixed) == 0 {
			return nil, nil
		}
		all := make(map[string]string, len(given)+len(fixed))
		maps.Copy(all, given)
		maps.Copy(all, fixed)
		return all, nil
	}
	for _, name := range slices.Sorted(maps.Keys(fixed)) {
		if _, there := given[name]; !there {
			return nil, deny("write it as the profile fixes it", "%s %s of profile %s is missing", what, quote(name), quote(j.profile.Name))
		}
	}
	return given, nil
}

// judgeKeyHolder wants the key that is certified: one that is read and written
// again is the same text, so it is what the issuer and the inspector read.
func (j *judgement) judgeKeyHolder() *Denial {
	const hint = "send kind \"sshkey\" and the line of the .pub file, without its comment"
	if j.Holder == (plugins.Holder{}) {
		return deny(hint, "the key to certify is missing")
	}
	if j.Holder.Kind != "sshkey" {
		return deny(hint, "holder kind %s can't be in an SSH certificate", quote(j.Holder.Kind))
	}
	if problem := keyProblem(j.Holder.Value); problem != "" {
		return deny(hint, "the key to certify %s", problem)
	}
	return nil
}

// keyProblem says why a line is not one key that may have a certificate.
func keyProblem(line string) string {
	name, text, _ := strings.Cut(line, " ")
	blob, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(blob) > 16<<10 || strings.ContainsAny(text, "\r\n") {
		return "is not one line: a name, a space and base64"
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil || key.Type() != name {
		return "can't be read, or is not what its name says"
	}
	if string(key.Marshal()) != string(blob) {
		return "is written in another form than its shortest"
	}
	if _, ok := key.(*ssh.Certificate); ok || name == "ssh-dss" || shortRSA(key) {
		return "is a certificate already, DSA, or RSA of fewer than 2048 bits"
	}
	return ""
}

func shortRSA(key ssh.PublicKey) bool {
	held, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return false
	}
	pub, ok := held.CryptoPublicKey().(*rsa.PublicKey)
	return ok && pub.N.BitLen() < 2048
}

// judgeNonce is judgeTokenID for SSH: 32 random bytes keep whoever chose the
// rest of a certificate from knowing what is signed.
func (j *judgement) judgeNonce() *Denial {
	nonce, err := base64.RawURLEncoding.Strict().DecodeString(j.written.TokenID)
	if err != nil || len(nonce) != nonceBytes {
		return deny("ssh-keygen writes one", "the nonce does not have %d bytes", nonceBytes)
	}
	return nil
}

// begins is from when a written token's lifetime counts. The back-dated start
// of an SSH certificate gives nobody more time, since it is over.
func (j *judgement) begins() time.Time {
	now := j.now.Truncate(time.Second)
	if j.profile.ssh() && j.written.NotBefore.Before(now) {
		return now
	}
	return j.written.IssuedAt
}

// judgeStart is judgeIssuedAt for SSH, where the start of validity is all the
// date there is.
func (j *judgement) judgeStart() *Denial {
	w := j.written
	if w.NotBefore.IsZero() || !w.IssuedAt.Equal(w.NotBefore) || !whole(w.NotBefore) {
		return deny("ssh-keygen -V +15m writes start and end", "the start of validity is missing, or not in whole seconds")
	}
	off := w.NotBefore.Sub(j.now.Truncate(time.Second))
	if off > j.skew || off < -j.skew-Backdate {
		return deny("write the time of now, and keep the clock by NTP",
			"the start of validity is %v off our clock; %v before and %v after are tolerated", off, j.skew+Backdate, j.skew)
	}
	return nil
}

// judgeAssertion lets only a format that signs an assertion have one.
func (j *judgement) judgeAssertion() *Denial {
	p := j.profile
	if p.Format != formatPASETO {
		return j.none("implicit assertion", len(j.Assertion), "leave it out")
	}
	switch {
	case len(j.Assertion) > maxAssertion:
		return deny("send a hash of it", "the assertion has %d bytes, the limit is %d", len(j.Assertion), maxAssertion)
	case len(p.assertion) > 0 && (len(j.Assertion) > 0 || j.written != nil) && string(j.Assertion) != string(p.assertion):
		return deny("leave it out: the daemon adds it", "the assertion is fixed by profile %s to another", quote(p.Name))
	case len(p.assertion) == 0 && len(j.Assertion) > 0 && !p.AllowAssertion:
		return deny("leave it out", "profile %s allows no assertion", quote(p.Name))
	}
	return nil
}

func (j *judgement) tellAssertion() string {
	switch n := max(len(j.Assertion), len(j.profile.assertion)); {
	case j.profile.Format != formatPASETO:
		return "the format has none"
	case n == 0:
		return "none"
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}
