package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/plugins"
)

// issueChecks are the rules of the Issue lane, in order. The caller comes
// before anything that tells what the profile allows.
func issueChecks() []check {
	return []check{
		{RuleProfile, (*judgement).judgeProfile, (*judgement).tellProfile},
		{RuleCaller, (*judgement).judgeCaller, (*judgement).tellCaller},
		{RuleSubject, (*judgement).judgeSubject, (*judgement).tellSubject},
		{RuleAudience, (*judgement).judgeAudience, (*judgement).tellAudience},
		{RuleScope, (*judgement).judgeScope, (*judgement).tellScope},
		{RuleLifetime, (*judgement).judgeLifetime, (*judgement).tellLifetime},
		{RulePrincipals, (*judgement).judgePrincipals, (*judgement).tellPrincipals},
		{RuleOptions, (*judgement).judgeOptions, (*judgement).tellOptions},
		{RuleExtensions, (*judgement).judgeExtensions, (*judgement).tellExtensions},
		{RuleAssertion, (*judgement).judgeAssertion, (*judgement).tellAssertion},
		{RuleClaims, (*judgement).judgeClaims, (*judgement).tellClaims},
		{RuleKind, (*judgement).judgeKind, (*judgement).tellKind},
		{RuleHolder, (*judgement).judgeHolder, (*judgement).tellHolder},
		{RuleConditions, (*judgement).judgeConditions, (*judgement).tellConditions},
	}
}

// judgeProfile tells an unknown profile from a forbidden one: names of profiles
// are no secret, and a typing mistake should be seen at once.
func (j *judgement) judgeProfile() *Denial {
	if j.found {
		return nil
	}
	return deny("check the name; an operator finds it under profiles: in the configuration",
		"there is no profile %s", quote(j.Profile))
}

func (j *judgement) tellProfile() string {
	return fmt.Sprintf("%s: key %s, format %s", quote(j.profile.Name), quote(j.profile.Key), quote(j.profile.Format))
}

// judgeCaller takes the first rule that selects the caller. Which rules there
// are is told to operators only.
func (j *judgement) judgeCaller() *Denial {
	if j.Caller.Hypothetical() && !j.explaining {
		return deny("connect as the caller itself", "a hypothetical caller gets nothing")
	}
	for i := range j.profile.rules {
		if j.profile.rules[i].mismatch(j.Caller) == "" {
			j.selected = i
			return nil
		}
	}
	who := "nobody"
	if j.Caller.Known() {
		who = fmt.Sprintf("uid %d", j.Caller.UID())
	}
	d := deny("an operator adds the caller to the profile, or `signet explain` shows which part of a rule differs",
		"%s is not a caller of profile %s", who, quote(j.profile.Name))
	d.detail = j.callerMismatches()
	return d
}

// callerMismatches says of each rule what differs. It is for Explain alone: a
// flood of denied requests must not pay for texts that nobody reads.
func (j *judgement) callerMismatches() string {
	if !j.explaining {
		return ""
	}
	var all []string
	for i, r := range j.profile.rules {
		all = append(all, fmt.Sprintf("callers[%d] %s: %s", i, r, r.mismatch(j.Caller)))
	}
	return strings.Join(all, "; ")
}

func (j *judgement) tellCaller() string {
	return fmt.Sprintf("%s is selected by callers[%d]: %s", j.Caller, j.selected, j.profile.rules[j.selected])
}

// judgeSubject keeps subjects out of its messages, the profile's too: they may
// name people, and denials are written to the ledger.
func (j *judgement) judgeSubject() *Denial {
	if j.Subject == "" {
		return deny("say who the token is about", "the subject is missing")
	}
	if !sound(j.Subject, maxSubject) {
		return deny("", "the subject is over %d bytes, or has control characters or invalid UTF-8", maxSubject)
	}
	if _, ok := j.profile.subject(j.Subject); !ok {
		d := deny("`signet explain` shows which it allows", "the subject is not one that profile %s allows", quote(j.profile.Name))
		d.detail = "allowed: " + list(j.profile.Subjects)
		return d
	}
	return nil
}

func (j *judgement) tellSubject() string {
	by, _ := j.profile.subject(j.Subject)
	return "the subject is allowed by " + quote(by)
}

