package policy

import (
	"fmt"
	"time"
)

// signChecks are the rules of the Sign lane, in order: those of the Issue lane,
// and one for each field that the caller wrote where the daemon would have.
func signChecks() []check {
	return []check{
		{RuleProfile, (*judgement).judgeProfile, (*judgement).tellProfile},
		{RuleCaller, (*judgement).judgeCaller, (*judgement).tellCaller},
		{RuleIssuer, (*judgement).judgeIssuer, nil},
		{RuleType, (*judgement).judgeType, nil},
		{RuleSubject, (*judgement).judgeSubject, (*judgement).tellSubject},
		{RuleAudience, (*judgement).judgeAudience, (*judgement).tellAudience},
		{RuleScope, (*judgement).judgeScope, (*judgement).tellScope},
		{RuleTokenID, (*judgement).judgeTokenID, nil},
		{RuleIssuedAt, (*judgement).judgeIssuedAt, nil},
		{RuleExpires, (*judgement).judgeExpires, nil},
		{RuleNotBefore, (*judgement).judgeNotBefore, nil},
		{RuleLifetime, (*judgement).judgeLifetime, (*judgement).tellLifetime},
		{RuleSerial, (*judgement).judgeSerial, nil},
		{RulePrincipals, (*judgement).judgePrincipals, (*judgement).tellPrincipals},
		{RuleOptions, (*judgement).judgeOptions, (*judgement).tellOptions},
		{RuleExtensions, (*judgement).judgeExtensions, (*judgement).tellExtensions},
		{RuleAssertion, (*judgement).judgeAssertion, (*judgement).tellAssertion},
		{RuleClaims, (*judgement).judgeWrittenClaims, (*judgement).tellClaims},
		{RuleKind, (*judgement).judgeKind, (*judgement).tellKind},
		{RuleHolder, (*judgement).judgeHolder, (*judgement).tellHolder},
		{RuleConditions, (*judgement).judgeConditions, (*judgement).tellConditions},
	}
}

// judgeIssuer keeps one profile's caller from speaking as another issuer.
func (j *judgement) judgeIssuer() *Denial {
	if j.written.Issuer == j.profile.Issuer {
		return nil
	}
	return deny("write "+quote(j.profile.Issuer), "issuer %s is not that of profile %s", quote(j.written.Issuer), quote(j.profile.Name))
}

// judgeType keeps a token for one purpose from standing in for another.
func (j *judgement) judgeType() *Denial {
	if j.written.Type == j.profile.Type {
		return nil
	}
	return deny("write "+quote(j.profile.Type), "type %s is not that of profile %s", quote(j.written.Type), quote(j.profile.Name))
}

// judgeTokenID wants an id, by which the token can be found and revoked. How
// well it was chosen can't be seen.
func (j *judgement) judgeTokenID() *Denial {
	if j.profile.ssh() {
		return j.judgeNonce()
	}
	if !sound(j.written.TokenID, maxTokenID) {
		return deny("write 128 random bits, base64url", "the token's id is missing, over %d bytes, or has control characters", maxTokenID)
	}
	return nil
}

// judgeIssuedAt wants tokens to be dated when they are signed: a later date
// would outlive the ceiling, an earlier one a revocation by date.
func (j *judgement) judgeIssuedAt() *Denial {
	if j.profile.ssh() {
		return j.judgeStart()
	}
	at := j.written.IssuedAt
	if at.IsZero() || !whole(at) {
		return deny("write the time of now", "the time of issue is missing, or not in whole seconds")
	}
	off := at.Sub(j.now.Truncate(time.Second))
	if off.Abs() > j.skew {
		return deny("write the time of now, and keep the clock by NTP", "the time of issue is %v off our clock; %v is tolerated", off, j.skew)
	}
	return nil
}

// judgeExpires looks at what is left of the life; judgeLifetime at the whole.
func (j *judgement) judgeExpires() *Denial {
	w := j.written
	if w.Expires.IsZero() || !whole(w.Expires) {
		return deny("every token has an end", "the expiry is missing, or not in whole seconds")
	}
	if !w.Expires.After(j.now) {
		return deny("write a later expiry", "the token has expired already")
	}
	if left := w.Expires.Sub(j.now.Truncate(time.Second)); left > j.profile.MaxTTL+j.skew {
		return deny(fmt.Sprintf("write an expiry at most %v from now", j.profile.MaxTTL),
			"the token would live %v from now; the ceiling of profile %s is %v", left, quote(j.profile.Name), j.profile.MaxTTL)
	}
	return nil
}

// judgeNotBefore lets a token do without: it is then good from its issue on.
func (j *judgement) judgeNotBefore() *Denial {
	w := j.written
	switch {
	case w.NotBefore.IsZero() && j.profile.ssh():
		return deny("ssh-keygen -V +15m writes it", "the start of validity is missing")
	case w.NotBefore.IsZero():
		return nil
	case !whole(w.NotBefore):
		return deny("round it", "the start of validity is not in whole seconds")
	case w.NotBefore.Before(w.IssuedAt.Add(-j.skew)):
		return deny("write the time of issue", "the token claims to be valid before its issue")
	case !w.NotBefore.Before(w.Expires):
		return deny("write the time of issue", "the token would expire before it is valid")
	}
	return nil
}

// judgeSerial leaves the number to the caller, who may keep a list of its own.
func (j *judgement) judgeSerial() *Denial {
	switch ssh := j.profile.ssh(); {
	case !ssh && j.written.Serial != 0:
		return j.none("serial", 1, "leave it out")
	case ssh && j.written.Serial == 0:
		return deny("ssh-keygen -z NUMBER writes it", "the serial is zero: the certificate could not be revoked by it")
	}
	return nil
}

// whole reports whether t can be written as a NumericDate without rounding.
func whole(t time.Time) bool { return t.Nanosecond() == 0 }
