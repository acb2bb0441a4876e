package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"

	"github.com/signetd/signet/daemon/peer"
)

// conditions are the Cedar policies of one profile, compiled.
type conditions struct {
	set *cedar.PolicySet
}

// conditions compiles Cedar text; nil when there is none. All texts are one set:
// any of them may forbid what another permits. A policy's id ends in the place
// it stands at, which is all that a caller is told of it.
func (c *compiler) conditions(all []Condition) *conditions {
	if len(all) == 0 {
		return nil
	}
	set, permits, broken := cedar.NewPolicySet(), 0, false
	for i, one := range all {
		at := fmt.Sprintf("conditions[%d]", i)
		policies, err := cedar.NewPolicyListFromBytes(one.File, []byte(one.Text))
		if err != nil {
			c.bad(at, "see https://docs.cedarpolicy.com/policies/syntax-policy.html", "%s", located(err, one.File))
			broken = true
			continue
		}
		for n, p := range policies {
			id := cedar.PolicyID(fmt.Sprintf("%d.%d %s:%d", i, n, filepath.Base(one.File), p.Position().Line))
			set.Add(id, p)
			if p.Effect() == cedar.Permit {
				permits++
			}
		}
	}
	if permits == 0 && !broken {
		c.bad("conditions", "add permit(principal, action, resource); before what forbids", "no policy permits, so no request could be allowed")
	}
	return &conditions{set}
}

// located puts the file's name where the parser, which is not told it, says
// "<input>:2:7".
func located(err error, file string) string {
	const here = "<input>"
	text := strings.TrimPrefix(err.Error(), "parser error: ")
	if !strings.Contains(text, here) {
		return file + ": " + text
	}
	return strings.ReplaceAll(text, here, file)
}

// judgeConditions asks Cedar. In Cedar a policy that fails to evaluate is
// skipped, a forbid too; here it denies, since it may be the one that forbids.
func (j *judgement) judgeConditions() *Denial {
	j.permitted = ""
	if j.profile.conditions == nil {
		return nil
	}
	claims, ok := claimsRecord(j.merged)
	if !ok {
		return deny("use strings, integers, booleans, lists and objects", "the claims have a null or a fraction, which the conditions of profile %s can't read", quote(j.profile.Name))
	}
	decision, why := cedar.Authorize(j.profile.conditions.set, j.entities(), j.question(claims))
	if len(why.Errors) > 0 {
		first := why.Errors[0]
		d := deny("an operator mends the policy; attributes that may be absent need a `has`",
			"a condition of profile %s could not be evaluated: %s", quote(j.profile.Name), placeOf(first.PolicyID))
		d.detail = first.Message
		return d
	}
	if decision != cedar.Allow {
		return j.forbidden(why)
	}
	j.permitted = placeOf(why.Reasons[0].PolicyID)
	return nil
}

// forbidden tells a policy that forbids from none that permits: they are mended
// in different places.
func (j *judgement) forbidden(why cedar.Diagnostic) *Denial {
	hint := "`signet explain` shows the conditions"
	if len(why.Reasons) == 0 {
		return deny(hint, "no condition of profile %s permits the request", quote(j.profile.Name))
	}
	return deny(hint, "a condition of profile %s forbids the request: %s", quote(j.profile.Name), placeOf(why.Reasons[0].PolicyID))
}

func (j *judgement) tellConditions() string {
	if j.profile.conditions == nil {
		return "the profile has none"
	}
	return "permitted by " + j.permitted
}

// placeOf turns the id of a policy into the "file:line" that it ends in.
func placeOf(id cedar.PolicyID) string {
	_, place, _ := strings.Cut(string(id), " ")
	return place
}

func (j *judgement) principal() cedar.EntityUID {
	return cedar.NewEntityUID("Caller", cedar.String("uid:"+strconv.FormatUint(uint64(j.Caller.UID()), 10)))
}

