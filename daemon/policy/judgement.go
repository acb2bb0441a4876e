package policy

import (
	"fmt"
	"time"

	"github.com/signetd/signet/plugins"
	"github.com/signetd/signet/plugins/strictjson"
)

// A judgement is one request on its way through the checks. What a check finds
// out and a later step needs is kept here.
type judgement struct {
	Request
	written *plugins.Grant // what the caller wrote; nil in the Issue lane
	now     time.Time
	skew    time.Duration

	profile    *profile // allows nothing when there is none of that name
	found      bool
	explaining bool // the caller may be hypothetical, and nothing is approved

	selected  int    // which caller rule allowed
	permitted string // which Cedar policy allowed, if any was asked
	merged    []byte // the claims of the grant: the caller's and the fixed ones

	given               []strictjson.Member // the caller's claims
	options, extensions map[string]string   // of the grant, likewise
}

// A check is one rule. judge refuses by returning a Denial; tell says in an
// explanation what was compared, after judge did not refuse. There is one list
// of checks for each lane, and explanations run the very same list.
type check struct {
	rule  string
	judge func(*judgement) *Denial
	tell  func(*judgement) string
}

// first runs the checks up to the first that refuses.
func (j *judgement) first(checks []check) *Denial {
	for i := range checks {
		if d := checks[i].run(j); d != nil {
			return d
		}
	}
	return nil
}

// run is the one way in which a check is run, in both cases.
func (c *check) run(j *judgement) *Denial {
	d := c.judge(j)
	if d != nil {
		d.Rule = c.rule
	}
	return d
}

// explain runs all checks, also after one has refused: whoever mends a request
// wants to know all that is wrong. The first refusal decides, as in first.
func (j *judgement) explain(checks []check) Explanation {
	var e Explanation
	var decisive *Denial
	for i := range checks {
		c := &checks[i]
		if !j.found && c.rule != RuleProfile {
			e.Steps = append(e.Steps, Step{Rule: c.rule, Detail: "not looked at: there is no profile to hold it against"})
			continue
		}
		d := c.run(j)
		e.Steps = append(e.Steps, c.step(j, d))
		if decisive == nil {
			decisive = d
		}
	}
	if decisive != nil {
		e.Rule, e.Reason = decisive.Rule, decisive.Reason
		return e
	}
	e.Allowed, e.Rule = true, j.allowedBy()
	return e
}

func (c *check) step(j *judgement, d *Denial) Step {
	if d == nil {
		return Step{Rule: c.rule, Held: true, Detail: c.tell(j)}
	}
	detail := d.Reason
	if d.detail != "" {
		detail += " (" + d.detail + ")"
	}
	if d.Hint != "" {
		detail += "; " + d.Hint
	}
	return Step{Rule: c.rule, Detail: detail}
}

// allowedBy names the rules that allowed the request.
func (j *judgement) allowedBy() string {
	rule := j.profile.ruleNames[j.selected]
	if j.permitted != "" {
		rule += " " + j.permitted
	}
	return rule
}

// deny makes a Denial; its rule is filled in by the check that returns it.
func deny(hint, format string, args ...any) *Denial {
	return &Denial{Reason: fmt.Sprintf(format, args...), Hint: hint}
}