// judgeAudience wants an audience, or any verifier could be shown the token.
func (j *judgement) judgeAudience() *Denial {
	if j.profile.ssh() {
		return j.none("audience", len(j.Audience), "principals say who may accept a certificate for whom")
	}
	if j.profile.Format == formatPASETO && len(j.Audience) > 1 {
		return deny("ask for one token for each audience", "a PASETO has one audience, not %d", len(j.Audience))
	}
	if len(j.Audience) == 0 {
		return deny("name at least one of: "+list(j.profile.Audiences), "the audience is missing; a token is never for everybody")
	}
	return j.each("audience", j.Audience, j.profile.audiences, j.profile.Audiences)
}

func (j *judgement) tellAudience() string {
	if j.profile.ssh() {
		return "an SSH certificate has none"
	}
	return "allowed: " + list(j.Audience)
}

// none refuses what the profile's format can't say: left out of the token, it
// would be a wish that nobody heard.
func (j *judgement) none(what string, n int, hint string) *Denial {
	if n == 0 {
		return nil
	}
	return deny(hint, "format %s has no %s", quote(j.profile.Format), what)
}

// judgeScope lets a token be good for nothing in particular; never for more
// than the profile says.
func (j *judgement) judgeScope() *Denial {
	if j.profile.ssh() {
		return j.none("scope", len(j.Scope), "extensions and options say what a certificate is good for")
	}
	return j.each("scope", j.Scope, j.profile.scopes, j.profile.Scopes)
}

func (j *judgement) tellScope() string {
	if len(j.Scope) == 0 {
		return "none asked for"
	}
	return "allowed: " + list(j.Scope)
}

// each requires every value to be allowed, and once only: so the profile's
// list is also the limit on how many there can be.
func (j *judgement) each(what string, asked []string, allowed set, names []string) *Denial {
	for i, v := range asked {
		if !allowed.has(v) {
			return deny("allowed: "+list(names), "%s %s is not allowed by profile %s", what, quote(v), quote(j.profile.Name))
		}
		if slices.Contains(asked[:i], v) {
			return deny("name it once", "%s %s is named twice", what, quote(v))
		}
	}
	return nil
}

// judgeLifetime refuses what is too long: nothing is trimmed, so that a caller
// never holds a token of another life than it believes.
func (j *judgement) judgeLifetime() *Denial {
	most := j.profile.MaxTTL
	switch {
	case j.TTL <= 0:
		return deny(fmt.Sprintf("ask for at most %v", most), "the lifetime must be over zero; it is %v", j.TTL)
	case j.TTL%time.Second != 0:
		return deny("round it", "the lifetime is not in whole seconds: %v", j.TTL)
	case j.TTL > most:
		return deny(fmt.Sprintf("ask for at most %v", most), "lifetime %v is over the ceiling %v of profile %s", j.TTL, most, quote(j.profile.Name))
	}
	return nil
}

func (j *judgement) tellLifetime() string {
	return fmt.Sprintf("%v, the ceiling is %v", j.TTL, j.profile.MaxTTL)
}

// judgeHolder checks that a confirmation is one that a verifier can use: one it
// can't make sense of, it might pass over, and the token would be a bearer's.
func (j *judgement) judgeHolder() *Denial {
	if j.profile.ssh() {
		return j.judgeKeyHolder()
	}
	if j.Holder == (plugins.Holder{}) {
		if j.profile.RequireHolder {
			return deny("send the thumbprint of the holder's key: kind \"jkt\" or \"x5t#S256\"",
				"profile %s gives tokens only to the holder of a key", quote(j.profile.Name))
		}
		return nil
	}
	if j.Holder.Kind != "jkt" && j.Holder.Kind != "x5t#S256" {
		return deny("use \"jkt\" (RFC 9449) or \"x5t#S256\" (RFC 8705)", "holder kind %s is not known", quote(j.Holder.Kind))
	}
	if !isThumbprint(j.Holder.Value) {
		return deny("a SHA-256 thumbprint in base64url has 43 characters and no padding", "the holder's value is not a thumbprint")
	}
	return nil
}

func (j *judgement) tellHolder() string {
	if j.Holder.Kind == "" {
		return "bound to nobody, as the profile allows"
	}
	return "bound by " + quote(j.Holder.Kind)
}