// question puts the request into Cedar's terms.
func (j *judgement) question(claims cedar.Record) cedar.Request {
	lane := cedar.String("issue")
	if j.written != nil {
		lane = "sign"
	}
	return cedar.Request{
		Principal: j.principal(),
		Action:    cedar.NewEntityUID("Action", lane),
		Resource:  cedar.NewEntityUID("Profile", cedar.String(j.profile.Name)),
		Context:   j.context(claims),
	}
}

// entities has the caller; what is not known of it is absent, and a condition
// that asks for it fails and denies.
func (j *judgement) entities() cedar.EntityMap {
	attributes := cedar.RecordMap{
		"uid": cedar.Long(j.Caller.UID()),
		"gid": cedar.Long(j.Caller.GID()),
	}
	for name, read := range map[cedar.String]func(peer.Caller) (string, bool){
		"unit": peer.Caller.Unit, "cgroup": peer.Caller.Cgroup, "exe": peer.Caller.Exe,
	} {
		if value, ok := read(j.Caller); ok {
			attributes[name] = cedar.String(value)
		}
	}
	uid := j.principal()
	return cedar.EntityMap{uid: {UID: uid, Attributes: cedar.NewRecord(attributes)}}
}

// context is what conditions can look at beside caller and profile. Times are
// UTC, as everywhere: opening hours that follow a zone would jump twice a year.
func (j *judgement) context(claims cedar.Record) cedar.Record {
	now := j.now.UTC()
	return cedar.NewRecord(cedar.RecordMap{
		"subject":  cedar.String(j.Subject),
		"audience": stringSet(j.Audience),
		"scope":    stringSet(j.Scope),
		"ttl":      cedar.Long(j.TTL / time.Second),
		"claims":   claims,
		"holder":   cedar.String(j.Holder.Kind),

		"principals": stringSet(j.Principals),
		"options":    stringRecord(j.options),
		"extensions": stringRecord(j.extensions),

		"hour":    cedar.Long(now.Hour()),
		"weekday": cedar.String(now.Weekday().String()),
	})
}

func stringSet(all []string) cedar.Set {
	values := make([]cedar.Value, len(all))
	for i, s := range all {
		values[i] = cedar.String(s)
	}
	return cedar.NewSet(values...)
}

// stringRecord shows options and extensions as the grant will have them, the
// fixed ones included.
func stringRecord(all map[string]string) cedar.Record {
	values := make(cedar.RecordMap, len(all))
	for name, value := range all {
		values[cedar.String(name)] = cedar.String(value)
	}
	return cedar.NewRecord(values)
}

// claimsRecord shows Cedar the claims. It fails for what Cedar has no type for,
// null and fractions: left out, such a claim would slip past a policy that
// forbids what has it.
func claimsRecord(claims []byte) (cedar.Record, bool) {
	if len(claims) == 0 {
		return cedar.Record{}, true
	}
	var members map[string]any
	d := json.NewDecoder(bytes.NewReader(claims))
	d.UseNumber()
	if d.Decode(&members) != nil {
		return cedar.Record{}, false
	}
	return cedarRecord(members)
}

// cedarValue is false for what Cedar has no type for.
func cedarValue(v any) (cedar.Value, bool) {
	switch v := v.(type) {
	case string:
		return cedar.String(v), true
	case bool:
		return cedar.Boolean(v), true
	case json.Number:
		n, err := v.Int64()
		return cedar.Long(n), err == nil
	case []any:
		return cedarSet(v)
	case map[string]any:
		return cedarRecord(v)
	}
	return nil, false
}

// cedarSet loses order and repetition, which Cedar has no list to keep in.
func cedarSet(list []any) (cedar.Value, bool) {
	var values []cedar.Value
	for _, v := range list {
		value, ok := cedarValue(v)
		if !ok {
			return nil, false
		}
		values = append(values, value)
	}
	return cedar.NewSet(values...), true
}

func cedarRecord(members map[string]any) (cedar.Record, bool) {
	all := cedar.RecordMap{}
	for name, v := range members {
		value, ok := cedarValue(v)
		if !ok {
			return cedar.Record{}, false
		}
		all[cedar.String(name)] = value
	}
	return cedar.NewRecord(all), true
}
